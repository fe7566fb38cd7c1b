"""The capacity plan for eyes: a table for the terminal, and the drawings of the page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pryv_platform.picture import WIDTH, Box, Lane, draw, text

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


def table(header: Sequence[str], rows: Rows, left: Iterable[int] = (0,)) -> list[str]:
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
    lines += [*table(header, zones, left=(0, 3, 6)), ""]
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
    lines += table(["machines, each with", "count", "CPUs", "RAM GB", "OS disk GB", "data disk GB"], machines)
    if plan["warnings"]:
        lines += ["", "warnings", *(f"  - {warning['where']}: {warning['text']}" for warning in plan["warnings"])]
    return "\n".join(lines)


# --- drawings -------------------------------------------------------------------------------------


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
        body.append(text(left - 8, y(tick) + 4, number(tick), "tick", "end"))
    every = next(distance for distance in (1, 3, 6, 12, 24, 48) if len(history) / distance <= 9)
    for month in range(0, len(history), every):
        body.append(text(x(month), height - bottom + 20, history[month]["month"], "tick", "middle"))
    body.append(f'<path d="M{left} {y(at_most):.1f}H{width - right}" class="limit"/>')
    body.append(text(width - right, y(at_most) - 7, f"full: {number(at_most)} users", "note", "end"))
    for index, (month, first, last) in enumerate(_line_groups(history)):
        points = [(x(at), y(entry["users_per_core"][first])) for at, entry in enumerate(history) if at >= month]
        path = "L".join(f"{across:.1f} {up:.1f}" for across, up in points)
        name = f"core {first + 1}" if first == last else f"cores {first + 1} to {last + 1}"
        body.append(f'<path d="M{path}" class="line line{index % 4}"><title>{name}</title></path>')
        across, up = points[0]
        body.append(f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3.5" class="dot dot{index % 4}"/>')
        # Beside the point where the line begins, and out of its way.
        body.append(
            text(across + 8, up + 18, name, "note") if month == 0 else text(across - 9, up + 4, name, "note", "end")
        )
    title = f"Users of each core of zone {zone} from {history[0]['month']} to {history[-1]['month']}, as in the table"
    return _svg(width, height, title, body)


# Of very many zones, and of very many cores of a zone, the first ones are drawn.
ZONES_SHOWN, CORES_SHOWN = 12, 8


def _machine(name: str, figures: Mapping[str, Mapping[str, Any]]) -> Box:
    return Box(name, f"{number(figures['cpus']['value'])} CPU, {number(figures['ram_gb']['value'])} GB")


def _shown(boxes: Sequence[Box]) -> list[Box]:
    if len(boxes) <= CORES_SHOWN:
        return list(boxes)
    return [*boxes[: CORES_SHOWN - 1], Box(f"and {number(len(boxes) - CORES_SHOWN + 1)} more", "")]


def _zone(name: str, zone: Mapping[str, Any]) -> Lane:
    boxes = [_machine(core, zone["machine"]) for core in zone["core_names"]]
    return Lane(f"Privacy zone {name}", _shown(boxes), ["HTTPS"], f"{number(zone['users'])} users", "zone")


def _lanes(plan: Mapping[str, Any]) -> Iterable[Lane]:
    """Yield roles and privacy zones, and what keeps backups and monitors."""
    if plan["scenario"]["name"] == "development":
        ((name, zone),) = plan["zones"].items()
        title = f"One machine with web, registry and core; privacy zone {name}"
        yield replace(_zone(name, zone), title=title, ports=["HTTPS, DNS"])
        return
    web, registry = plan["web"], plan["registry"]
    pages = _machine("web1", web["machine"]) if web["count"] else Box("elsewhere", "", "elsewhere")
    yield Lane("Web", [pages], ["HTTPS"], web["rule"])
    hosts = [_machine(f"reg{index + 1}", registry["machine"]) for index in range(registry["count"])]
    note = "copies over TLS" if len(hosts) > 1 else ""
    yield Lane("Registry", hosts, ["HTTPS, DNS"], note, replicates=len(hosts) > 1)
    for name, zone in list(plan["zones"].items())[:ZONES_SHOWN]:
        yield _zone(name, zone)
    keepers = [_machine(f"bk{index}", machine) for index, machine in enumerate(plan["backup"].values(), start=1)]
    if keepers:
        yield Lane("Backups", _shown(keepers), [], "one for each privacy zone, whose data stays in it")
    if plan["monitoring"]:
        yield Lane("Monitoring", [_machine("mon1", plan["monitoring"])], ["HTTPS"], "asks every host")


def capacity_diagram(plan: Mapping[str, Any]) -> str:
    """Draw the platform: people's apps, web, registry, and the cores in their privacy zones, with what flows between.

    Args:
        plan: what `capacity_plan` returned.

    Returns:
        An SVG element that takes its colours from the page.
    """
    more = len(plan["zones"]) - ZONES_SHOWN
    height, body = draw(list(_lanes(plan)), [f"and {more} more zones"] if more > 0 else [])
    zones = "; ".join(f"zone {name}: {zone['cores']} cores" for name, zone in plan["zones"].items())
    words = f"{plan['web']['count']} web, {plan['registry']['count']} registry, {zones}"
    if plan["scenario"]["name"] == "development":
        words = f"one machine with all roles, {zones}"
    return _svg(WIDTH, height, f"The platform: {words}", body)
