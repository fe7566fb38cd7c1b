"""How large machines have to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from pryv_platform.capacity.guide import (
    BUSY_CPUS,
    BYTES_PER_SAMPLE,
    BYTES_PER_SERIES,
    GUIDE,
    LOG_GB_PER_HOST,
    METRICS_DAYS,
    MINIMUM,
    OURS,
    OWN_MINIMUM,
    PROMETHEUS,
    REQUEST_RATES,
    SCRAPE_SECONDS,
    SERIES_PER_HOST,
)
from pryv_platform.capacity.numbers import ceiling_of_ratio, plain
from pryv_platform.capacity.requirements import Zone

DAYS_PER_YEAR = 365
SECONDS_PER_DAY = 86400
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
OWN_MACHINE = {
    role: {resource: _figure(value, "chosen minimum", OURS) for resource, value in minimum.items()}
    for role, minimum in OWN_MINIMUM.items()
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


def backup_machine(disks: Sequence[int], assumptions: Mapping[str, Decimal]) -> dict[str, Figure]:
    """Size a host that keeps backups.

    A repository has all of a host's data once, and of each day for which it is kept what was another then. Beside the
    repositories, the drill restores one host's data at a time. The hosts' disks and this one are to be as full as each
    other, so that disks are computed from disks:

        disk = sum of disks x (1 + backup_daily_change x backup_keep_days) + the largest of them

    restic holds the index of one repository at a time in RAM: 1 GB for each `backup_disk_gb_per_ram_gb` of the largest.
    The source is docs/capacity.md.

    Args:
        disks: Data disks of the hosts that are backed up there, in GB.
        assumptions: Figures by the names above.
    """
    machine = dict(OWN_MACHINE["backup"])
    change, days = assumptions["backup_daily_change"], assumptions["backup_keep_days"]
    total, largest = sum(disks), max(disks, default=0)
    disk = ceiling_of_ratio(total * (1 + change * days) + largest, Decimal(1))
    if disk > machine["data_disk_gb"]["value"]:
        rule = (
            f"{total} GB of data disks x (1 + {plain(change)} that changes a day x {plain(days)} days kept)"
            f" + {largest} for the drill"
        )
        machine["data_disk_gb"] = _figure(disk, rule, OURS)
    for_index = int(largest * (1 + change * days) // assumptions["backup_disk_gb_per_ram_gb"])
    if for_index:
        base = machine["ram_gb"]["value"]
        machine["ram_gb"] = _figure(base + for_index, f"{base} + {for_index} for the largest repository's index", OURS)
    return machine


def _metrics_bytes(hosts: int, days: int) -> int:
    """Return what a disk has of measurements: series x samples x bytes a sample."""
    return SERIES_PER_HOST * hosts * days * SECONDS_PER_DAY // SCRAPE_SECONDS * BYTES_PER_SAMPLE


def metrics_gb(hosts: int, days: int) -> int:
    """Return how much of a monitoring host's disk measurements take, in gigabytes, rounded up.

    Args:
        hosts: How many hosts it monitors, itself among them.
        days: For how long measurements are kept.
    """
    return ceiling_of_ratio(Decimal(_metrics_bytes(hosts, days)), 10**9)


def monitoring_machine(hosts: int, logs: int = 0) -> dict[str, Figure]:
    """Size a host that monitors others.

    Prometheus' own formula: time kept x samples a second x 1 to 2 bytes a sample, on a disk that is four fifths full at
    most. In RAM, a series takes some 3 kB.

    Args:
        hosts: How many it monitors, itself among them.
        logs: Of how many it keeps the journals.
    """
    machine = dict(OWN_MACHINE["monitoring"])
    series = SERIES_PER_HOST * hosts
    kept = Decimal(_metrics_bytes(hosts, METRICS_DAYS) + logs * LOG_GB_PER_HOST * 10**9)
    disk = ceiling_of_ratio(kept, Decimal("0.8") * 10**9)
    if disk > machine["data_disk_gb"]["value"]:
        rule = f"{hosts} hosts x {SERIES_PER_HOST} series every {SCRAPE_SECONDS} s x {METRICS_DAYS} days"
        rule += f" x {BYTES_PER_SAMPLE} bytes / 0.8"
        rule += f", and {logs} journals x {LOG_GB_PER_HOST} GB / 0.8" if logs else ""
        machine["data_disk_gb"] = _figure(disk, rule, PROMETHEUS)
    if more := series * BYTES_PER_SERIES // 10**9:
        base = machine["ram_gb"]["value"]
        machine["ram_gb"] = _figure(base + more, f"{base} + {more} for {series} series", PROMETHEUS)
    return machine
