"""Containers of the platform's services, by the names that their compose files give them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pryv_metrics.asking import DOCKER, Docker
from pryv_metrics.samples import Sample

PROJECT, SERVICE = "com.docker.compose.project", "com.docker.compose.service"
GROUPS = Path("/sys/fs/cgroup")
PROCESSES = Path("/proc")
#: In which states a service is there: a backup pauses it for a moment.
RUNNING = ("running", "paused")


def collect(options: Mapping[str, Any]) -> Iterator[Sample]:
    """Tells of each service that a compose file names, whether or not it has a container.

    Args:
        options: `folder`, below which each project has a folder with its compose file; `socket`, Docker's.

    Raises:
        CollectorError: When Docker does not answer.
    """
    expected = wanted(Path(options["folder"]))
    filters = quote(json.dumps({"label": [PROJECT]}))
    found = set()
    with closing(Docker(Path(options.get("socket", DOCKER)))) as docker:
        for listed in docker.get(f"/containers/json?all=1&filters={filters}") or ():
            labels = {"project": listed["Labels"][PROJECT], "service": listed["Labels"][SERVICE]}
            if tuple(labels.values()) not in expected:
                continue
            container = docker.get(f"/containers/{listed['Id']}/json")
            if container is None:
                continue
            found.add(tuple(labels.values()))
            yield from describe(container, labels)
            if container["State"]["Status"] in RUNNING:
                used = docker.get(f"/containers/{listed['Id']}/stats?stream=false&one-shot=true") or {}
                yield from memory(used.get("memory_stats", {}), labels)
    for project, service in expected - found:
        yield Sample("pryv_container_running", 0, {"project": project, "service": service})


def wanted(folder: Path) -> set[tuple[str, str]]:
    """Project and service of all that the compose files below a folder name."""
    found = set()
    for path in folder.glob("*/compose.yml"):
        text = path.read_text()
        project = re.search(r"^name: (\S+)$", text, re.M)
        _, _, rest = text.partition("\nservices:\n")
        services = re.split(r"^\S", rest, maxsplit=1, flags=re.M)[0]
        found |= {(project[1] if project else "", name) for name in re.findall(r"^  (\w+):$", services, re.M)}
    return found


def describe(container: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[Sample]:
    """What there is to tell of one container, as Docker describes it."""
    state = container["State"]
    running = state["Status"] in RUNNING
    yield Sample("pryv_container_running", running, labels)
    yield Sample("pryv_container_restarts_total", container["RestartCount"], labels)
    if container["HostConfig"]["Memory"]:
        yield Sample("pryv_container_memory_limit_bytes", container["HostConfig"]["Memory"], labels)
    if running:
        started = datetime.fromisoformat(state["StartedAt"][:19] + "+00:00").timestamp()
        yield Sample("pryv_container_started_seconds", started, labels)
        yield from kills(state["Pid"], labels)


def memory(used: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[Sample]:
    """What a container uses of its memory, as Docker describes it: without what the kernel gives back at once."""
    if "usage" in used:
        detail = used.get("stats", {})
        spare = detail.get("inactive_file", detail.get("total_inactive_file", 0))
        yield Sample("pryv_container_memory_bytes", max(used["usage"] - spare, 0), labels)


def kills(process: int, labels: Mapping[str, str]) -> Iterator[Sample]:
    """How often the kernel has ended a process of a container for want of memory, by its first process.

    Nothing where that has just ended, and on a system with the first version of control groups.
    """
    with suppress(OSError, ValueError, KeyError):
        path = (PROCESSES / str(process) / "cgroup").read_text().strip().rpartition("::/")[2]
        events = dict(line.split() for line in (GROUPS / path / "memory.events").read_text().splitlines())
        yield Sample("pryv_container_oom_kills_total", int(events["oom_kill"]), labels)
