#!/usr/bin/python
"""Find the ports of an address that answer, without any scanner installed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
import time
import typing as t
from collections.abc import Iterable, Mapping, Sequence

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: port_scan
short_description: Find the ports of an address that answer
description:
  - Opens a connection to each TCP port, over IPv4 or IPv6, and closes it again.
  - UDP services answer only what they understand, so each port gets a question of the protocol that usually lives
    there; a service that keeps silent is not found.
  - Runs on a machine that clients could be on, usually the controller.
options:
  addresses:
    description: IPv4 or IPv6 addresses to look at.
    type: list
    elements: str
    required: true
  tcp_first:
    description: First TCP port.
    type: int
    default: 1
  tcp_last:
    description: Last TCP port.
    type: int
    default: 65535
  udp_ports:
    description: UDP ports to ask.
    type: list
    elements: int
    default: [53, 67, 69, 111, 123, 137, 161, 500, 514, 547, 1194, 1900, 4500, 5353, 11211, 51820]
  timeout:
    description: How long a port may take to answer, in seconds; more than 1, so that a lost packet is sent again.
    type: float
    default: 2.5
  parallel:
    description: Ports of an address tried at a time; fewer when the process may not open so many files.
    type: int
    default: 2000
attributes:
  check_mode:
    support: full
    description: It never changes anything.
author:
  - Pryv Ansible contributors
"""

EXAMPLES = r"""
- name: Look at a host as a neighbour sees it
  port_scan:
    addresses: [192.0.2.10, "2001:db8::10"]
  delegate_to: localhost
"""

RETURN = r"""
scans:
  description: What was found at each address.
  type: dict
  returned: always
  contains:
    tcp:
      description: TCP ports that are open.
      type: list
      elements: int
    udp:
      description: UDP ports that answered.
      type: list
      elements: int
    reached:
      description: Whether the address can be reached at all from here; when not, no port says anything.
      type: bool
    seconds:
      description: How long it took.
      type: float
"""

UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}

_DNS = bytes.fromhex("1234010000010000000000000776657273696f6e0462696e640000100003")  # version.bind TXT, class CHAOS
#: What the usual service of a UDP port answers to.
QUESTIONS: Mapping[int, bytes] = {
    53: _DNS,
    69: b"\x00\x01audit\x00octet\x00",
    111: bytes.fromhex("1234567800000000000000020001 86a0 00000002 00000000 0000000000000000 0000000000000000"),
    123: b"\x23" + bytes(47),
    137: bytes.fromhex("123400000001000000000000") + b" CKAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\x00\x00\x21\x00\x01",
    161: bytes.fromhex("302602010104067075626c6963a01902041234567802010002010030 0b300906052b060102010500"),
    1900: b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: ssdp:all\r\n\r\n',
    5353: _DNS,
    11211: b"\x00\x01\x00\x00\x00\x01\x00\x00version\r\n",
}


def family_of(address: str) -> socket.AddressFamily:
    """Return the family of an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Scanner:
    """Looks at one address.

    Args:
        address: The address.
        timeout: How long a port may take to answer, in seconds.
        parallel: Ports tried at a time.
    """

    def __init__(self, address: str, timeout: float, parallel: int) -> None:
        """Remember what to look at."""
        self.address = address
        self.timeout = timeout
        self.parallel = parallel
        self.unreachable = 0

    async def _tcp(self, port: int) -> bool:
        with socket.socket(family_of(self.address), socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            loop = asyncio.get_running_loop()
            try:
                await asyncio.wait_for(loop.sock_connect(connection, (self.address, port)), self.timeout)
            except (TimeoutError, asyncio.TimeoutError):
                return False
            except OSError as error:
                self.unreachable += error.errno in UNREACHABLE
                return False
            return True

    async def _udp(self, port: int) -> bool:
        with socket.socket(family_of(self.address), socket.SOCK_DGRAM) as connection:
            connection.setblocking(False)
            loop = asyncio.get_running_loop()
            question = QUESTIONS.get(port, b"\r\n\r\n")
            # Twice, since a packet may be lost; a port that refuses raises an error the second time.
            with contextlib.suppress(OSError, TimeoutError, asyncio.TimeoutError):
                await loop.sock_connect(connection, (self.address, port))
                for _ in range(2):
                    await loop.sock_sendall(connection, question)
                    with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                        await asyncio.wait_for(loop.sock_recv(connection, 1), self.timeout / 2)
                        return True
        return False

    async def _all(self, probe: t.Callable[[int], t.Coroutine[t.Any, t.Any, bool]], ports: Iterable[int]) -> list[int]:
        """Return the ports for which a probe says yes, with a fixed number of probes under way."""
        waiting, found = iter(ports), []

        async def work() -> None:
            for port in waiting:
                if await probe(port):
                    found.append(port)

        await asyncio.gather(*(work() for _ in range(self.parallel)))
        return sorted(found)

    async def scan(self, tcp: range, udp: Iterable[int]) -> dict[str, t.Any]:
        """Look at the ports.

        Args:
            tcp: TCP ports to try.
            udp: UDP ports to ask.

        Returns:
            Lists C(tcp) and C(udp) of ports, C(reached), C(seconds).
        """
        start = time.monotonic()
        # UDP first: hosts limit how often they refuse, and a flood of refusals would use that up.
        found_udp = await self._all(self._udp, udp)
        found_tcp = await self._all(self._tcp, tcp)
        return {
            "tcp": found_tcp,
            "udp": found_udp,
            "reached": bool(found_tcp or found_udp) or self.unreachable < len(tcp),
            "seconds": round(time.monotonic() - start, 1),
        }


def allow_files(wanted: int) -> int:
    """Raise the number of files that this process may open, and return how many of them may be connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + 64
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, soft - 64)


async def scan_all(scanners: Sequence[Scanner], tcp: range, udp: Sequence[int]) -> dict[str, dict[str, t.Any]]:
    """Scan several addresses at the same time, and return what was found by address."""
    found = await asyncio.gather(*(scanner.scan(tcp, udp) for scanner in scanners))
    return {scanner.address: scan for scanner, scan in zip(scanners, found, strict=True)}


def main() -> None:
    """Scan the addresses."""
    module = AnsibleModule(
        argument_spec={
            "addresses": {"type": "list", "elements": "str", "required": True},
            "tcp_first": {"type": "int", "default": 1},
            "tcp_last": {"type": "int", "default": 65535},
            "udp_ports": {
                "type": "list",
                "elements": "int",
                "default": [53, 67, 69, 111, 123, 137, 161, 500, 514, 547, 1194, 1900, 4500, 5353, 11211, 51820],
            },
            "timeout": {"type": "float", "default": 2.5},
            "parallel": {"type": "int", "default": 2000},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    addresses = parameters["addresses"]
    parallel = allow_files(parameters["parallel"] * len(addresses)) // max(len(addresses), 1)
    tcp = range(parameters["tcp_first"], parameters["tcp_last"] + 1)
    scans = asyncio.run(
        scan_all(
            [Scanner(address, parameters["timeout"], parallel) for address in addresses], tcp, parameters["udp_ports"]
        )
    )
    module.exit_json(changed=False, scans=scans)


if __name__ == "__main__":
    main()
