"""The capacity plan for eyes: a table for the terminal, and the drawings of the page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Rows = Sequence[Sequence[str]]


# --- words and numbers ----------------------------------------------------------------------------


def number(value: float | None) -> str:
    """Write a number as the guide does, in groups of three: 25'000, 0.05."""
    if value is None:
        return ""
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
    return text.replace(",", "'")


def percent(share: float) -> str:
    """Write a share of a limit; what is not nothing is never shown as 0 %."""
    return "< 1 %" if 0 < share < 0.005 else f"{share * 100:.0f} %"


def months(count: int) -> str:
    """Say how far away so many months are."""
    years, rest = divmod(count, 12)
    parts = [
        f"{amount} {unit}{'s' if amount > 1 else ''}" for amount, unit in ((years, "year"), (rest, "month")) if amount
    ]
    return "in " + " and ".join(parts) if parts else "at once"


def next_core(forecast: Mapping[str, Any]) -> str:
    """Say when a zone needs its next core."""
    coming = forecast["next_core"]
    return f"{coming['month']}, {months(coming['in_months'])}" if coming else "not foreseen: no growth"


# --- the table in the terminal --------------------------------------------------------------------


def _table(header: Sequence[str], rows: Rows, left: Iterable[int] = (0,)) -> list[str]:
    """Lay out rows under a header; columns are aligned to the right unless they are in `left`."""
    texts = set(left)
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = (
            cell.ljust(width) if column in texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    return [line(header), line(["-" * width for width in widths]), *(line(row) for row in rows)]


def capacity_table(plan: Mapping[str, Any], forecast: Mapping[str, Any]) -> str:
    """Write the plan as a text that fits a terminal of 100 columns.

    Args:
        plan: what `capacity_plan` returned.
        forecast: what `capacity_forecast` returned for the same requirements.

    Returns:
        Scenario and reasons, zones, machines to order, warnings.
    """
    lines = [plan["scenario"]["title"], *(f"  - {reason}" for reason in plan["scenario"]["because"]), ""]
    zones = []
    for name, zone in plan["zones"].items():
        metric = zone["metrics"][zone["binding"]]
        room = [figure["headroom_users"] for figure in zone["metrics"].values() if figure["headroom_users"] is not None]
        zones.append(
            [
                name,
                number(zone["users"]),
                number(zone["cores"]),
                metric["label"].lower(),
                percent(metric["load"]),
                f"{number(min(room))} users",
                next_core(forecast["zones"][name]),
            ]
        )
    header = ["zone", "users", "cores", "decided by", "load", "room for", "next core"]
    lines += [*_table(header, zones, left=(0, 3, 6)), ""]
    totals = plan["totals"]
    machines = [
        [
            line["role"] + (f" ({line['zone']})" if line["zone"] and len(plan["zones"]) > 1 else ""),
            *(number(line[key]) for key in ("count", "cpus", "ram_gb", "os_disk_gb", "data_disk_gb")),
        ]
        for line in plan["machines"]
    ]
    machines.append(
        ["in all", *(number(totals[key]) for key in ("machines", "cpus", "ram_gb", "os_disk_gb", "data_disk_gb"))]
    )
    lines += _table(["machines, each with", "count", "CPUs", "RAM GB", "OS disk GB", "data disk GB"], machines)
    if plan["warnings"]:
        lines += ["", "warnings", *(f"  - {warning['where']}: {warning['text']}" for warning in plan["warnings"])]
    return "\n".join(lines)


# --- drawings -------------------------------------------------------------------------------------


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _box(x: float, y: float, width: float, height: float, kind: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" class="{kind}"/>'


def _svg(width: float, height: float, title: str, body: Iterable[str]) -> str:
    head = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{html.escape(title)}">'
    return "\n".join([head, *body, "</svg>"])


def _line_groups(history: Sequence[Mapping[str, Any]]) -> list[tuple[int, int, int]]:
    """Group cores that came together, whose users differ by one at most: (month, first core, last core)."""
    groups, known = [], 0
    for month, entry in enumerate(history):
        cores = len(entry["users_per_core"])
        if cores > known:
            groups.append((month, known, cores - 1))
            known = cores
    return groups


def _step(most: float, ticks: int) -> int:
    """Return a round distance between at most so many ticks."""
    step = 1
    while most / step > ticks:
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    return step


def capacity_chart(forecast: Mapping[str, Any], zone: str) -> str:
    """Draw the users of each core of a zone month by month, below what a core may hold.

    Args:
        forecast: what `capacity_forecast` returned.
        zone: name of the zone.

    Returns:
        An SVG element that takes its colours from the page.
    """
    ahead = forecast["zones"][zone]
    history, at_most = ahead["history"], ahead["users_per_core_at_most"]
    width, height, left, right, top, bottom = 760, 260, 56, 26, 28, 34
    highest: float = max(at_most, *(max(entry["users_per_core"]) for entry in history)) * 1.04

    def x(month: float) -> float:
        return left + (width - left - right) * month / (len(history) - 1)

    def y(users: float) -> float:
        return height - bottom - (height - top - bottom) * users / highest

    body = []
    step = _step(highest, 5)
    for tick in range(0, int(highest) + 1, step):
        body.append(f'<path d="M{left} {y(tick):.1f}H{width - right}" class="grid"/>')
        body.append(_text(left - 8, y(tick) + 4, number(tick), "tick", "end"))
    every = next(distance for distance in (1, 3, 6, 12, 24, 48) if len(history) / distance <= 9)
    for month in range(0, len(history), every):
        body.append(_text(x(month), height - bottom + 20, history[month]["month"], "tick", "middle"))
    body.append(f'<path d="M{left} {y(at_most):.1f}H{width - right}" class="limit"/>')
    body.append(_text(width - right, y(at_most) - 7, f"full: {number(at_most)} users", "note", "end"))
    for index, (month, first, last) in enumerate(_line_groups(history)):
        points = [(x(at), y(entry["users_per_core"][first])) for at, entry in enumerate(history) if at >= month]
        path = "L".join(f"{across:.1f} {up:.1f}" for across, up in points)
        name = f"core {first + 1}" if first == last else f"cores {first + 1} to {last + 1}"
        body.append(f'<path d="M{path}" class="line line{index % 4}"><title>{name}</title></path>')
        across, up = points[0]
        body.append(f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3.5" class="dot dot{index % 4}"/>')
        # Beside the point where the line begins, and out of its way.
        body.append(
            _text(across + 8, up + 18, name, "note") if month == 0 else _text(across - 9, up + 4, name, "note", "end")
        )
    title = f"Users of each core of zone {zone} from {history[0]['month']} to {history[-1]['month']}, as in the table"
    return _svg(width, height, title, body)


# Of the drawing of the platform, in its own units.
CLIENTS_RIGHT = 104
LANE_LEFT = 188
LANE_RIGHT = 760
PADDING = 14
GAP = 10
TILE_WIDTH = 100
TILE_HEIGHT = 46
HEADING = 30
TILES_PER_ROW = (LANE_RIGHT - LANE_LEFT - 2 * PADDING + GAP) // (TILE_WIDTH + GAP)
ROWS_SHOWN = 2
ZONES_SHOWN = 12
ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0L8 4L0 8z" class="head"/></marker></defs>'
)


def _tile(x: float, y: float, name: str, machine: Mapping[str, Any] | None) -> str:
    """Draw a machine with its name and size."""
    middle = x + TILE_WIDTH / 2
    if machine is None:
        return _text(middle, y + 28, name, "note", "middle")
    size = f"{number(machine['cpus']['value'])} CPU, {number(machine['ram_gb']['value'])} GB"
    box = _box(x, y, TILE_WIDTH, TILE_HEIGHT, "machine")
    return box + _text(middle, y + 20, name, "name", "middle") + _text(middle, y + 36, size, "note", "middle")


def _lane(y: float, height: float, kind: str, title: str, protocols: str) -> list[str]:
    """Draw the place of a role or a zone, and the arrow from people's apps to it."""
    middle = y + height / 2 + PADDING / 2
    return [
        _box(LANE_LEFT, y, LANE_RIGHT - LANE_LEFT, height, kind),
        _text(LANE_LEFT + PADDING, y + 20, title, "title"),
        f'<path d="M{CLIENTS_RIGHT} {middle:g}H{LANE_LEFT - 3}" class="flow" marker-end="url(#arrow)"/>',
        _text((CLIENTS_RIGHT + LANE_LEFT) / 2 - 2, middle - 7, protocols, "note", "middle"),
    ]


def _tiles(
    y: float, tiles: Iterable[tuple[str, Mapping[str, Any] | None]], step: float = TILE_WIDTH + GAP
) -> list[str]:
    """Draw machines side by side, in rows."""
    return [
        _tile(
            LANE_LEFT + PADDING + index % TILES_PER_ROW * step,
            y + HEADING + index // TILES_PER_ROW * (TILE_HEIGHT + GAP),
            *tile,
        )
        for index, tile in enumerate(tiles)
    ]


def _zone_lane(y: float, zone: str, figures: Mapping[str, Any]) -> tuple[float, list[str]]:
    """Draw a privacy zone; of very many cores the first ones. Returns its height, too."""
    most, machine = ROWS_SHOWN * TILES_PER_ROW, figures["machine"]
    shown: list[tuple[str, Mapping[str, Any] | None]] = [(name, machine) for name in figures["core_names"]]
    if len(shown) > most:
        shown = [*shown[: most - 1], (f"and {len(shown) - most + 1} more", None)]
    height = HEADING + -(-len(shown) // TILES_PER_ROW) * (TILE_HEIGHT + GAP) + 2
    drawing = _lane(y, height, "zone", f"privacy zone {zone}", "HTTPS")
    drawing.append(_text(LANE_RIGHT - PADDING, y + 20, f"{number(figures['users'])} users", "note", "end"))
    return height, drawing + _tiles(y, shown)


def capacity_diagram(plan: Mapping[str, Any]) -> str:
    """Draw the platform: people's apps, web, registry, and the cores in their privacy zones, with what flows between.

    Args:
        plan: what `capacity_plan` returned.

    Returns:
        An SVG element that takes its colours from the page.
    """
    height = HEADING + TILE_HEIGHT + GAP + 2
    if plan["scenario"]["name"] == "development":
        ((zone, figures),) = plan["zones"].items()
        body = _lane(0, height, "zone", f"one machine with web, registry and core; privacy zone {zone}", "HTTPS, DNS")
        body += _tiles(0, [(name, figures["machine"]) for name in figures["core_names"]])
        return _platform(height, f"one machine with all roles, zone {zone}", body)

    web, registry = plan["web"], plan["registry"]
    body, y = _lane(0, height, "lane", "web", "HTTPS"), float(height + PADDING)
    body += (
        _tiles(0, [("web1", web["machine"])]) if web["count"] else [_text(LANE_LEFT + PADDING, 56, web["rule"], "note")]
    )
    body += _lane(y, height, "lane", "registry", "HTTPS, DNS")
    hosts = [(f"reg{index + 1}", registry["machine"]) for index in range(registry["count"])]
    body += _tiles(y, hosts, step=TILE_WIDTH + 110)
    if len(hosts) > 1:
        start, middle = LANE_LEFT + PADDING + TILE_WIDTH, y + HEADING + TILE_HEIGHT / 2
        body.append(f'<path d="M{start} {middle:g}h107" class="flow" marker-end="url(#arrow)"/>')
        body.append(_text(start + 55, middle - 7, "replication", "note", "middle"))
    y += height
    body.append(f'<path d="M{LANE_RIGHT - 40} {y:g}v41" class="flow" marker-end="url(#arrow)"/>')
    told = "new users, to the core of their zone with the fewest users"
    body.append(_text(LANE_RIGHT - 50, y + 26, told, "note", "end"))
    y += 44

    for zone, figures in list(plan["zones"].items())[:ZONES_SHOWN]:
        zone_height, drawing = _zone_lane(y, zone, figures)
        body += drawing
        y += zone_height + PADDING
    if len(plan["zones"]) > ZONES_SHOWN:
        body.append(_text(LANE_LEFT + PADDING, y + 8, f"and {len(plan['zones']) - ZONES_SHOWN} more zones", "note"))
        y += 24
    zones = "; ".join(f"zone {name}: {zone['cores']} cores" for name, zone in plan["zones"].items())
    return _platform(y - PADDING, f"{web['count']} web, {registry['count']} registry, {zones}", body)


def _platform(height: float, words: str, body: Iterable[str]) -> str:
    """Put people's apps beside what they talk to."""
    middle = CLIENTS_RIGHT / 2
    clients = _box(0, 1, CLIENTS_RIGHT, height - 1, "lane")
    clients += _text(middle, height / 2 - 4, "people's", "name", "middle") + _text(
        middle, height / 2 + 14, "apps", "name", "middle"
    )
    return _svg(LANE_RIGHT + 1, height + 1, f"The platform: {words}", [ARROW, clients, *body])
