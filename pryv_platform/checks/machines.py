"""What hosts say of themselves, except their sizes, which the capacity plan is held against."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pryv_platform.ports import PORTS
from pryv_platform.problems import Problem, Severity, make_error, make_problem

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


def _inside(*services: str) -> dict[tuple[str, int], str]:
    return {("tcp", PORTS[service]): "inside" for service in services}


TAKEN: dict[str, dict[tuple[str, int], str]] = {
    "web": {**_HTTP, **_inside("pages")},
    "registry": {
        **_HTTP,
        ("udp", 53): "outside",
        ("tcp", PORTS["replication"]): "outside",
        ("udp", PORTS["dns"]): "inside",
        **_inside("redis", "register"),
    },
    "leader": _inside("mail", "admin_panel"),
    "core": {**_HTTP, **_inside("core", "hfs", "mfa", "preview")},
    "monitoring": {**_HTTP, **_inside("prometheus", "alertmanager", "blackbox_exporter")},
    # Every host, where there is one that monitors.
    "monitored": {("tcp", PORTS["metrics"]): "outside", **_inside("node_exporter", "mtail")},
    "monitored registry": _inside("redis_exporter"),
}
# Which processes of a platform that has been provisioned have its ports.
OURS = {
    "everywhere": {"nginx"},
    "outside": {"nginx"},
    # As the kernel shortens them.
    "inside": {
        *("dockerd", "docker-proxy", "mtail", "prometheus"),
        *(f"prometheus-{name}" for name in ("aler", "blac", "node", "redi")),
    },
}


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
            roles = _roles(topology, host)
            flows = [flow for flow in topology["flows"] if flow["target"] == host]
            problems += _machine_problems(host, result["survey"], roles, clock_offset, now)
            problems += _firewall_problems(host, result["survey"]["firewalls"], flows)
    return problems


def _roles(topology: Mapping[str, Any], host: str) -> list[str]:
    """Return for what a host needs ports: keys of `TAKEN`."""
    roles = [*topology["hosts"][host]["roles"], *(["leader"] if host == topology["leader"] else [])]
    if topology["monitoring"]:
        roles += ["monitored", *(["monitored registry"] if "registry" in roles else [])]
    return roles


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
    wanted = {port: where for role in roles for port, where in TAKEN.get(role, {}).items()}
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
