"""A backup on an encrypted disk that shares blocks, and the power cut in its middle; the last of a machine's tests."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Thread
from typing import Any

import pytest
from testinfra.host import Host

from tests.fleet import fleet
from tests.hosts.conftest import Platform, ssh_config
from tests.hosts.poc.test_backups import RESTIC, UNIT, assert_next_run_is_whole, last_run, paused, take
from tests.hosts.poc.test_data import READ
from tests.vm.vm import Machines

pytestmark = pytest.mark.on_machines

CORE = "co1"
USERS = "/srv/pryv/core/data/users"
DATABASE = "writer/written.sqlite"
#: Files that are copied in the pause: some of them SQLite's, as a core has.
FILES = 2000
#: For an emulated processor; docs/backups.md has what a real one takes.
PAUSE_SECONDS = 20
#: As a core's server does, in the core's container, and says what it has committed.
WRITE = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE written (number INTEGER)")
number = 0
while True:
    number += 1
    database.execute("INSERT INTO written VALUES (?)", (number,))
    print(number, flush=True)
"""
FILL = f"""
import pathlib, sqlite3
folder = pathlib.Path("{USERS}/writer")
folder.mkdir()
with sqlite3.connect(folder / "0.sqlite") as database:
    database.execute("CREATE TABLE t AS SELECT zeroblob(20000)")
content = (folder / "0.sqlite").read_bytes()
for number in range(1, {FILES}):
    (folder / f"{{number}}.sqlite").write_bytes(content)
"""


@dataclass
class Writer:
    """Somebody who writes into a database of the core's, as quickly as it takes it.

    Attributes:
        platform: Whose.
        acknowledged: How many writes the database has said that it has; they are numbered from 1.
    """

    platform: Platform
    acknowledged: int = 0

    def __post_init__(self) -> None:
        name = f"{CORE}.{fleet.Fleet(self.platform.inventory).name}"
        container = "$(sudo docker ps --quiet --filter label=com.docker.compose.service=core)"
        command = f"sudo docker exec --user 0 {container} python3 -c {shlex.quote(WRITE)} /app/data/users/{DATABASE}"
        ssh = ["ssh", "-q", "-F", str(ssh_config(name)), "-o", "ControlPath=none", name, command]
        self._process = subprocess.Popen(ssh, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            self.acknowledged = int(line)

    def await_more(self) -> None:
        """Waits until it has written some more."""
        wanted, end = self.acknowledged + 5, time.monotonic() + 120
        while self.acknowledged < wanted:
            assert time.monotonic() < end, f"{self.acknowledged} were written"
            time.sleep(0.5)

    def stop(self) -> None:
        """Hangs up."""
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True)
class Cut:
    """What was so before the power was cut.

    Attributes:
        backup: What the backup before the one in its middle said.
        before: How many writes were acknowledged when that one began.
        acknowledged: How many when the power was cut.
    """

    backup: Mapping[str, Any]
    before: int
    acknowledged: int


@pytest.fixture(scope="module")
def cut(platform: Platform) -> Cut:
    """A backup, and another in whose pause the power is cut, while somebody writes; the machine is up again."""
    machine = platform.machine(CORE)
    # The stand-in makes its index of users for the first who asks.
    platform.ask(CORE, f"nobody.{platform.domain}", "/events")
    machine.check_output("python3 -c %s", FILL)
    writer = Writer(platform)
    try:
        writer.await_more()
        before = writer.acknowledged
        backup = take(machine).last
        writer.await_more()
        machine.check_output(f"systemctl start --no-block {UNIT}; until docker ps | grep --quiet Paused; do :; done")
        machines = Machines(platform.inventory)
        machines.all[0].cut()
        acknowledged = writer.acknowledged
    finally:
        writer.stop()
    machines.up()
    machine.check_output("systemctl is-system-running --wait")
    return Cut(backup, before, acknowledged)


def written(machine: Host, database: str) -> int:
    """How many writes a database has; it is whole, and they are all up to the last."""
    ask = "python3 -c %s %s %s []"
    assert json.loads(machine.check_output(ask, READ, database, "PRAGMA integrity_check")) == [["ok"]]
    rows = machine.check_output(ask, READ, database, "SELECT count(*), max(number) FROM written")
    count, last = json.loads(rows)[0]
    assert count == last
    return int(count)


def test_copy_shares_blocks_in_a_short_pause(cut: Cut) -> None:
    assert cut.backup["reflink"]
    assert cut.backup["files"] > FILES
    assert cut.backup["pause_seconds"] < PAUSE_SECONDS


def test_what_was_acknowledged_survives_the_power_cut(cut: Cut, platform: Platform) -> None:
    machine = platform.machine(CORE)
    assert paused(machine) == ""
    assert written(machine, f"{USERS}/{DATABASE}") >= cut.acknowledged > cut.before


def test_backup_before_it_is_whole(cut: Cut, platform: Platform) -> None:
    machine, into = platform.machine(CORE), "/srv/pryv/backup/test"
    machine.check_output(f"pryv-backup restore --into {into}")
    assert cut.before <= written(machine, f"{into}/core/data/users/{DATABASE}") < cut.acknowledged
    machine.check_output(f"rm -rf {into}")


def test_next_run_is_whole(cut: Cut, platform: Platform) -> None:
    machine = platform.machine(CORE)
    assert_next_run_is_whole(machine)
    assert last_run(machine)["files"] >= cut.backup["files"]
    assert "no errors were found" in machine.check_output(f"{RESTIC} check")
