"""A backup, from the instant to what is restored: with restic, with SQLite while it is written, with what is killed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from tests.unit.backup_host import (
    INDEX,
    OPERATOR,
    PASSWORD,
    PROGRAM,
    USERS,
    Host,
    core,
    initialised,
    running,
    user_folder,
    write,
)

IDLE = "import time; print(1, flush=True); time.sleep(600)"
#: Writes a file, then a row in one database, then one in another, as fast as it can.
WRITER = """
import sqlite3, sys
file = open(sys.argv[1], "ab", buffering=0)
one, other = (sqlite3.connect(path, isolation_level=None) for path in sys.argv[2:])
for database in (one, other):
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE rows (number INTEGER)")
number = 0
while True:
    number += 1
    file.write(b"x")
    one.execute("INSERT INTO rows VALUES (?)", (number,))
    other.execute("INSERT INTO rows VALUES (?)", (number,))
    if number == 100:
        print("ready", flush=True)
"""


def contents(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, time and content of all files and folders that a backup has."""
    found = {}
    for path in sorted(root.glob("core/**/*")):
        name = str(path.relative_to(root))
        if not path.name.endswith("-shm") and "previews" not in name:
            status = path.lstat()
            held = path.read_bytes() if path.is_file() else b""
            found[name] = (stat.S_IMODE(status.st_mode), status.st_mtime_ns, held)
    return found


def wait(condition: object, what: str) -> None:
    """Waits until something is so."""
    assert callable(condition)
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("schedule", "hours"),
    [
        ("*-*-* 01:00:00", 26),
        ("hourly", 2),
        ("*-*-* 00/6:00", 7),
        # From Friday to Monday, by night.
        ("Mon..Fri *-*-* 08..18:00", 62 + 62 / 12),
        ("Sun *-*-* 03:00", 7 * 26),
        # What systemd does not know never starts, which is an alert after a day.
        ("whenever", 26),
    ],
)
def test_schedule_says_how_old_a_backup_may_be(schedule: str, hours: float, tmp_path: Path) -> None:
    host = core(tmp_path, schedule=schedule)
    assert host.said("status")["oldest_seconds"] == round(hours * 3600)


def test_what_watches_backups_finds_how_old_they_may_be_and_since_when(tmp_path: Path) -> None:
    host = core(tmp_path, schedule="hourly")
    noted = host.said("schedule")
    assert noted == host.state("schedule.json")
    assert noted["oldest_seconds"] == 2 * 3600
    assert abs(datetime.fromisoformat(noted["since"]).timestamp() - time.time()) < 60
    host.configure(schedule="daily")
    time.sleep(1)
    assert host.said("schedule") == {"oldest_seconds": 26 * 3600, "since": noted["since"]}


def test_what_was_is_what_is_restored(tmp_path: Path) -> None:
    host = initialised(core(tmp_path))
    (host.data / "core/mongodb/collection-0.wt").chmod(0o640)
    os.utime(host.data / "core/mongodb/collection-0.wt", ns=(1, 1_234_567_890_123_456_789))
    before = contents(host.data)
    done = host.said("run")
    assert (done["ok"], done["users"], done["attachments"]) == (True, 3, 4)
    assert done == host.state("last.json")
    assert not host.work.exists()
    told = host.said("restore", "--into", host.data / "restored")
    assert (told["host"], told["users"], told["images"][0]["id"]) == ("co1", 3, "sha256:1")
    # Folders above what is copied get the time of their copy.
    above = {"core", "core/data"}
    restored = contents(host.data / "restored")
    assert {path: kept for path, kept in restored.items() if path not in above} == {
        path: kept for path, kept in before.items() if path not in above
    }
    assert "core/data/previews" not in {str(path) for path in restored}
    assert host.said("users", host.data / "restored") == host.said("users")
    assert host.said("users")[0] == {"username": "user0", "id": "cuser0"}


def test_a_second_backup_stores_what_changed(tmp_path: Path) -> None:
    """The copy's inodes and the links' ctimes are new each time."""
    host = initialised(core(tmp_path))
    (host.data / "core/mongodb/large.wt").write_bytes(os.urandom(3_000_000))
    assert host.said("run")["added_bytes"] > 3_000_000
    assert host.said("run")["added_bytes"] < 100_000
    listed = json.loads(host.restic("snapshots", "--json"))
    assert listed[1]["parent"] == listed[0]["id"]
    told = host.said("list")
    assert [each["tags"] for each in told["snapshots"]] == [["data"], ["data"]]
    assert (told["problem"], told["last"]["ok"]) == (None, True)


def test_both_passwords_open_it(tmp_path: Path) -> None:
    host = core(tmp_path)
    assert host.said("init", feed=OPERATOR) == {"changed": True}
    assert host.said("list")["initialised"]
    assert host.said("init", feed=OPERATOR) == {"changed": False}
    # The one that fits is tried first, from now on.
    (key,) = (each["id"] for each in json.loads(host.restic("key", "list", "--json")) if each["current"])
    assert host.said("list")["snapshots"] == []
    assert host.calls.endswith(f"hint={key}\n")
    (host.root / "password").write_text(OPERATOR)
    assert host.said("list")["snapshots"] == []
    (host.root / "password").write_text("another-password")
    assert "wrong password" in host.said("list")["problem"]
    # It was changed: the operator's lets it in. With neither, nothing is.
    assert "wrong password" in host.refusal("init", feed="of nobody")
    assert host.said("init", feed=OPERATOR) == {"changed": True}
    assert host.said("list")["snapshots"] == []
    assert host.said("init", feed=OPERATOR) == {"changed": False}


def test_nothing_is_torn(tmp_path: Path) -> None:
    """Between a file and two databases that are written all the time, with much to copy in between."""
    host = initialised(core(tmp_path))
    for number in range(1500):
        write(user_folder(host, f"c{number:06}") / "account-1.0.0.sqlite", "")
    first, second = user_folder(host, "c000000") / "audit-1.0.0.sqlite", user_folder(host, "c001499") / "audit.sqlite"
    journal = host.data / "core/mongodb/journal/log"
    with running(WRITER, journal, first, second) as writer:
        host.container("core", writer)
        for run in range(3):
            assert host.said("run")["pause_seconds"] > 0
            assert host.paused == []
            into = host.data / f"restored-{run}"
            host.said("restore", "--into", into)
            numbers = []
            for path in (first, second):
                with closing(sqlite3.connect(into / path.relative_to(host.data))) as database:
                    rows = [row[0] for row in database.execute("SELECT number FROM rows")]
                assert rows == list(range(1, len(rows) + 1))
                numbers.append(len(rows))
            size = (into / journal.relative_to(host.data)).stat().st_size
            assert size - 1 <= numbers[0] <= size
            assert numbers[0] - 1 <= numbers[1] <= numbers[0]
    assert f"--on-active=60 --timer-property=AccuracySec=100ms {PROGRAM}" in host.calls


def test_a_pause_ends_whatever_happens_to_the_program(tmp_path: Path) -> None:
    """It hangs: the timer lets the containers go on, and what was copied is no backup."""
    host = initialised(core(tmp_path, pause_seconds=1))
    host.signal_at("pause", "STOP")
    with running(IDLE) as container:
        host.container("core", container)
        with host.start("run") as process:
            wait(lambda: host.paused, "never paused")
            wait(lambda: not host.paused, "never unpaused")
            # The timer leaves a run that is going on its copy.
            assert host.work.exists()
            process.send_signal(signal.SIGCONT)
            errors = process.communicate()[1]
        assert process.returncode == 1
        assert "containers ran during the copy" in errors
        assert not host.work.exists()
        assert (host.state("last.json")["ok"], host.said("list")["snapshots"]) == (False, [])


@pytest.mark.parametrize("action", ["timer", "pause", "unpause", "backup"])
def test_after_a_kill_the_next_run_is_whole(action: str, tmp_path: Path) -> None:
    host = initialised(core(tmp_path, pause_seconds=1, unlock=True))
    host.said("run")
    host.signal_at(action, "KILL")
    with running(IDLE) as container:
        host.container("core", container)
        with host.start("run") as process:
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        wait(lambda: not host.paused and not (host.root / "timer").exists(), "paused, and no timer")
        if action == "backup":
            (lock,) = (host.repository / "locks").iterdir()
            owner = json.loads(host.restic("cat", "lock", lock.name))["pid"]
            wait(lambda: not Path(f"/proc/{owner}").exists(), "restic lives on")
        (host.root / f"at-{action}").unlink()
        write(host.data / "core/mongodb/after", "the kill")
        assert host.said("run")["ok"]
        assert host.paused == []
    assert not list((host.repository / "locks").iterdir())
    host.said("restore", "--into", host.data / "restored")
    assert (host.data / "restored/core/mongodb/after").read_text() == "the kill"
    assert len(host.said("list")["snapshots"]) == 2


def test_locks_that_nobody_holds_do_not_stop_the_next_run(tmp_path: Path) -> None:
    """Those that keep others out."""
    host = initialised(core(tmp_path))
    host.said("run")
    slow = ["restic", f"--repo={host.repository}", "--no-cache", "--limit-download=1", "check", "--read-data"]
    with subprocess.Popen(slow, env={**os.environ, "RESTIC_PASSWORD": PASSWORD}, stdout=subprocess.DEVNULL) as other:
        wait(lambda: list((host.repository / "locks").glob("?" * 64)), "no lock")
        other.kill()
    assert host.said("run")["ok"]
    assert host.calls.count(" unlock") == 1
    assert not list((host.repository / "locks").iterdir())


@pytest.mark.parametrize("unlock", [False, True])
def test_locks_are_looked_for_where_nobody_else_does(tmp_path: Path, *, unlock: bool) -> None:
    """It takes restic a second, and a backup host does it each day."""
    host = initialised(core(tmp_path, unlock=unlock))
    host.said("run")
    assert host.calls.count(" unlock") == unlock


def test_what_is_paused_is_released_after_a_kill(tmp_path: Path) -> None:
    """As systemd does when the unit has ended, however it did."""
    host = initialised(core(tmp_path))
    host.signal_at("pause", "KILL")
    with running(IDLE) as container:
        host.container("core", container)
        with host.start("run") as process:
            process.communicate()
        assert host.paused == ["core"]
        assert host.work.exists()
        assert host.said("release") == {"unpaused": True, "removed": True}
        assert host.paused == []
        assert not host.work.exists()
        assert host.said("release") == {"unpaused": False, "removed": True}


def test_a_run_that_is_told_to_stop_tidies_up(tmp_path: Path) -> None:
    host = initialised(core(tmp_path))
    host.signal_at("pause", "TERM")
    with running(IDLE) as container:
        host.container("core", container)
        assert "it was stopped" in host.refusal("run")
        assert host.paused == []
    assert not host.work.exists()
    assert host.state("last.json")["error"] == "it was stopped"


def test_a_disk_that_runs_full_ends_the_pause(tmp_path: Path) -> None:
    """Of files, not of bytes: the look at free space did not see it coming."""
    host = initialised(core(tmp_path))
    host.data.rename(host.root / "original")
    host.data.mkdir()
    script = (
        'mount -t tmpfs -o size=200m tmpfs "$1" && cp -a "$2"/. "$1" || exit 9\n'
        'mount -o remount,nr_inodes=$(($(find "$1" | wc -l) + 8)) "$1" || exit 9\n'
        '"$3" --configuration="$4" run; code=$?\n'
        '[ -e "$1/backup" ] && [ ! -e "$1/backup/work" ] && exit $code'
    )
    with running(IDLE) as container:
        host.container("core", container)
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
            + [str(path) for path in (host.data, host.root / "original", PROGRAM, host.root / "backup.json")],
            env=host.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        assert "No space left on device" in done.stderr
        assert "docker pause" in host.calls
        assert host.paused == []
    assert not host.state("last.json")["ok"]


def test_one_run_at_a_time(tmp_path: Path) -> None:
    host = initialised(core(tmp_path))
    host.said("run")
    with (host.root / "state" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another run is going on" in host.refusal("run")
        assert host.said("release") == {"unpaused": False, "removed": False}
    assert host.state("last.json")["ok"]


def test_no_source_is_no_backup(tmp_path: Path) -> None:
    host = initialised(core(tmp_path))
    host.configure(mount=True)
    assert "is not mounted" in host.refusal("run")
    assert "is not mounted" in host.state("last.json")["error"]
    host.configure(mount=False)
    shutil.move(host.data / INDEX, host.root)
    assert INDEX in host.refusal("run")
    assert host.said("list")["snapshots"] == []
    assert "docker pause" not in host.calls


def test_an_emptied_platform_is_not_taken_for_the_platform(tmp_path: Path) -> None:
    host = initialised(core(tmp_path, users=10))
    host.said("run")
    for number in range(5):
        shutil.rmtree(user_folder(host, f"cuser{number}"))
    assert "where the last backup has 26" in host.refusal("run")
    # The comparison is with a backup that was made.
    assert "where the last backup has 26" in host.refusal("run")
    assert host.said("run", "--accept-smaller")["files"] == 16
    assert host.said("run")["files"] == 16


def test_what_restic_could_not_read_is_an_error(tmp_path: Path) -> None:
    host = initialised(core(tmp_path))
    (host.root / "restic-code").write_text("3")
    assert "could not read everything" in host.refusal("run")
    assert not host.state("last.json")["ok"]


def test_without_docker_there_is_no_copy(tmp_path: Path) -> None:
    host = initialised(core(tmp_path))
    (host.root / "docker-fails").touch()
    assert "Cannot connect to the Docker daemon" in host.refusal("run")
    assert host.said("list")["snapshots"] == []


def delete(host: Host, *names: str) -> None:
    """Takes users out of the index, as a core does."""
    with closing(sqlite3.connect(host.data / INDEX)) as database:
        database.executemany("DELETE FROM id4name WHERE username = ?", [[name] for name in names])
        database.commit()


def test_deleted_users_are_known_outside_older_backups(tmp_path: Path) -> None:
    host = initialised(core(tmp_path, users=10))
    host.said("run")
    assert host.said("ledger") == []
    delete(host, "user3")
    host.said("run")
    delete(host, "user4")
    host.said("run")
    assert [entry["id"] for entry in host.said("ledger")] == ["cuser3", "cuser4"]
    host.said("restore", "--into", host.data / "restored")
    assert json.loads((host.data / "restored/ledger.json").read_text()) == host.said("ledger")
    # A new machine knows what the repository knows.
    (host.root / "state/ledger.json").unlink()
    delete(host, "user5")
    host.said("run")
    assert [entry["id"] for entry in host.said("ledger")] == ["cuser3", "cuser4", "cuser5"]
    # Nothing new, no further snapshot.
    host.said("run")
    assert [each["tags"] for each in host.said("list")["snapshots"]].count(["ledger"]) == 3


def test_users_that_an_older_backup_lacks_were_not_deleted(tmp_path: Path) -> None:
    host = initialised(core(tmp_path, users=10))
    host.said("run")
    with closing(sqlite3.connect(host.data / INDEX)) as database:
        database.execute("INSERT INTO id4name VALUES ('late', 'clate')")
        database.commit()
    host.said("run")
    oldest = host.said("list")["snapshots"][0]["id"]
    host.said("restore", "--snapshot", oldest[:12], "--into", host.data / "restored")
    shutil.rmtree(host.data / USERS)
    (host.data / "restored" / USERS).rename(host.data / USERS)
    host.said("run")
    assert host.said("ledger") == []


def test_no_secret_is_seen(tmp_path: Path) -> None:
    """Neither in arguments, which everybody on a host may read, nor in what is said."""
    host = initialised(core(tmp_path, environment={"AWS_SECRET_ACCESS_KEY": "key-of-s3"}))
    host.said("run")
    told = host.calls + json.dumps(host.said("list"))
    with closing(socket.socket()) as server:
        # Nobody answers there.
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        (host.root / "address").write_text(f"rest:http://co1:p%2Fss@127.0.0.1:{port}/co1/")
        problem = host.said("list")["problem"]
    # Newer ones of restic's try for a while.
    assert "connection refused" in problem or "did not end within 60 s" in problem
    told += problem + host.calls
    for secret in (PASSWORD, OPERATOR, "p%2Fss", "p/ss", "key-of-s3"):
        assert secret not in told
    for path in (host.root / "state").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_restoring_harms_nothing(tmp_path: Path) -> None:
    host = initialised(core(tmp_path))
    host.said("run")
    (host.data / "full").mkdir()
    write(host.data / "full/file", "kept")
    (host.data / "link").symlink_to(host.data / "backup")
    for into, said in (
        (host.data / "full", "is not empty"),
        (host.data / "link", "is not empty"),
        (Path("/proc/restored"), "is not on the file system"),
        (Path("restored"), "its parent folder is not there"),
        (host.data / "no/restored", "its parent folder is not there"),
    ):
        assert said in host.refusal("restore", "--into", into)
    assert (host.data / "full/file").read_text() == "kept"
    assert "no snapshots are called so" in host.refusal("restore", "--snapshot", "abcd1234", "--into", host.data / "r")
    assert not (host.data / "r").exists()


@pytest.mark.parametrize(
    ("there", "here", "older"),
    [
        ("1.9.10", "1.9.9", True),
        ("1.9.10", "1.9.10", False),
        ("1.9", "1.9.1", False),
        ("v2.0-rc1", "1.9.3", True),
        ("latest", "1.9.3", False),
        ("1.9.3", "latest", False),
    ],
)
def test_what_newer_images_wrote_is_not_restored_for_older_ones(
    there: str, here: str, older: bool, tmp_path: Path
) -> None:
    host = initialised(core(tmp_path))
    (host.root / "tag").write_text(there)
    host.said("run")
    (host.root / "tag").write_text(here)
    into = host.data / "restored"
    if older:
        assert f"pryv/core is {here} here and was {there}" in host.refusal("restore", "--into", into)
        assert not into.exists()
        host.said("restore", "--into", into, "--accept-older-images")
    else:
        host.said("restore", "--into", into)
    assert (into / INDEX).exists()


def test_a_new_and_empty_machine_is_not_backed_up_over_the_old_one(tmp_path: Path) -> None:
    """Its newest backup would be what a restore takes."""
    host = initialised(core(tmp_path, users=5))
    host.said("run")
    remembered = host.root / "state/users.json"
    remembered.unlink()
    delete(host, *(f"user{number}" for number in range(5)))
    assert "0 users where the last backup has 5" in host.refusal("run")
    # What was restored may be smaller: whoever restored it says so.
    remembered.write_text("{}")
    assert host.said("run")["ok"]
