"""An inventory beside its plan."""

from __future__ import annotations

import decimal
import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pryv_platform.capacity.guide import ASSUMPTIONS, RESOURCES
from pryv_platform.capacity.machines import Figure, backup_machine, monitoring_machine
from pryv_platform.capacity.numbers import EXACT
from pryv_platform.capacity.plan import core_name, platform_plan
from pryv_platform.capacity.requirements import read_platform, read_settings
from pryv_platform.problems import Problem, Severity, make_problem

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


def _other_machine(
    host: str, plan: Mapping[str, Any], topology: Mapping[str, Any], assumptions: Mapping[str, Decimal]
) -> dict[str, Figure]:
    """Size a host that keeps the backups of others, as the inventory has them, or monitors them; empty for others."""
    roles = topology["hosts"][host]["roles"]
    if "monitoring" in roles:
        return monitoring_machine(len(topology["hosts"]), list(topology["logs"].values()).count(host))
    if "backup" not in roles:
        return {}
    disks = {
        core: zone["machine"]["data_disk_gb"]["value"]
        for name, zone in plan["zones"].items()
        for core in topology["zones"].get(name, ())
    }
    disks[topology["leader"]] = plan["registry"]["machine"]["data_disk_gb"]["value"]
    return backup_machine(
        [disks[other] for other, to in topology["backups"].items() if to == host and other in disks], assumptions
    )


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


@dataclass
class _Findings:
    """What is wrong, with what operators accept of it.

    Attributes:
        accepted: Zones in which a shortfall is accepted.
        covered: Those of them that have one.
        problems: All that was found.
    """

    accepted: Collection[str]
    covered: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def note(self, severity: Severity, where: str, problem: str, remedy: str, concerned: Iterable[str] = ()) -> None:
        """Add a problem; an error that concerns accepted zones only is accepted, and said all the same."""
        concerns = set(concerned)
        if severity == "error" and concerns and concerns <= set(self.accepted):
            self.covered.update(concerns)
            severity, problem = "warning", f"{problem}; accepted by capacity_accept_shortfall"
        elif severity == "error" and concerns:
            names = ", ".join(sorted(concerns))
            remedy = f"{remedy}; or accept the shortfall, knowingly: `capacity_accept_shortfall: [{names}]`"
        self.problems.append(make_problem(severity, where, problem, remedy))


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
    problems: list[Problem] = []
    with decimal.localcontext(EXACT):
        zones, limits = read_platform(privacy_zones, core_limits, problems)
        chosen = read_settings(assumptions, ASSUMPTIONS, "capacity_assumptions", problems)
        if problems:
            return problems
        cores = {name: len(present) for name, present in topology["zones"].items()}
        followers = len(topology["followers"])
        plan = platform_plan(zones, limits, chosen, environment, cores, followers, not topology["web"]["hosts"])
        others = {host: _other_machine(host, plan, topology, chosen) for host in topology["hosts"]}
    findings = _Findings(set(accept_shortfall or ()))
    _compare_zones(plan, topology, findings)
    _compare_machines(plan, topology, machines or {}, others, findings)
    for name in sorted(set(findings.accepted) - findings.covered):
        problem = f"{name!r} has no shortfall" if name in zones else f"{name!r} is no zone of privacy_zones"
        findings.note("warning", "capacity_accept_shortfall", problem, "take it off that list")
    for warning in plan["warnings"]:
        findings.note("warning", warning["where"], warning["text"], f"see {warning['source']}")
    return findings.problems


def _compare_zones(plan: Mapping[str, Any], topology: Mapping[str, Any], findings: _Findings) -> None:
    """Note zones that have too few cores or no requirements, and one host where it takes several."""
    for name, zone in plan["zones"].items():
        for severity, problem, remedy in _zone_problems(name, zone, topology):
            findings.note(severity, f"privacy_zones.{name}", problem, remedy, [name])
    for name in topology["zones"]:
        if name not in plan["zones"]:
            remedy = "write down its requirements, or correct privacy_zone of its group"
            findings.note("error", f"privacy_zones.{name}", "missing, but the zone has cores", remedy)
    if _is_single_node(topology) and plan["scenario"]["name"] != "development":
        problem = f"one host has all roles ({'; '.join(plan['scenario']['because'])})"
        findings.note("error", "inventory", problem, "give each role a machine of its own", plan["zones"])


def _compare_machines(
    plan: Mapping[str, Any],
    topology: Mapping[str, Any],
    machines: Mapping[str, Mapping[str, Any]],
    others: Mapping[str, Mapping[str, Any]],
    findings: _Findings,
) -> None:
    """Note machines that are smaller than planned; what keeps backups or monitors can do so until it is full."""
    for host, entry in topology["hosts"].items():
        zone, facts = entry.get("privacy_zone"), machines.get(host, {})
        for problem, remedy in _machine_problems(host, facts, _needs(entry["roles"], zone, plan)):
            findings.note("error", host, problem, remedy, [zone] if zone else [])
        needs = {resource: (figure["value"], figure["rule"]) for resource, figure in others[host].items()}
        for problem, remedy in _machine_problems(host, facts, needs):
            findings.note("warning", host, problem, remedy)
