"""One backup, from the instant to the snapshot."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pryv_backup import containers, copies, databases, manifest, redis, settings
from pryv_backup.files import LEDGER, MANIFEST, Tally, below, exists_below, file_below, opened
from pryv_backup.problem import BackupError
from pryv_backup.repository import DATA, LEDGER_TAG, Repository
from pryv_backup.settings import Settings

#: For how long what a killed run left may be being removed, in seconds.
TIDYING = 5.0
ROOTS = os.O_RDONLY | os.O_DIRECTORY


@dataclass(frozen=True)
class Taken:
    """A copy of the data at one instant.

    Attributes:
        instant: When that was.
        tally: What it holds.
        pause: For how long containers were paused, in seconds.
        reflink: Whether it shares its blocks with the data.
        users: Identifiers of its core's users.
        index: Which file said so, by a number that another file would not have.
        registered: Names of the users that its registry knows.
    """

    instant: str
    tally: Tally
    pause: float
    reflink: bool
    users: frozenset[str]
    index: int | None
    registered: frozenset[str]

    @property
    def user_count(self) -> int:
        """How many users it has: its core's, or those of a registry on a host of its own."""
        return len(self.registered) if self.index is None else len(self.users)


def run(configuration: Settings, *, accept_smaller: bool = False) -> dict[str, Any]:
    """Makes a backup, and remembers how it went.

    Args:
        configuration: Of what, and where to.
        accept_smaller: Whether it may be much smaller than the one before.

    Returns:
        What `last.json` has.

    Raises:
        BackupError: When there is no backup, or none that could be relied on.
    """
    with settings.only_one(configuration.state, TIDYING) as lock:
        begin, before = time.monotonic(), settings.read_json(configuration.state / "last.json") or {}
        result: dict[str, Any] = {"time": manifest.now(), "ok": False, "error": "it was interrupted", "snapshot": None}
        result["newest"] = before.get("newest")
        try:
            prepare(configuration)
            result.update(make(configuration, Repository.of(configuration, lock), accept_smaller=accept_smaller))
            result.update(ok=True, error=None, newest=result["time"])
        except (BackupError, OSError, sqlite3.Error) as error:
            result["error"] = str(error)
            raise
        finally:
            copies.remove(configuration.work)
            result["seconds"] = round(time.monotonic() - begin, 1)
            settings.write_json(configuration.state / "last.json", result)
    return result


def prepare(configuration: Settings) -> None:
    """Refuses what is no source, and removes what a killed run left.

    Raises:
        BackupError: When the data is not there, or not all of it.
    """
    if configuration.mount and not configuration.data.is_mount():
        raise BackupError(f"{configuration.data}: the data's file system is not mounted")
    with opened(configuration.data, ROOTS) as data:
        missing = [path for path in configuration.required if not exists_below(data, path)]
    if missing:
        raise BackupError(f"{configuration.data}: {', '.join(missing)}: not there, so there is nothing to back up")
    configuration.place.mkdir(mode=0o700, exist_ok=True)
    status = configuration.place.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise BackupError(f"{configuration.place} is no folder of this program's")
    configuration.place.chmod(0o700)
    if configuration.project is not None:
        containers.unpause(configuration.project)
    copies.remove(configuration.work)


def make(configuration: Settings, repository: Repository, *, accept_smaller: bool) -> dict[str, Any]:
    """Copies, looks at the copy, and makes the snapshot; says what came of it."""
    if configuration.unlock:
        repository.call("unlock")
    configuration.work.mkdir(mode=0o700)
    with ThreadPoolExecutor() as beside:
        images = beside.submit(containers.images, configuration.projects)
        version = beside.submit(lambda: repository.version)
        taken = take(configuration)
    known = settings.read_json(configuration.state / "users.json")
    if known is None:
        known = newest(repository)
    if not accept_smaller:
        refuse_shrinking(taken, known, configuration.shrink_percent)
    ledger = keep_ledger(configuration, repository, taken, known)
    described = describe(configuration, taken, images.result(), version.result())
    # What outlives a power cut has the disk write the whole copy first.
    settings.write_json(configuration.work / LEDGER, ledger, lasting=False)
    settings.write_json(configuration.work / MANIFEST, described, lasting=False)
    said = repository.back_up(configuration.work, configuration.upload_kib)
    # Before something is written that has to last.
    copies.remove(configuration.work)
    remembered = {
        "users": sorted(taken.users),
        "user_count": taken.user_count,
        "files": taken.tally.files,
        "index": taken.index,
    }
    settings.write_json(configuration.state / "users.json", remembered)
    return {
        "snapshot": said["snapshot_id"],
        "pause_seconds": round(taken.pause, 3),
        "users": taken.user_count,
        "files": taken.tally.files,
        "bytes": taken.tally.bytes,
        "attachments": taken.tally.attachments,
        "added_bytes": said.get("data_added", 0),
        "reflink": taken.reflink,
    }


def newest(repository: Repository) -> dict[str, Any]:
    """What the newest backup says of its size, for a machine that remembers none: it may be a new and empty one."""
    found = repository.snapshots(DATA)
    told = repository.read(found[-1]["id"], MANIFEST) if found else {}
    return {"user_count": told.get("users", 0), "files": told.get("files", 0)}


def take(configuration: Settings) -> Taken:
    """Copies a core's files while its containers are paused, and what a registry's Redis wrote.

    Raises:
        BackupError: When there is no space for it, or it is not one instant.
    """
    reflink = copies.shares_blocks(configuration.place)
    with opened(configuration.data, ROOTS) as data, opened(configuration.work, ROOTS) as work:
        # Having looked at all files, the kernel need not look for them during the pause.
        wanted = copies.allocated(data, configuration.copied)
        if reflink:
            # Blocks are shared once they are on the disk.
            os.sync()
        else:
            copies.refuse_lack_of_space(configuration.place, wanted)
        copy = copies.Copy(data, work, reflink)
        with containers.paused(configuration) as pause:
            instant = manifest.now()
            for path in configuration.copied:
                copy.copy(path)
        for path in (*copy.later, *configuration.linked):
            copy.link(path)
        for path in configuration.blocks:
            copy.link_blocks(path)
        registered = take_redis(copy, configuration.redis) if configuration.redis else frozenset()
    users: dict[str, str] = {}
    index = None
    if configuration.user_index is not None:
        users = databases.users(configuration.work, configuration.user_index, configuration.place / "index")
        index = inode(configuration.data, configuration.user_index)
    return Taken(instant, copy.tally, pause.seconds, reflink, frozenset(users.values()), index, registered)


def inode(root: Path, path: str) -> int:
    """A file's number: another one in its place, such as one from a backup, has another."""
    parent, _, name = path.rpartition("/")
    with opened(root, ROOTS) as top, below(top, parent) as folder:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino


def take_redis(copy: copies.Copy, database: settings.Redis) -> frozenset[str]:
    """Copies the file of a registry's Redis, just written; says which users it knows.

    Raises:
        BackupError: When Redis did not write it there.
    """
    begin = time.time()
    with redis.connected(database.port, database.password_file.read_text().strip()) as client:
        client.save()
        users = frozenset(key.removesuffix(":users") for key in client.keys("*:users"))
    path = f"{database.folder}/{database.file}"
    with file_below(copy.source, path) as file:
        if os.fstat(file).st_mtime < begin - 2:
            raise BackupError(f"{path}: Redis wrote its database elsewhere")
    copy.copy_one(database.folder, database.file)
    return users


def refuse_shrinking(taken: Taken, known: dict[str, Any], percent: int) -> None:
    """Refuses to take an emptied platform for the platform.

    Raises:
        BackupError: When files or users are fewer by more than so many percent than in the last backup.
    """
    for what, now, before in (
        ("files", taken.tally.files, known.get("files", 0)),
        ("users", taken.user_count, known.get("user_count", 0)),
    ):
        if now < before * (100 - percent) / 100:
            raise BackupError(
                f"{now} {what} where the last backup has {before}: --accept-smaller takes it nevertheless"
            )


def keep_ledger(
    configuration: Settings, repository: Repository, taken: Taken, known: dict[str, Any]
) -> list[dict[str, str]]:
    """The list of deleted users, with those that were deleted since the last backup.

    It is a snapshot of its own, too: an older backup that is restored does not know who was deleted since.

    Returns:
        Identifier and time for each.
    """
    path = configuration.state / LEDGER
    ledger: list[dict[str, str]] | None = settings.read_json(path)
    if ledger is None:
        ledger = stored_ledger(repository)
        settings.write_json(path, ledger)
    # A restored index lacks who came since that backup: they were lost, not deleted.
    same = taken.index is not None and known.get("index") == taken.index
    gone = set(known.get("users", ())) - taken.users if same else set()
    added = [{"id": user, "time": taken.instant} for user in sorted(gone - {entry["id"] for entry in ledger})]
    if added:
        ledger = [*ledger, *added]
        repository.store(LEDGER, LEDGER_TAG, json.dumps(ledger))
        settings.write_json(path, ledger)
    return ledger


def stored_ledger(repository: Repository) -> list[dict[str, str]]:
    """The newest list of deleted users in the repository; empty when there is none."""
    found = repository.snapshots(LEDGER_TAG)
    ledger: list[dict[str, str]] = repository.read(found[-1]["id"], LEDGER) if found else []
    return ledger


def describe(
    configuration: Settings, taken: Taken, images: list[dict[str, Any]], version: tuple[int, ...]
) -> dict[str, Any]:
    """The manifest."""
    database = configuration.redis
    with opened(configuration.work, ROOTS) as work:
        return {
            "host": configuration.host,
            "time": taken.instant,
            "restic": ".".join(map(str, version)),
            "images": images,
            "users": taken.user_count,
            **manifest.counts(taken.tally),
            "space": taken.tally.space,
            "others": taken.tally.others,
            "user_index": configuration.user_index,
            "redis": f"{database.folder}/{database.file}" if database else None,
            "landmarks": manifest.landmarks(work, configuration.copied),
            "samples": manifest.samples(work, taken.tally),
        }


def release(configuration: Settings) -> dict[str, bool]:
    """Lets containers go on, and removes the copy where no run is at it; for the time after a run was killed.

    Returns:
        `unpaused`: whether containers were paused; `removed`: whether the copy may be gone.
    """
    unpaused = configuration.project is not None and bool(containers.unpause(configuration.project)[1])
    try:
        with settings.only_one(configuration.state):
            copies.remove(configuration.work)
    except settings.BusyError:
        return {"unpaused": unpaused, "removed": False}
    return {"unpaused": unpaused, "removed": True}


def restore(configuration: Settings, snapshot: str, into: Path, *, accept_older_images: bool = False) -> dict[str, Any]:
    """Restores a snapshot into a folder and looks whether it is whole.

    Args:
        configuration: From where.
        snapshot: Its identifier, or the beginning of it; `latest` is the newest.
        into: A folder on the data's file system that is empty, or not there.
        accept_older_images: Whether images here may be older than those that wrote the data.

    Returns:
        The manifest.

    Raises:
        BackupError: When it cannot be restored there, or is not what its manifest says.
    """
    repository = Repository.of(configuration)
    found = repository.snapshots(DATA)
    chosen = found[-1:] if snapshot == "latest" else [each for each in found if each["id"].startswith(snapshot)]
    if len(chosen) != 1:
        raise BackupError(f"{snapshot}: {len(chosen) or 'no'} snapshots are called so")
    identifier = chosen[0]["id"]
    described = repository.read(identifier, MANIFEST)
    if not accept_older_images:
        refuse_older_images(configuration, described)
    refuse_target(into, configuration.data, described["space"])
    into.mkdir(mode=0o700, exist_ok=True)
    repository.restore(identifier, into)
    found_there = manifest.check(into)
    if found_there["problems"]:
        raise BackupError(f"{into}: restored, but not whole: {'; '.join(found_there['problems'])}")
    told: dict[str, Any] = found_there["manifest"]
    return {**told, "snapshot": identifier}


def refuse_older_images(configuration: Settings, described: dict[str, Any]) -> None:
    """Refuses data that was written by newer programs than would read it.

    Raises:
        BackupError: When it was.
    """
    if found := containers.older(containers.images(configuration.projects), described["images"]):
        raise BackupError(
            f"{'; '.join(found)}: the older may not read it; --accept-older-images restores it nevertheless"
        )


def refuse_target(into: Path, data: Path, wanted: int) -> None:
    """Refuses a folder that holds something, or is elsewhere or too small.

    Raises:
        BackupError: When it does, or is.
    """
    if not into.is_absolute() or not into.parent.is_dir():
        raise BackupError(f"{into}: its parent folder is not there")
    if into.is_symlink() or (into.exists() and (not into.is_dir() or any(into.iterdir()))):
        raise BackupError(f"{into} is not empty")
    if into.parent.stat().st_dev != data.stat().st_dev:
        raise BackupError(f"{into} is not on the file system of {data}")
    copies.refuse_lack_of_space(into.parent, wanted)
