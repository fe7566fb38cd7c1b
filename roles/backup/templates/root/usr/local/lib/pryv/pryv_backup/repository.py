"""A repository of restic's, 0.14 or later."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pryv_backup import programs
from pryv_backup.problem import BackupError
from pryv_backup.settings import Settings, read_text

#: Tags of snapshots: of the data, and of the list of deleted users.
DATA, LEDGER_TAG = "data", "ledger"
#: Where restic remembers what a repository holds, unless a unit says another place.
CACHE = "/var/cache/pryv-backup"
#: For how long a locked repository is tried again, where restic knows how to.
LOCKED = "30m"
#: Exit codes since 0.17; before, they are all 1.
MISSING, BUSY, REFUSED = 10, 11, 12
#: An option of restic's.
OPENED_BY = "--password-file="
#: Of what is remembered: the key that the host's password opens.
KEY = "key_id"


@contextmanager
def secret_file(secret: str) -> Iterator[tuple[str, int]]:
    """A file that is on no disk: its path for a program that inherits its descriptor, and that descriptor."""
    number = os.memfd_create("secret")
    try:
        os.write(number, secret.encode())
        yield f"/proc/self/fd/{number}", number
    finally:
        os.close(number)


@dataclass(frozen=True)
class Repository:
    """Where snapshots are.

    Attributes:
        options: Which repository, which password, which cache.
        host: Whose snapshots they are; None looks at all that are there.
        environment: What restic needs besides.
        secrets: What no message may quote.
        inherited: Descriptors that restic gets: a lock, files with secrets.
        user: User and group as whom it runs; None is this program's.
        patience: For how many seconds a call may take. By itself, restic tries a server that is away for 15 minutes.
    """

    options: Sequence[str]
    host: str | None
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Collection[str] = ()
    inherited: tuple[int, ...] = ()
    user: tuple[int, int] | None = None
    patience: float | None = None

    @classmethod
    def of(cls, settings: Settings, *inherited: int, patience: float | None = None) -> Repository:
        """The repository of a host that is backed up.

        Raises:
            BackupError: When its address or its password cannot be read.
        """
        try:
            address = settings.repository_file.read_text().strip()
            password = settings.password_file.read_text().strip()
        except OSError as error:
            raise BackupError(str(error)) from error
        # An address may hold a password, as it is and encoded.
        part = urlsplit(address.split(":", 1)[-1]).password or ""
        return cls(
            options=[
                f"--repository-file={settings.repository_file}",
                f"{OPENED_BY}{settings.password_file}",
            ],
            host=settings.host,
            environment={
                "RESTIC_CACHE_DIR": os.environ.get("RESTIC_CACHE_DIR", CACHE),
                # To try another key takes half a second.
                "RESTIC_KEY_HINT": read_text(settings.state / KEY) or "",
                **settings.environment,
            },
            secrets={password, part, unquote(part), *settings.environment.values()},
            inherited=inherited,
            patience=patience,
        )

    @cached_property
    def version(self) -> tuple[int, ...]:
        """Of restic, as numbers."""
        said = programs.run(["restic", "version"]).output
        return tuple(int(number) for number in re.findall(r"\d+", said)[:3])

    def call(
        self,
        *arguments: str,
        feed: str = "",
        good: Collection[int] | None = (0,),
        folder: Path | None = None,
        inherited: Collection[int] = (),
        idle: bool = False,
    ) -> programs.Done:
        """Runs restic, if it is idle when nobody else wants the disk.

        Of locks in its way, it removes those that nobody holds any more, and waits for others.

        Raises:
            BackupError: When it fails; the message is restic's.
        """

        def run(*words: str) -> programs.Done:
            return programs.run(
                [*(["ionice", "--class=idle"] if idle else []), "restic", *self.options, *words],
                feed=feed,
                good=None,
                environment=self.environment,
                secrets=self.secrets,
                folder=folder,
                inherited=(*self.inherited, *inherited),
                user=self.user,
                patience=self.patience,
            )

        done = run(*arguments)
        if is_locked(done):
            programs.expect(run("unlock"), "restic")
            patient = [f"--retry-lock={LOCKED}"] if self.version >= (0, 16) else []
            done = run(*patient, *arguments)
        return done if good is None else programs.expect(done, "restic", good)

    def initialise(self, operator_password: str) -> bool:
        """Makes the repository where there is none, and lets both passwords open it; whether it had to.

        Raises:
            BackupError: When it cannot be reached, or neither password opens it.
        """
        made = False
        looked = self.call("cat", "config", good=None)
        # Older ones say so of a server that they cannot reach as well; making one fails there, and where there is one.
        if looked.code == MISSING or "Is there a repository at the following location?" in looked.errors:
            self.call("init")
            made = True
        elif is_wrong_password(looked):
            # The host's is another one now.
            self._let_in_own(operator_password)
            made = True
        else:
            programs.expect(looked, "restic")
        return self._add_key(operator_password) or made

    def key(self) -> str:
        """Identifier of the key that the password opens."""
        keys = json.loads(self.call("key", "list", "--json").output)
        return str(next(key["id"] for key in keys if key["current"]))

    def _add_key(self, password: str) -> bool:
        with secret_file(password) as (path, number):
            other = self._opened_by(path)
            opened = other.call("cat", "config", good=None, inherited=[number])
            if opened.code == 0:
                return False
            if not is_wrong_password(opened):
                programs.expect(opened, "restic")
            os.lseek(number, 0, os.SEEK_SET)
            self.call("key", "add", f"--new-password-file={path}", inherited=[number])
        return True

    def _let_in_own(self, operator_password: str) -> None:
        own = next(option for option in self.options if option.startswith(OPENED_BY))
        with secret_file(operator_password) as (path, number):
            self._opened_by(path).call("key", "add", f"--new-{own.removeprefix('--')}", inherited=[number])

    def _opened_by(self, path: str) -> Repository:
        options = [option for option in self.options if not option.startswith(OPENED_BY)]
        return replace(self, options=[*options, f"{OPENED_BY}{path}"])

    def snapshots(self, tag: str | None = None) -> list[dict[str, Any]]:
        """The snapshots, oldest first, as restic describes them."""
        chosen = [*([f"--host={self.host}"] if self.host else []), *([f"--tag={tag}"] if tag else [])]
        found = json.loads(self.call("snapshots", "--json", *chosen).output) or []
        return sorted(found, key=made)

    def read(self, snapshot: str, path: str) -> Any:
        """A JSON file of a snapshot.

        Raises:
            BackupError: When it has none, or restic fails.
        """
        try:
            return json.loads(self.call("dump", snapshot, f"/{path}").output)
        except ValueError as error:
            raise BackupError(f"{path} of snapshot {snapshot}: {error}") from error

    def back_up(self, folder: Path, upload_kib: int) -> dict[str, Any]:
        """Makes a snapshot of a folder and says what restic says of it.

        Raises:
            BackupError: When restic fails, or could not read everything.
        """
        limit = [f"--limit-upload={upload_kib}"] if upload_kib else []
        # Only for showing progress.
        quick = ["--no-scan"] if self.version >= (0, 15) else []
        # Copies have inodes of their own each time, and making a link changes ctime; mtime and size tell what changed.
        unchanged = ["--ignore-ctime", "--ignore-inode"]
        said = self._snapshot(DATA, *limit, *quick, *unchanged, ".", folder=folder)
        return summary(said)

    def restore(self, snapshot: str, into: Path) -> None:
        """Restores a snapshot into a folder."""
        # Else what was a hole takes its place on the disk.
        sparse = ["--sparse"] if self.version >= (0, 15) else []
        self.call("restore", snapshot, f"--target={into}", *sparse)

    def store(self, name: str, tag: str, text: str) -> None:
        """Makes a snapshot of one small file."""
        self._snapshot(tag, "--stdin", f"--stdin-filename={name}", feed=text)

    def _snapshot(self, tag: str, *arguments: str, feed: str = "", folder: Path | None = None) -> str:
        options = ["--json", "--quiet", f"--tag={tag}", f"--host={self.host}"]
        done = self.call("backup", *options, *arguments, feed=feed, folder=folder, good=(0, 3), idle=True)
        if done.code:
            raise BackupError(f"restic could not read everything: {done.errors.strip()[-programs.SAID :]}")
        return done.output


def made(snapshot: Mapping[str, Any]) -> datetime:
    """When a snapshot says that it was made."""
    match = re.fullmatch(r"(.{19})(?:\.\d+)?(Z|[+-]\d\d:\d\d)", str(snapshot["time"]))
    if match is None:
        raise BackupError(f"snapshot {snapshot['id']} has no time")
    return datetime.fromisoformat(match[1] + match[2].replace("Z", "+00:00"))


def is_locked(done: programs.Done) -> bool:
    """Whether restic failed because of somebody's lock."""
    return done.code == BUSY or (done.code != 0 and "repository is already locked" in done.errors)


def is_wrong_password(done: programs.Done) -> bool:
    """Whether restic failed because the password does not open the repository."""
    return done.code == REFUSED or (done.code != 0 and "wrong password" in done.errors)


def summary(said: str) -> dict[str, Any]:
    """What restic says at the end of a backup, among its messages, one a line."""
    for line in reversed(said.splitlines()):
        message: dict[str, Any] = json.loads(line)
        if message.get("message_type") == "summary":
            return message
    raise BackupError("restic made no snapshot")


def address_digest(settings: Settings) -> str:
    """SHA-256 of the repository's address: whether a repository was initialised is asked of this one."""
    return hashlib.sha256(settings.repository_file.read_bytes().strip()).hexdigest()
