"""What is asked of a platform for people's data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pryv_platform.backup import backed_up
from pryv_platform.inventory import Inventory
from pryv_platform.problems import Problem, Severity, make_error, make_problem
from pryv_platform.topology.reader import TO_MONITORING

# What is asked of a platform for people's data, and by which name an operator who knows why does without.
VARIABLES = (
    "core_audit_methods",
    "core_settings",
    "data_disk_device",
    "data_disk_unlock",
    "hardening_journal_forward_to",
)
AUDITED = (
    *(f"events.{name}" for name in ("get", "getOne", "create", "update", "delete", "getAttachment")),
    *(f"accesses.{name}" for name in ("create", "update", "delete")),
    "auth.login",
)
WAIVERS = ("audit_trail", "backup", "journal_forwarding", "audit_trail_forwarding", "tpm2", "monitoring")
LESS: Mapping[Severity, Severity] = {"error": "warning", "warning": "note"}


def _unaudited(methods: object) -> list[str]:
    """Return those of `AUDITED` that a list of methods leaves out; what is no list is reported with other types."""
    if not isinstance(methods, Sequence) or isinstance(methods, str) or "all" in methods:
        return []
    return [name for name in AUDITED if name not in methods and f"{name.partition('.')[0]}.all" not in methods]


def _audit_problems(host: str, variables: Mapping[str, Any]) -> Iterable[tuple[str, Problem]]:
    """Yield what a core's audit trail lacks, each with the name by which it can be waived."""
    lost = "who has read or changed people's data, or may, cannot be told"
    if missing := _unaudited(variables.get("core_audit_methods", ["all"])):
        found = f"leaves out {', '.join(missing)}: {lost}"
        problem = make_error(f"{host}: core_audit_methods", found, "add them, or set it to [all]")
        yield "audit_trail", problem
    settings = variables.get("core_settings")
    core = settings.get("core") if isinstance(settings, Mapping) else None
    if isinstance(core, Mapping) and "audit" in core:
        found = f"replaces what core_audit_methods says: perhaps {lost}"
        problem = make_error(f"{host}: core_settings.core.audit", found, "take it out, and set core_audit_methods")
        yield "audit_trail", problem


def _production_problems(host: str, variables: Mapping[str, Any]) -> Iterable[tuple[str, Problem]]:
    """Yield what a host of a production platform lacks, each with the name by which it can be waived."""
    if not variables.get("hardening_journal_forward_to"):
        yield (
            "journal_forwarding",
            make_error(
                f"{host}: hardening_journal_forward_to",
                "sends it nowhere: who becomes root there can change what the host recorded, the audit trail included",
                f"give `{TO_MONITORING}` for another host of group monitoring, or the URL of a systemd-journal-remote",
            ),
        )
    if variables.get("data_disk_device") and variables.get("data_disk_unlock", "tpm2") == "tpm2":
        yield (
            "tpm2",
            make_problem(
                "warning",
                f"{host}: data_disk_unlock",
                "is tpm2: who steals the whole host and changes its system disk has the data disk opened too",
                "where a host may be stolen, take tang or operator (docs/operations/data-disk.md)",
            ),
        )


def production_problems(
    values: Mapping[str, Mapping[str, Any]], environment: object, waivers: object, cores: Iterable[str]
) -> list[Problem]:
    """Check what a platform for people's data needs beyond what any platform does.

    Args:
        values: By host, `core_audit_methods`, `core_settings`, `hardening_journal_forward_to`, `data_disk_device` and
            `data_disk_unlock`, as far as the inventory sets them; see `Inventory.known`.
        environment: `pryv_environment`; nothing is asked of other platforms than those for production.
        waivers: Why the platform does without, by the names of `WAIVERS`. It is said in every report.
        cores: The hosts that have an audit trail of people's data.
    """
    problems = _waiver_problems(waivers)
    if environment != "production":
        return problems
    audited = frozenset(cores)
    for host, variables in values.items():
        found = [*(_audit_problems(host, variables) if host in audited else ()), *_production_problems(host, variables)]
        problems += [_waived(name, problem, waivers) for name, problem in found]
    return problems


def _waiver_problems(waivers: object) -> list[Problem]:
    """Return what is wrong with what the operator says of doing without."""
    where, names = "preflight_waivers", ", ".join(WAIVERS)
    if waivers is None:
        return []
    if not isinstance(waivers, Mapping):
        return [make_error(where, "is no mapping", f"give a reason each by the names {names}")]
    unknown = [
        make_error(f"{where}.{name}", f"is none of {names}", "take it out, or write it as one of them")
        for name in waivers
        if name not in WAIVERS
    ]
    return unknown + [
        make_error(f"{where}.{name}", "gives no reason", "write the reason as a text, or take it out")
        for name in WAIVERS
        if name in waivers and not (isinstance(waivers[name], str) and waivers[name].strip())
    ]


def _waived(name: str, problem: Problem, waivers: object) -> Problem:
    """Return a problem as it is with the operator's reason to do without, or with how to give one."""
    reason = waivers.get(name) if isinstance(waivers, Mapping) else None
    if isinstance(reason, str) and reason.strip():
        found = f"{problem['problem']}; waived: {reason.strip()}"
        return {**problem, "severity": LESS[problem["severity"]], "problem": found}
    remedy = f"{problem['remedy']}; or say why not: `preflight_waivers: {{{name}: REASON}}`"
    return {**problem, "remedy": remedy}


def audit_forwarding_problems(
    results: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, Mapping[str, Any]],
    topology: Mapping[str, Any],
    systems: Iterable[str],
    waivers: object = None,
) -> list[Problem]:
    """Check that cores whose journal is sent on send their audit trail, too, which has a journal of its own.

    Args:
        results: Results of machine_survey by host; those without a survey are passed over.
        values: By host, `hardening_journal_forward_to`, as far as the inventory sets it.
        topology: The topology fact.
        systems: The systems, such as debian-12, whose systemd-journal-upload sends the host's own journal alone.
        waivers: As for `production_problems`.
    """
    one_journal = frozenset(systems)
    severity: Severity = "error" if topology["environment"] == "production" else "warning"
    problems = []
    for host, result in results.items():
        system = result.get("survey", {}).get("system", {})
        name = f"{system.get('ID')}-{system.get('VERSION_ID')}"
        receiver = values.get(host, {}).get("hardening_journal_forward_to")
        if receiver and name in one_journal and "core" in topology["hosts"][host]["roles"]:
            problem = make_problem(
                severity,
                f"{host}: hardening_journal_forward_to",
                f"sends the host's journal on without the audit trail of people's data, since the systemd of {name} is "
                "older than 254: whoever becomes root there can change it",
                "take Debian 13 or Ubuntu 24.04 for cores",
            )
            problems.append(_waived("audit_trail_forwarding", problem, waivers))
    return problems


def problems(inventory: Inventory, waivers: object) -> list[Problem]:
    """Check what the inventory lacks of what is asked of a platform for people's data.

    Args:
        inventory: What the operator wrote down.
        waivers: Why the platform does without, by the names of `WAIVERS`.
    """
    hosts = inventory.members("all")
    environments = inventory.known(hosts[:1], ["pryv_environment"]).values()
    environment = next((found["pryv_environment"] for found in environments if found), "production")
    found = production_problems(_as_sent(inventory, hosts), environment, waivers, inventory.members("core"))
    if environment != "production":
        return found
    return [*found, *_backup_problems(inventory, waivers), *_monitoring_problems(inventory, waivers)]


def _as_sent(inventory: Inventory, hosts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return `VARIABLES` by host; nobody sends a journal to the hosts that monitor when there is none but itself."""
    logs, name = inventory.topology.get("logs", {}), "hardening_journal_forward_to"
    return {
        host: {**own, name: ""} if own.get(name) == TO_MONITORING and host not in logs else own
        for host, own in inventory.known(hosts, VARIABLES).items()
    }


def _backup_problems(inventory: Inventory, waivers: object) -> list[Problem]:
    """Return what has no backup, and is lost with its machine."""
    kept = backed_up(inventory)
    return [
        _waived(
            "backup",
            make_error(
                host,
                "has no backup: what people have there is lost with the machine",
                "add a host to group backup, or set backup_repository (docs/backups.md)",
            ),
            waivers,
        )
        for host in [*inventory.members("core"), *_leaders(inventory)]
        if host not in kept
    ]


def _leaders(inventory: Inventory) -> list[str]:
    """Return the registry's leader, as far as it is clear which one that is; followers have a copy of what it has."""
    hosts = inventory.members("registry")
    roles = inventory.known(hosts, ["registry_role"])
    leaders = [host for host in hosts if roles.get(host, {}).get("registry_role") == "leader"]
    return leaders or list(hosts if len(hosts) == 1 else ())


def _monitoring_problems(inventory: Inventory, waivers: object) -> list[Problem]:
    """Return that nobody watches, where that is so."""
    if inventory.members("monitoring"):
        return []
    found = "has no host: nobody is told when the platform is down, before its users are"
    problem = make_problem("warning", "group monitoring", found, "add one (docs/operations/alerts.md)")
    return [_waived("monitoring", problem, waivers)]
