"""A name server under a flood, a registry whose connections one client takes, and how much of it is written down."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import dns.message
import dns.rdatatype
import pytest
import testinfra

from tests.fleet import fleet
from tests.hosts.conftest import Platform

RATE, SECONDS, QUERIES = 10_000, 6, 100
#: Sends datagrams to an address at a rate, each from another port: one byte, or a question for a name that nobody has.
#: They are written as they are, since a socket of its own for each takes longer than the rate has time for.
FLOOD = """
import os, socket, struct, sys, time
address, kind, rate, seconds, domain = sys.argv[1:]
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
start, sent = time.monotonic(), 0
while (passed := time.monotonic() - start) < int(seconds):
    while sent < passed * int(rate):
        name = b"\\x10" + os.urandom(8).hex().encode() + bytes.fromhex(domain)
        question = os.urandom(2) + bytes.fromhex("01000001000000000000") + name + bytes.fromhex("0000010001")
        payload = question if kind == "questions" else b"x"
        raw.sendto(struct.pack("!HHHH", 1024 + sent % 64000, 53, 8 + len(payload), 0) + payload, (address, 0))
        sent += 1
    time.sleep(0.001)
print(sent)
"""


def labels(domain: str) -> str:
    """A domain as it stands in a question, in hexadecimal."""
    return b"".join(bytes([len(label)]) + label.encode() for label in domain.split(".")).hex()


@contextmanager
def flood(source: str | None, kind: str, platform: Platform) -> Iterator[None]:
    """Floods the name server while the block runs, from a host of the platform or from here."""
    address = platform.address(platform.topology["leader"])
    arguments = [address, kind, str(RATE), str(SECONDS), labels(platform.domain)]
    name = f"{source}.{fleet.Fleet(platform.inventory).name}"
    remote = ["ssh", "-F", str(fleet.SSH_CONFIG), name] if source else []
    root = ["sudo"] if source or os.geteuid() else []
    with subprocess.Popen(
        [*remote, *root, "python3", "-", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        process.stdin.write(FLOOD)
        process.stdin.close()
        time.sleep(1)
        yield
        assert process.stdout
        sent = int(process.stdout.read())
    assert sent >= 0.9 * RATE * SECONDS


def answered(platform: Platform) -> int:
    """How many of the valid queries are answered within a second, sent over two seconds."""
    address, name = platform.address(platform.topology["leader"]), f"reg.{platform.domain}"
    good = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((address, 53))
        client.setblocking(False)
        start, sent = time.monotonic(), 0
        while (passed := time.monotonic() - start) < 3:
            while sent < min(QUERIES, passed * QUERIES / 2):
                query = dns.message.make_query(name, dns.rdatatype.A, id=sent)
                client.send(query.to_wire())
                sent += 1
            with suppress(BlockingIOError):
                reply = dns.message.from_wire(client.recv(4096))
                good |= {reply.id} if reply.answer else set()
            time.sleep(0.002)
    return len(good)


def written(machine: testinfra.host.Host) -> int:
    """How many bytes nginx's logs have."""
    return int(machine.check_output("cat /var/log/nginx/*.log | wc -c"))


def test_one_client_leaves_connections_for_others(platform: Platform) -> None:
    leader = platform.topology["leader"]
    most = platform.setting("firewall", "firewall_limits", leader)["https_connections"]
    address, name = platform.address(leader), f"reg.{platform.domain}"
    # The web host opens more than it may have; meanwhile this machine is answered.
    script = (
        "import resource, socket, time\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({most} + 2000,) * 2)\n"
        "kept, refused = [], 0\n"
        f"for _ in range({most} + 500):\n"
        "    try:\n"
        f"        kept.append(socket.create_connection(('{address}', 443), timeout=5))\n"
        "    except OSError:\n"
        "        refused += 1\n"
        "print(len(kept), refused, flush=True)\n"
        "time.sleep(3)\n"
    )
    with subprocess.Popen(
        [
            "ssh",
            "-F",
            str(fleet.SSH_CONFIG),
            f"{platform.hosts('web')[0]}.{fleet.Fleet(platform.inventory).name}",
            "sudo",
            "python3",
            "-",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(script)
        process.stdin.close()
        kept, refused = map(int, process.stdout.readline().split())
        start = time.monotonic()
        assert platform.ask(leader, name, "/service/info").status == 200
        assert time.monotonic() - start < 5
    assert kept <= most
    assert refused >= 500


@pytest.mark.parametrize(("source", "kind"), [(None, "bytes"), ("web1", "bytes"), ("web1", "questions")])
def test_names_are_answered_under_a_flood(platform: Platform, source: str | None, kind: str) -> None:
    machine = platform.machine(platform.topology["leader"])
    before = written(machine)
    with flood(source, kind, platform):
        good = answered(platform)
    assert good >= 0.95 * QUERIES
    assert written(machine) - before < 100_000
