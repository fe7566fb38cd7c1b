"""Backups of a platform that is used meanwhile: whole, out of an intruder's reach, and brought back.

The tests are one story, in their order: backups are taken while somebody writes, runs are killed, an intruder tries all
that root on a core can, and at last the core and the registry are put back to what a backup has.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import json
import math
import os
import re
import secrets as random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import testinfra

from plugins.module_utils.platform_user import form
from tests.fleet import fleet
from tests.hosts.conftest import REPEATS, Platform
from tests.hosts.poc.test_data import User, register, until_it_answers

CORE, LEADER, SERVER, WEB = "co1", "reg1", "bk1", "web1"
#: How many backups are taken, and which of them is restored as an operator does.
BACKUPS, RESTORED = max(3, 2 * REPEATS), 1
WEEK = 7 * 24 * 3600
#: Writes before the first backup, after which one user is deleted, and after the last.
FEW = 40
PAUSE_BOUND = 60
UNIT = "pryv-backup.service"
RESTIC = "restic --repository-file=/etc/pryv/backup/repository --password-file=/etc/pryv/backup/password"
REPOSITORIES = "/srv/pryv/backups"
#: With the operator's key, as the backup server's own programs do.
SERVER_RESTIC = (
    'RESTIC_PASSWORD=$(python3 -c "import json; '
    f"print(json.load(open('/etc/pryv/backup_server/passwords.json'))['{CORE}'])\") "
    f"restic --repo {REPOSITORIES}/{CORE} --no-lock --no-cache"
)
#: What a restore that is refused may not change: configuration, containers, what is in the data's folder.
STATE = (
    "find /etc -xdev -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum; ls -A /srv/pryv /srv/pryv/backup; "
    "docker inspect --format '{{.Id}} {{.State.StartedAt}}' $(docker ps --quiet)"
)
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()"


# --- Somebody writes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Write:
    """What a core has said that it has.

    Attributes:
        time: When it had said so, in seconds since 1970.
        user: Whose it is.
        kind: `event`, `file` or `point`.
        path: Where it is read.
        value: An event's content, the SHA-256 of a file, a point of a series.
    """

    time: float
    user: str
    kind: str
    path: str
    value: Any


@dataclass
class Load:
    """Somebody who registers one user after the other, and writes what apps write, as quickly as the core takes it.

    Attributes:
        platform: Where.
        secrets: The vault's keys.
        users: All who were registered, with the time at which the core had said so, by name.
        writes: All that was acknowledged.
        errors: What was not.
    """

    platform: Platform
    secrets: Mapping[str, str]
    users: dict[str, tuple[float, User]] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._write_as(register(self.platform, CORE, self.secrets, "bk"))
            except (OSError, AssertionError, http.client.HTTPException) as error:
                self.errors.append(repr(error))
                time.sleep(1)

    def _write_as(self, user: User) -> None:
        self.users[user.name] = (time.time(), user)
        user.call("POST", "/streams", {"id": "diary", "name": "Diary"})
        series = user.call("POST", "/events", {"streamIds": ["diary"], "type": "series:mass/kg"})["event"]["id"]
        # The first one's lasts for weeks, each of which is a shard of InfluxDB's.
        apart = WEEK if len(self.users) == 1 else 1
        for number in range(10):
            text = {"streamIds": ["diary"], "type": "note/txt", "content": random.token_hex(16)}
            event = user.call("POST", "/events", text)["event"]
            self._note(user, "event", f"/events/{event['id']}", text["content"])
            content = random.token_bytes(2000 + 2000 * number)
            body, headers = form({"streamIds": ["diary"], "type": "picture/attached"}, "a.png", "image/png", content)
            event = user.call("POST", "/events", body, headers["Content-Type"])["event"]
            path = f"/events/{event['id']}/{event['attachments'][0]['id']}"
            self._note(user, "file", path, hashlib.sha256(content).hexdigest())
            point = [number * apart, 70 + number]
            points = {"format": "flatJSON", "fields": ["deltaTime", "value"], "points": [point]}
            user.call("POST", f"/events/{series}/series", points)
            self._note(user, "point", f"/events/{series}/series", point)

    def _note(self, user: User, kind: str, path: str, value: Any) -> None:
        self.writes.append(Write(time.time(), user.name, kind, path, value))

    def await_more(self, number: int) -> None:
        """Waits until so many writes more are there."""
        wanted, end = len(self.writes) + number, time.monotonic() + 120
        while len(self.writes) < wanted:
            assert time.monotonic() < end, self.errors[-1:]
            time.sleep(0.1)

    def came(self, since: float = 0, until: float = math.inf) -> set[str]:
        """Names of those who were registered in a time, in seconds since 1970."""
        return {name for name, (then, _) in self.users.items() if since < then < until}

    def stop(self) -> None:
        """Ends it when what it is at is done."""
        self._stop.set()
        self._thread.join(60)


# --- Backups ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Backup:
    """A backup of a host.

    Attributes:
        machine: The host.
        end: When the run had ended, in seconds since 1970.
        last: What it said.
    """

    machine: testinfra.host.Host
    end: float
    last: Mapping[str, Any]

    @property
    def snapshot(self) -> str:
        """Its identifier."""
        return str(self.last["snapshot"])

    @functools.cached_property
    def instant(self) -> float:
        """Of what time it is, by its manifest, in seconds since 1970."""
        manifest = json.loads(self.machine.check_output(f"{RESTIC} dump {self.snapshot} /manifest.json"))
        return datetime.fromisoformat(manifest["time"]).timestamp()


def last_run(machine: testinfra.host.Host) -> dict[str, Any]:
    """What a host's last run said."""
    return dict(json.loads(machine.check_output("cat /var/lib/pryv/backup/last.json")))


def newest(machine: testinfra.host.Host) -> Backup:
    """The backup that a host has just taken."""
    last, end = last_run(machine), time.time()
    assert last["ok"], last
    return Backup(machine, end, last)


def take(machine: testinfra.host.Host) -> Backup:
    """Takes a backup as the timer does."""
    machine.check_output(f"systemctl start --wait {UNIT}")
    return newest(machine)


def take_watched(machine: testinfra.host.Host) -> tuple[Backup, set[str]]:
    """Takes a backup, and returns all that was in the process list meanwhile, too."""
    seen = machine.check_output(
        "seen=$(mktemp); while :; do ps -eo args; sleep 0.1; done >$seen & watch=$!; "
        f"systemctl start --wait {UNIT}; code=$?; kill $watch; sort --unique $seen; rm $seen; exit $code"
    )
    return newest(machine), set(seen.splitlines())


def paused(machine: testinfra.host.Host) -> str:
    """The containers that are paused."""
    return str(machine.check_output("docker ps --filter status=paused --format '{{.Names}}'"))


@dataclass
class Story:
    """What has happened.

    Attributes:
        load: Who wrote.
        backups: Of the core.
        registry: Of the registry's leader, one, taken after that backup of the core with which it is restored.
        deleted: A user who is in all backups but the last, having been deleted before that.
        processes: What was in the process list during a backup of either.
        begin: When all began, in seconds since 1970.
    """

    load: Load
    deleted: User
    backups: list[Backup] = field(default_factory=list)
    registry: list[Backup] = field(default_factory=list)
    processes: list[set[str]] = field(default_factory=list)
    begin: int = field(default_factory=lambda: int(time.time()))


@pytest.fixture(scope="module")
def story(platform: Platform, secrets: dict[str, str]) -> Iterator[Story]:
    """Backups of a core and of the registry, taken while somebody writes; a user is deleted before the last of them."""
    core, leader = platform.machine(CORE), platform.machine(LEADER)
    found = Story(Load(platform, secrets), register(platform, CORE, secrets, "gone"))
    try:
        found.load.await_more(FEW)
        for number in range(BACKUPS):
            if number == BACKUPS - 1:
                found.deleted.delete(core)
            if number == RESTORED:
                for machine, backups in ((core, found.backups), (leader, found.registry)):
                    backup, processes = take_watched(machine)
                    backups.append(backup)
                    found.processes.append(processes)
            else:
                found.backups.append(take(core))
        found.load.await_more(FEW)
    finally:
        found.load.stop()
    yield found
    kept = "find /srv/pryv -maxdepth 2 -name '*.replaced-*' -exec rm -rf {} +"
    for machine in (core, leader):
        machine.check_output(kept)


def play(platform: Platform, playbook: str, *arguments: str, **variables: object) -> subprocess.CompletedProcess[str]:
    """Runs a playbook as an operator does, of the checkout that the inventory lies in."""
    inventory = platform.inventory.resolve()
    checkout = next(folder for folder in inventory.parents if (folder / "ansible.cfg").exists())
    given = {
        "pryv_image_archive": [str(fleet.CACHE / "standins/images.tar.gz")],
        "pryv_event_types_file": str(fleet.CHECKOUT / "tests/standins/event-types.json"),
        **variables,
    }
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [program, playbook, "--inventory", str(inventory), "--extra-vars", json.dumps(given), *arguments]
    environment = {**os.environ, **fleet.environment(), "ANSIBLE_CONFIG": str(checkout / "ansible.cfg")}
    return subprocess.run(
        command,
        cwd=checkout,
        env={**environment, "ANSIBLE_NOCOLOR": "true"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def said(run: subprocess.CompletedProcess[str]) -> str:
    """What a run said, on one line."""
    return " ".join((run.stdout + run.stderr).split())


# --- Taken ------------------------------------------------------------------------------------------------------------


def test_nobody_notices_a_backup_but_by_waiting(story: Story) -> None:
    assert story.load.errors == []
    last = max(write.time for write in story.load.writes)
    assert last > story.backups[-1].instant, "nobody wrote during the backups"
    assert len({backup.snapshot for backup in story.backups}) == BACKUPS
    pauses = [backup.last["pause_seconds"] for backup in story.backups]
    assert all(0 < pause < PAUSE_BOUND / 4 for pause in pauses), pauses
    print(f"pauses: {pauses} s; runs: {[backup.last['seconds'] for backup in story.backups]} s")


def test_passwords_are_in_no_process_list(story: Story, secrets: dict[str, str]) -> None:
    assert len(story.processes) == 2
    for processes in story.processes:
        text = "\n".join(processes)
        assert re.search("^restic .* backup ", text, re.MULTILINE), f"nothing was seen of the backup: {text}"
        assert [name for name, secret in secrets.items() if secret in text] == []


# --- Killed -----------------------------------------------------------------------------------------------------------

#: Starts the program, holds it while it copies, and kills it if containers are paused at that moment; `start` is how it
#: is started, `pid` how its process is found.
KILL_PAUSED = """
for attempt in $(seq 20); do
    %(start)s
    until pid=$(%(pid)s) && [ "${pid:-0}" != 0 ]; do :; done
    until [ -e /srv/pryv/backup/work/core ] || ! [ -e /proc/$pid ]; do :; done
    if kill -STOP $pid 2>/dev/null && docker ps | grep --quiet Paused; then
        kill -KILL $pid
        exit 0
    fi
    kill -CONT $pid 2>/dev/null || true
    while [ -e /proc/$pid ]; do sleep 0.1; done
done
exit 1
"""
BY_UNIT = {"start": f"systemctl start --no-block {UNIT}", "pid": f"systemctl show --property MainPID --value {UNIT}"}
#: With a bound that can be waited for.
BY_HAND = {
    "start": (
        'sed \'s/"pause_seconds": [0-9]*/"pause_seconds": 5/\' /etc/pryv/backup/backup.json >/run/backup-test.json; '
        "setsid /usr/local/sbin/pryv-backup --configuration=/run/backup-test.json run >/dev/null 2>&1 & child=$!"
    ),
    "pid": "echo $child",
}
#: Waits until restic reads the data.
AWAIT_RESTIC = (
    f"systemctl start --no-block {UNIT}; until pgrep --full '^restic .* backup .* [.]$' >/dev/null; do :; done; "
)


def assert_next_run_is_whole(machine: testinfra.host.Host) -> None:
    """Takes a backup; nothing of the killed run is left."""
    take(machine)
    assert paused(machine) == ""
    assert machine.check_output("ls /srv/pryv/backup") == ""


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize("_time", range(REPEATS))
@pytest.mark.parametrize(
    ("program", "seconds"),
    [
        pytest.param(BY_UNIT, 10, id="by systemd's unit"),
        *([pytest.param(BY_HAND, 15, id="by the timer")] if REPEATS > 1 else []),
    ],
)
def test_containers_go_on_when_the_program_is_killed(
    platform: Platform, program: dict[str, str], seconds: float, _time: int
) -> None:
    machine = platform.machine(CORE)
    machine.check_output("sh -c %s", KILL_PAUSED % program)
    end = time.monotonic() + seconds
    while paused(machine):
        assert time.monotonic() < end
        time.sleep(0.2)
    await_end(machine)
    assert_next_run_is_whole(machine)


def await_end(machine: testinfra.host.Host) -> None:
    """Waits for the end of a run that was started."""
    end = time.monotonic() + 60
    while machine.run(f"systemctl is-active {UNIT}").stdout.strip() not in {"inactive", "failed"}:
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize("_time", range(REPEATS))
def test_run_after_restic_was_killed_is_whole(platform: Platform, _time: int) -> None:
    machine = platform.machine(CORE)
    machine.check_output(f"{AWAIT_RESTIC} sleep {_time / 10}; pkill --signal KILL --full '^restic '")
    await_end(machine)
    last = last_run(machine)
    assert (last["ok"], last["snapshot"]) == (False, None), last
    assert "restic" in last["error"]
    assert_next_run_is_whole(machine)


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize("_time", range(REPEATS))
def test_run_while_the_server_is_away_for_a_moment_is_whole_or_said_to_have_failed(
    platform: Platform, _time: int
) -> None:
    machine, server = platform.machine(CORE), platform.machine(SERVER)
    machine.check_output(AWAIT_RESTIC)
    server.check_output("systemctl stop {0} && sleep 1 && systemctl start {0}".format("restic-rest-server.service"))
    await_end(machine)
    last = last_run(machine)
    assert last["ok"] == bool(last["snapshot"]), last
    assert_next_run_is_whole(machine)


def test_repository_is_whole_after_all_that(platform: Platform, story: Story) -> None:
    """And so is its newest backup, which is restored aside: all who wrote are in it."""
    server = platform.machine(SERVER)
    assert "no errors were found" in server.check_output(f"{SERVER_RESTIC} check --read-data")
    kept = {each["id"] for each in json.loads(server.check_output(f"{SERVER_RESTIC} snapshots --json"))}
    assert {backup.snapshot for backup in story.backups} <= kept
    known = platform.machine(CORE).check_output(
        "into=/srv/pryv/backup/test; /usr/local/sbin/pryv-backup restore --into $into >/dev/null && "
        "/usr/local/sbin/pryv-backup users $into; code=$?; rm -rf $into; exit $code"
    )
    assert set(story.load.users) <= {user["username"] for user in json.loads(known)}
    until_it_answers(next(iter(story.load.users.values()))[1])


@pytest.mark.usefixtures("story")
def test_databases_start_on_the_restored_files(platform: Platform) -> None:
    """As the images of the platform have them, and with what they had."""
    server = platform.machine(SERVER)
    server.check_output("systemctl start pryv-drill.service")
    found = json.loads(server.check_output("cat /var/lib/pryv-drill/drill.json"))
    assert {host: drill["problems"] for host, drill in found.items()} == {CORE: [], LEADER: []}
    core, users = found[CORE]["databases"], found[CORE]["counts"]["users"]
    assert core["mongodb"]["documents"]["pryv-node.events"] > users > 0
    assert core["influxdb"]["databases"] > users / 2
    shards = "find /srv/pryv/core/influxdb/data -mindepth 3 -maxdepth 3 -type d -path '*/autogen/*' | wc -l"
    assert int(platform.machine(CORE).check_output(shards)) > 10
    assert 0 < found[LEADER]["databases"]["redis"]["users"] < found[LEADER]["databases"]["redis"]["keys"]
    assert server.check_output("ls -A /srv/pryv/drill 2>/dev/null; docker ps --all --quiet") == ""


# --- An intruder ------------------------------------------------------------------------------------------------------


def content(server: testinfra.host.Host) -> set[str]:
    """All files of the core's repository with their digests, but for locks, on the server's disk."""
    find = f"cd {REPOSITORIES}/{CORE} && find . -type f ! -path './locks/*' -exec sha256sum {{}} +"
    return set(server.check_output(find).splitlines())


def codes(machine: testinfra.host.Host, requests: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Status codes of requests to the backup server, made on a core with what it has to open the way.

    Args:
        machine: The core.
        requests: Methods and paths.
    """
    ask = (
        f"url=$(sed 's,^rest:,,; s,/{CORE}/$,,' /etc/pryv/backup/repository); for each in "
        + " ".join(f"'{method} {path}'" for method, path in requests)
        + "; do set -- $each; curl --silent --path-as-is --output /dev/null --write-out '%{http_code}\\n' "
        '--request "$1" $([ "$1" = POST ] && echo --data-binary junk) "$url$2"; done'
    )
    return dict(zip(requests, machine.check_output(ask).splitlines(), strict=True))


def test_intruder_deletes_and_alters_nothing(platform: Platform, story: Story) -> None:
    core, server = platform.machine(CORE), platform.machine(SERVER)
    before = content(server)
    assert len([line for line in before if "./snapshots/" in line]) >= BACKUPS
    snapshot = story.backups[0].snapshot
    for command in (f"forget {snapshot}", "forget --keep-last 1 --group-by host --prune"):
        # What it says at the end is no proof: its exit code is 0.
        assert "403 Forbidden" in core.run(f"{RESTIC} {command} 2>&1").stdout
    core.run(f"{RESTIC} prune --max-unused 0")
    paths = [line.split("./")[1] for line in sorted(before)]
    victims = [next(path for path in paths if path.startswith(f"{kind}/")) for kind in ("data", "index", "keys")]
    # Data lies in folders by the beginning of its name, of which its address has nothing.
    victims = [f"/{CORE}/{re.sub('^data/../', 'data/', victim)}" for victim in victims]
    victims += [f"/{CORE}/snapshots/{snapshot}", f"/{CORE}/config"]
    read = codes(core, [("GET", victim) for victim in victims])
    assert set(read.values()) == {"200"}, read
    tried = codes(core, [(method, path) for method in ("DELETE", "POST") for path in [*victims, f"/{CORE}/"]])
    assert not [code for code in tried.values() if code.startswith("2")], tried
    assert before <= content(server)


def test_intruder_reads_no_other_hosts_backups(platform: Platform, story: Story) -> None:
    core, other = platform.machine(CORE), f"/{LEADER}"
    assert codes(core, [("GET", f"/{CORE}/config")]) == {("GET", f"/{CORE}/config"): "200"}
    ways = ("", f"/{CORE}/..", f"/{CORE}/%2e%2e", f"/{CORE}/..%2f", "/", "/.")
    paths = [f"{way}{other}/{what}" for way in ways for what in ("config", f"snapshots/{story.registry[0].snapshot}")]
    tried = codes(core, [("GET", path) for path in [*paths, "/", f"{other}/", "/.htpasswd"]])
    assert set(tried.values()) <= {"301", "400", "401", "403", "404", "405"}, tried
    bare = core.check_output(
        f"curl --silent --output /dev/null --write-out '%{{http_code}}' http://127.0.0.1:8000/{CORE}/config"
    )
    assert bare == "401"


@pytest.mark.usefixtures("story")
def test_only_hosts_that_are_backed_up_reach_the_server(platform: Platform) -> None:
    address, port = platform.topology["hosts"][SERVER]["private_address"], platform.topology["ports"]["backup"]
    connect = f"python3 -c '{CONNECT}' {address} {port}"
    for host in (CORE, LEADER):
        platform.machine(host).check_output(connect)
    assert platform.machine(WEB).run(connect).rc != 0
    container = "docker exec $(docker ps --quiet --filter label=com.docker.compose.service=core)"
    core = platform.machine(CORE)
    # What is not closed is reached from there.
    core.check_output(f"{container} python3 -c '{CONNECT}' {platform.address(LEADER)} 443")
    assert core.run(f"{container} {connect}").rc == 1
    with pytest.raises(OSError, match=r"timed out|refused"):
        socket.create_connection((address, port), timeout=3)


@pytest.mark.usefixtures("story")
def test_server_is_confined_and_its_files_its_own(platform: Platform) -> None:
    server = platform.machine(SERVER)
    pid = server.check_output("systemctl show --property MainPID --value restic-rest-server.service")
    status = dict(re.findall(r"^(\w+):\s*(.*)$", server.check_output(f"cat /proc/{pid}/status"), re.MULTILINE))
    assert int(status["Uid"].split()[0]) == int(server.check_output("id --user restic-rest-server")) != 0
    assert (int(status["CapEff"], 16), int(status["CapBnd"], 16)) == (0, 0)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    inside = f"nsenter --target {pid} --mount --"
    assert server.run(f"{inside} cat /etc/pryv/backup_server/passwords.json").rc != 0
    assert server.run(f"{inside} touch /etc/written").rc != 0
    assert server.check_output(f"find {REPOSITORIES} ! -user restic-rest-server -o -perm /077") == ""
    listening = server.check_output("ss --tcp --listening --numeric --no-header 'sport = :8000'").splitlines()
    assert [line.split()[3] for line in listening] == ["127.0.0.1:8000"]


# --- Brought back -----------------------------------------------------------------------------------------------------


def downloaded(user: User, path: str) -> tuple[int, str]:
    """Size and SHA-256 of a file, as the core gives it."""
    answer = user.ask("GET", path)
    assert answer.status == 200, (path, answer.status)
    return len(answer.body), hashlib.sha256(answer.body).hexdigest()


def all_of(user: User, file: Callable[[User, str], tuple[int, str]]) -> dict[str, list[Any]]:
    """What a core has of a user, nothing by halves: by path an event's content, a file's digest, a series' points.

    Args:
        user: The user.
        file: What gives size and SHA-256 of a file.
    """
    found: dict[str, list[Any]] = {}
    for event in user.call("GET", "/events?limit=1000")["events"]:
        path = f"/events/{event['id']}"
        found[path] = [event.get("content")]
        for attached in event.get("attachments", []):
            size, digest = file(user, f"{path}/{attached['id']}")
            assert size == attached["size"], event
            found[f"{path}/{attached['id']}"] = [digest]
        if event["type"].startswith("series:"):
            found[f"{path}/series"] = user.call("GET", f"{path}/series")["points"]
    return found


def assert_core_has_all_until(
    platform: Platform,
    load: Load,
    backup: Backup,
    file: Callable[[User, str], tuple[int, str]] = downloaded,
) -> None:
    """Users who were there at a backup's time log in with their passwords and have what they had."""
    names = load.came(until=backup.instant)
    assert names
    has = {name: all_of(replace(load.users[name][1], platform=platform).logged_in(), file) for name in names}
    writes = [write for write in load.writes if write.time < backup.instant]
    assert {write.kind for write in writes} == {"event", "file", "point"}
    assert [write for write in writes if write.value not in has[write.user].get(write.path, [])] == []
    later = {write.path for write in load.writes} - {write.path for write in writes}
    assert later, "nothing was written after the backup"


def differences(platform: Platform) -> dict[str, set[str]]:
    """What a restore has written down of users whom core and registry know differently."""
    report = platform.inventory / f"backups/restored-{CORE}.json"
    assert report.stat().st_mode & 0o777 == 0o600
    return {where: set(names) for where, names in json.loads(report.read_text()).items()}


def server_of(platform: Platform, user: str) -> str:
    """Which core the registry sends a user's apps to."""
    answer = platform.ask(LEADER, f"reg.{platform.domain}", f"/{user}/server", "POST")
    return str(json.loads(answer.body)["server"])


#: Has a core run on what a backup has: the heart of what the playbook does, in a fraction of its time.
PUT_BACK = """
set -e; cd /srv/pryv; new=backup/test; compose='docker compose --file /etc/pryv/core/compose.yml'
rm -rf $new; /usr/local/sbin/pryv-backup restore --snapshot %s --into /srv/pryv/$new >/dev/null
$compose stop --timeout 5
for part in mongodb influxdb data/users data/attachments; do
    if [ -e $new/core/$part ]; then rm -rf core/$part; mv $new/core/$part core/$part; fi
done
rm -rf $new; $compose up --detach --wait --wait-timeout 60
"""
#: Size and SHA-256 of all files in a folder of attachments, by event and file.
ATTACHMENTS = (
    "import hashlib, json, pathlib, sys; found = pathlib.Path(sys.argv[1]).rglob('attachments/*/*'); "
    "print(json.dumps({'/'.join(path.parts[-2:]): (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) "
    "for path in found if path.is_file()}))"
)

if REPEATS > 1:

    @pytest.mark.parametrize("number", range(BACKUPS))
    def test_each_backup_has_all_that_was_acknowledged_before(platform: Platform, story: Story, number: int) -> None:
        machine, backup = platform.machine(CORE), story.backups[number]
        machine.check_output(PUT_BACK % backup.snapshot)
        names = story.load.came(until=backup.instant)
        until_it_answers(story.load.users[min(names)][1])
        files = json.loads(machine.check_output("python3 -c %s %s", ATTACHMENTS, "/srv/pryv/core/data"))

        def stored(_: User, path: str) -> tuple[int, str]:
            size, digest = files[path.removeprefix("/events/")]
            return int(size), str(digest)

        assert_core_has_all_until(platform, story.load, backup, stored)
        assert {server_of(platform, name) for name in names} == {f"{CORE}.{platform.domain}"}


def test_restore_is_refused_while_there_are_users(platform: Platform, story: Story) -> None:
    machine = platform.machine(CORE)
    before = machine.check_output(STATE)
    run = play(platform, "playbooks/restore_core.yml", core=CORE, snapshot=story.backups[0].snapshot)
    assert run.returncode == 2, said(run)[-2000:]
    assert re.search(rf"{CORE} has data of \d+ users", said(run)), said(run)[-2000:]
    assert f"-e replace={CORE}" in said(run)
    assert machine.check_output(STATE) == before


def test_core_is_put_back_to_a_backup(platform: Platform, story: Story) -> None:
    backup, begin = story.backups[RESTORED], time.monotonic()
    run = play(platform, "playbooks/restore_core.yml", core=CORE, snapshot=backup.snapshot, replace=CORE)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr
    print(f"the core was restored in {time.monotonic() - begin:.0f} s")
    machine = platform.machine(CORE)
    assert_core_has_all_until(platform, story.load, backup)
    # The backup has them; they have been deleted since.
    assert story.deleted.folder(machine) == ""
    assert story.deleted.ask("GET", "/events").status == 404
    found = differences(platform)
    assert found["only_on_core"] == set()
    # Those who have come since are known to the registry alone.
    assert story.load.came(since=backup.end)
    assert found["only_in_registry"] >= story.load.came(since=backup.end)
    assert not found["only_in_registry"] & story.load.came(until=backup.instant)
    assert story.deleted.name not in found["only_in_registry"]
    assert paused(machine) == ""
    assert machine.check_output("ls /srv/pryv/backup") == ""
    assert "core.replaced-" in machine.check_output("ls /srv/pryv")
    machine.check_output("systemctl is-active --quiet pryv-backup.timer")
    machine.check_output("rm -rf /srv/pryv/core.replaced-*")


def test_registry_is_put_back_to_a_backup(platform: Platform, story: Story) -> None:
    """It is of the time of the core's, and agrees with that: it was taken later."""
    backup, of_core, begin = story.registry[0], story.backups[RESTORED], time.monotonic()
    run = play(platform, "playbooks/restore_registry.yml", snapshot=backup.snapshot)
    assert run.returncode == 2, said(run)[-2000:]
    assert re.search(rf"The registry on {LEADER} has \d+ users", said(run)), said(run)[-2000:]
    run = play(platform, "playbooks/restore_registry.yml", snapshot=backup.snapshot, replace=LEADER)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr
    print(f"the registry was restored in {time.monotonic() - begin:.0f} s")
    found = differences(platform)
    assert found["only_on_core"] == set()
    assert not found["only_in_registry"] & story.load.came(until=of_core.instant)
    assert not found["only_in_registry"] & story.load.came(since=backup.end)
    for name in sorted(story.load.came(until=of_core.instant))[:3]:
        assert server_of(platform, name) == f"{CORE}.{platform.domain}"


def test_backups_go_on_after_that_and_are_shown(platform: Platform, story: Story) -> None:
    run = play(platform, "playbooks/backup.yml")
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr
    text = said(run)
    for host in (CORE, LEADER):
        assert re.search(rf"\b{host} +just now +\d+ ", text), text[-2000:]
    overview = platform.inventory / "backups/overview.json"
    assert overview.stat().st_mode & 0o777 == 0o600
    found = {entry["host"]: entry for entry in json.loads(overview.read_text())}
    assert set(found) == {CORE, LEADER}
    for host, taken in ((CORE, story.backups), (LEADER, story.registry)):
        assert found[host]["server"] == SERVER
        assert found[host]["last"]["ok"]
        assert found[host]["last"]["snapshot"] not in {backup.snapshot for backup in taken}
        assert len(found[host]["snapshots"]) > len(taken)
        assert found[host]["newest"] == max(found[host]["snapshots"])


def test_passwords_are_in_no_journal(platform: Platform, story: Story, secrets: dict[str, str]) -> None:
    passwords = {name: secret for name, secret in secrets.items() if name.startswith("pryv_backup")}
    assert len(passwords) >= 6
    for host in (CORE, LEADER, SERVER):
        text = platform.machine(host).check_output(f"journalctl --since @{story.begin} --output cat")
        assert "backup" in text
        assert [name for name, secret in passwords.items() if secret in text] == [], host
