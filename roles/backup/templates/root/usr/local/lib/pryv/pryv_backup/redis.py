"""Redis, in its own protocol: has it write its database to its file, and asks what it has."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRWPair
from typing import Any

from pryv_backup.problem import BackupError

#: How long an answer, and a database that is being written, is waited for, in seconds; how often it is asked for.
ANSWER, WRITTEN, POLL = 30.0, 600.0, 0.1


class Client:
    """A connection to a Redis."""

    def __init__(self, stream: BufferedRWPair) -> None:
        """Speaks on a stream that is open."""
        self._stream = stream

    def ask(self, *words: str) -> Any:
        """The answer to a command: text, number, list or None.

        Raises:
            BackupError: When it is an error, or none.
        """
        parts = [word.encode() for word in words]
        self._stream.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        self._stream.flush()
        return self._answer(words[0])

    def _answer(self, command: str) -> Any:
        line = self._stream.readline()
        kind, rest = line[:1], line[1:].strip()
        if kind == b"-":
            raise BackupError(f"Redis refuses {command}: {rest.decode(errors='replace')}")
        if kind == b"+":
            return rest.decode(errors="replace")
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            return self._stream.read(size + 2)[:-2].decode(errors="replace") if size >= 0 else None
        if kind == b"*":
            return [self._answer(command) for _ in range(int(rest))]
        raise BackupError(f"Redis does not answer {command}")

    def persistence(self) -> dict[str, str]:
        """What it says of writing its database to a file."""
        lines = self.ask("INFO", "persistence").splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def save(self) -> None:
        """Has it write its database as it is now, and waits for that.

        Raises:
            BackupError: When it cannot, or takes too long.
        """
        end = time.monotonic() + WRITTEN
        self._rest(end)
        self.ask("BGSAVE")
        said = self._rest(end)
        if said["rdb_last_bgsave_status"] != "ok":
            raise BackupError("Redis could not write its database; its log says why")

    def _rest(self, end: float) -> dict[str, str]:
        """Waits until it writes nothing."""
        while time.monotonic() < end:
            said = self.persistence()
            if said["rdb_bgsave_in_progress"] == said["aof_rewrite_in_progress"] == "0":
                return said
            time.sleep(POLL)
        raise BackupError(f"Redis is writing its database since more than {WRITTEN:.0f} s")

    def keys(self, pattern: str) -> set[str]:
        """The keys that match a pattern."""
        found: set[str] = set()
        cursor = "0"
        while True:
            cursor, keys = self.ask("SCAN", cursor, "MATCH", pattern, "COUNT", "10000")
            found.update(keys)
            if cursor == "0":
                return found


@contextmanager
def connected(port: int, password: str | None) -> Iterator[Client]:
    """A connection to the Redis on this host.

    Raises:
        BackupError: When there is none, or it takes another password.
    """
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=ANSWER) as connection:
            client = Client(connection.makefile("rwb"))
            if password is not None:
                client.ask("AUTH", password)
            yield client
    except OSError as error:
        raise BackupError(f"Redis on port {port}: {error}") from error
