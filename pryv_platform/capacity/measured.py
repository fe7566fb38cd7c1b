"""The capacity plan beside what a monitoring host has measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

import yaml

from pryv_platform.capacity.forecast import month_after
from pryv_platform.capacity.plan import capacity_plan
from pryv_platform.capacity.report import months, number, table
from pryv_platform.problems import Problem, make_error

#: Over how many days is looked for the busiest minute, and how many of them have to be known: a whole week at least.
DAYS, DAYS_AT_LEAST = 30, 7
#: How long ago users are compared with those of now, in days; the longest that is known counts.
SPANS = (90, 30, 7)
DAYS_A_MONTH = 365 / 12
#: A requirement is too high when so little of it is used.
SHARE_USED = 0.25
_TOLD = {"users": "pryv_core_users", "peak": f"max_over_time(pryv_history_requests[{DAYS}d])"}
_TOLD |= {
    "day": f'avg_over_time(pryv_history_requests{{kind=~"points|bytes_.*"}}[{DAYS}d]) * 86400',
    "days": f'count_over_time(pryv_history_requests{{kind="writes"}}[{DAYS}d]) / 1440',
    **{f"users {span}": f"last_over_time(pryv_core_users[1d] offset {span}d)" for span in SPANS},
}


class Measure(NamedTuple):
    """A requirement that can be measured.

    Attributes:
        path: Where it stands in the requirements.
        label: What it is called.
        figure: What is asked for it: the busiest minute or the mean of a day.
        kind: The requests that count.
        factor: What makes its unit of what is measured.
        bound: Whether the truth may be less than what is measured (C(at most)), or more (C(at least)).
    """

    path: str
    label: str
    figure: str
    kind: str
    factor: float = 1
    bound: str = ""


MEASURES = (
    Measure("write.requests_per_second", "write requests/s", "peak", "writes"),
    Measure("write.attachments_mb_per_second", "attachments written, MB/s", "peak", "bytes_written", 1e-6, "at most"),
    Measure("write.data_points_per_day", "points written a day", "day", "points", 1, "at least"),
    Measure("write.mb_per_day", "MB written a day", "day", "bytes_written", 1e-6, "at most"),
    Measure("read.requests_per_second", "read requests/s", "peak", "reads"),
    Measure("read.attachments_per_second", "attachments read/s", "peak", "attachments"),
    Measure("read.previews_per_second", "previews/s", "peak", "previews"),
    Measure("read.mb_per_day", "MB read a day", "day", "bytes_read", 1e-6, "at most"),
)


def measured_problems(monitoring: Sequence[str]) -> list[Problem]:
    """Find what keeps the plan from being held against what was measured.

    Args:
        monitoring: The hosts of group `monitoring`.
    """
    if monitoring:
        return []
    remedy = "add a host to group monitoring and run site.yml (docs/operations/monitoring.md); it measures from then on"
    return [make_error("measured", "no host of this platform measures anything", remedy)]


def measured_address(topology: Mapping[str, Any]) -> str:
    """Return what to ask on a monitoring host: the address of one question that has all answers.

    Args:
        topology: The structure of docs/architecture.md, "The topology fact".
    """
    named = (f'label_replace({expression}, "figure", "{figure}", "", "")' for figure, expression in _TOLD.items())
    query = urlencode({"query": " or ".join(named)})
    return f"http://127.0.0.1:{topology['ports']['prometheus']}/api/v1/query?{query}"


def _values(samples: Iterable[Mapping[str, Any]], label: str, known: Iterable[str]) -> dict[tuple[str, str], float]:
    """Return values by figure and a label, of those whose label is known."""
    wanted = set(known)
    return {
        (sample["metric"]["figure"], sample["metric"][label]): float(sample["value"][1])
        for sample in samples
        if sample["metric"].get(label) in wanted
    }


def _rounded_up(value: float) -> int | float:
    """Return two digits of a number, never less than it is."""
    if value <= 0:
        return 0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    rounded = round(math.ceil(round(value / unit, 6)) * unit, 12)
    return int(rounded) if rounded == int(rounded) else rounded


def _get(requirements: Mapping[str, Any], path: str) -> float:
    part, _, leaf = path.rpartition(".")
    return float((requirements[part] if part else requirements).get(leaf) or 0)


def _judgement(planned: float, found: float, bound: str) -> str:
    """Say what a measurement means for a requirement; what is only a bound says less."""
    if found > planned and bound != "at most":
        return "too low"
    if planned and found < planned * SHARE_USED and bound != "at least":
        return "too high"
    return "fits" if found <= planned else "not known"


def _metric(measure: Measure, requirements: Mapping[str, Any], found: float | None, users: int) -> dict[str, Any]:
    """Describe one requirement of a user beside what was measured."""
    planned = _get(requirements, measure.path)
    # A kind of request that never came has no series.
    total = (found or 0) * measure.factor
    each = total / users
    return {
        "path": measure.path,
        "label": measure.label,
        "planned": planned,
        "measured": each,
        "total": total,
        "bound": measure.bound,
        "judgement": _judgement(planned, each, measure.bound),
    }


def _growth(counted: Mapping[tuple[str, str], float], users: int) -> tuple[int, float] | None:
    """Return over how many days users were compared, and how many more there are each month; None: not known."""
    for span in SPANS:
        before = [value for (figure, _), value in counted.items() if figure == f"users {span}"]
        if before:
            return span, (users - sum(before)) / span * DAYS_A_MONTH
    return None


def _proposal(requirements: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return requirements as they were measured, where that says anything."""
    proposed = {key: dict(value) if isinstance(value, Mapping) else value for key, value in requirements.items()}
    proposed["users"] = max(1, found["users"])
    if found["growth"] is not None:
        proposed["users_growth_per_month"] = max(0, round(found["growth"]))
    for metric in found["metrics"]:
        if metric["judgement"].startswith("too "):
            part, _, leaf = metric["path"].rpartition(".")
            proposed[part][leaf] = _rounded_up(metric["measured"])
    return proposed


def _zone(
    name: str, requirements: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], cores: Sequence[str]
) -> dict[str, Any]:
    """Hold one zone's requirements against what was measured there; `reason` says why nothing can be said."""
    counted, values = _values(samples, "core", cores), {}
    for sample in samples:
        if sample["metric"].get("zone") == name and "kind" in sample["metric"]:
            values[sample["metric"]["figure"], sample["metric"]["kind"]] = float(sample["value"][1])
    users = int(sum(value for (figure, _), value in counted.items() if figure == "users"))
    days = values.get(("days", "writes"), 0.0)
    if days < DAYS_AT_LEAST:
        return {"reason": f"{days:.1f} days are known; the busiest minute of a week takes {DAYS_AT_LEAST} at least"}
    if not users:
        return {"reason": "no user is known there"}
    growth = _growth(counted, users)
    found: dict[str, Any] = {
        "reason": None,
        "users": users,
        "planned_users": int(_get(requirements, "users")),
        "cores": len(cores),
        "days": int(days),
        "growth": growth[1] if growth else None,
        "growth_days": growth[0] if growth else None,
        "planned_growth": _get(requirements, "users_growth_per_month"),
        "metrics": [
            _metric(measure, requirements, values.get((measure.figure, measure.kind)), users) for measure in MEASURES
        ],
    }
    return {**found, "proposal": _proposal(requirements, found)}


def _next_core(found: Mapping[str, Any], plan: Mapping[str, Any], start: str) -> str:
    """Say when a zone needs its next core by what was measured."""
    if plan["cores"] > found["cores"]:
        return f"now: {plan['cores']} cores are needed, {found['cores']} are there"
    if not found["growth"] or found["growth"] <= 0:
        return "not foreseen: the users do not become more" if found["growth"] is not None else "not known yet"
    room = min(metric["headroom_users"] for metric in plan["metrics"].values() if metric["headroom_users"] is not None)
    wait = math.ceil((room + 1) / found["growth"])
    return f"{month_after(start, wait)}, {months(wait)}"


def capacity_measured(
    privacy_zones: Mapping[str, Any],
    samples: Sequence[Mapping[str, Any]],
    topology: Mapping[str, Any],
    start: str,
    core_limits: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Hold requirements against what was measured.

    Args:
        privacy_zones: Requirements by zone, which `capacity_plan` accepts.
        samples: What Prometheus answered to `measured_address`: the list `data.result`.
        topology: The structure of docs/architecture.md, "The topology fact".
        start: The month of now, as YYYY-MM.
        core_limits: Limits of a core that differ from the guide's.

    Returns:
        By zone: users, growth a month, each requirement planned and measured for a user with a judgement (`fits`,
        `too low`, `too high`, `not known`), the `next_core` in words, and the requirements as they were measured
        (`proposal`); where too little is known, nothing but the `reason`.
    """
    zones = {
        zone: _zone(zone, requirements, samples, topology["zones"].get(zone, []))
        for zone, requirements in privacy_zones.items()
    }
    for zone, found in zones.items():
        if found["reason"] is None:
            plan = capacity_plan({zone: found["proposal"]}, core_limits, cores={zone: found["cores"]})["zones"][zone]
            found["next_core"] = _next_core(found, plan, start)
    return zones


def _shown(value: float) -> str:
    return number(round(value)) if value >= 100 else f"{value:.3g}"


def _zone_text(name: str, found: Mapping[str, Any]) -> list[str]:
    if found["reason"] is not None:
        return [f"zone {name}: nothing can be said yet: {found['reason']}", ""]
    growth = "not known yet" if found["growth"] is None else f"{number(round(found['growth']))} a month"
    known = f" (of {found['growth_days']} days)" if found["growth_days"] else ""
    rows = [
        [
            metric["label"],
            number(metric["planned"]),
            f"{metric['bound']} {_shown(metric['measured'])}".strip(),
            _shown(metric["total"]),
            metric["judgement"],
        ]
        for metric in found["metrics"]
    ]
    return [
        f"zone {name}: {number(found['users'])} users on {number(found['cores'])} cores,"
        f" {number(found['planned_users'])} are planned; {found['days']} days measured",
        f"growth: {growth}{known}, {number(round(found['planned_growth']))} planned; next core: {found['next_core']}",
        "",
        *table(["of a user", "planned", "measured", "zone, busiest minute or day", "requirement"], rows, left=(0, 4)),
        "",
    ]


def measured_table(zones: Mapping[str, Any]) -> str:
    """Write what was measured beside the plan, as a text that fits a terminal of 100 columns.

    Args:
        zones: What `capacity_measured` returned.

    Returns:
        A table for each zone, then the lines of capacity.yml that would fit what was measured.
    """
    lines = [line for name, found in zones.items() for line in _zone_text(name, found)]
    proposals = {name: found["proposal"] for name, found in zones.items() if found["reason"] is None}
    if proposals:
        lines.append("As measured, in group_vars/all/capacity.yml; raise what is known to come:")
        lines += yaml.safe_dump({"privacy_zones": proposals}, sort_keys=False).splitlines()
    return "\n".join(lines).rstrip()
