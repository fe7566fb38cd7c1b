"""The LUKS volume on a disk, by way of cryptsetup."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import typing as t
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.data_disk_judge import LABEL, UNFINISHED, DiskError, Header

#: Our own token in the header, which says what the unlocking key was made for.
NOTE = "pryv-unlock"
#: A key from standard input. Without the second option, cryptsetup asks the TPM first, and any key seems right.
WITH_KEY = ("--key-file", "-", "--disable-external-tokens")
CIPHER, KEY_BITS = "aes-xts-plain64", 512


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
