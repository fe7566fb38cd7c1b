"""Databases, asked in their own protocols what they have, so that no client of theirs is needed."""

from __future__ import annotations

import json
import struct
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from io import BufferedRWPair
from pathlib import Path
from socket import create_connection
from typing import Any

from pryv_backup import redis
from pryv_backup.problem import BackupError

#: How long an answer is waited for, in seconds, and how much of one is read.
ANSWER, LONGEST = 60.0, 1 << 26
#: MongoDB's databases of its own.
MONGODB_OWN = {"admin", "config", "local"}
#: MongoDB's message that has a command or its answer, and the length of what comes before its document.
OP_MSG, HEADER = 2013, 21
#: BSON's types of a fixed length: what struct calls them, and their length in bytes where nobody wants the value.
NUMBERS = {1: "<d", 8: "<?", 9: "<q", 16: "<i", 17: "<Q", 18: "<q"}
OPAQUE = {6: 0, 7: 12, 10: 0, 19: 16, 127: 0, 255: 0}
TEXTS = {2, 13, 14}


def encode(values: Mapping[str, str | int]) -> bytes:
    """A document of BSON's with texts and whole numbers."""
    parts = b""
    for name, value in values.items():
        key = name.encode() + b"\0"
        if isinstance(value, int):
            parts += b"\x10" + key + struct.pack("<i", value)
        else:
            text = value.encode() + b"\0"
            parts += b"\x02" + key + struct.pack("<i", len(text)) + text
    return struct.pack("<i", len(parts) + 5) + parts + b"\0"


def decode(data: bytes) -> dict[str, Any]:
    """A document of BSON's; None for values of kinds that are not asked for.

    Raises:
        BackupError: When it is none.
    """
    try:
        return _document(data, 0)[0]
    except (struct.error, IndexError, ValueError, RecursionError) as error:
        raise BackupError("MongoDB answers what cannot be read") from error


def _document(data: bytes, at: int) -> tuple[dict[str, Any], int]:
    end = at + struct.unpack_from("<i", data, at)[0] - 1
    found, at = {}, at + 4
    while at < end:
        kind, (name, at) = data[at], _name(data, at + 1)
        found[name], at = _value(data, at, kind)
    if data[end] != 0:
        raise ValueError("no end")
    return found, end + 1


def _name(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at)
    return data[at:end].decode(errors="replace"), end + 1


def _value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in NUMBERS:
        return struct.unpack_from(NUMBERS[kind], data, at)[0], at + struct.calcsize(NUMBERS[kind])
    if kind in OPAQUE:
        return None, at + OPAQUE[kind]
    if kind in (3, 4):
        found, at = _document(data, at)
        return (list(found.values()) if kind == 4 else found), at
    size = struct.unpack_from("<i", data, at)[0]
    if size < 0:
        raise ValueError("negative length")
    if kind in TEXTS:
        return data[at + 4 : at + 3 + size].decode(errors="replace"), at + 4 + size
    if kind == 5:
        return None, at + 5 + size
    raise ValueError("unknown type")


def run_command(stream: BufferedRWPair, command: Mapping[str, str | int]) -> dict[str, Any]:
    """MongoDB's answer to a command.

    Raises:
        BackupError: When it refuses it, or says what cannot be read.
        OSError: When it says nothing.
    """
    document = encode(command)
    stream.write(struct.pack("<iiiiiB", HEADER + len(document), 1, 0, OP_MSG, 0, 0) + document)
    stream.flush()
    head = stream.read(HEADER)
    if not head:
        raise ConnectionError("MongoDB closed the connection")
    if len(head) < HEADER or not HEADER < (length := struct.unpack_from("<i", head)[0]) < LONGEST:
        raise BackupError("MongoDB answers what cannot be read")
    found = decode(stream.read(length - HEADER))
    if found.get("ok") != 1:
        raise BackupError(f"MongoDB refuses {next(iter(command))}: {found.get('errmsg')}")
    return found


def mongodb(port: int, _folder: Path) -> dict[str, Any]:
    """What a MongoDB has: `databases`, names; `documents`, by collection; `compatibility`, the version of its files."""
    with closing(create_connection(("127.0.0.1", port), timeout=ANSWER)) as connection:
        stream = connection.makefile("rwb")
        run_command(stream, {"ping": 1, "$db": "admin"})
        listed = run_command(stream, {"listDatabases": 1, "$db": "admin"})["databases"]
        names = sorted({each["name"] for each in listed} - MONGODB_OWN)
        documents = {}
        for name in names:
            cursor = run_command(stream, {"listCollections": 1, "$db": name})["cursor"]
            for collection in (each["name"] for each in cursor["firstBatch"] if each.get("type") == "collection"):
                counted = run_command(stream, {"count": collection, "$db": name})
                documents[f"{name}.{collection}"] = int(counted["n"])
        return {"databases": names, "documents": documents, "compatibility": compatibility(stream)}


def compatibility(stream: BufferedRWPair) -> str | None:
    """The version that a MongoDB's files are for; None where it does not know of one."""
    asked: dict[str, str | int] = {"getParameter": 1, "featureCompatibilityVersion": 1, "$db": "admin"}
    try:
        found = run_command(stream, asked).get("featureCompatibilityVersion")
    except BackupError:
        return None
    return str(found["version"]) if isinstance(found, dict) else None


def influxdb(port: int, folder: Path) -> dict[str, Any]:
    """What an InfluxDB has: `databases`, how many.

    Raises:
        BackupError: When it does not know one whose files are there.
    """
    query = urllib.parse.urlencode({"q": "SHOW DATABASES"})
    # Through no proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(f"http://127.0.0.1:{port}/ping", timeout=ANSWER).close()
    with opener.open(f"http://127.0.0.1:{port}/query?{query}", timeout=ANSWER) as answer:
        series = json.loads(answer.read(LONGEST))["results"][0]["series"][0]
    known = {row[0] for row in series.get("values", ())}
    data = folder / "data"
    lost = {entry.name for entry in data.iterdir() if entry.is_dir()} - known if data.is_dir() else set()
    if lost:
        raise BackupError(f"InfluxDB does not know {len(lost)} of the databases whose files are there")
    return {"databases": len(known)}


def redis_keys(port: int, _folder: Path) -> dict[str, Any]:
    """What a registry's Redis has: `keys`, how many; `users`, how many of them are a user's.

    Raises:
        OSError: When it is still reading them.
    """
    with closing(create_connection(("127.0.0.1", port), timeout=ANSWER)) as connection:
        client = redis.Client(connection.makefile("rwb"))
        if client.persistence().get("loading") != "0":
            raise ConnectionError("Redis is still reading its file")
        return {"keys": client.ask("DBSIZE"), "users": len(client.keys("*:users"))}


#: By kind: asks one at a port of this host, with the folder of its files.
ASK: Mapping[str, Callable[[int, Path], dict[str, Any]]] = {
    "mongodb": mongodb,
    "influxdb": influxdb,
    "redis": redis_keys,
}
