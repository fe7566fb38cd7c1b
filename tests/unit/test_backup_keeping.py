"""What a backup server does with others' repositories: real ones, with snapshots of many dates."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.unit.backup_host import PASSWORD, USERS, Host, core, initialised, write

DAY = timedelta(days=1)


class Server:
    """A backup server with the repositories of some hosts.

    Attributes:
        root: All that is of the server.
        hosts: The hosts that it keeps backups of.
    """

    def __init__(self, root: Path, *hosts: str, **settings: object) -> None:
        self.root = root
        self.hosts = {name: core(root / name, users=4, host=name) for name in hosts}
        for name, host in self.hosts.items():
            host.repository = root / "repositories" / name
            (host.root / "address").write_text(str(host.repository))
            initialised(host)
        found = {
            "repositories": str(root / "repositories"),
            "hosts": sorted(hosts),
            "passwords_file": str(root / "passwords.json"),
            "keep": {"within": "2d", "daily": 3, "weekly": 2},
            "keep_days": 35,
            "shrink_percent": 20,
            "scratch": str(root / "scratch"),
            "retain_state": str(root / "retain"),
            "drill_state": str(root / "drill"),
            **settings,
        }
        (root / "server.json").write_text(json.dumps(found))
        (root / "passwords.json").write_text(json.dumps(dict.fromkeys(hosts, PASSWORD)))

    def said(self, *arguments: str, well: bool = True) -> Any:
        """What the program says, and whether all was well."""
        with self._any().start(f"--server-configuration={self.root / 'server.json'}", *arguments) as process:
            output, errors = process.communicate()
        assert process.returncode == (0 if well else 1), errors
        assert PASSWORD not in output + errors + self._any().calls
        return json.loads(output)

    def _any(self) -> Host:
        return next(iter(self.hosts.values()))


def snapshot(host: Host, age: timedelta, users: int = 10, tag: str = "data", arrived: timedelta | None = None) -> str:
    """Makes a small snapshot that is so old, and arrived then; its identifier."""
    write(host.root / "small/manifest.json", json.dumps({"users": users, "files": 100, "bytes": 0}))
    before = kept(host)
    date = datetime.now(timezone.utc) - age
    host.restic("backup", f"--time={date:%F %T}", f"--tag={tag}", "--host=co1", ".", folder=host.root / "small")
    (made,) = kept(host) - before
    moment = time.time() - (age if arrived is None else arrived).total_seconds()
    os.utime(host.repository / "snapshots" / made, (moment, moment))
    return made


def kept(host: Host) -> set[str]:
    """The snapshots that are there."""
    return {path.name for path in (host.repository / "snapshots").iterdir()}


def test_what_is_old_is_forgotten(tmp_path: Path) -> None:
    server = Server(tmp_path, "co1")
    host = server.hosts["co1"]
    young = {snapshot(host, timedelta(hours=hours)) for hours in (1, 5, 9, 30)}
    for days in (3, 4, 20, 21, 60):
        snapshot(host, days * DAY)
    ledgers = [snapshot(host, days * DAY, tag="ledger") for days in (80, 70)]
    done = server.said("retain")["hosts"]["co1"]
    assert (done["ok"], done["problems"], done["accepted"]) == (True, [], {"users": 10, "files": 100})
    left = kept(host)
    assert young < left
    assert ledgers[0] not in left
    assert ledgers[1] in left
    assert (done["snapshots"], done["forgotten"]) == (len(left), 11 - len(left))
    assert len(left) <= 7
    host.restic("check", "--read-data")
    assert server.said("retain")["hosts"]["co1"]["forgotten"] == 0
    assert server.said("list")["retain"]["co1"]["ok"]


def test_nothing_is_kept_for_longer_than_is_stated_but_the_last_one(tmp_path: Path) -> None:
    server = Server(tmp_path, "co1", keep={"within": "1y", "daily": 99, "weekly": 99})
    host = server.hosts["co1"]
    old = [snapshot(host, days * DAY) for days in (50, 40)]
    assert server.said("retain")["hosts"]["co1"]["forgotten"] == 1
    assert kept(host) == {old[1]}
    young = snapshot(host, DAY)
    server.said("retain")
    assert kept(host) == {young}


@pytest.mark.parametrize(
    ("age", "arrived", "users", "said"),
    [
        (timedelta(hours=-3), timedelta(0), 10, "in the future"),
        (10 * DAY, DAY, 10, "long before it arrived"),
        (timedelta(0), timedelta(0), 7, "7 users where 10 were"),
    ],
)
def test_nothing_is_forgotten_while_snapshots_look_wrong(
    age: timedelta, arrived: timedelta, users: int, said: str, tmp_path: Path
) -> None:
    server = Server(tmp_path, "co1", "co2")
    for host in server.hosts.values():
        for days in (60, 50, 1):
            snapshot(host, days * DAY)
    snapshot(server.hosts["co1"], age, users=users, arrived=arrived)
    done = server.said("retain", well=False)
    assert said in done["hosts"]["co1"]["problems"][0]
    assert len(kept(server.hosts["co1"])) == 4
    # Others go on.
    assert done["hosts"]["co2"]["ok"]
    assert len(kept(server.hosts["co2"])) == 1


def test_what_a_wrong_clock_has_dated_is_forgotten_at_a_word(tmp_path: Path) -> None:
    server = Server(tmp_path, "co1")
    host = server.hosts["co1"]
    wrong = snapshot(host, -400 * DAY, arrived=5 * DAY)
    refused = server.said("retain", "--forget-misdated=co2", well=False)["hosts"]["co1"]["problems"][0]
    assert refused.endswith("in the future: --forget-misdated co1 forgets what is dated wrongly")
    assert "no backup in its repository that is dated rightly" in str(
        server.said("retain", "--forget-misdated=co1", well=False)
    )
    assert kept(host) == {wrong}
    young, old = snapshot(host, DAY), snapshot(host, 50 * DAY)
    assert server.said("retain", "--forget-misdated=co1")["hosts"]["co1"]["forgotten"] == 2
    assert kept(host) == {young}
    assert old != wrong
    assert server.said("retain")["ok"]


def test_shrinking_in_steps_is_measured_by_what_was_accepted(tmp_path: Path) -> None:
    server = Server(tmp_path, "co1")
    host = server.hosts["co1"]
    snapshot(host, 40 * DAY)
    snapshot(host, timedelta(hours=5))
    server.said("retain")
    for hours in (4, 3):
        snapshot(host, timedelta(hours=hours), users=1)
        assert "1 users where 10 were" in server.said("retain", well=False)["hosts"]["co1"]["problems"][0]
    assert server.said("retain", "--accept-smaller=co1")["hosts"]["co1"]["accepted"]["users"] == 1
    assert server.said("retain")["ok"]


def test_what_restic_says_is_not_believed(tmp_path: Path) -> None:
    """Where it may not, it says that it forgot, and nothing is gone."""
    server = Server(tmp_path, "co1")
    host = server.hosts["co1"]
    for days in (60, 50, 1):
        snapshot(host, days * DAY)
    (host.root / "forgets-nothing").touch()
    assert "other snapshots than it said" in server.said("retain", well=False)["hosts"]["co1"]["problems"][0]


def test_a_host_without_a_backup_is_told(tmp_path: Path) -> None:
    server = Server(tmp_path, "co1", "co2")
    shutil.rmtree(server.hosts["co2"].repository)
    for command in ("retain", "drill"):
        done = server.said(command, well=False)["hosts"]
        assert done["co1"]["problems"] == ["no backup in its repository"]
        assert done["co2"]["problems"] == ["no repository, so there was no backup yet"]


def test_the_newest_backup_restores(tmp_path: Path) -> None:
    server = Server(tmp_path, "co1", "co2")
    for host in server.hosts.values():
        host.said("run")
    done = server.said("drill")["hosts"]
    assert {name: found["ok"] for name, found in done.items()} == {"co1": True, "co2": True}
    assert done["co1"]["counts"]["users"] == 4
    assert list((tmp_path / "scratch").iterdir()) == []
    told = server.said("status")
    assert told["drill"] == done
    assert told["keeps"] == ["co1", "co2"]
    assert told["next"]["drill"] == "2026-11-29T02:04:40+00:00"
    assert {host: len(times) for host, times in told["arrived"].items()} == {"co1": 2, "co2": 2}
    assert [list((host.repository / "locks").iterdir()) for host in server.hosts.values()] == [[], []]


def test_a_backup_that_is_not_whole_is_told(tmp_path: Path) -> None:
    """Whatever is wrong: each is of a snapshot that was made of a tree that is not what its manifest says."""
    server = Server(tmp_path, "co1")
    host = server.hosts["co1"]
    host.said("run")
    host.said("restore", "--into", host.data / "tree")
    tree = host.data / "tree"
    account = next(tree.glob(f"{USERS}/**/account-1.0.0.sqlite"))
    content = account.read_bytes()
    account.with_name(f"{account.name}-wal").unlink()
    account.write_bytes(content[:100] + b"\xff" * 3996)
    (tree / "core/mongodb/WiredTiger").unlink()
    attachment = next(tree.glob(f"{USERS}/**/attachments/event/file"))
    attachment.write_text("x" * attachment.stat().st_size)
    host.restic("backup", "--tag=data", "--host=co1", ".", folder=tree)
    told = "\n".join(server.said("drill", well=False)["hosts"]["co1"]["problems"])
    for said in ("account-1.0.0.sqlite: ", "WiredTiger is not there", "files: 13 where 14 were", "has another content"):
        assert said in told
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_drill_that_is_killed_leaves_nothing_for_long(tmp_path: Path) -> None:
    server = Server(tmp_path, "co1")
    host = server.hosts["co1"]
    host.said("run")
    write(tmp_path / "scratch/co1/core/left", "behind")
    with host.start(f"--server-configuration={tmp_path / 'server.json'}", "drill") as process:
        process.send_signal(signal.SIGKILL)
    assert server.said("drill")["ok"]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_service_remembers_where_systemd_lets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tmp_path, "co1")
    snapshot(server.hosts["co1"], DAY)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "unit"))
    assert server.said("retain")["ok"]
    assert json.loads((tmp_path / "unit/retain.json").read_text())["co1"]["ok"]
