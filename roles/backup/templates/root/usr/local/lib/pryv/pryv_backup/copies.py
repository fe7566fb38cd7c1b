"""Copies of trees at one instant: as quick as can be, since the platform waits for them."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pryv_backup import programs
from pryv_backup.files import (
    ATTACHMENTS,
    FILE,
    FOLDER,
    SHARED_MEMORY,
    Tally,
    below,
    is_attachment,
    is_sqlite,
    opened,
    refuse_depth,
    walk,
)
from pryv_backup.problem import BackupError

#: ioctl(2) of Linux: the file becomes a copy of another and shares its blocks.
FICLONE = 0x40049409
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
#: What a file system says when it cannot share blocks, or copy by itself, or have a further link.
NOT_HERE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM, errno.EMLINK)
#: What is left free beside a copy that shares nothing: a tenth of it and this, in bytes.
RESERVE = 64 << 20
BLOCK = 1 << 30
#: What Prometheus calls a folder of samples that it has made whole, and never changes.
SAMPLES = re.compile("[0-9A-HJKMNP-TV-Z]{26}")


def clone(source: int, target: int) -> bool:
    """Makes an empty file share the blocks of another; False where the file system cannot."""
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as error:
        if error.errno in NOT_HERE:
            return False
        raise
    return True


def copy_bytes(source: int, target: int) -> None:
    """Copies what is in a file; a hole stays one, since InfluxDB has many times more of them than data."""
    size, end = os.fstat(source).st_size, 0
    while end < size:
        try:
            begin = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # the rest is one hole
        end = os.lseek(source, begin, os.SEEK_HOLE)
        for descriptor in (source, target):
            os.lseek(descriptor, begin, os.SEEK_SET)
        copy_piece(source, target, end - begin)
    os.ftruncate(target, size)


def copy_piece(source: int, target: int, count: int) -> None:
    """Copies so many bytes from where both files are at, or as many as there are."""
    copy: Callable[[int, int, int], int] = os.copy_file_range
    while count:
        try:
            done = copy(source, target, min(count, BLOCK))
        except OSError as error:
            if error.errno not in NOT_HERE or copy is send:
                raise
            copy = send
            continue
        if not done:
            return
        count -= done


def send(source: int, target: int, count: int) -> int:
    """Copies between files on any file systems, as os.copy_file_range does on some."""
    return os.sendfile(target, source, None, count)


def take_attributes(status: os.stat_result, target: int) -> None:
    """Gives a file or folder the owner, the mode and the times of another.

    No data is a program that runs as its owner: such a bit would come from somebody who is up to something.
    """
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode) & ~(stat.S_ISUID | stat.S_ISGID))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def shares_blocks(place: Path) -> bool:
    """Whether files in a folder of root's can share their blocks."""
    one, other = place / "probe", place / "probe.copy"
    try:
        one.write_bytes(b"x" * 4096)
        with opened(one, FILE) as source, opened(other, os.O_WRONLY | os.O_CREAT) as target:
            return clone(source, target)
    finally:
        one.unlink(missing_ok=True)
        other.unlink(missing_ok=True)


def copy_symbolic_link(name: str, source: int, target: int) -> None:
    """Copies a symbolic link as what it is."""
    status = os.stat(name, dir_fd=source, follow_symlinks=False)
    os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)


@contextmanager
def inner(name: str, source: int, target: int) -> Iterator[tuple[int, int]]:
    """A folder in a folder and its copy, which is made where it is not there; both have the same attributes."""
    with opened(name, FOLDER, source) as inner_source:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=target)
        with opened(name, FOLDER, target) as inner_target:
            yield inner_source, inner_target
            take_attributes(os.fstat(inner_source), inner_target)


@dataclass
class Copy:
    """A copy in the making.

    Attributes:
        source: The data, opened.
        target: Where the copy goes, opened: a folder of root's alone.
        reflink: Whether files there can share their blocks.
        tally: What was copied.
        later: Folders named `attachments` that were met, by their path.
    """

    source: int
    target: int
    reflink: bool
    tally: Tally = field(default_factory=Tally)
    later: list[str] = field(default_factory=list)

    def copy(self, path: str) -> None:
        """Copies a folder, but for attachments; one that is not there has nothing to be copied."""
        with suppress(FileNotFoundError), below(self.source, path):
            self._descend(path, "", self.source, self.target, self._copy_folder)

    def link(self, path: str) -> None:
        """Links the files of a folder that are never rewritten, as far as they are still there."""
        with suppress(FileNotFoundError), below(self.source, path):
            self._descend(path, "", self.source, self.target, self._link_folder)

    def link_blocks(self, path: str) -> None:
        """Links the blocks of a Prometheus' folder, and leaves out the newest samples, which are in none yet.

        Raises:
            BackupError: When it has just replaced some by others, so that they may not be whole here.
        """
        self._descend(path, "", self.source, self.target, self._link_blocks)

    def _link_blocks(self, source: int, target: int, path: str) -> None:
        there = blocks(source)
        for name in there:
            with inner(name, source, target) as (inner_source, inner_target):
                self._link_folder(inner_source, inner_target, f"{path}/{name}")
        # One that goes is renamed before its files go.
        if not set(there) <= set(blocks(source)):
            raise BackupError(f"{path}: Prometheus has just merged its blocks; take the backup again")

    def copy_one(self, path: str, name: str) -> None:
        """Copies one file of a folder."""
        self._descend(
            path, "", self.source, self.target, lambda source, target, _: self.copy_file(name, source, target)
        )

    def _descend(self, path: str, done: str, source: int, target: int, work: Callable[[int, int, str], None]) -> None:
        """Does the work in a folder that is further below."""
        if not path:
            work(source, target, done)
            return
        name, _, rest = path.partition("/")
        with inner(name, source, target) as (inner_source, inner_target):
            self._descend(rest, f"{done}/{name}" if done else name, inner_source, inner_target, work)

    def _copy_folder(self, source: int, target: int, path: str) -> None:
        refuse_depth(path)
        with os.scandir(source) as entries:
            for entry in entries:
                name = entry.name
                if entry.is_dir(follow_symlinks=False):
                    if name == ATTACHMENTS:
                        self.later.append(f"{path}/{name}")
                        continue
                    with inner(name, source, target) as (inner_source, inner_target):
                        self._copy_folder(inner_source, inner_target, f"{path}/{name}")
                elif entry.is_symlink():
                    copy_symbolic_link(name, source, target)
                elif not entry.is_file(follow_symlinks=False):
                    self.tally.others += 1
                elif not name.endswith(SHARED_MEMORY):
                    self.copy_file(name, source, target)

    def copy_file(self, name: str, source: int, target: int) -> None:
        """Copies a file and counts it."""
        with opened(name, FILE, source) as file, opened(name, NEW_FILE, target) as made:
            status = os.fstat(file)
            if status.st_size and not (self.reflink and clone(file, made)):
                copy_bytes(file, made)
            take_attributes(status, made)
            self.tally.add(name, status.st_size)
            self.tally.databases += is_sqlite(file, name)
        # While it is open, a file system may have reserved more.
        self.tally.space += os.stat(name, dir_fd=target, follow_symlinks=False).st_blocks * 512

    def _link_folder(self, source: int, target: int, path: str) -> None:
        refuse_depth(path)
        with os.scandir(source) as entries:
            for entry in entries:
                # The platform goes on, so whatever was there may be gone.
                with suppress(FileNotFoundError):
                    if entry.is_dir(follow_symlinks=False):
                        with inner(entry.name, source, target) as (inner_source, inner_target):
                            self._link_folder(inner_source, inner_target, f"{path}/{entry.name}")
                    elif entry.is_symlink():
                        copy_symbolic_link(entry.name, source, target)
                    else:
                        self._link_file(entry.name, source, target, path)

    def _link_file(self, name: str, source: int, target: int, path: str) -> None:
        try:
            os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in NOT_HERE:
                raise
            with opened(name, FILE, source) as file, opened(name, NEW_FILE, target) as made:
                copy_bytes(file, made)
                take_attributes(os.fstat(file), made)
        status = os.stat(name, dir_fd=target, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            self.tally.space += status.st_blocks * 512
            if is_attachment(f"{path}/{name}"):
                self.tally.add_attachment(f"{path}/{name}", status.st_size)
            else:
                self.tally.add(name, status.st_size)
        else:
            os.unlink(name, dir_fd=target)
            self.tally.others += 1


def blocks(folder: int) -> list[str]:
    """Names of the blocks in an opened folder of a Prometheus."""
    return sorted(name for name in os.listdir(folder) if SAMPLES.fullmatch(name))


def allocated(source: int, paths: Sequence[str]) -> int:
    """How many bytes on the disk files take that are copied while the platform waits; holes take none.

    Args:
        source: Folder that the paths are below, opened.
        paths: Folders; what is not there takes nothing.
    """
    total = 0
    for path in paths:
        with suppress(FileNotFoundError), below(source, path) as folder:
            for _, inner_path, entry in walk(folder):
                with suppress(FileNotFoundError):
                    if not is_attachment(inner_path):
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def refuse_lack_of_space(place: Path, wanted: int) -> None:
    """Refuses a copy that would fill the disk.

    Args:
        place: A folder on the disk.
        wanted: What the copy takes, in bytes.

    Raises:
        BackupError: When there is not enough.
    """
    free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
    if free < wanted * 1.1 + RESERVE:
        raise BackupError(
            f"the copy takes {wanted >> 20} MiB and {free >> 20} MiB are free: the file system cannot share blocks"
        )


def remove(tree: Path) -> None:
    """Removes a copy, if it is there; what its files were linked to stays."""
    # However deep it is.
    programs.run(["rm", "--recursive", "--force", str(tree)])
