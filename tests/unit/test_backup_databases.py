"""Databases that are started on restored files: real Redis, others that say what theirs would."""

from __future__ import annotations

import http.server
import json
import os
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pryv_backup import asking, keeping, opening
from pryv_backup.problem import BackupError

from tests.unit.test_backup_redis import KEY, free_port, server

#: Containers are this process; what is run is written down. A file `ended` has them end at once.
DOCKER = """#!/bin/sh
cd "$FAKE_DOCKER"
echo "$*" >>calls
case $1 in
run) [ ! -e refused ] || { echo "no such image" >&2; exit 125; } ;;
inspect) if [ -e ended ]; then echo "false 0"; else echo "true $PPID"; fi ;;
logs) echo "cannot open its files" >&2 ;;
esac
"""
ARGUMENTS = {"image": "database:1", "at": "/data", "run": ["--read-only"], "command": ["--quiet"]}


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the program asks of Docker."""
    folder = tmp_path / "docker"
    folder.mkdir()
    (folder / "docker").write_text(DOCKER)
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("FAKE_DOCKER", str(folder))
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(opening, "POLL", 0.01)
    return folder


def bson(values: Mapping[str, Any]) -> bytes:
    """A document with what MongoDB's answers have, written by rules of our own."""
    parts = b""
    for name, value in values.items():
        kinds: tuple[tuple[type, int, Callable[[Any], bytes]], ...] = (
            (bool, 8, lambda flag: bytes([flag])),
            (int, 18, lambda number: struct.pack("<q", number)),
            (float, 1, lambda number: struct.pack("<d", number)),
            (str, 2, lambda text: struct.pack("<i", len(text.encode()) + 1) + text.encode() + b"\0"),
            (dict, 3, bson),
            (list, 4, lambda entries: bson({str(at): entry for at, entry in enumerate(entries)})),
            (bytes, 5, lambda data: struct.pack("<iB", len(data), 0) + data),
            (type(None), 10, lambda _: b""),
        )
        code, write = next((code, write) for kind, code, write in kinds if isinstance(value, kind))
        parts += bytes([code]) + name.encode() + b"\0" + write(value)
    return struct.pack("<i", len(parts) + 5) + parts + b"\0"


#: What a MongoDB says to each command, by its first word.
MONGODB: dict[str, dict[str, Any]] = {
    "ping": {"ok": 1.0},
    "listDatabases": {"databases": [{"name": "admin"}, {"name": "pryv-node", "empty": False}], "ok": 1.0},
    "listCollections": {
        "cursor": {"firstBatch": [{"name": "events", "type": "collection"}, {"name": "seen", "type": "view"}]},
        "clusterTime": b"\1\2",
        "ok": 1.0,
    },
    "count": {"n": 42, "comment": None, "ok": 1.0},
    "getParameter": {"featureCompatibilityVersion": {"version": "6.0"}, "ok": 1.0},
}


@contextmanager
def mongodb(said: Mapping[str, Mapping[str, Any]]) -> Iterator[int]:
    """A MongoDB's port, at which it says the same to everybody."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head := self.rfile.read(16):
                body = self.rfile.read(struct.unpack("<i", head[:4])[0] - 16)
                command = asking.decode(body[5:])
                assert command["$db"] in ("admin", "pryv-node")
                answer = bson(said[next(iter(command))])
                self.wfile.write(struct.pack("<iiiiiB", 21 + len(answer), 7, 1, 2013, 0, 0) + answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening.server_address[1]
        listening.shutdown()


@contextmanager
def influxdb(*databases: str) -> Iterator[int]:
    """An InfluxDB's port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            rows = {"values": [[name] for name in databases]} if databases else {}
            said = {"results": [{"series": [{"name": "databases", "columns": ["name"], **rows}]}]}
            self.send_response(204 if self.path == "/ping" else 200)
            self.end_headers()
            if self.path == "/query?q=SHOW+DATABASES":
                self.wfile.write(json.dumps(said).encode())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening.server_address[1]
        listening.shutdown()


def test_mongodb_says_what_it_has(docker: Path, tmp_path: Path) -> None:
    (tmp_path / "tree/core/mongodb").mkdir(parents=True)
    with mongodb(MONGODB) as port:
        found = opening.answer(
            tmp_path / "tree", {"mongodb": {**ARGUMENTS, "folder": "core/mongodb", "port": port, "image": "mongo:6"}}
        )
    has = {"databases": ["pryv-node"], "documents": {"pryv-node.events": 42}, "compatibility": "6.0"}
    assert found == {"problems": [], "has": {"mongodb": has}}
    first, run, *_, last = (docker / "calls").read_text().splitlines()
    assert first == last == "rm --force --volumes pryv-drill-mongodb"
    assert run.startswith("run --detach --name=pryv-drill-mongodb --network=none --pull=never --cap-drop=ALL ")
    assert run.endswith(f"--volume={tmp_path}/tree/core/mongodb:/data --read-only mongo:6 --quiet")


@pytest.mark.parametrize(
    ("command", "said", "problem"),
    [
        ("count", {"ok": 0.0, "errmsg": "checksum error"}, "MongoDB refuses count: checksum error"),
        ("ping", {}, "MongoDB refuses ping: None"),
    ],
)
def test_mongodb_that_cannot_read_its_files_is_told(
    command: str, said: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    with mongodb({**MONGODB, command: said}) as port, pytest.raises(BackupError, match=problem):
        asking.mongodb(port, tmp_path)


def test_mongodb_without_a_compatibility_version_is_asked_in_vain(tmp_path: Path) -> None:
    with mongodb({**MONGODB, "getParameter": {"ok": 0.0, "errmsg": "no option found"}}) as port:
        assert asking.mongodb(port, tmp_path)["compatibility"] is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\5\0\0\0\1",
        b"\xff\0\0\0\0",
        b"\x0c\0\0\0\x10n\0\1\0\0",
        b"\x0d\0\0\0\x02n\0\xff\xff\xff\xff\0",
        b"\x08\0\0\0\x55n\0\0",
    ],
)
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(BackupError, match="cannot be read"):
        asking.decode(data)


def test_documents_are_read_as_they_were_written() -> None:
    values = {"a": 1, "b": "ü", "c": [True, None, {"d": 2.5}]}
    assert asking.decode(bson(values)) == values
    assert asking.decode(asking.encode({"ping": 1, "$db": "admin"})) == {"ping": 1, "$db": "admin"}


def test_influxdb_knows_the_databases_whose_files_are_there(tmp_path: Path) -> None:
    with influxdb() as port:
        assert asking.influxdb(port, tmp_path) == {"databases": 0}
    for name in ("user.one", "user.two"):
        (tmp_path / "data" / name).mkdir(parents=True)
    with influxdb("_internal", "user.one", "user.two") as port:
        assert asking.influxdb(port, tmp_path) == {"databases": 3}
    with influxdb("user.one") as port, pytest.raises(BackupError, match="does not know 1 of the databases"):
        asking.influxdb(port, tmp_path)


@pytest.mark.usefixtures("docker")
def test_redis_says_whom_it_has(tmp_path: Path) -> None:
    port = free_port()
    with server(tmp_path / "tree/registry/redis", port) as client:
        for key in ("one:users", "two:users", "one:server"):
            client.ask("SET", key, "value")
        client.ask("CONFIG", "SET", "requirepass", "")
        found = opening.answer(tmp_path / "tree", {"redis": {**ARGUMENTS, "folder": "registry/redis", "port": port}})
        client.ask("CONFIG", "SET", "requirepass", KEY)
    assert found == {"problems": [], "has": {"redis": {"keys": 3, "users": 2}}}


def test_database_that_ends_is_told_with_its_log_and_the_next_is_asked(docker: Path, tmp_path: Path) -> None:
    (docker / "ended").touch()
    for kind in asking.ASK:
        (tmp_path / kind).mkdir()
    found = opening.answer(tmp_path, {kind: {**ARGUMENTS, "folder": kind, "port": 1} for kind in asking.ASK})
    assert found["problems"] == [
        f"{kind} on the restored files: it ended: cannot open its files" for kind in asking.ASK
    ]
    assert (docker / "calls").read_text().count("rm --force") == 2 * len(asking.ASK)


def test_image_that_is_missing_is_told(docker: Path, tmp_path: Path) -> None:
    (docker / "refused").touch()
    (tmp_path / "redis").mkdir()
    (problem,) = opening.answer(tmp_path, {"redis": {**ARGUMENTS, "folder": "redis", "port": 1}})["problems"]
    assert problem.endswith("no such image")


@pytest.mark.usefixtures("docker")
def test_database_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "PATIENCE", 0.1)
    (tmp_path / "redis").mkdir()
    database = {**ARGUMENTS, "folder": "redis", "port": free_port()}
    (problem,) = opening.answer(tmp_path, {"redis": database})["problems"]
    assert "it did not answer: " in problem


def test_link_in_a_restored_tree_leads_nowhere(docker: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/redis").symlink_to("/etc")
    (problem,) = opening.answer(tmp_path / "tree", {"redis": {**ARGUMENTS, "folder": "redis", "port": 1}})["problems"]
    assert "is no folder" in problem
    assert not (docker / "calls").exists()


@contextmanager
def opener(path: Path, said: str) -> Iterator[list[str]]:
    """A service that says the same to everybody, and what it was asked."""
    asked: list[str] = []

    def serve(listening: socket.socket) -> None:
        connection = listening.accept()[0]
        with connection, connection.makefile("rw") as stream:
            asked.append(stream.readline())
            stream.write(said)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        yield asked
        thread.join()


def backup_server(root: Path) -> keeping.Server:
    """A backup server with a core and a registry."""
    databases: dict[str, dict[str, Any]] = {"co1": {"mongodb": {}}, "reg1": {"redis": {}}, "bk2": {}}
    return keeping.Server(
        root, ("co1", "reg1", "bk2"), root, {}, 35, scratch=root, databases=databases, opener=root / "opener"
    )


@pytest.mark.parametrize(
    ("host", "users", "has", "problems"),
    [
        ("co1", 2, {"mongodb": {"documents": {"pryv-node.events": 1}}}, []),
        ("co1", 0, {"mongodb": {"documents": {}}}, []),
        ("co1", 2, {"mongodb": {"documents": {"a": 0}}}, ["mongodb has no document, where 2 users were"]),
        ("reg1", 3, {"redis": {"users": 3}}, []),
        ("reg1", 3, {"redis": {"users": 2}}, ["redis has 2 users where 3 were"]),
    ],
)
def test_what_databases_lack_is_a_problem(
    host: str, users: int, has: dict[str, Any], problems: list[str], tmp_path: Path
) -> None:
    manifest = {"users": users, "user_index": "index" if host == "co1" else None}
    with opener(tmp_path / "opener", json.dumps({"problems": [], "has": has})) as asked:
        found = keeping.start_databases(backup_server(tmp_path), host, manifest)
    assert found == {"problems": problems, "has": has}
    assert asked == [f"{host}\n"]


def test_host_without_databases_asks_nobody(tmp_path: Path) -> None:
    assert keeping.start_databases(backup_server(tmp_path), "bk2", {}) == {"problems": [], "has": {}}


@pytest.mark.parametrize("said", ["", "["])
def test_opener_that_fails_is_told(said: str, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="could not be started"):
        keeping.start_databases(backup_server(tmp_path), "co1", {})
    with opener(tmp_path / "opener", said), pytest.raises(BackupError, match="could not be started"):
        keeping.start_databases(backup_server(tmp_path), "co1", {})


def test_databases_of_others_are_not_started(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="no databases of that host"):
        keeping.open_databases(backup_server(tmp_path), "../co1")
