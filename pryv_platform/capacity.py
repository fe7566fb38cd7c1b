"""From business requirements to machines: how many cores a privacy zone needs, and which machines the platform takes.

Everything here is a pure function of its arguments. Numbers are computed exactly, as decimals of the text that was
written in the inventory: 0.1 is one tenth, and 2000 users at one request per second fill one core to the brim but need
no second one. docs/capacity.md derives every formula, with its source.
"""

from __future__ import annotations

import decimal
import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from pryv_platform.problems import InputError, Problem, Severity, make_error, make_problem

# Exact or an error: no result is ever rounded.
EXACT = decimal.Context(prec=6000, traps=[decimal.Inexact, decimal.DivisionByZero, decimal.InvalidOperation])

GUIDE = "Deployment Design Guide v6 (2018)"
CLUSTER_SIZING = f"{GUIDE}, Cluster Sizing Considerations"
OURS = "docs/capacity.md"
ENVIRONMENTS = ("development", "integration", "production")


@dataclass(frozen=True)
class Field:
    """One line of the worksheet: where it stands in the requirements of a zone, and what may be written there."""

    path: str
    right: str
    minimum: int = 0
    default: int | None = None
    whole: bool = False
    above: bool = False  # the minimum itself is refused
    optional: bool = False


FIELDS = (
    Field("users", "the planned number of users, a whole number, 0 or more", whole=True),
    Field("safety_margin", "a factor for every demand, 1 or more", minimum=1, default=1),
    Field("users_growth_per_month", "the users gained each month, 0 or more", default=0),
    Field("users_leaving_per_month", "the users who leave each month and are replaced, 0 or more", default=0),
    Field("storage_mb_per_second", "MB/s that a core's data disk writes, more than 0", above=True, optional=True),
    Field("write.requests_per_second", "write requests/s of a user at most, 0 or more"),
    Field("write.attachments_mb_per_second", "MB/s of attachments that a user writes at most, 0 or more"),
    Field("write.data_points_per_day", "data points that a user writes each day, 0 or more"),
    Field("write.mb_per_day", "MB that a user writes each day, 0 or more"),
    Field("write.retention_years", "years that data is kept, 0 or more"),
    Field("read.requests_per_second", "read requests/s of a user at most, 0 or more"),
    Field("read.points_per_request", "data points that one request returns, 0 or more"),
    Field("read.attachments_per_second", "attachment reads/s of a user at most, 0 or more"),
    Field("read.previews_per_second", "image previews/s of a user at most, 0 or more"),
    Field("read.data_points_per_day", "data points that a user reads each day, 0 or more"),
    Field("read.mb_per_day", "MB that a user reads each day, 0 or more"),
)
PARTS = {
    part: tuple(field for field in FIELDS if field.path.rpartition(".")[0] == part) for part in ("", "write", "read")
}
LEAVES = {field.path: field.path.rpartition(".")[2] for field in FIELDS}


@dataclass(frozen=True)
class Metric:
    """A demand that one core meets up to a limit."""

    path: str
    limit: str
    label: str
    unit: str


METRICS = (
    Metric("users", "users", "Users", "users"),
    Metric("write.requests_per_second", "write_requests_per_second", "Write requests", "requests/s"),
    Metric("write.attachments_mb_per_second", "attachment_writes_share_of_storage", "Attachment writes", "MB/s"),
    Metric("read.requests_per_second", "read_requests_per_second", "Read requests", "requests/s"),
    Metric("read.attachments_per_second", "attachment_reads_per_second", "Attachment reads", "requests/s"),
    Metric("read.previews_per_second", "previews_per_second", "Image previews", "requests/s"),
)
USERS = METRICS[0]
ATTACHMENT_WRITES = METRICS[2]
REQUEST_RATES = ("write.requests_per_second", "read.requests_per_second", "read.attachments_per_second")

# What one core can do: the guide's "Max Performance of a Single Core". A core holds fewer users than `users`.
CORE_LIMITS: dict[str, int | float] = {
    "users": 10000,
    "write_requests_per_second": 2000,
    "read_requests_per_second": 2000,
    "attachment_reads_per_second": 600,
    "previews_per_second": 100,
    "attachment_writes_share_of_storage": 0.5,
}

# Where the guide says "increase" and gives no figure: our choices.
ASSUMPTIONS: dict[str, int | float] = {
    "disk_overhead": 1.5,
    "busy_core_share": 0.5,
    "previews_per_ram_gb": 50,
    "points_kept_per_ram_gb": 10_000_000_000,
    "registry_users_included": 100_000,
    "registry_users_per_ram_gb": 250_000,
    "registry_users_per_disk_gb": 100_000,
}

# The guide's "minimal requirement" by role.
MINIMUM = {
    "web": {"cpus": 1, "ram_gb": 1, "os_disk_gb": 15, "data_disk_gb": 0},
    "registry": {"cpus": 2, "ram_gb": 2, "os_disk_gb": 15, "data_disk_gb": 15},
    "core": {"cpus": 2, "ram_gb": 4, "os_disk_gb": 15, "data_disk_gb": 15},
}
RESOURCES = {"cpus": "CPUs", "ram_gb": "GB of RAM", "os_disk_gb": "GB of OS disk", "data_disk_gb": "GB of data disk"}
BUSY_CPUS = 4
DAYS_PER_YEAR = 365
MB_PER_GB = 1000
MANY_POINTS = 1000
PLACEHOLDER = "CHANGE_ME"
# As the topology has it: the zone's name is also that of its hosting in the registry.
ZONE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
MANY_USERS = 100_000
LONGEST_FORECAST = 240
# Of the names that core_name gives, co1 to c999; longer ones could be users'.
MOST_CORES = 999

SCENARIOS = {
    "development": "Development Installation (single node)",
    "poc": "Proof of Concept Installation (one machine for each role)",
    "load": "Partitioning for Load",
    "privacy": "Partitioning for Privacy",
}

FEWER_CORES = (
    f"right is {MOST_CORES} at most, since a core's name has four characters:"
    " correct the figures, or plan several platforms"
)

Figure = dict[str, Any]
Zone = dict[str, Decimal]
ONE = Decimal(1)


# --- numbers --------------------------------------------------------------------------------------


def exact(value: object) -> Decimal | None:
    """Return the decimal that was written, or None when `value` is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return _as_written(value)


@functools.lru_cache(maxsize=16384, typed=True)
def _as_written(value: float) -> Decimal | None:
    number = Decimal(value) if isinstance(value, int) else Decimal(str(value))
    return number if number.is_finite() else None


def plain(number: Decimal) -> int | float:
    """Return a number that JSON can carry: an integer where it is one."""
    whole = int(number)
    return whole if whole == number else float(number)


def ceiling_of_ratio(dividend: Decimal, divisor: Decimal | int = 1) -> int:
    """Return the smallest whole number of `divisor` that makes up `dividend`; call within EXACT."""
    quotient, rest = divmod(dividend, divisor)
    return int(quotient) + (rest > 0)


# --- requirements ---------------------------------------------------------------------------------


def _raise(problems: Iterable[Problem]) -> None:
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
    loads = _loads(zone, limits)
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


def _read_settings(
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
    limits = _read_settings(core_limits, CORE_LIMITS, "core_limits", problems)
    zones: dict[str, tuple[Zone, list[Load]]] = {}
    if not isinstance(privacy_zones, Mapping) or not privacy_zones:
        found = f"{privacy_zones!r} is not a mapping" if privacy_zones else "no zone"
        right = "right is a mapping of at least one privacy zone to its requirements (group_vars/all/capacity.yml)"
        problems.append(make_error("privacy_zones", found, right))
        return zones, limits
    for name, source in privacy_zones.items():
        if not isinstance(name, str) or not ZONE_NAME.fullmatch(name):
            right = (
                "right is 1 to 63 characters of a-z, 0-9 and '-', beginning and ending with a letter or digit;"
                " quote names that YAML reads otherwise ('no', '1')"
            )
            problems.append(make_error(f"privacy_zones.{name!r}", "not the name of a zone", right))
            continue
        zones[name] = _read_zone(name, source, limits, problems)
    return zones, limits


def _read_platform(
    privacy_zones: object, core_limits: object, problems: list[Problem]
) -> tuple[dict[str, tuple[Zone, list[Load]]], dict[str, Decimal]]:
    """Read and check as `_read` does, and that one platform can have so many cores; call within EXACT."""
    before = len(problems)
    zones, limits = _read(privacy_zones, core_limits, problems)
    if len(problems) == before:
        needed = {name: _cores(loads) for name, (_, loads) in zones.items()}
        if (cores := sum(needed.values())) > MOST_CORES:
            fullest = max(needed, key=lambda name: needed[name])
            users = plain(zones[fullest][0]["users"])
            found = f"is {users}: {cores} cores are needed, {needed[fullest]} of them in {fullest}"
            problems.append(make_error(f"privacy_zones.{fullest}.users", found, FEWER_CORES))
    return zones, limits


# --- how many cores -------------------------------------------------------------------------------


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


def _loads(zone: Zone, limits: Mapping[str, Decimal]) -> list[Load]:
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


def _cores(loads: Iterable[Load]) -> int:
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
        _raise(problems)
        return {name: _cores(loads) for name, (_, loads) in zones.items()}


# --- which machines -------------------------------------------------------------------------------


def _figure(value: int, rule: str, source: str) -> Figure:
    return {"value": value, "rule": rule, "source": source}


MINIMUM_MACHINE = {
    role: {
        resource: _figure(value, f"minimum of a {role}", f"{GUIDE}, {role.capitalize()} Role Sizing")
        for resource, value in minimum.items()
    }
    for role, minimum in MINIMUM.items()
}


def _metric_plan(load: Load, users: int, cores: int, rule: str) -> Figure:
    """Describe one metric of a zone: what is asked for, what `cores` cores can do, and the room that is left."""
    within = load.users_within(cores)
    return {
        "label": load.metric.label,
        "unit": load.metric.unit,
        "per_user": plain(load.per_user),
        "demand": plain(load.demand),
        "limit": None if load.limit is None else plain(load.limit),
        "cores": load.cores,
        "load": float(load.demand) / float(load.limit * cores) if load.limit else 0.0,
        "headroom_users": None if within is None else within - users,
        "rule": rule,
        "source": CLUSTER_SIZING,
    }


def _metric_rules(limits: Mapping[str, Decimal]) -> dict[str, str]:
    """Say for each metric how its number of cores is found."""
    rules = {
        metric.path: f"users x {metric.path} x safety_margin / {plain(limits[metric.limit])}, rounded up"
        for metric in METRICS
    }
    limit = plain(limits["users"])
    rules["users"] = f"users x safety_margin in whole people / {limit - 1} (fewer than {limit}), rounded up"
    share = plain(limits["attachment_writes_share_of_storage"])
    path = "write.attachments_mb_per_second"
    rules[path] = f"users x {path} x safety_margin / (storage_mb_per_second x {share}), rounded up"
    return rules


def _core_machine(
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


def _registry_machine(users: Decimal, assumptions: Mapping[str, Decimal]) -> dict[str, Figure]:
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


def _single_machine(core: Mapping[str, Figure]) -> dict[str, Figure]:
    """Size the one machine of a single node: the guide asks of it what it asks of a core."""
    source = f"{GUIDE}, Single Node Deploy"
    minimum = MINIMUM["core"]
    return {
        resource: figure
        if figure["value"] > minimum[resource]
        else {**figure, "rule": "minimum of a single node", "source": source}
        for resource, figure in core.items()
    }


def core_name(index: int) -> str:
    """Return co1, co2 ... c999: a core's name has at most four characters, for longer ones could be a user's."""
    return f"co{index}" if index < 100 else f"c{index}"


# --- the plan -------------------------------------------------------------------------------------


def _scenario(environment: str, zones: int, cores: int) -> Figure:
    """Choose the guide's scenario, and say why."""
    against_single_node = []
    if environment == "production":
        against_single_node.append("data is production data that needs to persist (pryv_environment: production)")
    if environment == "integration":
        against_single_node.append("the integration with other systems is evaluated (pryv_environment: integration)")
    if cores > 1:
        against_single_node.append(f"{cores} cores are needed")
    if not against_single_node:
        name = "development"
        because = ["one core is enough, and neither production data nor an integration under evaluation forbids it"]
    else:
        because = [f"no single node: {reason}" for reason in against_single_node]
        name = "privacy" if zones > 1 else "load" if cores > 1 else "poc"
        because += {
            "privacy": [f"{zones} privacy zones, each with at least one core of its own"],
            "load": [f"the load of one privacy zone is spread over {cores} cores"],
            "poc": ["one core carries the load: each role on a machine of its own"],
        }[name]
    return {
        "name": name,
        "title": SCENARIOS[name],
        "because": because,
        "source": f"{GUIDE}, Single Node or Cluster?",
    }


def _zone_warnings(name: str, zone: Zone, loads: Iterable[Load], people: int, cores: int) -> list[Figure]:
    """Say what is allowed but unwise in a zone whose fullest core of `cores` holds `people`."""
    where = f"privacy_zones.{name}"
    found = []
    points = zone["read.points_per_request"]
    if points > MANY_POINTS:
        text = (
            f"{plain(points)} points a request: results of more than {MANY_POINTS} points should be read with a cursor"
        )
        found.append((f"{where}.read.points_per_request", text, CLUSTER_SIZING))
    for load in loads:
        if load.metric is not USERS and load.limit and load.single * people > load.limit:
            fullest = f"{plain(load.single * people)} {load.metric.unit}"
            text = (
                f"{people} users on the fullest core demand {fullest}, more than its limit of {plain(load.limit)}:"
                f" the total fits {cores} cores, but a user cannot be split between two"
            )
            found.append((f"{where}.{load.metric.path}", text, OURS))
    return [{"where": at, "text": text, "source": source} for at, text, source in found]


def _environment_problems(environment: object) -> list[Problem]:
    if environment in ENVIRONMENTS:
        return []
    return [make_error("pryv_environment", f"{environment!r} is unknown", f"right is one of {', '.join(ENVIRONMENTS)}")]


def capacity_plan(
    privacy_zones: Mapping[str, Any],
    core_limits: Mapping[str, Any] | None = None,
    environment: str = "production",
    assumptions: Mapping[str, Any] | None = None,
    cores: Mapping[str, int] | None = None,
    followers: int | None = None,
    web_delegated: bool = False,
) -> dict[str, Any]:
    """Derive the whole platform from the requirements.

    Args:
        privacy_zones: requirements by zone, all metrics per user.
        core_limits: limits of one core that differ from the guide's.
        environment: development, integration or production; the latter two forbid a single node.
        assumptions: figures that differ from our choices where the guide gives none.
        cores: cores that a zone really has; where they are more than needed, each is sized for its smaller share.
        followers: registry followers that the inventory has, for the warning when there are none.
        web_delegated: the static pages are served elsewhere, so that no web machine is needed.

    Returns:
        Scenario, zones (cores, binding metric, every metric's demand and headroom, the core's machine), registry, web,
        machines to order, totals and warnings. Every figure carries its rule and source.

    Raises:
        InputError: an argument is wrong; lists every problem.
    """
    problems: list[Problem] = []
    with decimal.localcontext(EXACT):
        zones, limits = _read_platform(privacy_zones, core_limits, problems)
        chosen = _read_settings(assumptions, ASSUMPTIONS, "capacity_assumptions", problems)
        problems += _environment_problems(environment)
        _raise(problems)
        return _plan(zones, limits, chosen, environment, cores or {}, followers, web_delegated)


def _zone_plan(
    zone: Zone, loads: list[Load], assumptions: Mapping[str, Decimal], present: int, rules: Mapping[str, str]
) -> dict[str, Any]:
    needed = _cores(loads)
    cores = max(needed, present)
    users = int(zone["users"])
    metrics = {load.metric.path: _metric_plan(load, users, cores, rules[load.metric.path]) for load in loads}
    capacities = [load.users_within(1) for load in loads]
    return {
        "users": users,
        "safety_margin": plain(zone["safety_margin"]),
        "users_growth_per_month": plain(zone["users_growth_per_month"]),
        "users_leaving_per_month": plain(zone["users_leaving_per_month"]),
        "cores": needed,
        "cores_sized": cores,
        "binding": max(metrics, key=lambda path: (metrics[path]["cores"], metrics[path]["load"])),
        "users_per_core": -(-users // cores),
        "users_per_core_at_most": min(capacity for capacity in capacities if capacity is not None),
        "metrics": metrics,
        "machine": _core_machine(zone, cores, metrics, assumptions),
    }


def _plan(
    zones: Mapping[str, tuple[Zone, list[Load]]],
    limits: Mapping[str, Decimal],
    assumptions: Mapping[str, Decimal],
    environment: str,
    present: Mapping[str, int],
    followers: int | None,
    web_delegated: bool,
) -> dict[str, Any]:
    rules = _metric_rules(limits)
    plans = {
        name: _zone_plan(zone, loads, assumptions, present.get(name, 0), rules) for name, (zone, loads) in zones.items()
    }
    cores = 0
    for plan in plans.values():
        plan["core_names"] = [core_name(cores + index + 1) for index in range(plan["cores"])]
        cores += plan["cores"]
    users = sum(plan["users"] for plan in plans.values())
    scenario = _scenario(environment, len(zones), cores)
    registry: dict[str, Any] = {"count": 1, "rule": "one registry", "source": f"{GUIDE}, Proof of Concept Installation"}
    if cores > 1:
        registry.update(
            count=2, rule="a leader and a follower: load is partitioned", source=f"{GUIDE}, Partitioning for Load"
        )
    elif environment == "production":
        registry.update(
            count=2, rule="a leader and a follower: no single point of failure", source=f"{GUIDE}, Overview"
        )
    registry["machine"] = _registry_machine(Decimal(users), assumptions)
    web: dict[str, Any] = {"count": 0 if web_delegated else 1, "machine": MINIMUM_MACHINE["web"]}
    web["rule"] = "delegated to a static web server" if web_delegated else "one server for static pages"
    web["source"] = f"{GUIDE}, Overview"

    warnings = [
        warning
        for name, (zone, loads) in zones.items()
        for warning in _zone_warnings(name, zone, loads, plans[name]["users_per_core"], plans[name]["cores_sized"])
    ]
    if users > MANY_USERS:
        text = f"{users} users in all: above {MANY_USERS}, ask Pryv for figures for the registry"
        warnings.append({"where": "privacy_zones", "text": text, "source": f"{GUIDE}, Registry Role Sizing"})
    if followers == 0 and cores > 1:
        text = (
            f"load is partitioned over {cores} cores, but the registry has no follower: it is a single point of failure"
        )
        warnings.append({"where": "registry", "text": text, "source": f"{GUIDE}, Partitioning for Load"})

    if scenario["name"] == "development":
        (only,) = plans.values()
        machines = [_order("web, registry, core", 1, _single_machine(only["machine"]), next(iter(plans)))]
    else:
        machines = [_order("web", web["count"], web["machine"])] if web["count"] else []
        machines.append(_order("registry", registry["count"], registry["machine"]))
        machines += [_order("core", plan["cores"], plan["machine"], name) for name, plan in plans.items()]
    totals = {resource: sum(line["count"] * line[resource] for line in machines) for resource in RESOURCES}
    return {
        "environment": environment,
        "scenario": scenario,
        "zones": plans,
        "registry": registry,
        "web": web,
        "machines": machines,
        "totals": {
            "users": users,
            "cores": cores,
            "machines": sum(line["count"] for line in machines),
            **totals,
        },
        "warnings": warnings,
        "limits": {key: plain(value) for key, value in limits.items()},
        "assumptions": {key: plain(value) for key, value in assumptions.items()},
    }


def _order(role: str, count: int, machine: Mapping[str, Figure], zone: str | None = None) -> dict[str, Any]:
    """One line of the list of machines to order."""
    figures: dict[str, Any] = {resource: machine[resource]["value"] for resource in RESOURCES}
    return {"role": role, "zone": zone, "count": count, **figures}


# --- the forecast ----------------------------------------------------------------------------------


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


def _month(start: str, later: int) -> str:
    """Return the month that is `later` months after `start`, both as YYYY-MM."""
    year, month = divmod(int(start[:4]) * 12 + int(start[5:]) - 1 + later, 12)
    return f"{year:04}-{month + 1:02}"


def _cores_for(zone: Zone, users: int, limits: Mapping[str, Decimal]) -> tuple[int, str]:
    """Return the cores that another population of the zone needs, and the metric that decides."""
    most = max(_loads({**zone, "users": Decimal(users)}, limits), key=lambda load: load.cores)
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
    needs = [_cores_for(zone, _population(zone, month), limits) for month in range(months + 1)]
    cores = [count for count, _ in needs]
    with_additions, without = _live(zone, cores), _live(zone, cores[:1] * len(cores))
    at_most = min(within for load in _loads(zone, limits) if (within := load.users_within(1)) is not None)
    return {
        "next_core": _next_core(zone, limits, start),
        "additions": [
            {
                "month": _month(start, month),
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
            next((_month(start, month) for month, users in enumerate(without) if users[core] >= at_most), None)
            for core in range(cores[0])
        ],
        "history": [
            {
                "month": _month(start, month),
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
    loads = _loads(zone, limits)
    cores = _cores(loads)
    most = min(within for load in loads if (within := load.users_within(cores)) is not None)
    months = ceiling_of_ratio(most + 1 - zone["users"], growth)
    needed, metric = _cores_for(zone, _population(zone, months), limits)
    return {
        "month": _month(start, months),
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
        cores = _cores_for(zone, _population(zone, months), limits)[0] if loads else 0
        if _cores(loads) <= MOST_CORES < cores:
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
        zones, limits = _read_platform(privacy_zones, core_limits, problems)
        _read_settings(assumptions, ASSUMPTIONS, "capacity_assumptions", problems)
        problems += _environment_problems(environment)
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
        zones, limits = _read_platform(privacy_zones, core_limits, problems)
        problems += _forecast_problems(zones, limits, start, months)
        _raise(problems)
        forecasts = {name: _zone_forecast(zone, limits, start, months) for name, (zone, _) in zones.items()}
    return {"start": start, "months": months, "zones": forecasts}


# --- the inventory against the plan ---------------------------------------------------------------

MEBIBYTE = 2**20
GIGABYTE = 10**9
# What of a machine's nominal size its operating system must be able to use: kernel and file system keep some.
USABLE_SHARE = 0.9


def _is_single_node(topology: Mapping[str, Any]) -> bool:
    return any({"web", "registry", "core"} <= set(host["roles"]) for host in topology["hosts"].values())


def _free_core_name(taken: Iterable[str]) -> str:
    """Return the first name of a core that no host has."""
    names = set(taken)
    return next(name for index in itertools.count(1) if (name := core_name(index)) not in names)


def _zone_problems(
    name: str, plan: Mapping[str, Any], topology: Mapping[str, Any]
) -> Iterable[tuple[Severity, str, str]]:
    """Compare the cores that a zone has with those that it needs: severity, problem, remedy."""
    present, needed = topology["zones"].get(name, []), plan["cores"]
    metric = plan["metrics"][plan["binding"]]
    why = f"{metric['label'].lower()} ({plan['binding']}): {metric['demand']} {metric['unit']} demanded"
    why += f", {metric['limit']} on one core" if metric["limit"] else ""
    if len(present) < needed:
        line = f"{_free_core_name(topology['hosts'])}: {{ansible_host: ADDRESS}}"
        yield (
            "error",
            f"needs {needed} cores and has {len(present)} ({', '.join(present) or 'none'}); what decides is {why}",
            f"add to the hosts of the group whose privacy_zone is {name}: `{line}`",
        )
        return
    if len(present) > needed:
        yield "note", f"has {len(present)} cores, the plan needs {needed}; what decides is {why}", "nothing to do"
    draining = [core for core in present if core in topology["draining"]]
    if draining and len(present) - len(draining) < needed:
        text = (
            f"needs {needed} cores, but new users go to {len(present) - len(draining)} ({', '.join(draining)} drains)"
        )
        yield "warning", text, "add a core before new users fill the others"


def _needs(roles: Iterable[str], zone: str | None, plan: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    """Return what a host of these roles needs by resource, and the rule that says so.

    Roles on one host share its CPUs, RAM and OS disk, as the guide's single node does; their data adds up.
    """
    machines = []
    if "web" in roles:
        machines.append(plan["web"]["machine"])
    if "registry" in roles:
        machines.append(plan["registry"]["machine"])
    if "core" in roles and zone in plan["zones"]:
        machines.append(plan["zones"][zone]["machine"])
    needs = {}
    for resource in RESOURCES if machines else ():
        figures = [machine[resource] for machine in machines]
        largest = max(figures, key=lambda figure: int(figure["value"]))
        needs[resource] = (largest["value"], largest["rule"])
        if resource == "data_disk_gb" and "core" not in roles:
            needs[resource] = (sum(figure["value"] for figure in figures), largest["rule"])
    return needs


def _machine_problems(
    host: str, facts: Mapping[str, Any], needs: Mapping[str, tuple[int, str]]
) -> Iterable[tuple[str, str]]:
    """Compare what a machine has with what it needs: problem, remedy. What is not known is not judged."""
    has = {"cpus": facts.get("cpus"), "os_disk_gb": facts.get("os_disk_gb"), "data_disk_gb": facts.get("data_disk_gb")}
    ram = facts.get("ram_mb")
    has["ram_gb"] = None if ram is None else ram * MEBIBYTE / GIGABYTE
    wanted = dict(needs)
    if has["data_disk_gb"] is None and has["os_disk_gb"] is not None and "data_disk_gb" in needs:
        # Data lies on the only disk there is.
        (system, _), (data, rule) = needs["os_disk_gb"], needs["data_disk_gb"]
        wanted["os_disk_gb"] = (system + data, f"{system} for the system + {data} for data ({rule})")
    for resource, (need, rule) in wanted.items():
        share = 1 if resource == "cpus" else USABLE_SHARE
        figure = has[resource]
        if figure is not None and figure < need * share:
            yield (
                f"has {figure:.3g} {RESOURCES[resource]} and needs {need} ({rule})",
                f"give {host} at least {need} {RESOURCES[resource]}, or change the requirements in privacy_zones",
            )


def capacity_problems(
    privacy_zones: Mapping[str, Any] | None,
    topology: Mapping[str, Any],
    core_limits: Mapping[str, Any] | None = None,
    accept_shortfall: Iterable[str] | None = None,
    machines: Mapping[str, Mapping[str, Any]] | None = None,
    environment: str = "production",
    assumptions: Mapping[str, Any] | None = None,
) -> list[Problem]:
    """Compare an inventory with its plan.

    Args:
        privacy_zones: requirements by zone; wrong ones are reported like every other problem.
        topology: the platform as the inventory has it (docs/architecture.md).
        core_limits: limits of one core that differ from the guide's.
        accept_shortfall: zones in which fewer cores, smaller cores or a single node are accepted.
        machines: what is known of hosts, by name: cpus, ram_mb (MiB), os_disk_gb and data_disk_gb (10^9 bytes; none
            when data lies on the OS disk). Hosts and figures that are not there are not judged.
        environment: development, integration or production.
        assumptions: figures that differ from our choices where the guide gives none.

    Returns:
        What is wrong, each a mapping of severity (error, warning or note), where, problem and remedy.
    """
    accepted, covered = set(accept_shortfall or ()), set[str]()
    problems: list[Problem] = []
    with decimal.localcontext(EXACT):
        zones, limits = _read_platform(privacy_zones, core_limits, problems)
        chosen = _read_settings(assumptions, ASSUMPTIONS, "capacity_assumptions", problems)
        if problems:
            return problems
        cores = {name: len(present) for name, present in topology["zones"].items()}
        followers = len(topology["followers"])
        plan = _plan(zones, limits, chosen, environment, cores, followers, not topology["web"]["hosts"])

    def note(severity: Severity, where: str, problem: str, remedy: str, concerned: Iterable[str] = ()) -> None:
        """Add a problem; an error that concerns accepted zones only is accepted, and said all the same."""
        concerns = set(concerned)
        if severity == "error" and concerns and concerns <= accepted:
            covered.update(concerns)
            severity, problem = "warning", f"{problem}; accepted by capacity_accept_shortfall"
        elif severity == "error" and concerns:
            names = ", ".join(sorted(concerns))
            remedy = f"{remedy}; or accept the shortfall, knowingly: `capacity_accept_shortfall: [{names}]`"
        problems.append(make_problem(severity, where, problem, remedy))

    for name, zone in plan["zones"].items():
        for severity, problem, remedy in _zone_problems(name, zone, topology):
            note(severity, f"privacy_zones.{name}", problem, remedy, [name])
    for name in topology["zones"]:
        if name not in zones:
            remedy = "write down its requirements, or correct privacy_zone of its group"
            note("error", f"privacy_zones.{name}", "missing, but the zone has cores", remedy)
    if _is_single_node(topology) and plan["scenario"]["name"] != "development":
        reasons = "; ".join(plan["scenario"]["because"])
        note("error", "inventory", f"one host has all roles ({reasons})", "give each role a machine of its own", zones)
    for host, entry in topology["hosts"].items():
        name = entry.get("privacy_zone")
        needs = _needs(entry["roles"], name, plan)
        for problem, remedy in _machine_problems(host, (machines or {}).get(host, {}), needs):
            note("error", host, problem, remedy, [name] if name else [])
    for name in sorted(accepted - covered):
        problem = f"{name!r} has no shortfall" if name in zones else f"{name!r} is no zone of privacy_zones"
        note("warning", "capacity_accept_shortfall", problem, "take it off that list")
    for warning in plan["warnings"]:
        note("warning", warning["where"], warning["text"], f"see {warning['source']}")
    return problems
