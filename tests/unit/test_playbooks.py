"""What an operator sees who has copied inventories/prod and filled nothing in, or something wrong, yet."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.unit.inventories import fresh

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """A fresh copy of inventories/prod."""
    return fresh("prod", tmp_path / "acme")


def play(playbook: str, inventory: Path, *options: str, status: int = 2) -> str:
    """Run a playbook without a vault's password; return what is on the screen."""
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), playbook, "-i", inventory, *options],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def edit(inventory: Path, old: str, new: str, name: str = "group_vars/all/capacity.yml") -> None:
    text = (inventory / name).read_text()
    assert old in text
    (inventory / name).write_text(text.replace(old, new, 1))


def the_report(screen: str) -> str:
    """The one report on the screen; Ansible's own words for errors are not beside it."""
    assert "Finalization" not in screen
    assert "Traceback" not in screen
    assert "deprecat" not in screen.lower()
    (report,) = re.findall(r"Preflight looked at .*?\n\n(?=TASK|PLAY)", screen, re.DOTALL)
    return str(report)


@pytest.mark.parametrize("playbook", ["plan", "preflight", "verify", "audit"])
def test_a_fresh_copy_gives_one_report(playbook: str, inventory: Path) -> None:
    screen = play(f"playbooks/{playbook}.yml", inventory)
    report = the_report(screen)
    assert screen.count("read.previews_per_second") == 1
    assert "must be put right" in report
    assert "CHANGE_ME" in report


@pytest.mark.parametrize("playbook", ["plan", "preflight"])
def test_a_number_that_yaml_reads_otherwise_is_in_the_report(playbook: str, inventory: Path) -> None:
    edit(inventory, "users: CHANGE_ME", "users: 025000")
    report = the_report(play(f"playbooks/{playbook}.yml", inventory))
    assert re.search(r"capacity\.yml, line 11: privacy_zones\.ch\.users: 025000 is read as 10752 \(octal\)", report)


@pytest.mark.parametrize("playbook", ["plan", "secrets", "unlock", "restore_disk_header"])
def test_a_key_that_is_there_twice_is_told_once(playbook: str, inventory: Path) -> None:
    edit(inventory, "privacy_zones:\n", "privacy_zones: {}\nprivacy_zones:\n")
    screen = play(f"playbooks/{playbook}.yml", inventory)
    assert "privacy_zones is there twice" in " ".join(the_report(screen).replace("-", "").replace(":", "").split())
    assert "WARNING" not in screen


@pytest.mark.parametrize("playbook", ["plan", "verify"])
def test_a_file_that_is_no_yaml_is_told_with_its_line(playbook: str, inventory: Path) -> None:
    edit(inventory, "  ch:\n", "  ch: [\n")
    screen = play(f"playbooks/{playbook}.yml", inventory, status=4)
    (error,) = re.findall(r"^\[ERROR\]: .*", screen, re.MULTILINE)
    assert re.search(r"acme/group_vars/all/capacity\.yml, line 1\d, column \d+: YAML parsing failed", error)


ZONES = """
zone_de:
  vars:
    privacy_zone: de
  hosts:
    co1:
"""


def test_a_core_in_two_zones_is_refused_with_its_groups(inventory: Path) -> None:
    edit(inventory, "    zone_ch:\n", "    zone_ch:\n    zone_de:\n", "hosts.yml")
    hosts = inventory / "hosts.yml"
    hosts.write_text(hosts.read_text().replace("CHANGE_ME", "192.0.2.1") + ZONES)
    report = the_report(play("playbooks/preflight.yml", inventory))
    assert "co1: privacy_zone: is 'de'\n" in report
    assert "the host is in the groups zone_ch (ch) and zone_de (de); leave it in one of them" in report
    # A value of its own, or of a group below, is no contradiction.
    hosts.write_text(hosts.read_text().replace("    co1:\n", "    co1:\n      privacy_zone: ch\n"))
    assert "co1: privacy_zone" not in the_report(play("playbooks/preflight.yml", inventory))


def test_what_an_ini_inventory_has_as_a_text_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "hosts.ini").write_text("[core]\nco1 ansible_host=192.0.2.1 privacy_zone=ch accepts_users=false\n")
    report = the_report(play("playbooks/verify.yml", tmp_path / "hosts.ini"))
    assert "co1: accepts_users: is 'false'\n" in report
    assert "True or False with a capital letter in an INI inventory" in report


def test_a_key_whose_file_is_missing_is_in_the_report(inventory: Path) -> None:
    key = "\"{{ lookup('ansible.builtin.file', 'missing.pub') }}\""
    edit(inventory, "- name: CHANGE_ME", "- name: alice", "group_vars/all/platform.yml")
    edit(inventory, "- CHANGE_ME # the line", f"- {key} # the line", "group_vars/all/platform.yml")
    report = the_report(play("playbooks/preflight.yml", inventory))
    assert re.search(r"administrators: cannot be read: .*'missing\.pub'", report)


def test_an_inventory_without_a_vault_is_reported_once(tmp_path: Path) -> None:
    report = the_report(play("playbooks/verify.yml", fresh("poc", tmp_path / "poc")))
    assert "pryv_secrets.register_admin_key" in report
    assert "is missing" in report


def test_secrets_say_that_they_need_a_password(inventory: Path) -> None:
    screen = play("playbooks/secrets.yml", inventory)
    assert "no vault password is given" in screen
    assert not (inventory / "group_vars/all/vault.yml").exists()


def test_the_steps_of_the_readme_work_in_their_order(inventory: Path) -> None:
    steps = re.findall(r"^ +ansible-playbook (\S+) -i inventories/acme", README, re.MULTILINE)
    assert steps[:3] == ["playbooks/plan.yml", "playbooks/secrets.yml", "playbooks/preflight.yml"]
    password = inventory.parent / "password"
    password.write_text("of-a-test\n")
    example = yaml.safe_load((ROOT / "docs/worksheet.yml").read_text())
    (inventory / "group_vars/all/capacity.yml").write_text(yaml.safe_dump(example))
    assert "Partitioning for Load" in play(steps[0], inventory, "-e", "capacity_forecast_months=60", status=0)
    play(steps[1], inventory, f"--vault-password-file={password}", status=0)
    assert (inventory / "group_vars/all/vault.yml").read_text().startswith("$ANSIBLE_VAULT")
    report = the_report(play(steps[2], inventory, f"--vault-password-file={password}"))
    assert "pryv_secrets" not in report
    assert "privacy_zones" not in report
    assert "pryv_domain" in report


def test_a_vault_of_the_former_version_is_told_what_to_do(tmp_path: Path) -> None:
    """Role pryv refuses it as well, with its whole specification: nothing of that is on the screen."""
    inventory = fresh("poc", tmp_path / "poc")
    specification = yaml.safe_load((ROOT / "roles/pryv/meta/argument_specs.yml").read_text())
    names = specification["argument_specs"]["main"]["options"]["pryv_secrets"]["options"]
    secrets = {"core_system_key": "hush", **{name: hashlib.sha256(name.encode()).hexdigest()[:40] for name in names}}
    (inventory / "group_vars/all/vault.yml").write_text(yaml.safe_dump({"pryv_secrets": secrets}))
    screen = play("playbooks/preflight.yml", inventory, "--limit", "web1", "-e", "ansible_ssh_executable=false")
    report = the_report(screen)
    assert "pryv_secrets.core_system_key: is no secret of this toolkit\n" in report
    assert "run playbooks/secrets.yml, which retires it (docs/operations/rotate-keys.md)" in report
    assert "argument_spec" not in screen
    assert "hush" not in screen
