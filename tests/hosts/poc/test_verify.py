"""What playbooks/verify.yml says of a platform that is broken."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet import fleet
from tests.hosts.conftest import Platform

OPEN_PORT = 9025


def verify(platform: Platform) -> tuple[int, str]:
    """Runs the playbook; returns its exit code and what it said, in one line."""
    program = Path(sys.executable).with_name("ansible-playbook")
    environment = {**os.environ, **fleet.environment(), "ANSIBLE_CONFIG": str(fleet.CHECKOUT / "ansible.cfg")}
    command = [str(program), "playbooks/verify.yml", "--inventory", str(platform.inventory.absolute())]
    done = subprocess.run(command, cwd=fleet.CHECKOUT, env=environment, capture_output=True, check=False)
    return done.returncode, " ".join(done.stdout.decode().split())


@pytest.fixture
def broken(platform: Platform) -> Iterator[str]:
    """A core whose program is stopped, and that lets everybody to a port that nobody may reach."""
    core = platform.hosts("core")[0]
    machine = platform.machine(core)
    listen = f"--unit=opened python3 -m http.server --bind {platform.address(core)} {OPEN_PORT}"
    machine.check_output("docker stop --time 1 pryv-core-core-1")
    machine.check_output(f"systemd-run --quiet --collect {listen}")
    machine.check_output(f"nft insert rule inet pryv input tcp dport {OPEN_PORT} accept")
    yield core
    machine.check_output("systemctl stop opened.service; systemctl reload-or-restart pryv-firewall.service")
    machine.check_output("docker start pryv-core-core-1")
    name = f"{core}.{platform.domain}"
    machine.check_output(
        f"curl --silent --fail --insecure --resolve {name}:443:127.0.0.1 --retry 60 --retry-delay 1 --retry-all-errors "
        f"https://{name}/"
    )


def test_each_thing_that_is_wrong_is_named_and_the_run_fails(platform: Platform, broken: str) -> None:
    code, said = verify(platform)
    assert code != 0
    assert f"FAILED {broken}: closed ports" in said
    assert f": {OPEN_PORT} open. Run site.yml --tags firewall" in said
    assert f"FAILED {broken}: a user is registered: registration answered 502" in said
    assert f"FAILED {broken}: service core of pryv-core: is exited" in said
    # Nothing is said of those that are well.
    assert set(re.findall(r"FAILED (zone \S+|\S+):", said)) == {broken}
