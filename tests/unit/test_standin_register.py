"""What the stand-ins of the registry answer, and what they then keep in Redis."""

from __future__ import annotations

import copy
import fnmatch
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.standins.standin import register as module
from tests.standins.standin import registry
from tests.standins.standin.dns import Zone
from tests.standins.standin.redis import Redis
from tests.standins.standin.register import Register
from tests.standins.standin.web import Request, Response
from tests.unit.test_standins import CONFIG, DOMAIN, ask

SYSTEM, ADMIN, SECOND = "system-key", "admin-key", "second-system-key"


class MemoryRedis(Redis):
    """The commands of Redis that the registry needs."""

    def __init__(self) -> None:
        super().__init__("nowhere", 0, None)
        self.data: dict[str, Any] = {}
        data = self.data
        self._commands: dict[str, Callable[..., Any]] = {
            "GET": data.get,
            "SET": self._set,
            "DEL": lambda key: int(data.pop(key, None) is not None),
            "EXISTS": lambda key: int(key in data),
            "KEYS": lambda pattern: fnmatch.filter(data, pattern),
            "HMSET": self._hmset,
            "HGET": lambda key, field: data.get(key, {}).get(field),
            "HGETALL": lambda key: [word for pair in data.get(key, {}).items() for word in pair],
            "LPUSH": lambda key, value: data.setdefault(key, []).insert(0, value) or len(data[key]),
            "LREM": lambda key, _count, value: data[key].remove(value) or 1,
            "LRANGE": lambda key, _start, _end: list(data.get(key, [])),
            "SISMEMBER": lambda key, value: int(value in data.get(key, ())),
        }

    def run_all(self, commands: Iterable[Iterable[Any]]) -> list[Any]:
        answers: list[Any] = []
        for name, *words in commands:
            if name == "EXEC":
                answers.append([answer for answer in answers if answer != "QUEUED"])
            else:
                answers.append("QUEUED" if name == "MULTI" else self._commands[name](*map(str, words)))
        return answers

    def _set(self, key: str, value: str) -> str:
        self.data[key] = value
        return "OK"

    def _hmset(self, key: str, *words: str) -> str:
        self.data.setdefault(key, {}).update(zip(words[::2], words[1::2], strict=True))
        return "OK"


Call = Callable[..., Response]


@pytest.fixture
def config() -> dict[str, Any]:
    content = copy.deepcopy(CONFIG)
    roles = {SYSTEM: ["system"], SECOND: ["system"], ADMIN: ["admin"]}
    content["auth"]["authorizedKeys"] = {key: {"roles": granted} for key, granted in roles.items()}
    content["net"]["hostings"] = {"geneva": content["net"]["hostings"]["ch"]}
    registry.prepare(content)
    return content


@pytest.fixture
def users() -> registry.Users:
    redis = MemoryRedis()
    redis.data["reservedwords:list"] = list(registry.RESERVED)
    return registry.Users(redis)


@pytest.fixture
def call(config: dict[str, Any], users: registry.Users) -> Call:
    return calling(Register(config, users))


def calling(register: Register) -> Call:
    def call(method: str, target: str, body: Any = None, key: str = "") -> Response:
        path, _, query = target.partition("?")
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {
            "host": f"reg.{DOMAIN}",
            "content-type": "application/json",
            **({"authorization": key} if key else {}),
        }
        parameters = dict(pair.split("=") for pair in query.split("&") if pair)
        return register.answer(Request(method, target, path, parameters, headers, content, len(content), 0.0, 9000))

    return call


NEW = {
    "hosting": "geneva",
    "appid": "test-app",
    "username": "alice",
    "email": "alice@example.org",
    "password": "secret-1",
}
CORE = {"name": f"co1.{DOMAIN}"}


def add(call: Call, name: str, core: str = f"co1.{DOMAIN}", **fields: Any) -> Response:
    """Adds a user as a core does."""
    body = {"user": {"username": name, **fields}, "host": {"name": core}, "unique": ["email"]}
    return call("POST", "/users", body, SYSTEM)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"hosting": "ch"}, "INVALID_HOSTING"),
        ({"hosting": "geneva-"}, "INVALID_HOSTING"),
        ({"hosting": "a" * 71}, "INVALID_HOSTING"),
        ({"hosting": "lausanne"}, "UNAVAILABLE_HOSTING"),
        ({"appid": "short"}, "INVALID_APPID"),
        ({"username": "abcd"}, "INVALID_USER_NAME"),
        ({"username": "-alice"}, "INVALID_USER_NAME"),
        ({"username": "a" * 61}, "INVALID_USER_NAME"),
        ({"username": "pryv-bob"}, "RESERVED_USER_NAME"),
        ({"username": "security"}, "RESERVED_USER_NAME"),
        ({"username": "access"}, "RESERVED_USER_NAME"),
        ({"email": 5}, "INVALID_EMAIL"),
        ({"email": "a" * 301}, "INVALID_EMAIL"),
        ({"password": "five5"}, "INVALID_PASSWORD"),
        ({"languageCode": "deutsch"}, "INVALID_LANGUAGE"),
        ({"hosting": "ch", "username": "abcd"}, "INVALID_HOSTING"),
    ],
)
def test_registration_is_refused(call: Call, changes: dict[str, Any], error: str) -> None:
    answer = call("POST", "/user", {**NEW, **changes})
    assert (answer.status, answer.body["id"]) == (400, error)


def test_all_that_hinders_a_registration_is_told(call: Call) -> None:
    add(call, "alice", email="alice@example.org")
    answer = call("POST", "/user", NEW)
    assert (answer.status, answer.body["id"]) == (400, "INVALID_DATA")
    assert [error["id"] for error in answer.body["errors"]] == ["EXISTING_USER_NAME", "EXISTING_EMAIL"]


def test_registration_goes_to_the_emptiest_core_with_its_own_key(
    call: Call, config: dict[str, Any], users: registry.Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(
        module, "_post_to_core", lambda core, _user: asked.append((core["base_url"], core["authorization"]))
    )
    for number, server in enumerate(config["net"]["aaservers"]["geneva"]):
        server["authorization"] = f"key-of-core-{number + 1}"
    add(call, "bobby")
    assert call("POST", "/user", NEW).status == 200
    assert asked == [(f"https://co2.{DOMAIN}/", "key-of-core-2")]
    assert users.server("alice") == f"co2.{DOMAIN}"
    assert users.owner("email", "alice@example.org") == "alice"


def test_a_user_of_a_known_name_is_replaced(call: Call, users: registry.Users) -> None:
    add(call, "alice", email="old@example.org")
    assert add(call, "alice", f"co2.{DOMAIN}", email="new@example.org").status == 201
    assert users.server("alice") == f"co2.{DOMAIN}"
    assert users.owner("email", "old@example.org") is None
    assert users.owner("email", "new@example.org") == "alice"


def test_a_core_cannot_be_changed_with_a_users_fields(call: Call, users: registry.Users) -> None:
    add(call, "alice")
    assert call("PUT", "/users", {"username": "alice", "user": {"server": f"co2.{DOMAIN}"}}, SYSTEM).status == 400
    assert users.server("alice") == f"co1.{DOMAIN}"


def test_fields_are_changed(call: Call, users: registry.Users) -> None:
    add(call, "alice", email="old@example.org")
    add(call, "bobby", email="bob@example.org")
    entry = {"value": "new@example.org", "isUnique": True, "isActive": True}
    answer = call("PUT", "/users", {"username": "alice", "user": {"email": [entry]}}, SYSTEM)
    assert (answer.status, answer.body) == (200, {"user": True})
    assert users.owner("email", "old@example.org") is None
    assert users.owner("email", "new@example.org") == "alice"
    taken = call(
        "PUT", "/users", {"username": "alice", "user": {"email": [{**entry, "value": "bob@example.org"}]}}, SYSTEM
    )
    assert taken.body["error"] == {"id": "item-already-exists", "data": {"email": "bob@example.org"}}
    assert call("PUT", "/users", {"username": "nobody"}, SYSTEM).body["error"]["httpCode"] == 404
    assert call("PUT", "/users", {"username": "alice"}, SYSTEM).body == {"user": None}
    assert call("DELETE", "/users/alice?onlyReg=true", key=SYSTEM).body == {
        "result": {"dryRun": False, "deleted": True}
    }
    assert not [key for key in users.redis.keys("*") if "alice" in key or ("example.org" in key and "bob" not in key)]


@pytest.mark.parametrize(
    ("method", "path", "body", "role"),
    [
        ("POST", "/users", {"user": {"username": "alice"}, "host": CORE}, SYSTEM),
        ("POST", "/users/validate", {"username": "alice", "uniqueFields": {}, "core": "co1"}, SYSTEM),
        ("GET", "/admin/users", None, ADMIN),
        ("GET", "/admin/servers", None, ADMIN),
        ("GET", f"/admin/servers/co1.{DOMAIN}/users", None, ADMIN),
        ("GET", f"/admin/servers/co1.{DOMAIN}/rename/co2.{DOMAIN}", None, SYSTEM),
        ("GET", "/admin/invitations", None, ADMIN),
        ("GET", "/admin/invitations/post?count=1", None, ADMIN),
        ("POST", "/records", {"co1": {"ip": "192.0.2.99", "description": []}}, ADMIN),
    ],
)
def test_each_key_opens_what_its_role_may(call: Call, method: str, path: str, body: Any, role: str) -> None:
    assert call(method, path, body).status == 401
    assert call(method, path, body, "another-key").status == 401
    assert call(method, path, body, ADMIN if role == SYSTEM else SYSTEM).status == 403
    assert call(method, path, body, role).status in (200, 201)
    if role == SYSTEM:
        assert call(method, path, body, SECOND).status in (200, 201)


def test_a_core_is_renamed_for_all_its_users(call: Call) -> None:
    for name in ("alice", "bobby"):
        add(call, name)
    add(call, "carol", f"co2.{DOMAIN}")
    assert call("GET", "/admin/servers", key=ADMIN).body == {"servers": {f"co1.{DOMAIN}": 2, f"co2.{DOMAIN}": 1}}
    answer = call("GET", f"/admin/servers/co1.{DOMAIN}/rename/co2.{DOMAIN}", key=SYSTEM)
    assert answer.body == {"count": 2}
    found = call("GET", f"/admin/servers/co2.{DOMAIN}/users", key=ADMIN).body["users"]
    assert sorted(found) == ["alice", "bobby", "carol"]
    assert call("GET", "/admin/servers/co/users", key=ADMIN).body["id"] == "INVALID_DATA"


def test_a_user_of_an_unknown_core_ends_the_process(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its proxy then answers 502."""

    class EndedError(Exception):
        """Instead of the process."""

    def end(text: str) -> None:
        raise EndedError(text)

    monkeypatch.setattr(module, "die", end)
    add(call, "alice", "evil.example")
    with pytest.raises(EndedError, match=r"evil\.example of user alice"):
        call("GET", "/cores?username=alice")
    add(call, "alice")
    assert call("GET", "/cores?username=alice").body == {"core": {"url": f"https://co1.{DOMAIN}/"}}


def test_records_change_what_dns_answers_at_once(call: Call, config: dict[str, Any]) -> None:
    zone = Zone(config, lambda _name: None)
    text = {"_acme-challenge": {"description": "three"}}
    assert call("POST", "/records", text, ADMIN).body == [{"_acme-challenge": {"description": ["three", "two"]}}]
    assert call("POST", "/records", {"co1": {"ip": "192.0.2.99", "description": []}}, ADMIN).status == 200
    answers = [ask(zone, f"{name}.{DOMAIN}", kind).answer for name, kind in (("_acme-challenge", "TXT"), ("co1", "A"))]
    assert [item.to_text() for answer in answers for rrset in answer for item in rrset] == [
        '"three"',
        '"two"',
        "192.0.2.99",
    ]


@pytest.mark.parametrize("body", [None, {}, {"co1": {"ip": "192.0.2.99"}}, b"{"])
def test_records_want_a_description(call: Call, config: dict[str, Any], body: Any) -> None:
    before = copy.deepcopy(config["dns"])
    assert call("POST", "/records", body, ADMIN).status == (400 if body == b"{" else 500)
    assert config["dns"] == before


def test_answers_live_as_long_as_the_configuration_says(config: dict[str, Any]) -> None:
    config["dns"]["defaultTTL"] = 60
    assert [rrset.ttl for rrset in ask(Zone(config, lambda _name: None), f"sw.{DOMAIN}", "A").answer] == [60]


def test_an_invitation_is_used_once(config: dict[str, Any], users: registry.Users) -> None:
    config["invitationTokens"] = ["first-token"]
    call = calling(Register(config, users))
    made = call("GET", "/admin/invitations/post?count=2&message=x", key=ADMIN).body["data"]
    assert add(call, "alice", invitationToken=made[0]["id"]).status == 201
    assert add(call, "bobby", invitationToken=made[0]["id"]).status == 404
    assert add(call, "bobby", invitationToken="first-token").status == 201
    found = {
        item["id"]: item.get("consumedBy") for item in call("GET", "/admin/invitations", key=ADMIN).body["invitations"]
    }
    assert found == {made[0]["id"]: "alice", made[1]["id"]: None, "first-token": "bobby"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/SERVICE/info/", 200),
        ("/alice%40example.org/check_email", 200),
        ("/apps/uid", 200),
        ("/service/info/more", 404),
        ("/users", 404),
    ],
)
def test_paths_are_matched_as_express_does(call: Call, path: str, status: int) -> None:
    add(call, "alice", email="alice@example.org")
    answer = call("GET", path)
    assert answer.status == status
    if "check_email" in path:
        assert answer.body == {"exists": True}
