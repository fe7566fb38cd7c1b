"""Finds out what answers at some addresses: scan.py tcp|udp PORT[-PORT],... ADDRESS ... prints open ports as JSON.

Standard library only, since hosts run it as well. An address has to answer on tcp/443, which shows in every batch of
TCP probes that answers get through.
"""

from __future__ import annotations

import errno
import json
import resource
import select
import socket
import sys
import time
from collections.abc import Iterable, Sequence

KNOWN_OPEN = 443
#: How long an answer may take, in seconds; what drops packets gives none.
PATIENCE = 1.5
BATCH = 16384
#: A question that a name server answers: the root's name servers.
QUESTION = bytes.fromhex("abcd 0100 0001 0000 0000 0000 00 0002 0001")


class DeafError(Exception):
    """Answers did not get through, so nothing is known."""


def family(address: str) -> socket.AddressFamily:
    """The family of an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def probe(targets: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those of some TCP ports that take a connection within `PATIENCE`."""
    found = set()
    waiting: dict[int, tuple[socket.socket, tuple[str, int]]] = {}
    with select.epoll() as poll:
        for target in targets:
            attempt = socket.socket(family(target[0]), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            code = attempt.connect_ex(target)
            if code not in (0, errno.EINPROGRESS, errno.ECONNREFUSED):
                raise DeafError(f"{target}: {errno.errorcode[code]}")
            waiting[attempt.fileno()] = attempt, target
            poll.register(attempt, select.EPOLLOUT)
        end = time.monotonic() + PATIENCE
        while waiting and (left := end - time.monotonic()) > 0:
            for number, _ in poll.poll(left):
                attempt, target = waiting.pop(number)
                if attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    found.add(target)
                attempt.close()
        for attempt, _ in waiting.values():
            attempt.close()
    return found


def scan_tcp(addresses: Sequence[str], ports: Sequence[int]) -> dict[str, list[int]]:
    """Open TCP ports by address.

    Args:
        addresses: IPv4 and IPv6 addresses that answer on `KNOWN_OPEN`.
        ports: The ports to look at.

    Raises:
        DeafError: When no answers came from an address, or too few files may be open.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    known = [(address, KNOWN_OPEN) for address in addresses]
    targets = [(address, port) for port in ports for address in addresses if port != KNOWN_OPEN]
    size = min(BATCH, most - 100) - len(known)
    found = set()
    for start in range(0, len(targets), size):
        answered = probe(known + targets[start : start + size])
        if not answered.issuperset(known):
            raise DeafError(f"no answer any more from {sorted(set(known) - answered)}")
        found |= answered
    return {address: sorted(port for other, port in found if other == address) for address in addresses}


def scan_udp(addresses: Sequence[str], ports: Sequence[int]) -> dict[str, list[int]]:
    """UDP ports that answer, by address."""
    found: dict[str, list[int]] = {address: [] for address in addresses}
    asked = {}
    for address in addresses:
        for port in ports:
            asks = socket.socket(family(address), socket.SOCK_DGRAM)
            asks.connect((address, port))
            asks.send(QUESTION)
            asked[asks] = address, port
    end = time.monotonic() + PATIENCE
    while asked and (left := end - time.monotonic()) > 0:
        for asks in select.select(list(asked), [], [], left)[0]:
            address, port = asked.pop(asks)
            try:
                asks.recv(512)
                found[address].append(port)
            except ConnectionRefusedError:
                pass
            asks.close()
    return {address: sorted(answered) for address, answered in found.items()}


def read_ports(text: str) -> list[int]:
    """Ports from `22,80,1-1023`."""
    ends: Iterable[list[int]] = ([int(end) for end in part.split("-")] for part in text.split(","))
    return [port for pair in ends for port in range(pair[0], pair[-1] + 1)]


if __name__ == "__main__":
    scan = {"tcp": scan_tcp, "udp": scan_udp}[sys.argv[1]]
    print(json.dumps(scan(sys.argv[3:], read_ports(sys.argv[2]))))
