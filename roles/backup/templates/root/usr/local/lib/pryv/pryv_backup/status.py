"""What is known here of backups, without a question to a repository."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

from pryv_backup import manifest, programs, settings
from pryv_backup.keeping import Server
from pryv_backup.problem import BackupError
from pryv_backup.repository import address_digest
from pryv_backup.settings import Settings

#: How many turns of a schedule are looked at: those of a week of hours.
TURNS, HOUR, DAY = 200, 3600, 86400
#: Timers of a host that is backed up, and of one that keeps backups.
BACKUP, RETENTION, DRILL = "pryv-backup.timer", "pryv-retention.timer", "pryv-drill.timer"


def of_client(configuration: Settings) -> dict[str, Any]:
    """What the last run did.

    Returns:
        `oldest_seconds`, how old the newest backup may be; `initialised`, whether there is a repository; `since`, when
        it was made; `last`, what `last.json` has; `next`, when the next run begins. Times are ISO 8601, in UTC; None
        for what is not known.
    """
    made = configuration.state / "initialised"
    return {
        "oldest_seconds": oldest(configuration.schedule),
        "initialised": settings.read_text(made) == address_digest(configuration),
        "since": moment(made.stat().st_mtime) if made.exists() else None,
        "last": settings.read_json(configuration.state / "last.json"),
        "next": next_run(BACKUP),
    }


def due(configuration: Settings) -> dict[str, Any]:
    """Notes how old the newest backup may be, where whatever watches it finds that, before the first run, too.

    Returns:
        `oldest_seconds`, and `since`, when this was first noted: what was never backed up is as old as that.
    """
    configuration.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = configuration.state / "schedule.json"
    known = settings.read_json(path) or {}
    noted = {"oldest_seconds": oldest(configuration.schedule), "since": known.get("since") or manifest.now()}
    settings.write_json(path, noted)
    return noted


def of_server(server: Server) -> dict[str, Any]:
    """What became of others' backups.

    Returns:
        `retain` and `drill`, what came of them by host; `arrived`, by the name of each repository that is here, when
        the oldest and the newest of its snapshots came; `keeps`, whose they should be; `keep_days`; `next`, when the
        next drill and the next forgetting begin.
    """
    folders = sorted(folder for folder in server.repositories.glob("*") if folder.is_dir())
    return {
        "retain": settings.read_json(server.retain_state / "retain.json") or {},
        "drill": settings.read_json(server.drill_state / "drill.json") or {},
        "arrived": {folder.name: arrivals(folder) for folder in folders},
        "keeps": list(server.hosts),
        "keep_days": server.keep_days,
        "next": {"retain": next_run(RETENTION), "drill": next_run(DRILL)},
    }


def arrivals(repository: Path) -> list[str]:
    """When the oldest and the newest snapshot came, by this host's clock; empty where there is none."""
    times = sorted(path.stat().st_mtime for path in repository.glob("snapshots/*"))
    return [moment(times[0]), moment(times[-1])] if times else []


def next_run(timer: str) -> str | None:
    """When systemd starts what a timer is for; None where it will not."""
    command = ["systemctl", "show", "--property=NextElapseUSecRealtime", timer]
    try:
        said = programs.run(command, environment={"TZ": "UTC", "LC_ALL": "C"})
    except BackupError:
        return None
    found = re.search(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) UTC", said.output)
    return f"{found[1]}T{found[2]}+00:00" if found else None


def oldest(schedule: str) -> int:
    """How old the newest backup may be, in seconds: the longest time between two, and a twelfth of it, or an hour.

    Args:
        schedule: When they are taken, as in systemd.time(7).

    Returns:
        The seconds; as for one a day where systemd does not say.
    """
    command = ["systemd-analyze", "calendar", f"--iterations={TURNS}", schedule]
    try:
        said = programs.run(command, environment={"TZ": "UTC", "LC_ALL": "C"}).output
    except BackupError:
        said = ""
    found = re.findall(r"(?:Next elapse|Iter[^:]*): \w+ (\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) UTC", said)
    times = [datetime.fromisoformat(f"{day}T{time}") for day, time in found]
    longest = max((int((after - before).total_seconds()) for before, after in pairwise(times)), default=DAY)
    return longest + max(longest // 12, HOUR)


def moment(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 has them, in UTC and whole seconds."""
    return datetime.fromtimestamp(int(seconds), timezone.utc).isoformat()
