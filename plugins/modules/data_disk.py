#!/usr/bin/python
"""Keep one disk of a host encrypted, and never destroy what is on it."""

from __future__ import annotations

import fcntl
import functools
import os
import re
import struct
import tempfile
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.data_disk_headers import HeaderKeeper
from ansible.module_utils.data_disk_judge import FILESYSTEMS, LABEL, UNFINISHED, Disk, DiskError, judge
from ansible.module_utils.data_disk_unlocking import Unlocking
from ansible.module_utils.data_disk_view import EDGE, View

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
    required: true
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

#: Less than a file system can use at its end.
SLACK = 64 * 2**20
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IMMUTABLE = 0x80086601, 0x40086602, 0x10


class Keeper(View):
    """Makes the disk what it shall be."""

    def __init__(self, module: AnsibleModule) -> None:
        """Read the parameters."""
        super().__init__(module)
        self.unlocking = Unlocking(self.programs, self.volume, self.wanted["unlock"])

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


def keep(module: AnsibleModule) -> dict[str, t.Any]:
    """Does what is asked for, and gives the result.

    Raises:
        DiskError: When that cannot be done, or might destroy something.
    """
    state, result = module.params["state"], dict[str, t.Any]()
    keeper: Keeper | HeaderKeeper
    if state in {"present", "opened"}:
        keeper = Keeper(module)
        if state == "present":
            keeper.present()
        else:
            keeper.opened_only()
    else:
        keeper = HeaderKeeper(module)
        if state == "saved":
            result["header"] = keeper.saved()
        else:
            keeper.restored()
    result |= keeper.state()
    steps = "".join(f"{step}\n" for step in keeper.steps)
    return {"changed": bool(keeper.steps), "steps": keeper.steps, "diff": {"before": "", "after": steps}, **result}


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
            "record": {"type": "path", "required": True},
            "header": {"type": "str", "no_log": True},
        },
        required_if=[("state", "restored", ["header"])],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**keep(module))
    except DiskError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
