"""What containers reach, and what they cannot touch."""

from __future__ import annotations

import json
import time

from testinfra.host import Host

from tests.hosts.conftest import Platform

#: Connects to each HOST:PORT that it is given, and says what came of it.
CONNECT = """
import json, socket, sys
def outcome(host, port):
    try:
        socket.create_connection((host, int(port)), 3).close()
    except ConnectionRefusedError:
        return "nobody listens"
    except OSError as error:
        return type(error).__name__ + " " + str(error)
    return "open"
print(json.dumps({one: outcome(*one.rsplit(":", 1)) for one in sys.argv[1:]}))
"""
FORGE = """
import socket, sys
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.connect("/dev/log-host")
for number in range(int(sys.argv[1])):
    log.send(f"<37>sudo[1]: {sys.argv[2]} {number}".encode())
"""
FORGED = 3000
#: What journald says of its size when it starts (SD_MESSAGE_JOURNAL_USAGE).
USAGE = "ec387f577b844b8fa948f33cad9a75e6"
OPEN = "open"
#: A packet came through, and something answered.
LISTENING = {OPEN, "nobody listens"}


def connections(machine: Host, process: str, *targets: str) -> dict[str, str]:
    """What became of connections from the network of a process: by the host's Python, as not every image has one."""
    found: dict[str, str] = json.loads(
        machine.check_output(f"nsenter --net --target {process} python3 -c %s {' '.join(targets)}", CONNECT)
    )
    return found


def reached(machine: Host, container: str, *targets: str) -> dict[str, str]:
    """What became of connections from a container's network."""
    process = machine.check_output(f"docker inspect --format '{{{{.State.Pid}}}}' {container}")
    return connections(machine, process, *targets)


def address_of(machine: Host, container: str, network: str) -> str:
    """Where neighbours on a network reach a container."""
    networks = json.loads(machine.check_output(f"docker inspect {container}"))[0]["NetworkSettings"]["Networks"]
    return str(networks[network]["IPAddress"])


def test_users_webhooks_meet_nobody_who_believes_whoever_is_inside(platform: Platform) -> None:
    core = platform.hosts("core")[0]
    registry = platform.hosts("registry")[0]
    machine = platform.machine(core)
    influxdb = f"{address_of(machine, 'pryv-core-influxdb-1', 'pryv-core_series')}:8086"
    mongodb = f"{address_of(machine, 'pryv-core-mongodb-1', 'pryv-core_documents')}:27017"
    ssh = [f"{platform.address(host)}:22" for host in {core, registry}]
    closed = [influxdb, *ssh]
    needed = [f"{platform.address(registry)}:443", mongodb]
    found = reached(machine, "pryv-core-webhooks-1", *closed, *needed)
    assert {target: found[target] for target in closed if found[target] in LISTENING} == {}
    # Refused at once: waiting holds up others.
    assert "timed out" not in str([found[target] for target in closed])
    assert {target: found[target] for target in needed} == dict.fromkeys(needed, OPEN)
    assert reached(machine, "pryv-core-core-1", *needed, influxdb) == dict.fromkeys([*needed, influxdb], OPEN)


def test_what_only_answers_reaches_nothing(platform: Platform) -> None:
    registry = platform.hosts("registry")[0]
    target = f"{platform.address(registry)}:443"
    core = platform.machine(platform.hosts("core")[0])
    for container in ("pryv-core-hfs-1", "pryv-core-preview-1", "pryv-core-mongodb-1", "pryv-core-influxdb-1"):
        assert reached(core, container, target)[target] not in LISTENING, container
    for container in ("pryv-registry-redis-1", "pryv-registry-dns-1"):
        assert reached(platform.machine(registry), container, target)[target] not in LISTENING


def test_a_core_cannot_forge_or_push_out_what_its_host_has_seen(platform: Platform) -> None:
    machine = platform.machine(platform.hosts("core")[0])
    mark = f"forged-{time.time_ns()}"
    since = machine.check_output("date +@%s")
    machine.check_output(f"docker exec pryv-core-core-1 python3 -c %s {FORGED} {mark}", FORGE)
    count = f"journalctl --namespace=pryv --since={since} --grep='^{mark} ' --output=cat --quiet | wc --lines"
    end = time.monotonic() + 30
    while int(machine.check_output(count)) < FORGED:
        assert time.monotonic() < end, machine.check_output(count)
        time.sleep(1)
    assert machine.run(f"journalctl --since={since} --grep='^{mark} ' --quiet").stdout == ""
    # What the journal's own service says that it keeps to, and what it keeps.
    configured = machine.check_output("sed --quiet s/^SystemMaxUse=//p /etc/systemd/journald@pryv.conf")
    said = machine.check_output(f"journalctl --namespace=pryv MESSAGE_ID={USAGE} --output=json --lines=1")
    limit = int(configured.removesuffix("M")) * 2**20
    assert int(json.loads(said)["MAX_USE"]) == limit
    assert int(json.loads(said)["CURRENT_USE"]) <= limit
