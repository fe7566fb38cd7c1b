"""What there is on a disk, and what may be done with it."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

LABEL = "pryv_data"
#: The label until the file system is complete. Nothing of value can be on such a volume: it has never been mounted.
UNFINISHED = "pryv_data_new"
#: What a volume may hold.
FILESYSTEMS = ["xfs", "ext4"]
#: A disk must have so many bytes.
SMALLEST = 512 * 2**20


class DiskError(Exception):
    """Something the operator has to decide or mend; the message says what."""


@dataclass(frozen=True)
class Header:
    """What a LUKS2 header says.

    Attributes:
        uuid: The volume's UUID.
        label: Its label.
        epoch: Grows with every change.
        metadata: The header's JSON.
    """

    uuid: str
    label: str
    epoch: int
    metadata: dict[str, t.Any]

    @property
    def keyslots(self) -> set[str]:
        """The key slots in use."""
        return set(self.metadata["keyslots"])

    def tokens(self, kind: str) -> dict[str, dict[str, t.Any]]:
        """Tokens of one type, by number."""
        return {number: token for number, token in self.metadata["tokens"].items() if token["type"] == kind}

    def data_bytes(self, disk: int) -> int:
        """How large the opened volume can be on a disk of that many bytes."""
        segment = self.metadata["segments"]["0"]
        usable = disk - int(segment["offset"])
        return usable - usable % int(segment["sector_size"])


@dataclass(frozen=True)
class Opened:
    """An opened volume.

    Attributes:
        device: The disk it is on, as the kernel names it.
        uuid: The volume's UUID.
        size: In bytes.
        mounts: Where it is mounted.
    """

    device: str
    uuid: str
    size: int
    mounts: list[str]


@dataclass(frozen=True)
class Disk:
    """What there is before anything is done.

    Attributes:
        path: The disk as the kernel names it.
        size: In bytes.
        read_only: Whether it cannot be written.
        users: What else uses it: mounts, partitions, other mappings.
        signatures: What is recognised on it.
        unknown: Whether there is something that is not recognised.
        header: The LUKS2 header, if it has one.
        opened: The opened volume of our name, wherever it is.
        opens: The first of the keys that opens the header, by position in the list.
        missed: UUIDs of volumes that the host had, and where each is now, if it is anywhere.
        hidden: What a mount would hide.
    """

    path: str
    size: int
    read_only: bool = False
    users: list[str] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    unknown: bool = False
    header: Header | None = None
    opened: Opened | None = None
    opens: int | None = None
    missed: dict[str, str | None] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)


def judge(disk: Disk, device: str, destroy: bool = False) -> str:
    """Says what may be done with a disk.

    Args:
        disk: What there is.
        device: The disk as the operator named it.
        destroy: Whether the operator wants it erased.

    Returns:
        `format` for an empty disk, `resume` for one whose making was interrupted, `ours` for a complete volume.

    Raises:
        DiskError: In every other case, with the reason and the way out.
    """
    _refuse_unusable(disk, device)
    ours = disk.header is not None and disk.header.label == LABEL and disk.opens is not None
    _refuse_another_than_ours(disk, device, ours)
    if ours:
        return "ours"
    unfinished = disk.header is not None and disk.header.label == UNFINISHED
    if unfinished and disk.header and not disk.header.keyslots:
        return "format"  # a header without keys has never been opened by anybody
    if unfinished and disk.opens is not None:
        return "resume"
    if disk.size < SMALLEST:
        raise DiskError(f"{device} has {disk.size // 2**20} MiB, and needs {SMALLEST // 2**20} at least")
    if not destroy:
        _refuse_what_is_on_it(disk, device)
    return "format"


def _refuse_unusable(disk: Disk, device: str) -> None:
    """Refuses a disk that cannot be taken, whatever is on it."""
    if disk.users:
        raise DiskError(
            f"{device} is in use ({', '.join(disk.users)}); nothing in use is ever touched. Is it the right disk?"
        )
    if disk.read_only:
        raise DiskError(f"{device} cannot be written")
    if disk.hidden:
        raise DiskError(
            f"the mount point holds {', '.join(disk.hidden)}, which mounting the disk there would hide; "
            "move the files away, and later onto the disk"
        )


def _refuse_another_than_ours(disk: Disk, device: str, ours: bool) -> None:
    """Refuses a disk while the host's volume is open, or to be found, somewhere else."""
    if disk.opened and not (disk.header and disk.opened.uuid == disk.header.uuid):
        if disk.opened.device == disk.path:
            raise DiskError(
                f"the header of {device} is gone while its volume {disk.opened.uuid} is open: "
                "do not reboot, and run playbooks/restore_disk_header.yml now"
            )
        raise DiskError(f"the opened volume is on {disk.opened.device}, and not on {device}: name that disk")
    elsewhere = {uuid: place for uuid, place in disk.missed.items() if place and place != disk.path}
    if elsewhere and not ours:
        uuid, place = next(iter(elsewhere.items()))
        raise DiskError(
            f"this host's volume {uuid} is on {place}, and not on {device}: name that disk, or see "
            "docs/operations/data-disk.md for how to move to another"
        )


def _refuse_what_is_on_it(disk: Disk, device: str) -> None:
    """Refuses a disk that is not empty, or that should not be."""
    if disk.header is None and disk.missed:
        raise DiskError(
            f"this host has a volume {next(iter(disk.missed))}, and {device} has no header of it: if it was destroyed, "
            "run playbooks/restore_disk_header.yml; if the disk is a new one, see docs/operations/data-disk.md"
        )
    if disk.header is not None and disk.header.label in {LABEL, UNFINISHED}:
        raise DiskError(
            f"{device} is a volume of this toolkit ({disk.header.uuid}), and no recovery key in the vault opens it: "
            "was the vault made anew, or is it another host's disk?"
        )
    found = disk.signatures or ["data of an unknown kind"]
    if disk.signatures or disk.unknown or disk.header:
        raise DiskError(
            f"{device} is not empty: it holds {', '.join(found)}. If it is the right disk and nobody needs that, "
            "see docs/operations/data-disk.md for how to say so"
        )
