"""What answers at addresses of a cloud's metadata and of a neighbouring network is not reached from containers."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from testinfra.host import Host

from tests.hosts.test_containers import LISTENING, OPEN, connections, reached

#: Metadata of most clouds, that of Alibaba's, and some host of a private network.
ADDRESSES = ("169.254.169.254", "100.100.100.200", "10.255.255.1")
PORT = 80
NEIGHBOUR = f"""
set -e
ip netns add neighbour
ip link add to-neighbour type veth peer name to-host netns neighbour
ip address add 192.0.2.1/30 dev to-neighbour
ip link set to-neighbour up
ip -netns neighbour address add 192.0.2.2/30 dev to-host
ip -netns neighbour link set to-host up
ip -netns neighbour link set lo up
ip -netns neighbour route add default via 192.0.2.1
for address in {" ".join(ADDRESSES)}; do
    ip -netns neighbour address add $address/32 dev lo
    ip route add $address/32 via 192.0.2.2
done
systemd-run --quiet --unit=neighbour ip netns exec neighbour python3 -m http.server {PORT}
"""


@pytest.fixture
def neighbour(machine: Host) -> Iterator[list[str]]:
    """Addresses and port of a machine beside the host that listens at all of them."""
    try:
        machine.check_output(NEIGHBOUR)
        yield [f"{address}:{PORT}" for address in ADDRESSES]
    finally:
        machine.run("systemctl stop neighbour.service; ip link delete to-neighbour; ip netns delete neighbour")


def test_containers_do_not_reach_what_their_host_reaches(machine: Host, neighbour: list[str]) -> None:
    end = time.monotonic() + 20
    while set((answers := connections(machine, "1", *neighbour)).values()) != {OPEN}:
        assert time.monotonic() < end, answers
        time.sleep(0.5)
    containers = machine.check_output("docker ps --format '{{.Names}}'").split()
    assert len(containers) > 10
    arrived = {container: reached(machine, container, *neighbour) for container in containers}
    assert {name: found for name, found in arrived.items() if LISTENING & set(found.values())} == {}
