"""Use a core as an app does: a throw-away user registers, logs in, keeps data of every kind, and is removed again."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.platform_client import CheckError, Client, Record, Reply, frame, retry

APP_ID = "platform-check"
STREAM = "platform-check"


@dataclass(frozen=True)
class Place:
    """Where a user is to be.

    Attributes:
        core: Inventory name of the core.
        domain: The platform's domain.
        registry_name: Host name of the registry.
        addresses: Public addresses by host.
        registry: The registry's hosts, the leader first.
        core_key: Key with which the core lets users be deleted.
        registry_key: Key with which the registry tells about users and forgets them.
        invitation: What new users need to register, when the platform asks for it.
        has_mfa: Whether the core has a second factor.
        trusted_apps: The core's `core_trusted_apps`; empty for those of the default.
    """

    core: str
    domain: str
    registry_name: str
    addresses: Mapping[str, str]
    registry: Sequence[str]
    core_key: str
    registry_key: str
    invitation: str = "no-token"
    has_mfa: bool = False
    trusted_apps: Sequence[str] = ()

    @property
    def home(self) -> str:
        """Host name of the core."""
        return f"{self.core}.{self.domain}"


def identity(core: str, domain: str, key: str) -> tuple[str, str]:
    """Return name and email of the throw-away user of a core.

    Both follow from a secret: nobody else can take the name beforehand, and a user with that name and email is ours.

    Args:
        core: The core.
        domain: The platform's domain.
        key: A secret of the platform.
    """
    mark = hmac.new(key.encode(), f"platform-check {domain} {core}".encode(), hashlib.sha256).hexdigest()
    return f"zz-verify-{mark[:12]}-{core}", f"{mark[12:36]}@{domain}"


def trusted_app(entries: Sequence[str], domain: str) -> tuple[str, str]:
    """Return ID and origin of an app that a core trusts.

    Args:
        entries: The core's trusted apps, `ID@ORIGIN` each; an ID may be `*`, an origin may have some.
        domain: The platform's domain, whose apps are trusted by default.

    Raises:
        CheckError: The core trusts none.
    """
    for entry in entries or [f"*@https://*.{domain}"]:
        app, _, origin = entry.strip().partition("@")
        if app and origin:
            return APP_ID if app == "*" else app, origin.replace("*", "verify")
    raise CheckError("core_trusted_apps has no app: nobody can log in")


def picture() -> bytes:
    """Return a small picture, as PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    size = 8
    rows = (b"\0" + bytes((255, 128, 0)) * size) * size
    header = struct.pack("!IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def form(event: Mapping[str, Any], name: str, kind: str, content: bytes) -> tuple[bytes, dict[str, str]]:
    """Return an event with a file as a form, and the headers that say so.

    Args:
        event: The event.
        name: Name of the file.
        kind: Its media type.
        content: Its content.
    """
    mark = secrets.token_hex(16)
    parts = (
        f'--{mark}\r\nContent-Disposition: form-data; name="event"\r\n\r\n{json.dumps(event)}\r\n'
        f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: {kind}\r\n\r\n'
    )
    body = parts.encode() + content + f"\r\n--{mark}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={mark}"}


class Visitor:
    """The throw-away user of a core.

    Args:
        client: Talks to the hosts.
        record: Keeps what is found.
        place: Where the user is to be.
    """

    def __init__(self, client: Client, record: Record, place: Place) -> None:
        """Nobody is registered yet."""
        self._client, self._place, self._core = client, place, place.core
        self._record = record
        self._name, self._email = identity(place.core, place.domain, place.registry_key)
        self._full = f"{self._name}.{place.domain}"
        # As long as Pryv takes it, with characters of all kinds: rules for passwords ask for no more.
        self._password = "Aa1-" + secrets.token_urlsafe(96)[:96]
        self._token = ""

    def visit(self) -> None:
        """Register, find, use and remove the user."""
        if not self._discard("no user of an earlier run is left"):
            return
        try:
            with self._check("a user is registered", "See the logs of its core and of register"):
                self._register()
            if self._token:
                self._find()
                self._use()
        finally:
            self._discard("the user is removed again", is_there=True)

    def _check(self, what: str, remedy: str) -> Any:
        return self._record.check(self._core, what, remedy)

    def _address(self, host: str) -> str:
        return self._place.addresses[host]

    def _ask_registry(
        self, method: str, path: str, host: str = "", key: str | None = None, body: object = None
    ) -> Reply:
        server = self._address(host or self._place.registry[0])
        return self._client.request(server, self._place.registry_name, method, path, body, key)

    def _ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None, token: str = ""
    ) -> Reply:
        address = self._address(self._core)
        return self._client.request(address, self._full, method, path, body, token or self._token, headers)

    def _call(self, method: str, path: str, status: int, body: object = None) -> dict[str, Any]:
        return self._ask(method, path, body).expect(status, f"{method} {urlsplit(path).path}")

    # -- coming ------------------------------------------------------------------------------------------------

    def _register(self) -> None:
        """Register the user at the core, once the registry knows the core: users of one it does not know harm it."""
        place = self._place
        _, found = self._client.addresses(self._address(place.registry[0]), place.home)
        if not found:
            raise CheckError(f"{place.registry[0]} does not know the core yet: run site.yml for the registry")
        user = {
            "username": self._name,
            "password": self._password,
            "email": self._email,
            "appId": APP_ID,
            "language": "en",
            "invitationToken": place.invitation,
        }
        reply = self._client.request(self._address(self._core), place.home, "POST", "/users", user)
        if reply.status == 409:
            # Half of a user whom an earlier run left when the database of the core went away.
            self._delete()
            reply = self._client.request(self._address(self._core), place.home, "POST", "/users", user)
        endpoint = urlsplit(str(reply.expect(201, "registration").get("apiEndpoint")))
        if not endpoint.username or endpoint.hostname != self._full:
            raise CheckError(f"the answer names another endpoint: {endpoint.hostname}")
        self._token = endpoint.username

    def _find(self) -> None:
        home = self._place.home
        remedy = "See if replication works: docs/operations"
        for host in self._place.registry:

            def dns_answer(host: str = host) -> None:
                aliases, found = self._client.addresses(self._address(host), self._full)
                if aliases[:1] != [home] or found != [self._address(self._core)]:
                    raise CheckError(f"{aliases} {found} instead of {home} {self._address(self._core)}")

            def https_answer(host: str = host) -> None:
                answer = self._ask_registry("POST", f"/{self._name}/server", host, body={})
                server = answer.expect(200, "/server").get("server")
                if server != home:
                    raise CheckError(f"{server} instead of {home}")

            for what, look in (("DNS", dns_answer), ("HTTPS", https_answer)):
                with self._check(f"{host} finds the user by {what}", remedy):
                    retry(look)

    # -- staying -----------------------------------------------------------------------------------------------

    def _use(self) -> None:
        """Do what apps do; each thing on its own, so that all that is broken is named."""
        way = "mfa, which every login goes through" if self._place.has_mfa else "core"
        database = "See the logs of core and mongodb"
        looks: list[tuple[str, str, Callable[[], None]]] = [
            ("a wrong password is refused", f"See the log of {way}", self._fail_to_log_in),
            ("the user logs in", f"See the log of {way}; core_trusted_apps must have the app", self._log_in),
            ("the user is known by the token", database, self._access),
            ("a stream and an event", database, self._event),
            ("an attachment and its preview", "See the logs of core and preview, and nginx's /previews/", self._file),
            ("a series", "See nginx's routes to hfs, and the logs of hfs and influxdb", self._series),
            ("a socket", "See nginx's /socket.io/: a client must stay on one process", self._socket),
            ("closed paths are closed in every form", "Run site.yml --tags core", self._closed),
        ]
        if self._place.has_mfa:
            looks.insert(2, ("the second factor can be turned off", f"See the log of {way}", self._second_factor))
        for what, remedy, look in looks:
            with self._check(what, remedy):
                look()

    def _credentials(self, password: str) -> tuple[dict[str, str], dict[str, str]]:
        """Return body and headers of a login."""
        app, origin = trusted_app(self._place.trusted_apps, self._place.domain)
        return {"username": self._name, "password": password, "appId": app}, {"Origin": origin}

    def _fail_to_log_in(self) -> None:
        self._ask("POST", "/auth/login", *self._credentials(secrets.token_urlsafe(18))).expect(401, "a wrong login")

    def _log_in(self) -> None:
        answer = self._ask("POST", "/auth/login", *self._credentials(self._password)).expect(200, "the login")
        if not answer.get("token"):
            raise CheckError("the login gave no token")
        self._token = str(answer["token"])

    def _second_factor(self) -> None:
        """Ask mfa for what sends no message to anybody, and takes the user's token."""
        self._call("POST", "/mfa/deactivate", 200, {})

    def _access(self) -> None:
        user = self._call("GET", "/access-info", 200).get("user") or {}
        if user.get("username") not in (None, self._name):
            raise CheckError(f"it is taken for one of {user['username']}")

    def _event(self) -> None:
        self._call("POST", "/streams", 201, {"id": STREAM, "name": "Platform check"})
        event = {"streamIds": [STREAM], "type": "note/txt", "content": secrets.token_hex(8)}
        created = self._call("POST", "/events", 201, event)["event"]["id"]
        stored = self._call("GET", f"/events/{created}", 200).get("event") or {}
        if stored.get("content") != event["content"]:
            raise CheckError("another event came back than was sent")

    def _file(self) -> None:
        content = picture()
        event = {"streamIds": [STREAM], "type": "picture/attached"}
        reply = self._ask("POST", "/events", *form(event, "check.png", "image/png", content))
        created = reply.expect(201, "an event with a file")["event"]
        (file,) = created.get("attachments") or [{}]
        attached = self._ask("GET", f"/events/{created['id']}/{file.get('id')}/check.png")
        attached.expect(200, "the attachment")
        if attached.content != content:
            raise CheckError(f"the attachment came back as {len(attached.content)} other bytes")
        preview = self._ask("GET", f"/previews/events/{created['id']}?w=256")
        preview.expect(200, "the preview")
        if not preview.headers.get("content-type", "").startswith("image/"):
            raise CheckError(f"the preview is {preview.headers.get('content-type')}, no picture")

    def _series(self) -> None:
        created = self._call("POST", "/events", 201, {"streamIds": [STREAM], "type": "series:mass/kg"})["event"]["id"]
        points = {"format": "flatJSON", "fields": ["deltaTime", "value"], "points": [[0, 81.5], [1, 82.25]]}
        self._call("POST", f"/events/{created}/series", 200, points)
        stored = self._call("GET", f"/events/{created}/series", 200).get("points", [])
        if [point[-1] for point in stored] != [81.5, 82.25]:
            raise CheckError(f"the points {stored} came back instead of those sent")

    def _closed(self) -> None:
        """Ask for closed paths in forms that the core takes for the same; whatever nginx says, the core may not.

        Only answers of the core's API have `meta`, errors as well.
        """
        paths = [r"/register\create-user#"]
        if self._place.has_mfa:
            paths += [r"/auth/login\#", rf"/{self._name}/auth/login\#"]
        opened = [path for path in paths if "meta" in self._ask("POST", path, {}).json]
        if opened:
            raise CheckError(f"the core answers to {' and '.join(opened)}")

    def _socket(self) -> None:
        base = f"/socket.io/?EIO=4&auth={self._token}"

        def poll(method: str, sid: str = "", body: str | None = None) -> str:
            path = f"{base}&transport=polling" + (f"&sid={sid}" if sid else "")
            reply = self._client.request(self._address(self._core), self._full, method, path, body)
            reply.expect(200, "socket.io")
            return reply.text

        opened = poll("GET")
        sid = json.loads(opened[1:])["sid"] if opened.startswith("0{") else ""
        if not sid:
            raise CheckError(f"socket.io opened with {opened[:80]!r}")
        poll("POST", sid, f"40/{self._name},")
        joined = poll("GET", sid)
        if not joined.startswith(f"40/{self._name},"):
            raise CheckError(f"socket.io does not let the user in: {joined[:120]!r}")
        self._upgrade(f"{base}&transport=websocket&sid={sid}")

    def _upgrade(self, path: str) -> None:
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        with self._client.tls(self._address(self._core), self._full) as connection:
            connection.settimeout(self._client.timeout)
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: {self._full}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
            )
            stream = connection.makefile("rb")
            status = stream.readline().decode(errors="replace").strip()
            if " 101 " not in f"{status} ":
                raise CheckError(f"no websocket: {status}")
            while stream.readline().strip():
                pass
            connection.sendall(frame("2probe"))
            if stream.read(8)[2:] != b"3probe":
                raise CheckError("the websocket does not answer")

    # -- going -------------------------------------------------------------------------------------------------

    def _discard(self, what: str, is_there: bool = False) -> bool:
        """Remove the user, if there is one and it is ours.

        Args:
            what: What that shows, for the report.
            is_there: Whether the core may have the user though the registry does not know it.

        Returns:
            Whether there is no such user any more.
        """
        place = self._place
        with self._check(what, f"See if the core and the registry answer; the next run removes {self._name}"):
            found = self._ask_registry("GET", f"/admin/users/{self._name}", key=place.registry_key)
            if found.status == 200:
                if not hmac.compare_digest(str(found.json.get("email", "")), self._email):
                    raise CheckError(f"{self._name} has another email address than ours and was left alone")
            elif found.status != 404:
                found.expect(404, "the registry, asked for the user,")
            if is_there or found.status == 200:
                self._delete()
            if found.status == 200 and self._ask_registry("GET", f"/{self._name}/check_username").json.get("reserved"):
                # The core did not know the user, or did not tell the registry.
                self._ask_registry("DELETE", f"/users/{self._name}?onlyReg=true", key=place.registry_key).expect(
                    200, "the registry"
                )

            def gone() -> None:
                for host in place.registry:
                    if any(self._client.addresses(self._address(host), self._full)):
                        raise CheckError(f"{host} still finds the user")

            retry(gone)
            return True
        return False

    def _delete(self) -> None:
        place = self._place
        reply = self._client.request(
            self._address(place.core), place.home, "DELETE", f"/users/{self._name}", key=place.core_key
        )
        if reply.status != 404:
            reply.expect(200, "the deletion")
