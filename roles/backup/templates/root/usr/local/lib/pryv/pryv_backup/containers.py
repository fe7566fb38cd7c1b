"""Containers of a compose project: paused for a moment, and never for longer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pryv_backup import programs
from pryv_backup.problem import BackupError
from pryv_backup.settings import Settings

#: The transient timer that unpauses whatever becomes of this program.
TIMER = "pryv-unpause"
PROGRAM = Path(__file__).resolve().parents[3] / "sbin" / "pryv-backup"


@dataclass
class Pause:
    """How long a pause took, in seconds; known when it is over."""

    seconds: float = 0


def containers(project: str) -> tuple[list[str], list[str]]:
    """The project's containers: those that run, and those that are paused."""
    command = ["docker", "ps", "--no-trunc", "--filter", f"label=com.docker.compose.project={project}"]
    lines = programs.run([*command, "--format", "{{.ID}} {{.Status}}"]).output.splitlines()
    running = [line.split()[0] for line in lines if "(Paused)" not in line]
    return running, [line.split()[0] for line in lines if "(Paused)" in line]


def unpause(project: str) -> tuple[list[str], list[str]]:
    """Lets paused containers go on; what `containers` said before."""
    found = containers(project)
    if found[1]:
        programs.run(["docker", "unpause", *found[1]])
    return found


@contextmanager
def paused(settings: Settings) -> Iterator[Pause]:
    """The time in which no container of the project runs.

    Raises:
        BackupError: When they cannot be paused, or somebody let them go on meanwhile: the copy is not one instant.
    """
    pause = Pause()
    if settings.project is None:
        yield pause
        return
    start_timer(settings)
    running = containers(settings.project)[0]
    begin = time.monotonic()
    try:
        if running:
            programs.run(["docker", "pause", *running])
        yield pause
    finally:
        found = unpause(settings.project)
        pause.seconds = time.monotonic() - begin
    if [set(each) for each in found] != [set(), set(running)]:
        raise BackupError(f"containers ran during the copy, which took {pause.seconds:.1f} s")
    stop_timer()


def start_timer(settings: Settings) -> None:
    """Has systemd unpause the containers when this program does not."""
    stop_timer()
    programs.run(
        [
            "systemd-run",
            "--quiet",
            "--collect",
            f"--unit={TIMER}",
            f"--on-active={settings.pause_seconds}",
            "--timer-property=AccuracySec=100ms",
            str(PROGRAM),
            f"--configuration={settings.path}",
            "release",
        ]
    )


def stop_timer() -> None:
    """Takes that back; no harm is done where there is none."""
    programs.run(["systemctl", "stop", f"{TIMER}.timer"], good=None)


def images(projects: Iterable[str]) -> list[dict[str, Any]]:
    """Names, identifier and digests of the images of projects' containers, whether these run or not."""
    listed = ["docker", "ps", "--all", "--format", "{{.Image}}"]
    names = sorted(
        {
            name
            for project in projects
            for name in programs.run([*listed, f"--filter=label=com.docker.compose.project={project}"]).output.split()
        }
    )
    described = json.loads(programs.run(["docker", "image", "inspect", *names]).output) if names else []
    return [{"names": image["RepoTags"], "id": image["Id"], "digests": image["RepoDigests"]} for image in described]


def older(here: Sequence[Mapping[str, Any]], there: Sequence[Mapping[str, Any]]) -> list[str]:
    """Images that are older than those of a backup, as far as their tags say: one may not read what a newer one wrote.

    Args:
        here: Images as `images` describes them.
        there: The backup's.

    Returns:
        For each, a text with both versions.
    """
    known = versions(here)
    found = []
    for name, (tag, version) in versions(there).items():
        own = known.get(name)
        if own is not None and own[1] < version:
            found.append(f"{name} is {own[0]} here and was {tag}")
    return found


def versions(described: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Tag and version by the name of each image that has a number for a tag, such as 1.9.3."""
    found = {}
    for image in described:
        for name, _, tag in (text.rpartition(":") for text in image["names"] or ()):
            if re.match(r"v?\d+(\.\d+)*(?![\w.])", tag):
                found[name] = (tag, tuple(int(number) for number in re.findall(r"\d+", tag.partition("-")[0])))
    return found
