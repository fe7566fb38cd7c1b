"""What hosts record is at the monitoring host, found by host and unit, and sealed from who sent it."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import pytest

from tests.hosts.conftest import Platform

#: How soon a line has to arrive, in seconds: at once, unless the sender waits for its next attempt.
WAY = 90
#: Sends each of some requests, and tells their status codes.
SEND = r"""
import base64, http.client, json, os, ssl

address, port, name, asked = json.loads(os.environ["ASKED"])
context = ssl.create_default_context(cafile="/etc/pryv/tls/ca.pem")
context.check_hostname = False
found = []
for method, path, account, body in asked:
    connection = http.client.HTTPSConnection(address, port, context=context, timeout=10)
    word = {"Authorization": "Basic " + base64.b64encode(account.encode()).decode()} if account else {}
    connection.request(method, path, body, {**word, "Host": name, "Content-Type": "application/vnd.fdo.journal"})
    found.append(connection.getresponse().status)
print(json.dumps(found))
"""
Request = tuple[str, str, str, str | None]


def search(platform: Platform, *arguments: str) -> str:
    """What an administrator finds at the monitoring host."""
    keeper = platform.machine(platform.topology["monitoring"][0])
    return str(keeper.check_output(f"pryv-logs {' '.join(arguments)}"))


def wait_for(platform: Platform, text: str, *arguments: str) -> None:
    deadline = time.monotonic() + WAY
    while text not in search(platform, *arguments):
        assert time.monotonic() < deadline, arguments
        time.sleep(1)


def send(platform: Platform, source: str, requests: Sequence[Request]) -> list[int]:
    """What the monitoring host answers to somebody who is root on another host."""
    keeper, ports = platform.topology["hosts"][platform.topology["logs"][source]], platform.topology["ports"]
    name = platform.topology["service_names"]["monitoring"]
    asked = json.dumps([keeper["private_address"], ports["logs"], name, requests])
    answers: list[int] = json.loads(platform.machine(source).check_output("ASKED=%s python3 -c %s", asked, SEND))
    return answers


def entry(text: str, host: str) -> str:
    """A line as journals send it, which says that it is a host's."""
    now = time.time_ns() // 1000
    own = {"MESSAGE": text, "_HOSTNAME": host, "_BOOT_ID": uuid.uuid4().hex, "SYSLOG_IDENTIFIER": "forged"}
    fields = {"__REALTIME_TIMESTAMP": now, "__MONOTONIC_TIMESTAMP": 1, **own}
    return "".join(f"{key}={value}\n" for key, value in fields.items()) + "\n"


def test_a_line_is_found_by_host_and_unit_and_who_looked_is_logged(platform: Platform) -> None:
    core, other = platform.hosts("core")[0], platform.hosts("registry")[0]
    text, unit = f"line-{uuid.uuid4().hex}", "logs-test.service"
    run = f"systemd-run --quiet --wait --unit={unit} sh -c 'logger %s; sleep 1'"
    platform.machine(core).check_output(run, text)
    wait_for(platform, text, "--host", core, "--unit", unit, "--since", "-5min")
    assert text not in search(platform, "--host", core, "--unit", "nginx.service", "--since", "-5min")
    assert text not in search(platform, "--host", other, "--since", "-5min")
    # A new file for what comes from now on: nothing is lost, neither before nor after.
    keeper = platform.machine(platform.topology["logs"][core])
    keeper.check_output("systemctl start pryv-logs-keep.service")
    platform.machine(core).check_output("logger %s-again", text)
    wait_for(platform, f"{text}-again", "--host", core, "--since", "-5min")
    assert text in search(platform, "--host", core, "--unit", unit)
    (name,) = (account["name"] for account in platform.variables[core]["administrators"])
    looks = keeper.check_output("journalctl --identifier=pryv-logs --output=cat --since=-5min")
    assert f"{name} looks at: --host={core} --unit={unit} --since=-5min" in looks


def test_a_host_adds_lines_in_its_own_name_and_does_nothing_else(
    platform: Platform, secrets: Mapping[str, str]
) -> None:
    core, other = platform.hosts("core")[0], platform.hosts("registry")[0]
    text = f"line-{uuid.uuid4().hex}"
    own, others = (f"{host}:{secrets[f'pryv_log_passwords.{host}']}" for host in (core, other))
    mixed = f"{other}:{secrets[f'pryv_log_passwords.{core}']}"
    line = entry(text, other)
    answers = send(
        platform,
        core,
        [
            ("POST", "/upload", own, line),
            ("POST", "/upload", others, line),
            ("POST", "/upload", mixed, line),
            ("POST", "/upload", "", line),
            ("GET", "/upload", own, None),
            ("DELETE", "/upload", own, None),
            ("GET", "/entries", own, None),
        ],
    )
    forbidden, unknown = HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED
    assert answers[0] == HTTPStatus.ACCEPTED
    assert answers[1] == forbidden
    assert set(answers[2:4]) <= {forbidden, unknown}
    assert answers[4:] == [forbidden, forbidden, HTTPStatus.NOT_FOUND]
    wait_for(platform, text, "--host", core, "--identifier", "forged")
    assert search(platform, "--host", other, "--identifier", "forged") == ""


def test_nobody_else_reaches_where_journals_arrive(platform: Platform) -> None:
    keeper = platform.topology["monitoring"][0]
    door = platform.topology["hosts"][keeper]["private_address"], platform.topology["ports"]["logs"]
    with pytest.raises(OSError, match=r"timed out|refused"):
        socket.create_connection(door, timeout=2)


def test_the_password_is_in_no_journal_and_no_list_of_processes(platform: Platform, secrets: Mapping[str, str]) -> None:
    core = platform.hosts("core")[0]
    seen = platform.machine(core).check_output(
        "journalctl --boot --unit=systemd-journal-upload.service --output=cat; ps ax -o args; "
        "systemctl show systemd-journal-upload.service"
    )
    assert "systemd-journal-upload" in seen
    assert secrets[f"pryv_log_passwords.{core}"] not in seen
