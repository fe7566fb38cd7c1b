"""Trees of files that somebody hostile may own: walked, counted and read.

Folders are opened one below the other and entries by their folder's descriptor, so that no symbolic link is ever
followed, whatever becomes of a name meanwhile.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pryv_backup.problem import BackupError

#: Name of folders whose files are written once and never again.
ATTACHMENTS = "attachments"
#: Of the backup, not of the data.
MANIFEST, LEDGER = "manifest.json", "ledger.json"

SQLITE_HEADER = b"SQLite format 3\0"
SQLITE_NAMES = (".sqlite", ".db")
#: What SQLite makes anew when it opens a database.
SHARED_MEMORY = tuple(f"{name}-shm" for name in SQLITE_NAMES)
#: What comes and goes with the programs that have a database open.
PASSING = tuple(f"{name}{kind}" for name in SQLITE_NAMES for kind in ("-wal", "-shm", "-journal"))

#: The deepest tree that is read; Pryv's own has ten levels.
DEPTH = 64
#: Attachments whose digests the manifest has.
SAMPLES = 10

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
#: Opening a pipe or a device must not wait.
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


@dataclass
class Tally:
    """What a tree holds.

    Attributes:
        files: Files, but for those that come and go.
        bytes: Their size.
        attachments: Those of the files that are in folders named `attachments`.
        databases: Those of the files that are SQLite's.
        space: What a copy's files take on the disk, where holes take nothing, in bytes.
        others: What is neither file, folder nor symbolic link; it is left out.
        samples: Paths of some attachments, at random.
    """

    files: int = 0
    bytes: int = 0
    attachments: int = 0
    databases: int = 0
    space: int = 0
    others: int = 0
    samples: list[str] = field(default_factory=list)

    def add(self, name: str, size: int) -> None:
        """Counts a file."""
        if not name.endswith(PASSING):
            self.files += 1
            self.bytes += size

    def add_attachment(self, path: str, size: int) -> None:
        """Counts an attachment; each has the same chance to be a sample."""
        self.files += 1
        self.bytes += size
        self.attachments += 1
        if len(self.samples) < SAMPLES:
            self.samples.append(path)
        elif (place := secrets.randbelow(self.attachments)) < SAMPLES:
            self.samples[place] = path


def is_sqlite(file: int, name: str) -> bool:
    """Whether an open file is a database of SQLite's."""
    return name.endswith(SQLITE_NAMES) and os.pread(file, len(SQLITE_HEADER), 0) == SQLITE_HEADER


@contextmanager
def opened(name: str | Path, flags: int, folder: int | None = None) -> Iterator[int]:
    """An entry of a folder, or a path of root's; what it makes is root's alone.

    Raises:
        BackupError: When a file was wanted and it is none.
    """
    number = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        if flags == FILE and not stat.S_ISREG(os.fstat(number).st_mode):
            raise BackupError(f"{name} is no file")
        yield number
    finally:
        os.close(number)


@contextmanager
def below(folder: int, path: str) -> Iterator[int]:
    """A folder by its path below another, no part of which is a symbolic link.

    Raises:
        BackupError: When a part is one, or the path leads elsewhere.
    """
    number = os.dup(folder)
    try:
        for part in filter(None, path.split("/")):
            if part in (".", ".."):
                raise BackupError(f"{path} is no path below the data")
            try:
                inner = os.open(part, FOLDER, dir_fd=number)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise BackupError(f"{path}: {part} is no folder") from error
                raise
            os.close(number)
            number = inner
        yield number
    finally:
        os.close(number)


@contextmanager
def file_below(folder: int, path: str) -> Iterator[int]:
    """A file by its path below a folder, opened for reading; no part of it is a symbolic link.

    Raises:
        BackupError: When a part is one, or it is no file.
        FileNotFoundError: When there is none.
    """
    parent, _, name = path.rpartition("/")
    with below(folder, parent) as inner:
        try:
            with opened(name, FILE, inner) as file:
                yield file
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise BackupError(f"{path} is no file") from error
            raise


def exists_below(folder: int, path: str) -> bool:
    """Whether there is a file or a folder with that path below a folder, no part of which is a symbolic link."""
    parent, _, name = path.rpartition("/")
    try:
        with below(folder, parent) as inner:
            mode = os.stat(name, dir_fd=inner, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def digest(folder: int, path: str) -> str:
    """SHA-256 of a file below a folder, in hexadecimal."""
    state = hashlib.sha256()
    with file_below(folder, path) as file:
        while block := os.read(file, 1 << 20):
            state.update(block)
    return state.hexdigest()


def walk(folder: int, path: str = "") -> Iterator[tuple[int, str, os.DirEntry[str]]]:
    """All entries below a folder but folders: the folder that holds it, opened; its path; the entry.

    Raises:
        BackupError: When folders are nested beyond measure.
    """
    refuse_depth(path)
    with os.scandir(folder) as entries:
        for entry in entries:
            inner_path = f"{path}/{entry.name}" if path else entry.name
            if entry.is_dir(follow_symlinks=False):
                with opened(entry.name, FOLDER, folder) as inner:
                    yield from walk(inner, inner_path)
            else:
                yield folder, inner_path, entry


def refuse_depth(path: str) -> None:
    """Refuses folders that are nested so deeply that nobody could walk through them.

    Raises:
        BackupError: When they are.
    """
    if path.count("/") > DEPTH:
        raise BackupError(f"folders are nested more than {DEPTH} deep, at {path[:200]}…")


def is_attachment(path: str) -> bool:
    """Whether a file's path leads through a folder named `attachments`."""
    return ATTACHMENTS in path.split("/")[:-1]


def tally(root: Path, look: Callable[[int, str, str], None] = lambda *_: None) -> Tally:
    """Counts the copy, or restored tree, of a backup.

    Args:
        root: Its folder.
        look: Called for each database of SQLite's: the folder that holds it, opened; its name there; its path.
    """
    counted = Tally()
    with opened(root, os.O_RDONLY | os.O_DIRECTORY) as top:
        for folder, path, entry in walk(top):
            status = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                counted.others += not stat.S_ISLNK(status.st_mode)
            elif is_attachment(path):
                counted.add_attachment(path, status.st_size)
            elif path not in (MANIFEST, LEDGER):
                counted.add(entry.name, status.st_size)
                if entry.name.endswith(SQLITE_NAMES):
                    with opened(entry.name, FILE, folder) as file:
                        known = is_sqlite(file, entry.name)
                    counted.databases += known
                    if known:
                        look(folder, entry.name, path)
    return counted
