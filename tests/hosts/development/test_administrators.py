"""Administrators come and go with the inventory, and nobody is locked out on the way; each test runs role hardening."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from tests.fleet import fleet

PROJECT = fleet.CHECKOUT
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
#: Long enough for a new connection on a busy machine.
CONFIRM_SECONDS = 20
OPS = {"name": "ops", "keys": [fleet.KEY.with_suffix(".pub").read_text()]}

Key = tuple[Path, str]


def make_key(folder: Path, name: str) -> Key:
    return folder / name, fleet.make_key(folder / name, name)


def harden(inventory: Path, *administrators: Mapping[str, Any], **others: Any) -> subprocess.CompletedProcess[str]:
    """Runs the role with other administrators, and perhaps other variables, than the inventory's."""
    variables = {"administrators": administrators, "hardening_confirm_within": CONFIRM_SECONDS, **others}
    return subprocess.run(
        [PLAYBOOK, "site.yml", "--inventory", inventory, "--tags", "hardening", "--extra-vars", json.dumps(variables)],
        cwd=PROJECT,
        env={**os.environ, **fleet.environment()},
        capture_output=True,
        text=True,
        check=False,
    )


def log_in(
    machine: Host, user: str, key: Path, command: str, options: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Logs in with nothing but a key, on a connection of its own."""
    options = ["-i", str(key), "-o", "ControlPath=none", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", *options]
    name = machine.backend.get_pytest_id().removeprefix("ssh://")
    return subprocess.run(
        ["ssh", "-F", fleet.SSH_CONFIG, *options, f"{user}@{name}", command],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.fixture(scope="module")
def inventory(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The inventory, whose own administrators are the host's again at the end."""
    path: Path = request.config.getoption("--inventory")
    yield path
    run = harden(path, OPS)
    assert run.returncode == 0, run.stdout


def test_an_administrator_comes_and_goes(machine: Host, inventory: Path, tmp_path: Path) -> None:
    key, public = make_key(tmp_path, "alice")
    assert log_in(machine, "alice", key, "true").returncode == 255

    assert harden(inventory, OPS, {"name": "alice", "keys": [public]}).returncode == 0
    assert log_in(machine, "alice", key, "sudo --non-interactive id --user").stdout == "0\n"
    assert machine.check_output("getent shadow alice").split(":")[1].startswith("!")
    # What an administrator leaves behind: a program, and a key in the home, which opens nothing.
    left = "umask 077; mkdir .ssh; cd .ssh; ssh-keygen -q -t ed25519 -N '' -f id; cp id.pub authorized_keys; cat id"
    other = tmp_path / "other"
    other.touch(0o600)
    other.write_text(log_in(machine, "alice", key, left).stdout)
    assert log_in(machine, "alice", other, "true").returncode == 255
    log_in(machine, "alice", key, "setsid sleep 1000 >/dev/null 2>&1 </dev/null &")
    assert machine.run("pgrep --uid alice sleep").rc == 0

    assert harden(inventory, OPS).returncode == 0
    assert log_in(machine, "alice", key, "true").returncode == 255
    assert log_in(machine, "alice", other, "true").returncode == 255
    assert machine.run("pgrep --uid alice").rc == 1
    assert "alice" not in machine.check_output("cat /etc/ssh/administrators /etc/sudoers.d/zz-pryv")

    # Someone who comes back is let in again, and is not root, whatever an image or a colleague has left.
    machine.check_output("usermod --append --groups adm,docker,sudo alice")
    machine.check_output("umask 0337; echo 'alice ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/waagent")
    assert harden(inventory, OPS, {"name": "alice", "keys": [public], "sudo": False}).returncode == 0
    assert log_in(machine, "alice", key, "id --user --name").stdout == "alice\n"
    assert log_in(machine, "alice", key, "sudo --non-interactive true").returncode == 1
    assert {*log_in(machine, "alice", key, "id --groups --name").stdout.split()} == {"alice", "adm", "pryv-admins"}
    machine.check_output("rm /etc/sudoers.d/waagent")


def test_a_key_that_shuts_ansible_out_undoes_itself(machine: Host, inventory: Path, tmp_path: Path) -> None:
    before = machine.check_output("sha256sum /etc/ssh/administrators /etc/ssh/sshd_config /etc/sudoers.d/*")
    _, another = make_key(tmp_path, "another")
    run = harden(inventory, {"name": "ops", "keys": [another]})
    assert run.returncode != 0
    # Of sudo's file, too, when an earlier test has left somebody in it.
    assert re.search(
        r"No new connection since /etc/ssh/administrators(, /etc/sudoers\.d/zz-pryv)? changed", run.stdout
    ), run.stdout
    deadline = time.monotonic() + 3 * CONFIRM_SECONDS
    while log_in(machine, "ops", fleet.KEY, "true").returncode != 0:
        assert time.monotonic() < deadline, "still locked out"
        time.sleep(1)
    assert machine.check_output("sha256sum /etc/ssh/administrators /etc/ssh/sshd_config /etc/sudoers.d/*") == before


def test_administrators_without_the_connecting_user_are_refused(inventory: Path, tmp_path: Path) -> None:
    _, public = make_key(tmp_path, "alice")
    run = harden(inventory, {"name": "alice", "keys": [public]})
    assert run.returncode != 0
    assert "Ansible logs in as ops, who is none of the administrators" in run.stdout


def test_root_and_passwords_do_not_log_in(machine: Host) -> None:
    assert log_in(machine, "root", fleet.KEY, "true").returncode == 255
    asked = log_in(machine, "ops", fleet.KEY, "true", ["-o", "PubkeyAuthentication=no"])
    assert "Permission denied (publickey)." in asked.stderr
    settings = machine.check_output("sshd -T").splitlines()
    assert {"allowgroups pryv-admins", "authorizedkeysfile none", "permitrootlogin no"} <= set(settings)
