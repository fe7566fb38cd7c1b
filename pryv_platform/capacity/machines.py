"""How large machines have to be."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pryv_platform.capacity.guide import BUSY_CPUS, GUIDE, MINIMUM, OURS, REQUEST_RATES
from pryv_platform.capacity.numbers import ceiling_of_ratio, plain
from pryv_platform.capacity.requirements import Zone

DAYS_PER_YEAR = 365
MB_PER_GB = 1000
Figure = dict[str, Any]


def _figure(value: int, rule: str, source: str) -> Figure:
    return {"value": value, "rule": rule, "source": source}


MINIMUM_MACHINE = {
    role: {
        resource: _figure(value, f"minimum of a {role}", f"{GUIDE}, {role.capitalize()} Role Sizing")
        for resource, value in minimum.items()
    }
    for role, minimum in MINIMUM.items()
}


def core_machine(
    zone: Zone, cores: int, metrics: Mapping[str, Figure], assumptions: Mapping[str, Decimal]
) -> dict[str, Figure]:
    """Size the fullest core of a zone by the guide's load matrix."""
    machine = dict(MINIMUM_MACHINE["core"])
    matrix = f"{GUIDE}, Core Role Sizing, load matrix; {OURS}"
    people = Decimal(ceiling_of_ratio(zone["users"], cores))
    margin = zone["safety_margin"]

    busy = [metrics[path]["label"] for path in REQUEST_RATES if metrics[path]["load"] > assumptions["busy_core_share"]]
    previews = zone["read.previews_per_second"] * people * margin
    if busy or previews:
        share = plain(assumptions["busy_core_share"] * 100)
        reasons = [f"{name.lower()} above {share} % of a core's limit" for name in busy]
        reasons += ["image previews"] if previews else []
        machine["cpus"] = _figure(BUSY_CPUS, f"{BUSY_CPUS} with " + " and ".join(reasons), matrix)

    days = zone["write.retention_years"] * DAYS_PER_YEAR
    points = zone["write.data_points_per_day"] * people * margin * days
    for_previews = ceiling_of_ratio(previews, assumptions["previews_per_ram_gb"])
    for_points = int(points // assumptions["points_kept_per_ram_gb"])
    if for_previews or for_points:
        base = machine["ram_gb"]["value"]
        rule = f"{base} + {for_previews} for image previews + {for_points} for {_short(points)} data points kept"
        machine["ram_gb"] = _figure(base + for_previews + for_points, rule, matrix)

    volume = zone["write.mb_per_day"] * people * margin * days * assumptions["disk_overhead"]
    kept = ceiling_of_ratio(volume, MB_PER_GB)
    if kept > machine["data_disk_gb"]["value"]:
        per_day, years = plain(zone["write.mb_per_day"]), plain(zone["write.retention_years"])
        rule = (
            f"{people} users x {per_day} MB a day x {years} years"
            f" x margin {plain(margin)} x overhead {plain(assumptions['disk_overhead'])}"
        )
        machine["data_disk_gb"] = _figure(kept, rule, matrix)
    return machine


def _short(number: Decimal) -> str:
    """Write a large number with two or three digits and its magnitude: 91 billion."""
    for power, name in ((12, "trillion"), (9, "billion"), (6, "million")):
        if number >= 10**power:
            return f"{float(number) / 10**power:.3g} {name}"
    return f"{float(number):.0f}"


def registry_machine(users: Decimal, assumptions: Mapping[str, Decimal]) -> dict[str, Figure]:
    """Size a registry host: its disk and RAM grow with the number of users."""
    machine = dict(MINIMUM_MACHINE["registry"])
    more = max(Decimal(0), users - assumptions["registry_users_included"])
    for resource, step in (("ram_gb", "registry_users_per_ram_gb"), ("data_disk_gb", "registry_users_per_disk_gb")):
        extra = ceiling_of_ratio(more, assumptions[step])
        if extra:
            base = machine[resource]["value"]
            included, per_gb = plain(assumptions["registry_users_included"]), plain(assumptions[step])
            rule = f"{base} + 1 for every started {per_gb} users above {included}"
            machine[resource] = _figure(base + extra, rule, f"{GUIDE}, Registry Role Sizing; {OURS}")
    return machine


def single_machine(core: Mapping[str, Figure]) -> dict[str, Figure]:
    """Size the one machine of a single node: the guide asks of it what it asks of a core."""
    source = f"{GUIDE}, Single Node Deploy"
    minimum = MINIMUM["core"]
    return {
        resource: figure
        if figure["value"] > minimum[resource]
        else {**figure, "rule": "minimum of a single node", "source": source}
        for resource, figure in core.items()
    }
