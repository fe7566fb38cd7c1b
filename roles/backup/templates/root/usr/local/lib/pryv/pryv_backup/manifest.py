"""What a backup says of itself, and whether a restored tree is that."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pryv_backup import databases
from pryv_backup.files import MANIFEST, Tally, digest, exists_below, file_below, opened
from pryv_backup.problem import BackupError

#: Files by which a database's folder is known, below a folder that is copied.
LANDMARKS = ("WiredTiger", "WiredTiger.turtle", "meta/meta.db")
#: What the file begins with that a Redis writes its database to.
RDB = b"REDIS"


def now() -> str:
    """The time, as ISO 8601 has it, in UTC and whole seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def landmarks(root: int, copied: tuple[str, ...]) -> list[str]:
    """Which of the files are there by which databases' folders are known."""
    paths = [f"{folder}/{name}" for folder in copied for name in LANDMARKS]
    return [path for path in paths if exists_below(root, path)]


def counts(found: Tally) -> dict[str, int]:
    """The numbers of a tree that a manifest has."""
    return {name: getattr(found, name) for name in ("files", "bytes", "attachments", "databases")}


def samples(root: int, found: Tally) -> dict[str, str]:
    """Digests of some attachments, by their path."""
    return {path: digest(root, path) for path in found.samples}


def read(root: Path) -> dict[str, Any]:
    """The manifest of a restored tree.

    Raises:
        BackupError: When there is none.
    """
    try:
        with opened(root, os.O_RDONLY | os.O_DIRECTORY) as top, file_below(top, MANIFEST) as file:
            found: dict[str, Any] = json.loads(os.read(file, os.fstat(file).st_size))
            return found
    except (OSError, ValueError) as error:
        raise BackupError(f"{root}: no backup that was restored: {error}") from error


def check(root: Path) -> dict[str, Any]:
    """Holds a restored tree against its manifest.

    Args:
        root: The tree, in a folder of root's; copies of databases are made beside it for a moment.

    Returns:
        `ok`, `problems` (sentences), `counts` (numbers by name), `manifest`.

    Raises:
        BackupError: When it has no manifest.
    """
    expected = read(root)
    place = root.with_name(f".{root.name}.check")
    counted, damages = databases.examine(root, place)
    found, problems = counts(counted), []
    if (index := expected["user_index"]) is not None:
        try:
            found["users"] = len(databases.users(root, index, place))
        except BackupError as error:
            problems.append(str(error))
    problems += [
        f"{name}: {number} where {expected[name]} were" for name, number in found.items() if number != expected[name]
    ]
    with opened(root, os.O_RDONLY | os.O_DIRECTORY) as top:
        problems += [f"{path} is not there" for path in expected["landmarks"] if not exists_below(top, path)]
        problems += [problem for path, known in expected["samples"].items() if (problem := differs(top, path, known))]
        if (path := expected["redis"]) is not None:
            problems += truncated(top, path)
    problems += damages
    return {"ok": not problems, "problems": problems, "counts": found, "manifest": expected}


def differs(root: int, path: str, known: str) -> str | None:
    """What is wrong with an attachment; None when it has its digest."""
    try:
        return None if digest(root, path) == known else f"{path} has another content"
    except (BackupError, OSError) as error:
        return f"{path}: {error}"


def truncated(root: int, path: str) -> list[str]:
    """What is wrong with the file of a Redis, as far as it tells without one."""
    try:
        with file_below(root, path) as file:
            whole = os.pread(file, len(RDB), 0) == RDB
    except (BackupError, OSError) as error:
        return [f"{path}: {error}"]
    return [] if whole else [f"{path} is no database of Redis'"]
