"""Which disks are formatted, and above all which are not; and whose keys are whose."""

import dataclasses
import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible.parsing.vault import VaultLib, VaultSecret

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
filters = load("filter_plugins/data_disk.py")


def header(label: str = "pryv_data", uuid: str = OURS, slots: int = 2) -> Any:
    metadata = {
        "keyslots": {str(slot): {} for slot in range(slots)},
        "tokens": {},
        "segments": {"0": {"offset": str(16 * 2**20), "sector_size": 4096}},
    }
    return module.Header(uuid, label, 1, metadata)


EMPTY = module.Disk(path="/dev/vdb", size=2**30)
LUKS = {"signatures": ["crypto_LUKS"], "unknown": True}
READY = dataclasses.replace(EMPTY, header=header(), opens=0, **LUKS)


def opened(uuid: str = OURS, device: str = "/dev/vdb") -> Any:
    return module.Opened(device, uuid, 2**29, ["/srv/pryv"])


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
    assert module.judge(disk, DEVICE, destroy) == verdict


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
    with pytest.raises(module.DiskError, match=reason):
        module.judge(disk, DEVICE)


@pytest.mark.parametrize("disk", [disk for disk, _ in HOLDS_SOMETHING])
def test_and_formatted_only_when_the_operator_says_so(disk: Any) -> None:
    assert module.judge(disk, DEVICE, destroy=True) == "format"


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
    with pytest.raises(module.DiskError, match=reason):
        module.judge(disk, DEVICE, destroy)


def test_nothing_with_content_is_formatted_in_any_combination() -> None:
    """Every combination of what can be found, without the operator's word: only the empty disk is formatted."""
    for signatures, unknown, head, opens, users, missed in itertools.product(
        [[], ["ext4"]],
        [False, True],
        [None, header(), header("pryv_data_new"), header("theirs"), header("pryv_data_new", slots=0)],
        [None, 0, 1],
        [[], ["disk"]],
        [{}, {OURS: None}, {OURS: "/dev/vdb"}, {OTHER: "/dev/vdc"}],
    ):
        disk = dataclasses.replace(
            EMPTY, signatures=signatures, unknown=unknown, header=head, opens=opens, users=users, missed=missed
        )
        try:
            verdict = module.judge(disk, DEVICE)
        except module.DiskError:
            continue
        without_keys = head is not None and head.label == "pryv_data_new" and not head.keyslots
        if verdict == "format" and not without_keys:
            assert (signatures, unknown, head, users, missed) == ([], False, None, [], {})


def test_a_volume_is_a_multiple_of_its_sectors() -> None:
    assert header().data_bytes(2**30 + 512) == 2**30 - 16 * 2**20


def test_the_highest_number_is_the_current_key() -> None:
    keys = {"co1": "first", "co1@10": "tenth", "co1@2": "second", "co10": "another's", "co1@x": "nobody's"}
    assert filters.recovery_keys(keys, "co1") == ["tenth", "second", "first"]
    assert filters.recovery_keys(keys, "co10") == ["another's"]
    assert filters.recovery_keys(keys, "co2") == []
    assert filters.next_recovery_key("co1", keys) == "co1@11"
    assert filters.next_recovery_key("co10", keys) == "co10@2"
    assert filters.next_recovery_key("co2", keys) == "co2"


def test_destruction_is_for_the_host_and_disk_that_are_named() -> None:
    assert filters.destroy_wanted(f"co1:{DEVICE}", "co1", DEVICE)
    assert not filters.destroy_wanted(f"co1:{DEVICE}", "co2", DEVICE)
    assert not filters.destroy_wanted("", "co1", DEVICE)


@pytest.mark.parametrize("wanted", [DEVICE, "yes", "co1:", "co1:/dev/sdb"])
def test_destruction_of_anything_else_is_refused(wanted: str) -> None:
    with pytest.raises(AnsibleFilterError, match="data_disk_destroy"):
        filters.destroy_wanted(wanted, "co1", DEVICE)


GOOD = {
    "device": DEVICE,
    "unlock": "tpm2",
    "tpm2_pcrs": [7],
    "tang_servers": [],
    "tang_threshold": 1,
    "recovery_keys": {"co1": "x" * 43},
    "destroy": "",
    "environment": "production",
    "groups": ["core"],
}
SERVER = {"url": "http://tang1", "thumbprint": "abc"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"device": ""}, "data_disk_device of co1 is not set"),
        ({"device": "vdb"}, "data_disk_device of co1 is 'vdb'"),
        ({"device": "/dev/../etc/passwd"}, "has to be a path"),
        ({"recovery_keys": {}}, "has no key for co1"),
        ({"recovery_keys": {"co1": "short"}}, "at least 22 characters"),
        ({"unlock": "tang"}, "data_disk_tang_servers is empty"),
        ({"unlock": "tang", "tang_servers": [SERVER], "tang_threshold": 2}, "data_disk_tang_threshold is 2"),
        ({"unlock": "tang", "tang_servers": [SERVER], "tang_threshold": 0}, "data_disk_tang_threshold is 0"),
        ({"tpm2_pcrs": []}, "data_disk_tpm2_pcrs"),
        ({"tpm2_pcrs": [24]}, "data_disk_tpm2_pcrs"),
        ({"destroy": "all"}, "data_disk_destroy is 'all'"),
    ],
)
def test_problems_are_named(changes: dict[str, Any], problem: str) -> None:
    found = filters.disk_problems({**GOOD, **changes}, "co1")
    assert len(found) == 1
    assert problem in found[0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"unlock": "tang", "tang_servers": [SERVER, SERVER], "tang_threshold": 2},
        {"device": "", "environment": "development"},
        {"device": "", "groups": ["registry"]},
    ],
)
def test_what_is_right_has_no_problems(changes: dict[str, Any]) -> None:
    assert filters.disk_problems({**GOOD, **changes}, "co1") == []


def test_names_that_may_change_are_known() -> None:
    for name in ("/dev/sdb", "/dev/vdb1", "/dev/nvme0n1", "/dev/nvme1n1p2", "/dev/xvdf"):
        assert filters.unstable_name(name)
    for name in (DEVICE, "/dev/disk/by-path/pci-0000:00:05.0", "/dev/mapper/vg-data"):
        assert not filters.unstable_name(name)


def test_a_copy_opens_with_any_of_the_keys_and_no_other(tmp_path: Path) -> None:
    sealed = tmp_path / "header.vault"
    sealed.write_bytes(VaultLib([("default", VaultSecret(b"old"))]).encrypt("the header"))
    assert filters.unseal(str(sealed), ["new", "old"]) == "the header"
    with pytest.raises(AnsibleFilterError, match="no recovery key"):
        filters.unseal(str(sealed), ["new"])
