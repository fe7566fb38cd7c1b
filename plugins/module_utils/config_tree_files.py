"""Paths and files, as the parts of config_tree see and write them."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterable
from pathlib import Path


class TreeError(Exception):
    """The tree cannot be placed; the message is for the operator."""


@functools.cache
def pattern_regex(pattern: str) -> re.Pattern[str]:
    """Translate a path pattern: ``*`` and ``?`` stay within a folder, ``**`` does not."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(parts.get(part) or re.escape(part) for part in re.split(r"(\*\*/|\*\*|\*|\?)", pattern)))


def matches(pattern: str, path: str) -> bool:
    """Whether the whole of a path matches a pattern."""
    return pattern_regex(pattern).fullmatch(path) is not None


def is_under(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies somewhere in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def ancestors(path: str) -> list[str]:
    """All folders above a path, the outermost first, without ``/``."""
    parts = path.split("/")[1:-1]
    return ["/" + "/".join(parts[: i + 1]) for i in range(len(parts))]


def lstat(path: str) -> os.stat_result | None:
    """State of a path without following a link at its end, or None if there is nothing."""
    try:
        return Path(path).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def mount_points() -> set[str]:
    """Every path at which something is mounted."""
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def read(path: str) -> bytes:
    """Content of a regular file."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
        return stream.read()


def sync_folder(path: str) -> None:
    """Make renames and removals in a folder survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(paths: Iterable[str]) -> None:
    """Remove those of some files that are there."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            Path(path).unlink()


def write(path: str, content: bytes, owner: int, group: int, mode: int) -> None:
    """Write a new file durably; it is never readable by more than its mode says, not even for a moment."""
    remove([path])
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as stream:
        stream.write(content)
        os.fchown(stream.fileno(), owner, group)
        os.fchmod(stream.fileno(), mode)
        stream.flush()
        os.fsync(stream.fileno())
