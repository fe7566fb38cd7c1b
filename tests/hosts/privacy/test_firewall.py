"""What the firewall lets through, seen from a neighbour and from the controller, while hosts make the usual mistakes.

On each host run a container that is published on all addresses, a program that listens on all of them, and one that
answers on the UDP ports that are asked for most often in the wild.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

from tests.fleet import fleet
from tests.hosts.conftest import REPEATS

CHECKOUT = Path(__file__).resolve().parents[3]
SCAN = CHECKOUT / "tests" / "hosts" / "scan.py"
SITE = [str(Path(sys.executable).with_name("ansible-playbook")), "site.yml", "--tags", "firewall"]

#: What the design guide opens: HTTPS to all, names on registry hosts, and SSH to administrators, who have IPv4 here.
TCP = {4: [22, 443], 6: [443]}
NAMES = {"reg1", "reg2"}

#: A host of each kind, whose TCP ports are all looked at; the others of its kind have the same rules, so that the usual
#: ports will do. `make soak` looks at all ports of all hosts.
KINDS = ("co1", "reg1", "reg2", "web1")
ALL, USUAL = "1-65535", "1-1024,3000-3010,6379-6380,8000-9999,27017"

PUBLISHED, LISTENING = 8080, 8081
UDP = (53, 67, 69, 111, 123, 137, 161, 500, 514, 631, 1194, 1900, 4500, 4789, 5353, 11211, 51820)
MISTAKE = """
import selectors, socket, sys
listener = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
ready = selectors.DefaultSelector()
for port in map(int, sys.argv[2:]):
    echo = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    echo.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    echo.bind(("::", port))
    ready.register(echo, selectors.EVENT_READ)
while True:
    for key, _ in ready.select():
        data, peer = key.fileobj.recvfrom(512)
        key.fileobj.sendto(data, peer)
"""
#: Lists the firewall's table, without what it has counted.
RULES = "nft list table inet pryv | grep -v 'counter packets'"
#: Lists it without what is in sets.
STATELESS = "nft --stateless --terse list table inet pryv"
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()"
#: Asks a name server over UDP, as `nslookup` does.
ASK = """
import socket, sys
asks = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asks.settimeout(5)
asks.sendto(bytes.fromhex("abcd01000001000000000000") + bytes.fromhex("0000020001"), (sys.argv[1], 53))
asks.recv(512)
"""


def addresses(host: fleet.Host) -> dict[int, str]:
    """A host's addresses by version."""
    return {4: host.address, 6: str(fleet.ipv6_address(host.addresses[0]))}


def configure(inventory: Path, hosts: str = "co4", **variables: object) -> None:
    """Provisions the firewall of hosts, with extra variables."""
    subprocess.run(
        [*SITE, "--inventory", str(inventory.resolve()), "--limit", hosts, "--extra-vars", json.dumps(variables)],
        check=True,
        cwd=CHECKOUT,
        env={**os.environ, **fleet.environment()},
    )


def neighbour_of(hosts: Sequence[str], name: str) -> str:
    """Another host: the one before in the list, so that none is looked at by one that it trusts more than others."""
    return hosts[hosts.index(name) - 1]


@pytest.fixture(scope="module")
def inventory(request: pytest.FixtureRequest) -> Path:
    path: Path = request.config.getoption("--inventory")
    return path


@pytest.fixture(scope="module")
def container_hosts(inventory: Path) -> fleet.Fleet:
    return fleet.Fleet(inventory)


@pytest.fixture(scope="module")
def machines(container_hosts: fleet.Fleet) -> dict[str, Host]:
    """All hosts by name, as root."""
    names = [host.name for host in container_hosts.hosts]
    config = str(fleet.SSH_CONFIG)
    return {
        name: testinfra.get_host(f"ssh://{name}.{container_hosts.name}", ssh_config=config, sudo=True) for name in names
    }


def mistaken_udp(name: str) -> list[int]:
    """The ports at which a host answers by mistake: name servers use two of them."""
    return [port for port in UDP if not (name in NAMES and port in (53, 5353))]


@pytest.fixture(scope="module", autouse=True)
def mistakes(machines: dict[str, Host]) -> Iterator[None]:
    """Has every host make the mistakes."""

    def make(name: str) -> None:
        machine = machines[name]
        image = machine.check_output("docker ps --format '{{.Image}}'").splitlines()[0]
        published = f"--publish 0.0.0.0:{PUBLISHED}:80 --publish [::]:{PUBLISHED}:80"
        options = f"--detach --name mistake --restart always {published} --entrypoint python3"
        machine.check_output(f"docker run {options} {image} -m http.server 80")
        await_loopback(machine, PUBLISHED)
        listen(machine, name)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, machines))
        yield
        clean = "docker rm --force mistake; systemctl stop mistake.service"
        list(pool.map(lambda machine: machine.run(clean), machines.values()))


def await_loopback(machine: Host, port: int) -> None:
    """Waits until a port of a host's loopback takes connections, for ten seconds."""
    tries = f"for try in $(seq 20); do python3 -c %s 127.0.0.1 {port} 2>/dev/null && exit; sleep 0.5; done; exit 1"
    machine.check_output(tries, CONNECT)


def listen(machine: Host, name: str) -> None:
    """Has a host run the program that listens and answers."""
    ports = " ".join(map(str, mistaken_udp(name)))
    start = "systemd-run --quiet --collect --unit mistake /usr/bin/python3 -c %s"
    machine.check_output(f"{start} {LISTENING} {ports}", MISTAKE)


def scan_from(machine: Host | None, protocol: str, ports: str, targets: Sequence[str]) -> dict[str, list[int]]:
    """What answers at some addresses, seen from a host, or from the controller where there is none."""
    program = SCAN.read_text()
    if machine is None:
        printed = fleet.run([sys.executable, "-c", program, protocol, ports, *targets])
    else:
        printed = machine.check_output(f"python3 -c %s {protocol} {ports} {' '.join(targets)}", program)
    found: dict[str, list[int]] = json.loads(printed)
    return found


@pytest.fixture(scope="module")
def seen(container_hosts: fleet.Fleet, machines: dict[str, Host]) -> dict[tuple[str, str], dict[str, list[int]]]:
    """Open ports by address, by protocol and by who looks at them: `neighbour`, `controller` or the host `itself`."""
    names = list(machines)
    udp = ",".join(map(str, UDP))
    found: dict[tuple[str, str], dict[str, list[int]]] = {
        (protocol, who): {} for protocol in ("tcp", "udp") for who in ("neighbour", "controller", "itself")
    }

    def look(host: fleet.Host) -> None:
        own = list(addresses(host).values())
        neighbour = machines[neighbour_of(names, host.name)]
        looked_at = ALL if host.name in KINDS or REPEATS > 1 else USUAL
        for who, machine, ports in (
            ("itself", machines[host.name], f"{PUBLISHED},{LISTENING}"),
            ("neighbour", neighbour, looked_at),
            ("controller", None, looked_at),
        ):
            found["tcp", who].update(scan_from(machine, "tcp", ports, own))
            found["udp", who].update(scan_from(machine, "udp", udp, own))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(look, container_hosts.hosts))
    return found


def test_mistakes_are_made(container_hosts: fleet.Fleet, seen: dict[tuple[str, str], dict[str, list[int]]]) -> None:
    for host in container_hosts.hosts:
        for version, address in addresses(host).items():
            assert LISTENING in seen["tcp", "itself"][address], address
            # Docker gives containers no IPv6 here.
            assert (PUBLISHED in seen["tcp", "itself"][address]) == (version == 4), address
            assert set(seen["udp", "itself"][address]) >= set(mistaken_udp(host.name)), address


def test_hosts_of_a_kind_have_the_same_rules(machines: dict[str, Host]) -> None:
    rules = {
        name: re.sub(r"10\.77\.[\d.]+|fd0a:[\da-f:]+", "address", machines[name].check_output(STATELESS))
        for name in machines
    }
    assert [name for name in rules if rules[name] not in {rules[kind] for kind in KINDS if kind[:2] == name[:2]}] == []


@pytest.mark.parametrize("who", ["neighbour", "controller"])
def test_tcp_ports_are_those_of_the_design_guide(
    who: str, container_hosts: fleet.Fleet, seen: dict[tuple[str, str], dict[str, list[int]]]
) -> None:
    own = {host.name: addresses(host) for host in container_hosts.hosts}
    wanted = {address: TCP[version] for both in own.values() for version, address in both.items()}
    assert seen["tcp", who] == wanted


@pytest.mark.parametrize("who", ["neighbour", "controller"])
def test_udp_ports_are_those_of_the_design_guide(
    who: str, container_hosts: fleet.Fleet, seen: dict[tuple[str, str], dict[str, list[int]]]
) -> None:
    wanted = {}
    for host in container_hosts.hosts:
        for version, address in addresses(host).items():
            wanted[address] = [53] if host.name in NAMES and version == 4 else []
    assert seen["udp", who] == wanted


def test_a_route_to_a_containers_own_address_leads_nowhere(
    machines: dict[str, Host], container_hosts: fleet.Fleet
) -> None:
    def try_it(host: fleet.Host) -> None:
        machine, neighbour = machines[host.name], machines[neighbour_of(list(machines), host.name)]
        form = "'{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}'"
        container = machine.check_output(f"docker inspect --format {form} mistake")
        assert machine.run(f"python3 -c %s {container} 80", CONNECT).rc == 0, host.name
        neighbour.check_output(f"ip route add {container}/32 via {host.address}")
        try:
            tried = neighbour.run(f"python3 -c %s {container} 80", CONNECT)
        finally:
            neighbour.check_output(f"ip route del {container}/32")
        assert "TimeoutError" in tried.stderr, host.name

    # Each waits for what does not come, so many wait at once: but a host that has the route is not looked at meanwhile.
    hosts = container_hosts.hosts
    with ThreadPoolExecutor(len(hosts)) as pool:
        for together in (hosts[1::2], hosts[2::2], hosts[:1]):
            list(pool.map(try_it, together))


def test_replication_is_open_to_followers_alone(machines: dict[str, Host], container_hosts: fleet.Fleet) -> None:
    leader = addresses(next(host for host in container_hosts.hosts if host.name == "reg1"))

    def connects(machine: Host) -> bool:
        return bool(machine.run(f"python3 -c %s {leader[4]} 6380", CONNECT).rc == 0)

    with ThreadPoolExecutor(len(machines)) as pool:
        may = {name for name, can in zip(machines, pool.map(connects, machines.values()), strict=True) if can}
    # The leader itself, through its own loopback.
    assert may == {"reg1", "reg2"}
    tried = machines["reg2"].run(f"python3 -c %s {leader[6]} 6380", CONNECT)
    assert "TimeoutError" in tried.stderr


def test_what_networks_need_gets_through(machines: dict[str, Host], container_hosts: fleet.Fleet) -> None:
    for host in container_hosts.hosts:
        neighbour = machines[neighbour_of(list(machines), host.name)]
        for address in addresses(host).values():
            # Larger than a packet, so that fragments have to get through as well.
            neighbour.check_output(f"ping -c 1 -W 3 -s 3000 {address}")


def closed_from_outside(container_hosts: fleet.Fleet, machines: dict[str, Host], name: str) -> None:
    """Asserts that a host's mistakes stay its own."""
    host = next(host for host in container_hosts.hosts if host.name == name)
    neighbour = machines[neighbour_of(list(machines), name)]
    ports = f"1-1024,6379-6380,3000-3010,{PUBLISHED},{LISTENING}"
    for machine in (neighbour, None):
        found = scan_from(machine, "tcp", ports, list(addresses(host).values()))
        assert found == {address: TCP[version] for version, address in addresses(host).items()}


def runs_containers(machine: Host, outside: str) -> None:
    """Asserts that a new container is published on loopback and reaches a name server outside."""
    image = machine.check_output("docker ps --format '{{.Image}}'").splitlines()[0]
    options = "--rm --detach --publish 127.0.0.1:8099:80 --entrypoint python3"
    name = machine.check_output(f"docker run {options} {image} -m http.server 80")
    try:
        await_loopback(machine, 8099)
        machine.check_output(f"docker exec {name} python3 -c %s {outside}", ASK)
    finally:
        machine.check_output(f"docker rm --force {name}")


def test_docker_works_on_after_a_reload_of_the_firewall(
    machines: dict[str, Host], container_hosts: fleet.Fleet
) -> None:
    names = next(host for host in container_hosts.hosts if host.name == "reg1").address
    machines["co1"].check_output("systemctl reload pryv-firewall.service")
    runs_containers(machines["co1"], names)
    closed_from_outside(container_hosts, machines, "co1")


def test_nothing_opens_and_no_container_ends_when_docker_restarts(
    machines: dict[str, Host], container_hosts: fleet.Fleet
) -> None:
    names = next(host for host in container_hosts.hosts if host.name == "reg1").address
    started = "docker inspect --format '{{.Name}} {{.State.StartedAt}}' $(docker ps --quiet) | sort"
    before = machines["co1"].check_output(started)
    # As an update of either does.
    machines["co1"].check_output("systemctl restart containerd.service docker.service")
    assert machines["co1"].check_output(started) == before, "containers of the platform were started anew"
    runs_containers(machines["co1"], names)
    closed_from_outside(container_hosts, machines, "co1")


def test_egress_list_lets_out_what_it_names(
    inventory: Path, machines: dict[str, Host], container_hosts: fleet.Fleet
) -> None:
    core = machines["co4"]
    address = {host.name: addresses(host) for host in container_hosts.hosts}

    def connects(target: str, version: int, port: int) -> str:
        return f"python3 -c '{CONNECT}' {address[target][version]} {port}"

    def reaches(target: str, port: int) -> tuple[bool, bool]:
        """Whether the host and a container of it do."""
        command = connects(target, 4, port)
        return core.run(command).rc == 0, core.run(f"docker exec mistake {command}").rc == 0

    def reaches6(target: str) -> bool:
        return bool(core.run(connects(target, 6, 443)).rc == 0)

    # Containers reach no private address but the platform's services and what is listed.
    assert reaches("web1", 22) == reaches("co3", 22) == (True, False)
    assert reaches6("web1")
    assert reaches6("co3")
    listed = [(f"{address['web1'][4]}/32", 22), (f"{address['web1'][6]}/128", 443)]
    configure(inventory, firewall_egress=[{"network": network, "port": port} for network, port in listed])
    try:
        assert reaches("web1", 22) == (True, True)
        assert reaches("co3", 22) == (False, False)
        assert reaches6("web1")
        assert not reaches6("co3")
        assert reaches("reg1", 443) == (True, True)
        assert reaches("co3", 443) == (True, False)
        core.check_output(f"docker exec mistake python3 -c %s {address['reg1'][4]}", ASK)
    finally:
        configure(inventory, firewall_container_egress=[{"network": f"{address['co3'][4]}/32", "port": 22}])
    try:
        assert reaches("web1", 22) == (True, False)
        assert reaches("co3", 22) == (True, True)
    finally:
        configure(inventory)


def test_rules_that_somebody_flushed_or_changed_come_back(
    inventory: Path, machines: dict[str, Host], container_hosts: fleet.Fleet
) -> None:
    changes = {"co3": "nft insert rule inet pryv input accept", "co4": "nft delete table inet pryv"}
    before = {name: machines[name].check_output(RULES) for name in changes}
    for name, change in changes.items():
        machines[name].check_output(change)
    configure(inventory, "co3,co4")
    assert {name: machines[name].check_output(RULES) for name in changes} == before
    for name in changes:
        closed_from_outside(container_hosts, machines, name)


def test_rules_are_there_after_a_reboot(machines: dict[str, Host], container_hosts: fleet.Fleet) -> None:
    host = next(host for host in container_hosts.hosts if host.name == "co4")
    before = machines["co4"].check_output(RULES)
    up = machines["co4"].check_output("docker ps --quiet | wc --lines")
    container_hosts.restart(host)
    fleet.await_ssh(host)
    core = machines["co4"]
    core.check_output("systemctl is-system-running --wait")
    listen(core, "co4")
    assert core.check_output(RULES) == before
    end = time.monotonic() + 120
    while core.check_output("docker ps --quiet | wc --lines") != up:
        assert time.monotonic() < end, core.check_output("docker ps --all")
        time.sleep(1)
    closed_from_outside(container_hosts, machines, "co4")
