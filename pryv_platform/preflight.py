"""What can be known to be wrong before a host is touched.

Each check is a pure function that returns problems: mappings of `severity` (error, warning or note), `where`, `problem`
and `remedy`. An error keeps the platform from being provisioned; `preflight_report` makes one text of all of them.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pryv_platform.inventory import Inventory, UnreadableError
from pryv_platform.problems import Problem, Severity, make_error, make_problem

#: Says what a role's documentation finds wrong with a variable of this name, documented like this, of this value.
Validate = Callable[[str, Mapping[str, Any], object], str | None]

# Pryv asks for keys of 20 to 50 letters and digits where it says so; our own have 43.
SHORTEST_SECRET, LONGEST_SECRET = 20, 50
FEWEST_DIFFERENT_CHARACTERS = 10
# What all cores shared once; see playbooks/secrets.yml.
SHARED_KEYS = ("core_system_key", "register_system_key")

SYSTEMS = {("debian", "12"), ("debian", "13"), ("ubuntu", "22.04"), ("ubuntu", "24.04")}
SYSTEM_NAMES = "Debian 12 or 13, Ubuntu 22.04 or 24.04"
OLDEST_PYTHON = [3, 10]
# What an installation of packages and images takes of the OS disk, in units of 10^9 bytes.
LEAST_FREE_GB = 3
# File systems that forget, that are elsewhere, or that have no owners: databases and Docker keep nothing safe there.
UNFIT_FILE_SYSTEMS = (
    *("9p", "ceph", "cifs", "exfat", "iso9660", "nfs", "nfs4", "ntfs3", "ramfs", "smb3", "squashfs", "tmpfs", "vfat"),
    "fuse",
)
# What to do about another firewall; of those that have no name, their table is deleted.
DISABLING = {
    "ufw": "ufw disable",
    "firewalld": "systemctl disable --now firewalld",
    "iptables": "iptables -P INPUT ACCEPT, and take out what loads its rules at boot",
}
# Who may become root by the distributions' own /etc/sudoers.
SUDO_GROUPS = ("sudo", "admin", "wheel")

# Ports by role, and where they are wanted: nginx's everywhere or outside, on addresses that others reach; those of
# containers inside, on 127.0.0.1. Of a range, which is as long as a core has processes, only the first port is certain.
_HTTP = {("tcp", 443): "everywhere", ("tcp", 80): "everywhere"}
PORTS: dict[str, dict[tuple[str, int], str]] = {
    "web": {**_HTTP, ("tcp", 9081): "inside"},
    "registry": {
        **_HTTP,
        ("udp", 53): "outside",
        ("tcp", 6380): "outside",
        ("tcp", 6379): "inside",
        ("tcp", 9000): "inside",
        ("udp", 5353): "inside",
    },
    "leader": {("tcp", 9025): "inside", ("tcp", 9080): "inside"},
    "core": {
        **_HTTP,
        ("tcp", 3000): "inside",
        ("tcp", 4000): "inside",
        ("tcp", 7000): "inside",
        ("tcp", 9100): "inside",
    },
}
# Which processes of a platform that has been provisioned have its ports.
OURS = {"everywhere": {"nginx"}, "outside": {"nginx"}, "inside": {"dockerd", "docker-proxy"}}


# -- from the inventory alone --------------------------------------------------------------------------------------


def _weakness(secret: object, owners: Mapping[str, str]) -> str:
    """Return what is wrong with a secret; nothing when it is strong and nobody else's."""
    text = str(secret)
    if not isinstance(secret, str) or not (text.isascii() and text.isalnum()):
        return "has other characters than letters and digits"
    if not SHORTEST_SECRET <= len(text) <= LONGEST_SECRET:
        return f"has {len(text)} characters, not {SHORTEST_SECRET} to {LONGEST_SECRET}"
    if len(set(text)) < FEWEST_DIFFERENT_CHARACTERS:
        return "repeats few characters"
    return f"is the same as {owners[text]}" if text in owners else ""


def secret_problems(
    given: Mapping[str, object],
    wanted: Mapping[str, Iterable[str]],
    locked: Iterable[str] = (),
    complete: Iterable[str] = (),
) -> list[Problem]:
    """Check that the keys which machines share are there, strong, and each of its own; no value is ever named.

    Args:
        given: The variables that hold keys; None for one that the inventory has not.
        wanted: The names of the keys that each of these variables should have.
        locked: Paths of vaults that could not be read; what is missing may be in there.
        complete: Of these variables, those that may have no other names.
    """
    making = "run playbooks/secrets.yml, which makes it and leaves all others as they are"
    unlocking = "give its password: --ask-vault-pass or ANSIBLE_VAULT_PASSWORD_FILE"
    problems, owners = [make_error(path, "is locked", unlocking) for path in locked], dict[str, str]()
    is_locked = bool(problems)
    for variable, wanted_names in wanted.items():
        secrets, names = given[variable], list(wanted_names)
        if secrets is not None and not isinstance(secrets, Mapping):
            problems.append(make_error(variable, "is not a mapping", "write it as one `name: value` line each"))
            continue
        for name in names:
            where, value = f"{variable}.{name}", (secrets or {}).get(name)
            if value is None or value == "":
                if not is_locked:
                    problems.append(make_error(where, "is missing", making))
                continue
            weakness = _weakness(value, owners)
            if weakness:
                problems.append(make_error(where, weakness, f"take it out of the vault and {making}"))
            owners.setdefault(str(value), where)
        if variable in complete:
            problems += [_unwanted_secret(variable, name) for name in secrets or {} if name not in names]
    return problems


def _unwanted_secret(variable: str, name: object) -> Problem:
    remedy = "take it out, or give it a variable of its own"
    if name in SHARED_KEYS:
        remedy = "run playbooks/secrets.yml, which retires it (docs/operations/rotate-keys.md)"
    return make_error(f"{variable}.{name}", "is no secret of this toolkit", remedy)


def _options(specifications: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the variables that roles document, by name."""
    options: dict[str, dict[str, Any]] = {}
    for specification in specifications:
        for entry in specification["argument_specs"].values():
            options |= entry.get("options", {})
    return options


def _is_secret(option: Mapping[str, Any]) -> bool:
    return bool(option.get("no_log")) or any(map(_is_secret, option.get("options", {}).values()))


# Ansible takes a text for these, and templates then find "false" true.
NO_TEXTS = {"bool": "true or false", "int": "a number", "float": "a number"}


# One path may stand for a list of them.
EITHER = frozenset({"pryv_image_archive"})


def _items(option: Mapping[str, Any], value: object) -> Iterable[tuple[str, Mapping[str, Any], object]]:
    """Yield what is within a value: how a path to it goes on, what is documented of it, and itself."""
    if isinstance(value, list | tuple):
        inner = {"type": option.get("elements", "str"), "options": option.get("options", {})}
        yield from ((f"[{index}]", inner, item) for index, item in enumerate(value))
    elif isinstance(value, Mapping):
        yield from ((f".{key}", inner, value.get(key)) for key, inner in option.get("options", {}).items())


def _shape_problem(option: Mapping[str, Any], value: object) -> tuple[str, str] | None:
    """Return where, in a value or within it, a role takes a list or a mapping and gets one text or number, and which.

    Ansible makes a list of a text, which templates do not, and fails over a number in place of a mapping. Values are
    not repeated unless all that are right are documented.
    """
    kind, given = option.get("type", "str"), "a text" if isinstance(value, str) else "a number"
    if isinstance(value, bool):
        given = "true or false"
    if kind == "list" and isinstance(value, str | int | float):
        if isinstance(value, str) and option.get("choices"):
            return "", f"is the text {value!r}, and has to be a list: [{value}]"
        return "", f"is {given}, and has to be a list: in YAML each item in a line of its own, after a hyphen"
    if kind == "dict" and isinstance(value, str | int | float | list | tuple):
        given = "a list" if isinstance(value, list | tuple) else given
        return "", f"is {given}, and has to be a mapping: in YAML `name: value` lines"
    for path, inner, item in _items(option, value):
        if found := _shape_problem(inner, item):
            return path + found[0], found[1]
    return None


def _text_problem(option: Mapping[str, Any], value: object) -> str | None:
    """Return what is a text, in a value or within it, where a role takes a number, true or false."""
    kind = option.get("type", "str")
    if kind in NO_TEXTS and isinstance(value, str):
        return (
            f"{value!r} is a text; right is {NO_TEXTS[kind]}: no quotes in YAML, as Python writes it (True, 5) in INI"
        )
    return next((found for _, inner, item in _items(option, value) if (found := _text_problem(inner, item))), None)


def _wrong(name: str, option: Mapping[str, Any], value: object, validate: Validate) -> tuple[str, str | None]:
    """Return where within a variable its value is wrong, and what is."""
    either = name in EITHER and isinstance(value, str)
    if not either and (shape := _shape_problem(option, value)):
        return shape
    return "", validate(name, option, value) or _text_problem(option, value)


def variable_problems(
    inventory: Inventory,
    hosts: Sequence[str],
    specifications: Iterable[Mapping[str, Any]],
    others: Iterable[str],
    validate: Validate,
) -> list[Problem]:
    """Check the inventory's variables against what roles document: names that are nearly right, and wrong values.

    Args:
        inventory: What the operator wrote down.
        hosts: The hosts whose variables are checked.
        specifications: Content of the roles' meta/argument_specs.yml.
        others: Variables that are known and checked elsewhere.
        validate: Checks types, choices and what is required.
    """
    options = _options(specifications)
    checked_elsewhere = frozenset(others)
    known = [*options, *checked_elsewhere]
    problems: list[Problem] = []
    seen: list[tuple[str, Any]] = []
    for host in hosts:
        for name, value in inventory.raw[host].items():
            # Most variables are the same on all hosts: each value is looked at once.
            if name in checked_elsewhere or (name, value) in seen:
                continue
            if name in options:
                seen.append((name, value))
                if _is_secret(options[name]):
                    continue
                try:
                    within, wrong = _wrong(name, options[name], inventory.value(host, name), validate)
                except UnreadableError:
                    continue  # a template of something that only a run knows
                if wrong:
                    remedy = _unmarked(str(_first(options[name].get("description", "see the role's README"))))
                    problems.append(make_error(f"{host}: {name}{within}", wrong, remedy))
            elif not name.startswith("ansible_") and (near := difflib.get_close_matches(name, known, 1, 0.85)):
                seen.append((name, value))
                problems.append(
                    make_error(f"{host}: {name}", "is no variable of this toolkit", f"did you mean {near[0]}?")
                )
    return problems


def controller_files(values: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the files and folders on the controller that the inventory names.

    Args:
        values: By host, variables that hold a path or a list of paths; see `Inventory.known`.

    Returns:
        Mappings of `where` and `path`, each path once.
    """
    found: dict[str, str] = {}
    for host, variables in values.items():
        for name, value in variables.items():
            for path in value if isinstance(value, list) else [value]:
                if path:
                    found.setdefault(str(path), f"{host}: {name}")
    return [{"where": where, "path": path} for path, where in found.items()]


def missing_files(files: Iterable[Mapping[str, str]]) -> list[Problem]:
    """Make problems of files that `controller_files` has named and that are not there."""
    return [
        make_error(file["where"], f"there is no {file['path']} on this machine", "give its absolute path")
        for file in files
    ]


def archive_problems(values: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]]) -> list[Problem]:
    """Check that hosts can find the images of their archives: `docker load` brings back tags, and no digests.

    Args:
        values: By host, `pryv_image_archive` and the roles' images; see `Inventory.known`.
        groups: Ansible's `groups`.
    """
    used = {"core": ["core_images"], "registry": ["registry_images", "mail_images"], "web": ["web_images"]}
    return [
        make_error(
            f"{host}: {name}.{service}",
            "is pinned by digest, which an image from pryv_image_archive does not have",
            "name it by tag, or have it pulled",
        )
        for host, variables in values.items()
        if variables.get("pryv_image_archive")
        for group, names in used.items()
        if host in groups.get(group, ())
        for name in names
        if isinstance(images := variables.get(name), Mapping)
        for service, image in images.items()
        if "@" in str(image)
    ]


def as_warnings(problems: Iterable[Problem], places: Iterable[str]) -> list[Problem]:
    """Turn the errors of some places into warnings."""
    softened = frozenset(places)
    return [
        {**problem, "severity": "warning"}
        if problem["severity"] == "error" and problem["where"] in softened
        else problem
        for problem in problems
    ]


# What is asked of a platform for people's data, and by which name an operator who knows why does without.
AUDITED = (
    *(f"events.{name}" for name in ("get", "getOne", "create", "update", "delete", "getAttachment")),
    *(f"accesses.{name}" for name in ("create", "update", "delete")),
    "auth.login",
)
WAIVERS = ("audit_trail", "journal_forwarding", "audit_trail_forwarding", "tpm2")
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
                "is not set: who becomes root there can change what the host recorded, the audit trail included",
                "give the URL of a systemd-journal-remote on a machine of others",
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


def _unmarked(text: str) -> str:
    """Return a description without Ansible's markup, such as C(code)."""
    return re.sub(r"\b[COVI]\(([^)]*)\)", r"\1", text)


def _first(description: object) -> object:
    return description[0] if isinstance(description, list) and description else description


# -- from the hosts ------------------------------------------------------------------------------------------------


def survey_problems(
    results: Mapping[str, Mapping[str, Any]],
    topology: Mapping[str, Any],
    unreachable: Severity = "error",
    clock_offset: float = 30,
    now: float = 0,
) -> list[Problem]:
    """Check what the hosts said of themselves, except their sizes, which capacity_problems checks.

    Args:
        results: Results of machine_survey by host; a host that did not answer or failed has that in its result.
        topology: The topology fact.
        unreachable: Severity of a host that does not answer.
        clock_offset: Seconds that a host's clock may be off.
        now: The controller's clock, in seconds since the epoch, after all have answered.
    """
    problems = []
    for host, result in results.items():
        if result.get("unreachable"):
            address = topology["hosts"][host]["ansible_host"]
            reason = " ".join(str(result.get("msg", "")).split()).rpartition("via ssh: ")[2]
            problems.append(
                make_problem(
                    unreachable,
                    host,
                    f"does not answer on {address}: {reason}",
                    "check the address, that it runs, and that its firewall lets SSH from here through"
                    + ("" if unreachable == "error" else "; it is left out of this run"),
                )
            )
        elif "survey" not in result:
            problems.append(_survey_failure(host, result))
        else:
            roles = [*topology["hosts"][host]["roles"], *(["leader"] if host == topology["leader"] else [])]
            flows = [flow for flow in topology["flows"] if flow["target"] == host]
            problems += _machine_problems(host, result["survey"], roles, clock_offset, now)
            problems += _firewall_problems(host, result["survey"]["firewalls"], flows)
    return problems


def _survey_failure(host: str, result: Mapping[str, Any]) -> Problem:
    """Make a problem of a host that answers and could not be surveyed; `account` has what the login found there."""
    reason = " ".join(str(result.get("module_stderr") or result.get("msg", "")).split()).removeprefix("Task failed: ")
    account = str(result.get("account", "")).replace("\r", "")  # from a terminal
    user = re.search(r"^uid=\d+\((.+?)\)", account)
    groups = re.search(r"groups=(\S+)", account)
    if not user or not re.search(r"(?i)password|sudo|\bsu\b|become", reason):
        remedy = "it needs python3, and ansible_user must be able to become root (see --ask-become-pass)"
        return make_error(host, f"cannot be surveyed: {reason[:300]}", remedy)
    name = user[1]
    joining = f"as root there: usermod -aG sudo {name}"
    found = f"{name} logs in there and cannot become root ({reason[:300]})"
    if not re.search(r"/sudo$", account, re.MULTILINE):
        return make_error(host, f"{found}: there is no sudo", f"as root there: apt-get install sudo; {joining[15:]}")
    mine = re.findall(r"\d+\((.+?)\)", groups[1]) if groups else []
    if not set(mine) & set(SUDO_GROUPS):
        remedy = f"if {name} is no sudoer, {joining}; then give the password (--ask-become-pass) if sudo asks for it"
        return make_error(host, f"{found}, and is in none of the groups {', '.join(SUDO_GROUPS)}", remedy)
    return make_error(host, found, f"give the password with which {name} becomes root: --ask-become-pass")


def _machine_problems(
    host: str, survey: Mapping[str, Any], roles: Sequence[str], clock_offset: float, now: float
) -> Iterable[Problem]:
    system = survey["system"]
    if (system["ID"], system["VERSION_ID"]) not in SYSTEMS:
        yield make_error(host, f"runs {system['PRETTY_NAME'] or 'an unknown system'}", f"install {SYSTEM_NAMES}")
    if list(survey["python"]) < OLDEST_PYTHON:
        version = ".".join(map(str, survey["python"]))
        yield make_error(
            host,
            f"Ansible uses Python {version} there",
            f"have it use {'.'.join(map(str, OLDEST_PYTHON))} or newer (ansible_python_interpreter)",
        )
    if survey["os_free_gb"] < LEAST_FREE_GB:
        yield make_error(
            host, f"has {survey['os_free_gb']:.1f} GB free on its OS disk", f"free at least {LEAST_FREE_GB} GB"
        )
    if survey["data_device_found"] is False:
        yield make_error(host, "has no block device of the name that data_disk_device gives", "see lsblk there")
    yield from _place_problems(host, survey["data_place"])
    yield from _sudo_problems(host, survey)
    # A clock is ahead only if it is ahead of the answer's arrival too: until a busy host reads it, time passes.
    offset = survey["clock_offset"]
    if offset > 0:
        offset = max(0, offset - max(0, now - survey["asked_at"]))
    if abs(offset) > clock_offset:
        ahead = "ahead of" if offset > 0 else "behind"
        yield make_error(
            host,
            f"its clock is {abs(offset):.0f} s {ahead} this machine's",
            "set both by NTP (timedatectl): certificates and tokens are refused otherwise",
        )
    if survey["advertised"]:
        yield make_problem(
            "warning",
            host,
            f"its kernel has the IPv6 route of {', '.join(survey['advertised'])} from router advertisements, "
            "which role hardening has it ignore from the next boot on",
            "give the host a static IPv6 address, or systemd-networkd or NetworkManager, which read them themselves",
        )
    if survey["apt_lock"]:
        yield make_problem(
            "note",
            host,
            f"{survey['apt_lock']} is installing packages; the run waits for it for some minutes",
            "nothing to do, unless it hangs",
        )
    yield from _port_problems(host, survey, roles)


def _place_problems(host: str, place: Mapping[str, Any]) -> Iterable[Problem]:
    """Yield what keeps data from lying where it should."""
    where = f"{host}: pryv_data_directory"
    if place["link"]:
        # Containers and mount units are about the place itself, and refuse to go through one.
        yield make_error(
            where,
            f"leads through {place['link']}, a symbolic link to {place['leads_to']}",
            "name the place itself, or mount the disk there",
        )
    if place["is_file"]:
        yield make_error(where, "is there, and no folder", "name a folder, or one that is not there yet")
    system = place["filesystem"] or ""
    if system.split(".")[0] in UNFIT_FILE_SYSTEMS:
        yield make_error(
            where,
            f"lies on a file system of type {system}, which databases and Docker's layers cannot live on",
            "name a place on a local disk with ext4 or XFS",
        )
    if "ro" in place["options"]:
        yield make_error(where, "lies on a file system that is mounted read-only", "mount it read-write (rw)")


def _sudo_problems(host: str, survey: Mapping[str, Any]) -> Iterable[Problem]:
    """Yield what sudo passes over, or takes for something else than it was meant to be."""
    for line in survey["sudoers"]:
        yield make_problem(
            "warning",
            host,
            f"visudo --check finds a mistake: {line}",
            "put it right as root there: chmod 0440, visudo --file",
        )


def _firewall_problems(
    host: str, firewalls: Sequence[Mapping[str, Any]], flows: Sequence[Mapping[str, Any]]
) -> Iterable[Problem]:
    """Yield what others' packet filters keep out: a packet gets in only if all of them let it through."""
    for firewall in firewalls:
        name, remedy = firewall["name"], DISABLING.get(firewall["name"])
        if firewall["hook"] == "forward":
            needed, what = ["containers"], "from and to containers"
        else:
            needed = sorted({f"{flow['protocol']}/{flow['port']}" for flow in flows})
            what = ", ".join(port for port in needed if not _is_open(port, firewall["open"]))
        if not remedy:
            remedy = f"nft delete {name}, and take out what loads it at boot"
        if not all(_is_open(port, firewall["open"]) for port in needed):
            yield make_error(
                host,
                f"has a firewall of its own ({name}), which drops {what}",
                f"have it let that through, or leave it to role firewall, which opens what is needed: {remedy}",
            )
        else:
            yield make_problem(
                "note",
                host,
                f"has a firewall of its own ({name}), which seems to let the platform's ports through",
                "see that it does so for all who need them, beside role firewall's",
            )


def _is_open(wanted: str, opened: Sequence[str]) -> bool:
    """Tell whether a port like tcp/443 is one of those that a firewall lets through, or in a range like tcp/400-500."""
    protocol, _, port = wanted.partition("/")
    for entry in opened:
        of, _, ports = entry.partition("/")
        first, _, last = ports.partition("-")
        if entry == wanted or (of == protocol and last and int(first) <= int(port) <= int(last)):
            return True
    return False


def _port_problems(host: str, survey: Mapping[str, Any], roles: Sequence[str]) -> Iterable[Problem]:
    """Yield services of others that listen where the platform will."""
    wanted = {port: where for role in roles for port, where in PORTS.get(role, {}).items()}
    others: dict[tuple[str, int], set[str]] = {}
    for listener in survey["listeners"]:
        port = (listener["protocol"], listener["port"])
        where = wanted.get(port)
        if where is None or (survey["managed"] and listener["process"] in OURS[where]):
            continue
        if _is_in_the_way(listener["address"], where, survey["addresses"]):
            others.setdefault(port, set()).add(listener["process"])
    for (protocol, number), processes in sorted(others.items()):
        names = ", ".join(sorted(processes))
        yield make_error(
            host, f"{names} listens on {protocol}/{number}", "remove it, or give the role a host of its own"
        )


def _is_in_the_way(address: str, where: str, own: Sequence[str]) -> bool:
    """Tell whether a service that listens on an address leaves no place for one of ours on the same port."""
    found = ipaddress.ip_address(address)
    if where == "everywhere" or found.is_unspecified:
        return True
    if where == "inside":
        return address == "127.0.0.1"
    return not found.is_loopback and (found.version == 6 or address in own)


def delegation_problems(topology: Mapping[str, Any], answers: Sequence[str]) -> list[Problem]:
    """Check that the world finds the platform's registry; a warning, as the platform works before it does.

    Args:
        topology: The topology fact.
        answers: Addresses that the controller's own resolver gives for the registry's name.
    """
    domain = topology["domain"]
    name = f"reg.{domain}"
    expected = topology["names"][name]
    if set(expected) & set(answers):
        return []
    servers = ", ".join(f"{server['name']}.{domain} ({server['address']})" for server in topology["name_servers"])
    found = f"leads to {', '.join(answers)}" if answers else "is not found in DNS"
    return [
        make_problem(
            "warning",
            name,
            f"{found} from here; the registry is {', '.join(expected)}",
            f"once the platform runs, have {domain} delegated, with glue records, to {servers}",
        )
    ]


# -- the report ----------------------------------------------------------------------------------------------------

TITLES = {
    "error": "must be put right",
    "warning": "should be looked at",
    "note": "for information",
}


def preflight_report(problems: Sequence[Problem], hosts: Sequence[str], asked: bool = True) -> str:
    """Make one text of all problems.

    Args:
        problems: From any of the checks.
        hosts: The hosts of this run.
        asked: Whether the hosts were asked, or only the inventory was looked at.
    """
    errors = [problem for problem in problems if problem["severity"] == "error"]
    scope = f"the inventory and {len(hosts)} host{'s'[: len(hosts) != 1]}" if asked else "the inventory"
    lines = [
        f"Preflight looked at {scope}: " + (f"{len(errors)} to put right." if errors else "nothing is in the way.")
    ]
    if not asked:
        lines.append("The hosts were not asked: the inventory has to be right first.")
    for severity, title in TITLES.items():
        chosen = [problem for problem in problems if problem["severity"] == severity]
        if chosen:
            lines += ["", f"{title} ({len(chosen)}):"]
        places: dict[tuple[str, str], list[str]] = {}
        for problem in chosen:
            places.setdefault((problem["problem"], problem["remedy"]), []).append(problem["where"])
        for (what, remedy), where in places.items():
            if len(where) == 1:
                lines.append(f"- {where[0]}: {what}")
            else:
                lines += [f"- {what}:", *(f"    {place}" for place in where)]
            lines.append(f"  -> {remedy}")
    return "\n".join(lines)
