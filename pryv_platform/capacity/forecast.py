"""When more cores are needed, and how users spread over them."""

from __future__ import annotations

import decimal
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pryv_platform.capacity.guide import ASSUMPTIONS
from pryv_platform.capacity.numbers import EXACT, ceiling_of_ratio, plain
from pryv_platform.capacity.requirements import (
    FEWER_CORES,
    MOST_CORES,
    Load,
    Zone,
    cores_for,
    environment_problems,
    loads_of,
    raise_all,
    read_platform,
    read_settings,
)
from pryv_platform.problems import Problem, make_error

LONGEST_FORECAST = 240


def assign(users: Sequence[int], newcomers: int) -> list[int]:
    """Give newcomers to cores as the registry does: each to the core with the fewest users, the first of equals.

    The registry takes them one by one; the outcome is computed at once, so that a million costs nothing.

    Args:
        users: users of each core, in the order of the registry's configuration.
        newcomers: how many users register, one after the other.

    Returns:
        The users of each core afterwards.
    """
    # The fullest level that all emptier cores can be raised to.
    lowest = sorted(users)
    level, below, left = lowest[0], 1, newcomers
    while below < len(lowest) and left >= (lowest[below] - level) * below:
        left -= (lowest[below] - level) * below
        level = lowest[below]
        below += 1
    level, left = level + left // below, left % below
    result = []
    for count in users:
        raised = max(count, level)
        if raised == level and left:
            raised, left = raised + 1, left - 1
        result.append(raised)
    return result


def leave(users: Sequence[int], leavers: int) -> list[int]:
    """Take leavers from cores in proportion to the users of each; fractions go to the largest, the first of equals."""
    total = sum(users)
    leavers = min(leavers, total)
    if not leavers:
        return list(users)
    shares = [divmod(count * leavers, total) for count in users]
    left = leavers - sum(whole for whole, _ in shares)
    favoured = sorted(range(len(users)), key=lambda core: -shares[core][1])[:left]
    return [
        count - whole - (core in favoured) for core, (count, (whole, _)) in enumerate(zip(users, shares, strict=True))
    ]


def month_after(start: str, later: int) -> str:
    """Return the month that is `later` months after `start`, both as YYYY-MM."""
    year, month = divmod(int(start[:4]) * 12 + int(start[5:]) - 1 + later, 12)
    return f"{year:04}-{month + 1:02}"


def _cores_of_population(zone: Zone, users: int, limits: Mapping[str, Decimal]) -> tuple[int, str]:
    """Return the cores that another population of the zone needs, and the metric that decides."""
    most = max(loads_of({**zone, "users": Decimal(users)}, limits), key=lambda load: load.cores)
    return max(1, most.cores), most.metric.path


def _population(zone: Zone, month: int) -> int:
    """Return the users of a zone after so many months; a started person is not one yet."""
    return int(zone["users"] + zone["users_growth_per_month"] * month)


def _live(zone: Zone, cores: Sequence[int]) -> list[list[int]]:
    """Return the users of each core at the end of each month, when month by month there are so many cores."""
    leaving = zone["users_leaving_per_month"]
    users = assign([0] * cores[0], _population(zone, 0))
    history = [users]
    for month in range(1, len(cores)):
        users = leave(users, int(leaving * month) - int(leaving * (month - 1)))
        users += [0] * (cores[month] - len(users))
        users = assign(users, _population(zone, month) - sum(users))
        history.append(users)
    return history


def _zone_forecast(zone: Zone, limits: Mapping[str, Decimal], start: str, months: int) -> dict[str, Any]:
    """Look ahead in one zone, once with cores added in time and once with none added."""
    needs = [_cores_of_population(zone, _population(zone, month), limits) for month in range(months + 1)]
    cores = [count for count, _ in needs]
    with_additions, without = _live(zone, cores), _live(zone, cores[:1] * len(cores))
    at_most = min(within for load in loads_of(zone, limits) if (within := load.users_within(1)) is not None)
    return {
        "next_core": _next_core(zone, limits, start),
        "additions": [
            {
                "month": month_after(start, month),
                "in_months": month,
                "cores": cores[month],
                "users": _population(zone, month),
                "metric": needs[month][1],
            }
            for month in range(1, months + 1)
            if cores[month] > cores[month - 1]
        ],
        "users_per_core_at_most": at_most,
        "full_without_additions": [
            next((month_after(start, month) for month, users in enumerate(without) if users[core] >= at_most), None)
            for core in range(cores[0])
        ],
        "history": [
            {
                "month": month_after(start, month),
                "users": sum(users),
                "users_per_core": users,
                "skew": max(users) - min(users),
            }
            for month, users in enumerate(with_additions)
        ],
    }


def _next_core(zone: Zone, limits: Mapping[str, Decimal], start: str) -> dict[str, Any] | None:
    """Return when the zone outgrows its cores, however far that is; None when it never does."""
    growth = zone["users_growth_per_month"]
    if not growth:
        return None
    loads = loads_of(zone, limits)
    cores = cores_for(loads)
    most = min(within for load in loads if (within := load.users_within(cores)) is not None)
    months = ceiling_of_ratio(most + 1 - zone["users"], growth)
    needed, metric = _cores_of_population(zone, _population(zone, months), limits)
    return {
        "month": month_after(start, months),
        "in_months": months,
        "cores": needed,
        "users": _population(zone, months),
        "metric": metric,
    }


def _forecast_problems(
    zones: Mapping[str, tuple[Zone, list[Load]]], limits: Mapping[str, Decimal], start: object, months: object
) -> Iterable[Problem]:
    """Yield what keeps from looking ahead; call within EXACT."""
    if not isinstance(start, str) or not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", start):
        yield make_error("capacity_start", f"{start!r} is not a month", "right is YYYY-MM, such as 2027-01")
    if isinstance(months, bool) or not isinstance(months, int) or not 1 <= months <= LONGEST_FORECAST:
        right = f"right is a whole number from 1 to {LONGEST_FORECAST}"
        yield make_error("capacity_forecast_months", f"{months!r} is not a number of months", right)
        return
    for name, (zone, loads) in zones.items():
        # What is wrong with the figures themselves is reported already.
        cores = _cores_of_population(zone, _population(zone, months), limits)[0] if loads else 0
        if cores_for(loads) <= MOST_CORES < cores:
            growth = plain(zone["users_growth_per_month"])
            problem = f"{growth} more users each month need {cores} cores in {months} months"
            yield make_error(f"privacy_zones.{name}.users_growth_per_month", problem, FEWER_CORES)


def requirement_problems(
    privacy_zones: object,
    start: object,
    months: object,
    core_limits: object = None,
    assumptions: object = None,
    environment: object = "production",
) -> list[Problem]:
    """Find all that keeps from planning: what `capacity_plan` and `capacity_forecast` refuse.

    Args:
        privacy_zones: requirements by zone.
        start: the month in which the planned population is there, as YYYY-MM.
        months: how many months to look ahead.
        core_limits: limits of one core that differ from the guide's.
        assumptions: figures that differ from our choices where the guide gives none.
        environment: development, integration or production.

    Returns:
        Mappings of severity, where, problem and remedy, as preflight reports them.
    """
    problems: list[Problem] = []
    with decimal.localcontext(EXACT):
        zones, limits = read_platform(privacy_zones, core_limits, problems)
        read_settings(assumptions, ASSUMPTIONS, "capacity_assumptions", problems)
        problems += environment_problems(environment)
        problems += _forecast_problems(zones, limits, start, months)
    return problems


def capacity_forecast(
    privacy_zones: Mapping[str, Any],
    start: str,
    months: int = 36,
    core_limits: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Look ahead month by month: when each zone needs its next core, and how users spread over the cores.

    Each month users leave first, in proportion to the users of each core; then, where the month's population needs it,
    cores are added; then newcomers register, each on the core with the fewest users (the first of equals).

    Args:
        privacy_zones: requirements by zone.
        start: the month in which the planned population is there, as YYYY-MM.
        months: how many months to look ahead.
        core_limits: limits of one core that differ from the guide's.

    Returns:
        By zone: the next core (month, population, metric that decides; None without growth), all additions within the
        months, the month in which each core of today is full if none is added (or None), and the history with cores
        added in time: users, users of each core, and skew (fullest less emptiest core) at the end of each month.

    Raises:
        InputError: an argument is wrong; lists every problem.
    """
    problems: list[Problem] = []
    with decimal.localcontext(EXACT):
        zones, limits = read_platform(privacy_zones, core_limits, problems)
        problems += _forecast_problems(zones, limits, start, months)
        raise_all(problems)
        forecasts = {name: _zone_forecast(zone, limits, start, months) for name, (zone, _) in zones.items()}
    return {"start": start, "months": months, "zones": forecasts}
