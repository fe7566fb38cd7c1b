"""What a core keeps, in the files and databases in which Pryv's core keeps it.

Documents go to MongoDB, one set of collections for all users; passwords, the audit trail and the index of users to
SQLite files below `userFiles.path`; attachments to files there; series to InfluxDB, one database a user. Several
processes of a core, and hfs, write at the same time.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import importlib
import json
import secrets
import shutil
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

from .process import StartError

Document = dict[str, Any]

VERSION = "1.0.0"
OPEN_FILES = 100  # of users; the real program closes the least recently used one, too
BUSY_SECONDS = 15  # how long a write waits for another process'
SECOND = 1_000_000_000  # in InfluxDB's nanoseconds

# Indexes by collection; the key is the item's user and these.
INDEXES: dict[str, tuple[tuple[tuple[str, ...], bool], ...]] = {
    "events": ((("time",), False), (("streamIds",), False), (("type",), False), (("modified",), False)),
    "streams": ((("streamId",), True),),
    "accesses": ((("token",), True),),
    "webhooks": ((("accessId", "url"), True),),
    "profile": ((("profileId",), True),),
    "followedSlices": ((("name",), True),),
    "sessions": (),
    "passwordResets": (),
    "versions": (),
}
# What an item's `id` is called where several users may have the same one.
ITEM_KEYS = {"streams": "streamId", "profile": "profileId"}
# Collections that are nobody's.
SHARED = {"sessions", "passwordResets", "versions"}

ACCOUNT = (
    "CREATE TABLE IF NOT EXISTS passwords (time REAL PRIMARY KEY, hash TEXT NOT NULL, createdBy TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS passwords_hash ON passwords(hash)",
    "CREATE TABLE IF NOT EXISTS storeKeyValueData (storeId TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,"
    " PRIMARY KEY (storeId, key))",
)
AUDIT_COLUMNS = {
    "eventid": "TEXT UNIQUE",
    "headId": "TEXT DEFAULT NULL",
    "streamIds": "TEXT",
    "time": "REAL",
    "deleted": "REAL DEFAULT NULL",
    "endTime": "REAL",
    "type": "TEXT",
    "content": "TEXT",
    "description": "TEXT",
    "clientData": "TEXT",
    "integrity": "TEXT",
    "attachments": "TEXT",
    "trashed": "INTEGER DEFAULT 0",
    "created": "REAL",
    "createdBy": "TEXT",
    "modified": "REAL",
    "modifiedBy": "TEXT",
}
AUDIT = (
    f"CREATE TABLE IF NOT EXISTS events ({', '.join(' '.join(column) for column in AUDIT_COLUMNS.items())})",
    "CREATE INDEX IF NOT EXISTS events_time ON events(time)",
)
INDEX = (
    "CREATE TABLE IF NOT EXISTS id4name (username TEXT PRIMARY KEY, userId TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS id4name_id ON id4name(userId)",
)
PLATFORM = ("CREATE TABLE IF NOT EXISTS keyValue (key TEXT PRIMARY KEY, value TEXT NOT NULL)",)


class ExistsError(Exception):
    """Something is there already that may be there once only."""


class Documents(Protocol):
    """A database of documents; queries are MongoDB's."""

    def insert(self, collection: str, doc: Mapping[str, Any]) -> None:
        """Adds a document."""

    def find(self, collection: str, query: Mapping[str, Any]) -> list[Document]:
        """All documents that a query matches."""

    def update(self, collection: str, query: Mapping[str, Any], fields: Mapping[str, Any]) -> int:
        """Sets fields of all documents that a query matches; how many they are."""

    def delete(self, collection: str, query: Mapping[str, Any]) -> int:
        """Removes all documents that a query matches; how many they were."""


class Series(Protocol):
    """A database of points in time, by user and measurement."""

    def write(self, username: str, measurement: str, points: Iterable[Mapping[str, Any]]) -> None:
        """Adds points."""

    def read(self, username: str, measurement: str) -> list[dict[str, Any]]:
        """All points, the oldest first."""

    def drop(self, username: str) -> None:
        """Forgets all of a user's."""


class Mongo:
    """Documents in MongoDB.

    Args:
        host: Host name of the server.
        port: Its port.
        name: Name of the database.
    """

    def __init__(self, host: str, port: int, name: str) -> None:
        """Connects to nothing yet."""
        # Neither package is needed to test what uses a store.
        driver = importlib.import_module("pymongo")
        self._duplicate: type[Exception] = driver.errors.DuplicateKeyError
        self._failure: type[Exception] = driver.errors.PyMongoError
        self._client = driver.MongoClient(
            f"mongodb://{host}:{port}/", journal=True, w=1, serverSelectionTimeoutMS=10_000, appname="pryv.io core"
        )
        self._database = self._client[name]
        self._indexed: set[str] = set()

    def prepare(self) -> None:
        """Says which version's features are wanted, as the real program does with each connection.

        Raises:
            OSError: The server cannot be reached, or refuses.
        """
        with self._reported():
            self._client.admin.command({"setFeatureCompatibilityVersion": "6.0"})

    def insert(self, collection: str, doc: Mapping[str, Any]) -> None:
        """Adds a document.

        Raises:
            ExistsError: There is one with the same key.
        """
        with self._reported():
            self._collection(collection).insert_one(_stored(collection, doc))

    def find(self, collection: str, query: Mapping[str, Any]) -> list[Document]:
        """All documents that a query matches."""
        with self._reported():
            return [_loaded(collection, doc) for doc in self._collection(collection).find(_stored(collection, query))]

    def update(self, collection: str, query: Mapping[str, Any], fields: Mapping[str, Any]) -> int:
        """Sets fields of all documents that a query matches; how many they are."""
        with self._reported():
            result = self._collection(collection).update_many(_stored(collection, query), {"$set": dict(fields)})
            return int(result.matched_count)

    def delete(self, collection: str, query: Mapping[str, Any]) -> int:
        """Removes all documents that a query matches; how many they were."""
        with self._reported():
            return int(self._collection(collection).delete_many(_stored(collection, query)).deleted_count)

    def _collection(self, name: str) -> Any:
        if name not in self._indexed:
            users: tuple[str, ...] = () if name in SHARED else ("userId",)
            for keys, unique in (((), False), *INDEXES[name]) if users else INDEXES[name]:
                self._database[name].create_index([(key, 1) for key in (*users, *keys)], unique=unique)
            self._indexed.add(name)
        return self._database[name]

    @contextlib.contextmanager
    def _reported(self) -> Any:
        """Raises the driver's errors as such that a caller knows without the driver."""
        try:
            yield
        except self._duplicate as error:
            raise ExistsError(str(error)) from error
        except self._failure as error:
            raise OSError(f"MongoDB: {error}") from error


def _stored(collection: str, doc: Mapping[str, Any]) -> Document:
    """A document, or a query, with the names that keys have in the database."""
    key = _key(collection)
    return {key if name == "id" else name: value for name, value in doc.items()}


def _loaded(collection: str, doc: Mapping[str, Any]) -> Document:
    key = _key(collection)
    return {"id" if name == key else name: value for name, value in doc.items() if name in (key, "id") or name != "_id"}


def _key(collection: str) -> str:
    return ITEM_KEYS.get(collection, "_id")


class Influx:
    """Series in InfluxDB 1.x, in a database `user.<username>` for each user.

    Args:
        host: Host name of the server.
        port: Its port.
    """

    def __init__(self, host: str, port: int) -> None:
        """Connects to nothing yet."""
        self._address = (host, port)

    def write(self, username: str, measurement: str, points: Iterable[Mapping[str, Any]]) -> None:
        """Adds points.

        Args:
            username: Whose they are.
            measurement: `event.<id of the event>`.
            points: Each with `deltaTime` in seconds and other fields: numbers, texts, true or false.

        Raises:
            OSError: The server cannot be reached, or refuses.
        """
        database = f"user.{username}"
        lines = "\n".join(_line(measurement, point) for point in points)
        self._query(f"CREATE DATABASE {_quoted(database)}")  # nothing happens where it is there
        self._ask("POST", f"/write?{urlencode({'db': database, 'precision': 'ns'})}", lines)

    def read(self, username: str, measurement: str) -> list[dict[str, Any]]:
        """All points, the oldest first, each with `deltaTime` in seconds and its other fields.

        Raises:
            OSError: The server cannot be reached, or refuses.
        """
        text = " ".join(("SELECT * FROM", _quoted(measurement), "ORDER BY time ASC"))
        answer = self._query(text, db=f"user.{username}", epoch="ns")
        return [
            {"deltaTime": row[0] / SECOND, **dict(zip(series["columns"][1:], row[1:], strict=True))}
            for result in answer["results"]
            for series in result.get("series", [])
            for row in series["values"]
        ]

    def drop(self, username: str) -> None:
        """Forgets all of a user's.

        Raises:
            OSError: The server cannot be reached, or refuses.
        """
        self._query(f"DROP DATABASE {_quoted(f'user.{username}')}")

    def _query(self, text: str, **parameters: str) -> Any:
        answer = json.loads(self._ask("POST", f"/query?{urlencode({'q': text, **parameters})}", ""))
        errors = [result["error"] for result in answer["results"] if "error" in result]
        # A user without any series has no database yet.
        if errors and not errors[0].startswith("database not found"):
            raise OSError(f"InfluxDB: {errors[0]}")
        return answer

    def _ask(self, method: str, path: str, body: str) -> bytes:
        connection = http.client.HTTPConnection(*self._address, timeout=10)
        try:
            connection.request(method, path, body.encode())
            response = connection.getresponse()
            content = response.read()
        except http.client.HTTPException as error:
            raise OSError(f"InfluxDB: {error!r}") from error
        finally:
            connection.close()
        if response.status >= 300:
            raise OSError(f"InfluxDB: {content.decode(errors='replace').strip()}")
        return content


def _quoted(name: str) -> str:
    """A name in InfluxDB's query language, or a text in its line protocol."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _line(measurement: str, point: Mapping[str, Any]) -> str:
    """A point in InfluxDB's line protocol."""
    name = measurement.replace(",", r"\,").replace(" ", r"\ ")
    fields = ",".join(
        f"{key.replace(',', '').replace(' ', '').replace('=', '')}={_field(value)}"
        for key, value in point.items()
        if key != "deltaTime" and value is not None
    )
    return f"{name} {fields} {round(point['deltaTime'] * SECOND)}"


def _field(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(float(value))
    return _quoted(str(value))


class Sqlite:
    """SQLite files, which stay open, in WAL mode, as the real program leaves them."""

    def __init__(self) -> None:
        """Opens nothing yet."""
        self._open: OrderedDict[Path, sqlite3.Connection] = OrderedDict()
        self._lock = threading.RLock()

    def run(self, path: Path, schema: Iterable[str], statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Runs a statement.

        Args:
            path: The file; made, with its folder, when it is missing.
            schema: Statements that make its tables unless they are there.
            statement: What to do.
            values: For the statement's question marks.

        Returns:
            The rows.
        """
        with self._lock:
            return self._connection(path, schema).execute(statement, values).fetchall()

    def close(self, folder: Path) -> None:
        """Closes all files below a folder."""
        with self._lock:
            for path in [path for path in self._open if path.is_relative_to(folder)]:
                self._open.pop(path).close()

    def _connection(self, path: Path, schema: Iterable[str]) -> sqlite3.Connection:
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        for text in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", *schema):
            connection.execute(text)
        self._open[path] = connection
        if len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return connection


class Store:
    """All that a core keeps.

    Each process needs one of its own: an open SQLite file does not survive a fork.

    Args:
        config: The configuration of core, hfs, preview or webhooks.
        documents: Where documents are kept, if not in the configuration's `database`.
        series: Where series are kept, if not in the configuration's `influxdb`.
    """

    def __init__(
        self, config: Mapping[str, Any], documents: Documents | None = None, series: Series | None = None
    ) -> None:
        """Makes the folder of users' files; connects to nothing yet.

        Raises:
            StartError: The folder cannot be made.
        """
        self.folder = Path(config["userFiles"]["path"])
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(f"{self.folder} must be writable: {error}") from error
        database, influxdb = config.get("database"), config.get("influxdb")
        self._documents = documents or (
            Mongo(database["host"], int(database.get("port", 27017)), database.get("name", "pryv-node"))
            if database
            else None
        )
        self._series = series or (Influx(influxdb["host"], int(influxdb["port"])) if influxdb else None)
        self._sqlite = Sqlite()

    def prepare(self) -> None:
        """Asks the database of documents once, and makes the files that all users share.

        Raises:
            OSError: It cannot be reached yet, or refuses.
        """
        if isinstance(self._documents, Mongo):
            self._documents.prepare()
        self.users()
        self.unique_of("username", "")

    # Documents

    @property
    def _database(self) -> Documents:
        if self._documents is None:
            raise OSError("the configuration names no database")
        return self._documents

    def insert(self, collection: str, doc: Mapping[str, Any]) -> None:
        """Adds a document: an item of a user with `userId`, and with `id` unless it is to get a random one.

        Raises:
            ExistsError: The user has one with the same key.
            OSError: The database cannot be reached.
        """
        self._database.insert(collection, {"id": secrets.token_hex(12), **doc})

    def find(self, collection: str, query: Mapping[str, Any]) -> list[Document]:
        """All documents that a query of MongoDB's language matches."""
        return self._database.find(collection, query)

    def update(self, collection: str, query: Mapping[str, Any], fields: Mapping[str, Any]) -> int:
        """Sets fields of all documents that a query matches; how many they are."""
        return self._database.update(collection, query, fields)

    def delete(self, collection: str, query: Mapping[str, Any]) -> int:
        """Removes all documents that a query matches; how many they were."""
        return self._database.delete(collection, query)

    # A user's passwords and audit trail

    def set_password(self, user_id: str, password: str) -> None:
        """Makes a password the user's, and keeps the hashes of those before."""
        salt = secrets.token_bytes(16)
        text = f"scrypt${salt.hex()}${_scrypt(password, salt).hex()}"
        statement = "INSERT INTO passwords (time, hash, createdBy) VALUES (?, ?, ?)"
        self._sqlite.run(self._account(user_id), ACCOUNT, statement, time.time(), text, "system")

    def check_password(self, user_id: str, password: str) -> bool:
        """Whether a password is the user's latest."""
        path = self._account(user_id)
        if not path.exists():
            return False
        rows = self._sqlite.run(path, ACCOUNT, "SELECT hash FROM passwords ORDER BY time DESC LIMIT 1")
        if not rows:
            return False
        _, salt, expected = rows[0][0].split("$")
        return hmac.compare_digest(_scrypt(password, bytes.fromhex(salt)).hex(), expected)

    def audit(self, user_id: str, record: Mapping[str, Any]) -> None:
        """Appends to a user's audit trail.

        Args:
            user_id: The user.
            record: An event: `type`, `content`, `streamIds`, …; with `id` and times unless they are to be made now.
        """
        now = time.time()
        event = {"id": secrets.token_hex(12), "time": now, "createdBy": "system", **record}
        streams = " ".join((*event.get("streamIds", ()), ".."))  # every event is in stream `..`
        self._sqlite.run(
            self.user_folder(user_id) / f"audit-{VERSION}.sqlite",
            AUDIT,
            "INSERT INTO events (eventid, streamIds, time, endTime, type, content, created, createdBy, modified,"
            " modifiedBy) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(event["id"], streams, event["time"], event["time"], event["type"], json.dumps(event["content"])),
            *(now, event["createdBy"], now, event["createdBy"]),
        )

    # The index of users, and unique values

    def add_user(self, username: str, user_id: str, unique: Mapping[str, str] | None = None) -> None:
        """Makes a user known.

        Args:
            username: Their name.
            user_id: Their ID.
            unique: Values by field that no other user may have, such as `email`.

        Raises:
            ExistsError: There is a user of that name.
        """
        try:
            self._index("INSERT INTO id4name (username, userId) VALUES (?, ?)", username, user_id)
        except sqlite3.IntegrityError as error:
            raise ExistsError(f"user {username}") from error
        for field, value in (unique or {}).items():
            self.set_unique(username, field, value)

    def find_user(self, username: str) -> str | None:
        """ID of a user, None for nobody's name."""
        rows = self._index("SELECT userId FROM id4name WHERE username = ?", username)
        return str(rows[0][0]) if rows else None

    def remove_user(self, username: str) -> None:
        """Forgets a user, and all of theirs: documents, files and series."""
        user_id = self.find_user(username)
        if user_id is None:
            return
        for collection in INDEXES.keys() - SHARED:
            self.delete(collection, {"userId": user_id})
        if self._series is not None:
            self._series.drop(username)
        folder = self.user_folder(user_id)
        self._sqlite.close(folder)
        shutil.rmtree(folder, ignore_errors=True)
        self._platform("DELETE FROM keyValue WHERE value = ? AND key LIKE 'user-unique/%'", username)
        self._index("DELETE FROM id4name WHERE username = ?", username)

    def users(self) -> dict[str, str]:
        """IDs by name of all users."""
        return dict(self._index("SELECT username, userId FROM id4name"))

    def set_unique(self, username: str, field: str, value: str) -> None:
        """Makes a value a user's own; the one that this field had before is free again."""
        prefix = f"user-unique/{field}/"
        self._platform("DELETE FROM keyValue WHERE value = ? AND key LIKE ? || '%'", username, prefix)
        self._platform("INSERT OR REPLACE INTO keyValue (key, value) VALUES (?, ?)", prefix + value, username)

    def unique_of(self, field: str, value: str) -> str | None:
        """Name of the user whose own a value is."""
        rows = self._platform("SELECT value FROM keyValue WHERE key = ?", f"user-unique/{field}/{value}")
        return str(rows[0][0]) if rows else None

    # Attachments

    def write_attachment(self, user_id: str, event_id: str, file_id: str, data: bytes) -> None:
        """Keeps a file of an event."""
        path = self._attachments(user_id, event_id) / file_id
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def read_attachment(self, user_id: str, event_id: str, file_id: str) -> bytes:
        """A file of an event.

        Raises:
            FileNotFoundError: It has none of this ID.
        """
        return (self._attachments(user_id, event_id) / file_id).read_bytes()

    def delete_attachments(self, user_id: str, event_id: str) -> None:
        """Removes all files of an event."""
        shutil.rmtree(self._attachments(user_id, event_id), ignore_errors=True)

    # Series

    def write_series(self, username: str, measurement: str, points: Iterable[Mapping[str, Any]]) -> None:
        """Adds points to a series; see Influx.write."""
        self._points.write(username, measurement, points)

    def read_series(self, username: str, measurement: str) -> list[dict[str, Any]]:
        """All points of a series; see Influx.read."""
        return self._points.read(username, measurement)

    @property
    def _points(self) -> Series:
        if self._series is None:
            raise OSError("the configuration names no influxdb")
        return self._series

    # Where things are

    def user_folder(self, user_id: str) -> Path:
        """A user's folder, below three that are the last characters of the ID, the last one first.

        Raises:
            ValueError: The ID could lead elsewhere.
        """
        if len(user_id) < 3 or not user_id.isalnum():
            raise ValueError(f"invalid user ID {user_id!r}")
        return self.folder / user_id[-1] / user_id[-2] / user_id[-3] / user_id

    def _account(self, user_id: str) -> Path:
        return self.user_folder(user_id) / f"account-{VERSION}.sqlite"

    def _attachments(self, user_id: str, event_id: str) -> Path:
        if "/" in event_id or event_id in ("", ".", ".."):
            raise ValueError(f"invalid event ID {event_id!r}")
        return self.user_folder(user_id) / "attachments" / event_id

    def _index(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._sqlite.run(self.folder / "user-index.db", INDEX, statement, *values)

    def _platform(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._sqlite.run(self.folder / "platform-wide.db", PLATFORM, statement, *values)


def _scrypt(password: str, salt: bytes) -> bytes:
    # The real program's hashes are bcrypt's, which Python does not have.
    return hashlib.scrypt(password.encode(), salt=salt, n=1 << 12, r=8, p=1)
