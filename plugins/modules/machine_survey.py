#!/usr/bin/python
"""Survey a machine: system, size, clock, and what others run on it, in one call that changes nothing."""

from __future__ import annotations

import ipaddress
import os
import platform
import pwd
import re
import sys
import time
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.machine_survey_docker import docker
from ansible.module_utils.machine_survey_firewalls import firewalls, loaded_tables

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
ansible_facts:
  description: What roles ask of a host, as module C(setup) names it, so that hosts are asked once.
  type: dict
  returned: always
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
    packages:
      description: The names of installed packages, with spaces between them.
      type: str
    shared_memory_is_closed:
      description: Whether nothing can be executed from /dev/shm, neither now nor when /etc/fstab has been read again.
      type: bool
"""

LISTENING, UNCONNECTED = "0A", "07"  # states in /proc/net: TCP's LISTEN, and what UDP shows for a bound socket
GIGABYTE = 10**9
RTF_ADDRCONF = 0x40000  # uapi/linux/ipv6_route.h: the kernel's own reading of an advertisement
DOCKERS_INTERFACE = re.compile(r"docker0|docker_gwbridge|br-.+")  # as role firewall knows them
APT_LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock")

Run = t.Callable[[list[str]], tuple[int, str, str]]


def os_release(text: str) -> dict[str, str]:
    """Return the fields of an os-release file."""
    fields = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key: value.strip("\"'") for key, _, value in fields}


def cpus() -> int:
    """Return how many CPUs may be used."""
    return len(os.sched_getaffinity(0))


def ram_mb() -> int | None:
    """Return the RAM in MiB."""
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(memory[1]) // 1024 if memory else None


def facts(release: t.Mapping[str, str]) -> dict[str, t.Any]:
    """Return what roles ask of a host, as module setup names it.

    Args:
        release: The fields of os-release.
    """
    return {
        "architecture": platform.machine(),
        "distribution": release.get("ID", "").capitalize(),
        "distribution_major_version": release.get("VERSION_ID", "").partition(".")[0],
        "distribution_version": release.get("VERSION_ID", ""),
        "memtotal_mb": ram_mb(),
        "processor_nproc": cpus(),
    }


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


def shared_memory_is_closed(mounts: str, table: str) -> bool:
    """Return whether nothing can be executed from /dev/shm.

    Args:
        mounts: /proc/self/mountinfo.
        table: /etc/fstab.
    """
    now = re.findall(r"^(?:\S+ ){4}/dev/shm (\S+)", mounts, re.MULTILINE)
    later = re.findall(r"^\s*tmpfs\s+/dev/shm\s+tmpfs\s+(\S+)", table, re.MULTILINE)
    return all(found and {"nosuid", "nodev", "noexec"} <= set(found[-1].split(",")) for found in (now, later))


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


def packages(run: Run) -> list[str]:
    """Return the names of installed packages."""
    if not Path("/usr/bin/dpkg-query").exists():
        return []
    _, output, _ = run(["/usr/bin/dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\\n"])
    return [line.split()[1] for line in output.splitlines() if line.startswith("installed ")]


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
    root = os.statvfs("/")
    routes6 = Path("/proc/net/ipv6_route")  # not there without IPv6
    trie = Path("/proc/net/fib_trie").read_text()
    login, became = origin(os.getpid())
    directory, device = module.params["data_directory"], module.params["data_device"]
    mounts, table = Path("/proc/self/mountinfo").read_text(), Path("/etc/fstab")
    data_disk_gb, data_device_found = data_disk(directory, device)
    module.exit_json(
        changed=False,
        ansible_facts=facts(release),
        survey={
            "system": {key: release.get(key, "") for key in ("ID", "VERSION_ID", "PRETTY_NAME")},
            "python": [int(part) for part in platform.python_version_tuple()[:2]],
            "cpus": cpus(),
            "ram_mb": ram_mb(),
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
            "data_place": data_place(directory, mounts, device),
            "firewalls": firewalls(loaded_tables(module.run_command)),
            "docker": docker(directory, module.run_command),
            "apt_lock": apt_lock(Path("/proc/locks").read_text()),
            "packages": " ".join(packages(module.run_command)),
            "shared_memory_is_closed": shared_memory_is_closed(mounts, table.read_text() if table.exists() else ""),
        },
    )


if __name__ == "__main__":
    main()
