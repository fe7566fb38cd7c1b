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
from pathlib import Path
from typing import Any

from pryv_backup import backup, databases, manifest, settings
from pryv_backup.problem import BackupError
from pryv_backup.repository import Repository, address_digest
from pryv_backup.settings import Settings


def initialise(configuration: Settings, _: argparse.Namespace) -> Any:
    """Makes the repository, with the operator's password from standard input as a second one."""
    password = sys.stdin.read().strip()
    if not password:
        raise BackupError("the operator's password is expected on standard input")
    changed = Repository.of(configuration).initialise(password)
    configuration.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.write_text(configuration.state / "initialised", address_digest(configuration))
    return {"changed": changed}


def run(configuration: Settings, options: argparse.Namespace) -> Any:
    """Makes a backup."""
    return backup.run(configuration, accept_smaller=options.accept_smaller)


def release(configuration: Settings, _: argparse.Namespace) -> Any:
    """Lets containers go on that a killed run left paused."""
    return backup.release(configuration)


def listed(configuration: Settings, _: argparse.Namespace) -> Any:
    """Says what the last run did and which snapshots there are."""
    told: dict[str, Any] = {
        "initialised": settings.read_text(configuration.state / "initialised") == address_digest(configuration),
        "last": settings.read_json(configuration.state / "last.json"),
        "snapshots": None,
        "problem": None,
    }
    try:
        found = Repository.of(configuration).snapshots()
    except BackupError as error:
        # What is known here is told nevertheless.
        return {**told, "problem": str(error)}
    return {**told, "snapshots": [{name: each.get(name) for name in ("id", "time", "tags")} for each in found]}


def restore(configuration: Settings, options: argparse.Namespace) -> Any:
    """Restores a snapshot into an empty folder."""
    return backup.restore(configuration, options.snapshot, options.into)


def check(_: Settings, options: argparse.Namespace) -> Any:
    """Holds a restored folder against its manifest."""
    return manifest.check(options.folder)


def ledger(configuration: Settings, _: argparse.Namespace) -> Any:
    """Says which users were deleted: what the repository knows, which is what is known here, or more."""
    return backup.stored_ledger(Repository.of(configuration))


def users(configuration: Settings, options: argparse.Namespace) -> Any:
    """Says which users a core, or a restored folder, has."""
    if configuration.user_index is None:
        raise BackupError("this host has no users")
    place = configuration.place / "users"
    found = databases.users(options.folder or configuration.data, configuration.user_index, place)
    return [{"username": name, "id": key} for name, key in sorted(found.items())]


def snapshot_name(text: str) -> str:
    """What a snapshot can be called.

    Raises:
        argparse.ArgumentTypeError: When none can be called so.
    """
    if not re.fullmatch(r"latest|[0-9a-f]{4,64}", text):
        raise argparse.ArgumentTypeError("latest, or the beginning of a snapshot's identifier")
    return text


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="pryv-backup", description=(__doc__ or "").splitlines()[0])
    top.add_argument("--configuration", type=Path, default=Path("/etc/pryv/backup/backup.json"))
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    found = {}
    for name, function in {
        "init": initialise,
        "run": run,
        "release": release,
        "list": listed,
        "restore": restore,
        "check": check,
        "ledger": ledger,
        "users": users,
    }.items():
        found[name] = commands.add_parser(name, help=(function.__doc__ or "").rstrip("."))
        found[name].set_defaults(function=function)
    smaller = "take it even if much is gone since the last one"
    found["run"].add_argument("--accept-smaller", action="store_true", help=smaller)
    found["restore"].add_argument("--snapshot", type=snapshot_name, default="latest")
    found["restore"].add_argument("--into", type=Path, required=True, help="a folder on the data's disk")
    found["check"].add_argument("folder", type=Path)
    found["users"].add_argument("folder", type=Path, nargs="?")
    return top


def stop(*_: object) -> None:
    """Ends a run in an orderly way when it is told to.

    Raises:
        BackupError: Always.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise BackupError("it was stopped")


def main() -> int:
    """Does what the command line says; 1 when that failed."""
    options = parser().parse_args()
    signal.signal(signal.SIGTERM, stop)
    try:
        said = options.function(Settings.read(options.configuration), options)
    except (BackupError, OSError, sqlite3.Error) as error:
        print(f"pryv-backup: {error}", file=sys.stderr)
        return 1
    print(json.dumps(said))
    return 0 if not isinstance(said, dict) or said.get("ok", True) else 1


if __name__ == "__main__":
    sys.exit(main())
