"""A host that is backed up, as far as a backup can tell: its data, its containers, its systemd; restic is real."""

from __future__ import annotations

import atexit
import base64
import functools
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES128, AES256
from cryptography.hazmat.primitives.poly1305 import Poly1305

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAM = CHECKOUT / "roles/backup/templates/root/usr/local/sbin/pryv-backup"
USERS = "core/data/users"
INDEX = f"{USERS}/user-index.db"
PASSWORD, OPERATOR = "host-password-1", "operator-password-2"

# Containers are processes: one file with a process's number for each; paused is stopped. A file `at-ACTION` holds a
# signal that the backup's own process gets after that action.
DOCKER = """#!/bin/sh
cd "$FAKE_HOST/containers" || exit 1
echo "docker $*" >>../calls
[ ! -e ../docker-fails ] || { echo "Cannot connect to the Docker daemon" >&2; exit 1; }
action=$1; shift
case "$action $*" in
"ps "*"{{.Image}}"*) echo pryv/core:1.9 ;;
"ps "*)
    for file in *.pid; do
        [ -e "$file" ] || continue
        name=${file%.pid}
        if [ -e "$name.paused" ]; then echo "$name Up 2 hours (Paused)"; else echo "$name Up 2 hours"; fi
    done ;;
"pause "*)
    for name; do
        pid=$(cat "$name.pid")
        kill -STOP "$pid" || exit 1
        until grep -q '^State:.T' "/proc/$pid/status"; do :; done
        touch "$name.paused"
    done ;;
"unpause "*)
    for name; do rm "$name.paused"; kill -CONT "$(cat "$name.pid")"; done ;;
"image "*)
    tag=$(cat ../tag 2>/dev/null || echo 1.9.3)
    echo '[{"Id": "sha256:1", "RepoTags": ["pryv/core:'"$tag"'"], "RepoDigests": ["pryv/core@sha256:2"]}]' ;;
esac
[ ! -e "../at-$action" ] || kill "-$(cat "../at-$action")" $PPID
"""
# The real one, whose arguments are written down. With a file `at-backup`, program and restic get its signal as soon as
# restic holds its lock, as all of a unit get it from systemd; restic is slow then, so that it cannot be done before.
# With one `restic-code` it ends with that exit code. With one `forgets-nothing` it says that it forgot, no more.
RESTIC = """#!/bin/sh
echo "restic $* hint=$RESTIC_KEY_HINT" >>"$FAKE_HOST/calls"
case "$*" in
*" backup "*)
    if [ -e "$FAKE_HOST/at-backup" ]; then
        set -- "$@" --limit-upload=1
        # Before it has its name, it is a file that restic is still writing.
        (until ls "$FAKE_HOST/repository/locks" | grep -qE '^[0-9a-f]{64}$'; do :; done
        kill "-$(cat "$FAKE_HOST/at-backup")" $PPID $$) </dev/null >/dev/null 2>&1 &
    fi
    if [ -e "$FAKE_HOST/restic-code" ]; then "$REAL_RESTIC" "$@"; exit "$(cat "$FAKE_HOST/restic-code")"; fi ;;
*" forget "*) [ ! -e "$FAKE_HOST/forgets-nothing" ] || set -- "$@" --dry-run ;;
esac
exec "$REAL_RESTIC" "$@"
"""
# One timer at a time; what it starts is what the real one would.
SYSTEMD_RUN = """#!/bin/sh
echo "systemd-run $*" >>"$FAKE_HOST/calls"
[ ! -e "$FAKE_HOST/timer" ] || { echo "Unit already exists" >&2; exit 1; }
for word; do
    case "$word" in
    --on-active=*) seconds=${word#*=}; shift ;;
    --*) shift ;;
    *) break ;;
    esac
done
(sleep "$seconds"; rm "$FAKE_HOST/timer"; exec "$@") </dev/null >"$FAKE_HOST/timer-said" 2>&1 &
echo $! >"$FAKE_HOST/timer"
[ ! -e "$FAKE_HOST/at-timer" ] || kill "-$(cat "$FAKE_HOST/at-timer")" $PPID
"""
SYSTEMCTL = """#!/bin/sh
echo "systemctl $*" >>"$FAKE_HOST/calls"
[ "$1" != show ] || { echo "NextElapseUSecRealtime=Sun 2026-11-29 02:04:40 $TZ"; exit; }
[ -e "$FAKE_HOST/timer" ] || exit 5
kill "$(cat "$FAKE_HOST/timer")"
rm "$FAKE_HOST/timer"
"""


def make_database(path: Path, *statements: str, rows: Sequence[Sequence[str]] = ()) -> None:
    """A database in WAL mode whose log is not yet in it, as a program leaves it that has it open.

    Args:
        path: Where it will be.
        statements: What is done in it; the last one once for each of the rows.
        rows: Values for the last statement.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    side = path.with_name("side.db")
    with closing(sqlite3.connect(side)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for statement in statements[:-1]:
            connection.execute(statement)
        connection.executemany(statements[-1], rows)
        connection.commit()
        for kind in ("", "-wal", "-shm"):
            shutil.copyfile(f"{side}{kind}", f"{path}{kind}")
    side.unlink()


def weaken(repository: Path, password: str) -> None:
    """Makes the one key of a repository quick to open: restic takes half a second for each, so that nobody tries many.

    In restic's key files, the master key is encrypted by AES-256-CTR and authenticated by Poly1305-AES, with keys that
    scrypt makes of the password.
    """
    (path,) = (repository / "keys").iterdir()
    key = json.loads(path.read_text())

    def derived(cost: int) -> tuple[bytes, bytes, bytes]:
        salt = base64.b64decode(key["salt"])
        memory = (1 << 20) + 256 * cost * key["r"]
        found = hashlib.scrypt(password.encode(), salt=salt, n=cost, r=key["r"], p=key["p"], maxmem=memory, dklen=64)
        return found[:32], found[32:48], found[48:]

    def stream(secret: bytes, nonce: bytes, text: bytes) -> bytes:
        return Cipher(AES256(secret), modes.CTR(nonce)).encryptor().update(text)

    data = base64.b64decode(key["data"])
    nonce, master = data[:16], stream(derived(key["N"])[0], data[:16], data[16:-16])
    key.update(N=2)
    secret, mac, rest = derived(2)
    encrypted = stream(secret, nonce, master)
    once = Cipher(AES128(mac), modes.CBC(bytes(16))).encryptor().update(nonce)
    key["data"] = base64.b64encode(nonce + encrypted + Poly1305.generate_tag(rest + once, encrypted)).decode()
    text = json.dumps(key).encode()
    path.unlink()
    path.with_name(hashlib.sha256(text).hexdigest()).write_bytes(text)


class Host:
    """A host below a folder.

    Attributes:
        root: All that is of the host.
        data: Its data.
        repository: Where its backups go.
    """

    def __init__(self, root: Path, **settings: object) -> None:
        self.root, self.data, self.repository = root, root / "data", root / "repository"
        self.data.mkdir(parents=True)
        (root / "containers").mkdir()
        (root / "programs").mkdir()
        for name, text in {
            "docker": DOCKER,
            "restic": RESTIC,
            "systemd-run": SYSTEMD_RUN,
            "systemctl": SYSTEMCTL,
        }.items():
            (root / "programs" / name).write_text(text)
            (root / "programs" / name).chmod(0o755)
        (root / "password").write_text(PASSWORD)
        (root / "address").write_text(f"{self.repository}\n")
        self.settings: dict[str, Any] = {
            "host": "co1",
            "data": str(self.data),
            "mount": False,
            "repository_file": str(root / "address"),
            "password_file": str(root / "password"),
            "environment": {},
            "project": "pryv-core",
            "projects": ["pryv-core"],
            "copied": ["core/mongodb", "core/influxdb", USERS],
            "linked": ["core/data/attachments"],
            "required": [INDEX, "core/mongodb", "core/influxdb"],
            "redis": None,
            "pause_seconds": 60,
            "shrink_percent": 20,
            "upload_kib": 0,
            "state": str(root / "state"),
            **settings,
        }
        self.configure()

    def configure(self, **settings: object) -> None:
        """Writes the configuration, with what is to be different in it."""
        self.settings.update(settings)
        (self.root / "backup.json").write_text(json.dumps(self.settings))

    @property
    def environment(self) -> Mapping[str, str]:
        """With this host's programs in front of the machine's."""
        path = f"{self.root / 'programs'}{os.pathsep}{os.environ['PATH']}"
        restic = str(shutil.which("restic"))
        return {
            **os.environ,
            "PATH": path,
            "FAKE_HOST": str(self.root),
            "REAL_RESTIC": restic,
            "RESTIC_CACHE_DIR": str(self.root / "cache"),
        }

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """The program, started."""
        command = [PROGRAM, f"--configuration={self.root / 'backup.json'}", *arguments]
        return subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def said(self, *arguments: str | Path, feed: str = "") -> Any:
        """What the program says when all is well."""
        with self.start(*arguments) as process:
            output, errors = process.communicate(feed)
        assert process.returncode == 0, errors
        return json.loads(output)

    def refusal(self, *arguments: str | Path, feed: str = "") -> str:
        """What it says when something is wrong."""
        with self.start(*arguments) as process:
            output, errors = process.communicate(feed)
        assert process.returncode == 1, output + errors
        assert "Traceback" not in errors
        return errors

    def restic(self, *arguments: str, folder: Path | None = None) -> str:
        """What restic says of the repository."""
        command = ["restic", f"--repo={self.repository}", f"--password-file={self.root / 'password'}", "--no-cache"]
        environment = {**os.environ, "TZ": "UTC"}
        return subprocess.run(
            [*command, *arguments], check=True, capture_output=True, text=True, cwd=folder, env=environment
        ).stdout

    def container(self, name: str, process: subprocess.Popen[Any]) -> None:
        """Lets a process be a container."""
        (self.root / "containers" / f"{name}.pid").write_text(f"{process.pid}\n")

    @property
    def calls(self) -> str:
        """The programs that were run, with their arguments."""
        return (self.root / "calls").read_text()

    def signal_at(self, action: str, name: str) -> None:
        """Has a signal come after an action: `pause`, `unpause`, `timer`, `backup`."""
        (self.root / f"at-{action}").write_text(name)

    @property
    def paused(self) -> list[str]:
        """Names of containers that are paused."""
        return sorted(path.stem for path in (self.root / "containers").glob("*.paused"))

    @property
    def work(self) -> Path:
        """Where the copy is while a backup is made."""
        return self.data / "backup" / "work"

    def state(self, name: str) -> Any:
        """A file of what is remembered between runs."""
        return json.loads((self.root / "state" / name).read_text())


def core(root: Path, users: int = 3, **settings: object) -> Host:
    """A core with users: each with an account, an audit trail and an attachment."""
    host = Host(root, **settings)
    for path in (
        "core/mongodb/WiredTiger",
        "core/mongodb/collection-0.wt",
        "core/mongodb/journal/WiredTigerLog.1",
        "core/influxdb/meta/meta.db",
        "core/data/attachments/old",
        "core/data/previews/p",
    ):
        write(host.data / path, path)
    names = [f"user{number}" for number in range(users)]
    make_database(
        host.data / INDEX,
        "CREATE TABLE id4name (username TEXT PRIMARY KEY, userId TEXT NOT NULL)",
        "INSERT INTO id4name VALUES (?, ?)",
        rows=[(name, f"c{name}") for name in names],
    )
    for name in names:
        folder = user_folder(host, f"c{name}")
        account = folder / "account-1.0.0.sqlite"
        make_database(account, "CREATE TABLE passwords (hash TEXT)", "INSERT INTO passwords VALUES (?)", rows=[(name,)])
        write(folder / "attachments" / "event" / "file", name * 100)
    return host


def user_folder(host: Host, key: str) -> Path:
    """Where a core keeps a user's files."""
    return host.data / USERS / key[-1] / key[-2] / key[-3] / key


@functools.cache
def repository() -> Path:
    """An empty repository that is quick to open."""
    folder = Path(tempfile.mkdtemp(prefix="repository-"))
    atexit.register(shutil.rmtree, folder)
    (folder / "password").write_text(PASSWORD)
    command = ["restic", f"--repo={folder / 'made'}", f"--password-file={folder / 'password'}", "--no-cache", "init"]
    subprocess.run(command, check=True, capture_output=True)
    weaken(folder / "made", PASSWORD)
    return folder / "made"


def initialised(host: Host) -> Host:
    """The host, with a repository."""
    shutil.copytree(repository(), host.repository)
    return host


def write(path: Path, text: str) -> None:
    """A file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@contextmanager
def running(source: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A program of Python's that says something when it is ready; it is killed afterwards."""
    with subprocess.Popen([sys.executable, "-c", source, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()
