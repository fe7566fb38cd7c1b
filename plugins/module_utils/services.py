"""Services of compose projects, as the host sees them: whether they run, stay up and answer.

Ansible's module looks at them with it, and so does what a host tells of itself: it needs Python alone.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

Execute = Callable[[Sequence[str]], tuple[int, str, str]]

# After that long Docker, too, takes a container for started and forgets that it failed before.
SETTLED_SECONDS = 10
# What an init may take to start the program of a container; one that is younger than that has been started anew.
INIT_SECONDS = 20
POLL_SECONDS = 1
ANSWER_SECONDS = 5
LOG_LINES, LOG_WIDTH = 12, 240
REDIS = "redis"
# What the images' base brings: these are no programs of Pryv's, and some are switched off.
BASE_PROGRAMS = {"cron", "runit", "sshd", "syslog-forwarder", "syslog-ng"}

SECRET_NAMES = re.compile(
    r"""["']?[\w.-]*(?:auth|key|pass|secret|token)[\w.-]*["']?\s*[:=]?\s*["']?([^\s"',{}\[\]]{6,})""", re.I
)
LONG_TOKEN = re.compile(r"\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{20,}\b")
ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
CREDENTIALS = re.compile(r"://[^\s/@]+@")
QUERY = re.compile(r"\?[^\s\"']+")


class DockerError(Exception):
    """Docker does not answer; the message says why."""


@dataclass(frozen=True)
class Process:
    """A process of the host.

    Attributes:
        parent: Process ID of its parent.
        age: How long it has run, in seconds.
        command: Its words; empty for one that has ended.
    """

    parent: int
    age: float
    command: Sequence[str]


@dataclass
class Service:
    """A service of a compose project, and what has been seen of it.

    Attributes:
        project: Name of the project.
        name: Name of the service.
        folder: Folder of the project.
        programs: Process IDs of its programs at the last look.
        restarted: Whether its program has been started anew while it was looked at.
        found: What is wrong; empty when nothing is.
        container: Its container; empty when it has none.
    """

    project: str
    name: str
    folder: str
    programs: dict[str, int] = field(default_factory=dict)
    restarted: bool = False
    found: str = "has not been looked at"
    container: str = ""


def processes() -> dict[int, Process]:
    """Return the processes of this host by ID."""
    ticks = os.sysconf("SC_CLK_TCK")
    uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may end meanwhile
            state, parent, *rest = (
                (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            )
            words = (
                (folder / "cmdline").read_text(encoding="utf-8", errors="replace").split("\0") if state != "Z" else []
            )
            found[int(folder.name)] = Process(
                int(parent), uptime - int(rest[17]) / ticks, [word for word in words if word]
            )
    return found


def programs(init: int, running: Mapping[int, Process]) -> dict[str, int]:
    """Return the programs of a container by name, each with its process ID; 0 for one that does not run.

    Args:
        init: The container's first process, which is its program unless it is an init with `runsv` for each program.
        running: Processes of the host.
    """
    children: dict[int, list[int]] = {}
    for number, process in running.items():
        if process.command:
            children.setdefault(process.parent, []).append(number)

    def below(number: int) -> Iterator[int]:
        for child in children.get(number, ()):
            yield child
            yield from below(child)

    found = {}
    for number in below(init):
        command = running[number].command
        if Path(command[0]).name == "runsv" and len(command) > 1 and command[1] not in BASE_PROGRAMS:
            found[command[1]] = min(children.get(number, [0]))
    return found or {"": init if init in running else 0}


def answers(port: int, service: str) -> bool:
    """Tell whether something answers on a port of this host; Docker alone would only take the connection.

    Args:
        port: The port.
        service: Name of the service in its compose project.
    """
    question = b"PING\r\n" if service == REDIS else b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS) as connection:
            connection.sendall(question)
            return bool(connection.recv(1))
    except OSError:
        return False


def state_problem(service: Service, details: Mapping[str, Any], running: Mapping[int, Process], now: float) -> str:
    """Return what is wrong with a service's container and its program; empty when nothing is.

    Args:
        service: The service; what is seen of its programs is kept there.
        details: Of its container, as `docker inspect` tells.
        running: Processes of the host.
        now: The time, in seconds since the epoch.
    """
    state = details["State"]
    if state["Status"] == "restarting":
        return f"ends again and again (exit code {state['ExitCode']})"
    if state["Status"] != "running":
        return f"is {state['Status']} (exit code {state['ExitCode']})"
    found = programs(state["Pid"], running)
    service.restarted = service.restarted or any(
        service.programs.get(name, number) != number for name, number in found.items()
    )
    service.programs = found
    stopped = [name for name, number in found.items() if number not in running]
    if stopped:
        return "ends again and again: its init is about to start it anew"
    age = min(running[number].age for number in found.values())
    container_age = now - seconds_since_epoch(state["StartedAt"])
    restarted = service.restarted or details["RestartCount"] > 0 or age < container_age - INIT_SECONDS
    published = list(ports(details))
    if age < SETTLED_SECONDS and (restarted or not published):
        return f"was started {age:.0f} seconds ago" + (", and not for the first time" if restarted else "")
    silent = [str(port) for port in published if not answers(port, service.name)]
    return f"does not answer on port {', '.join(silent)}" if silent else ""


def ports(details: Mapping[str, Any]) -> Iterator[int]:
    """Yield the TCP ports of 127.0.0.1 that lead to a container."""
    for inner, bindings in (details["NetworkSettings"]["Ports"] or {}).items():
        for binding in bindings or ():
            if inner.endswith("/tcp") and binding["HostIp"] == "127.0.0.1":
                yield int(binding["HostPort"])


def seconds_since_epoch(text: str) -> float:
    """Return Docker's time, which has nanoseconds, in seconds since the epoch."""
    return datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc).timestamp()


def without_secrets(line: str, secrets: Iterable[str] = ()) -> str:
    """Return a line of a log with nothing in it that may be secret or personal.

    Args:
        line: The line.
        secrets: Texts that are secret.
    """
    for secret in secrets:
        line = line.replace(secret, "***")
    line = CREDENTIALS.sub("://***@", QUERY.sub("?***", line))
    line = SECRET_NAMES.sub(lambda match: match[0].replace(match[1], "***"), line)
    return ADDRESS.sub("***", LONG_TOKEN.sub("***", line))[:LOG_WIDTH]


class Host:
    """The services of this host.

    Args:
        execute: Runs a command, and returns its exit code, what it printed, and what it complained of.
        folders: Folders with a `compose.yml`, with wildcards.
    """

    def __init__(self, execute: Execute, folders: Iterable[str]) -> None:
        """Find out which services there should be."""
        self._execute = execute
        files = sorted({path for folder in folders for path in Path("/").glob(f"{folder.strip('/')}/compose.yml")})
        self.services = [service for path in files for service in self._services(path)]

    def _run(self, *command: str) -> str:
        code, output, error = self._execute(["docker", *command])
        if code:
            raise DockerError(f"docker {command[0]} failed: {error.strip()}")
        return output

    def _services(self, path: Path) -> Iterator[Service]:
        name = re.search(r"^name: *(\S+)", path.read_text(encoding="utf-8"), re.M)
        for service in self._run("compose", "--file", str(path), "config", "--services").split():
            yield Service(name[1] if name else path.parent.name, service, str(path.parent))

    def look(self) -> None:
        """Look at every service once."""
        numbers = self._run("ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project").split()
        containers = {}
        if numbers:
            code, output, _ = self._execute(["docker", "inspect", *numbers])
            for details in json.loads(output or "[]") if code in (0, 1) else []:  # 1: one was removed meanwhile
                labels = details["Config"]["Labels"]
                containers[labels["com.docker.compose.project"], labels["com.docker.compose.service"]] = details
        running, now = processes(), time.time()
        for service in self.services:
            details = containers.get((service.project, service.name))
            service.container = details["Id"] if details else ""
            service.found = state_problem(service, details, running, now) if details else "has no container"

    def look_until_well(self, seconds: float, also: Callable[[], str] = lambda: "") -> str:
        """Look at every service until all are well or the time is over.

        Args:
            seconds: How long they may take.
            also: Looks at what else has to be well, and returns what is wrong with it; empty when nothing is.

        Returns:
            What that said last.
        """
        end = time.monotonic() + seconds
        while True:
            self.look()
            other = also()
            if not (other or any(service.found for service in self.services)) or time.monotonic() > end:
                return other
            time.sleep(POLL_SECONDS)

    def log(self, service: Service) -> str:
        """Return the last lines of a service's log, without secrets."""
        if not service.container:
            return " nothing"
        _, output, error = self._execute(["docker", "logs", "--tail", str(LOG_LINES), service.container])
        secrets = set(self._secrets(Path(service.folder, service.name)))
        lines = [without_secrets(line, secrets) for line in [*output.splitlines(), *error.splitlines()] if line.strip()]
        # Each start says the same.
        return "".join(f"\n    {line}" for line in dict.fromkeys(lines)) or " nothing"

    def _secrets(self, folder: Path) -> Iterator[str]:
        for path in folder.rglob("*"):
            with suppress(OSError, UnicodeDecodeError):
                if path.is_file():
                    yield from (match[1] for match in SECRET_NAMES.finditer(path.read_text(encoding="utf-8")))
