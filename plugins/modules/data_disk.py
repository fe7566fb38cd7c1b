#!/usr/bin/python
"""Keep one disk of a host encrypted, and never destroy what is on it."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import functools
import itertools
import json
import os
import re
import struct
import tempfile
import typing as t
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: data_disk
short_description: Keep one disk of a host encrypted, and never destroy what is on it
description:
  - Makes a disk a LUKS2 volume with a file system, opens it, keeps its keys as they are said to be, and lets it grow
    with the disk. Mounting it is left to systemd.
  - Only a disk that is empty beyond doubt is formatted. Anything on it, a file system, a partition table, another LUKS
    header, or bytes that nobody knows, makes the module fail before it touches the disk, and so does a disk in use.
  - Volumes carry a label of ours from the first moment on, another one until their file system is complete. A run that
    was killed, or a host that lost power, at any point is mended by the next run.
  - Keys reach the programs by standard input, by memory that has no name in the file system or, for systemd-cryptenroll
    alone, by an environment that only root may read. They are on no command line and in no file.
options:
  device:
    description: The disk, best named by its path in C(/dev/disk/by-id).
    type: path
    required: true
  state:
    description:
      - V(present) is the whole of the above.
      - V(opened) opens a volume that is complete, and does nothing else.
      - V(saved) returns the header for safekeeping.
      - V(restored) writes O(header) over a header that is broken, once it has shown a file system on that very disk.
    type: str
    choices: [present, opened, saved, restored]
    default: present
  keys:
    description:
      - Passphrases that the volume opens with. The first shall be the only one of them. The others are former ones,
        which let the first in and are then removed, if the volume still has them.
    type: list
    elements: str
    required: true
  name:
    description: The name of the opened volume in C(/dev/mapper).
    type: str
    default: pryv_data
  mount_point:
    description: Where systemd mounts the volume. While nothing is mounted there, nobody can write there either.
    type: path
    required: true
  filesystem:
    description: The file system that a new volume gets.
    type: str
    choices: [xfs, ext4]
    default: xfs
  argon2id:
    description: What deriving a key from a passphrase costs, fixed, so that it does not depend on how busy a host was.
    type: dict
    default: {}
    suboptions:
      memory:
        description: In KiB.
        type: int
        default: 262144
      iterations:
        description: Passes over that memory.
        type: int
        default: 4
      parallel:
        description: Threads.
        type: int
        default: 2
  unlock:
    description: What opens the volume when the host boots.
    type: dict
    default: {}
    suboptions:
      method:
        description:
          - V(tpm2) is the host's TPM, V(tang) are servers in the network, V(keyfile) is a file on the host.
          - With V(operator) nothing on the host opens it.
        type: str
        choices: [tpm2, tang, keyfile, operator]
        default: operator
      pcrs:
        description: Registers of the TPM whose values must be those of today.
        type: list
        elements: int
        default: [7]
      servers:
        description: Tang servers, each with C(url) and C(thumbprint) of its signing key.
        type: list
        elements: dict
        default: []
      threshold:
        description: How many of the servers must answer.
        type: int
        default: 1
      keyfile:
        description: The file; it is made when it is missing.
        type: path
        default: /etc/pryv/data_disk/key
  renew:
    description: Whether to make the key of O(unlock) anew, and remove the former.
    type: bool
    default: false
  destroy:
    description:
      - Whether the operator wants what is on this disk destroyed.
      - A volume that one of O(keys) opens is kept all the same.
    type: bool
    default: false
  known_uuids:
    description: Volumes that this host is known to have had, beside the one in O(record). Their headers are missed.
    type: list
    elements: str
    default: []
  record:
    description: The file in which the host notes its volume's UUID.
    type: path
    default: /etc/pryv/data_disk/uuid
  header:
    description: What V(saved) returned, for O(state=restored).
    type: str
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author: Pryv Ansible contributors
"""

EXAMPLES = r"""
- name: Have the data disk encrypted, opened and ready to be mounted
  data_disk:
    device: /dev/disk/by-id/virtio-data
    mount_point: /srv/pryv
    keys: ["{{ recovery_key }}"]
    unlock: {method: tpm2}
  no_log: true
"""

RETURN = r"""
steps:
  description: What was done, or would be done, in words.
  type: list
  elements: str
  returned: always
uuid:
  description: The volume's UUID; empty when it is not made yet.
  type: str
  returned: always
epoch:
  description: A number that grows with every change of the header.
  type: int
  returned: always
mounted:
  description: Whether the volume is mounted at O(mount_point).
  type: bool
  returned: always
filesystem:
  description: >-
    The type of the file system on the opened volume, whatever O(filesystem) says; empty while the volume is locked, or
    is not made yet.
  type: str
  returned: always
fstab:
  description: The entry for O(mount_point) in C(/etc/fstab), as its fields.
  type: list
  elements: str
  returned: always
header:
  description: The header, compressed and in Base64.
  type: str
  returned: O(state=saved)
"""

LABEL = "pryv_data"
#: The label until the file system is complete. Nothing of value can be on such a volume: it has never been mounted.
UNFINISHED = "pryv_data_new"
#: Our own token in the header, which says what the unlocking key was made for.
NOTE = "pryv-unlock"
#: The tokens of the programs that make unlocking keys, by method.
TOKENS = {"tpm2": "systemd-tpm2", "tang": "clevis"}
#: A key from standard input. Without the second option, cryptsetup asks the TPM first, and any key seems right.
WITH_KEY = ("--key-file", "-", "--disable-external-tokens")
FILESYSTEMS = ["xfs", "ext4"]
CIPHER, KEY_BITS = "aes-xts-plain64", 512
#: A disk whose first and last bytes are not zero holds something, known or not. cryptsetup clears the first before it
#: writes anything, so that a killed luksFormat leaves an empty disk or one with a header of ours.
EDGE = 32 * 1024
SMALLEST = 512 * 2**20
#: Less than a file system can use at its end.
SLACK = 64 * 2**20
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IMMUTABLE = 0x80086601, 0x40086602, 0x10


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
    ours = disk.header is not None and disk.header.label == LABEL and disk.opens is not None
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
    if ours:
        return "ours"
    unfinished = disk.header is not None and disk.header.label == UNFINISHED
    if unfinished and disk.header and not disk.header.keyslots:
        return "format"  # a header without keys has never been opened by anybody
    if unfinished and disk.opens is not None:
        return "resume"
    if disk.size < SMALLEST:
        raise DiskError(f"{device} has {disk.size // 2**20} MiB, and needs {SMALLEST // 2**20} at least")
    if destroy:
        return "format"
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
    return "format"


@dataclass
class Result:
    """What a program returned."""

    code: int
    out: str
    err: str


class Programs:
    """Runs programs, none of which ever gets a secret on its command line."""

    def __init__(self, module: AnsibleModule) -> None:
        """Take over the module's way to run programs."""
        self._module = module

    def has(self, program: str) -> bool:
        """Whether a program is installed."""
        return bool(self._module.get_bin_path(program))

    def run(
        self,
        *command: str,
        key: bytes = b"",
        files: Sequence[int] = (),
        env: dict[str, str] | None = None,
        accept: Sequence[int] = (0,),
    ) -> Result:
        """Runs a program.

        Args:
            command: The program and its arguments.
            key: What it reads from standard input.
            files: Open files that it shall inherit.
            env: Variables to add to its environment.
            accept: Exit codes that are no failure.

        Raises:
            DiskError: With the program's own words when it fails.
        """
        code, out, err = self._module.run_command(
            list(command),
            data=key,
            binary_data=True,
            environ_update={"LC_ALL": "C", **(env or {})},
            pass_fds=list(files),
        )
        if code not in accept:
            raise DiskError(f"{' '.join(command[:2])} failed ({code}): {(err or out).strip()}")
        return Result(code, out, err)


@contextlib.contextmanager
def secret_file(secret: bytes) -> Iterator[tuple[int, str]]:
    """A file without a name that holds a secret, as descriptor and as a path for a program that inherits it."""
    descriptor = os.memfd_create("secret", 0)
    try:
        os.write(descriptor, secret)
        yield descriptor, f"/dev/fd/{descriptor}"
    finally:
        os.close(descriptor)


class Volume:
    """The LUKS volume on a disk, by way of cryptsetup."""

    def __init__(self, programs: Programs, device: str, name: str) -> None:
        """Name the disk and the opened volume."""
        self._programs, self.device, self.name = programs, device, name
        self.mapped = f"/dev/mapper/{name}"

    def header(self, path: str = "") -> Header | None:
        """What the header of the disk, or in a file, says; None without a LUKS2 header."""
        path = path or self.device
        if not self._programs.has("cryptsetup"):
            return None
        if self._programs.run("cryptsetup", "isLuks", "--type", "luks2", path, accept=(0, 1, 4)).code:
            return None
        dump = self._programs.run("cryptsetup", "luksDump", path).out
        metadata = self._programs.run("cryptsetup", "luksDump", "--dump-json-metadata", path).out
        fields = dict(re.findall(r"^(UUID|Label|Epoch):\s*(.*)$", dump, re.MULTILINE))
        return Header(fields["UUID"], fields["Label"], int(fields["Epoch"]), json.loads(metadata))

    def slot_of(self, key: bytes, *options: str) -> str | None:
        """The slot that a key opens, or None."""
        test = ["cryptsetup", "open", "--test-passphrase", "--verbose", *WITH_KEY, *options, self.device]
        done = self._programs.run(*test, key=key, accept=(0, 1, 2))
        found = re.search(r"Key slot (\d+) unlocked", done.out)
        return found.group(1) if done.code == 0 and found else None

    def format(self, key: bytes, argon2id: dict[str, int]) -> None:
        """Makes a volume that is marked as unfinished."""
        derivation = ["--pbkdf", "argon2id", "--pbkdf-memory", str(argon2id["memory"])]
        derivation += ["--pbkdf-force-iterations", str(argon2id["iterations"])]
        derivation += ["--pbkdf-parallel", str(argon2id["parallel"])]
        self._programs.run(
            *("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--label", UNFINISHED),
            *("--cipher", CIPHER, "--key-size", str(KEY_BITS), "--hash", "sha256", *derivation),
            *("--key-file", "-", self.device),
            key=key,
        )

    def finish(self) -> None:
        """Takes the mark off."""
        self._programs.run("cryptsetup", "config", "--label", LABEL, self.device)

    def open(self, key: bytes) -> None:
        """Opens the volume."""
        self._programs.run("cryptsetup", "open", "--type", "luks2", *WITH_KEY, self.device, self.name, key=key)

    @contextlib.contextmanager
    def read_with(self, header: str, key: bytes) -> Iterator[str]:
        """What is on the disk as another header says, as a device that cannot be written."""
        name = f"{self.name}_read"
        # A disk in use, as it is while the volume is open, is opened once more only by way of a loop.
        loop = self._programs.run("losetup", "--find", "--show", "--read-only", self.device).out.strip()
        try:
            if Path(f"/dev/mapper/{name}").exists():  # of a run that was killed
                self._programs.run("cryptsetup", "close", name)
            opening = ["cryptsetup", "open", "--type", "luks2", "--readonly", *WITH_KEY, "--header", header, loop, name]
            self._programs.run(*opening, key=key)
            try:
                yield f"/dev/mapper/{name}"
            finally:
                self._programs.run("cryptsetup", "close", name)
        finally:
            self._programs.run("losetup", "--detach", loop)

    def add_key(self, key: bytes, new: bytes, *derivation: str) -> None:
        """Lets another key in."""
        with secret_file(new) as (descriptor, path):
            self._programs.run(
                *("cryptsetup", "luksAddKey", "--batch-mode", *WITH_KEY, *derivation, self.device, path),
                key=key,
                files=[descriptor],
            )

    def remove_slot(self, key: bytes, slot: str) -> None:
        """Erases a slot that the key does not open."""
        if self.slot_of(key) == slot:
            raise DiskError(f"slot {slot} is the recovery key's own")
        self._programs.run("cryptsetup", "luksKillSlot", "--batch-mode", *WITH_KEY, self.device, slot, key=key)

    def resize(self, key: bytes) -> None:
        """Lets the opened volume take the whole disk."""
        self._programs.run("cryptsetup", "resize", *WITH_KEY, self.name, key=key)

    def note(self, slot: str | None, method: str, policy: str) -> None:
        """Writes into the header what a slot, if any, was made for, in place of what was noted before."""
        tokens = self._tokens()
        previous = [n for n, token in tokens.items() if token["type"] == NOTE]
        if slot:
            # clevis takes the first token of a slot for its own: ours has to come after it.
            last = max((int(n) for n in tokens if n not in previous and slot in tokens[n]["keyslots"]), default=-1)
            number = next(str(n) for n in itertools.count(last + 1) if str(n) not in tokens)
            token = {"type": NOTE, "keyslots": [slot], "method": method, "policy": policy}
            command = ("cryptsetup", "token", "import", "--token-id", number, "--json-file", "-", self.device)
            self._programs.run(*command, key=json.dumps(token).encode())
        for number in previous:
            self.remove_token(number)

    def remove_token(self, number: str) -> None:
        """Removes a token, not its slot."""
        self._programs.run("cryptsetup", "token", "remove", "--token-id", number, self.device)

    def _tokens(self) -> dict[str, t.Any]:
        header = self.header()
        return header.metadata["tokens"] if header else {}


class Unlocking:
    """The key that opens the volume when the host boots."""

    def __init__(self, programs: Programs, volume: Volume, wanted: dict[str, t.Any]) -> None:
        """Take what is wanted."""
        self._programs, self._volume, self._wanted = programs, volume, wanted
        self.method: str = wanted["method"]
        self._keyfile = Path(wanted["keyfile"])
        # Where a key is until it is the one in the key file.
        self._coming = Path(f"{self._keyfile}.new")

    @property
    def tang(self) -> str:
        """The tang servers and their threshold as clevis wants them."""
        servers = [{"thp": server["thumbprint"], "url": server["url"]} for server in self._wanted["servers"]]
        return json.dumps({"t": self._wanted["threshold"], "pins": {"tang": servers}}, sort_keys=True)

    @property
    def policy(self) -> str:
        """What the key is bound to."""
        policies: dict[str, str] = {
            "tpm2": "+".join(map(str, sorted(self._wanted["pcrs"]))),
            "tang": self.tang,
            "keyfile": str(self._keyfile),
            "operator": "",
        }
        return policies[self.method]

    def is_there(self, header: Header) -> bool:
        """Whether the header has a key as wanted, and no other; for `operator`, whether it has none."""
        if any(path.exists() for path in self._unwanted_files()):
            return False
        notes = list(header.tokens(NOTE).values())
        tokens = [(method, t["keyslots"]) for method, kind in TOKENS.items() for t in header.tokens(kind).values()]
        if self.method == "operator":
            return not notes and not tokens
        if [(note.get("method"), note.get("policy")) for note in notes] != [(self.method, self.policy)]:
            return False
        slots = notes[0]["keyslots"]
        if self.method == "keyfile":
            return not tokens and slots == [self._opened_by(self._keyfile)]
        return bool(slots) and tokens == [(self.method, slots)]

    def enroll(self, key: bytes, renew: bool) -> None:
        """Makes the key, proves that it opens the volume, and removes every former one.

        Noting it is the last step: a run that is killed before that is done again. Until then everything it has made is
        found by the former note, by a program's token or in a file.

        Args:
            key: The recovery key.
            renew: Whether a key file that is there is to be replaced.
        """
        noted = {slot for token in self._tokens(NOTE).values() for slot in token["keyslots"]}
        # What a killed run made goes first: making a key may remove the only trace of it.
        for leftover in sorted(self._slots() - noted):
            self._volume.remove_slot(key, leftover)
        slot = getattr(self, f"_enroll_{self.method}")(key, renew)
        for former in sorted(self._slots() - {slot}):
            self._volume.remove_slot(key, former)
        for kind in TOKENS.values():
            for number, token in self._tokens(kind).items():
                if token["keyslots"] != [slot]:
                    self._volume.remove_token(number)
        for path in self._unwanted_files():
            path.unlink(missing_ok=True)
        self._volume.note(slot, self.method, self.policy)

    def _header(self) -> Header:
        header = self._volume.header()
        if header is None:
            raise DiskError(f"the header of {self._volume.device} vanished")
        return header

    def _tokens(self, kind: str) -> dict[str, dict[str, t.Any]]:
        return self._header().tokens(kind)

    def _unwanted_files(self) -> list[Path]:
        """Key files that are only there when a run was killed, or before the method was changed."""
        return [self._coming] if self.method == "keyfile" else [self._keyfile, self._coming]

    def _slots(self) -> set[str]:
        """Slots that some unlocking key uses, noted or not."""
        header = self._header()
        tokens = [token for kind in (NOTE, *TOKENS.values()) for token in header.tokens(kind).values()]
        slots = {slot for token in tokens for slot in token["keyslots"]}
        return slots | {slot for path in (self._keyfile, self._coming) if (slot := self._opened_by(path))}

    def _enroll_operator(self, _key: bytes, _renew: bool) -> str | None:
        return None

    def _enroll_tpm2(self, key: bytes, _renew: bool) -> str:
        # Beside a token for the same registers, no other is made. Until there is one, the recovery key opens the disk.
        for number in self._tokens("systemd-tpm2"):
            self._volume.remove_token(number)
        self._programs.run(
            *("systemd-cryptenroll", "--tpm2-device=auto", f"--tpm2-pcrs={self.policy}", self._volume.device),
            env={"PASSWORD": key.decode()},
        )
        ((number, token),) = self._tokens("systemd-tpm2").items()
        proof = ["cryptsetup", "open", "--test-passphrase", "--token-only", "--token-id", number, self._volume.device]
        self._programs.run(*proof)
        return str(token["keyslots"][0])

    def _enroll_tang(self, key: bytes, _renew: bool) -> str:
        old = set(self._tokens("clevis"))
        self._programs.run(
            "clevis", "luks", "bind", "-y", "-k", "-", "-d", self._volume.device, "sss", self.tang, key=key
        )
        token = next(token for number, token in self._tokens("clevis").items() if number not in old)
        slot = str(token["keyslots"][0])
        secret = self._programs.run("clevis", "luks", "pass", "-d", self._volume.device, "-s", slot).out
        if self._volume.slot_of(secret.rstrip("\n").encode(), "--key-slot", slot) != slot:
            raise DiskError("what the tang servers give does not open the disk")
        return slot

    def _enroll_keyfile(self, key: bytes, renew: bool) -> str:
        if not renew and (slot := self._opened_by(self._keyfile)):
            return slot
        secret = os.urandom(64)
        self._coming.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._coming.unlink(missing_ok=True)
        with os.fdopen(os.open(self._coming, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        # 512 random bits need no costly derivation.
        self._volume.add_key(key, secret, "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
        slot = self._opened_by(self._coming)
        if slot is None:
            raise DiskError(f"{self._coming} does not open the disk")
        self._coming.replace(self._keyfile)
        return slot

    def _opened_by(self, keyfile: Path) -> str | None:
        """The slot that a key file opens, or None."""
        try:
            return self._volume.slot_of(keyfile.read_bytes())
        except FileNotFoundError:
            return None


def is_zero(path: str, offset: int, length: int) -> bool:
    """Whether a part of a disk is all zeros."""
    with Path(path).open("rb") as stream:
        stream.seek(offset)
        return not any(stream.read(length))


def flatten(nodes: list[dict[str, t.Any]]) -> Iterator[dict[str, t.Any]]:
    """The nodes of lsblk's tree, and all below them."""
    for node in nodes:
        yield node
        yield from flatten(node.get("children", []))


class Keeper:
    """Does what the module's parameters ask for."""

    def __init__(self, module: AnsibleModule) -> None:
        """Read the parameters."""
        self.module = module
        self.wanted: dict[str, t.Any] = module.params
        self.programs = Programs(module)
        self.keys = [key.encode() for key in self.wanted["keys"]]
        if not self.keys or not all(self.keys):
            raise DiskError("no recovery key is given; run playbooks/secrets.yml, or take it from where it is kept")
        self.device = str(Path(self.wanted["device"]).resolve())
        self.volume = Volume(self.programs, self.device, self.wanted["name"])
        self.mount_point = Path(self.wanted["mount_point"])
        self.unlocking = Unlocking(self.programs, self.volume, self.wanted["unlock"])
        self.steps: list[str] = []

    def do(self, step: str, action: Callable[[], object]) -> None:
        """Notes a step and takes it, unless this is check mode."""
        self.steps.append(step)
        if not self.module.check_mode:
            action()

    # Look

    def look(self) -> Disk:
        """Sees what there is, and changes nothing.

        Raises:
            DiskError: When the disk is not there.
        """
        if not Path(self.device).is_block_device():
            raise DiskError(f"{self.wanted['device']} is not there, or is no disk. There are: {self._names()}")
        listing = ["lsblk", "--json", "--bytes", "--output", "NAME,PATH,TYPE,SIZE,RO,MOUNTPOINTS", self.device]
        node, *below = flatten(json.loads(self.programs.run(*listing).out)["blockdevices"])
        users = [f"mounted at {place}" for place in node["mountpoints"] if place]
        users += [f"{child['type']} {child['path']}" for child in below if child["path"] != self.volume.mapped]
        size = int(node["size"])
        header = self.volume.header()
        opens = None
        if header and header.keyslots:
            opens = next((position for position, key in enumerate(self.keys) if self.volume.slot_of(key)), None)
        return Disk(
            path=self.device,
            size=size,
            read_only=bool(node["ro"]),
            users=users,
            signatures=self.signatures(self.device),
            unknown=not (is_zero(self.device, 0, EDGE) and is_zero(self.device, size - EDGE, EDGE)),
            header=header,
            opened=self.opened(),
            opens=opens,
            missed={uuid: self._place(uuid) for uuid in self._known()},
            hidden=self._hidden(),
        )

    def signatures(self, path: str) -> list[str]:
        """What is recognised on a device, such as `ext4 (labelled data)`."""
        out = self.programs.run("wipefs", "--no-act", "--json", path).out
        found = json.loads(out)["signatures"] if out.strip() else []
        return [f"{s['type']} (labelled {s['label']})" if s.get("label") else str(s["type"]) for s in found]

    def opened(self) -> Opened | None:
        """The opened volume of our name."""
        if not Path(self.volume.mapped).exists():
            return None
        kernel = Path("/sys/class/block") / Path(self.volume.mapped).resolve().name
        plain = (kernel / "dm/uuid").read_text().removeprefix("CRYPT-LUKS2-")[:32]
        uuid = str(UUID(plain)) if re.fullmatch("[0-9a-f]{32}", plain) else plain
        device = next(f"/dev/{path.name}" for path in (kernel / "slaves").iterdir())
        mounts = [fields[1] for fields in self._mounts() if fields[0] == self.volume.mapped]
        return Opened(device, uuid, int((kernel / "size").read_text()) * 512, mounts)

    @staticmethod
    def _mounts() -> list[list[str]]:
        """Source and place of every mount."""
        return [line.split()[:2] for line in Path("/proc/self/mounts").read_text().splitlines()]

    def _names(self) -> str:
        names = sorted(str(path) for path in Path("/dev/disk/by-id").glob("*") if "-part" not in path.name)
        return ", ".join(names) or "no disks with a name in /dev/disk/by-id"

    def _known(self) -> list[str]:
        record = Path(self.wanted["record"])
        recorded = record.read_text().split() if record.exists() else []
        return list(dict.fromkeys([*recorded, *self.wanted["known_uuids"]]))

    @staticmethod
    def _place(uuid: str) -> str | None:
        link = Path("/dev/disk/by-uuid") / uuid
        return str(link.resolve()) if link.exists() else None

    def _hidden(self) -> list[str]:
        """What a mount would hide: another mount, or files in the mount point."""
        mounted = [source for source, place in self._mounts() if place == str(self.mount_point)]
        if self.volume.mapped in mounted:
            return []
        if mounted:
            return [f"a mount of {source}" for source in mounted]
        return sorted(path.name for path in self.mount_point.iterdir()) if self.mount_point.is_dir() else []

    # Act

    def present(self) -> None:
        """Makes the disk what it shall be.

        Raises:
            DiskError: When that cannot be done, or might destroy something.
        """
        # Without cryptsetup no header can be read, and our own volume looks like anybody's.
        if not self.module.check_mode:
            self._need_cryptsetup()
        if self.unlocking.method == "tpm2" and not Path("/dev/tpmrm0").exists():
            raise DiskError("this host has no TPM 2.0 (/dev/tpmrm0): give it one, or choose another data_disk_unlock")
        disk = self.look()
        if not self.programs.has("cryptsetup") and any(kind.startswith("crypto_LUKS") for kind in disk.signatures):
            device = self.wanted["device"]
            self.module.warn(f"{device} has a LUKS header; whose it is cannot be told before cryptsetup is installed")
            return
        verdict = judge(disk, self.wanted["device"], self.wanted["destroy"])
        if verdict != "ours":
            self._make(disk, verdict)
        self._open(disk)
        self._have_mount_point()
        if self.module.check_mode and disk.header is None:
            if self.unlocking.method != "operator":
                self.steps.append(f"let {self.unlocking.method} open it at boot")
            return
        self._have_keys(disk)
        self._grow()

    def _need_cryptsetup(self) -> None:
        if not self.programs.has("cryptsetup"):
            raise DiskError("cryptsetup is not installed, and without it no volume can be read: site.yml installs it")

    def _make(self, disk: Disk, verdict: str) -> None:
        if verdict == "format":
            if disk.unknown and not (disk.header and disk.header.label == UNFINISHED):
                what = ", ".join(disk.signatures) or "data of an unknown kind"
                self.do(f"destroy what is on {self.wanted['device']}: {what}", lambda: self._erase(disk.size))
            self.do(f"make {self.wanted['device']} a LUKS2 volume", lambda: self._format(disk))
        if not (verdict == "resume" and self._has_usable_filesystem()):
            self.do(f"make a file system of type {self.wanted['filesystem']}", self._make_filesystem)
        self.do("mark the volume as complete", self.volume.finish)

    def _claim(self) -> None:
        """Makes sure that the kernel knows nobody who uses the disk.

        Raises:
            DiskError: When somebody does.
        """
        try:
            os.close(os.open(self.device, os.O_RDWR | os.O_EXCL))
        except OSError as error:
            raise DiskError(f"{self.wanted['device']} is in use: {error.strerror}") from error

    def _erase(self, size: int) -> None:
        self._claim()
        self.programs.run("wipefs", "--all", "--quiet", self.device)
        with Path(self.device).open("r+b", buffering=0) as stream:
            for offset in (0, size - EDGE):
                stream.seek(offset)
                stream.write(bytes(EDGE))
            os.fsync(stream.fileno())

    def _format(self, disk: Disk) -> None:
        self._claim()
        now = self.look()
        if now.header is None and (now.signatures or now.unknown) and not self.wanted["destroy"]:
            raise DiskError(f"{self.wanted['device']} changed while it was looked at")
        if disk.opened:
            raise DiskError(f"{self.volume.mapped} is open")
        self.volume.format(self.keys[0], self.wanted["argon2id"])

    def _has_usable_filesystem(self) -> bool:
        """Whether the file system of an unfinished volume was complete after all: whether it can be mounted."""
        if not self.opened():
            if self.module.check_mode:
                return False
            self.volume.open(self.keys[0])
        if self._filesystem() != self.wanted["filesystem"]:
            return False
        with tempfile.TemporaryDirectory(dir="/run") as folder:
            tried = self.programs.run("mount", "-o", "ro", self.volume.mapped, folder, accept=(0, 32))
            if tried.code == 0:
                self.programs.run("umount", folder)
            return tried.code == 0

    def _filesystem(self) -> str:
        """The type of what is on the opened volume; empty for nothing."""
        return next((signature.split()[0] for signature in self.signatures(self.volume.mapped)), "")

    def _make_filesystem(self) -> None:
        if not self.opened():
            self.volume.open(self.keys[0])
        force = {"xfs": "-f", "ext4": "-F"}[self.wanted["filesystem"]]
        self.programs.run(f"mkfs.{self.wanted['filesystem']}", "-q", force, "-L", LABEL, self.volume.mapped)

    def _open(self, disk: Disk) -> None:
        if not self.opened() and not (self.module.check_mode and disk.opens is None):
            key = self.keys[disk.opens or 0]
            self.do("open the volume", lambda: self.volume.open(key))

    def _have_mount_point(self) -> None:
        """Makes a mount point into which nobody can write while nothing is mounted there."""
        if any(place == str(self.mount_point) for _, place in self._mounts()):
            return
        if not self.mount_point.is_dir():
            self.do(f"make {self.mount_point}", lambda: self.mount_point.mkdir(mode=0o755, parents=True))
            if self.module.check_mode:
                return
        descriptor = os.open(self.mount_point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            flags = struct.unpack("i", fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(4)))[0]
            if not flags & FS_IMMUTABLE:
                changed = struct.pack("i", flags | FS_IMMUTABLE)
                self.do(
                    f"let nobody write into {self.mount_point} while nothing is mounted there",
                    lambda: fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, changed),
                )
        finally:
            os.close(descriptor)

    def _have_keys(self, disk: Disk) -> None:
        """Has the first key as the only one of the keys, and the wanted way to unlock."""
        current, *former = self.keys
        if disk.opens:
            authority = self.keys[disk.opens]
            self.do("add the recovery key", lambda: self._add_recovery_key(authority))
        header = self.volume.header()
        if header is None:
            return
        method, renew = self.unlocking.method, self.wanted["renew"]
        there = self.unlocking.is_there(header)
        # Trying a key costs; with no slots but the recovery key's and the unlocking one's, no former key has any.
        if len(header.keyslots) > (2 if there and method != "operator" else 1):
            for key in former:
                self._remove(key)
        if not there or (renew and method != "operator"):
            step = "let nothing on the host open it" if method == "operator" else f"let {method} open it at boot"
            self.do(step, lambda: self.unlocking.enroll(current, renew))

    def _add_recovery_key(self, authority: bytes) -> None:
        costs = self.wanted["argon2id"]
        derivation = ["--pbkdf", "argon2id", "--pbkdf-memory", str(costs["memory"])]
        derivation += ["--pbkdf-force-iterations", str(costs["iterations"]), "--pbkdf-parallel", str(costs["parallel"])]
        self.volume.add_key(authority, self.keys[0], *derivation)

    def _remove(self, former: bytes) -> None:
        """Removes a former recovery key, if it is still there, and proves that it opens nothing any more."""
        slot = self.volume.slot_of(former)
        if slot is None:
            return
        remove = functools.partial(self.volume.remove_slot, self.keys[0], slot)
        self.do(f"remove a former recovery key (slot {slot})", remove)
        if not self.module.check_mode and self.volume.slot_of(former) is not None:
            raise DiskError("a former recovery key still opens the disk")

    def _grow(self) -> None:
        """Lets volume and file system grow with the disk."""
        header, opened = self.volume.header(), self.opened()
        if header is None or opened is None:
            return
        size = int((Path("/sys/class/block") / Path(self.device).name / "size").read_text()) * 512
        room = header.data_bytes(size)
        if room > opened.size:
            self.do(f"grow the volume to {room // 2**20} MiB", lambda: self.volume.resize(self.keys[0]))
        # One that is not mounted grows when it is, and that is the caller's business.
        if str(self.mount_point) in opened.mounts and room - self._filesystem_bytes() > SLACK:
            self.do(f"grow the file system to {room // 2**20} MiB", self._grow_filesystem)

    def _mounted_type(self) -> str:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        return next(fields[2] for fields in mounts if fields[1] == str(self.mount_point))

    def _filesystem_bytes(self) -> int:
        if self._mounted_type() == "xfs":
            geometry = self.programs.run("xfs_info", str(self.mount_point)).out
            found = re.search(r"^data\s*=\s*bsize=(\d+)\s+blocks=(\d+)", geometry, re.MULTILINE)
        else:
            geometry = self.programs.run("dumpe2fs", "-h", self.volume.mapped).out
            found = re.search(r"^Block count:\s+(\d+)$.*^Block size:\s+(\d+)$", geometry, re.MULTILINE | re.DOTALL)
        if found is None:
            raise DiskError(f"the size of the file system at {self.mount_point} is not to be found out")
        return int(found.group(1)) * int(found.group(2))

    def _grow_filesystem(self) -> None:
        if self._mounted_type() == "xfs":
            self.programs.run("xfs_growfs", "-d", str(self.mount_point))
        else:
            self.programs.run("resize2fs", self.volume.mapped)

    def opened_only(self) -> None:
        """Opens a volume that is complete.

        Raises:
            DiskError: When it is not complete, or cannot be opened.
        """
        self._need_cryptsetup()
        disk = self.look()
        verdict = judge(disk, self.wanted["device"])
        if verdict != "ours":
            raise DiskError(f"{self.wanted['device']} is no complete volume yet; run site.yml")
        self._open(disk)

    def saved(self) -> str:
        """The header, without what is random in it, so that it is small."""
        header = self.volume.header()
        if header is None:
            raise DiskError(f"{self.wanted['device']} has no LUKS2 header")
        with tempfile.TemporaryDirectory(dir="/run") as folder:
            path = Path(folder) / "header"
            backup = ["cryptsetup", "luksHeaderBackup", "--batch-mode", "--header-backup-file", str(path), self.device]
            self.programs.run(*backup)
            whole = path.read_bytes()
        config = header.metadata["config"]
        start = len(whole) - int(config["keyslots_size"])
        areas = [slot["area"] for slot in header.metadata["keyslots"].values()]
        kept = bytearray(len(whole))
        for offset, length in [(0, start), *((int(area["offset"]), int(area["size"])) for area in areas)]:
            kept[offset : offset + length] = whole[offset : offset + length]
        return base64.b64encode(zlib.compress(bytes(kept))).decode()

    def restored(self) -> None:
        """Writes a saved header to the disk.

        Raises:
            DiskError: When it is another volume's, no key opens it, the disk has one with keys, or something else is on
                the disk.
        """
        disk = self.look()
        with tempfile.TemporaryDirectory(dir="/run") as folder:
            path = Path(folder) / "header"
            path.touch(mode=0o600)
            path.write_bytes(zlib.decompress(base64.b64decode(self.wanted["header"])))
            saved = self.volume.header(str(path))
            if saved is None:
                raise DiskError("the backup holds no LUKS2 header")
            self._may_restore(disk, saved)
            key = next((key for key in self.keys if self.volume.slot_of(key, "--header", str(path))), None)
            if key is None:
                raise DiskError("the recovery key in the vault does not open the header in the backup")
            with self.volume.read_with(str(path), key) as content:
                found = self.signatures(content)
            # Another disk, or one that was encrypted anew since, is noise to this header.
            if not any(signature.split()[0] in FILESYSTEMS for signature in found):
                raise DiskError(
                    f"the header in the backup does not fit {self.wanted['device']}: with it, no file system is there. "
                    "Is it the right disk?"
                )
            restore = [
                "cryptsetup",
                "luksHeaderRestore",
                "--batch-mode",
                "--header-backup-file",
                str(path),
                self.device,
            ]
            self.do(f"restore the header of volume {saved.uuid}", lambda: self.programs.run(*restore))

    def _may_restore(self, disk: Disk, saved: Header) -> None:
        device = self.wanted["device"]
        if disk.users:
            raise DiskError(f"{device} is in use: {', '.join(disk.users)}")
        if disk.opened and (disk.opened.device, disk.opened.uuid) != (disk.path, saved.uuid):
            raise DiskError(f"the opened volume is {disk.opened.uuid}, and the backup is of {saved.uuid}")
        if disk.header and disk.header.uuid != saved.uuid:
            raise DiskError(f"{device} holds volume {disk.header.uuid}, and the backup is of {saved.uuid}")
        place = self._place(saved.uuid)
        if place not in (None, disk.path):
            raise DiskError(f"volume {saved.uuid} is on {place}, and not on {device}: name that disk")
        if disk.header and disk.opens is not None:
            raise DiskError(f"the header of {device} is in order: a recovery key opens it")
        # It may be newer than the backup, with another key to the data.
        if disk.header and disk.header.keyslots:
            raise DiskError(
                f"{device} has a header with keys, none of which is in the vault: find the vault of its time, or see "
                "docs/operations/restore-disk-header.md"
            )
        foreign = [signature for signature in disk.signatures if not signature.startswith("crypto_LUKS")]
        if foreign:
            raise DiskError(f"{device} holds {', '.join(foreign)}: is it the right disk?")

    def state(self) -> dict[str, t.Any]:
        """What is known afterwards."""
        header, opened = self.volume.header(), self.opened()
        lines = (
            [line.split() for line in Path("/etc/fstab").read_text().splitlines()]
            if Path("/etc/fstab").exists()
            else []
        )
        return {
            "uuid": header.uuid if header else "",
            "epoch": header.epoch if header else 0,
            "filesystem": self._filesystem() if opened else "",
            "mounted": bool(opened and str(self.mount_point) in opened.mounts),
            "fstab": next((fields for fields in lines if fields[1:2] == [str(self.mount_point)]), []),
        }


def main() -> None:
    """Runs the module."""
    module = AnsibleModule(
        argument_spec={
            "device": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "opened", "saved", "restored"], "default": "present"},
            "keys": {"type": "list", "elements": "str", "required": True, "no_log": True},
            "name": {"type": "str", "default": "pryv_data"},
            "mount_point": {"type": "path", "required": True},
            "filesystem": {"type": "str", "choices": FILESYSTEMS, "default": "xfs"},
            "argon2id": {
                "type": "dict",
                "apply_defaults": True,
                "options": {
                    "memory": {"type": "int", "default": 262144},
                    "iterations": {"type": "int", "default": 4},
                    "parallel": {"type": "int", "default": 2},
                },
            },
            "unlock": {
                "type": "dict",
                "apply_defaults": True,
                "options": {
                    "method": {
                        "type": "str",
                        "choices": ["tpm2", "tang", "keyfile", "operator"],
                        "default": "operator",
                    },
                    "pcrs": {"type": "list", "elements": "int", "default": [7]},
                    "servers": {"type": "list", "elements": "dict", "default": []},
                    "threshold": {"type": "int", "default": 1},
                    "keyfile": {"type": "path", "default": "/etc/pryv/data_disk/key", "no_log": False},
                },
            },
            "renew": {"type": "bool", "default": False},
            "destroy": {"type": "bool", "default": False},
            "known_uuids": {"type": "list", "elements": "str", "default": []},
            "record": {"type": "path", "default": "/etc/pryv/data_disk/uuid"},
            "header": {"type": "str", "no_log": True},
        },
        required_if=[("state", "restored", ["header"])],
        supports_check_mode=True,
    )
    try:
        keeper = Keeper(module)
        result: dict[str, t.Any] = {}
        state = module.params["state"]
        if state == "present":
            keeper.present()
        elif state == "opened":
            keeper.opened_only()
        elif state == "saved":
            result["header"] = keeper.saved()
        else:
            keeper.restored()
        result |= keeper.state()
    except DiskError as error:
        module.fail_json(msg=str(error))
    steps = "".join(f"{step}\n" for step in keeper.steps)
    module.exit_json(changed=bool(keeper.steps), steps=keeper.steps, diff={"before": "", "after": steps}, **result)


if __name__ == "__main__":
    main()
