"""Which disks are formatted, and above all which are not; and whose keys are whose."""

import base64
import contextlib
import dataclasses
import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.module_utils.data_disk_headers import HeaderKeeper
from ansible.module_utils.data_disk_judge import Disk, DiskError, Header, Opened, judge
from ansible.parsing.vault import VaultLib, VaultSecret

from filter_plugins.pryv import FilterModule
from pryv_platform import data_disk
from pryv_platform.checks.data_disk import disk_problems, unstable_name
from pryv_platform.problems import InputError

ROOT = Path(__file__).parents[2]
OURS = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-2222-3333-4444-555555555555"
DEVICE = "/dev/disk/by-id/virtio-data"


def load(path: str) -> ModuleType:
    """Load a plugin as Ansible does: by its path, outside any package."""
    name = path.replace("/", "_").removesuffix(".py")
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


module = load("plugins/modules/data_disk.py")
filters = FilterModule().filters()
ON_COMMAND_LINE = ["data_disk_destroy"]


def header(label: str = "pryv_data", uuid: str = OURS, slots: int = 2) -> Any:
    metadata = {
        "keyslots": {str(slot): {} for slot in range(slots)},
        "tokens": {},
        "segments": {"0": {"offset": str(16 * 2**20), "sector_size": 4096}},
    }
    return Header(uuid, label, 1, metadata)


SERVER = {"url": "http://tang1", "thumbprint": "abc"}
EMPTY = Disk(path="/dev/vdb", size=2**30)
LUKS: dict[str, Any] = {"signatures": ["crypto_LUKS"], "unknown": True}
READY = dataclasses.replace(EMPTY, header=header(), opens=0, **LUKS)


def opened(uuid: str = OURS, device: str = "/dev/vdb") -> Any:
    return Opened(device, uuid, 2**29, ["/srv/pryv"])


@pytest.mark.parametrize("destroy", [False, True])
@pytest.mark.parametrize(
    ("disk", "verdict"),
    [
        (EMPTY, "format"),
        (READY, "ours"),
        (dataclasses.replace(READY, opens=1), "ours"),
        (dataclasses.replace(READY, opened=opened()), "ours"),
        (dataclasses.replace(READY, missed={OURS: "/dev/vdb"}), "ours"),
        # Its header was restored, or another host's former volume is known too.
        (dataclasses.replace(READY, missed={OTHER: None}), "ours"),
        # Power was lost after luksFormat, and before the file system was complete.
        (dataclasses.replace(READY, header=header("pryv_data_new")), "resume"),
        (dataclasses.replace(READY, header=header("pryv_data_new"), opened=opened()), "resume"),
        # Power was lost in the middle of luksFormat.
        (dataclasses.replace(READY, header=header("pryv_data_new", slots=0), opens=None), "format"),
    ],
)
def test_what_is_empty_or_ours_is_used(disk: Any, verdict: str, destroy: bool) -> None:
    assert judge(disk, DEVICE, destroy) == verdict


HOLDS_SOMETHING = [
    (
        dataclasses.replace(EMPTY, signatures=["ext4 (labelled photos)"], unknown=True),
        r"holds ext4 \(labelled photos\)",
    ),
    (dataclasses.replace(EMPTY, signatures=["gpt", "PMBR"], unknown=True), "holds gpt, PMBR"),
    (dataclasses.replace(EMPTY, signatures=["linux_raid_member"]), "holds linux_raid_member"),
    (dataclasses.replace(EMPTY, unknown=True), "data of an unknown kind"),
    (dataclasses.replace(EMPTY, header=header("theirs"), opens=None, **LUKS), "holds crypto_LUKS"),
    # Even when our key happens to open it: its label says that it is not ours.
    (dataclasses.replace(EMPTY, header=header(""), opens=0, **LUKS), "holds crypto_LUKS"),
    (dataclasses.replace(READY, opens=None), f"{OURS}.* no recovery key in the vault opens it"),
    (dataclasses.replace(READY, header=header("pryv_data_new"), opens=None), "no recovery key in the vault opens it"),
    (dataclasses.replace(EMPTY, missed={OURS: None}), "restore_disk_header.yml"),
    (dataclasses.replace(EMPTY, missed={OURS: None}, signatures=["ext4"]), "restore_disk_header.yml"),
]


@pytest.mark.parametrize(("disk", "reason"), HOLDS_SOMETHING)
def test_what_holds_anything_is_refused(disk: Any, reason: str) -> None:
    with pytest.raises(DiskError, match=reason):
        judge(disk, DEVICE)


@pytest.mark.parametrize("disk", [disk for disk, _ in HOLDS_SOMETHING])
def test_and_formatted_only_when_the_operator_says_so(disk: Any) -> None:
    assert judge(disk, DEVICE, destroy=True) == "format"


@pytest.mark.parametrize("destroy", [False, True])
@pytest.mark.parametrize(
    ("disk", "reason"),
    [
        (dataclasses.replace(EMPTY, users=["mounted at /"]), "in use .mounted at /"),
        (dataclasses.replace(READY, users=["part /dev/vdb1"]), "in use .part /dev/vdb1"),
        (dataclasses.replace(EMPTY, read_only=True), "cannot be written"),
        (dataclasses.replace(EMPTY, hidden=["docker"]), "holds docker"),
        (dataclasses.replace(READY, hidden=["a mount of /dev/vdc"]), "a mount of /dev/vdc"),
        (dataclasses.replace(EMPTY, opened=opened()), "do not reboot"),
        (dataclasses.replace(EMPTY, opened=opened(device="/dev/vdc")), "is on /dev/vdc"),
        (dataclasses.replace(READY, opened=opened(OTHER, "/dev/vdc")), "is on /dev/vdc"),
        (dataclasses.replace(EMPTY, missed={OURS: "/dev/vdc"}), f"{OURS} is on /dev/vdc"),
        (dataclasses.replace(EMPTY, size=2**28), "needs 512"),
    ],
)
def test_some_are_refused_whatever_the_operator_says(disk: Any, reason: str, destroy: bool) -> None:
    with pytest.raises(DiskError, match=reason):
        judge(disk, DEVICE, destroy)


def test_nothing_with_content_is_formatted_in_any_combination() -> None:
    """Every combination of what can be found, without the operator's word: only the empty disk is formatted."""
    places: list[dict[str, str | None]] = [{}, {OURS: None}, {OURS: "/dev/vdb"}, {OTHER: "/dev/vdc"}]
    for signatures, unknown, head, opens, users, missed in itertools.product(
        [[], ["ext4"]],
        [False, True],
        [None, header(), header("pryv_data_new"), header("theirs"), header("pryv_data_new", slots=0)],
        [None, 0, 1],
        [[], ["disk"]],
        places,
    ):
        disk = dataclasses.replace(
            EMPTY, signatures=signatures, unknown=unknown, header=head, opens=opens, users=users, missed=missed
        )
        try:
            verdict = judge(disk, DEVICE)
        except DiskError:
            continue
        without_keys = head is not None and head.label == "pryv_data_new" and not head.keyslots
        if verdict == "format" and not without_keys:
            assert (signatures, unknown, head, users, missed) == ([], False, None, [], {})


def test_a_volume_is_a_multiple_of_its_sectors() -> None:
    assert header().data_bytes(2**30 + 512) == 2**30 - 16 * 2**20


class KilledError(Exception):
    """The run was killed."""


class Host:
    """A host with a volume of ours: what programs do to its header, and nothing else.

    Attributes:
        left: After how many programs a run is killed.
        sss: What clevis was last told to bind a key to.
    """

    def __init__(self, folder: Path) -> None:
        self.keyfile = folder / "key"
        self.slots = {"0": b"old"}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.left = sys.maxsize
        self.sss = ""

    def opened_by(self, key: bytes, slot: str = "") -> str | None:
        return next((number for number, known in self.slots.items() if known == key and slot in ("", number)), None)

    def add(self, key: bytes, new: bytes) -> str:
        assert self.opened_by(key)
        slot = next(str(number) for number in range(32) if str(number) not in self.slots)
        self.slots[slot] = new
        return slot

    def add_token(self, token: dict[str, Any], number: str = "") -> None:
        number = number or next(str(number) for number in range(32) if str(number) not in self.tokens)
        assert number not in self.tokens
        assert int(number) < 32
        self.tokens[number] = token

    def clevis_opens(self, slot: str) -> bool:
        """Whether clevis takes a slot for its own: by the first token that the slot has."""
        kinds = [
            self.tokens[number]["type"]
            for number in sorted(self.tokens, key=int)
            if slot in self.tokens[number]["keyslots"]
        ]
        return kinds[:1] == ["clevis"]

    def files(self) -> list[str]:
        return sorted(path.name for path in self.keyfile.parent.glob("*"))

    def run_command(
        self, command: list[str], data: bytes = b"", environ_update: dict[str, str] | None = None, **_: object
    ) -> tuple[int, str, str]:
        if not self.left:
            raise KilledError
        self.left -= 1
        options = dict(itertools.pairwise(command))
        answer = self._tells(command, data, options)
        if answer is None:
            self._changes(command, data, options, environ_update or {})
        return answer or (0, "", "")

    def _tells(self, command: list[str], data: bytes, options: dict[str, str]) -> tuple[int, str, str] | None:
        match command:
            case ["cryptsetup", "luksDump", "--dump-json-metadata", *_]:
                return 0, json.dumps({"keyslots": self.slots, "tokens": self.tokens}, default=str), ""
            case ["cryptsetup", "luksDump", *_]:
                return 0, f"UUID: {OURS}\nLabel: pryv_data\nEpoch: 1\n", ""
            case ["cryptsetup", "open", "--test-passphrase", "--verbose", *_]:
                found = self.opened_by(data, options.get("--key-slot", ""))
                return (0, f"Key slot {found} unlocked.", "") if found else (2, "", "")
            case ["clevis", "luks", "pass", *_, slot]:
                return (0, self.slots[slot].decode(), "") if self.clevis_opens(slot) else (1, "", "")
        return None

    def _changes(self, command: list[str], data: bytes, options: dict[str, str], environment: dict[str, str]) -> None:
        match command:
            case ["cryptsetup", "luksAddKey", *_, file]:
                self.add(data, Path(file).read_bytes())
            case ["cryptsetup", "luksKillSlot", *_, slot]:
                assert self.opened_by(data) not in (None, slot)
                del self.slots[slot]
                for token in self.tokens.values():
                    token["keyslots"] = [number for number in token["keyslots"] if number != slot]
            case ["cryptsetup", "token", "import", *_]:
                self.add_token(json.loads(data), options["--token-id"])
            case ["cryptsetup", "token", "remove", *_]:
                del self.tokens[options["--token-id"]]
            case ["systemd-cryptenroll", *_]:
                slot = self.add(environment["PASSWORD"].encode(), os.urandom(8))
                self.add_token({"type": "systemd-tpm2", "keyslots": [slot]})
            case ["clevis", "luks", "bind", *_, "sss", sss]:
                self.sss = sss
                slot = self.add(data, os.urandom(8).hex().encode())
                self.add_token({"type": "clevis", "keyslots": [slot]})

    def have_keys(self, *keys: str, method: str, renew: bool = False, **more: object) -> list[str]:
        """Has the keys as they are wanted, with more settings of the method if given, and returns the steps."""
        unlock = {"pcrs": [7], "servers": [SERVER], "threshold": 1, "keyfile": str(self.keyfile), "method": method}
        unlock |= more
        argon2id = {"memory": 1, "iterations": 1, "parallel": 1}
        params = {"keys": keys, "device": "/dev/vdb", "name": "pryv_data", "mount_point": "/srv/pryv"}
        keeper = module.Keeper(
            SimpleNamespace(
                params={**params, "unlock": unlock, "renew": renew, "argon2id": argon2id},
                check_mode=False,
                get_bin_path=str,
                run_command=self.run_command,
            )
        )
        opens = next(number for number, key in enumerate(keys) if self.opened_by(key.encode()))
        keeper._have_keys(dataclasses.replace(READY, opens=opens))
        return list(keeper.steps)


METHODS = ["tpm2", "tang", "keyfile", "operator"]


@pytest.mark.parametrize(("before", "after"), list(itertools.product(METHODS, METHODS)))
def test_a_rotation_leaves_no_former_recovery_key(before: str, after: str, tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.have_keys("old", method=before)
    host.have_keys("new", "old", method=after)
    assert host.opened_by(b"new")
    assert not host.opened_by(b"old")
    assert len(host.slots) == (1 if after == "operator" else 2)
    assert host.have_keys("new", "old", method=after) == []


def test_clevis_is_told_every_tang_server_and_how_many_must_answer(tmp_path: Path) -> None:
    host = Host(tmp_path)
    servers = [SERVER, {"url": "http://tang2:7500", "thumbprint": "def"}]
    host.have_keys("old", method="tang", servers=servers, threshold=2)
    pins = [{"url": "http://tang1", "thp": "abc"}, {"url": "http://tang2:7500", "thp": "def"}]
    assert json.loads(host.sss) == {"t": 2, "pins": {"tang": pins}}
    assert host.have_keys("old", method="tang", servers=servers, threshold=2) == []
    assert host.have_keys("old", method="tang", servers=servers, threshold=1) == ["let tang open it at boot"]


def test_clevis_finds_its_key_however_often_it_was_made_anew(tmp_path: Path) -> None:
    host = Host(tmp_path)
    for method in ("keyfile", "tpm2", *["tang"] * 40):
        host.have_keys("old", method=method, renew=True)
    (slot,) = set(host.slots) - {"0"}
    assert host.clevis_opens(slot)


@pytest.mark.parametrize("again", [True, False], ids=["and once more", "once"])
@pytest.mark.parametrize(("before", "after"), list(itertools.product(METHODS, METHODS)))
def test_a_run_that_is_killed_anywhere_is_completed_by_the_next(
    before: str, after: str, again: bool, tmp_path: Path
) -> None:
    """A change of how it is unlocked together with a rotation; killed at each program, and the next run at some."""
    for programs in itertools.count():
        host = Host(tmp_path / str(programs))
        host.have_keys("old", method=before)
        host.left = programs
        try:
            host.have_keys("new", "old", method=after, renew=True)
            break
        except KilledError:
            pass
        if again:
            host.left = programs * 7 % 31
            with contextlib.suppress(KilledError):
                host.have_keys("new", "old", method=after, renew=True)
        host.left = sys.maxsize
        host.have_keys("new", "old", method=after)
        assert host.opened_by(b"new")
        assert not host.opened_by(b"old")
        assert len(host.slots) == (1 if after == "operator" else 2)
        assert host.files() == (["key"] if after == "keyfile" else [])
        assert after != "tang" or any(map(host.clevis_opens, host.slots))
        assert host.have_keys("new", "old", method=after) == []


@pytest.mark.parametrize("method", METHODS)
def test_a_key_that_another_put_there_is_removed(method: str, tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.have_keys("old", method=method)
    host.add_token({"type": "clevis", "keyslots": [host.add(b"old", b"another's")]})
    host.have_keys("old", method=method)
    assert not host.opened_by(b"another's")


class Restoring:
    """A host whose header is to be restored, and what is read from its disk with the copy."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.disk = dataclasses.replace(EMPTY, missed={OURS: None}, unknown=True)
        self.place: str | None = None
        self.content = "xfs"
        self.ran: list[str] = []
        monkeypatch.setattr(tempfile, "TemporaryDirectory", lambda **_: contextlib.nullcontext(folder))
        monkeypatch.setattr(HeaderKeeper, "look", lambda _: self.disk)
        monkeypatch.setattr(HeaderKeeper, "_place", lambda _, uuid: self.place if uuid == OURS else None)

    def run_command(self, command: list[str], data: bytes = b"", **_: object) -> tuple[int, str, str]:
        match command:
            case ["cryptsetup", "open", "--test-passphrase", *_]:
                return (0, "Key slot 0 unlocked.", "") if data == b"key" else (2, "", "")
            case ["cryptsetup", "luksDump", "--dump-json-metadata", *_]:
                return 0, json.dumps(header().metadata), ""
            case ["cryptsetup", "luksDump", *_]:
                return 0, f"UUID: {OURS}\nLabel: pryv_data\nEpoch: 1\n", ""
            case ["losetup", "--find", *_]:
                assert {"--read-only", "/dev/vdb"} < set(command)
                self.ran.append("loop")
                return 0, "/dev/loop7\n", ""
            case ["cryptsetup", "open", *options]:
                assert {"--readonly", "--header", "/dev/loop7", "pryv_data_read"} < set(options)
                self.ran.append("open")
            case ["wipefs", *_, "/dev/mapper/pryv_data_read"]:
                return 0, json.dumps({"signatures": [{"type": self.content}] if self.content else []}), ""
            case ["cryptsetup", "close", "pryv_data_read"]:
                self.ran.append("close")
            case ["losetup", "--detach", "/dev/loop7"]:
                self.ran.append("detach")
            case ["cryptsetup", "luksHeaderRestore", *_, "/dev/vdb"]:
                self.ran.append("restore")
        return 0, "", ""

    def restore(self, key: str = "key", check_mode: bool = False) -> None:
        copied = base64.b64encode(zlib.compress(b"header")).decode()
        params = {"keys": ["newer", key], "device": "/dev/vdb", "name": "pryv_data", "mount_point": "/srv/pryv"}
        unlock = {"method": "operator", "keyfile": "/etc/pryv/data_disk/key"}
        HeaderKeeper(
            SimpleNamespace(
                params={**params, "unlock": unlock, "header": copied},
                check_mode=check_mode,
                get_bin_path=str,
                run_command=self.run_command,
            )
        ).restored()


@pytest.fixture
def restoring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Restoring:
    return Restoring(monkeypatch, tmp_path)


@pytest.mark.parametrize("content", ["xfs", "ext4"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"opened": opened()},
        # Every key was erased: the header is there, and of no use.
        {"header": header(slots=0), "signatures": ["crypto_LUKS"]},
    ],
)
def test_a_header_is_restored_when_it_shows_a_file_system(
    changes: dict[str, Any], content: str, restoring: Restoring
) -> None:
    restoring.disk = dataclasses.replace(restoring.disk, **changes)
    restoring.content = content
    restoring.restore(check_mode=True)
    assert restoring.ran == ["loop", "open", "close", "detach"]
    restoring.ran.clear()
    restoring.restore()
    assert restoring.ran == ["loop", "open", "close", "detach", "restore"]


@pytest.mark.parametrize("content", ["", "crypto_LUKS"])
def test_a_header_that_does_not_fit_the_disk_is_not_restored(content: str, restoring: Restoring) -> None:
    restoring.content = content
    with pytest.raises(DiskError, match="does not fit /dev/vdb"):
        restoring.restore()
    assert restoring.ran == ["loop", "open", "close", "detach"]


@pytest.mark.parametrize(
    ("changes", "place", "reason"),
    [
        ({}, "/dev/vdc", f"{OURS} is on /dev/vdc"),
        # As after `cryptsetup reencrypt`: the same volume, newer than the copy.
        ({"header": header(), "signatures": ["crypto_LUKS"]}, "/dev/vdb", "has a header with keys"),
        ({"header": header(), "opened": opened()}, "/dev/vdb", "has a header with keys"),
        ({"header": header(), "opens": 0}, "/dev/vdb", "is in order"),
        ({"header": header(uuid=OTHER)}, None, f"holds volume {OTHER}"),
        ({"opened": opened(OTHER)}, None, f"the opened volume is {OTHER}"),
        ({"signatures": ["ext4"]}, None, "holds ext4"),
        ({"users": ["mounted at /"]}, None, "in use: mounted at /"),
    ],
)
def test_a_header_is_not_restored_over_anything(
    changes: dict[str, Any], place: str | None, reason: str, restoring: Restoring
) -> None:
    restoring.disk, restoring.place = dataclasses.replace(restoring.disk, **changes), place
    with pytest.raises(DiskError, match=reason):
        restoring.restore()
    assert restoring.ran == []


def test_a_header_that_no_key_opens_is_not_restored(restoring: Restoring) -> None:
    with pytest.raises(DiskError, match="does not open the header in the backup"):
        restoring.restore(key="another")
    assert restoring.ran == []


@pytest.mark.parametrize(
    ("found", "is_open", "filesystem"),
    [
        ([{"type": "ext4", "label": "pryv_data"}], True, "ext4"),
        ([{"type": "xfs"}], True, "xfs"),
        ([], True, ""),
        ([{"type": "xfs"}], False, ""),
    ],
)
def test_the_file_system_that_is_there_is_told_whatever_is_wanted(
    found: list[dict[str, str]], is_open: bool, filesystem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_command(command: list[str], **_: object) -> tuple[int, str, str]:
        assert command == ["wipefs", "--no-act", "--json", "/dev/mapper/pryv_data"]
        return 0, json.dumps({"signatures": found}) if found else "", ""

    monkeypatch.setattr(module.Keeper, "opened", lambda _: opened() if is_open else None)
    params = {"keys": ["key"], "device": "/dev/vdb", "name": "pryv_data", "mount_point": "/srv/pryv"}
    unlock = {"method": "operator", "keyfile": "/etc/pryv/data_disk/key"}
    keeper = module.Keeper(
        SimpleNamespace(
            params={**params, "unlock": unlock, "filesystem": "xfs"},
            check_mode=False,
            get_bin_path=lambda _: None,
            run_command=run_command,
        )
    )
    assert keeper.state()["filesystem"] == filesystem


class Bare:
    """A host without cryptsetup, which may be a reinstalled one: what its disk holds, and what a run says of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.signatures: list[str] = []
        self.warnings: list[str] = []
        self.looked = False
        monkeypatch.setattr(module.Keeper, "look", lambda _: self.look())

    def look(self) -> Any:
        self.looked = True
        unknown = bool(self.signatures)
        return dataclasses.replace(EMPTY, signatures=self.signatures, unknown=unknown, missed={OURS: "/dev/vdb"})

    def keeper(self, *, check_mode: bool, destroy: bool = False) -> Any:
        params = {"keys": ["key"], "device": "/dev/vdb", "name": "pryv_data", "mount_point": "/srv/pryv"}
        unlock = {"method": "operator", "keyfile": "/etc/pryv/data_disk/key"}
        return module.Keeper(
            SimpleNamespace(
                params={**params, "unlock": unlock, "destroy": destroy},
                check_mode=check_mode,
                get_bin_path=lambda _: None,
                run_command=pytest.fail,
                warn=self.warnings.append,
            )
        )


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Bare:
    return Bare(monkeypatch)


@pytest.mark.parametrize("destroy", [False, True])
def test_without_cryptsetup_nothing_is_destroyed_as_it_may_be_ours(bare: Bare, destroy: bool) -> None:
    bare.signatures = ["crypto_LUKS (labelled pryv_data)"]
    with pytest.raises(DiskError, match="cryptsetup is not installed"):
        bare.keeper(check_mode=False, destroy=destroy).present()
    assert not bare.looked


def test_without_cryptsetup_nothing_is_opened(bare: Bare) -> None:
    with pytest.raises(DiskError, match="cryptsetup is not installed"):
        bare.keeper(check_mode=True).opened_only()


@pytest.mark.parametrize("destroy", [False, True])
def test_check_mode_does_not_judge_a_volume_before_cryptsetup_is_there(bare: Bare, destroy: bool) -> None:
    bare.signatures = ["crypto_LUKS (labelled pryv_data)"]
    keeper = bare.keeper(check_mode=True, destroy=destroy)
    keeper.present()
    assert keeper.steps == []
    assert "cannot be told before cryptsetup is installed" in bare.warnings[0]


def test_check_mode_refuses_what_is_no_volume_without_cryptsetup_too(bare: Bare) -> None:
    bare.signatures = ["ext4"]
    with pytest.raises(DiskError, match="has no header of it"):
        bare.keeper(check_mode=True).present()


def test_the_highest_number_is_the_current_key() -> None:
    keys = {"co1": "first", "co1@10": "tenth", "co1@2": "second", "co10": "another's", "co1@x": "nobody's"}
    assert data_disk.recovery_keys(keys, "co1") == ["tenth", "second", "first"]
    assert data_disk.recovery_keys(keys, "co10") == ["another's"]
    assert data_disk.recovery_keys(keys, "co2") == []
    assert data_disk.next_recovery_key("co1", keys) == "co1@11"
    assert data_disk.next_recovery_key("co10", keys) == "co10@2"
    assert data_disk.next_recovery_key("co2", keys) == "co2"


def test_destruction_is_for_the_host_and_disk_that_are_named() -> None:
    assert data_disk.destroy_wanted(f"co1:{DEVICE}", "co1", DEVICE, ON_COMMAND_LINE)
    assert not data_disk.destroy_wanted(f"co1:{DEVICE}", "co2", DEVICE, ON_COMMAND_LINE)
    assert not data_disk.destroy_wanted("", "co1", DEVICE, [])


@pytest.mark.parametrize("wanted", [DEVICE, "yes", "co1:", "co1:/dev/sdb"])
def test_destruction_of_anything_else_is_refused(wanted: str) -> None:
    with pytest.raises(InputError, match="data_disk_destroy"):
        data_disk.destroy_wanted(wanted, "co1", DEVICE, ON_COMMAND_LINE)


@pytest.mark.parametrize("wanted", [f"co1:{DEVICE}", f"co2:{DEVICE}"])
def test_destruction_that_the_inventory_asks_for_is_refused(wanted: str) -> None:
    with pytest.raises(InputError, match="only be given on the command line"):
        data_disk.destroy_wanted(wanted, "co1", DEVICE, [])


GOOD = {
    "data_disk_device": DEVICE,
    "data_disk_recovery_keys": {"co1": "x" * 43},
    "pryv_environment": "production",
}
TANG = {"data_disk_unlock": "tang", "data_disk_tang_servers": [{"url": "http://tang1", "thumbprint": "abc"}]}


def keyfile(path: str) -> dict[str, Any]:
    """Settings with a key file."""
    return {"data_disk_unlock": "keyfile", "data_disk_keyfile": path}


def problems(changes: dict[str, Any], cores: list[str]) -> list[str]:
    """What is found wrong with co1, one line each."""
    found = disk_problems({"co1": {**GOOD, **changes}}, cores, "/srv/pryv", ON_COMMAND_LINE)
    return [f"{problem['severity']} {problem['where']}: {problem['problem']}" for problem in found]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"data_disk_device": ""}, "error co1: data_disk_device: is not set, and this is production"),
        ({"data_disk_device": "vdb"}, "error co1: data_disk_device: is 'vdb'"),
        ({"data_disk_device": "/dev/../etc/passwd"}, "error co1: data_disk_device: is '/dev/../etc/passwd'"),
        ({"data_disk_device": "/dev/sdb"}, "warning co1: data_disk_device: is /dev/sdb, which may be another disk"),
        ({"data_disk_recovery_keys": {}}, "error data_disk_recovery_keys.co1: is missing"),
        ({"data_disk_recovery_keys": {"co2": "x" * 43}}, "error data_disk_recovery_keys.co1: is missing"),
        ({"data_disk_recovery_keys": {"co1": "short"}}, "error data_disk_recovery_keys.co1: is no text of at least 22"),
        ({"data_disk_unlock": "tang"}, "error co1: data_disk_tang_servers: is empty, and data_disk_unlock is tang"),
        (TANG | {"data_disk_tang_threshold": 2}, "error co1: data_disk_tang_threshold: is 2"),
        (TANG | {"data_disk_tang_threshold": 0}, "error co1: data_disk_tang_threshold: is 0"),
        ({"data_disk_tpm2_pcrs": []}, "error co1: data_disk_tpm2_pcrs: is []"),
        ({"data_disk_tpm2_pcrs": [24]}, "error co1: data_disk_tpm2_pcrs: is [24]"),
        (keyfile("/root/key"), "error co1: data_disk_keyfile: is /root/key, which is hidden from"),
        (keyfile("/home/ops/key"), "error co1: data_disk_keyfile: is /home/ops/key, which"),
        (keyfile("/run/user/0/key"), "error co1: data_disk_keyfile: is /run/user/0/key, which"),
        (keyfile("/tmp/key"), "error co1: data_disk_keyfile: is /tmp/key, which"),  # noqa: S108
        (keyfile("/var/tmp/key"), "error co1: data_disk_keyfile: is /var/tmp/key, which"),  # noqa: S108
        (keyfile("/etc/../root/key"), "error co1: data_disk_keyfile: is /etc/../root/key, which"),
        (keyfile("/srv/pryv/key"), "error co1: data_disk_keyfile: is /srv/pryv/key, on the very disk"),
        (
            keyfile("/data/key") | {"pryv_data_directory": "/data/"},
            "error co1: data_disk_keyfile: is /data/key, on the",
        ),
        (keyfile("key"), "error co1: data_disk_keyfile: is 'key', and has to be an absolute path"),
        (keyfile("/etc/my key"), "error co1: data_disk_keyfile: is '/etc/my key', and has to be"),
        ({"data_disk_destroy": "all"}, "error co1: data_disk_destroy is 'all', and has to name one host"),
        ({"data_disk_destroy": "co1:/dev/sdb"}, "error co1: data_disk_destroy names /dev/sdb"),
    ],
)
def test_problems_are_named(changes: dict[str, Any], problem: str) -> None:
    (found,) = problems(changes, ["co1"])
    assert found.startswith(problem)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data_disk_recovery_keys": {"co1": "x" * 43, "co1@2": "y" * 43}},
        TANG,
        keyfile("/etc/pryv/data_disk/key"),
        keyfile("/srv/pryv-keys/key"),
        keyfile("/rooted/key"),
        # It is not used.
        {"data_disk_unlock": "tpm2", "data_disk_keyfile": "/root/key"},
        {"data_disk_device": "", "pryv_environment": "development"},
        # What is in a vault that is locked; that it is, is reported once, with the secrets.
        {"data_disk_recovery_keys": None, "pryv_locked_vaults": ["vault.yml"]},
    ],
)
def test_what_is_right_has_no_problems(changes: dict[str, Any]) -> None:
    assert problems(changes, ["co1"]) == []


def test_only_cores_must_have_a_disk() -> None:
    assert problems({"data_disk_device": ""}, ["co2"]) == []


def shown(folder: Path, hosts: dict[str, Any], variables: list[str], *options: str) -> dict[str, list[Any]]:
    """What variables of the role are for some hosts, by host, in a run of its own."""
    every = folder / "group_vars/all"
    every.mkdir(parents=True)
    for kind in ("defaults", "vars"):
        shutil.copy(ROOT / "roles/data_disk" / kind / "main.yml", every / f"{kind}.yml")
    (every / "platform.yml").write_text("{pryv_environment: development, pryv_data_directory: /srv/pryv}")
    (folder / "hosts.yml").write_text(yaml.safe_dump({"core": {"hosts": hosts}}))
    task = {"ansible.builtin.debug": {"msg": [f"{{{{ {name} }}}}" for name in variables]}}
    play = {"hosts": "all", "gather_facts": False, "tasks": [task]}
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    run = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(folder / "hosts.yml")]
    environment = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    said = subprocess.run(
        [*run, str(folder / "play.yml"), *options],
        env={**os.environ, **environment, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    results = re.findall(r"^ok: \[(\S+)\] => (\{.*?^\})", said, re.MULTILINE | re.DOTALL)
    return {host: json.loads(result)["msg"] for host, result in results}


def test_copies_of_a_host_are_not_those_of_one_whose_name_begins_alike(tmp_path: Path) -> None:
    copies = tmp_path / "backups/luks"
    copies.mkdir(parents=True)
    names = {"db": f"db-{OURS}-000012.vault", "db-2": f"db-2-{OTHER}-000003.vault"}
    for name in (*names.values(), f"dbx2-{OTHER}-000003.vault", "db-notes.vault", f"db-{OURS}.vault"):
        (copies / name).touch()
    found = shown(tmp_path, {"db": {}, "db-2": {}, "d.": {}}, ["data_disk_backup_files", "data_disk_backup_uuids"])
    assert found == {
        "db": [[str(copies / names["db"])], [OURS]],
        "db-2": [[str(copies / names["db-2"])], [OTHER]],
        "d.": [[], []],
    }


@pytest.mark.parametrize(("there", "used"), [("ext4", "ext4"), ("", "xfs")])
def test_the_inventory_names_the_file_system_of_new_volumes_only(there: str, used: str, tmp_path: Path) -> None:
    hosts = {"co1": {"data_disk_filesystem": "xfs", "data_disk_volume": {"filesystem": there}}}
    assert shown(tmp_path, hosts, ["data_disk_filesystem_there"]) == {"co1": [used]}


def test_a_run_tells_its_command_line_from_its_inventory(tmp_path: Path) -> None:
    """Where Ansible evaluates it: in processes of their own."""
    settings = {"data_disk_device": DEVICE, "data_disk_recovery_keys": {"co1": "x" * 43, "co2": "x" * 43}}
    hosts = {"co1": settings, "co2": settings}
    said = "groups | data_disk_problems(hostvars, [inventory_hostname]) | map(attribute='problem')"
    given = f"data_disk_destroy=co1:{DEVICE}"
    assert shown(tmp_path / "given", hosts, [said], "-e", given) == {"co1": [[]], "co2": [[]]}
    hosts["co1"] = {**settings, "data_disk_destroy": f"co1:{DEVICE}"}
    found = shown(tmp_path / "written", hosts, [said], "-e", "another=1")
    assert found["co2"] == [[]]
    assert len(found["co1"][0]) == 1
    assert "data_disk_destroy of co1 is in the inventory" in found["co1"][0][0]


def test_names_that_may_change_are_known() -> None:
    for name in ("/dev/sdb", "/dev/vdb1", "/dev/nvme0n1", "/dev/nvme1n1p2", "/dev/xvdf"):
        assert unstable_name(name)
    for name in (DEVICE, "/dev/disk/by-path/pci-0000:00:05.0", "/dev/mapper/vg-data"):
        assert not unstable_name(name)


def test_a_copy_opens_with_any_of_the_keys_and_no_other(tmp_path: Path) -> None:
    sealed = tmp_path / "header.vault"
    sealed.write_bytes(VaultLib([("default", VaultSecret(b"old"))]).encrypt("the header"))
    assert filters["data_disk_unseal"](str(sealed), ["new", "old"]) == "the header"
    with pytest.raises(AnsibleFilterError, match="no recovery key"):
        filters["data_disk_unseal"](str(sealed), ["new"])
