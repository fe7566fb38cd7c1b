"""The whole platform that requirements take."""

from __future__ import annotations

import decimal
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Any

from pryv_platform.capacity.guide import (
    ASSUMPTIONS,
    CLUSTER_SIZING,
    GUIDE,
    MANY_POINTS,
    MANY_USERS,
    METRICS,
    OURS,
    RESOURCES,
    SCENARIOS,
    USERS,
)
from pryv_platform.capacity.machines import (
    MINIMUM_MACHINE,
    Figure,
    backup_machine,
    core_machine,
    monitoring_machine,
    registry_machine,
    single_machine,
)
from pryv_platform.capacity.numbers import EXACT, plain
from pryv_platform.capacity.requirements import (
    Load,
    Zone,
    cores_for,
    environment_problems,
    raise_all,
    read_platform,
    read_settings,
)
from pryv_platform.problems import Problem

#: Groups of hosts that the guide does not have.
OTHERS = frozenset({"backup", "monitoring"})


def core_name(index: int) -> str:
    """Return co1, co2 ... c999: a core's name has at most four characters, for longer ones could be a user's."""
    return f"co{index}" if index < 100 else f"c{index}"


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


def capacity_plan(
    privacy_zones: Mapping[str, Any],
    core_limits: Mapping[str, Any] | None = None,
    environment: str = "production",
    assumptions: Mapping[str, Any] | None = None,
    cores: Mapping[str, int] | None = None,
    followers: int | None = None,
    web_delegated: bool = False,
    groups: Collection[str] = (),
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
        groups: groups of the inventory that have hosts. With `backup` or `monitoring` among them, and in production
            anyway, such machines are planned.

    Returns:
        Scenario, zones (cores, binding metric, every metric's demand and headroom, the core's machine), registry, web,
        backup (a machine by zone), monitoring, machines to order, totals and warnings. Every figure carries its rule
        and source.

    Raises:
        InputError: an argument is wrong; lists every problem.
    """
    problems: list[Problem] = []
    with decimal.localcontext(EXACT):
        zones, limits = read_platform(privacy_zones, core_limits, problems)
        chosen = read_settings(assumptions, ASSUMPTIONS, "capacity_assumptions", problems)
        problems += environment_problems(environment)
        raise_all(problems)
        planned = set(OTHERS if environment == "production" else groups) & OTHERS
        return platform_plan(zones, limits, chosen, environment, cores or {}, followers, web_delegated, planned)


def _zone_plan(
    zone: Zone, loads: list[Load], assumptions: Mapping[str, Decimal], present: int, rules: Mapping[str, str]
) -> dict[str, Any]:
    needed = cores_for(loads)
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
        "machine": core_machine(zone, cores, metrics, assumptions),
    }


def platform_plan(
    zones: Mapping[str, tuple[Zone, list[Load]]],
    limits: Mapping[str, Decimal],
    assumptions: Mapping[str, Decimal],
    environment: str,
    present: Mapping[str, int],
    followers: int | None,
    web_delegated: bool,
    others: Collection[str] = (),
) -> dict[str, Any]:
    """Derive the platform as `capacity_plan` does, from what has been read; call within EXACT."""
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
    registry, web = _registry(environment, cores, users, assumptions), _web(delegated=web_delegated)
    warnings = [
        warning
        for name, (zone, loads) in zones.items()
        for warning in _zone_warnings(name, zone, loads, plans[name]["users_per_core"], plans[name]["cores_sized"])
    ]
    machines = _machines(scenario["name"], plans, registry, web)
    backup = _backup(plans, registry, assumptions) if "backup" in others else {}
    machines += [_order("backup", 1, machine, zone) for zone, machine in backup.items()]
    monitoring = None
    if "monitoring" in others:
        monitoring = monitoring_machine(sum(line["count"] for line in machines) + 1)
        machines.append(_order("monitoring", 1, monitoring))
    return {
        "environment": environment,
        "scenario": scenario,
        "zones": plans,
        "registry": registry,
        "web": web,
        "backup": backup,
        "monitoring": monitoring,
        "machines": machines,
        "totals": {
            "users": users,
            "cores": cores,
            "machines": sum(line["count"] for line in machines),
            **{resource: sum(line["count"] * line[resource] for line in machines) for resource in RESOURCES},
        },
        "warnings": warnings + _registry_warnings(users, cores, followers),
        "limits": {key: plain(value) for key, value in limits.items()},
        "assumptions": {key: plain(value) for key, value in assumptions.items()},
    }


def _registry(environment: str, cores: int, users: int, assumptions: Mapping[str, Decimal]) -> dict[str, Any]:
    """Say how many registry hosts there are, why, and how large they are."""
    count, rule, source = 1, "one registry", "Proof of Concept Installation"
    if cores > 1:
        count, rule, source = 2, "a leader and a follower: load is partitioned", "Partitioning for Load"
    elif environment == "production":
        count, rule, source = 2, "a leader and a follower: no single point of failure", "Overview"
    machine = registry_machine(Decimal(users), assumptions)
    return {"count": count, "rule": rule, "source": f"{GUIDE}, {source}", "machine": machine}


def _web(*, delegated: bool) -> dict[str, Any]:
    """Say whether there is a web host, and how large it is."""
    return {
        "count": 0 if delegated else 1,
        "machine": MINIMUM_MACHINE["web"],
        "rule": "delegated to a static web server" if delegated else "one server for static pages",
        "source": f"{GUIDE}, Overview",
    }


def _backup(
    plans: Mapping[str, Mapping[str, Any]], registry: Mapping[str, Any], assumptions: Mapping[str, Decimal]
) -> dict[str, dict[str, Figure]]:
    """Size a backup host for each zone, whose data may lie nowhere else; the registry's goes to the first of them."""
    found = {}
    elsewhere = [int(registry["machine"]["data_disk_gb"]["value"])]
    for zone, plan in plans.items():
        disks = [int(plan["machine"]["data_disk_gb"]["value"])] * plan["cores_sized"]
        found[zone] = backup_machine([*disks, *elsewhere], assumptions)
        elsewhere = []
    return found


def _registry_warnings(users: int, cores: int, followers: int | None) -> list[Figure]:
    """Say what is allowed but unwise about the registry."""
    found = []
    if users > MANY_USERS:
        text = f"{users} users in all: above {MANY_USERS}, ask Pryv for figures for the registry"
        found.append({"where": "privacy_zones", "text": text, "source": f"{GUIDE}, Registry Role Sizing"})
    if followers == 0 and cores > 1:
        text = (
            f"load is partitioned over {cores} cores, but the registry has no follower: it is a single point of failure"
        )
        found.append({"where": "registry", "text": text, "source": f"{GUIDE}, Partitioning for Load"})
    return found


def _machines(
    scenario: str, plans: Mapping[str, Mapping[str, Any]], registry: Mapping[str, Any], web: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """List the machines to order."""
    if scenario == "development":
        ((zone, only),) = plans.items()
        return [_order("web, registry, core", 1, single_machine(only["machine"]), zone)]
    return [
        *([_order("web", web["count"], web["machine"])] if web["count"] else []),
        _order("registry", registry["count"], registry["machine"]),
        *(_order("core", plan["cores"], plan["machine"], name) for name, plan in plans.items()),
    ]


def _order(role: str, count: int, machine: Mapping[str, Figure], zone: str | None = None) -> dict[str, Any]:
    """One line of the list of machines to order."""
    figures: dict[str, Any] = {resource: machine[resource]["value"] for resource in RESOURCES}
    return {"role": role, "zone": zone, "count": count, **figures}
