"""Machines are lost, and the controller with them: what the backups have comes back on others, at other addresses.

The new controller has a clone of this repository, as it was committed, and the inventory's copy that lay elsewhere.
"""

from __future__ import annotations

import copy
import ipaddress
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from plugins.module_utils.platform_client import Client
from tests.fleet import fleet
from tests.hosts.conftest import Platform
from tests.hosts.poc.test_backups import (
    CORE,
    FEW,
    LEADER,
    Backup,
    Load,
    assert_core_has_all_until,
    differences,
    play,
    server_of,
    take,
)

#: What runs leave beside an inventory, and no controller needs.
LEFT = shutil.ignore_patterns("runs", "backups", "audit", "plan.*")


@dataclass
class Loss:
    """What was there, and what is there now.

    Attributes:
        machines: The test hosts, where they are now.
        platform: The platform as the new controller reaches it.
        load: Who writes until the first machine is lost.
        backup: The core's last one.
        time: When that machine was lost, in seconds since 1970.
    """

    machines: fleet.Fleet
    platform: Platform
    load: Load
    backup: Backup
    time: float = field(default=0)

    def lose(self, *hosts: str) -> None:
        """Takes machines away, whoever is using them."""
        self.machines.down(hosts)
        self.time = time.time()
        self.load.stop()

    def provision(self, addresses: Mapping[str, str]) -> None:
        """Has new machines, in the inventory as on the network.

        Args:
            addresses: By host, where its new machine is.
        """
        folder = self.platform.inventory / "host_vars"
        folder.mkdir(exist_ok=True)
        topology = copy.deepcopy(dict(self.platform.topology))
        for host, address in addresses.items():
            (folder / f"{host}.yml").write_text(f"ansible_host: {address}\n")
            topology["hosts"][host].update(
                dict.fromkeys(("ansible_host", "public_address", "private_address"), address)
            )
        self.platform = replace(self.platform, topology=topology)
        self.machines.hosts = [
            replace(host, addresses=(ipaddress.IPv4Address(addresses[host.name]),)) if host.name in addresses else host
            for host in self.machines.hosts
        ]
        self.machines.up(fleet.Image("debian-13", equipped=True), list(addresses))
        self.run("site.yml")

    def run(self, playbook: str, **variables: str) -> None:
        """Runs a playbook at the new controller, and says how long that takes."""
        begin = time.monotonic()
        done = play(self.platform, playbook, **variables)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr
        print(f"{playbook}: {time.monotonic() - begin:.0f} s")

    def assert_is_back(self) -> None:
        """All who were in the backup are where the registry and DNS say, with their passwords and what they had."""
        users, core = self.load.came(until=self.backup.instant), f"{CORE}.{self.platform.domain}"
        resolver = Client((self.platform.inventory / "ca/ca.pem").read_text(), timeout=30)
        for name in (core, *(f"{user}.{self.platform.domain}" for user in sorted(users)[:3])):
            _, found = resolver.addresses(self.platform.address(LEADER), name)
            assert found == [self.platform.address(CORE)]
        replace(self.load.users[min(users)][1], platform=self.platform).logged_in()
        print(f"used again {time.time() - self.time:.0f} s after the loss")
        assert {server_of(self.platform, user) for user in users} == {core}
        assert_core_has_all_until(self.platform, self.load, self.backup)
        differing = differences(self.platform)
        assert differing["only_on_core"] == set()
        assert not differing["only_in_registry"] & users


@pytest.fixture(scope="module")
def controller(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """The platform as a new controller has it, without anything of the old one's folder but the inventory."""
    clone = tmp_path_factory.mktemp("controller") / "clone"
    fleet.run(["git", "clone", "--quiet", str(fleet.CHECKOUT), str(clone)])
    inventory: Path = clone / "inventories" / fleet.Fleet(platform.inventory).name
    shutil.rmtree(inventory, ignore_errors=True)
    shutil.copytree(platform.inventory.resolve(), inventory, ignore=LEFT)
    return replace(platform, inventory=inventory)


@pytest.fixture(scope="module")
def loss(platform: Platform, controller: Platform, secrets: dict[str, str]) -> Iterator[Loss]:
    """Somebody who writes, before a backup and after it."""
    load = Load(platform, secrets)
    try:
        load.await_more(FEW)
        backup = take(platform.machine(CORE))
        load.await_more(FEW)
        assert load.errors == []
        yield Loss(fleet.Fleet(platform.inventory), controller, load, backup)
    finally:
        load.stop()


def elsewhere(platform: Platform, host: str, number: int) -> str:
    """An address that nobody has, beside that of a host."""
    return f"{platform.address(host).rpartition('.')[0]}.{number}"


def test_lost_core_is_on_a_new_machine_at_another_address(loss: Loss) -> None:
    loss.lose(CORE)
    acknowledged = max(write.time for write in loss.load.writes)
    loss.provision({CORE: elsewhere(loss.platform, CORE, 111)})
    loss.run("playbooks/restore_core.yml", core=CORE)
    loss.assert_is_back()
    # Who came after the backup is lost, and named.
    lost = loss.load.came(since=loss.backup.end)
    assert lost
    assert lost <= differences(loss.platform)["only_in_registry"]
    print(f"what was written in the last {acknowledged - loss.backup.instant:.0f} s is lost")


def test_lost_registry_is_on_a_new_machine_at_another_address(loss: Loss) -> None:
    take(loss.platform.machine(LEADER))
    loss.lose(LEADER)
    loss.provision({LEADER: elsewhere(loss.platform, LEADER, 121)})
    loss.run("playbooks/restore_registry.yml")
    loss.assert_is_back()


def test_lost_registry_and_core_are_on_new_machines(loss: Loss) -> None:
    loss.lose(CORE, LEADER)
    loss.provision({CORE: elsewhere(loss.platform, CORE, 112), LEADER: elsewhere(loss.platform, LEADER, 122)})
    loss.run("playbooks/restore_core.yml", core=CORE)
    loss.run("playbooks/restore_registry.yml")
    loss.assert_is_back()
