"""A Redis client with what the registry needs of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable
from io import BufferedRWPair
from typing import Any

from .process import say


class RedisError(Exception):
    """Redis answered with an error; the message begins with its code (`READONLY`, `NOAUTH`, …)."""


class Redis:
    """One connection, made when needed and made again after a failure; threads share it.

    Args:
        host: Name or address.
        port: TCP port.
        password: Sent with AUTH; none when empty.
    """

    def __init__(self, host: str, port: int, password: str | None) -> None:
        """Connects to nothing yet."""
        self._address = (host, port)
        self._password = password
        self._lock = threading.RLock()
        self._stream: BufferedRWPair | None = None

    def wait(self) -> None:
        """Returns when Redis answers; tries until it does."""
        while True:
            try:
                self.run("PING")
            except OSError as error:
                say(f"Redis at {self._address[0]}:{self._address[1]} does not answer: {error}")
                time.sleep(1)
            else:
                return

    def run(self, *command: Any) -> Any:
        """Runs one command.

        Returns:
            Text, number, list or None.

        Raises:
            RedisError: Redis refused the command.
            OSError: Redis cannot be reached.
        """
        return self.run_all([command])[0]

    def run_all(self, commands: Iterable[Iterable[Any]]) -> list[Any]:
        """Runs commands one after the other, with no other thread's between them.

        Raises:
            RedisError: Redis refused one of them; those after it are not run.
            OSError: Redis cannot be reached.
        """
        with self._lock:
            try:
                stream = self._stream or self._connect()
                return [_call(stream, command) for command in commands]
            except OSError:
                self._stream = None
                raise

    def transaction(self, commands: Iterable[Iterable[Any]]) -> list[Any]:
        """Runs commands all or none, and gives their answers."""
        try:
            return list(self.run_all([["MULTI"], *commands, ["EXEC"]])[-1])
        except RedisError:
            with self._lock:
                self._stream = None  # leaves the transaction
            raise

    def get(self, key: str) -> str | None:
        """The text at a key."""
        value = self.run("GET", key)
        return None if value is None else str(value)

    def hash(self, key: str) -> dict[str, str]:
        """The fields of a hash; empty when there is none."""
        flat = self.run("HGETALL", key)
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def exists(self, key: str) -> bool:
        """Whether a key exists."""
        return bool(self.run("EXISTS", key))

    def keys(self, pattern: str) -> list[str]:
        """The keys that match a pattern."""
        return list(self.run("KEYS", pattern))

    def _connect(self) -> BufferedRWPair:
        connection = socket.create_connection(self._address, timeout=10)
        stream = connection.makefile("rwb")
        if self._password:
            try:
                _call(stream, ["AUTH", self._password])
            except RedisError as error:
                # As the real client: the commands that follow fail.
                say(f"Redis: {error}")
        self._stream = stream
        return stream


def _call(stream: BufferedRWPair, command: Iterable[Any]) -> Any:
    words = [str(word).encode() for word in command]
    stream.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
    stream.flush()
    return _reply(stream)


def _reply(stream: BufferedRWPair) -> Any:
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("Redis closed the connection")
    kind, rest = line[:1], line[1:-2].decode()
    if kind == b"-":
        raise RedisError(rest)
    if kind == b":":
        return int(rest)
    if kind == b"$":
        length = int(rest)
        return None if length < 0 else stream.read(length + 2)[:-2].decode()
    if kind == b"*":
        # All of a list is read even when an element is an error, or the next reply would be taken for it.
        elements = [_element(stream) for _ in range(int(rest))]
        for element in elements:
            if isinstance(element, RedisError):
                raise element
        return elements
    return rest


def _element(stream: BufferedRWPair) -> Any:
    try:
        return _reply(stream)
    except RedisError as error:
        return error
