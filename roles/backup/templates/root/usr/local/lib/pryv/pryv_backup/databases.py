"""SQLite's databases, looked at by way of copies: to open one is to change it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from pryv_backup.copies import NEW_FILE, NOT_HERE, clone, copy_bytes
from pryv_backup.files import FILE, Tally, below, opened, tally
from pryv_backup.problem import BackupError

#: A database that is written is copied until nothing changed meanwhile: how often, how long in between, in seconds, and
#: how long ago the last change has to be, in nanoseconds, since times of files are as coarse as the clock's tick.
ATTEMPTS, WAIT, QUIET = 50, 0.1, 20_000_000
#: How long a database is read, in seconds: whoever writes it could make a view of it that never ends. After how many of
#: SQLite's steps that is looked at.
LONGEST, STEPS = 600.0, 1_000_000


@contextmanager
def scratch(place: Path) -> Iterator[int]:
    """An empty folder of root's, opened; it is removed afterwards, and before where one was left."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700, parents=True)
    try:
        with opened(place, os.O_RDONLY | os.O_DIRECTORY) as folder:
            yield folder
    finally:
        shutil.rmtree(place)


@contextmanager
def database(folder: int, name: str, place: Path) -> Iterator[sqlite3.Connection]:
    """A copy of a database with what its log holds.

    Args:
        folder: Where it is, opened.
        name: Its name there.
        place: Where the copy may be: a folder of root's that is not there.

    Raises:
        BackupError: When it is written all the time, or is no file.
    """
    with scratch(place) as target:
        for _ in range(ATTEMPTS):
            before = state(folder, name)
            copy(folder, name, target)
            if state(folder, name) == before and before[-1] < time.time_ns() - QUIET:
                break
            time.sleep(WAIT)
        else:
            raise BackupError(f"{name} is written all the time")
        with connected(place) as connection:
            yield connection


@contextmanager
def connected(place: Path, options: str = "") -> Iterator[sqlite3.Connection]:
    """The database that is in a folder as `db`, opened with options of a URI's."""
    with closing(sqlite3.connect(f"{(place / 'db').absolute().as_uri()}{options}", uri=True)) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        end = time.monotonic() + LONGEST
        connection.set_progress_handler(lambda: time.monotonic() > end, STEPS)
        connection.text_factory = lambda text: text.decode(errors="replace")
        yield connection


def state(folder: int, name: str) -> tuple[int, ...]:
    """What changes when a database does; its last change in nanoseconds comes last."""
    sizes, times = [], []
    for kind in ("", "-wal"):
        with suppress(FileNotFoundError):
            status = os.stat(f"{name}{kind}", dir_fd=folder, follow_symlinks=False)
            sizes.append(status.st_size)
            times.append(status.st_mtime_ns)
    return (*sizes, *sorted(times))


def copy(folder: int, name: str, target: int) -> None:
    """Copies a database with its log, as `db`, in place of what is there."""
    clear(target)
    for kind in ("", "-wal"):
        with (
            suppress(FileNotFoundError),
            opened(f"{name}{kind}", FILE, folder) as file,
            opened(f"db{kind}", NEW_FILE, target) as made,
        ):
            if not clone(file, made):
                copy_bytes(file, made)


def clear(folder: int) -> None:
    """Removes all files of an opened folder."""
    for name in os.listdir(folder):
        os.unlink(name, dir_fd=folder)


def users(root: Path, index: str, place: Path) -> dict[str, str]:
    """User names and identifiers that a core knows.

    Args:
        root: The data, or a copy of it.
        index: Path below it of the file that knows.
        place: Where a copy may be.

    Raises:
        BackupError: When it cannot be read.
    """
    parent, _, name = index.rpartition("/")
    try:
        with (
            opened(root, os.O_RDONLY | os.O_DIRECTORY) as top,
            below(top, parent) as folder,
            database(folder, name, place) as connection,
        ):
            kind = connection.execute("SELECT type FROM sqlite_master WHERE name = 'id4name'").fetchone()
            if kind != ("table",):
                raise BackupError(f"{index}: it has no table of users")
            return {str(user): str(key) for user, key in connection.execute("SELECT username, userId FROM id4name")}
    except (sqlite3.Error, OSError) as error:
        raise BackupError(f"{index}: {error}") from error


def examine(root: Path, place: Path) -> tuple[Tally, list[str]]:
    """Counts a restored tree, and says what SQLite finds wrong with its databases.

    Args:
        root: The tree, in which nobody writes.
        place: Where copies may be, on the same file system.
    """
    found: list[str] = []

    def look(folder: int, name: str, path: str) -> None:
        if (said := damage(folder, name, place, target)) != "ok":
            found.append(f"{path}: {said}")

    with scratch(place) as target:
        return tally(root, look), found


def damage(folder: int, name: str, place: Path, target: int) -> str:
    """What SQLite says of a database: `ok`, or what is wrong with it; `place`, opened as `target`, is for copies."""
    try:
        logged = bool(os.stat(f"{name}-wal", dir_fd=folder, follow_symlinks=False).st_size)
    except FileNotFoundError:
        logged = False
    if logged:
        copy(folder, name, target)
    else:
        # SQLite neither writes to what it is told is immutable nor looks for a log, so a link does.
        clear(target)
        try:
            os.link(name, "db", src_dir_fd=folder, dst_dir_fd=target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in NOT_HERE:
                raise
            copy(folder, name, target)
    try:
        with connected(place, "" if logged else "?immutable=1") as connection:
            return "; ".join(str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)"))
    except sqlite3.Error as error:
        return str(error)
