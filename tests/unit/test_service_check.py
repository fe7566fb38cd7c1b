"""What is said of services that do not stay up, and that nothing secret is."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils import services as sc

NOW = 1_800_000_000.0
STARTED = "2027-01-15T08:00:00.123456789Z"  # NOW


def container(status: str = "running", age: float = 600, restarts: int = 0, port: int | None = None) -> dict[str, Any]:
    """What Docker tells of a container whose first process is 10."""
    started = datetime.fromtimestamp(NOW - age, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000000000Z")
    bindings = {"7000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}], "5353/udp": None} if port else {}
    return {
        "State": {"Status": status, "Pid": 10, "ExitCode": 1, "StartedAt": started},
        "RestartCount": restarts,
        "NetworkSettings": {"Ports": bindings},
    }


def with_runit(age: float, **programs: float | None) -> dict[int, sc.Process]:
    """The processes of one of Pryv's images.

    Args:
        age: Of the container, in seconds.
        programs: By name, the age of each program; None for one that is about to be started.
    """
    running = {
        1: sc.Process(0, 9999, ["init"]),
        10: sc.Process(1, age, ["/usr/bin/python3", "/sbin/my_init"]),
        11: sc.Process(10, age, ["/usr/bin/runsvdir", "-P", "/etc/service"]),
        12: sc.Process(11, age, ["runsv", "syslog-ng"]),
    }
    for number, (name, seconds) in enumerate(programs.items(), 20):
        running[number] = sc.Process(11, age, ["runsv", name])
        if seconds is not None:
            running[number + 100] = sc.Process(number, seconds, ["node", "server.js"])
    return running


def problem(details: dict[str, Any], running: dict[int, sc.Process]) -> str:
    return sc.state_problem(sc.Service("pryv-core", "webhooks", "/none"), details, running, NOW)


def test_seconds_of_docker_s_time() -> None:
    assert sc.seconds_since_epoch(STARTED) == NOW


@pytest.mark.parametrize(
    ("details", "running", "expected"),
    [
        (container(), {10: sc.Process(1, 600, ["python3"])}, ""),
        (container(restarts=7), {10: sc.Process(1, 600, ["python3"])}, ""),  # long ago
        (container(age=3), {10: sc.Process(1, 3, ["python3"])}, "was started 3 seconds ago"),
        (
            container(age=3, restarts=2),
            {10: sc.Process(1, 3, ["python3"])},
            "was started 3 seconds ago, and not for the first time",
        ),
        (container("restarting"), {}, "ends again and again (exit code 1)"),
        (container("exited"), {}, "is exited (exit code 1)"),
        (container(), with_runit(600, app=598), ""),
        (container(), with_runit(600, app0=598, app1=597), ""),
        (container(), with_runit(600, app0=598, app1=2), "was started 2 seconds ago, and not for the first time"),
        (container(), with_runit(600, app0=598, app1=None), "ends again and again: its init is about to start it anew"),
        (container(), with_runit(600, app=60), ""),  # once, a minute ago
    ],
)
def test_state_of_a_service_without_a_port(
    details: dict[str, Any], running: dict[int, sc.Process], expected: str
) -> None:
    assert problem(details, running) == expected


def test_a_port_has_to_answer_which_docker_alone_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port, reply = server.getsockname()[1], b""

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(reply)

        threading.Thread(target=serve, daemon=True).start()
        details, running = container(age=2, port=port), {10: sc.Process(1, 2, ["python3"])}
        assert problem(details, running) == f"does not answer on port {port}"
        reply = b"HTTP/1.1 404 Not Found\r\n\r\n"
        assert problem(details, running) == ""
        # It answers each time, and dies again.
        assert "not for the first time" in problem({**details, "RestartCount": 1}, running)


def test_a_program_that_another_has_replaced_between_two_looks() -> None:
    service, running = sc.Service("pryv-core", "webhooks", "/none"), with_runit(15, app=1)
    sc.state_problem(service, container(age=15), running, NOW)
    running[999] = running.pop(120)
    assert sc.state_problem(service, container(age=15), running, NOW).endswith("and not for the first time")


def test_this_process_is_found_with_its_age() -> None:
    found = sc.processes()[os.getpid()]
    assert found.parent == os.getppid()
    assert 0 <= found.age < 3600
    assert "python" in found.command[0]


@pytest.mark.parametrize(
    "line",
    [
        'adminAccessKey: "hush-hush"',
        '{"password":"hush-hush","x":1}',
        "Authorization hush-hush",
        "GET https://sms.example.com/send?to=1&t=hush-hush failed",
        "redis://user:hush-hush@redis:6379",
        "connecting with hush-hush",  # in the service's configuration
        "invalid access hushhushhush0hushhushhush",
        "no mail to hush-hush@example.com",
    ],
)
def test_a_log_s_line_has_no_secret(line: str) -> None:
    shown = sc.without_secrets(line, ["hush-hush"] if "connecting" in line else [])
    assert "hush" not in shown
    assert "***" in shown


def test_a_log_s_line_stays_readable() -> None:
    line = "Error: OBJECT_MISSING_REQUIRED_PROPERTY in /app/conf/mfa.yml at Object.load (validation.js:22)"
    assert sc.without_secrets(line) == line


def test_secrets_of_a_service_s_configuration(tmp_path: Path) -> None:
    (tmp_path / "mail.json").write_text('{"http": {"port": 9000, "auth": "hush-hush"}, "smtp": {"pass": "quiet7"}}')
    host = object.__new__(sc.Host)
    assert set(host._secrets(tmp_path)) == {"hush-hush", "quiet7"}
