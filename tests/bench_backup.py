"""Measures backups of a core beside restic alone, on the same files and to the same server; run on the core, as root.

Usage: python3 bench_backup.py [GIGABYTES [FILES]]        default: 2 24000

A sixth of the files are SQLite's, which a backup copies while the core stands still, the others attachments. Prints
JSON: by step, the seconds that restic takes and those of the unit or program, and of backups the seconds of the pause.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

DATA = Path("/srv/pryv/core")
SOURCES = ("mongodb", "influxdb", "data")
USER = "bench"
RESTORED = Path("/srv/pryv/backup/bench")
UNIT = ["systemctl", "start", "--wait", "pryv-backup.service"]
#: Of a database.
SQLITE_BYTES = 20_000


def fill(size: int, files: int) -> None:
    """Makes files as a core has them, of random content.

    Args:
        size: In bytes, of all.
        files: How many.
    """
    databases = files // 6
    users, attachments = DATA / "data/users" / USER, DATA / "data/attachments" / USER
    users.mkdir()
    with sqlite3.connect(users / "0.sqlite") as database:
        database.execute(f"CREATE TABLE t AS SELECT randomblob({SQLITE_BYTES})")
    for number in range(1, databases):
        shutil.copyfile(users / "0.sqlite", users / f"{number}.sqlite")
    each = (size - databases * SQLITE_BYTES) // (files - databases)
    for number in range(files - databases):
        path = attachments / f"{number // 100}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(each))


def seconds(command: Sequence[str]) -> float:
    """How long a command takes, on a machine that is not still writing what the one before it has left."""
    os.sync()
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def pause() -> float:
    """For how long the core stood still in its newest backup, in seconds."""
    last = json.loads(Path("/var/lib/pryv/backup/last.json").read_text())
    return float(last["pause_seconds"])


def main() -> None:
    """Measures first restic, then what the toolkit has, step by step."""
    size, files = float(sys.argv[1]) if len(sys.argv) > 1 else 2, int(sys.argv[2]) if len(sys.argv) > 2 else 24_000
    fill(int(size * 1e9), files)
    # A folder below its own, which it may have at the server. As an argument, all processes would see its password.
    place = Path("/run/bench-repository")
    place.touch(mode=0o600)
    place.write_text(f"{Path('/etc/pryv/backup/repository').read_text().strip()}bench/")
    own = [f"--repository-file={place}", "--password-file=/etc/pryv/backup/password", "--cache-dir=/var/cache/bench"]
    restic = ["restic", *own]
    subprocess.run([*restic, "init"], check=True, stdout=subprocess.DEVNULL)
    alone = [*restic, "backup", *(str(DATA / source) for source in SOURCES)]
    found: dict[str, dict[str, float]] = {}
    for step in ("first backup", "nothing changed"):
        found[step] = {"restic": seconds(alone), "own": seconds(UNIT), "pause": pause()}
    # Restores leave what they found: no file is there twice at a time.
    found["restore"] = {"restic": seconds([*restic, "restore", "latest", "--target", str(RESTORED)])}
    shutil.rmtree(RESTORED)
    found["restore"]["own"] = seconds(["pryv-backup", "restore", "--into", str(RESTORED)])
    shutil.rmtree(RESTORED)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
