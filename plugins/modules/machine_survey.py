#!/usr/bin/python
"""Survey a machine: system, size, clock and listening services, in one call that changes nothing."""

from __future__ import annotations

import contextlib
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
    sudo:
      description: Whether it has become root by sudo.
      type: bool
    managed:
      description: Whether this toolkit has been here before.
      type: bool
    addresses:
      description: The machine's own IPv4 addresses.
      type: list
    advertised:
      description: Network interfaces whose IPv6 default route the kernel has from router advertisements.
      type: list
    listeners:
      description: Services that listen, each with C(protocol), C(address), C(port) and C(process).
      type: list
"""

LISTENING, UNCONNECTED = "0A", "07"  # states in /proc/net: TCP's LISTEN, and what UDP shows for a bound socket
GIGABYTE = 10**9
RTF_ADDRCONF = 0x40000  # uapi/linux/ipv6_route.h: the kernel's own reading of an advertisement


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


def connected_user() -> str:
    """Return who the controller has logged in as, before becoming root."""
    if user := os.environ.get("SUDO_USER"):
        return user
    # Whoever became root otherwise is still known to the kernel as who logged in.
    with contextlib.suppress(OSError, KeyError, OverflowError):
        return pwd.getpwuid(int(Path("/proc/self/loginuid").read_text())).pw_name
    return pwd.getpwuid(os.getuid()).pw_name


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
    routes = Path("/proc/net/ipv6_route")  # not there without IPv6
    data_disk_gb, data_device_found = data_disk(module.params["data_directory"], module.params["data_device"])
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
            "user": connected_user(),
            "sudo": "SUDO_USER" in os.environ,
            "managed": Path("/etc/pryv").is_dir(),
            "addresses": own_addresses(Path("/proc/net/fib_trie").read_text()),
            "advertised": advertised(routes.read_text()) if routes.exists() else [],
            "listeners": listeners(),
        },
    )


if __name__ == "__main__":
    main()
