"""Judges what an audit collected: what passed, what failed, what is accepted, and whether the bars are reached."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pryv_platform.problems import InputError

FAILED, ACCEPTED, PASSED, ADVICE, UNKNOWN = "failed", "accepted", "passed", "advice", "unknown"
#: In the order in which a person wants to see them.
STATUSES = (FAILED, ACCEPTED, ADVICE, UNKNOWN, PASSED)
SEVERITIES = ("critical", "high", "medium", "low", "")

SCANNERS = {
    "openscap": "OpenSCAP",
    "lynis": "Lynis",
    "ssh_audit": "ssh-audit",
    "tls": "testssl.sh",
    "nginx": "gixy",
    "ports": "Open ports",
    "docker_bench": "Docker bench",
    "host": "Own checks",
}

#: Oldest package lists by which security updates can be told, in hours.
LISTS_HOURS = 48
#: Oldest backup, in hours: one a day, and some time to run.
BACKUP_HOURS = 26
#: The opened data disk.
DATA_DISK = "/dev/mapper/pryv_data"
#: What Docker publishes may be reached over these addresses only.
LOOPBACK = ("127.", "::1")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at on one host.

    Attributes:
        scanner: A key of `SCANNERS`.
        rule: What the scanner calls it.
        title: What was looked at.
        status: One of `STATUSES`.
        found: What is there, when it is not as it should be.
        remedy: What to do about it, or how it should be.
        severity: One of `SEVERITIES`.
        reason: Why it is accepted.
    """

    scanner: str
    rule: str
    title: str
    status: str
    found: str = ""
    remedy: str = ""
    severity: str = ""
    reason: str = ""


def judge(scanner: str, rule: str, title: str, problem: str, remedy: str, severity: str = "medium") -> Check:
    """Return a check that passed when there is no problem."""
    if not problem:
        return Check(scanner, rule, title, PASSED)
    return Check(scanner, rule, title, FAILED, problem, remedy, severity)


# --- scanners ------------------------------------------------------------------------------------


def _openscap_status(result: str) -> str | None:
    """Return our word for a result of OpenSCAP; None for a rule that does not apply."""
    known = {"pass": PASSED, "fixed": PASSED, "fail": FAILED, "error": FAILED, "unknown": FAILED}
    return known.get(result) or (None if result == "notapplicable" else UNKNOWN)


def openscap_checks(scans: Mapping[str, Mapping[str, Any]]) -> Iterator[Check]:
    """Yield one check per rule: where profiles differ about it, the worse.

    Args:
        scans: What module host_scan returned as C(openscap); tailored scans are left out.
    """
    by_rule: dict[str, Check] = {}
    for name, scan in scans.items():
        if name.endswith("_tailored"):
            continue
        for rule in scan["rules"]:
            status = _openscap_status(rule["result"])
            if status is None:
                continue
            found = {"error": "the scanner could not tell", "unknown": "the scanner could not tell"}.get(
                rule["result"], ""
            )
            check = Check(
                *("openscap", rule["rule"], rule["title"], status, found),
                remedy="" if status == PASSED else rule.get("text", ""),
                severity=rule["severity"] if rule["severity"] in SEVERITIES else "",
            )
            known = by_rule.get(rule["rule"])
            if known is None or STATUSES.index(status) < STATUSES.index(known.status):
                by_rule[rule["rule"]] = check
    yield from by_rule.values()


def openscap_score(scan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the share of the automated, applicable rules that passed, in percent.

    Args:
        scan: One scan of module host_scan.
    """
    counts = dict.fromkeys(STATUSES, 0)
    for rule in scan["rules"]:
        status = _openscap_status(rule["result"])
        if status:
            counts[status] += 1
    judged = counts[PASSED] + counts[FAILED]
    return {
        "value": round(100 * counts[PASSED] / judged, 1) if judged else 0.0,
        "passed": counts[PASSED],
        "judged": judged,
    }


def lynis_checks(report: Mapping[str, Any] | None) -> Iterator[Check]:
    """Yield warnings as failures and suggestions as advice; Lynis does not say what passed.

    Args:
        report: What module host_scan returned as C(lynis); None when it did not run.
    """
    if report is None:
        return
    for kind, status, severity in (("warnings", FAILED, "high"), ("suggestions", ADVICE, "low")):
        for finding in report[kind]:
            yield Check("lynis", finding["rule"], finding["title"], status, finding["text"], severity=severity)


def ssh_checks(scan: Mapping[str, Any], policy: Mapping[str, Any]) -> Iterator[Check]:
    """Yield one check per algorithm that the server offers, and one for the policy of its system.

    Args:
        scan: JSON of ssh-audit.
        policy: JSON of ssh-audit with a policy.
    """
    kinds = {"kex": "key exchange", "key": "host key", "enc": "cipher", "mac": "message authentication"}
    for kind, label in kinds.items():
        for entry in scan.get(kind, []):
            notes = entry.get("notes", {})
            status = FAILED if "fail" in notes else ADVICE if "warn" in notes else PASSED
            said = "; ".join(notes.get("fail", []) + notes.get("warn", []))
            rule = f"{kind}_{entry['algorithm']}"
            remedy = "leave it out of sshd's configuration" if said else ""
            severity = {FAILED: "high", ADVICE: "low"}.get(status, "")
            yield Check("ssh_audit", rule, f"SSH {label} {entry['algorithm']}", status, said, remedy, severity)
    for cve in scan.get("cves", []):
        yield Check(
            "ssh_audit", cve["name"], f"SSH: {cve['name']}", FAILED, cve.get("description", ""), "update", "high"
        )
    errors = "; ".join(
        f"{error['mismatched_field']}: {', '.join(error['actual'])}" for error in policy.get("errors", [])
    )
    yield judge(
        *("ssh_audit", "policy", f"SSH follows the policy “{policy.get('policy', '')}”"),
        "" if policy.get("passed") else errors or "the policy could not be tried",
        "offer exactly what the policy lists",
    )


def tls_checks(findings: Sequence[Mapping[str, str]]) -> Iterator[Check]:
    """Yield one check per finding of testssl.sh that judges something.

    Args:
        findings: Its flat JSON.
    """
    # After a fatal error nothing more was looked at.
    bad = {"LOW": "low", "MEDIUM": "medium", "HIGH": "high", "FATAL": "high", "CRITICAL": "critical"}
    for finding in findings:
        severity = finding["severity"]
        if severity == "OK":
            yield Check("tls", finding["id"], f"TLS: {finding['id']}", PASSED)
        elif severity in bad:
            yield Check("tls", finding["id"], f"TLS: {finding['id']}", FAILED, finding["finding"], "", bad[severity])
        elif severity == "WARN":
            yield Check("tls", finding["id"], f"TLS: {finding['id']}", UNKNOWN, finding["finding"])


def tls_grade(findings: Sequence[Mapping[str, str]]) -> str:
    """Return the grade that testssl.sh gives; empty when it gave none."""
    return next((finding["finding"] for finding in findings if finding["id"] == "overall_grade"), "")


def nginx_checks(findings: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    """Yield a check per finding of gixy, or one that says there is none.

    Args:
        findings: Its JSON.
    """
    for finding in findings:
        yield Check(
            *("nginx", finding["plugin"], f"nginx: {finding['summary']}", FAILED),
            " ".join(str(finding.get("config", "")).split())[:300],
            finding.get("description", ""),
            str(finding["severity"]).lower(),
        )
    if not findings:
        yield Check("nginx", "configuration", "nginx: the whole configuration", PASSED)


def port_checks(
    host: str, scans: Mapping[str, Mapping[str, Any]], flows: Iterable[Mapping[str, Any]]
) -> Iterator[Check]:
    """Yield a check per port that is open or should be, and one per address for all others.

    Args:
        host: Its inventory name.
        scans: What module port_scan returned, by address.
        flows: The topology's flows. Those from anywhere and from administrators must be open to the controller.
    """
    wanted = {
        (flow["protocol"], flow["port"]): flow
        for flow in flows
        if flow["target"] == host and flow["source"] in {"any", "admin"}
    }
    for address, scan in scans.items():
        if not scan["reached"] or address.startswith("127."):
            yield Check(
                *("ports", "reachable", "Ports as a neighbour sees them", UNKNOWN),
                f"{address} cannot be reached from the controller, but perhaps through a gateway",
                "run the audit from where the address can be reached",
            )
            continue
        found = {(protocol, port) for protocol in ("tcp", "udp") for port in scan[protocol]}
        version = "IPv6" if ":" in address else "IPv4"
        for protocol, port in sorted(found - set(wanted)):
            yield Check(
                *("ports", f"{protocol}/{port}", f"Port {protocol}/{port} over {version}", FAILED),
                f"open at {address}, and no flow of the platform needs it",
                "stop what listens there, or close it in the firewall",
                "high",
            )
        for (protocol, port), flow in sorted(wanted.items()):
            # Flows are told by IPv4 addresses; whether a service listens on IPv6 too is its own choice.
            if address == flow["address"] and (protocol, port) not in found:
                yield Check(
                    *(
                        "ports",
                        f"{protocol}/{port}",
                        f"Port {protocol}/{port} over {version}: {flow['purpose']}",
                        FAILED,
                    ),
                    f"does not answer at {address}",
                    "see whether the service runs and the firewall lets it through",
                    "medium",
                )
            elif (protocol, port) in found:
                yield Check(
                    "ports", f"{protocol}/{port}", f"Port {protocol}/{port} over {version}: {flow['purpose']}", PASSED
                )
        yield Check("ports", "others", f"All other ports that were tried over {version} are closed", PASSED)


# --- Docker --------------------------------------------------------------------------------------


def _option(container: Mapping[str, Any], wanted: str) -> bool:
    """Tell whether a container has a security option, however its value is written."""
    return any(option.replace("=", ":").removesuffix(":true") == wanted for option in container["security"])


def container_problems(container: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with a container, by rule of `CONTAINER_RULES`; empty text where nothing is.

    Args:
        container: What module host_evidence says about it.
        settings: daemon.json.
    """
    dangerous = {"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_MODULE", "DAC_READ_SEARCH", "SYS_RAWIO", "ALL"}
    added = sorted(dangerous & {name.removeprefix("CAP_") for name in container["capabilities_added"]})
    system = ("/", "/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr", "/root", "/var/run", "/run")
    mounts = {mount["source"].rstrip("/") or "/": mount["writable"] for mount in container["mounts"]}
    sockets = [source for source in mounts if source.endswith(("docker.sock", "containerd.sock"))]
    outside = [one.partition("|")[0] or "every address" for one in container["published"]]
    outside = [address for address in outside if not address.startswith(LOOPBACK)]
    spaces = container["namespaces"]
    limited = "max-size" in container["log_options"] or container["log_driver"] in {"local", "journald", "none"}
    return {
        "privileged": "it is privileged" if container["privileged"] else "",
        "docker_socket": f"it has {', '.join(sockets)}" if sockets else "",
        "new_privileges": ""
        if _option(container, "no-new-privileges") or settings.get("no-new-privileges")
        else "its processes may gain privileges",
        "capabilities_dropped": ""
        if {"ALL", "CAP_ALL"} & set(container["capabilities_dropped"])
        else "it keeps Docker's default capabilities",
        "capabilities_added": f"it has {', '.join(added)}" if added else "",
        "host_namespaces": ", ".join(sorted(name for name, mode in spaces.items() if mode == "host")),
        "memory": "" if container["memory"] else "it may use all memory",
        "pids": "" if container["pids"] > 0 else "it may start any number of processes",
        "published": f"published on {', '.join(sorted(set(outside)))}" if outside else "",
        "system_mounts": ", ".join(sorted(source for source in mounts if source in system)),
        "devices": ", ".join(device or "?" for device in container["devices"]),
        "confinement": ", ".join(
            option for option in container["security"] if option.replace("=", ":").endswith((":unconfined", ":disable"))
        ),
        "log_limit": "" if limited else "its log may fill the disk",
        "read_only": "" if container["read_only"] else "its root file system can be written",
        "user": "" if container["user"].split(":")[0] not in {"", "0", "root"} else "it starts as root",
    }


#: Title, remedy and severity by rule.
CONTAINER_RULES = {
    "privileged": ("No container is privileged", "leave out privileged", "critical"),
    "docker_socket": ("No container has Docker's socket", "do not mount it", "critical"),
    "new_privileges": ("Processes cannot gain privileges", "security_opt: [no-new-privileges:true]", "high"),
    "capabilities_dropped": (
        "All capabilities are dropped but those needed",
        "cap_drop: [ALL], cap_add what it needs",
        "medium",
    ),
    "capabilities_added": ("No container has a capability that rules the host", "leave it out of cap_add", "critical"),
    "host_namespaces": (
        "No container shares a namespace with the host",
        "leave out network_mode, pid, ipc: host",
        "high",
    ),
    "memory": ("Memory is limited", "mem_limit", "medium"),
    "pids": ("The number of processes is limited", "pids_limit", "medium"),
    "published": ("Ports are published on loopback only", "publish on 127.0.0.1", "critical"),
    "system_mounts": (
        "No container has a folder of the system",
        "mount only what it needs, below the data directory",
        "high",
    ),
    "devices": ("No container has a device of the host", "leave out devices", "high"),
    "confinement": ("seccomp and AppArmor are not switched off", "leave out unconfined", "high"),
    "log_limit": ("Logs are limited", "log-driver local, or max-size", "medium"),
    "read_only": ("The root file system is read-only", "read_only: true", "low"),
    "user": ("No container starts as root", "user", "low"),
}


def docker_checks(docker: Mapping[str, Any] | None) -> Iterator[Check]:
    """Yield what Docker's bench asks of the daemon and of every container.

    Args:
        docker: What module host_evidence says; None without Docker.
    """
    if docker is None:
        yield Check("docker_bench", "daemon", "Docker answers", UNKNOWN, "Docker is not there, or does not answer")
        return
    settings = docker["settings"]
    remote = [host for host in settings.get("hosts", []) if str(host).startswith("tcp:")]
    if "tcp://" in docker["command"]:
        remote.append("tcp in the unit")
    remapped = any("userns" in option or "rootless" in option for option in docker["security"])
    mode, owner = docker["socket_mode"], docker["socket_owner"]
    socket = "" if mode is None or (owner == "root" and mode[-1] == "0") else f"{owner}, {mode}"
    limited = docker["log_driver"] in {"local", "journald", "none"} or "max-size" in settings.get("log-opts", {})
    sandbox = [name for name in ("apparmor", "seccomp") if not any(f"name={name}" in one for one in docker["security"])]
    daemon = (
        ("tcp_socket", "Docker listens on no network socket", ", ".join(remote), "leave out hosts: tcp", "critical"),
        ("socket", "Docker's socket is root's", socket, "owner root, mode 0660", "high"),
        (
            "group",
            "Nobody is in group docker",
            ", ".join(docker["group"]),
            "its members are root in all but name; use sudo",
            "high",
        ),
        (
            "live_restore",
            "Containers outlive a restart of the daemon",
            "" if docker["live_restore"] else "they do not",
            "live-restore: true",
            "low",
        ),
        (
            "icc",
            "Containers on the default bridge cannot reach each other",
            "" if settings.get("icc") is False else "they can",
            "icc: false",
            "medium",
        ),
        (
            "userland_proxy",
            "The userland proxy is off",
            "" if settings.get("userland-proxy") is False else "it is on",
            "userland-proxy: false",
            "low",
        ),
        (
            "daemon_new_privileges",
            "No new privileges by default",
            "" if settings.get("no-new-privileges") else "not set",
            "no-new-privileges: true",
            "medium",
        ),
        (
            "daemon_log_limit",
            "Logs are limited by default",
            "" if limited else docker["log_driver"],
            "log-driver: local",
            "medium",
        ),
        (
            "registries",
            "No registry without TLS",
            ", ".join(r for r in docker["registries"] if r not in {"127.0.0.0/8", "::1/128"}),
            "leave out insecure-registries",
            "high",
        ),
        (
            "experimental",
            "No experimental features",
            "they are on" if docker["experimental"] else "",
            "experimental: false",
            "low",
        ),
        (
            "swarm",
            "Not part of a swarm",
            "" if docker["swarm"] in {"inactive", None, ""} else docker["swarm"],
            "docker swarm leave",
            "medium",
        ),
        (
            "storage",
            "A storage driver that is maintained",
            docker["storage"] if docker["storage"] in {"aufs", "devicemapper", "vfs"} else "",
            "overlay2",
            "medium",
        ),
        (
            "sandbox",
            "AppArmor and seccomp confine containers",
            f"{', '.join(sandbox)} missing" if sandbox else "",
            "enable it in the kernel and install apparmor",
            "medium",
        ),
        (
            "userns",
            "Root in a container is not root of the host",
            "" if remapped else "user namespaces are not remapped",
            "userns-remap",
            "medium",
        ),
    )
    for rule, title, problem, remedy, severity in daemon:
        yield judge("docker_bench", rule, title, problem, remedy, severity)
    problems = {container["name"]: container_problems(container, settings) for container in docker["containers"]}
    for rule, (title, remedy, severity) in CONTAINER_RULES.items():
        names: dict[str, list[str]] = {}
        for name, said in sorted(problems.items()):
            if said[rule]:
                names.setdefault(said[rule], []).append(name)
        found = "; ".join(f"{', '.join(same)}: {said}" for said, same in names.items())
        yield judge("docker_bench", rule, title, found, remedy, severity)


# --- our own -------------------------------------------------------------------------------------


def _disk_checks(disk: Mapping[str, Any], *, configured: bool, needed: bool, backed_up: bool | None) -> Iterator[Check]:
    """Yield what is known about the disk with the data."""
    if configured:
        mounted = disk["source"] == DATA_DISK
        yield judge(
            "host",
            "data_disk",
            "The data disk is mounted",
            "" if mounted else f"the data directory is on {disk['source']}: the disk is locked or missing",
            "playbooks/unlock.yml; docs/operations/unlock.md",
            "critical",
        )
        if not mounted:  # what lies there instead says nothing about the data
            return
    luks = disk["luks"]
    if luks is None:
        title, found = "The data lies on an encrypted disk", f"{disk['mount_point']} is {disk['source']}, not encrypted"
        if needed:
            yield judge("host", "luks", title, found, "set data_disk_device; docs/operations/data-disk.md", "critical")
        return
    weak = [cipher for cipher in luks["ciphers"] if cipher != "aes-xts-plain64"]
    short = [str(bits) for bits in luks["key_bits"] if bits < 512]
    # What opens the disk at boot is not among them: it has a random key, for which pbkdf2 is right.
    weak_kdfs = [str(kdf) for kdf in luks["passphrase_kdfs"] if kdf != "argon2id"]
    yield Check("host", "luks", "The data lies on an encrypted disk", PASSED)
    yield judge("host", "luks_version", "LUKS 2", "" if luks["version"] == 2 else "LUKS 1", "renew the disk", "high")
    yield judge(
        "host", "luks_cipher", "AES-XTS with keys of 512 bits", ", ".join(weak + short), "renew the disk", "high"
    )
    yield judge(
        "host",
        "luks_kdf",
        "Passphrases pass through argon2id",
        ", ".join(weak_kdfs),
        "playbooks/rotate_disk_keys.yml",
        "high",
    )
    if backed_up is not None:
        yield judge(
            *("host", "luks_header", "The disk's header is backed up on the controller"),
            ""
            if backed_up
            else f"there is no copy of the header of {luks['uuid']} as it is now (epoch {luks['epoch']}); an older one "
            "lacks its last change, and may open with a key that was removed since",
            "ansible-playbook site.yml --tags data_disk",
            "high",
        )


def _firewall_problem(firewall: Mapping[str, Any] | None) -> str:
    """What is wrong with a host's firewall."""
    if not firewall or {firewall["policies"].get(chain) for chain in ("input", "forward")} != {"drop"}:
        return "table inet pryv is missing, or lets through by default"
    return "" if firewall["as_it_should_be"] else "its rules are not those of /etc/pryv/firewall/rules.nft"


def host_checks(
    evidence: Mapping[str, Any],
    *,
    changed: bool,
    data_disk: bool,
    core: bool,
    registry: bool,
    production: bool,
    headers: Sequence[str],
    certificate_days: int,
) -> Iterator[Check]:
    """Yield our own checks.

    Args:
        evidence: What module host_evidence said.
        changed: Whether /etc or the list of packages changed during the audit.
        data_disk: Whether the host is configured to have a disk of its own for the data.
        core: Whether people's data lies there.
        registry: Whether it knows whose data lies where.
        production: Whether the platform is for production.
        headers: Paths of header backups on the controller.
        certificate_days: How many days the certificate must still be valid.
    """
    updates, clock, units, disk = (evidence[name] for name in ("updates", "clock", "units", "disk"))
    certificate, firewall, container = evidence["certificate"], evidence["firewall"], evidence["system"]["container"]
    age = updates["lists_age_hours"]

    yield judge(
        "host",
        "unchanged",
        "The audit changed nothing",
        "the digest of /etc or of the packages changed meanwhile" if changed else "",
        "see whether somebody worked on the host, and run it again",
        "high",
    )
    luks = disk["luks"]
    # As role data_disk names its copies: HOST-UUID-EPOCH.
    backed_up = any(path.endswith(f"-{luks['uuid']}-{luks['epoch']:06d}.vault") for path in headers) if luks else None
    yield from _disk_checks(disk, configured=data_disk, needed=core and production, backed_up=backed_up)
    if not container:  # a container sees the swap and the clock of the machine that it runs on
        plain = [swap["name"] for swap in disk["swap"] if not swap["encrypted"]]
        yield judge(
            "host",
            "swap",
            "No memory is written to an unencrypted disk",
            ", ".join(plain),
            "switch swap off, or encrypt it",
            "high",
        )
        yield judge(
            "host",
            "clock",
            "The clock follows a time server",
            "" if clock["synchronized"] else "it is not synchronised",
            "see systemctl status of the time service, and whether UDP 123 gets out",
            "medium",
        )
    stale = "" if age is not None and age <= LISTS_HOURS else f"package lists are {age or 'never fetched,'} hours old"
    yield judge(
        "host",
        "updates",
        "No security update waits",
        ", ".join(updates["security"]) or stale,
        "apt-get update && apt-get upgrade",
        "high",
    )
    yield judge(
        "host",
        "automatic_updates",
        "Security updates come by themselves",
        "" if updates["automatic"] else "unattended-upgrades is not on",
        "ansible-playbook site.yml --tags hardening",
        "medium",
    )
    yield judge(
        "host",
        "reboot",
        "No reboot waits",
        "an update waits for one" if updates["reboot_required"] else "",
        "reboot in a maintenance window",
        "medium",
    )
    yield judge("host", "units", "No unit failed", ", ".join(units["failed"]), "journalctl -u <unit>", "medium")
    yield judge(
        "host",
        "firewall",
        "The firewall drops what is not allowed",
        _firewall_problem(firewall),
        "ansible-playbook site.yml --tags firewall",
        "critical",
    )
    yield judge(
        "host",
        "other_firewall",
        "Nobody else's rules decide what passes",
        ", ".join(firewall["others"]) if firewall else "",
        "nft list ruleset; whatever any of them drops is dropped: take them out, or accept them in audit_deviations",
        "medium",
    )
    if certificate is None:
        yield judge(
            "host",
            "certificate",
            "The certificate is valid",
            "there is none",
            "ansible-playbook site.yml --tags certificate",
            "high",
        )
    else:
        days = certificate["days_left"]
        short = f"it has {days} days left" if days < certificate_days else ""
        readable = (
            ""
            if (certificate["key_owner"], certificate["key_mode"]) == ("root", "0400")
            else f"{certificate['key_owner']}, {certificate['key_mode']}"
        )
        yield judge(
            "host",
            "certificate",
            f"The certificate is valid for {days} more days",
            short,
            "docs/operations/certificate.md",
            "high",
        )
        yield judge(
            "host",
            "certificate_key",
            "Only root can read the certificate's key",
            readable,
            "owner root, mode 0400",
            "critical",
        )
    passwords = [person["name"] for person in evidence["people"] if person["password"]]
    yield judge("host", "passwords", "Nobody logs in with a password", ", ".join(passwords), "passwd --lock", "medium")
    if not units["backups"] and (core or registry):
        yield Check(
            *("host", "backup", "There are backups", FAILED if production else ADVICE),
            "no unit pryv-backup*.service",
            "have one that copies what is in the data directory to another machine",
            "high",
        )
    for name, backup in units["backups"].items():
        old = backup["age_hours"] is None or backup["age_hours"] > BACKUP_HOURS
        said = (
            "never ran"
            if backup["age_hours"] is None
            else f"last ended {backup['age_hours']} hours ago with {backup['result']}"
        )
        yield judge(
            "host",
            f"backup_{name}",
            f"Backup {name} is recent",
            said if old or backup["result"] != "success" else "",
            f"journalctl -u {name}",
            "high",
        )


# --- the report ----------------------------------------------------------------------------------


def accept(checks: Iterable[Check], deviations: Sequence[Mapping[str, str]]) -> list[Check]:
    """Return the checks, with those accepted that a deviation names."""
    reasons = {(one["scanner"], one["rule"]): one["reason"] for one in deviations}
    return [
        replace(check, status=ACCEPTED, reason=reasons[check.scanner, check.rule])
        if check.status in {FAILED, ADVICE, UNKNOWN} and (check.scanner, check.rule) in reasons
        else check
        for check in checks
    ]


def deviation_problems(deviations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with a table of accepted deviations."""
    problems, seen = [], set()
    for number, one in enumerate(deviations):
        known = isinstance(one, Mapping) and {"scanner", "rule", "reason"} == set(one) and all(one.values())
        if not known:
            problems.append(f"deviation {number} is {one!r}: it has to have scanner, rule and reason, and nothing else")
            continue
        if one["scanner"] not in SCANNERS:
            problems.append(f"deviation {number} has scanner {one['scanner']!r}: one of {', '.join(SCANNERS)}")
        if (one["scanner"], one["rule"]) in seen:
            problems.append(f"deviation {number} repeats {one['scanner']} {one['rule']}: leave one out")
        seen.add((one["scanner"], one["rule"]))
    return problems


def durations(raw: Mapping[str, Any]) -> dict[str, float]:
    """Return how long each scanner took, in seconds."""
    taken = {f"openscap_{name}": scan["seconds"] for name, scan in raw["openscap"].items()}
    if raw["lynis"]:
        taken["lynis"] = raw["lynis"]["seconds"]
    taken["ports"] = max(scan["seconds"] for scan in raw["ports"].values())
    for name, delta in raw["durations"].items():  # as module command writes it: 0:02:03.456
        hours, minutes, seconds = str(delta).split(":")
        taken[name] = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return {name: round(seconds, 1) for name, seconds in taken.items()}


def host_report(
    host: str,
    raw: Mapping[str, Any],
    *,
    topology: Mapping[str, Any],
    deviations: Sequence[Mapping[str, str]],
    headers: Sequence[str],
    certificate_days: int,
) -> tuple[dict[str, Any], list[Check]]:
    """Return what a host is and its scores, and its checks.

    Args:
        host: Its inventory name.
        raw: What each scanner said: evidence, digests, openscap, lynis, ssh, ssh_policy, tls, nginx, ports; and
            data_disk, whether one is configured, and left_out, the scans that nobody asked for.
        topology: The C(topology) fact.
        deviations: Accepted deviations.
        headers: Paths of header backups on the controller.
        certificate_days: How many days a certificate must still be valid.
    """
    evidence = raw["evidence"]
    entry = topology["hosts"][host]
    found = [
        *host_checks(
            evidence,
            changed=len(set(raw["digests"])) != 1,
            data_disk=raw["data_disk"],
            core="core" in entry["roles"],
            registry="registry" in entry["roles"],
            production=topology["environment"] == "production",
            headers=headers,
            certificate_days=certificate_days,
        ),
        *port_checks(host, raw["ports"], topology["flows"]),
        *ssh_checks(raw["ssh"], raw["ssh_policy"]),
        *tls_checks(raw["tls"]),
        *nginx_checks(raw["nginx"]),
        *docker_checks(evidence["docker"]),
        *openscap_checks(raw["openscap"]),
        *lynis_checks(raw["lynis"]),
    ]
    checks = accept(found, deviations)
    scores: dict[str, Any] = {name: openscap_score(scan)["value"] for name, scan in raw["openscap"].items()}
    if raw["lynis"]:
        scores["lynis"] = raw["lynis"]["index"]
    scores["tls"] = tls_grade(raw["tls"])
    for score, scanner in (("ssh_failures", "ssh_audit"), ("nginx_findings", "nginx")):
        scores[score] = sum(check.scanner == scanner and check.status == FAILED for check in checks)
    system = evidence["system"]
    about = {
        "name": host,
        "roles": entry["roles"],
        "address": entry["public_address"],
        "addresses": evidence["addresses"],
        **{name: system[name] for name in ("name", "point", "kernel", "architecture", "virtualization")},
    }
    return {
        **about,
        "name": host,
        "system": system["name"],
        "machine_id": system["machine_id"],
        "packages": system["packages"],
        "people": evidence["people"],
        "scores": scores,
        "left_out": raw["left_out"],
        "openscap": {
            name: {**openscap_score(scan), "profile": scan["profile"], "version": scan["version"]}
            for name, scan in raw["openscap"].items()
        },
        "digest": raw["digests"][0],
        "unchanged": len(set(raw["digests"])) == 1,
        "seconds": durations(raw),
        "counts": {status: sum(check.status == status for check in checks) for status in STATUSES},
    }, checks


GRADES = ("A+", "A", "A-", "B", "C", "D", "E", "F", "T", "M")


def _behind(bar: Mapping[str, Any], value: Any) -> float:
    """Return how far a value is behind a bar, 0 or less when it reaches it. What was not measured is the farthest."""
    if value is None or value == "":
        return math.inf
    if "grade" in bar:
        rank = GRADES.index(value) if value in GRADES else len(GRADES)
        return rank - GRADES.index(bar["grade"])
    return float(bar["least"] - value if "least" in bar else value - bar["most"])


def _wanted(bar: Mapping[str, Any]) -> str:
    """Say what a bar wants."""
    if "grade" in bar:
        return str(bar["grade"])
    if "least" in bar:
        return f"at least {bar['least']}{bar['unit']}"
    return f"at most {bar['most']}{bar['unit']}" if bar["most"] else f"0{bar['unit']}"


def bar_results(hosts: Collection[Mapping[str, Any]], bars: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how each bar is reached, by the worst host. One whose scan was left out everywhere is not claimed.

    Args:
        hosts: What `host_report` returned.
        bars: Each with C(score), C(label), C(unit), and C(least), C(most) or C(grade).
    """
    results = []
    for bar in bars:
        values = {
            host["name"]: host["scores"].get(bar["score"]) for host in hosts if bar["score"] not in host["left_out"]
        }
        if not values:
            continue
        behind = {name: _behind(bar, value) for name, value in values.items()}
        worst = max(behind, key=lambda name: behind[name])
        results.append(
            {
                "label": bar["label"],
                "score": bar["score"],
                "unit": bar["unit"],
                "values": values,
                "worst": worst,
                "value": values[worst],
                "wanted": _wanted(bar),
                "measured": behind[worst] < math.inf,
                "reached": behind[worst] <= 0,
                "left_out": [host["name"] for host in hosts if host["name"] not in values],
            }
        )
    return results


def merge(checks_by_host: Mapping[str, Sequence[Check]]) -> list[dict[str, Any]]:
    """Return one finding per check and outcome, with the hosts that it is about, the worst first."""
    merged: dict[tuple[str, ...], dict[str, Any]] = {}
    for host, checks in checks_by_host.items():
        for check in checks:
            key = (check.scanner, check.rule, check.title, check.status, check.reason)
            finding = merged.setdefault(
                key,
                {
                    **{
                        name: getattr(check, name)
                        for name in ("scanner", "rule", "title", "status", "remedy", "severity", "reason")
                    },
                    "scanner_label": SCANNERS[check.scanner],
                    "found": {},
                },
            )
            before = finding["found"].get(host, "")
            said = [part for part in (before, check.found) if part]
            finding["found"][host] = "; ".join(dict.fromkeys(said))
    order = list(SCANNERS)
    return sorted(
        merged.values(),
        key=lambda one: (
            STATUSES.index(one["status"]),
            SEVERITIES.index(one["severity"]) if one["severity"] in SEVERITIES else len(SEVERITIES),
            order.index(one["scanner"]),
            one["title"],
        ),
    )


def audit_report(
    raw: Mapping[str, Mapping[str, Any]],
    *,
    topology: Mapping[str, Any],
    deviations: Sequence[Mapping[str, str]],
    bars: Sequence[Mapping[str, Any]],
    asked: Sequence[str],
    certificate_days: int,
    headers: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Filter: see audit_report.yml."""
    problems = deviation_problems(deviations)
    if problems:
        raise InputError("accepted deviations:\n- " + "\n- ".join(problems))
    reports, checks = {}, {}
    for host, results in raw.items():
        reports[host], checks[host] = host_report(
            host,
            results,
            topology=topology,
            deviations=deviations,
            headers=headers,
            certificate_days=certificate_days,
        )
    findings = merge(checks)
    reached = bar_results(reports.values(), bars)
    seen = {(one["scanner"], one["rule"]) for one in findings if one["status"] == ACCEPTED}
    missing = [host for host in asked if host not in raw]
    counts = {status: sum(one["status"] == status for one in findings) for status in STATUSES}
    return {
        **(about or {}),
        "domain": topology["domain"],
        "environment": topology["environment"],
        "passed": not counts[FAILED] and not counts[UNKNOWN] and not missing and all(bar["reached"] for bar in reached),
        "counts": counts,
        "bars": reached,
        "hosts": reports,
        "not_audited": missing,
        "left_out": [host for host in topology["hosts"] if host not in asked],
        "findings": findings,
        "stale_deviations": [dict(one) for one in deviations if (one["scanner"], one["rule"]) not in seen],
    }


def audit_summary(report: Mapping[str, Any]) -> list[str]:
    """Filter: see audit_summary.yml."""
    counts = report["counts"]
    lines = [
        f"{counts[FAILED]} failed, {counts[ACCEPTED]} accepted, {counts[ADVICE]} advised, {counts[UNKNOWN]} not known, "
        f"{counts[PASSED]} passed"
    ]
    for bar in report["bars"]:
        word = "ok     " if bar["reached"] else "MISSED "
        value = f"{bar['value']}{bar['unit']}" if bar["measured"] else "not measured"
        lines.append(
            f"{word} {bar['label']}: {value} on {bar['worst']}, wanted {bar['wanted']}"
            + (f"; left out on {', '.join(bar['left_out'])}" if bar["left_out"] else "")
        )
    lines += [f"MISSED  {host} was not audited" for host in report["not_audited"]]
    for finding in report["findings"]:
        if finding["status"] in {FAILED, UNKNOWN}:
            hosts = ", ".join(finding["found"])
            found = "; ".join(dict.fromkeys(filter(None, finding["found"].values())))
            lines.append(
                f"{finding['status'].upper():7} {hosts}: {finding['scanner']} {finding['rule']}: {finding['title']}"
                + (f" ({found})" if found else "")
            )
    # Many of the toolkit's are for hosts of another kind; the report has them.
    if stale := len(report["stale_deviations"]):
        lines.append(f"stale   {stale} accepted deviations that no scanner has reported")
    return lines
