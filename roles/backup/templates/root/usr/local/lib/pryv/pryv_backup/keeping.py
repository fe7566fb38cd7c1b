"""What a backup server does with the repositories that others fill: forgets what is old, and tries what is new.

It believes nobody's clock but its own, and gives no snapshot away while the newest ones look wrong: who broke into a
host can add snapshots there, and must not get older ones forgotten by that.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from pryv_backup import copies, manifest, opening, settings
from pryv_backup.files import MANIFEST
from pryv_backup.problem import BackupError, StoppedError
from pryv_backup.repository import DATA, Repository, made

#: How far a snapshot may be dated after now, and before it arrived; what is younger than that is kept in any case.
AHEAD, BEHIND = timedelta(hours=1), timedelta(days=2)
COUNTS = ("users", "files")


@dataclass(frozen=True)
class Server:
    """A backup server's configuration.

    Attributes:
        repositories: Folder of the repositories.
        hosts: Whose they are; each is named as its host.
        passwords_file: Passwords that open them, by host.
        keep: How many are kept: `within` (a duration of restic's), `daily`, `weekly`.
        keep_days: After how many days a snapshot is forgotten in any case.
        scratch: Where snapshots are restored to be looked at.
        shrink_percent: By how much a backup may be smaller than the one before.
        databases: By host the databases that are started on its restored files; see `opening.answer`.
        opener: Socket of the service that starts them.
        shrinking: Hosts whose backups may be smaller by any number of files: Prometheus merges its own.
        retain_state: Where it is remembered what was kept.
        drill_state: Where it is remembered what was restored.
    """

    repositories: Path
    hosts: tuple[str, ...]
    passwords_file: Path
    keep: Mapping[str, Any]
    keep_days: int
    scratch: Path
    shrink_percent: int = 20
    databases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    opener: Path = Path("/run/pryv-drill-databases.sock")
    shrinking: tuple[str, ...] = ()
    retain_state: Path = Path("/var/lib/pryv-retention")
    drill_state: Path = Path("/var/lib/pryv-drill")

    @classmethod
    def read(cls, path: Path) -> Server:
        """The configuration in a file.

        Raises:
            BackupError: When there is none, or it is not one.
        """
        values = settings.read_json(path)
        try:
            known = {each.name: values[each.name] for each in fields(cls) if each.name in values}
            for name in ("repositories", "passwords_file", "scratch", "opener", "retain_state", "drill_state"):
                if name in known:
                    known[name] = Path(known[name])
            return cls(**{**known, "hosts": tuple(known["hosts"])})
        except (KeyError, TypeError) as error:
            raise BackupError(f"{path}: no configuration of a backup server") from error

    def repository(self, host: str, *options: str) -> Repository:
        """A host's repository, as a folder.

        Raises:
            BackupError: When there is none, or no password for it.
        """
        folder = self.repositories / host
        if not (folder / "config").exists():
            raise BackupError("no repository, so there was no backup yet")
        passwords = settings.read_json(self.passwords_file) or {}
        if host not in passwords:
            raise BackupError("no password for its repository")
        owner = folder.stat()
        # What restic writes there has to stay the repository's owner's.
        other = os.geteuid() == 0 and "--no-lock" not in options and owner.st_uid != 0
        return Repository(
            options=[f"--repo={folder}", "--no-cache", *options],
            host=None,
            environment={"RESTIC_PASSWORD": passwords[host]},
            secrets={passwords[host]},
            user=(owner.st_uid, owner.st_gid) if other else None,
        )


def for_each(
    hosts: Sequence[str], state: Path, work: Callable[[str, Mapping[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """Does something for each host, whatever becomes of it for others, and remembers what came of it.

    Args:
        hosts: The hosts.
        state: File with what came of it last time, by host.
        work: What to do, with what is remembered of a host.

    Returns:
        `ok`, whether all went well; `hosts`, what came of it by host: `ok`, `problems`, `time`, `seconds` and more.
    """
    known: dict[str, Any] = settings.read_json(state) or {}
    done: dict[str, Any] = {}
    for host in hosts:
        begin, found = time.monotonic(), {"ok": True, "problems": [], "time": manifest.now()}
        try:
            found.update(work(host, known.get(host, {})))
        except StoppedError:
            raise
        except (BackupError, OSError, sqlite3.Error, ValueError, KeyError, TypeError, AttributeError) as error:
            # Also what is not in a snapshot as it should be: others are looked at nevertheless.
            found.update(problems=[str(error) or type(error).__name__])
        done[host] = {**known.get(host, {}), **found, "ok": not found["problems"]}
        done[host]["seconds"] = round(time.monotonic() - begin, 1)
        settings.write_json(state, {**known, **done})
    return {"ok": all(found["ok"] for found in done.values()), "hosts": done}


@dataclass(frozen=True)
class Accepted:
    """What somebody who has looked accepts, by host.

    Attributes:
        smaller: Hosts whose backups may be smaller than before.
        misdated: Hosts of whose snapshots those are forgotten whose dates cannot be: their clocks were wrong.
    """

    smaller: Collection[str] = ()
    misdated: Collection[str] = ()


def retain(server: Server, accepted: Accepted) -> dict[str, Any]:
    """Forgets what is older than is to be kept, in each repository whose newest snapshots look right.

    Args:
        server: The configuration.
        accepted: What may look wrong.

    Returns:
        What for_each says.
    """
    state = Path(os.environ.get("STATE_DIRECTORY", server.retain_state))
    with settings.only_one(state):
        return for_each(
            server.hosts,
            state / "retain.json",
            lambda host, known: keep(server, host, known, accepted),
        )


def keep(server: Server, host: str, known: Mapping[str, Any], accepted: Accepted) -> dict[str, Any]:
    """Forgets what is old in a host's repository.

    Returns:
        `snapshots`, how many are left; `forgotten`, how many are not; `accepted`, the newest one's numbers.

    Raises:
        BackupError: When snapshots look wrong, or restic did something else than it said.
    """
    repository = server.repository(host)
    repository.call("unlock")
    before = repository.snapshots()
    wrong = misdated(before, server.repositories / host / "snapshots")
    if wrong and host not in accepted.misdated:
        raise BackupError(f"{'; '.join(wrong.values())}: --forget-misdated {host} forgets what is dated wrongly")
    right = [each for each in before if each["id"] not in wrong]
    data = [each for each in right if DATA in (each.get("tags") or ())]
    if not data:
        raise BackupError("no backup in its repository" + (" that is dated rightly" if wrong else ""))
    counted = counts(repository, data[-1])
    measure = known.get("accepted") or (counts(repository, data[-2]) if len(data) > 1 else {})
    if host not in accepted.smaller and host not in server.shrinking:
        refuse_smaller(counted, measure, server.shrink_percent)
    if wrong:
        repository.call("forget", *wrong)
    gone = forget(repository, server, right) | set(wrong)
    repository.call("prune")
    left = {each["id"] for each in repository.snapshots()}
    others = (left & gone) | ({each["id"] for each in before} - gone - left)
    if others:
        raise BackupError(f"restic kept or forgot other snapshots than it said: {', '.join(sorted(others))}")
    return {"snapshots": len(left), "forgotten": len(gone), "accepted": counted}


def misdated(snapshots: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, str]:
    """Snapshots that say that they are of another time than they can be: what is wrong with each, by its identifier."""
    wrong = {}
    for each in snapshots:
        date, arrived = made(each), (folder / each["id"]).stat().st_mtime
        if date > datetime.now(timezone.utc) + AHEAD:
            wrong[each["id"]] = f"snapshot {each['id'][:8]} is dated {date:%F %T}, in the future"
        elif date < datetime.fromtimestamp(arrived, timezone.utc) - BEHIND:
            wrong[each["id"]] = f"snapshot {each['id'][:8]} is dated {date:%F %T}, long before it arrived"
    return wrong


def counts(repository: Repository, snapshot: Mapping[str, Any]) -> dict[str, int]:
    """How many users and files a backup says that it has."""
    found = repository.read(snapshot["id"], MANIFEST)
    return {name: int(found[name]) for name in COUNTS}


def refuse_smaller(found: Mapping[str, int], before: Mapping[str, int], percent: int) -> None:
    """Refuses to forget anything when the newest backup is much smaller than the one before.

    Raises:
        BackupError: When it is.
    """
    for name, number in found.items():
        if number < before.get(name, 0) * (100 - percent) / 100:
            raise BackupError(f"the newest backup has {number} {name} where {before[name]} were")


def forget(repository: Repository, server: Server, snapshots: Sequence[Mapping[str, Any]]) -> set[str]:
    """Forgets snapshots by the policy and by their age; the newest one of each kind stays.

    Returns:
        Which ones restic was told to forget, or said that it forgot.
    """
    policy = [f"--keep-within={server.keep['within']}"]
    policy += [f"--keep-{name}={server.keep[name]}" for name in ("daily", "weekly")]
    said = json.loads(repository.call("forget", "--json", f"--tag={DATA}", "--group-by=", *policy).output or "[]")
    gone = {each["id"] for group in said or [] for each in group["remove"] or ()}
    newest = {tuple(each.get("tags") or ()): each["id"] for each in snapshots}
    end = datetime.now(timezone.utc) - timedelta(days=server.keep_days)
    old = {each["id"] for each in snapshots if made(each) < end} - set(newest.values()) - gone
    if old:
        repository.call("forget", *sorted(old))
    return gone | old


def drill(server: Server, hosts: Sequence[str]) -> dict[str, Any]:
    """Restores the newest backup of each host, looks at it, and removes it.

    Args:
        server: The configuration.
        hosts: Of which hosts; none is all.

    Returns:
        What for_each says.

    Raises:
        BackupError: When there is no such host.
    """
    unknown = set(hosts) - set(server.hosts)
    if unknown:
        raise BackupError(f"{', '.join(sorted(unknown))}: no backups of that host here")
    state = Path(os.environ.get("STATE_DIRECTORY", server.drill_state))
    with settings.only_one(state):
        return for_each(hosts or server.hosts, state / "drill.json", lambda host, _: try_out(server, host))


def try_out(server: Server, host: str) -> dict[str, Any]:
    """Restores a host's newest backup and looks at it.

    Returns:
        `snapshot`, its identifier; `taken`, when that was; `problems`; `counts`, of users and files; `databases`, what
        those have that were started on its files.

    Raises:
        BackupError: When it cannot be restored.
    """
    # Root reads, and leaves nothing of its own in the repository.
    repository = server.repository(host, "--no-lock")
    data = repository.snapshots(DATA)
    if not data:
        raise BackupError("no backup in its repository")
    identifier = data[-1]["id"]
    server.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = server.scratch / host
    copies.remove(place)
    copies.refuse_lack_of_space(server.scratch, int(repository.read(identifier, MANIFEST)["space"]))
    place.mkdir(mode=0o700)
    try:
        repository.restore(identifier, place)
        found = manifest.check(place)
        databases = start_databases(server, host, found["manifest"])
    finally:
        copies.remove(place)
    return {
        "snapshot": identifier,
        "taken": found["manifest"]["time"],
        "problems": found["problems"] + databases["problems"],
        "counts": found["counts"],
        "databases": databases["has"],
    }


def start_databases(server: Server, host: str, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Has a host's databases started on its restored files.

    Returns:
        `problems`, sentences; `has`, what each has.
    """
    databases = server.databases.get(host)
    if not databases:
        return {"problems": [], "has": {}}
    found = opening.request(server.opener, host, len(databases))
    return {**found, "problems": found["problems"] + opening.differences(expected, found["has"])}


def open_databases(server: Server, host: str) -> dict[str, Any]:
    """Starts a host's databases on its restored files; what `opening.answer` says.

    Raises:
        BackupError: When there is no such host.
    """
    if host not in server.databases:
        raise BackupError("no databases of that host here")
    return opening.answer(server.scratch / host, server.databases[host])
