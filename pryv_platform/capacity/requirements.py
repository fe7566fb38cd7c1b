"""The business requirements, read and checked, and how many cores they take."""

from __future__ import annotations

import decimal
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from pryv_platform.capacity.guide import ATTACHMENT_WRITES, CORE_LIMITS, LEAVES, METRICS, PARTS, USERS, Field, Metric
from pryv_platform.capacity.numbers import EXACT, ceiling_of_ratio, exact, plain
from pryv_platform.problems import InputError, Problem, make_error
from pryv_platform.topology.placeholders import PLACEHOLDER
from pryv_platform.topology.reader import ENVIRONMENTS, LABEL

# Of the names that core_name gives, co1 to c999; longer ones could be users'.
MOST_CORES = 999
FEWER_CORES = (
    f"right is {MOST_CORES} at most, since a core's name has four characters:"
    " correct the figures, or plan several platforms"
)
Zone = dict[str, Decimal]
ONE = Decimal(1)


def raise_all(problems: Iterable[Problem]) -> None:
    """Raise one error that lists all problems, if there are any."""
    lines = [f"{problem['where']}: {problem['problem']}; {problem['remedy']}" for problem in problems]
    if lines:
        raise InputError("\n".join(lines))


def _read_number(value: object, where: str, field: Field, problems: list[Problem]) -> Decimal:
    """Return the number of a field, or note why it is none and return the field's minimum."""
    number = exact(value)
    if number is None:
        problem = f"{value!r} is not a number"
        if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d+)?(e\+?\d\d?)?", value.strip(), re.IGNORECASE):
            problem += f" but a text: YAML wants {Decimal(value.strip()):f}, without quotes"
        elif isinstance(value, str) and PLACEHOLDER in value:
            problem = f"{value!r} waits to be filled in"
    elif number < field.minimum or (field.above and number == field.minimum):
        problem = f"{value!r} is too small"
    elif field.whole and number != number.to_integral_value():
        problem = f"{value!r} is not a whole number"
    else:
        return number
    problems.append(make_error(where, problem, f"right is {field.right}"))
    return Decimal(field.minimum)


def _read_part(source: object, part: str, where: str, zone: Zone, problems: list[Problem]) -> None:
    """Read one mapping of a zone's requirements (the zone itself, its `write` or its `read`) into `zone`."""
    fields = PARTS[part]
    if not isinstance(source, Mapping):
        found = "missing" if source is None else f"{source!r} is not a mapping"
        required = [LEAVES[field.path] for field in fields if field.default is None and not field.optional]
        problems.append(make_error(where, found, f"right is a mapping with {', '.join(required)}"))
        return
    known = 0
    for field in fields:
        leaf = LEAVES[field.path]
        value = source.get(leaf)
        if value is not None:
            known += 1
            zone[field.path] = _read_number(value, f"{where}.{leaf}", field, problems)
        elif field.default is not None:
            zone[field.path] = Decimal(field.default)
        elif not field.optional:
            problems.append(make_error(f"{where}.{leaf}", "missing", f"right is {field.right}"))
    if known + (0 if part else 2) < len(source):
        names = [LEAVES[field.path] for field in fields] + ([] if part else ["write", "read"])
        problems.extend(
            make_error(f"{where}.{key}", "unknown", f"right is one of {', '.join(names)}")
            for key in source
            if key not in names
        )


def _read_zone(
    name: str, source: object, limits: Mapping[str, Decimal], problems: list[Problem]
) -> tuple[Zone, list[Load]]:
    """Read and check the requirements of one zone."""
    zone: Zone = {}
    where = f"privacy_zones.{name}"
    before = len(problems)
    _read_part(source, "", where, zone, problems)
    if isinstance(source, Mapping):
        for part in ("write", "read"):
            _read_part(source.get(part), part, f"{where}.{part}", zone, problems)
    if len(problems) > before:
        return zone, []
    if zone["write.attachments_mb_per_second"] and "storage_mb_per_second" not in zone:
        right = "right is the MB/s that a core's data disk writes, because attachments are written"
        problems.append(make_error(f"{where}.storage_mb_per_second", "missing", right))
        return zone, []
    loads = loads_of(zone, limits)
    for metric, per_user, single, _, limit, _ in loads:
        if limit is not None and single > limit:
            margin = f"safety_margin {plain(zone['safety_margin'])}"
            shown = f"{plain(per_user)} {metric.unit} x {margin}"
            remedy = "such users need Pryv's high-frequency module: ask your Pryv representative, or lower the demand"
            if metric is USERS:
                shown, remedy = margin, "lower the margin"
            problem = f"one user alone ({shown}) exceeds what a core can do ({plain(limit)} {metric.unit})"
            problems.append(make_error(f"{where}.{metric.path}", problem, remedy))
    return zone, loads


def read_settings(
    given: object, defaults: Mapping[str, int | float], variable: str, problems: list[Problem]
) -> dict[str, Decimal]:
    """Lay given figures (limits, assumptions) over the defaults."""
    settings = {key: Decimal(str(value)) for key, value in defaults.items()}
    if given is None:
        return settings
    if not isinstance(given, Mapping):
        problems.append(make_error(variable, f"{given!r} is not a mapping", "right is {name: number}"))
        return settings
    for key, value in given.items():
        where = f"{variable}.{key}"
        if key not in defaults:
            problems.append(make_error(where, "unknown", f"right is one of {', '.join(defaults)}"))
            continue
        # A core that holds "fewer than 1 user" would hold none.
        minimum = 1 if (variable, key) == ("core_limits", "users") else 0
        whole = minimum == 1
        right = f"a {'whole ' if whole else ''}number, more than {minimum}"
        number = _read_number(value, where, Field(key, right, minimum=minimum, above=True, whole=whole), problems)
        settings[key] = number
    return settings


def _read(
    privacy_zones: object, core_limits: object, problems: list[Problem]
) -> tuple[dict[str, tuple[Zone, list[Load]]], dict[str, Decimal]]:
    """Read and check all requirements and the limits of a core; call within EXACT."""
    limits = read_settings(core_limits, CORE_LIMITS, "core_limits", problems)
    zones: dict[str, tuple[Zone, list[Load]]] = {}
    if not isinstance(privacy_zones, Mapping) or not privacy_zones:
        found = f"{privacy_zones!r} is not a mapping" if privacy_zones else "no zone"
        right = "right is a mapping of at least one privacy zone to its requirements (group_vars/all/capacity.yml)"
        problems.append(make_error("privacy_zones", found, right))
        return zones, limits
    for name, source in privacy_zones.items():
        if not isinstance(name, str) or not LABEL.fullmatch(name):
            right = (
                "right is 1 to 63 characters of a-z, 0-9 and '-', beginning and ending with a letter or digit;"
                " quote names that YAML reads otherwise ('no', '1')"
            )
            problems.append(make_error(f"privacy_zones.{name!r}", "not the name of a zone", right))
            continue
        zones[name] = _read_zone(name, source, limits, problems)
    return zones, limits


def read_platform(
    privacy_zones: object, core_limits: object, problems: list[Problem]
) -> tuple[dict[str, tuple[Zone, list[Load]]], dict[str, Decimal]]:
    """Read and check as `_read` does, and that one platform can have so many cores; call within EXACT."""
    before = len(problems)
    zones, limits = _read(privacy_zones, core_limits, problems)
    if len(problems) == before:
        needed = {name: cores_for(loads) for name, (_, loads) in zones.items()}
        if (cores := sum(needed.values())) > MOST_CORES:
            fullest = max(needed, key=lambda name: needed[name])
            users = plain(zones[fullest][0]["users"])
            found = f"is {users}: {cores} cores are needed, {needed[fullest]} of them in {fullest}"
            problems.append(make_error(f"privacy_zones.{fullest}.users", found, FEWER_CORES))
    return zones, limits


def environment_problems(environment: object) -> list[Problem]:
    """Find out whether there is such an environment."""
    if environment in ENVIRONMENTS:
        return []
    return [make_error("pryv_environment", f"{environment!r} is unknown", f"right is one of {', '.join(ENVIRONMENTS)}")]


class Load(NamedTuple):
    """What a zone's users ask for by one metric, margin included, and what a core can do."""

    metric: Metric
    per_user: Decimal  # as written, without the margin
    single: Decimal  # one user, with the margin
    demand: Decimal  # all users together; a number of people is rounded up to whole ones
    limit: Decimal | None  # None when nothing says: no attachments are written and no storage speed is given
    cores: int  # the smallest number of cores that stays within the limit; 0 without demand

    def users_within(self, cores: int) -> int | None:
        """Return the largest population that `cores` cores can serve; None when nothing is asked for."""
        return int(self.limit * cores // self.single) if self.single and self.limit else None


def loads_of(zone: Zone, limits: Mapping[str, Decimal]) -> list[Load]:
    """Weigh every metric of a zone; call within EXACT.

    Fewer than 10'000 users means at most 9'999, and a share of a person is a person: people are whole.
    """
    users, margin, loads = zone["users"], zone["safety_margin"], []
    for metric in METRICS:
        limit: Decimal | None = limits[metric.limit]
        if metric is USERS:
            per_user, single, limit = ONE, margin, limits["users"] - 1
            demand = Decimal(ceiling_of_ratio(users * margin))
        else:
            per_user = zone[metric.path]
            single = per_user * margin
            demand = single * users
            if metric is ATTACHMENT_WRITES:
                storage = zone.get("storage_mb_per_second")
                limit = None if storage is None else storage * limits[metric.limit]
        cores = ceiling_of_ratio(demand, limit) if demand and limit else 0
        loads.append(Load(metric, per_user, single, demand, limit, cores))
    return loads


def cores_for(loads: Iterable[Load]) -> int:
    """Return how many cores these loads need."""
    return max((1, *(load.cores for load in loads)))


def core_counts(privacy_zones: Mapping[str, Any], core_limits: Mapping[str, Any] | None = None) -> dict[str, int]:
    """Compute how many cores each privacy zone needs.

    Args:
        privacy_zones: requirements by zone, all metrics per user (see docs/capacity.md).
        core_limits: limits of one core that differ from the guide's.

    Returns:
        The number of cores by zone, in the order of `privacy_zones`.

    Raises:
        InputError: requirements or limits are wrong; lists every problem.
    """
    problems: list[Problem] = []
    with decimal.localcontext(EXACT):
        zones, _ = _read(privacy_zones, core_limits, problems)
        raise_all(problems)
        return {name: cores_for(loads) for name, (_, loads) in zones.items()}
