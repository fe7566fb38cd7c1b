"""What a core keeps of a user: where it lies on the host, after a crash, and after the user is gone."""

from __future__ import annotations

import json
import secrets as random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import testinfra

from tests.hosts.conftest import REPEATS, Answer, Platform

PASSWORD, APP = "correct horse", "test-data"
READ = (
    "import json, sqlite3, sys; file, query, values = sys.argv[1:];"
    "print(json.dumps(sqlite3.connect(file, uri=True).execute(query, json.loads(values)).fetchall()))"
)
FILE = b"\x89PNG\r\n\x1a\n" + bytes(2000)


@dataclass(frozen=True)
class User:
    """A user of a core, and what they have there.

    Attributes:
        platform: Where.
        core: The core's inventory name.
        name: Their name.
        token: A personal access token.
        secrets: The vault's keys.
    """

    platform: Platform
    core: str
    name: str
    token: str
    secrets: Mapping[str, str]

    def logged_in(self) -> User:
        """The same user with a token of their own, by their password."""
        body = {"username": self.name, "password": PASSWORD, "appId": APP}
        return replace(self, token=self.call("POST", "/auth/login", body)["token"])

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> dict[str, Any]:
        """Asks the user's API and wants a success."""
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.ask(method, path, content, kind)
        assert answer.status in (200, 201), (method, path, answer.status, answer.body)
        return dict(json.loads(answer.body))

    def ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> Answer:
        """Asks the user's API, whatever it answers."""
        domain = self.platform.domain
        headers = {"Authorization": self.token, "Content-Type": kind, "Origin": f"https://sw.{domain}"}
        return self.platform.ask(self.core, f"{self.name}.{domain}", path, method, headers, body)

    @property
    def data(self) -> str:
        """Where the core's data lies on its host."""
        return f"{self.platform.setting('pryv', 'pryv_data_directory', self.core)}/core"

    def folder(self, machine: testinfra.host.Host) -> str:
        """Where the user's files lie, found by the index of users; empty when that has no such user."""
        found = self.read(machine, "user-index.db", "SELECT userId FROM id4name WHERE username = ?", self.name)
        return "/".join((self.data, "data/users", *reversed(found[0][0][-3:]), found[0][0])) if found else ""

    def read(self, machine: testinfra.host.Host, path: str, query: str, *values: str) -> list[Any]:
        """What an SQLite file holds, absolute or below the folder of users, while the core has it open."""
        file = f"file:{path if path.startswith('/') else f'{self.data}/data/users/{path}'}?mode=ro"
        return list(json.loads(machine.check_output("python3 -c %s %s %s %s", READ, file, query, json.dumps(values))))

    def delete(self, machine: testinfra.host.Host) -> None:
        """Has the core delete the user."""
        machine.check_output(
            "curl --silent --fail --request DELETE --header %s http://127.0.0.1:3000/users/%s",
            f"Authorization: {self.secrets[f'pryv_core_admin_keys.{self.core}']}",
            self.name,
        )


def register(platform: Platform, core: str, secrets: Mapping[str, str], prefix: str) -> User:
    """Registers a user at a core, who logs in.

    Args:
        platform: Where.
        core: The core's inventory name.
        secrets: The vault's keys.
        prefix: What the user's name begins with.
    """
    name = f"{prefix}{random.token_hex(4)}"
    body = {"appId": APP, "username": name, "password": PASSWORD, "email": f"{name}@example.org", "language": "en"}
    answer = platform.ask(
        core,
        f"{core}.{platform.domain}",
        "/users",
        "POST",
        {"Content-Type": "application/json", "Origin": f"https://sw.{platform.domain}"},
        json.dumps(body).encode(),
    )
    assert answer.status == 201, answer.body
    return User(platform, core, name, "", secrets).logged_in()


@pytest.fixture(scope="module")
def user(platform: Platform, secrets: dict[str, str]) -> Iterator[User]:
    core = platform.hosts("core")[0]
    found = register(platform, core, secrets, "data")
    yield found
    machine = platform.machine(core)
    if found.folder(machine):
        found.delete(machine)


@pytest.fixture(scope="module")
def items(user: User) -> dict[str, Any]:
    """A stream, an event with a file, and a series."""
    user.call("POST", "/streams", {"id": "diary", "name": "Diary"})
    event = json.dumps({"streamIds": ["diary"], "type": "picture/attached"})
    form = (
        f'--xx\r\nContent-Disposition: form-data; name="event"\r\n\r\n{event}\r\n'
        '--xx\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    ).encode() + FILE
    picture = user.call("POST", "/events", form + b"\r\n--xx--\r\n", "multipart/form-data; boundary=xx")["event"]
    series = user.call("POST", "/events", {"streamIds": ["diary"], "type": "series:mass/kg"})["event"]
    points = {"format": "flatJSON", "fields": ["deltaTime", "value"], "points": [[0, 70.5], [60, 71.5]]}
    user.call("POST", f"/events/{series['id']}/series", points)
    return {"picture": picture, "series": series}


def test_data_lies_where_backups_look_for_it(user: User, items: dict[str, Any]) -> None:
    machine = user.platform.machine(user.core)
    folder = user.folder(machine)
    hashes = user.read(machine, f"{folder}/account-1.0.0.sqlite", "SELECT hash FROM passwords")
    assert len(hashes) == 1
    assert PASSWORD not in str(hashes)
    attachment = items["picture"]["attachments"][0]["id"]
    stored = machine.file(f"{folder}/attachments/{items['picture']['id']}/{attachment}")
    assert stored.content == FILE
    assert (stored.uid, machine.file(folder).uid) == (9999, 9999)
    email = user.read(machine, "platform-wide.db", "SELECT key FROM keyValue WHERE value = ?", user.name)
    assert [f"user-unique/email/{user.name}@example.org"] in email
    assert machine.file(f"{user.data}/influxdb/data/user.{user.name}").is_directory
    logs = machine.check_output("ls %s", f"{user.data}/mongodb")
    assert "WiredTigerLog." in logs


@pytest.mark.parametrize("_time", range(1, REPEATS + 1))
def test_nothing_is_lost_when_all_programs_are_killed(user: User, items: dict[str, Any], _time: int) -> None:
    machine = user.platform.machine(user.core)
    machine.check_output("docker compose --file /etc/pryv/core/compose.yml kill --signal KILL")
    machine.check_output("docker compose --file /etc/pryv/core/compose.yml up --detach --wait --wait-timeout 60")
    until_it_answers(user)
    assert user.logged_in().token
    found = {event["id"] for event in user.call("GET", "/events?streams[]=diary")["events"]}
    assert found == {items["picture"]["id"], items["series"]["id"]}
    points = user.call("GET", f"/events/{items['series']['id']}/series")
    assert points["points"] == [[0, 70.5], [60, 71.5]]


def test_nothing_of_a_deleted_user_is_left(user: User, items: dict[str, Any]) -> None:
    machine = user.platform.machine(user.core)
    assert items
    folder = user.folder(machine)
    user.delete(machine)
    assert user.folder(machine) == ""
    assert not machine.file(folder).exists
    assert user.read(machine, "platform-wide.db", "SELECT key FROM keyValue WHERE value = ?", user.name) == []
    assert not machine.file(f"{user.data}/influxdb/data/user.{user.name}").exists
    answer = user.ask("GET", "/events")
    assert answer.status == 404


def until_it_answers(user: User) -> None:
    """Waits for the core's processes, each of which listens for itself."""
    for path in ("/access-info", "/events/nothing/series"):
        for _ in range(60):
            answer = user.ask("GET", path)
            if answer.status < 500:
                break
            time.sleep(0.5)
        assert answer.status < 500, (path, answer.status)
