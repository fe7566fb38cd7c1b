"""Begins a new file for each host's journal, and deletes those that are older than is stated. Run once a week."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

#: The file that a host's lines are written to, and how one that was put aside is called: as journald does, by which
#: systemd-journal-remote finds what it may delete when a host has used up its space.
CURRENT = "current.journal"
ASIDE = "current@{series:032x}-{number:016x}-{microseconds:016x}.journal"
DAY = 86400


def put_aside(folder: Path, now: float) -> Path | None:
    """Gives the file that a host's lines were written to a name of its own.

    Args:
        folder: Of the host.
        now: The time, in seconds since the epoch.

    Returns:
        Its new path; None where there is none.
    """
    current = folder / CURRENT
    if not current.exists():
        return None
    microseconds = int(now * 1_000_000)
    return current.rename(folder / ASIDE.format(series=microseconds, number=1, microseconds=microseconds))


def outdated(folder: Path, oldest: float) -> Iterator[Path]:
    """Yields the files of a host that got their last line before a time, by this host's clock.

    Args:
        folder: Of the host.
        oldest: That time, in seconds since the epoch.
    """
    for path in sorted(folder.glob("*.journal*")):
        if path.name != CURRENT and path.stat().st_mtime < oldest:
            yield path


def main() -> int:
    """Goes through the folders of all hosts, those among them that send nothing any more."""
    parser = argparse.ArgumentParser(prog="pryv-logs-keep", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="has a folder for each host")
    parser.add_argument("--days", type=int, required=True, help="how long lines are kept")
    options = parser.parse_args()
    now = time.time()
    for folder in sorted(path for path in options.folder.iterdir() if path.is_dir()):
        put_aside(folder, now)
        for path in outdated(folder, now - options.days * DAY):
            path.unlink()
            print(f"pryv-logs-keep: deleted {path.parent.name}/{path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
