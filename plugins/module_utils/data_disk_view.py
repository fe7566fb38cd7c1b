"""What a host has of its data disk, seen without changing anything."""

from __future__ import annotations

import json
import re
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.data_disk_judge import Disk, DiskError, Opened
from ansible.module_utils.data_disk_volume import Programs, Volume

#: A disk whose first and last bytes are not zero holds something, known or not. cryptsetup clears the first before it
#: writes anything, so that a killed luksFormat leaves an empty disk or one with a header of ours.
EDGE = 32 * 1024


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


class View:
    """A disk as the module's parameters name it, and the steps that are taken with it."""

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
        self.steps: list[str] = []

    def do(self, step: str, action: Callable[[], object]) -> None:
        """Notes a step and takes it, unless this is check mode."""
        self.steps.append(step)
        if not self.module.check_mode:
            action()

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

    def _filesystem(self) -> str:
        """The type of what is on the opened volume; empty for nothing."""
        return next((signature.split()[0] for signature in self.signatures(self.volume.mapped)), "")

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
