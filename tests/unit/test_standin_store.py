"""What the stand-in for core keeps, and in which files."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.standins.standin.store import ExistsError, Store, _line
from tests.unit.memory_documents import MemoryDocuments

USER = "cku0alice0id42xyz"
ROOT = Path(__file__).resolve().parents[2]


def open_store(folder: Path) -> Store:
    return Store({"userFiles": {"path": str(folder)}}, documents=MemoryDocuments())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def rows(path: Path, statement: str) -> list[Any]:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        return connection.execute(statement).fetchall()


def test_files_lie_where_the_real_core_keeps_them(store: Store, tmp_path: Path) -> None:
    store.add_user("alice", USER, {"email": "alice@example.org"})
    store.set_password(USER, "secret-1")
    store.audit(USER, {"type": "audit-log/pryv-api", "content": {"action": "events.get"}, "streamIds": [":_audit:x"]})
    store.write_attachment(USER, "event1", "file1", b"data")
    folder = tmp_path / "z" / "y" / "x" / USER
    assert {path.name for path in folder.iterdir()} >= {"account-1.0.0.sqlite", "audit-1.0.0.sqlite", "attachments"}
    assert (folder / "attachments" / "event1" / "file1").read_bytes() == b"data"
    assert rows(tmp_path / "user-index.db", "SELECT username, userId FROM id4name") == [("alice", USER)]
    assert rows(tmp_path / "platform-wide.db", "SELECT key, value FROM keyValue") == [
        ("user-unique/email/alice@example.org", "alice")
    ]
    assert rows(folder / "audit-1.0.0.sqlite", "SELECT type, content, streamIds FROM events") == [
        ("audit-log/pryv-api", '{"action": "events.get"}', ":_audit:x ..")
    ]
    for name in (tmp_path / "user-index.db", tmp_path / "platform-wide.db", folder / "account-1.0.0.sqlite"):
        assert rows(name, "PRAGMA journal_mode") == [("wal",)]
        # Left behind by a core that runs: a copy of the file alone lacks what is in there.
        assert name.with_name(f"{name.name}-wal").exists()


def test_only_the_latest_password_opens(store: Store) -> None:
    assert not store.check_password(USER, "secret-1")
    store.set_password(USER, "secret-1")
    assert store.check_password(USER, "secret-1")
    store.set_password(USER, "secret-2")
    assert store.check_password(USER, "secret-2")
    assert not store.check_password(USER, "secret-1")
    hashes = rows(store.user_folder(USER) / "account-1.0.0.sqlite", "SELECT hash FROM passwords")
    assert len(hashes) == 2
    assert "secret" not in str(hashes)


def test_a_name_is_taken_once(store: Store) -> None:
    store.add_user("alice", USER)
    with pytest.raises(ExistsError):
        store.add_user("alice", "another1")
    assert store.users() == {"alice": USER}
    assert store.find_user("alice") == USER
    assert store.find_user("bob") is None


def test_a_new_email_frees_the_old_one(store: Store) -> None:
    store.add_user("alice", USER, {"email": "a@example.org"})
    store.set_unique("alice", "email", "b@example.org")
    assert store.unique_of("email", "a@example.org") is None
    assert store.unique_of("email", "b@example.org") == "alice"


def test_nothing_of_a_removed_user_is_left(store: Store, tmp_path: Path) -> None:
    for name, user_id in (("alice", USER), ("bob00", "cku0bob00abc")):
        store.add_user(name, user_id, {"email": f"{name}@example.org"})
        store.set_password(user_id, "secret-1")
        store.insert("events", {"userId": user_id, "type": "note/txt"})
        store.insert("accesses", {"userId": user_id, "token": name})
    store.remove_user("alice")
    assert store.users() == {"bob00": "cku0bob00abc"}
    assert [doc["userId"] for doc in store.find("events", {})] == ["cku0bob00abc"]
    assert [doc["token"] for doc in store.find("accesses", {})] == ["bob00"]
    assert store.unique_of("email", "alice@example.org") is None
    assert store.unique_of("email", "bob00@example.org") == "bob00"
    assert not list(tmp_path.rglob(USER))
    assert store.check_password("cku0bob00abc", "secret-1")


def test_attachments_of_an_event_go_together(store: Store) -> None:
    store.write_attachment(USER, "event1", "a", b"1")
    store.write_attachment(USER, "event2", "b", b"2")
    store.delete_attachments(USER, "event1")
    with pytest.raises(FileNotFoundError):
        store.read_attachment(USER, "event1", "a")
    assert store.read_attachment(USER, "event2", "b") == b"2"


@pytest.mark.parametrize("user_id", ["", "ab", "../../etc", "a/b"])
def test_ids_lead_nowhere_else(store: Store, user_id: str) -> None:
    with pytest.raises(ValueError, match="invalid user ID"):
        store.write_attachment(user_id, "event", "file", b"")


WRITER = """
import sys
from pathlib import Path
from tests.unit.test_standin_store import open_store
store = open_store(Path(sys.argv[1]))
for number in range(50):
    store.add_user(f"user{sys.argv[2]}{number}", f"id0{sys.argv[2]}{number}")
    store.audit("shared0id", {"type": "t", "content": number})
print("done", flush=True)
sys.stdin.read()
"""


def test_processes_write_at_once_and_lose_nothing_when_killed(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path, str(number)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "done\n"
        os.kill(writer.pid, signal.SIGKILL)
    for writer in writers:
        writer.communicate()
    assert len(open_store(tmp_path).users()) == 150
    folder = open_store(tmp_path).user_folder("shared0id")
    assert rows(folder / "audit-1.0.0.sqlite", "SELECT count(*) FROM events") == [(150,)]


def test_points_in_line_protocol() -> None:
    point = {"deltaTime": 1.5, "value": 3, "ok": True, "unit": 'a "b"', "nothing": None}
    assert _line("event.x y", point) == r'event.x\ y value=3.0,ok=true,unit="a \"b\"" 1500000000'
