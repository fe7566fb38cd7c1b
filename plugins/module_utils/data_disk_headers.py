"""A volume's header, saved for safekeeping and written back."""

from __future__ import annotations

import base64
import tempfile
import zlib
from pathlib import Path

from ansible.module_utils.data_disk_judge import FILESYSTEMS, Disk, DiskError, Header
from ansible.module_utils.data_disk_view import View


class HeaderKeeper(View):
    """Saves and restores the header."""

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
