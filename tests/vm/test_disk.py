"""The life of an encrypted disk, step by step on one machine; each test goes on where the one before it left off."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import testinfra
import yaml

from tests.fleet.fleet import CACHE, CHECKOUT
from tests.hosts.test_hosts import check_exposure
from tests.vm.vm import Machine, Machines

DEVICE = "/dev/disk/by-id/virtio-data"
FOREIGN = "/dev/disk/by-id/virtio-foreign"
DEFAULTS = yaml.safe_load((CHECKOUT / "roles/data_disk/defaults/main.yml").read_text())
PROGRAMS = Path(sys.executable).parent
HEADER_BYTES = 16 * 2**20


@dataclass
class Played:
    """What a playbook did."""

    code: int
    output: str = field(repr=False)

    @property
    def changed(self) -> int:
        """How many tasks changed something on the host."""
        return sum(map(int, re.findall(r"^co1 .*changed=(\d+)", self.output, re.MULTILINE)))


@dataclass
class World:
    """The machine under test, its inventory, and the ways to act on them."""

    machines: Machines
    inventory: Path

    @property
    def machine(self) -> Machine:
        return self.machines.all[0]

    @property
    def name(self) -> str:
        """What SSH calls the machine."""
        return f"{self.machine.name}.{self.machines.folder.name}"

    @property
    def host(self) -> testinfra.host.Host:
        """The machine as root, for checks that hosts of platforms get too."""
        return testinfra.get_host(f"ssh://{self.name}", ssh_config=str(self.machines.ssh_config), sudo=True)

    @property
    def environment(self) -> dict[str, str]:
        password = CHECKOUT / "tests/fleet/vault-password"
        own = {"ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_VAULT_PASSWORD_FILE": str(password)}
        return {**os.environ, **self.machines.env(), **own}

    def command(self, playbook: str, *arguments: str, **variables: object) -> list[str]:
        program = [str(PROGRAMS / "ansible-playbook"), "--inventory", str(self.inventory), "--diff", playbook]
        return [*program, *arguments, "--extra-vars", json.dumps(variables)]

    def play(self, playbook: str, *arguments: str, **variables: object) -> Played:
        done = subprocess.run(
            self.command(playbook, *arguments, **variables),
            cwd=CHECKOUT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Played(done.returncode, done.stdout)

    def converge(self, *arguments: str, **variables: object) -> Played:
        return self.play("molecule/disk/converge.yml", *arguments, **variables)

    def place(self, *arguments: str, **variables: object) -> Played:
        """Runs role data_disk alone: nothing is new for Docker."""
        return self.converge("--tags", "data_disk", *arguments, **variables)

    def set(self, **variables: object) -> None:
        """Writes variables into the inventory, as an operator does."""
        path = self.inventory / "group_vars/all/changed.yml"
        before = yaml.safe_load(path.read_text()) if path.exists() else {}
        path.write_text(yaml.safe_dump({**before, **variables}))

    def vault(self) -> dict[str, str]:
        """The recovery keys in the vault."""
        view = [str(PROGRAMS / "ansible-vault"), "view", str(self.inventory / "group_vars/all/vault.yml")]
        text = subprocess.run(view, env=self.environment, capture_output=True, text=True, check=True).stdout
        keys: dict[str, str] = yaml.safe_load(text)["data_disk_recovery_keys"]
        return keys

    def run(self, command: str, *, stdin: str = "", check: bool = True) -> str:
        """Runs a shell command as root on the machine and returns its output.

        Over a connection that stays open, and without sudo: an emulated machine takes a second or two for either.
        """
        done = subprocess.run(
            ["ssh", "-q", "-l", "root", "-F", str(self.machines.ssh_config), self.name, command],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def opens(self, key: str) -> bool:
        """Whether a key opens the disk."""
        test = f"cryptsetup open --test-passphrase --disable-external-tokens --key-file - {DEVICE} && echo yes"
        return self.run(test, stdin=key, check=False) == "yes"

    def await_state(self, what: str, command: str, seconds: int = 240) -> None:
        """Waits until a command succeeds on the machine."""
        wait = f"until {command}; do sleep 0.5; done"
        done = self.run(f"timeout {seconds} sh -c {shlex.quote(wait)} >/dev/null 2>&1 && echo yes", check=False)
        assert done == "yes", f"not within {seconds} s: {what}"

    def restart(self, act: Callable[[], object], *order: str) -> None:
        """Takes the machine down by some means, and up again."""
        act()
        deadline = time.monotonic() + 120
        while self.machine.pid is not None and time.monotonic() < deadline:
            time.sleep(0.5)
        self.machine.cut()
        self.machines.up(order=order)

    def shut_down(self) -> None:
        self.run("systemctl poweroff", check=False)

    @property
    def backups(self) -> list[Path]:
        return sorted((self.inventory / "backups/luks").glob("*"))


@pytest.fixture(scope="module")
def world() -> World:
    inventory = CACHE / "disk" / "inventory"
    shutil.rmtree(inventory, ignore_errors=True)
    shutil.copytree(CHECKOUT / "molecule/disk/inventory", inventory)
    made = World(Machines(inventory), inventory)
    made.machines.up()
    return made


def lock(world: World) -> None:
    """Leaves the machine as a boot does that nothing unlocked."""
    world.run("systemctl stop pryv-data-unlock.service docker.socket")
    assert world.run("test -e /dev/mapper/pryv_data && echo open", check=False) == ""
    assert world.run("systemctl is-active docker.service", check=False) == "inactive"


def assert_left_locked(world: World) -> None:
    """The boot could not unlock the disk: the machine answers and says so, and nothing runs or writes without it."""
    world.await_state("the unlocking has failed once", "test -e /run/issue.d/pryv-data.issue")
    assert "The data disk is locked" in world.run("cat /run/issue.d/pryv-data.issue; run-parts /etc/update-motd.d")
    assert world.run("findmnt /srv/pryv", check=False) == ""
    assert world.run("systemctl is-active docker.service", check=False) == "inactive"
    assert world.run("touch /srv/pryv/file && echo written", check=False) == ""
    # Whoever asks for Docker does not get it either.
    assert world.run("systemctl start docker.service && echo started", check=False) == ""


def test_a_recovery_key_is_made_in_the_vault(world: World) -> None:
    assert world.play("playbooks/secrets.yml").code == 0
    assert list(world.vault()) == ["co1"]


def test_check_mode_says_what_would_be_done_and_touches_nothing(world: World) -> None:
    played = world.play("molecule/disk/converge.yml", "--check", "--limit", "core")
    assert played.code == 0, played.output
    assert f"+make {DEVICE} a LUKS2 volume" in played.output
    with world.machine.disk("data").open("rb") as disk:
        assert not any(disk.read(HEADER_BYTES))


def test_a_foreign_disk_is_refused(world: World) -> None:
    world.run(f"mkfs.ext4 -q -L photos {FOREIGN}")
    before = world.run(f"head -c 16M {FOREIGN} | sha256sum")
    for variables, reason in (
        ({"data_disk_device": FOREIGN}, r"holds ext4 \(labelled photos\)"),
        ({"data_disk_device": "/dev/vda"}, "in use .mounted at /"),
        ({"data_disk_device": "/dev/disk/by-id/virtio-none"}, f"There are: {DEVICE}, {FOREIGN}"),
    ):
        played = world.place(**variables)
        assert played.code != 0
        assert re.search(reason, " ".join(played.output.split())), played.output
    assert world.run(f"head -c 16M {FOREIGN} | sha256sum") == before


def test_a_foreign_disk_is_destroyed_only_by_its_host_and_name(world: World) -> None:
    for named, step in ((f"co1:{FOREIGN}", True), (f"co2:{FOREIGN}", False), (f"co1:{DEVICE}", False)):
        played = world.place("--check", data_disk_device=FOREIGN, data_disk_destroy=named)
        assert (f"+destroy what is on {FOREIGN}: ext4 (labelled photos)" in played.output) == step, played.output
        assert (played.code == 0) == step


def test_a_power_cut_in_the_middle_of_formatting_is_mended_by_the_next_run(world: World) -> None:
    command = world.command("molecule/disk/converge.yml")
    with subprocess.Popen(command, cwd=CHECKOUT, env=world.environment, stdout=subprocess.DEVNULL) as running:
        # The label of the header's second copy is at a fixed place, and is written when the first is complete.
        with world.machine.disk("data").open("rb", buffering=0) as disk:
            while running.poll() is None:
                disk.seek(16 * 2**10 + 24)
                if disk.read(13) == b"pryv_data_new":
                    break
                time.sleep(0.02)
        assert running.poll() is None, "the run was over before the power could be cut"
        world.machine.cut()
        running.kill()
    world.machines.up()
    assert world.run(f"cryptsetup luksDump {DEVICE} | grep -c pryv_data_new") == "1"

    played = world.converge("-vvv")
    assert played.code == 0, played.output
    assert world.run("findmnt -no SOURCE,FSTYPE /srv/pryv").split() == ["/dev/mapper/pryv_data", "xfs"]
    assert not [key for key in world.vault().values() if key in played.output], "a recovery key is in the output"


def test_a_second_run_changes_nothing(world: World) -> None:
    played = world.converge()
    assert (played.code, played.changed) == (0, 0), played.output


def test_the_volume_is_made_as_documented(world: World) -> None:
    header = json.loads(world.run(f"cryptsetup luksDump --dump-json-metadata {DEVICE}"))
    assert header["segments"]["0"]["encryption"] == "aes-xts-plain64"
    slot = header["keyslots"]["0"]
    assert (slot["key_size"], slot["kdf"]["type"]) == (64, "argon2id")
    assert (slot["kdf"]["memory"], slot["kdf"]["time"], slot["kdf"]["cpus"]) == (32768, 4, 1)
    (token,) = [token for token in header["tokens"].values() if token["type"] == "systemd-tpm2"]
    assert token["tpm2-pcrs"] == DEFAULTS["data_disk_tpm2_pcrs"]
    assert len(world.backups) == 1
    assert world.backups[0].stat().st_mode & 0o777 == 0o600
    assert world.backups[0].read_bytes().startswith(b"$ANSIBLE_VAULT")


def test_the_tpm_keeps_it_locked_for_another_system(world: World) -> None:
    """Its register says what has booted, and is set back by a reboot."""
    world.run("echo precious >/srv/pryv/data; sync /srv/pryv/data")
    world.run(f"tpm2_pcrextend 7:sha256={'1' * 64}")
    lock(world)
    assert world.run("systemctl start pryv-data-unlock.service && echo started", check=False) == ""


def test_after_a_reboot_the_tpm_unlocks_it_before_docker_starts(world: World) -> None:
    world.restart(world.shut_down)
    world.await_state("Docker runs", "systemctl is-active docker.service")
    assert world.run("cat /srv/pryv/data") == "precious"
    assert world.run("systemctl show -P ActiveState pryv-data-unlock.service") == "active"


def test_a_wrong_key_changes_nothing(world: World) -> None:
    before = world.run(f"cryptsetup luksDump {DEVICE} | sha256sum")
    played = world.place(data_disk_recovery_keys={"co1": "not-the-key-of-this-disk-at-all"})
    assert played.code != 0, played.output
    assert "no recovery key in the vault opens it" in " ".join(played.output.split())
    assert world.run(f"cryptsetup luksDump {DEVICE} | sha256sum") == before


def test_a_grown_disk_grows_the_file_system_in_use(world: World) -> None:
    world.machine.grow("data", "2G")
    world.await_state("the disk has grown", f"test $(blockdev --getsize64 {DEVICE}) -eq {2 * 2**30}", 30)
    played = world.place()
    assert played.code == 0, played.output
    assert int(world.run("findmnt -bno SIZE /srv/pryv")) > 1.8 * 2**30
    assert world.run("cat /srv/pryv/data") == "precious"


def test_rotated_keys_replace_the_old_ones_without_downtime(world: World) -> None:
    old, copies = world.vault()["co1"], world.backups
    mounted = world.run("findmnt -no ID /srv/pryv")
    played = world.play("playbooks/rotate_disk_keys.yml", "-vvv")
    assert played.code == 0, played.output
    keys = world.vault()
    assert set(keys) == {"co1", "co1@2"}
    assert world.opens(keys["co1@2"])
    assert not world.opens(old)
    assert world.run("findmnt -no ID /srv/pryv") == mounted
    header = json.loads(world.run(f"cryptsetup luksDump --dump-json-metadata {DEVICE}"))
    assert len(header["keyslots"]) == 2
    assert not [key for key in keys.values() if key in played.output], "a recovery key is in the output"
    assert len(world.backups) == 1
    assert world.backups != copies


def test_tang_down_and_disks_in_another_order(world: World) -> None:
    """Two servers, both of which have to answer."""
    world.run(
        "cd /usr/lib/systemd/system; sed s/80/81/ tangd.socket >/etc/systemd/system/second.socket; "
        "cp tangd@.service /etc/systemd/system/second@.service; systemctl daemon-reload; "
        "systemctl start tangd.socket second.socket"
    )
    thumbprint = world.run("tang-show-keys 80")
    servers = [{"url": f"http://127.0.0.1:{port}", "thumbprint": thumbprint} for port in (80, 81)]
    world.set(data_disk_unlock="tang", data_disk_tang_servers=servers, data_disk_tang_threshold=2)
    played = world.place()
    assert played.code == 0, played.output
    kinds = world.run(f"cryptsetup luksDump --dump-json-metadata {DEVICE}")
    assert "clevis" in kinds
    assert "systemd-tpm2" not in kinds
    world.restart(world.shut_down, "foreign", "data", "root")

    assert world.run(f"readlink -f {DEVICE}") == "/dev/vdb"
    assert world.run("findmnt -no SOURCE /") == "/dev/vdc"
    assert_left_locked(world)

    world.run("systemctl start tangd.socket")
    assert world.run(f"clevis luks unlock -d {DEVICE} -n one_of_two && echo open", check=False) == ""
    assert world.run("systemctl is-active docker.service", check=False) == "inactive"

    world.run("systemctl start second.socket")
    world.await_state("Docker runs", "systemctl is-active docker.service")
    assert world.run("cat /srv/pryv/data") == "precious"
    assert world.run("test -e /run/issue.d/pryv-data.issue && echo there", check=False) == ""


def test_an_operator_unlocks_it_and_the_services_start(world: World) -> None:
    world.set(data_disk_unlock="operator")
    played = world.place()
    assert played.code == 0, played.output
    assert "clevis" not in world.run(f"cryptsetup luksDump --dump-json-metadata {DEVICE}")
    lock(world)
    assert world.run("systemctl start pryv-data-unlock.service && echo started", check=False) == ""
    played = world.play("playbooks/unlock.yml", "-vvv")
    assert played.code == 0, played.output
    assert not [key for key in world.vault().values() if key in played.output], "a recovery key is in the output"
    assert world.run("cat /srv/pryv/data") == "precious"
    world.await_state("Docker runs", "systemctl is-active docker.service", 60)

    world.restart(world.shut_down)
    assert_left_locked(world)
    assert world.run("test -e /dev/mapper/pryv_data && echo open", check=False) == ""
    played = world.play("playbooks/unlock.yml")
    assert played.code == 0, played.output
    world.await_state("Docker runs", "systemctl is-active docker.service", 60)
    assert world.run("cat /srv/pryv/data") == "precious"


def test_a_destroyed_header_is_restored_while_the_disk_is_open(world: World) -> None:
    world.run(f"dd if=/dev/zero of={DEVICE} bs=1M count=16 conv=fsync,notrunc status=none")
    played = world.place()
    assert played.code != 0
    assert "do not reboot" in " ".join(played.output.split())
    played = world.play("playbooks/restore_disk_header.yml")
    assert played.code == 0, played.output
    assert world.opens(world.vault()["co1@2"])
    assert world.place().changed == 0


def test_a_destroyed_header_is_restored_when_the_disk_was_locked(world: World) -> None:
    lock(world)
    world.run(f"dd if=/dev/zero of={DEVICE} bs=1M count=16 conv=fsync,notrunc status=none")
    played = world.place()
    assert played.code != 0, "a disk whose header is gone was taken for an empty one"
    assert "restore_disk_header.yml" in " ".join(played.output.split())

    # Under the right one's name there may be another disk, which holds what nobody knows.
    world.run(f"wipefs --all --quiet {FOREIGN}")
    before = world.run(f"head -c 16M {FOREIGN} | sha256sum")
    played = world.play("playbooks/restore_disk_header.yml", data_disk_device=FOREIGN)
    assert played.code != 0
    assert f"does not fit {FOREIGN}" in " ".join(played.output.split()), played.output
    assert world.run(f"head -c 16M {FOREIGN} | sha256sum") == before
    assert world.run("losetup --list --noheadings; ls /dev/mapper") == "control"

    played = world.play("playbooks/restore_disk_header.yml", "--check")
    assert played.code == 0, played.output
    assert "+restore the header of volume" in played.output
    assert world.run(f"cryptsetup isLuks {DEVICE} && echo yes", check=False) == ""

    played = world.play("playbooks/restore_disk_header.yml")
    assert played.code == 0, played.output
    assert world.run("cat /srv/pryv/data") == "precious"


def test_a_key_file_replaces_the_operator(world: World) -> None:
    world.set(data_disk_unlock="keyfile")
    played = world.place()
    assert played.code == 0, played.output
    assert world.run("stat -c %a:%U /etc/pryv/data_disk/key") == "400:root"
    lock(world)
    world.run("systemctl start docker.service")
    assert world.run("cat /srv/pryv/data") == "precious"

    world.restart(world.shut_down)
    world.await_state("Docker runs", "systemctl is-active docker.service")
    assert world.run("cat /srv/pryv/data") == "precious"
    assert world.run("systemctl show -P ActiveState pryv-data-unlock.service") == "active"


def test_a_foreign_disk_is_destroyed_once_and_grows_from_then_on(world: World) -> None:
    # Nothing is destroyed while the host's own volume is on another disk: this host has none any more. It has to forget
    # it first: every log-in starts what is not mounted, and the key file would open it again.
    world.run("rm /etc/pryv/data_disk/uuid")
    lock(world)
    shutil.rmtree(world.inventory / "backups")
    destroying = {"data_disk_device": FOREIGN, "data_disk_filesystem": "ext4", "data_disk_destroy": f"co1:{FOREIGN}"}
    played = world.place(**destroying)
    assert played.code == 0, played.output
    assert f"+destroy what is on {FOREIGN}: data of an unknown kind" in played.output
    assert world.run("findmnt -no SOURCE,FSTYPE /srv/pryv").split() == ["/dev/mapper/pryv_data", "ext4"]

    world.run("echo precious >/srv/pryv/data; sync /srv/pryv/data")
    world.machine.grow("foreign", "1G")
    world.await_state("the disk has grown", f"test $(blockdev --getsize64 {FOREIGN}) -eq {2**30}", 30)
    played = world.place(**destroying)
    assert played.code == 0, played.output
    assert "+destroy" not in played.output
    assert int(world.run("findmnt -bno SIZE /srv/pryv")) > 0.8 * 2**30

    # The inventory's type is for new volumes.
    played = world.place(data_disk_device=FOREIGN, data_disk_filesystem="xfs")
    assert (played.code, played.changed) == (0, 0), played.output
    assert world.run("findmnt --fstab -no FSTYPE /srv/pryv") == "ext4"
    assert world.run("cat /srv/pryv/data") == "precious"


def test_the_unlocking_is_as_confined_as_the_docs_say(world: World) -> None:
    for unit in ("pryv-data-unlock.service", "pryv-data.service"):
        check_exposure(world.host, unit)
