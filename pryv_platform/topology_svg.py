"""A picture of a platform: its hosts by role and privacy zone, and who talks to whom."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DOCUMENTATION = r"""
name: topology_svg
short_description: A picture of the platform
description:
  - Draws hosts, privacy zones and flows of the topology as one SVG file without scripts, fonts or other files.
  - The same topology gives the same picture.
options:
  _input:
    description: The topology fact.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Draw the platform
  ansible.builtin.copy:
    content: "{{ topology | topology_svg }}"
    dest: platform.svg
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The SVG.
  type: str
"""

# All lengths are in the picture's own units, about a pixel each.
MARGIN, GAP = 24, 20
HOST_WIDTH, HOST_HEIGHT, HOST_GAP = 172, 54, 14
LANE_PADDING, LANE_HEAD = 16, 52
HOSTS_IN_A_COLUMN = 6
CLIENTS_HEIGHT, ARROWS_HEIGHT, FOOT_HEIGHT = 46, 64, 54
REPLICATION_WIDTH = 26

STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; fill: #1c2733 }
  .paper { fill: #ffffff }
  .strong { font-weight: 600 }
  .small { font-size: 12px; fill: #4a5866 }
  .clients { fill: #1f4e79 }
  .on-dark { fill: #ffffff; font-weight: 600 }
  .lane { fill: #f1f4f7; stroke: #b9c4ce }
  .zone { fill: #e9f3ec; stroke: #4f8a63 }
  .host { fill: #ffffff; stroke: #5b6b7a }
  .elsewhere, .draining { stroke-dasharray: 5 3 }
  .flow { fill: none; stroke: #1f4e79; stroke-width: 1.5 }
  .head { fill: #1f4e79 }
"""


@dataclass
class Box:
    """A host, or what stands for one.

    Attributes:
        name: What it is called.
        lines: What is said of it.
        kind: Further CSS classes.
    """

    name: str
    lines: list[str]
    kind: str = ""


@dataclass
class Lane:
    """The hosts of one role or privacy zone, side by side with the others.

    Attributes:
        title: What they are.
        kind: CSS class.
        boxes: The hosts.
        ports: What clients use of them.
        replicates: Whether hosts after the first copy from it.
    """

    title: str
    kind: str
    boxes: list[Box]
    ports: str
    replicates: bool = False
    columns: int = field(init=False)

    def __post_init__(self) -> None:
        """Find the shape."""
        self.columns = -(-len(self.boxes) // HOSTS_IN_A_COLUMN)

    @property
    def indent(self) -> int:
        """Room for the lines from followers to the leader."""
        return REPLICATION_WIDTH if self.replicates else 0

    @property
    def width(self) -> int:
        """Width, with what surrounds the hosts."""
        return self.columns * (HOST_WIDTH + HOST_GAP) - HOST_GAP + 2 * LANE_PADDING + self.indent

    @property
    def height(self) -> int:
        """Height, with what surrounds the hosts."""
        rows = min(len(self.boxes), HOSTS_IN_A_COLUMN)
        return LANE_HEAD + rows * (HOST_HEIGHT + HOST_GAP) - HOST_GAP + LANE_PADDING


def _host(topology: Mapping[str, Any], name: str, note: str = "", kind: str = "") -> Box:
    address = topology["hosts"][name]["public_address"]
    return Box(name, [f"{address}, {note}" if note else address], kind)


def _ports(topology: Mapping[str, Any], hosts: Iterable[str]) -> str:
    """Return the ports of hosts that are open to everybody."""
    targets = frozenset(hosts)
    names = {443: "HTTPS", 53: "DNS", 80: "HTTP"}
    found = {
        (flow["port"], flow["protocol"])
        for flow in topology["flows"]
        if flow["source"] == "any" and flow["target"] in targets
    }
    return ", ".join(
        f"{names.get(port, '')} {protocol}/{port}".strip() for port, protocol in sorted(found, reverse=True)
    )


def _lanes(topology: Mapping[str, Any]) -> list[Lane]:
    """Return what stands side by side."""
    web = topology["web"]
    if web["hosts"]:
        lanes = [
            Lane(
                "Static pages", "lane", [_host(topology, name) for name in web["hosts"]], _ports(topology, web["hosts"])
            )
        ]
    else:
        place = web["alias"] or web["url"].removeprefix("https://")
        lanes = [Lane("Static pages", "lane", [Box("elsewhere", [place], "elsewhere")], "HTTPS tcp/443")]
    leader, followers = topology["leader"], topology["followers"]
    registry = [_host(topology, leader, "leader"), *(_host(topology, name, "follower") for name in followers)]
    lanes.append(Lane("Registry", "lane", registry, _ports(topology, [leader, *followers]), replicates=bool(followers)))
    for zone, cores in topology["zones"].items():
        boxes = [
            _host(topology, core, "draining", "draining") if core in topology["draining"] else _host(topology, core)
            for core in cores
        ]
        lanes.append(Lane(f"Privacy zone {zone}", "zone", boxes, _ports(topology, cores)))
    return lanes


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _box(x: float, y: float, width: float, height: float, kind: str, radius: int = 6) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}" class="{kind}"/>'


def _arrow(points: Sequence[tuple[float, float]]) -> str:
    path = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
    return f'<path d="{path}" class="flow" marker-end="url(#head)"/>'


def _draw_lane(lane: Lane, x: float, y: float, height: float) -> Iterable[str]:
    yield _box(x, y, lane.width, height, lane.kind, 8)
    yield _text(x + LANE_PADDING, y + 22, lane.title, "strong")
    count = f"{len(lane.boxes)} core{'s'[: len(lane.boxes) != 1]}" if lane.kind == "zone" else ""
    yield _text(x + LANE_PADDING, y + 40, "copies over TLS, tcp/6380" if lane.replicates else count, "small")
    left, top = x + LANE_PADDING + lane.indent, y + LANE_HEAD
    middle_of_first = top + HOST_HEIGHT / 2
    for number, box in enumerate(lane.boxes):
        column, row = divmod(number, HOSTS_IN_A_COLUMN)
        box_x, box_y = left + column * (HOST_WIDTH + HOST_GAP), top + row * (HOST_HEIGHT + HOST_GAP)
        if lane.replicates and number and not column:
            middle, rail = box_y + HOST_HEIGHT / 2, left - REPLICATION_WIDTH + 4
            yield _arrow([(box_x, middle), (rail, middle), (rail, middle_of_first), (left - 2, middle_of_first)])
        yield _box(box_x, box_y, HOST_WIDTH, HOST_HEIGHT, f"host {box.kind}".strip())
        yield _text(box_x + 12, box_y + 23, box.name, "strong")
        for line in box.lines:
            yield _text(box_x + 12, box_y + 42, line, "small")


def describe(topology: Mapping[str, Any]) -> str:
    """Say in words what the picture shows, for those who do not see it."""
    zones = "; ".join(f"privacy zone {zone} with {', '.join(cores)}" for zone, cores in topology["zones"].items())
    followers = ", ".join(topology["followers"])
    web = ", ".join(topology["web"]["hosts"]) or f"elsewhere ({topology['web']['alias'] or topology['web']['url']})"
    return (
        f"Clients reach the static pages ({web}) and the cores over HTTPS, and the registry over HTTPS and DNS. "
        f"The registry's leader is {topology['leader']}"
        + (f", copied by {followers}" if followers else "")
        + f". {zones[:1].upper()}{zones[1:]}."
    )


def topology_svg(topology: Mapping[str, Any]) -> str:
    """Draw a platform.

    Args:
        topology: The structure of docs/architecture.md, "The topology fact".

    Returns:
        A whole SVG file.
    """
    lanes = _lanes(topology)
    inner = sum(lane.width for lane in lanes) + GAP * (len(lanes) - 1)
    lanes_height = max(lane.height for lane in lanes)
    width = inner + 2 * MARGIN
    lanes_top = MARGIN + CLIENTS_HEIGHT + ARROWS_HEIGHT
    height = lanes_top + lanes_height + FOOT_HEIGHT + MARGIN

    title = f"The platform {topology['domain']}"
    body = [
        _box(0, 0, width, height, "paper", 0),
        _box(MARGIN, MARGIN, inner, CLIENTS_HEIGHT, "clients", 8),
        _text(width / 2, MARGIN + 28, f"People's devices and applications, {topology['domain']}", "on-dark", "middle"),
    ]
    x: float = MARGIN
    for lane in lanes:
        middle = x + lane.width / 2
        body.append(_arrow([(middle, MARGIN + CLIENTS_HEIGHT), (middle, lanes_top - 3)]))
        for number, port in enumerate(lane.ports.split(", ")):
            body.append(_text(middle + 10, MARGIN + CLIENTS_HEIGHT + 18 + 16 * number, port, "small"))
        body += _draw_lane(lane, x, lanes_top, lanes_height)
        x += lane.width + GAP
    networks = sorted({source for flow in topology["flows"] if flow["source"] == "admin" for source in flow["sources"]})
    foot = lanes_top + lanes_height + 26
    body.append(_text(MARGIN, foot, "Administrators: SSH tcp/22 to every host, from " + ", ".join(networks), "small"))
    body.append(_text(MARGIN, foot + 20, "Everything else is closed.", "small"))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
            f'height="{height:g}" role="img" aria-labelledby="title description">',
            f'<title id="title">{html.escape(title)}</title>',
            f'<desc id="description">{html.escape(describe(topology))}</desc>',
            f"<style>{STYLE}</style>",
            '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0 L10 5 L0 10 z" class="head"/></marker></defs>',
            *body,
            "</svg>",
            "",
        ]
    )
