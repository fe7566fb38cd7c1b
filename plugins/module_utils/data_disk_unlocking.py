"""The key that opens a volume when its host boots."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

from ansible.module_utils.data_disk_judge import DiskError, Header
from ansible.module_utils.data_disk_volume import NOTE, Programs, Volume

#: The tokens of the programs that make unlocking keys, by method.
TOKENS = {"tpm2": "systemd-tpm2", "tang": "clevis"}


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
