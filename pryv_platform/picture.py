"""A picture of a platform: people's apps, and what they talk to, one role or privacy zone below the other."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# All lengths are in the picture's own units, about a pixel each.
CLIENTS_WIDTH = 104
LANE_LEFT, LANE_WIDTH, LANE_GAP = 204, 698, 14
PADDING, HEADING = 14, 34
BOX_WIDTH, BOX_HEIGHT, BOX_GAP = 160, 46, 10
BOXES_IN_A_ROW = (LANE_WIDTH - 2 * PADDING + BOX_GAP) // (BOX_WIDTH + BOX_GAP)
ASSIGNMENT_HEIGHT = 44
FOOT_LINE = 20
WIDTH = LANE_LEFT + LANE_WIDTH
ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0L8 4L0 8z" class="head"/></marker></defs>'
)


@dataclass(frozen=True)
class Box:
    """A host, or what stands for one.

    Attributes:
        name: What it is called.
        note: What is said of it.
        kind: Further CSS classes.
        host: The inventory's name of the host, by which a page finds its box; empty where there is none.
    """

    name: str
    note: str
    kind: str = ""
    host: str = ""


@dataclass(frozen=True)
class Lane:
    """The hosts of one role or privacy zone.

    Attributes:
        title: What they are.
        boxes: The hosts.
        ports: What clients use of them.
        note: What else is said of them.
        kind: CSS class, C(lane) or C(zone).
        replicates: Whether hosts after the first copy from it.
    """

    title: str
    boxes: Sequence[Box]
    ports: Sequence[str]
    note: str = ""
    kind: str = "lane"
    replicates: bool = False

    @property
    def height(self) -> int:
        """Height, with what surrounds the hosts."""
        rows = -(-len(self.boxes) // BOXES_IN_A_ROW)
        return HEADING + rows * (BOX_HEIGHT + BOX_GAP) + PADDING - BOX_GAP


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """Write words at a point of a drawing."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{html.escape(words)}</text>'


def _rectangle(x: float, y: float, width: float, height: float, kind: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" class="{kind}"/>'


def _arrow(path: str) -> str:
    return f'<path d="{path}" class="flow" marker-end="url(#arrow)"/>'


def draw(lanes: Sequence[Lane], foot: Sequence[str] = ()) -> tuple[float, list[str]]:
    """Draw a platform within `WIDTH`.

    Args:
        lanes: Its roles and privacy zones, in their order.
        foot: Lines below them.

    Returns:
        The height, and the elements.
    """
    body, y = [ARROW], 1.0
    for number, lane in enumerate(lanes):
        if number and lane.kind == "zone" and lanes[number - 1].kind != "zone":
            body.append(_arrow(f"M{WIDTH - 40} {y - LANE_GAP:g}v{ASSIGNMENT_HEIGHT - 3}"))
            told = "new users, to the core of their zone with the fewest users"
            body.append(text(WIDTH - 50, y - LANE_GAP + 26, told, "note", "end"))
            y += ASSIGNMENT_HEIGHT - LANE_GAP
        body += _lane(lane, y)
        y += lane.height + LANE_GAP
    height, middle = y - LANE_GAP, CLIENTS_WIDTH / 2
    body.append(_rectangle(1, 1, CLIENTS_WIDTH, height - 1, "lane"))
    body.append(text(middle, height / 2 - 4, "people's", "name", "middle"))
    body.append(text(middle, height / 2 + 14, "apps", "name", "middle"))
    body += [text(1, height + (line + 1) * FOOT_LINE, words, "note") for line, words in enumerate(foot)]
    return height + len(foot) * FOOT_LINE + 8 * bool(foot) + 1, body


def _lane(lane: Lane, y: float) -> Iterable[str]:
    """Draw the place of a role or a zone, and the arrow from people's apps to it."""
    yield _rectangle(LANE_LEFT, y, LANE_WIDTH - 1, lane.height, lane.kind)
    yield text(LANE_LEFT + PADDING, y + 20, lane.title, "title")
    yield text(WIDTH - PADDING, y + 20, lane.note, "note", "end")
    middle = y + lane.height / 2 + PADDING / 2
    yield _arrow(f"M{CLIENTS_WIDTH + 1} {middle:g}H{LANE_LEFT - 3}")
    for line, port in enumerate(reversed(lane.ports)):
        yield text((CLIENTS_WIDTH + LANE_LEFT) / 2 - 2, middle - 7 - 15 * line, port, "note", "middle")
    leader = LANE_LEFT + PADDING + BOX_WIDTH / 2
    for number, box in enumerate(lane.boxes):
        row, column = divmod(number, BOXES_IN_A_ROW)
        left, top = LANE_LEFT + PADDING + column * (BOX_WIDTH + BOX_GAP), y + HEADING + row * (BOX_HEIGHT + BOX_GAP)
        center = left + BOX_WIDTH / 2
        if lane.replicates and number and not row:
            yield _arrow(f"M{center:g} {top:g}v-9H{leader:g}v7")
        yield f'<g data-host="{html.escape(box.host)}">' if box.host else "<g>"
        yield _rectangle(left, top, BOX_WIDTH, BOX_HEIGHT, f"host {box.kind}".strip())
        yield text(center, top + 20, box.name, "name", "middle")
        yield text(center, top + 36, box.note, "note", "middle")
        yield "</g>"
