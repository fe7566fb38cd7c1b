"""What is to be backed up and where to, and what is remembered between runs."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pryv_backup.files import ATTACHMENTS
from pryv_backup.problem import BackupError


class BusyError(BackupError):
    """Another run is at it."""


#: Name of the file that knows which users a core has.
USER_INDEX = "user-index.db"


def read_text(path: Path) -> str | None:
    """What a file of root's holds; None where there is none."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def read_json(path: Path) -> Any:
    """What a JSON file of root's holds; None where there is none.

    Raises:
        BackupError: When it is no JSON.
    """
    text = read_text(path)
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise BackupError(f"{path}: {error}") from error


def write_text(path: Path, text: str, *, lasting: bool = True) -> None:
    """Replaces a file; whoever reads it, if it is lasting even after a power cut, finds the old one or the new one."""
    part = path.with_name(f"{path.name}.new")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        if lasting:
            os.fsync(descriptor)
    part.replace(path)


def write_json(path: Path, value: Any, *, lasting: bool = True) -> None:
    """Replaces a JSON file, as write_text does."""
    write_text(path, json.dumps(value), lasting=lasting)


@contextmanager
def only_one(state: Path, patience: float = 0) -> Iterator[int]:
    """Keeps others out of what must not happen twice at a time.

    Args:
        state: Folder of what is remembered between runs.
        patience: For how long another is waited for, in seconds.

    Yields:
        The lock's descriptor: a program that inherits it keeps others out as well.

    Raises:
        BusyError: When another is at it.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(state / "lock", os.O_WRONLY | os.O_CREAT, 0o600)
    end = time.monotonic() + patience
    try:
        while not locked(descriptor):
            if time.monotonic() > end:
                raise BusyError("another run is going on")
            time.sleep(0.1)
        yield descriptor
    finally:
        os.close(descriptor)


def locked(descriptor: int) -> bool:
    """Takes a lock; False when another has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@dataclass(frozen=True)
class Redis:
    """How the registry's Redis is asked, and where its file lies below the data."""

    password_file: Path
    port: int
    folder: str
    file: str


@dataclass(frozen=True)
class Settings:
    """A client's configuration.

    Attributes:
        path: The file they were read from.
        host: Name of the host in the repository.
        data: Folder that holds all data.
        unlock: Whether nobody else removes locks from the repository that nobody holds any more: a backup host does.
        mount: Whether that folder is a file system of its own.
        repository_file: File with the repository's address.
        password_file: File with the repository's password.
        environment: What restic needs besides, such as S3's keys.
        project: Compose project whose containers are paused; None where nothing is.
        copied: Folders below the data that are copied while paused, but for folders named `attachments`.
        projects: Compose projects whose images are noted, since they have to read what is restored.
        linked: Folders below the data that are linked afterwards, as attachments are.
        blocks: Folders of Prometheus' below the data, of which the blocks of samples are linked.
        required: Paths below the data without which there is nothing to back up.
        redis: The registry's Redis.
        pause_seconds: How long containers may be paused at most.
        shrink_percent: By how much a backup may be smaller than the one before.
        upload_kib: Limit of the upload in KiB/s; 0 is none.
        schedule: When a backup is taken, as in systemd.time(7).
        state: What is remembered between runs.
    """

    path: Path
    host: str
    data: Path
    repository_file: Path
    password_file: Path
    environment: Mapping[str, str]
    project: str | None
    copied: tuple[str, ...]
    linked: tuple[str, ...]
    required: tuple[str, ...]
    redis: Redis | None
    pause_seconds: int = 60
    projects: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    shrink_percent: int = 20
    upload_kib: int = 0
    schedule: str = "daily"
    unlock: bool = False
    mount: bool = False
    state: Path = Path("/var/lib/pryv/backup")

    @classmethod
    def read(cls, path: Path) -> Settings:
        """The configuration in a file.

        Raises:
            BackupError: When there is none, or it is not one.
        """
        values = read_json(path)
        if not isinstance(values, dict):
            raise BackupError(f"{path}: no configuration of a host that is backed up")
        known = {field.name for field in fields(cls)}
        values = {name: value for name, value in values.items() if name in known}
        for name in ("data", "repository_file", "password_file", "state"):
            with suppress(KeyError):
                values[name] = Path(values[name])
        for name in ("copied", "linked", "blocks", "required", "projects"):
            values[name] = tuple(values.get(name, ()))
        values["environment"] = {name: str(value) for name, value in values.get("environment", {}).items()}
        redis = values.pop("redis", None)
        try:
            if redis is not None:
                redis = Redis(**{**redis, "password_file": Path(redis["password_file"])})
            found = cls(path=path, redis=redis, **values)
        except (KeyError, TypeError) as error:
            raise BackupError(f"{path}: {error}") from error
        if any(Path(folder).name != ATTACHMENTS for folder in found.linked):
            raise BackupError(f"{path}: `linked` are folders named {ATTACHMENTS}")
        return found

    @property
    def place(self) -> Path:
        """Where copies are made: on the data's file system, root's alone."""
        return self.data / "backup"

    @property
    def work(self) -> Path:
        """The copy that restic reads."""
        return self.place / "work"

    @property
    def user_index(self) -> str | None:
        """Path below the data of the file that knows the users; None where there are none."""
        return next((path for path in self.required if path.endswith(f"/{USER_INDEX}")), None)
