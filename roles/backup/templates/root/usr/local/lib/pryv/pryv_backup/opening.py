"""Databases of a restored tree, started from the platform's images with no network, and asked what they have.

Whoever may start containers is root, and who reads a restored tree, which somebody hostile may have made, should not
be: so one service reads, and has another one start the databases, to which it says a host's name and nothing else.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

from pryv_backup import programs
from pryv_backup.asking import ANSWER, ASK
from pryv_backup.files import below, opened
from pryv_backup.problem import BackupError

#: How a container is called, and how long it may take to answer, in seconds: it may have to repair much.
NAME, PATIENCE, POLL = "pryv-drill-{}", 1800.0, 0.2
#: What every one of them is denied.
CONFINED = (
    "--network=none",
    "--pull=never",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--pids-limit=2048",
    "--restart=no",
)
CLONE_NEWNET = 0x40000000


def request(address: Path, host: str, databases: int) -> dict[str, Any]:
    """Has the other service start a host's databases; what `answer` says.

    Args:
        address: Its socket.
        host: The host, whose backup is restored.
        databases: How many there are.

    Raises:
        BackupError: When it cannot be asked, or fails.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(databases * (PATIENCE + ANSWER))
            connection.connect(str(address))
            connection.sendall(f"{host}\n".encode())
            with connection.makefile("rb") as stream:
                found: dict[str, Any] = json.loads(stream.read())
    except (OSError, ValueError) as error:
        raise BackupError(f"its databases could not be started: {error}") from error
    return found


def answer(tree: Path, databases: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Starts the databases of a restored tree, one after the other, and asks each what it has.

    Args:
        tree: The restored tree; the databases write to it.
        databases: By kind (`mongodb`, `influxdb`, `redis`): `image`; `folder`, where its files are in the tree, and
            `at`, where they are in the container; `port`, at which it answers; `run` and `command`, further arguments
            of `docker run` before and after the image.

    Returns:
        `problems`, sentences; `has`, by kind what was found.
    """
    found: dict[str, Any] = {"problems": [], "has": {}}
    for kind, database in databases.items():
        try:
            found["has"][kind] = start(kind, database, tree)
        except (BackupError, OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            # Also an answer that is none: the others are asked nevertheless.
            found["problems"].append(f"{kind} on the restored files: {error}")
    return found


def start(kind: str, database: Mapping[str, Any], tree: Path) -> dict[str, Any]:
    """Starts a database, asks it, and removes its container.

    Raises:
        BackupError: When it does not start, or does not answer.
    """
    name, folder = NAME.format(kind), tree / database["folder"]
    # Docker would follow a symbolic link to anywhere.
    with opened(tree, os.O_RDONLY | os.O_DIRECTORY) as top, below(top, database["folder"]):
        pass
    remove(name)
    # In the middle, so that the host goes on whatever a database takes.
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    command = ["docker", "run", "--detach", f"--name={name}", *CONFINED, f"--memory={memory}"]
    command += [f"--volume={folder}:{database['at']}", *database["run"], database["image"], *database["command"]]
    try:
        programs.run(command)
        return asked(kind, database["port"], folder, name)
    finally:
        remove(name)


def remove(name: str) -> None:
    """Removes a container, if there is one."""
    programs.run(["docker", "rm", "--force", "--volumes", name], good=None)


def asked(kind: str, port: int, folder: Path, name: str) -> dict[str, Any]:
    """What a database says that it has, as soon as it answers.

    Raises:
        BackupError: When it ends, or does not answer in time.
    """
    end = time.monotonic() + PATIENCE
    while True:
        told = programs.run(["docker", "inspect", "--format={{.State.Running}} {{.State.Pid}}", name]).output.split()
        if told[0] != "true":
            said = programs.run(["docker", "logs", "--tail=5", name])
            raise BackupError(f"it ended: {' '.join((said.output + said.errors).split())}")
        try:
            with inside(int(told[1])):
                return ASK[kind](port, folder)
        except OSError as error:
            if time.monotonic() > end:
                raise BackupError(f"it did not answer: {error}") from error
        time.sleep(POLL)


@contextmanager
def inside(process: int) -> Iterator[None]:
    """The network of a process: that of a container without one has nothing but its loopback.

    Raises:
        OSError: When it is gone.
    """
    with (
        opened(Path("/proc/self/ns/net"), os.O_RDONLY) as own,
        opened(Path(f"/proc/{process}/ns/net"), os.O_RDONLY) as its,
    ):
        if os.path.sameopenfile(own, its):
            yield
            return
        enter(its)
        try:
            yield
        finally:
            enter(own)


def enter(network: int) -> None:
    """Goes over to another network."""
    # Python has it since 3.12.
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(network, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def differences(manifest: Mapping[str, Any], has: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What databases lack of what a backup says that it has.

    Args:
        manifest: The backup's.
        has: By kind what was found.
    """
    problems = []
    users = manifest["users"]
    if users and "mongodb" in has and not any(has["mongodb"]["documents"].values()):
        problems.append(f"mongodb has no document, where {users} users were")
    # A machine that is a core as well counts the core's.
    if "redis" in has and manifest["user_index"] is None and has["redis"]["users"] != users:
        problems.append(f"redis has {has['redis']['users']} users where {users} were")
    return problems
