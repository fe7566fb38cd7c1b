"""Backs up this host's data, keeps what was backed up here, and restores.

What was done is said in JSON, on standard output; what went wrong is said to people, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pryv_backup import backup, databases, keeping, manifest, settings, status
from pryv_backup.keeping import Server
from pryv_backup.problem import BackupError, StoppedError
from pryv_backup.repository import KEY, Repository, address_digest
from pryv_backup.settings import Settings

#: Configuration of a host that is backed up, and of one that keeps backups.
CLIENT, SERVER = Path("/etc/pryv/backup/backup.json"), Path("/etc/pryv/backup_server/server.json")
#: For how long somebody who waits for an answer waits for one call of restic's, in seconds.
ANSWER = 60.0


def initialise(options: argparse.Namespace) -> Any:
    """Makes the repository, with the operator's password from standard input as a second one."""
    configuration = Settings.read(options.client)
    password = sys.stdin.read().strip()
    if not password:
        raise BackupError("the operator's password is expected on standard input")
    repository = Repository.of(configuration, patience=ANSWER)
    changed = repository.initialise(password)
    configuration.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.write_text(configuration.state / KEY, repository.key())
    settings.write_text(configuration.state / "initialised", address_digest(configuration))
    return {"changed": changed}


def schedule(options: argparse.Namespace) -> Any:
    """Notes how old the newest backup may be."""
    return status.due(Settings.read(options.client))


def run(options: argparse.Namespace) -> Any:
    """Makes a backup."""
    return backup.run(Settings.read(options.client), accept_smaller=options.accept_smaller)


def release(options: argparse.Namespace) -> Any:
    """Lets containers go on that a killed run left paused."""
    return backup.release(Settings.read(options.client))


def restore(options: argparse.Namespace) -> Any:
    """Restores a snapshot into an empty folder."""
    older = options.accept_older_images
    return backup.restore(Settings.read(options.client), options.snapshot, options.into, accept_older_images=older)


def check(options: argparse.Namespace) -> Any:
    """Holds a restored folder against its manifest."""
    return manifest.check(options.folder)


def ledger(options: argparse.Namespace) -> Any:
    """Says which users were deleted, as the repository knows."""
    return backup.stored_ledger(Repository.of(Settings.read(options.client)))


def users(options: argparse.Namespace) -> Any:
    """Says which users a core, or a restored folder, has."""
    configuration = Settings.read(options.client)
    if configuration.user_index is None:
        raise BackupError("this host has no users")
    place = configuration.place / "users"
    found = databases.users(options.folder or configuration.data, configuration.user_index, place)
    return [{"username": name, "id": key} for name, key in sorted(found.items())]


def retain(options: argparse.Namespace) -> Any:
    """Forgets what others backed up here and is older than is to be kept."""
    accepted = keeping.Accepted(smaller=options.accept_smaller, misdated=options.forget_misdated)
    return keeping.retain(Server.read(options.server), accepted)


def drill(options: argparse.Namespace) -> Any:
    """Restores the newest backups that are here, looks at them and removes them."""
    return keeping.drill(Server.read(options.server), options.hosts)


def open_databases(options: argparse.Namespace) -> Any:
    """Starts the databases of the host that standard input names, on its restored files, for the drill."""
    return keeping.open_databases(Server.read(options.server), sys.stdin.readline().strip())


def known(options: argparse.Namespace) -> Any:
    """Says what is known here of this host's backups, and of those that it keeps for others; asks no repository."""
    told: dict[str, Any] = {}
    if options.client.exists():
        told.update(status.of_client(Settings.read(options.client)))
    if options.server.exists():
        told.update(status.of_server(Server.read(options.server)))
    if not told:
        raise BackupError("this host is neither backed up nor keeps backups")
    return told


def listed(options: argparse.Namespace) -> Any:
    """Says the same, and which backups of this host there are."""
    told = known(options)
    return {**told, **snapshots(Settings.read(options.client))} if options.client.exists() else told


def snapshots(configuration: Settings) -> dict[str, Any]:
    """Which there are, or why that is not known."""
    try:
        found = Repository.of(configuration, patience=ANSWER).snapshots()
    except BackupError as error:
        # What is known here is told nevertheless.
        return {"snapshots": None, "problem": str(error)}
    told = [{name: each.get(name) for name in ("id", "time", "tags")} for each in found]
    return {"snapshots": told, "problem": None}


def snapshot_name(text: str) -> str:
    """What a snapshot can be called.

    Raises:
        argparse.ArgumentTypeError: When none can be called so.
    """
    if not re.fullmatch(r"latest|[0-9a-f]{4,64}", text):
        raise argparse.ArgumentTypeError("latest, or the beginning of a snapshot's identifier")
    return text


COMMANDS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "init": initialise,
    "schedule": schedule,
    "run": run,
    "release": release,
    "list": listed,
    "status": known,
    "restore": restore,
    "check": check,
    "ledger": ledger,
    "users": users,
    "retain": retain,
    "drill": drill,
    "open-databases": open_databases,
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="pryv-backup", description=(__doc__ or "").splitlines()[0])
    top.add_argument("--configuration", dest="client", metavar="FILE", type=Path, default=CLIENT)
    top.add_argument("--server-configuration", dest="server", metavar="FILE", type=Path, default=SERVER)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    found = {}
    for name, function in COMMANDS.items():
        found[name] = commands.add_parser(name, help=(function.__doc__ or "").rstrip("."))
        found[name].set_defaults(function=function)
    smaller = "take it even if much is gone since the last one"
    found["run"].add_argument("--accept-smaller", action="store_true", help=smaller)
    found["retain"].add_argument("--accept-smaller", action="append", default=[], metavar="HOST", help=smaller)
    wrong = "forget the snapshots whose dates cannot be, since its clock was wrong"
    found["retain"].add_argument("--forget-misdated", action="append", default=[], metavar="HOST", help=wrong)
    found["restore"].add_argument("--snapshot", type=snapshot_name, default="latest")
    found["restore"].add_argument("--into", type=Path, required=True, help="a folder on the data's disk")
    found["restore"].add_argument("--accept-older-images", action="store_true", help="whatever wrote it")
    found["check"].add_argument("folder", type=Path)
    found["users"].add_argument("folder", type=Path, nargs="?")
    found["drill"].add_argument("hosts", metavar="HOST", nargs="*")
    return top


def stop(*_: object) -> None:
    """Ends a run in an orderly way when it is told to.

    Raises:
        StoppedError: Always.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise StoppedError("it was stopped")


def main() -> int:
    """Does what the command line says; 1 when that failed."""
    options = parser().parse_args()
    signal.signal(signal.SIGTERM, stop)
    try:
        said = options.function(options)
    except (BackupError, OSError, sqlite3.Error) as error:
        print(f"pryv-backup: {error}", file=sys.stderr)
        return 1
    print(json.dumps(said))
    return 0 if not isinstance(said, dict) or said.get("ok", True) else 1


if __name__ == "__main__":
    sys.exit(main())
