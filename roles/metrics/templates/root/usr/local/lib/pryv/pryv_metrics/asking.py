"""Services on this host, asked over HTTP: a program by its loopback port, Docker by its socket."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pryv_metrics.problem import CollectorError

#: How much of an answer is read, in bytes; ours are a few kilobytes.
LONGEST = 4 << 20
DOCKER = Path("/run/docker.sock")
#: How long Docker may take, in seconds.
PATIENCE = 5.0


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: HTTP status code; 0 when nothing answered in time.
        body: The body.
        seconds: How long that took.
    """

    status: int
    body: bytes
    seconds: float

    def json(self) -> Any:
        """What the body holds.

        Raises:
            CollectorError: When it is no JSON.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise CollectorError("the answer is no JSON") from error


class SocketConnection(http.client.HTTPConnection):
    """HTTP through a socket of the file system."""

    def __init__(self, path: Path) -> None:
        """Connects to nothing yet."""
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        """Connects to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(port: int, path: str, patience: float, headers: Mapping[str, str] | None = None) -> Answer:
    """Asks a service on loopback once.

    Args:
        port: Where it listens.
        path: What is asked for, encoded.
        patience: For how long it may be silent, in seconds.
        headers: Further headers.
    """
    begin = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        reply = connection.getresponse()
        status, body = reply.status, reply.read(LONGEST)
    except (OSError, http.client.HTTPException):
        status, body = 0, b""
    finally:
        connection.close()
    return Answer(status, body, time.monotonic() - begin)


class Docker:
    """Docker's API on this host, over one connection."""

    def __init__(self, path: Path = DOCKER) -> None:
        """Connects when it is first asked."""
        self._connection = SocketConnection(path)

    def get(self, path: str) -> Any:
        """What the API answers.

        Raises:
            CollectorError: When it does not, or refuses.
        """
        try:
            self._connection.request("GET", path)
            reply = self._connection.getresponse()
            body = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise CollectorError(f"Docker does not answer: {error}") from error
        if reply.status == http.HTTPStatus.NOT_FOUND:
            return None
        if reply.status != http.HTTPStatus.OK:
            raise CollectorError(f"Docker answers {reply.status} to {path.partition('?')[0]}")
        return json.loads(body)

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()
