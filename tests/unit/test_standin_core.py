"""What the stand-ins of a core answer: Express' routes, logins, accesses, streams, events, files, series and mfa."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.standins.standin import core as core_module
from tests.standins.standin import mfa as mfa_module
from tests.standins.standin.api import Api, is_trusted
from tests.standins.standin.core import Core, Hfs, Preview
from tests.standins.standin.express import Route, hoisted, pathname
from tests.standins.standin.mfa import Mfa
from tests.standins.standin.socketio import SocketIo
from tests.standins.standin.store import Store
from tests.standins.standin.web import Request, Response
from tests.unit.memory_documents import MemoryDocuments

DOMAIN = "poc.pryv.test"
USER, PASSWORD, APP = "alice-test", "correct horse", "test-app"
ADMIN_KEY = "admin-key-of-core"
ORIGIN = {"origin": f"https://sw.{DOMAIN}"}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)

Ask = Callable[..., Response]


class MemorySeries:
    """Series in memory."""

    def __init__(self) -> None:
        self.points: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def write(self, username: str, measurement: str, points: Iterable[Mapping[str, Any]]) -> None:
        self.points.setdefault((username, measurement), []).extend(dict(point) for point in points)

    def read(self, username: str, measurement: str) -> list[dict[str, Any]]:
        return self.points.get((username, measurement), [])

    def drop(self, username: str) -> None:
        for key in [key for key in self.points if key[0] == username]:
            del self.points[key]


def config(folder: Path) -> dict[str, Any]:
    return {
        "userFiles": {"path": str(folder)},
        "uploads": {"maxSizeMb": 1},
        "user-account": {"delete": ["adminToken"]},
        "services": {
            "register": {"url": "https://reg", "key": "register-key"},
            "email": {"enabled": {"welcome": False}},
        },
        "auth": {
            "adminAccessKey": ADMIN_KEY,
            "filesReadTokenSecret": "secret-of-files",
            "ssoCookieSignSecret": "secret-of-cookies",
            "ssoCookieDomain": f".{DOMAIN}",
            "sessionMaxAge": 60_000,
            "trustedApps": f"*@https://*.{DOMAIN}",
            "passwordComplexityMinLength": 8,
        },
    }


def request(
    method: str, target: str, body: Any = None, headers: Mapping[str, str] | None = None, host: str = f"{USER}.{DOMAIN}"
) -> Request:
    """A request as the server hands it over."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    found = {"host": host, **({"content-type": "application/json"} if body is not None else {}), **(headers or {})}
    url = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    return Request(method, target, url.path, query, found, data, len(data), 0.0, 3000)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(config(tmp_path), MemoryDocuments(), MemorySeries())


@pytest.fixture
def core(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Core:
    monkeypatch.setattr(core_module, "request", lambda method, *_: (201 if method == "POST" else 200, {}))
    made = Core(config(tmp_path), {"api": f"https://{{username}}.{DOMAIN}", "name": "Test"}, store)
    monkeypatch.setattr(made, "_validate_on_platform", lambda _checked: None)
    return made


@pytest.fixture
def token(core: Core) -> str:
    body = {"username": USER, "password": PASSWORD, "email": "alice@example.com", "appId": APP}
    answer = core.answer(request("POST", "/users", body, host=f"co1.{DOMAIN}"))
    assert answer.status == 201, answer.body
    return str(answer.body["apiEndpoint"]).removeprefix("https://").partition("@")[0]


@pytest.fixture
def ask(core: Core, token: str) -> Ask:
    """Asks core as the user, or with another token."""

    def asking(method: str, target: str, body: Any = None, by: str | None = token, **headers: str) -> Response:
        given = {"authorization": by} if by else {}
        return core.answer(request(method, target, body, {**given, **headers}))

    return asking


def stream(ask: Ask, identity: str = "diary", parent: str | None = None) -> None:
    answer = ask("POST", "/streams", {"id": identity, "name": identity.title(), "parentId": parent})
    assert answer.status == 201, answer.body


def event(ask: Ask, **fields: Any) -> dict[str, Any]:
    answer = ask("POST", "/events", {"streamIds": ["diary"], "type": "note/txt", "content": "hi", **fields})
    assert answer.status == 201, answer.body
    found: dict[str, Any] = answer.body["event"]
    return found


def upload(ask: Ask, content: bytes, kind: str = "image/png") -> Response:
    text = json.dumps({"streamIds": ["diary"], "type": "picture/attached"})
    body = (
        f'--xx\r\nContent-Disposition: form-data; name="event"\r\n\r\n{text}\r\n'
        f'--xx\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: {kind}\r\n\r\n'
    ).encode() + content
    return ask("POST", "/events", body + b"\r\n--xx--\r\n", **{"content-type": "multipart/form-data; boundary=xx"})


# --- Express ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/auth/login", "/auth/login"),
        ("/auth/login?a=/b#c", "/auth/login"),
        ("/auth/login#x", "/auth/login"),
        ("/auth/login\\#", "/auth/login/"),
        ("/register\\create-user#", "/register/create-user"),
        # Without a `#` or the like, a backslash stays what it is.
        ("/auth/login\\", "/auth/login\\"),
        ("//auth//login", "//auth//login"),
        ("/auth/%6Cogin", "/auth/%6Cogin"),
    ],
)
def test_paths_are_read_as_express_reads_them(target: str, expected: str) -> None:
    assert pathname(target) == expected


@pytest.mark.parametrize(
    ("path", "matches"),
    [
        ("/alice/auth/login", True),
        ("/ALICE/AUTH/Login/", True),
        ("/alice/auth/login//", False),
        ("/alice//auth/login", False),
        ("/alice/auth/%6Cogin", False),
        ("/auth/login", False),
    ],
)
def test_routes_match_as_in_express(path: str, matches: bool) -> None:
    route = Route("POST", "/:username/auth/login", lambda *_: Response(200))
    assert (route.match("POST", path) is not None) == matches


@pytest.mark.parametrize(
    ("host", "target", "expected"),
    [
        ("alice.d", "/events", "/alice/events"),
        ("alice.d", "/alice/events", "/alice/events"),
        ("co1.d", "/alice/events", "/alice/events"),
        ("alice.d", "/register/create-user", "/register/create-user"),
        ("alice.d", "/system/create-user", "/system/create-user"),
    ],
)
def test_users_name_comes_before_the_path(host: str, target: str, expected: str) -> None:
    assert hoisted(request("GET", target, host=host), core_module.IGNORED) == expected


@pytest.mark.parametrize("target", ["/auth/login\\#", f"/{USER}/AUTH/LOGIN/", f"/{USER}/auth/login\\#x"])
def test_login_is_reached_in_every_form_that_express_takes_for_it(core: Core, token: str, target: str) -> None:
    body = {"username": USER, "password": PASSWORD, "appId": APP}
    assert core.answer(request("POST", target, body, ORIGIN)).body["token"] == token


@pytest.mark.parametrize("target", ["/register/create-user", "/Register/create-user/", "/register\\create-user#"])
def test_users_are_created_without_a_key(core: Core, target: str) -> None:
    body = {"username": "bobby", "passwordHash": "x" * 64, "email": "b@example.com", "language": "en"}
    assert core.answer(request("POST", target, body, host=f"co1.{DOMAIN}")).status == 201


# --- Users -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("username", "abcd"),
        ("username", "Alice"),
        ("username", "-alice"),
        ("username", "a" * 61),
        ("password", "short"),
        ("password", 123456789),
        ("password", "p" * 101),
        ("password", "seven77"),
        ("email", None),
        ("email", "e" * 301),
        ("appId", "short"),
        ("language", "en-GB2"),
    ],
)
def test_registration_with_wrong_values_is_refused(core: Core, field: str, value: Any) -> None:
    body = {"username": USER, "password": PASSWORD, "email": "a@example.com", "appId": APP, field: value}
    answer = core.answer(request("POST", "/users", body, host=f"co1.{DOMAIN}"))
    assert (answer.status, answer.body["error"]["id"]) == (400, "invalid-parameters-format")


def login(core: Core, password: str = PASSWORD, origin: str = ORIGIN["origin"]) -> Response:
    body = {"username": USER, "password": password, "appId": APP}
    return core.answer(request("POST", "/auth/login", body, {"origin": origin}))


def test_login_opens_one_session_for_an_app(core: Core, token: str) -> None:
    answer = login(core)
    assert (answer.status, answer.body["token"], answer.body["preferredLanguage"]) == (200, token, "en")
    assert answer.headers["Set-Cookie"].startswith("sso=s%3Aj%3A%7B%22username%22%3A%22alice-test%22")


@pytest.mark.parametrize(
    ("password", "origin"),
    [
        ("wrong", ORIGIN["origin"]),
        (PASSWORD, ""),
        (PASSWORD, "https://evil.example"),
        (PASSWORD, "https://x.pocpryv.test"),
    ],
)
def test_login_is_for_who_knows_the_password_at_a_trusted_app(
    core: Core, token: str, password: str, origin: str
) -> None:
    answer = login(core, password, origin)
    assert (answer.status, answer.body["error"]["id"]) == (401, "invalid-credentials")
    assert token


def test_trusted_apps_are_matched_whole() -> None:
    assert is_trusted("*@https://*.d.test, app@https://o.test", "app", "https://o.test")
    assert not is_trusted("*@https://*.d.test, app@https://o.test", "other", "https://o.test")
    assert not is_trusted("*@https://*.d.test", "app", "https://x.d.test.evil")
    assert not is_trusted("*@https://*.d.test", "", "https://x.d.test")


def test_sessions_end(core: Core, ask: Ask, token: str, store: Store) -> None:
    assert ask("GET", "/access-info").body["user"]["username"] == USER
    store.update("sessions", {"id": token}, {"expires": time.time() * 1000 - 1})
    answer = ask("GET", "/access-info")
    assert (answer.status, answer.body["error"]["message"]) == (403, "Access session has expired.")
    fresh = login(core).body["token"]
    assert fresh != token
    assert ask("POST", "/auth/logout", {}, by=fresh).status == 200
    assert ask("GET", "/access-info", by=fresh).status == 403


@pytest.mark.parametrize(("by", "status"), [(None, 401), ("nobody", 403)])
def test_requests_without_an_access_are_refused(ask: Ask, by: str | None, status: int) -> None:
    answer = ask("GET", "/streams", by=by)
    assert (answer.status, answer.body["error"]["id"]) == (status, "invalid-access-token")


def test_unknown_users_are_unknown(core: Core) -> None:
    assert core.answer(request("GET", "/events", host=f"nobody.{DOMAIN}")).status == 404


def test_password_is_changed(core: Core, ask: Ask) -> None:
    change = {"oldPassword": PASSWORD, "newPassword": "another one"}
    assert ask("POST", "/account/change-password", {**change, "oldPassword": "wrong"}).status == 400
    assert ask("POST", "/account/change-password", change).status == 200
    assert login(core).status == 401
    assert login(core, "another one").status == 200


def test_users_are_deleted_with_the_admin_key_under_the_cores_own_name(ask: Ask, store: Store) -> None:
    stream(ask)
    assert ask("DELETE", f"/users/{USER}", by=ADMIN_KEY).status == 404
    assert ask("DELETE", f"/users/{USER}", host=f"co1.{DOMAIN}").status == 404
    assert ask("DELETE", f"/users/{USER}", by=ADMIN_KEY, host=f"co1.{DOMAIN}").status == 200
    assert (store.find_user(USER), ask("GET", "/streams").status) == (None, 404)


# --- Accesses, streams, events ---------------------------------------------------------------------------------------


def access(ask: Ask, level: str, **fields: Any) -> dict[str, Any]:
    body = {"name": level, "permissions": [{"streamId": "diary", "level": level, "defaultName": "Diary"}], **fields}
    answer = ask("POST", "/accesses", body)
    assert answer.status == 201, answer.body
    found: dict[str, Any] = answer.body["access"]
    return found


def test_accesses_may_do_what_they_say(ask: Ask) -> None:
    stream(ask)
    stream(ask, "night", "diary")
    stream(ask, "private")
    mine = event(ask, streamIds=["night"])
    event(ask, streamIds=["private"])
    reader, writer = access(ask, "read")["token"], access(ask, "contribute")["token"]
    assert [one["id"] for one in ask("GET", "/events", by=reader).body["events"]] == [mine["id"]]
    assert [one["id"] for one in ask("GET", "/streams", by=reader).body["streams"]] == ["diary"]
    new = {"streamIds": ["night"], "type": "note/txt", "content": "x"}
    assert ask("POST", "/events", new, by=reader).status == 403
    assert ask("POST", "/events", new, by=writer).status == 201
    assert ask("POST", "/streams", {"name": "new", "parentId": "diary"}, by=writer).status == 403
    assert ask("POST", "/accesses", {"name": "x", "permissions": []}, by=writer).status == 403


def test_app_accesses_make_streams_and_end_what_they_made(ask: Ask) -> None:
    app = access(ask, "manage", type="app", name="an-app")
    assert ask("GET", "/streams").body["streams"][0]["name"] == "Diary"
    assert ask("POST", "/accesses", {"type": "app", "name": "an-app", "permissions": []}).status == 409
    body = {"name": "shared", "permissions": [{"streamId": "diary", "level": "read"}]}
    shared = ask("POST", "/accesses", body, by=app["token"]).body["access"]
    answer = ask("DELETE", f"/accesses/{app['id']}")
    assert answer.body["relatedDeletions"] == [{"id": shared["id"]}]
    assert ask("GET", "/access-info", by=shared["token"]).status == 403


def test_expired_accesses_are_over(ask: Ask, store: Store) -> None:
    made = access(ask, "read", expireAfter=100)
    assert ask("GET", "/access-info", by=made["token"]).status == 200
    store.update("accesses", {"id": made["id"]}, {"expires": time.time() - 1})
    assert ask("GET", "/access-info", by=made["token"]).body["error"]["message"] == "Access has expired."


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"type": "note/txt"}, 400, "invalid-parameters-format"),
        ({"streamIds": ["diary"]}, 400, "invalid-parameters-format"),
        ({"streamIds": ["diary"], "type": "Note"}, 400, "invalid-parameters-format"),
        ({"streamIds": ["diary"], "type": "a/b", "unknown": 1}, 400, "invalid-parameters-format"),
        ({"streamIds": ["nowhere"], "type": "a/b"}, 400, "unknown-referenced-resource"),
        ({"streamIds": ["diary"], "streamId": "diary", "type": "a/b"}, 400, "invalid-operation"),
        ({"streamIds": ["diary"], "type": "series:mass/kg", "content": 1}, 400, "invalid-parameters-format"),
    ],
)
def test_wrong_events_are_refused(ask: Ask, body: Any, status: int, error: str) -> None:
    stream(ask)
    answer = ask("POST", "/events", body)
    assert (answer.status, answer.body["error"]["id"]) == (status, error)


def test_events_change_and_go(ask: Ask) -> None:
    stream(ask)
    made = event(ask, clientData={"a": 1, "b": 2})
    changed = ask("PUT", f"/events/{made['id']}", {"content": "bye", "clientData": {"a": None}}).body["event"]
    assert (changed["content"], changed["clientData"]) == ("bye", {"b": 2})
    assert ask("PUT", f"/events/{made['id']}", {"id": "other"}).status == 403
    assert ask("DELETE", f"/events/{made['id']}").body["event"]["trashed"] is True
    found = ask("GET", "/events?streams=diary")
    assert found.body["events"] == []
    assert [one["id"] for one in ask("GET", "/events?state=trashed").body["events"]] == [made["id"]]
    assert ask("DELETE", f"/events/{made['id']}").body["eventDeletion"] == {"id": made["id"]}
    assert ask("GET", f"/events/{made['id']}").status == 404
    deleted = ask("GET", "/events?modifiedSince=0&includeDeletions=true").body["eventDeletions"]
    assert [one["id"] for one in deleted] == [made["id"]]


def test_events_are_found_by_time_type_and_stream(ask: Ask) -> None:
    stream(ask)
    stream(ask, "night", "diary")
    for number in range(25):
        event(ask, time=1000 + number, streamIds=["night" if number % 2 else "diary"])
    assert len(ask("GET", "/events?streams=diary").body["events"]) == 20
    assert len(ask("GET", "/events?streams[]=diary&fromTime=0").body["events"]) == 25
    assert len(ask("GET", "/events?streams=night&limit=100").body["events"]) == 12
    query = '/events?streams=[{"any":["diary"],"not":["night"]}]&limit=100'
    assert len(ask("GET", query).body["events"]) == 13
    times = [one["time"] for one in ask("GET", "/events?types=note/*&toTime=1002&sortAscending=true").body["events"]]
    assert times == [1000, 1001, 1002]
    assert ask("GET", "/events?limit=many").status == 400


def test_calls_in_a_batch_fail_one_by_one(ask: Ask) -> None:
    calls = [
        {"method": "streams.create", "params": {"id": "diary", "name": "Diary"}},
        {"method": "streams.create", "params": {"id": "diary", "name": "Diary"}},
        {"method": "events.create", "params": {"streamIds": ["diary"], "type": "note/txt", "content": "x"}},
        {"method": "nonsense", "params": {}},
    ]
    results = ask("POST", "/", calls).body["results"]
    assert [one.get("error", {}).get("id") for one in results] == [None, "item-already-exists", None, "invalid-method"]


def test_streams_are_trees_that_go_with_their_events(ask: Ask) -> None:
    stream(ask)
    stream(ask, "night", "diary")
    made = event(ask, streamIds=["night"])
    assert ask("GET", "/streams").body["streams"][0]["children"][0]["id"] == "night"
    assert ask("DELETE", "/streams/night").body["stream"]["trashed"] is True
    assert ask("DELETE", "/streams/night").status == 400
    answer = ask("DELETE", "/streams/night?mergeEventsWithParent=true").body
    assert answer["updatedEvents"] == [{"action": "mergedToParent", "id": made["id"]}]
    assert ask("GET", f"/events/{made['id']}").body["event"]["streamIds"] == ["diary"]


@pytest.mark.parametrize(("size", "kind", "status"), [(1 << 20, "application/json", 400), (1 << 22, "", 201)])
def test_only_the_size_of_json_is_looked_at(ask: Ask, size: int, kind: str, status: int) -> None:
    stream(ask)
    if kind:
        assert ask("POST", "/events", b'"' + bytes(size) + b'"').status == status
    else:
        assert upload(ask, bytes(size)).status == status


@pytest.mark.parametrize("body", [b"{", b'"text"', b"\xff"])
def test_what_is_no_json_is_refused(ask: Ask, body: bytes) -> None:
    assert ask("POST", "/events", body).body["error"]["id"] == "invalid-request-structure"


def test_cross_origin_requests_are_let_in(core: Core) -> None:
    asked = {"origin": "https://app.example", "access-control-request-method": "PUT"}
    answer = core.answer(request("OPTIONS", "/events", headers=asked))
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert answer.headers["Access-Control-Allow-Methods"] == "PUT"


# --- Files, previews, series -----------------------------------------------------------------------------------------


def test_files_are_read_with_their_token_alone(core: Core, ask: Ask, token: str) -> None:
    stream(ask)
    made = upload(ask, PNG).body["event"]
    file = made["attachments"][0]
    assert (file["fileName"], file["type"], file["size"]) == ("a.png", "image/png", len(PNG))
    path = f"/events/{made['id']}/{file['id']}"
    assert ask("GET", f"{path}/a.png").body == PNG
    assert core.answer(request("GET", f"{path}?readToken={file['readToken']}")).body == PNG
    for wrong in (f"readToken={file['readToken'][:-1]}x", f"auth={token}", "readToken=nonsense", ""):
        assert core.answer(request("GET", f"{path}?{wrong}")).status in (401, 403), wrong
    reader = access(ask, "read")
    other = ask("GET", f"/events/{made['id']}", by=reader["token"]).body["event"]["attachments"][0]["readToken"]
    assert other != file["readToken"]
    assert core.answer(request("GET", f"{path}?readToken={other}")).body == PNG


def test_pictures_have_previews(tmp_path: Path, ask: Ask, store: Store, token: str) -> None:
    stream(ask)
    preview = Preview(Api(store, config(tmp_path), {}))

    def show(identity: str, by: str = token) -> Response:
        return preview.answer(request("GET", f"/events/{identity}.jpg", headers={"authorization": by}))

    picture = show(upload(ask, PNG).body["event"]["id"])
    assert picture.headers["Content-Type"] == "image/jpeg"
    assert picture.body.startswith(b"\xff\xd8\xff")
    assert show(event(ask)["id"]).status == 204
    assert show(upload(ask, b"no picture").body["event"]["id"]).status == 422
    assert show("nothing").status == 404
    assert show("nothing", "nobody").status == 403


def test_series_are_kept_by_event(tmp_path: Path, ask: Ask, store: Store, token: str) -> None:
    stream(ask)
    hfs = Hfs(Api(store, config(tmp_path), {}))
    answer = ask("POST", "/events", {"streamIds": ["diary"], "type": "series:mass/kg"}).body["event"]
    assert answer["content"] == {"elementType": "mass/kg", "fields": ["value"], "required": ["value"]}
    target, points = f"/events/{answer['id']}/series", [[0, 81.5], [1, 82.25]]
    body = {"format": "flatJSON", "fields": ["deltaTime", "value"], "points": points}

    def call(method: str, target: str, body: Any = None, by: str = token) -> Response:
        return hfs.answer(request(method, target, body, {"authorization": by} if by else {}))

    assert call("POST", target, body).body["status"] == "ok"
    batch = {"format": "seriesBatch", "data": [{"eventId": answer["id"], "data": {**body, "points": [[2, 83]]}}]}
    assert call("POST", "/series/batch", batch).body["status"] == "ok"
    read = call("GET", target).body
    assert (read["fields"], read["points"]) == (["deltaTime", "value"], [[0, 81.5], [1, 82.25], [2, 83]])
    assert call("GET", f"{target}?fromDeltaTime=1&toDeltaTime=2").body["points"] == [[1, 82.25]]
    assert call("POST", target, {**body, "format": "csv"}).status == 400
    assert call("POST", target, {**body, "points": [[1]]}).status == 400
    assert call("POST", f"/events/{event(ask)['id']}/series", body).status == 400
    assert (call("GET", target, by="nobody").status, call("GET", target, by="").status) == (403, 401)


# --- socket.io -------------------------------------------------------------------------------------------------------


def test_sockets_that_are_websockets_already_are_offered_no_upgrade() -> None:
    def ask(sid: str = "", **headers: str) -> Response:
        target = "/socket.io/?EIO=4&auth=token&transport=" + ("websocket" if headers else "polling")
        return sockets.answer(request("GET", target + (f"&sid={sid}" if sid else ""), headers=headers))

    def call(method: str, params: Any) -> Any:
        return {"method": method, "params": params}

    def talk(response: Response, *sent: str) -> list[str]:
        """What comes over a websocket after some texts; the first ones up to that of the last text."""
        ours, theirs = socket.socketpair()
        assert response.takeover is not None
        server = threading.Thread(target=response.takeover, args=(theirs,))
        server.start()
        for text in sent:
            size = bytes([0x80 | len(text)]) if len(text) < 126 else b"\xfe" + len(text).to_bytes(2, "big")
            ours.sendall(b"\x81" + size + bytes(4) + text.encode())
        ours.sendall(b"\x88\x80" + bytes(4))
        server.join(5)
        theirs.shutdown(socket.SHUT_RDWR)
        with ours, ours.makefile("rb") as stream:
            frames = []
            while head := stream.read(2):
                length = head[1] if head[1] < 126 else int.from_bytes(stream.read(2), "big")
                frames.append(stream.read(length).decode())
            return frames

    sockets = SocketIo(lambda _user, _token: call)
    opened = json.loads(ask().body[1:])
    assert opened["upgrades"] == ["websocket"]
    assert talk(ask(opened["sid"], upgrade="websocket"), "2probe") == ["3probe"]
    greeting, *rest = talk(
        ask(upgrade="websocket"), f"40/{USER},", f'42/{USER},7["a.method",{{"a":"{"x" * 200}"}}]', "2"
    )
    assert json.loads(greeting[1:])["upgrades"] == []
    assert rest[0].startswith(f"40/{USER},")
    assert json.loads(rest[1].removeprefix(f"43/{USER},7"))[1] == {"method": "a.method", "params": {"a": "x" * 200}}
    assert rest[2] == "3"


# --- mfa -------------------------------------------------------------------------------------------------------------

SMS = {
    "mode": "single",
    "endpoints": {"single": {"url": "https://sms/{{ phone }}", "method": "POST", "body": "{{ code }}"}},
}
MFA = {
    "http": {"ip": "127.0.0.1", "port": 7000},
    "core": {"url": "http://core:3000"},
    "sms": SMS,
    "sessions": {"ttlSeconds": 60},
}


@pytest.fixture
def sent(core: Core, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Codes that were sent; mfa's requests go to core, those to the service that sends codes are kept."""
    codes: list[tuple[str, str]] = []

    def asked(method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        if url.startswith("https://sms/"):
            codes.append((url, body.decode()))
            return 200, {}
        given = {name.lower(): value for name, value in (headers or {}).items()}
        answer = core.answer(request(method, url.removeprefix("http://core:3000"), body, given))
        return answer.status, answer.body

    monkeypatch.setattr(mfa_module, "request", asked)
    return codes


def test_second_factor_is_asked_for_once_it_is_active(token: str, sent: list[tuple[str, str]]) -> None:
    mfa = Mfa(MFA)
    credentials = {"username": USER, "password": PASSWORD, "appId": APP}

    def ask(path: str, body: Any = None, by: str = "") -> Response:
        return mfa.answer(request("POST", path, body or {}, {**ORIGIN, **({"authorization": by} if by else {})}))

    assert ask("/login", credentials).body["token"] == token
    wrong = ask("/login", {**credentials, "password": "wrong"})
    assert (wrong.status, wrong.body["error"]["id"]) == (401, "invalid-credentials")
    assert ask("/mfa/activate", {"phone": "123"}).status == 403
    session = ask("/mfa/activate", {"phone": "123"}, token)
    assert (session.status, sent[-1][0]) == (302, "https://sms/123")
    identity = session.body["mfaToken"]
    assert ask("/mfa/confirm", {"code": "nope"}, identity).status == 400
    codes = ask("/mfa/confirm", {"code": sent[-1][1]}, identity).body["recoveryCodes"]
    assert len(codes) == 10
    identity = ask("/login", credentials).body["mfaToken"]
    assert ask("/mfa/verify", {"code": sent[-1][1]}, identity).status == 400
    assert ask("/mfa/challenge", {}, identity).status == 200
    assert ask("/mfa/verify", {"code": sent[-1][1]}, identity).body["token"] == token
    assert ask("/mfa/verify", {"code": sent[-1][1]}, identity).status == 403
    assert ask("/mfa/recover", {**credentials, "recoveryCode": "nope"}).status == 400
    assert ask("/mfa/recover", {**credentials, "recoveryCode": codes[0]}).status == 200
    assert ask("/login", credentials).status == 200
    assert ask("/elsewhere").status == 404
