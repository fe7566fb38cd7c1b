#!/usr/bin/python
"""Survey a machine: system, size, clock, and what others run on it, in one call that changes nothing."""

from __future__ import annotations

import ipaddress
import json
import os
import platform
import pwd
import re
import shlex
import sys
import time
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: machine_survey
short_description: Survey a machine in one call that changes nothing
description:
  - Says what preflight needs to know of a machine that nothing has been installed on yet. Needs Python alone.
options:
  data_directory:
    description: Where data will lie. When it is a mount point already, that file system is the data disk.
    type: path
    required: true
  data_device:
    description: The block device that will be the data disk, when there is one.
    type: path
  controller_time:
    description: Seconds since the epoch on the controller, as late as it can be told.
    type: float
    required: true
attributes:
  check_mode:
    support: full
    description: It never changes anything.
author:
  - Pryv Ansible contributors
"""

EXAMPLES = r"""
- name: Survey the machine
  machine_survey:
    data_directory: /srv/pryv
    controller_time: "{{ lookup('pipe', 'date +%s.%N') }}"
"""

RETURN = r"""
survey:
  description: What was found.
  type: dict
  returned: always
  contains:
    system:
      description: The fields C(ID), C(VERSION_ID) and C(PRETTY_NAME) of os-release.
      type: dict
    python:
      description: Version of Python, as numbers.
      type: list
    cpus:
      description: CPUs that may be used.
      type: int
    ram_mb:
      description: RAM in MiB.
      type: int
    os_disk_gb:
      description: Size of the root file system in units of 10^9 bytes.
      type: float
    os_free_gb:
      description: What of it is free.
      type: float
    data_disk_gb:
      description: Size of the data disk in units of 10^9 bytes; none when data lies on the OS disk.
      type: float
    data_device_found:
      description: Whether C(data_device) is a block device; none when none was given.
      type: bool
    clock_offset:
      description: Seconds that the clock is ahead of what the controller's was when it asked.
      type: float
    asked_at:
      description: The controller's clock when it asked, in seconds since the epoch.
      type: float
    user:
      description: Who the controller has logged in as, before becoming root.
      type: str
    became:
      description: The program by which that user became root, such as C(sudo); none when they were it, or are not.
      type: str
    sudoers:
      description: What C(visudo --check) finds wrong, one line each.
      type: list
    managed:
      description: Whether this toolkit has been here before.
      type: bool
    addresses:
      description: The machine's own IPv4 addresses.
      type: list
    routes:
      description: IPv4 networks, in CIDR notation, to which it has a route that is not Docker's.
      type: list
    ipv6:
      description: Whether its kernel has IPv6.
      type: bool
    advertised:
      description: Network interfaces whose IPv6 default route the kernel has from router advertisements.
      type: list
    listeners:
      description: Services that listen, each with C(protocol), C(address), C(port) and C(process).
      type: list
    data_place:
      description:
        - C(link), the first symbolic link on the way to C(data_directory), and C(leads_to), where it leads; or none.
        - C(is_file), whether something that is no folder is there.
        - C(filesystem) and C(options) of the mount that data will lie on; none and empty until the device is mounted.
      type: dict
    firewalls:
      description:
        - Chains of others that drop what they do not know, each with C(name), the C(hook) it sees (C(input) or
          C(forward)), and C(open), what it lets through, such as C(tcp/22) or C(tcp/80-90).
      type: list
    docker:
      description:
        - C(ours), whether this toolkit has configured it; C(packages), versions by name; C(snap), if it is a snap.
        - C(settings), the keys of daemon.json, and C(flags), options of the daemon by the file that sets them.
        - C(root), where it keeps its data; C(containers), each with C(name) and C(image), and C(volumes), if not ours.
      type: dict
    apt_lock:
      description: The program that holds dpkg's or apt's lock; none when it is free.
      type: str
"""

LISTENING, UNCONNECTED = "0A", "07"  # states in /proc/net: TCP's LISTEN, and what UDP shows for a bound socket
GIGABYTE = 10**9
RTF_ADDRCONF = 0x40000  # uapi/linux/ipv6_route.h: the kernel's own reading of an advertisement
DOCKERS_INTERFACE = re.compile(r"docker0|docker_gwbridge|br-.+")  # as role firewall knows them
#: All that brings a daemon or client of Docker's, or stands in its way.
DOCKER_PACKAGES = (
    *(
        "containerd",
        "containerd.io",
        "docker-ce",
        "docker-ce-cli",
        "docker-cli",
        "docker-compose",
        "docker-compose-plugin",
    ),
    *("docker-compose-v2", "docker-engine", "docker.io", "moby-cli", "moby-compose", "moby-containerd", "moby-engine"),
    *("moby-runc", "podman-docker", "runc"),
)
UNIT_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
)
APT_LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock")

Run = t.Callable[[list[str]], tuple[int, str, str]]


def os_release(text: str) -> dict[str, str]:
    """Return the fields of an os-release file."""
    fields = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key: value.strip("\"'") for key, _, value in fields}


def address_of(text: str) -> str:
    """Return an address that /proc/net writes as hexadecimal 32-bit words in the machine's byte order.

    An IPv4 address in an IPv6 socket is returned as IPv4.
    """
    words = [int(text[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def listening(text: str, protocol: str) -> t.Iterator[tuple[dict[str, t.Any], str]]:
    """Yield the listening sockets of a /proc/net file, each with its inode."""
    state = UNCONNECTED if protocol == "udp" else LISTENING
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == state:
            address, _, port = fields[1].partition(":")
            yield {"protocol": protocol, "address": address_of(address), "port": int(port, 16)}, fields[9]


def processes_by_inode(wanted: t.Collection[str]) -> dict[str, str]:
    """Return the name of a process that holds each of the sockets."""
    found: dict[str, str] = {}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            for handle in (process / "fd").iterdir():
                match = re.fullmatch(r"socket:\[(\d+)\]", str(handle.readlink()))
                if match and match[1] in wanted:
                    found.setdefault(match[1], (process / "comm").read_text().strip())
        except OSError:
            continue  # it ended meanwhile, or belongs to somebody else
    return found


def listeners() -> list[dict[str, t.Any]]:
    """Return the services that listen."""
    sockets: list[tuple[dict[str, t.Any], str]] = []
    for name in ("tcp", "tcp6", "udp", "udp6"):
        file = Path("/proc/net", name)
        if file.exists():
            sockets += listening(file.read_text(), name[:3])
    names = processes_by_inode({inode for _, inode in sockets})
    unique = {tuple(socket.items()): {**socket, "process": names.get(inode, "?")} for socket, inode in sockets}
    return list(unique.values())


def own_addresses(text: str) -> list[str]:
    """Return the IPv4 addresses of /proc/net/fib_trie that are the machine's own."""
    found = re.findall(r"\|-- (\S+)\s+/32 host LOCAL", text)
    return sorted({address for address in found if not ipaddress.ip_address(address).is_loopback})


def advertised(text: str) -> list[str]:
    """Return the interfaces of /proc/net/ipv6_route that have an advertised default route."""
    routes = (line.split() for line in text.splitlines())
    return sorted(
        {route[9] for route in routes if int(route[0] + route[1], 16) == 0 and int(route[8], 16) & RTF_ADDRCONF}
    )


def data_disk(directory: str, device: str | None) -> tuple[float | None, bool | None]:
    """Return the data disk's size in units of 10^9 bytes, and whether the named device is there."""
    present: bool | None = None
    size: float | None = None
    if device:
        real = Path(device).resolve()
        sectors = Path("/sys/class/block", real.name, "size")
        present = real.is_block_device() and sectors.exists()
        if present:
            size = int(sectors.read_text()) * 512 / GIGABYTE
    if Path(directory).is_mount():
        system = os.statvfs(directory)
        size = system.f_blocks * system.f_frsize / GIGABYTE
    return size, present


# -- who logged in -------------------------------------------------------------------------------------------------


def origin(pid: int, proc: Path = Path("/proc")) -> tuple[int, str | None]:
    """Return the id of the user in whose login a process runs, and the program that made it root's.

    Args:
        pid: The process.
        proc: Where the kernel's view of processes is.
    """
    program: str | None = None
    while pid > 1:
        status = dict(re.findall(r"^(\w+):\s*(.*)$", (proc / str(pid) / "status").read_text(), re.MULTILINE))
        user, effective = map(int, status["Uid"].split()[:2])
        if user:
            return user, status["Name"] if effective == 0 else program
        program, pid = status["Name"], int(status["PPid"])
    return 0, None


def name_of(user: int) -> str:
    """Return a user's name; the number when there is none."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def sudoers(run: Run) -> list[str]:
    """Return what is wrong with sudo's files."""
    if not Path("/usr/sbin/visudo").exists():
        return []
    status, _, errors = run(["/usr/sbin/visudo", "--check"])
    return [line for line in errors.splitlines() if line.startswith("/")] if status else []


# -- where data will lie -------------------------------------------------------------------------------------------


def data_place(directory: str, mounts: str, device: str | None) -> dict[str, t.Any]:
    """Return what is where data will lie.

    Args:
        directory: The place.
        mounts: /proc/self/mountinfo.
        device: The block device that will be mounted there, when there is one.
    """
    path = Path(os.path.normpath(directory))
    link = next((part for part in (*reversed(path.parents), path) if part.is_symlink()), None)
    real = path.resolve()
    filesystem, options, place = None, "", Path("/")
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        point = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4]))
        if real.is_relative_to(point) and point.is_relative_to(place):  # of several at one place, the last is seen
            filesystem, options, place = right.split()[0], fields[5], point
    if device and place != real:
        filesystem, options = None, ""
    return {
        "link": str(link) if link else None,
        "leads_to": str(link.resolve()) if link else None,
        "is_file": real.exists() and not real.is_dir(),
        "filesystem": filesystem,
        "options": [option for option in options.split(",") if option],
    }


# -- networks ------------------------------------------------------------------------------------------------------


def routes(trie: str, interfaces: str) -> list[str]:
    """Return the networks that the machine has a route to, of all its tables; Docker's own are left out.

    Args:
        trie: /proc/net/fib_trie.
        interfaces: /proc/net/route, which has the main table's interfaces.
    """
    dockers = set()
    for line in interfaces.splitlines()[1:]:
        interface, destination, *_, mask = line.split()[:8]
        if DOCKERS_INTERFACE.fullmatch(interface):
            dockers.add(str(ipaddress.ip_network(f"{address_of(destination)}/{address_of(mask)}")))
    found = re.findall(r"\|-- (\S+)((?:\n\s+/\d+ \w+ \w+)+)", trie)
    unicast = {f"{address}/{length}" for address, kinds in found for length in re.findall(r"/(\d+) \w+ UNICAST", kinds)}
    return sorted(network for network in unicast - dockers if int(network.rpartition("/")[2]) > 1)


class Rule(t.NamedTuple):
    """What a rule of a firewall does.

    Attributes:
        verdict: C(accept), C(drop), or the chain that it goes on with; none for what only counts and logs.
        always: Whether it applies to all packets.
        opens: What it applies to: C(tcp/443), and C(containers) for what comes from Docker's interfaces.
    """

    verdict: str | None
    always: bool
    opens: list[str]


class Chain:
    """A chain of a firewall: the hook it sees, its policy, its rules."""

    def __init__(self, hook: str | None = None, policy: str = "accept") -> None:
        """Make one without rules."""
        self.hook, self.policy = hook, policy
        self.rules: list[Rule] = []


#: Chains by name, by family and name of their table.
Tables = dict[tuple[str, str], dict[str, Chain]]


def nft_tables(listed: t.Iterable[dict[str, t.Any]]) -> Tables:
    """Return what C(nft --json list ruleset) says."""
    tables: Tables = {}
    sets: dict[tuple[str, str, str], list[t.Any]] = {}
    for entry in listed:
        kind, content = next(iter(entry.items()))
        place = (content.get("family", ""), content.get("table", ""))
        if kind == "set":
            sets[(*place, f"@{content['name']}")] = content.get("elem", [])
        elif kind == "chain":
            hook = content.get("hook") if content.get("type") == "filter" else None
            tables.setdefault(place, {})[content["name"]] = Chain(hook, content.get("policy", "accept"))
        elif kind == "rule":
            named = {name: items for (*where, name), items in sets.items() if tuple(where) == place}
            tables[place][content["chain"]].rules.append(nft_rule(content["expr"], named))
    return tables


def nft_rule(expressions: list[dict[str, t.Any]], sets: t.Mapping[str, list[t.Any]]) -> Rule:
    """Return what the expressions of a rule come to."""
    verdict, always = None, True
    opens: list[str] = []
    for expression in expressions:
        kind, content = next(iter(expression.items()))
        # Older ones say of iptables' extensions only that there is one.
        target = content.get("name", "") if kind == "xt" and content and content.get("type") == "target" else kind
        if target.lower() in ("accept", "drop", "reject"):
            verdict = "accept" if target.lower() == "accept" else "drop"
        elif kind in ("jump", "goto"):
            verdict = content["target"]
        elif kind == "match":
            always = False
            opens += nft_opens(content["left"], content["right"], sets)
        elif kind == "vmap":
            always = False
            pairs = content["data"].get("set", []) if isinstance(content["data"], dict) else []
            accepted = [key for key, result in pairs if "accept" in result]
            if found := nft_opens(content["key"], {"set": accepted}, sets):
                verdict, opens = "accept", opens + found
        elif kind not in ("counter", "log") and kind == target:
            always = False
    return Rule(verdict, always, opens)


def nft_opens(left: t.Any, right: t.Any, sets: t.Mapping[str, list[t.Any]]) -> list[str]:
    """Return the ports that a match names, or that it is about Docker's interfaces."""
    if isinstance(right, dict) and "set" in right:
        values = right["set"]
    else:
        values = sets.get(right, [right]) if isinstance(right, str) else [right]
    if isinstance(left, dict) and left.get("meta", {}).get("key") in ("iifname", "iif"):
        return ["containers"] if any(str(value).startswith(("docker0", "br-")) for value in values) else []
    payload = left.get("payload", {}) if isinstance(left, dict) else {}
    if payload.get("field") != "dport":
        return []
    protocols = ("tcp", "udp") if payload.get("protocol") == "th" else (payload["protocol"],)
    ports: list[str] = []
    plain = [value["elem"]["val"] if isinstance(value, dict) and "elem" in value else value for value in values]
    for value in plain:
        first, last = value["range"] if isinstance(value, dict) and "range" in value else (value, value)
        if isinstance(first, int) and isinstance(last, int):
            ports += [f"{protocol}/{ports_text(first, last)}" for protocol in protocols]
    return ports


def ports_text(first: int, last: int) -> str:
    """Return a range of ports as text: ``22``, ``8000-8080``."""
    return str(first) if first == last else f"{first}-{last}"


def iptables_tables(text: str, family: str) -> Tables:
    """Return what iptables-save says.

    Args:
        text: Its output.
        family: C(ip) or C(ip6).
    """
    chains: dict[str, Chain] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif table == "filter" and line.startswith(":"):
            name, policy = line[1:].split()[:2]
            hook = {"INPUT": "input", "FORWARD": "forward"}.get(name)
            chains[name] = Chain(hook, "drop" if policy == "DROP" else "accept")
        elif table == "filter" and line.startswith("-A "):
            _, chain, *words = shlex.split(line)
            chains[chain].rules.append(iptables_rule(words))
    return {(family, "filter"): chains} if chains else {}


def iptables_rule(words: list[str]) -> Rule:
    """Return what a rule of iptables comes to."""
    at = next((index for index, word in enumerate(words) if word in ("-j", "-g")), len(words))
    target = words[at + 1] if at < len(words) else None
    verdict = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop", "LOG": None}.get(target or "LOG", target)
    conditions = " ".join(words[:at])
    always = not re.sub(r"-m comment --comment .*?(?= -|$)", "", conditions).strip()
    protocol = re.search(r"-p (\w+)", conditions)
    ports = re.search(r"(?<!! )--dports? ([\d,:]+)", conditions)
    opens = ["containers"] if re.search(r"(?<!! )-i (docker0|br-)", conditions) else []
    for item in ports[1].split(",") if ports and protocol else ():
        first, _, last = item.partition(":")
        opens += [f"{protocol[1]}/{ports_text(int(first), int(last or first))}"] if protocol else []
    return Rule(verdict, always, opens)


def drops(chains: t.Mapping[str, Chain], name: str, seen: frozenset[str] = frozenset()) -> bool:
    """Tell whether a chain has a rule, of its own or of one that it goes on with, that drops all that comes to it."""
    return name in chains and any(
        rule.always
        and rule.verdict not in (None, "accept")
        and (rule.verdict == "drop" or (rule.verdict not in seen and drops(chains, str(rule.verdict), seen | {name})))
        for rule in chains[name].rules
    )


def firewalls(tables: Tables) -> list[dict[str, t.Any]]:
    """Return the chains of others that drop what they do not know."""
    found: dict[tuple[str, str], set[str]] = {}
    for (family, table), chains in tables.items():
        if (family, table) == ("inet", "pryv") or table == "docker-bridges":
            continue
        for name, chain in chains.items():
            # Docker puts its own rules first in iptables' forwarding, and has firewalld let its interfaces through.
            is_passed = chain.hook == "forward" and ((family != "inet" and table == "filter") or table == "firewalld")
            if chain.hook not in ("input", "forward") or is_passed:
                continue
            if chain.policy != "drop" and not drops(chains, name):
                continue
            title = f"table {family} {table}"
            if any(other.startswith(("ufw-", "ufw6-")) for other in chains):
                title = "ufw"
            elif table == "firewalld":
                title = "firewalld"
            elif name == "INPUT":
                title = "iptables"
            rules = [rule for other in chains.values() for rule in other.rules if rule.verdict == "accept"]
            found.setdefault((title, chain.hook), set()).update(port for rule in rules for port in rule.opens)
    return [{"name": name, "hook": hook, "open": sorted(opens)} for (name, hook), opens in found.items()]


def loaded_tables(run: Run) -> Tables:
    """Return all tables of packet filters, whichever programs are there to ask."""
    tables: Tables = {}
    if Path("/usr/sbin/nft").exists():
        status, listed, _ = run(["/usr/sbin/nft", "--json", "list", "ruleset"])
        tables = nft_tables(json.loads(listed)["nftables"]) if status == 0 and listed else {}
    # It knows its own matches, which nft can only name; and what the kernel's older tables hold.
    for program in ("iptables-save", "ip6tables-save", "iptables-legacy-save", "ip6tables-legacy-save"):
        if Path("/usr/sbin", program).exists():
            status, saved, _ = run([f"/usr/sbin/{program}"])
            found = iptables_tables(saved, "ip6" if program.startswith("ip6") else "ip") if status == 0 else {}
            for (family, table), chains in found.items():
                tables[(family, f"{table} (legacy)") if "legacy" in program else (family, table)] = chains
    return tables


# -- Docker --------------------------------------------------------------------------------------------------------


def daemon_options(command: str) -> list[str]:
    """Return the options in a command or in DOCKER_OPTS; values, which may be anything, are left out but for hosts'."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    found = []
    for word, following in zip(words, [*words[1:], ""]):  # noqa: B905  # Python 3.10's needs no word for it
        name, _, value = word.partition("=")
        if name.startswith("-"):
            name = {"-H": "--host", "-g": "--data-root", "--graph": "--data-root", "-l": "--log-level"}.get(name, name)
            found.append(f"{name}={value or following}" if name == "--host" else name)
    return found


def daemon_flags(root: Path = Path("/")) -> dict[str, list[str]]:
    """Return options of Docker's daemon that an administrator's files set, by file.

    Args:
        root: Where the system is.
    """
    found: dict[str, list[str]] = {}
    units = [root / "etc/systemd/system/docker.service"]
    for folder in UNIT_FOLDERS:
        units += sorted((root / folder[1:] / "docker.service.d").glob("*.conf"))
    for file in units:
        if file.is_file():
            text = file.read_text(errors="replace").replace("\\\n", " ")
            commands = re.findall(r"^\s*ExecStart\s*=(.+)$", text, re.MULTILINE)
            commands += re.findall(r"^\s*Environment\s*=.*?DOCKER_OPTS=([^\n\"']*)", text, re.MULTILINE)
            found[f"/{file.relative_to(root)}"] = [option for one in commands for option in daemon_options(one)]
    defaults = root / "etc/default/docker"
    if defaults.is_file():
        set_there = re.findall(
            r"^\s*(?:export\s+)?DOCKER_OPTS=(.*)$", defaults.read_text(errors="replace"), re.MULTILINE
        )
        words = " ".join(text.strip("\"' ") for text in set_there)
        found["/etc/default/docker"] = daemon_options(words)
    return {file: options for file, options in found.items() if options}


def daemon_settings(file: Path) -> dict[str, t.Any] | None:
    """Return what a daemon.json has; none when it cannot be read."""
    try:
        content = json.loads(file.read_text() or "{}")
    except FileNotFoundError:
        return {}
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def containers(root: Path) -> list[dict[str, str]]:
    """Return the containers that Docker has noted; whether it runs does not matter, and asking would start it.

    Args:
        root: Where Docker keeps its data.
    """
    found = []
    for file in sorted(root.glob("containers/*/config.v2.json")):
        try:
            content = json.loads(file.read_text())
            found.append({"name": content["Name"].lstrip("/"), "image": content["Config"]["Image"]})
        except (OSError, ValueError, KeyError):
            found.append({"name": file.parent.name[:12], "image": "?"})
    return found


def docker(data_directory: str, run: Run) -> dict[str, t.Any]:
    """Return what there is of Docker.

    Args:
        data_directory: Where data will lie; this toolkit's Docker keeps its own there.
        run: Runs a command.
    """
    settings = daemon_settings(Path("/etc/docker/daemon.json"))
    drop_in = Path("/etc/systemd/system/docker.service.d/pryv.conf")
    root = str((settings or {}).get("data-root") or (settings or {}).get("graph") or "/var/lib/docker")
    ours = drop_in.exists() or root == f"{data_directory}/docker"
    form = "--showformat=${db:Status-Status} ${Package} ${Version}\\n"
    _, listed, _ = run(["/usr/bin/dpkg-query", "--show", form, *DOCKER_PACKAGES])
    fields = (line.split() for line in listed.splitlines())
    return {
        "ours": ours,
        "packages": {entry[1]: entry[2] for entry in fields if len(entry) == 3 and entry[0] == "installed"},
        "snap": Path("/snap/bin/docker").exists(),
        "settings": None if settings is None else sorted(settings),
        "flags": daemon_flags(),
        "root": root,
        "containers": [] if ours else containers(Path(root)),
        "volumes": [] if ours else sorted(path.name for path in Path(root, "volumes").glob("*") if path.is_dir()),
    }


def apt_lock(locks: str) -> str | None:
    """Return the name of the process that holds a lock of apt's.

    Args:
        locks: /proc/locks.
    """
    ours = {Path(path).stat().st_ino for path in APT_LOCKS if Path(path).exists()}
    for line in locks.splitlines():
        fields = line.split()
        if "->" not in fields and int(fields[5].rpartition(":")[2]) in ours:
            command = Path("/proc", fields[4], "comm")
            return command.read_text().strip() if command.exists() else "a program"
    return None


def main() -> None:
    """Survey the machine."""
    module = AnsibleModule(
        argument_spec={
            "data_directory": {"type": "path", "required": True},
            "data_device": {"type": "path"},
            "controller_time": {"type": "float", "required": True},
        },
        supports_check_mode=True,
    )
    clock_offset = time.time() - module.params["controller_time"]
    release = os_release(Path("/etc/os-release").read_text())
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    root = os.statvfs("/")
    routes6 = Path("/proc/net/ipv6_route")  # not there without IPv6
    trie = Path("/proc/net/fib_trie").read_text()
    login, became = origin(os.getpid())
    directory, device = module.params["data_directory"], module.params["data_device"]
    data_disk_gb, data_device_found = data_disk(directory, device)
    module.exit_json(
        changed=False,
        survey={
            "system": {key: release.get(key, "") for key in ("ID", "VERSION_ID", "PRETTY_NAME")},
            "python": [int(part) for part in platform.python_version_tuple()[:2]],
            "cpus": len(os.sched_getaffinity(0)),
            "ram_mb": int(memory[1]) // 1024 if memory else None,
            "os_disk_gb": root.f_blocks * root.f_frsize / GIGABYTE,
            "os_free_gb": root.f_bavail * root.f_frsize / GIGABYTE,
            "data_disk_gb": data_disk_gb,
            "data_device_found": data_device_found,
            "clock_offset": clock_offset,
            "asked_at": module.params["controller_time"],
            "user": name_of(login),
            "became": became,
            "sudoers": sudoers(module.run_command),
            "managed": Path("/etc/pryv").is_dir(),
            "addresses": own_addresses(trie),
            "routes": routes(trie, Path("/proc/net/route").read_text()),
            "ipv6": Path("/proc/net/if_inet6").exists(),
            "advertised": advertised(routes6.read_text()) if routes6.exists() else [],
            "listeners": listeners(),
            "data_place": data_place(directory, Path("/proc/self/mountinfo").read_text(), device),
            "firewalls": firewalls(loaded_tables(module.run_command)),
            "docker": docker(directory, module.run_command),
            "apt_lock": apt_lock(Path("/proc/locks").read_text()),
        },
    )


if __name__ == "__main__":
    main()
