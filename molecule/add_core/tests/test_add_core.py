"""A core is added while clients use the others: nobody notices, and the next new user lands on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plugins.modules.platform_check import CheckError, Client
from tests.fleet import fleet

DOMAIN = "privacy.pryv.test"
ZONE = "us"
OLD = ("co1", "co2", "co3", "co4")
NEW = "co5"


@pytest.fixture(scope="module")
def inventory(request: pytest.FixtureRequest) -> Path:
    path: Path = request.config.getoption("--inventory")
    return path.resolve()


@pytest.fixture(scope="module")
def addresses(inventory: Path) -> dict[str, str]:
    return {host.name: host.address for host in fleet.Fleet(inventory).hosts}


@pytest.fixture(scope="module")
def client(inventory: Path) -> Client:
    return Client(str(inventory / "ca/ca.pem"), timeout=30)


def provision(inventory: Path, *arguments: str) -> str:
    """Runs site.yml as the scenario does, and returns its output."""
    variables = {
        "pryv_image_archive": [str(fleet.CACHE / "standins/images.tar.gz")],
        "pryv_event_types_file": str(fleet.CHECKOUT / "tests/standins/event-types.json"),
    }
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [program, "--inventory", str(inventory), "--extra-vars", json.dumps(variables), "site.yml", *arguments]
    environment = {**os.environ, **fleet.environment()}
    done = subprocess.run(command, cwd=fleet.CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def clients(client: Client, cores: dict[str, str]) -> Iterator[Counter[tuple[str, str]]]:
    """Sends requests to cores as long as the body runs, and counts them by core and answer."""
    answers: Counter[tuple[str, str]] = Counter()
    stop = threading.Event()

    def use(core: str, address: str) -> None:
        while not stop.wait(0.1):
            try:
                reply = client.request(address, f"{core}.{DOMAIN}", "GET", "/service/info")
                answers[core, str(reply.status)] += 1
            except CheckError as error:
                answers[core, str(error)] += 1

    threads = [threading.Thread(target=use, args=core) for core in cores.items()]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def running_since(inventory: Path) -> dict[str, str]:
    """When each core's containers were started."""
    prefix = fleet.Fleet(inventory).prefix
    inspect = "docker inspect --format '{{.Name}} {{.State.StartedAt}}' $(docker ps --quiet) | sort"
    return {core: fleet.docker("exec", f"{prefix}-{core}", "sh", "-c", inspect) for core in OLD}


def core_for_new_users(client: Client, registry: str) -> str:
    """The core that the registry offers to new users of the zone."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        answer = client.request(registry, f"reg.{DOMAIN}", "GET", "/hostings").expect(200, "/hostings")
        for region in answer["regions"].values():
            for zone in region["zones"].values():
                # The first answer after a start does not have it yet.
                if "availableCore" in zone["hostings"].get(ZONE, {}):
                    return str(zone["hostings"][ZONE]["availableCore"])
        time.sleep(1)
    pytest.fail(f"the registry offers no core of zone {ZONE}")


def test_platform_grows_while_it_is_used(inventory: Path, addresses: dict[str, str], client: Client) -> None:
    before = running_since(inventory)
    user = {"username": "early-user", "password": "of no importance", "email": "early@user.test", "appId": "test"}
    answer = client.request(addresses["co4"], f"co4.{DOMAIN}", "POST", "/users", {**user, "language": "en"})
    answer.expect(201, "registration")
    # What an operator does: one line.
    last, new = f"co4:\n      ansible_host: {addresses['co4']}\n", f"    {NEW}:\n      ansible_host: 10.77.40.15\n"
    hosts = inventory / "hosts.yml"
    assert last in hosts.read_text()
    hosts.write_text(hosts.read_text().replace(last, last + new))
    fleet.Fleet(inventory).up(limit=[NEW])

    with clients(client, {core: addresses[core] for core in OLD}) as answers:
        provision(inventory, "--limit", f"{NEW},registry")

    assert {core for core, _ in answers} == set(OLD)
    assert {answer for _, answer in answers} == {"200"}, answers
    assert running_since(inventory) == before
    assert core_for_new_users(client, addresses["reg1"]) == f"https://{NEW}.{DOMAIN}"


def test_nothing_is_left_to_do(inventory: Path) -> None:
    recap = provision(inventory).rpartition("PLAY RECAP")[2]
    assert NEW in recap
    assert [line for line in recap.splitlines() if "changed=" in line and "changed=0 " not in line] == []
