"""What an operator relies on, on hosts that are real or virtual machines with an encrypted disk, after a reboot."""

from __future__ import annotations

import json
import re

import pytest
from testinfra.host import Host

pytestmark = pytest.mark.on_machines


def started(machine: Host, unit: str) -> int:
    """When a unit was started, in microseconds since the boot."""
    assert machine.service(unit).is_running, unit
    return int(machine.check_output(f"systemctl show --property ActiveEnterTimestampMonotonic --value {unit}"))


def test_data_lies_on_the_encrypted_disk(machine: Host) -> None:
    mount = machine.mount_point("/srv/pryv")
    assert mount.device == "/dev/mapper/pryv_data"
    assert {"nodev", "nosuid"} <= set(mount.options)
    assert "LUKS2" in machine.check_output("cryptsetup status pryv_data")
    assert machine.check_output("swapon --show") == ""


def test_the_boot_unlocks_the_disk_before_docker_starts(machine: Host) -> None:
    unlocked, mounted = started(machine, "pryv-data-unlock.service"), started(machine, "srv-pryv.mount")
    assert unlocked <= mounted <= started(machine, "docker.service")


def test_nothing_was_left_out_on_the_way_down_and_up(machine: Host) -> None:
    for boot in ("-1", "0"):
        journal = machine.check_output(f"journalctl --boot {boot} --no-pager --identifier systemd")
        assert "Reached target" in journal
        assert "ordering cycle" not in journal


def test_containers_ended_before_the_disk_was_locked(machine: Host) -> None:
    journal = machine.check_output("journalctl --boot -1 --no-pager --output cat --identifier systemd").splitlines()
    ended = [number for number, line in enumerate(journal) if re.match(r"docker-\w+\.scope: Deactivated", line)]
    assert len(ended) >= len(machine.check_output("docker ps --quiet").split())
    locked = [number for number, line in enumerate(journal) if line.startswith("Unmounted srv-pryv.mount")]
    assert locked, [line for line in journal if "srv-pryv" in line or "ordering cycle" in line]
    assert max(ended) < locked[0]


def test_the_firewall_stands_before_the_network(machine: Host) -> None:
    assert started(machine, "pryv-firewall.service") <= started(machine, "network.target")


def test_containers_are_confined_by_apparmor(machine: Host) -> None:
    assert machine.file("/sys/module/apparmor/parameters/enabled").content_string.strip() == "Y"
    names = machine.check_output("docker ps --quiet").split()
    inspected = json.loads(machine.check_output(f"docker inspect {' '.join(names)}"))
    assert {container["AppArmorProfile"] for container in inspected} == {"docker-default"}
