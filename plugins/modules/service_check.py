"""See whether the services of compose projects run, stay up and answer, and say why one does not."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.named_https import Connection, trust

DOCUMENTATION = r"""
module: service_check
author: The Pryv Ansible authors
version_added: "0.1.0"
short_description: See whether the services of compose projects run, stay up and answer
description:
  - Looks at every service of the compose projects of this host until all is well or the time is over. A service is well
    when its container runs, each TCP port that it publishes on 127.0.0.1 gives an answer, and its program has not just
    been started again; one without a port must have run for ten seconds.
  - Sees programs that a container's own init (runit) starts again and again, while Docker says that the container is
    up.
  - Of a service that is not well it shows the last lines of the log, without what looks like a secret.
options:
  folders:
    description: Folders with a C(compose.yml); may have wildcards. Those without one are passed over.
    type: list
    elements: str
    required: true
  seconds:
    description: How long the services may take.
    type: int
    required: true
  name:
    description: Host name by which this host's nginx is asked over HTTPS as well, on 127.0.0.1; empty for not at all.
    type: str
    default: ""
  path:
    description: Path that nginx is asked for; the answer must be no error.
    type: str
    default: /
  authority:
    description: Authorities that nginx's certificate is verified with; needed where it is asked.
    type: path
  report_only:
    description: Whether to succeed in any case, and leave the judgement to who reads RV(checks).
    type: bool
    default: false
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Wait until the services run and answer
  service_check:
    folders: [/etc/pryv/core]
    seconds: 300
    name: co1.pryv.example.com
    authority: /etc/pryv/tls/ca.pem
"""

RETURN = r"""
checks:
  description: What was looked at, each with C(what), C(found) (empty when all is well) and C(remedy).
  returned: success
  type: list
  elements: dict
"""

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
        module: Runs commands.
        folders: Folders with a `compose.yml`, with wildcards.
    """

    def __init__(self, module: AnsibleModule, folders: Iterable[str]) -> None:
        """Find out which services there should be."""
        self._module = module
        files = sorted({path for folder in folders for path in Path("/").glob(f"{folder.strip('/')}/compose.yml")})
        self.services = [service for path in files for service in self._services(path)]

    def _run(self, *command: str) -> str:
        code, output, error = self._module.run_command(["docker", *command])
        if code:
            raise DockerError(f"docker {command[0]} failed: {error.strip()}")
        return str(output)

    def _services(self, path: Path) -> Iterator[Service]:
        name = re.search(r"^name: *(\S+)", path.read_text(encoding="utf-8"), re.M)
        for service in self._run("compose", "--file", str(path), "config", "--services").split():
            yield Service(name[1] if name else path.parent.name, service, str(path.parent))

    def look(self) -> None:
        """Look at every service once."""
        numbers = self._run("ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project").split()
        containers = {}
        if numbers:
            code, output, _ = self._module.run_command(["docker", "inspect", *numbers])
            for details in json.loads(output or "[]") if code in (0, 1) else []:  # 1: one was removed meanwhile
                labels = details["Config"]["Labels"]
                containers[labels["com.docker.compose.project"], labels["com.docker.compose.service"]] = details
        running, now = processes(), time.time()
        for service in self.services:
            details = containers.get((service.project, service.name))
            service.container = details["Id"] if details else ""
            service.found = state_problem(service, details, running, now) if details else "has no container"

    def log(self, service: Service) -> str:
        """Return the last lines of a service's log, without secrets."""
        if not service.container:
            return " nothing"
        _, output, error = self._module.run_command(["docker", "logs", "--tail", str(LOG_LINES), service.container])
        secrets = set(self._secrets(Path(service.folder, service.name)))
        lines = [without_secrets(line, secrets) for line in [*output.splitlines(), *error.splitlines()] if line.strip()]
        # Each start says the same.
        return "".join(f"\n    {line}" for line in dict.fromkeys(lines)) or " nothing"

    def _secrets(self, folder: Path) -> Iterator[str]:
        for path in folder.rglob("*"):
            with suppress(OSError, UnicodeDecodeError):
                if path.is_file():
                    yield from (match[1] for match in SECRET_NAMES.finditer(path.read_text(encoding="utf-8")))


def nginx_problem(name: str, path: str, authority: str) -> str:
    """Return what is wrong with the answer of this host's nginx; empty when nothing is.

    Args:
        name: Host name.
        path: Path.
        authority: File of the authorities to trust.
    """
    try:
        status = Connection("127.0.0.1", name, trust(authority), ANSWER_SECONDS).status(path)
    except (OSError, http.client.HTTPException) as error:
        return f"gives no answer ({error})"
    return f"answers {status}" if status >= 400 else ""


def wait(host: Host, given: Mapping[str, Any]) -> list[dict[str, str]]:
    """Look until all is well or the time is over.

    Args:
        host: The services.
        given: Parameters of the module.

    Returns:
        What was looked at, with what is wrong with it.

    Raises:
        DockerError: Docker does not answer.
    """
    end = time.monotonic() + given["seconds"]
    while True:
        host.look()
        nginx = nginx_problem(given["name"], given["path"], given["authority"]) if given["name"] else ""
        if not (nginx or any(service.found for service in host.services)) or time.monotonic() > end:
            break
        time.sleep(POLL_SECONDS)
    projects = dict.fromkeys(service.project for service in host.services)
    well = {
        project: [one.name for one in host.services if one.project == project and not one.found] for project in projects
    }
    checks = [
        {"what": f"{project} runs {', '.join(names)}", "found": "", "remedy": ""}
        for project, names in well.items()
        if names
    ]
    checks += [
        {
            "what": f"service {service.name} of {service.project}",
            "found": service.found,
            "remedy": f"See docker logs {service.project}-{service.name}-1 there, and run site.yml."
            f" The end of its log:{host.log(service)}",
        }
        for service in host.services
        if service.found
    ]
    if given["name"]:
        what = f"nginx as https://{given['name']}{given['path']}"
        checks.append({"what": what, "found": nginx, "remedy": "See the log of the service behind it, and nginx's"})
    return checks


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "folders": {"type": "list", "elements": "str", "required": True},
            "seconds": {"type": "int", "required": True},
            "name": {"type": "str", "default": ""},
            "path": {"type": "str", "default": "/"},
            "authority": {"type": "path"},
            "report_only": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        checks = wait(Host(module, given["folders"]), given)
    except DockerError as error:
        checks = [{"what": "Docker", "found": str(error), "remedy": "See systemctl status docker there"}]
    wrong = [f"{check['what']} {check['found']}. {check['remedy']}" for check in checks if check["found"]]
    if wrong and not given["report_only"]:
        module.fail_json(msg=f"Not well after {given['seconds']} seconds:\n" + "\n".join(wrong))
    module.exit_json(changed=False, checks=checks)


if __name__ == "__main__":
    main()
