"""People are told of what is broken, by its name and within its time, and that it is mended.

`make test` breaks the five things that matter most, all at once. `make soak` breaks all fifteen, and looks for an hour
whether a healthy platform is silent.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import pytest

from tests.hosts.conftest import REPEATS, Answer, Platform
from tests.hosts.load import faults

#: How long people wait beside what a rule waits for, in seconds: hosts look at themselves each 30 s, are asked each
#: 15 s with 10 s to answer, rules are looked at each 15 s, and Alertmanager gathers for 15 s what belongs together.
WAY = 85
#: How long until they know that it was mended, beside what a rule still sees: a database takes a while to start.
MENDING = 120
#: How many other alerts of the same host may come with one.
BESIDE = 2
#: Test hosts have no processors, disk, and clock of their own: what they tell of these is true of the machine that runs
#: them, and of whatever else runs there.
OF_THE_MACHINE = {"CpuBusy", "DiskBusy", "ClockUnsynchronised"}
#: What is no fault of a host of the platform.
NO_FAULTS = {"Watchdog", *OF_THE_MACHINE}
QUIET_SECONDS = 3600 if REPEATS > 1 else 0
ROUNDS: Sequence[Callable[[Platform], list[faults.Fault]]] = (faults.foremost, faults.others, faults.slow)
#: How long what comes late may come, after people were told of all: what breaks with it is named by slower rules.
LATE_SECONDS = 330 if REPEATS > 1 else 0
Alert = tuple[str, str]


class Receiver(ThreadingHTTPServer):
    """A webhook, which keeps when it was sent what: `firing` or `resolved`, with host and name of an alert."""

    def __init__(self, address: str) -> None:
        self.told: list[tuple[float, str, Alert]] = []
        super().__init__((address, 0), Hook)

    def first(self, status: str, since: float) -> dict[Alert, float]:
        """When it was first told of each alert, beginning at a time: it may be told of others of before, too."""
        return {alert: when for when, what, alert in reversed(self.told) if what == status and when > since}


class Hook(BaseHTTPRequestHandler):
    """Takes Alertmanager's messages."""

    server: Receiver

    def do_POST(self) -> None:
        message: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for alert in message["alerts"]:
            labels = alert["labels"]
            self.server.told.append((time.monotonic(), alert["status"], (labels.get("host", ""), labels["alertname"])))
        self.send_response(HTTPStatus.OK)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: what was told is what tests look at."""


@pytest.fixture
def receiver(platform: Platform) -> Iterator[Receiver]:
    """A webhook on this machine: Alertmanager sends there what it would send to nobody, and soon what has changed."""
    us = platform.client("mon1")
    server = Receiver(us)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    machine, file = platform.machine("mon1"), faults.ALERTMANAGER
    hook = (
        f"/name: nobody$/a \\    webhook_configs: [{{url: 'http://{us}:{server.server_port}/', send_resolved: true}}]"
    )
    machine.check_output(f"cp -p {file} {file}.kept")
    try:
        machine.check_output(
            f"sed -i -e %s -e 's/group_interval: 1m/group_interval: 10s/' {file} && amtool check-config {file}", hook
        )
        machine.check_output("systemctl reload prometheus-alertmanager.service")
        yield server
    finally:
        machine.check_output(f"mv {file}.kept {file} && systemctl reload prometheus-alertmanager.service")
        server.shutdown()


def ask(platform: Platform, path: str, reader: Mapping[str, str]) -> Any:
    """What the page of the monitoring host can ask."""
    answer: Answer = platform.ask("mon1", platform.topology["service_names"]["monitoring"], path, headers=reader)
    assert answer.status == HTTPStatus.OK, path
    return json.loads(answer.body)


def fired(platform: Platform, reader: Mapping[str, str], seconds: int) -> set[Alert]:
    """What fired within the last seconds, but for what is about the machine."""
    query = f'max_over_time(ALERTS{{alertstate="firing"}}[{seconds}s])'
    series = ask(platform, f"/api/v1/query?query={quote(query)}", reader)["data"]["result"]
    found = {(one["metric"].get("host", ""), one["metric"]["alertname"]) for one in series}
    assert "Watchdog" in {name for _, name in found}
    return {alert for alert in found if alert[1] not in NO_FAULTS}


def wait_until(look: Callable[[], object], seconds: float, what: Callable[[], object]) -> None:
    """Waits until something is so, and says what there is instead when it is not."""
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, what()
        time.sleep(3)


def waits(platform: Platform, reader: Mapping[str, str]) -> dict[str, float]:
    """For how long each rule wants to see what it tells of, in seconds."""
    groups = ask(platform, "/api/v1/rules", reader)["data"]["groups"]
    return {rule["name"]: rule["duration"] for group in groups for rule in group["rules"] if rule["type"] == "alerting"}


def test_every_target_is_asked_and_a_healthy_platform_is_silent(platform: Platform, reader: dict[str, str]) -> None:
    asked = ask(platform, "/api/v1/targets?state=active", reader)["data"]["activeTargets"]
    assert {target["labels"]["host"] for target in asked} == set(platform.topology["hosts"])

    def silent() -> list[Any]:
        active = ask(platform, "/api/v1/targets?state=active", reader)["data"]["activeTargets"]
        return [(target["labels"], target["lastError"]) for target in active if target["health"] != "up"]

    wait_until(lambda: not silent(), 45, silent)
    # Whatever tests before this one have broken.
    wait_until(lambda: not fired(platform, reader, 20), 120, lambda: fired(platform, reader, 20))
    time.sleep(QUIET_SECONDS)
    assert fired(platform, reader, QUIET_SECONDS + 20) == set()


@pytest.mark.parametrize("chosen", ROUNDS if REPEATS > 1 else ROUNDS[:1], ids=lambda chosen: chosen.__name__)
def test_people_are_told_of_faults_by_their_names_and_of_their_mending(
    platform: Platform,
    reader: dict[str, str],
    receiver: Receiver,
    user: str,
    chosen: Callable[[Platform], list[faults.Fault]],
) -> None:
    broken, wait = chosen(platform), waits(platform, reader)
    assert user == "co1"  # nobody misses the database of a core without people
    begin, begun = time.monotonic(), dict[Alert, float]()
    limits = {(fault.host, fault.alert): wait[fault.alert] + fault.builds + WAY for fault in broken}

    def lacking() -> set[Alert]:
        return limits.keys() - receiver.first("firing", begin).keys()

    try:
        for fault in broken:
            platform.machine(fault.host).check_output(fault.breaks)
            begun[fault.host, fault.alert] = time.monotonic()
        wait_until(lambda: not lacking(), max(limits.values()), lacking)
        time.sleep(LATE_SECONDS)
    finally:
        for fault in broken:
            platform.machine(fault.host).run(fault.mends)
        mended = time.monotonic()
        for fault in broken:
            platform.machine(fault.host).run("systemctl start pryv-metrics.service")
    firing = {alert: when for alert, when in receiver.first("firing", begin).items() if alert[1] not in NO_FAULTS}
    took = {alert: round(firing[alert] - start) for alert, start in begun.items()}
    beside = firing.keys() - begun.keys()
    print("seconds until people were told:", took, "and beside it of", beside)
    assert {alert: seconds for alert, seconds in took.items() if seconds > limits[alert]} == {}
    hosts = [host for host, _ in beside]
    assert set(hosts) <= {fault.host for fault in broken}, beside
    assert [alert for alert in beside if hosts.count(alert[0]) > BESIDE] == []

    def unmended() -> set[Alert]:
        return firing.keys() - receiver.first("resolved", mended).keys()

    wait_until(lambda: not unmended(), max(fault.lasts for fault in broken) + MENDING, unmended)
    resolved = receiver.first("resolved", mended)
    print("seconds until they knew that it was mended:", {alert: round(resolved[alert] - mended) for alert in begun})
