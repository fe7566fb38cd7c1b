"""Backups: of this host, and of others that this host keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pryv_metrics.problem import CollectorError
from pryv_metrics.samples import Sample

#: Numbers of a backup that went well, and how they are called in what the program remembers.
NUMBERS = {
    "pryv_backup_seconds": "seconds",
    "pryv_backup_pause_seconds": "pause_seconds",
    "pryv_backup_bytes": "bytes",
    "pryv_backup_users": "users",
}


def collect_own(options: Mapping[str, Any]) -> Iterator[Sample]:
    """Tells of this host's backups: how old the newest may be, since when there should be some, and how they are.

    Args:
        options: `schedule`, what is due, and `file`, what the last run came to, and when one last went well; what has
            not been written yet is not told.

    Raises:
        CollectorError: When what the program remembers cannot be read.
    """
    due = read(Path(options["schedule"]))
    if due:
        yield Sample("pryv_backup_oldest_seconds", due["oldest_seconds"])
        yield Sample("pryv_backup_since_seconds", seconds(due["since"]))
    last = read(Path(options["file"]))
    if last is None:
        return
    yield Sample("pryv_backup_ok", bool(last["ok"]))
    if last.get("newest"):
        yield Sample("pryv_backup_time_seconds", seconds(last["newest"]))
    if last["ok"]:
        for name, key in NUMBERS.items():
            yield Sample(name, last[key])


def collect_kept(options: Mapping[str, Any]) -> Iterator[Sample]:
    """Tells of the backups of others: whether they could be restored, and whether old ones were forgotten.

    Args:
        options: `drill` and `retention`, what the programs remember; `hosts`, whose backups are here.

    Raises:
        CollectorError: When that cannot be read.
    """
    drills, kept = read(Path(options["drill"])) or {}, read(Path(options["retention"])) or {}
    for host in options["hosts"]:
        if host in drills:
            yield Sample("pryv_drill_time_seconds", seconds(drills[host]["time"]), {"of": host})
            yield Sample("pryv_drill_ok", bool(drills[host]["ok"]), {"of": host})
        if host in kept:
            yield Sample("pryv_retention_ok", bool(kept[host]["ok"]), {"of": host})


def read(path: Path) -> Any:
    """What a JSON file holds; None where there is none.

    Raises:
        CollectorError: When it is no JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CollectorError(f"{path.name}: {error}") from error


def seconds(time: str) -> float:
    """A time, in seconds since 1970."""
    return datetime.fromisoformat(time).timestamp()
