"""Stands in for core, and for what shares its configuration: hfs, preview and webhooks."""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import config as c
from .client import load_json, request, until_reached
from .process import StartError, say
from .registry import username
from .socketio import SocketIo
from .store import Store
from .web import Request, Response, serve

NATS_PORT = 4222
_LOGS = {"logs.file.path": c.TEXT, "logs.file.active": c.FLAG}
_FILES = {"userFiles.path": c.TEXT, "eventFiles.attachmentsDirPath": c.TEXT, "eventFiles.previewsDirPath": c.TEXT}
_DATABASE = {"database.host": c.TEXT, "database.port": c.PORT, "database.name": c.TEXT}
CORE = {
    **_LOGS,
    **_FILES,
    **_DATABASE,
    "domain": c.TEXT,
    "serviceInfoUrl": c.URL,
    "http.ip": c.TEXT,
    "influxdb.host": c.TEXT,
    "influxdb.port": c.PORT,
    "auth.adminAccessKey": c.SECRET,
    "auth.filesReadTokenSecret": c.SECRET,
    "auth.ssoCookieSignSecret": c.SECRET,
    "auth.ssoCookieDomain": c.TEXT,
    "auth.sessionMaxAge": c.NUMBER,
    "auth.trustedApps": c.TEXT,
    "auth.passwordResetRequestMaxAge": c.NUMBER,
    "auth.passwordResetPageURL": c.URL,
    "services.register.url": c.URL,
    "services.register.key": c.SECRET,
    "services.email.method": c.TEXT,
    "services.email.url": c.URL,
    "services.email.key": c.TEXT,
    "services.email.welcomeTemplate": c.TEXT,
    "services.email.resetPasswordTemplate": c.TEXT,
    "customExtensions.defaultFolder": c.TEXT,
    # Without these the real program takes itself for a platform of one machine without DNS, its default.
    "dnsLess.isActive": c.OFF,
    "openSource.isActive": c.OFF,
    "user-account.delete": c.LIST,
    "uploads.maxSizeMb": c.NUMBER,
}
HFS = {
    **_LOGS,
    **_FILES,
    "http.ip": c.TEXT,
    "database.host": c.TEXT,
    "influxdb.host": c.TEXT,
    "influxdb.port": c.PORT,
    "metadataUpdater.host": c.TEXT,
    "metadataUpdater.port": c.PORT,
    "nats.uri": c.TEXT,
    "services.register.url": c.URL,
    "serviceInfoUrl": c.URL,
    "uploads.maxSizeMb": c.NUMBER,
}
PREVIEW = {
    **_LOGS,
    **_FILES,
    **_DATABASE,
    "http.ip": c.TEXT,
    "http.port": c.PORT,
    "auth.sessionMaxAge": c.NUMBER,
    "serviceInfoUrl": c.URL,
    "nats.uri": c.TEXT,
}
WEBHOOKS = {**_LOGS, **_FILES, **_DATABASE, "serviceInfoUrl": c.URL, "nats.uri": c.TEXT}


def _error(status: int, error: str, message: str, data: Mapping[str, Any] | None = None) -> Response:
    return Response(
        status, {"error": {"id": error, "message": message, **({"data": data} if data else {})}, "meta": _meta()}
    )


def _meta() -> dict[str, Any]:
    return {"apiVersion": "1.9.2", "serverTime": round(time.time(), 3), "serial": "standin"}


def _unknown(what: str) -> Response:
    return _error(404, "unknown-resource", f"Unknown {what}")


def _route(path: str) -> str:
    """What the real program takes a path for: Express tells neither case nor a slash at the end apart."""
    return path.rstrip("/").lower()


def _token_of(request: Request) -> str:
    return request.headers.get("authorization") or request.query.get("auth", "")


class UserFiles:
    """Users as files, one a user, in a folder that the services of a core share.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        """Makes the folder.

        Raises:
            StartError: It cannot be made or written to.
        """
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(f"{folder} must be writable by uid {os.geteuid()}: {error}") from error

    def get(self, name: str) -> dict[str, Any] | None:
        """A user, None when there is none of that name."""
        try:
            return dict(json.loads(self._path(name).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def put(self, user: Mapping[str, Any]) -> None:
        """Stores a user."""
        path = self._path(user["username"])
        draft = path.with_suffix(f".{secrets.token_hex(4)}")
        draft.write_text(json.dumps(user), encoding="utf-8")
        draft.replace(path)

    def remove(self, name: str) -> None:
        """Removes a user."""
        self._path(name).unlink(missing_ok=True)

    def authorize(self, name: str, token: str) -> bool:
        """Whether a token is one of a user's."""
        user = self.get(name) if username(name) == name else None
        return user is not None and bool(token) and hmac.compare_digest(user["token"], token)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"


class Core:
    """The API of a core.

    Args:
        config: Its configuration.
        service: The platform's service information.
    """

    def __init__(self, config: c.Config, service: Mapping[str, Any]) -> None:
        """Opens the users."""
        self._config, self._service = config, service
        self._users = UserFiles(Path(config["userFiles"]["path"]))
        self._socketio = SocketIo(self._users.authorize)
        self._limit = int(config["uploads"]["maxSizeMb"] * (1 << 20))

    def answer(self, request: Request) -> Response:
        """Answers a request. The user is the first label of the host name, or the first part of the path."""
        if request.size > self._limit:
            return _error(413, "payload-too-large", f"The body is larger than {self._limit} bytes")
        path = request.path
        if path.startswith("/socket.io/"):
            return self._socketio.answer(request)
        admin = self._answer_system(request)
        if admin is not None:
            return admin
        if (request.method, path) == ("POST", "/users"):
            return self._register(request)
        if request.method == "DELETE" and path.startswith("/users/"):
            return self._delete(request, path.removeprefix("/users/"))
        name = username(request.host.split(".")[0])
        if name is None:
            name, _, rest = path.lstrip("/").partition("/")
            if not rest:
                return Response(
                    200, {"meta": _meta(), "cheersFrom": "Pryv API", "learnMoreAt": "https://pryv.github.io/"}
                )
            path = f"/{rest}"
        elif path == "/":
            return Response(200, {"meta": _meta(), "cheersFrom": "Pryv API", "learnMoreAt": "https://pryv.github.io/"})
        elif path.startswith(f"/{name}/"):
            path = path.removeprefix(f"/{name}")
        user = self._users.get(name) if username(name) == name else None
        if user is None:
            return _unknown(f'user "{name}"')
        return self._answer_user(request, path, user)

    def _answer_system(self, request: Request) -> Response | None:
        if _route(request.path) == "/register/create-user" and request.method == "POST":
            return self._create(request)  # the real program asks for no key here
        if not request.path.startswith("/system/"):
            return None
        if request.headers.get("authorization") != self._config["auth"]["adminAccessKey"]:
            return _unknown("resource")
        if request.path == "/system/create-user" and request.method == "POST":
            return self._create(request)
        if request.path == "/system/check-platform-integrity":
            return Response(200, {"checks": [], "meta": _meta()})
        return _unknown("resource")

    def _answer_user(self, request: Request, path: str, user: dict[str, Any]) -> Response:
        if re.fullmatch(r"/service/infos?", path):
            return Response(200, {**self._service, "meta": _meta()})
        if (request.method, _route(path)) == ("POST", "/auth/login"):
            body = request.json
            if not all(key in body for key in ("username", "password", "appId")):
                return _error(
                    400, "invalid-operation", "Missing parameters: username, password and appId are required."
                )
            if body["password"] != user["password"]:
                return _error(401, "invalid-credentials", "The given username/password pair is invalid.")
            return Response(200, {"token": user["token"], "apiEndpoint": self._endpoint(user), "meta": _meta()})
        if not self._users.authorize(user["username"], _token_of(request)):
            return _error(401, "invalid-access-token", "Cannot find access from token.")
        if path == "/access-info":
            return Response(200, {"type": "personal", "user": {"username": user["username"]}, "meta": _meta()})
        kind = re.fullmatch(r"/(events|streams)", path)
        if kind is None:
            return _unknown("resource")
        items = user.setdefault(kind[1], [])
        if request.method == "POST":
            # An attachment arrives as multipart/form-data; then all that is kept is its size.
            item = {**request.json, "size": request.size}
            item.setdefault("id", secrets.token_hex(8))
            items.append(item)
            self._users.put(user)
            return Response(201, {kind[1].rstrip("s"): item, "meta": _meta()})
        return Response(200, {kind[1]: items, "meta": _meta()})

    def _register(self, request_: Request) -> Response:
        body = request_.json
        name = username(str(body.get("username", "")))
        if name is None:
            return _error(400, "invalid-parameters-format", "username")
        for field, shortest, longest in (("password", 6, 100), ("appId", 6, 99), ("email", 1, 300)):
            if not isinstance(body.get(field), str) or not shortest <= len(body[field]) <= longest:
                return _error(400, "invalid-parameters-format", field)
        email = body["email"].lower()
        checked = {
            "username": name,
            "invitationToken": body.get("invitationToken", "no-token"),
            "uniqueFields": {"username": name, "email": email},
            "core": request_.host,
        }
        status, answer = self._call_register("POST", "/users/validate", checked)
        if status != 200:
            refusal = (answer or {}).get("error")
            if not isinstance(refusal, dict):
                raise OSError(f"register answered {status} to users/validate: {answer}")
            if refusal["id"] == "invitationToken-invalid":
                return _error(400, "invalid-operation", "Invalid invitation token")
            return _error(409, "item-already-exists", "A user with these fields already exists", refusal.get("data"))
        user = {
            "id": secrets.token_hex(12),
            "username": name,
            "email": email,
            "language": body.get("language", "en"),
            "appId": body["appId"],
            "invitationToken": checked["invitationToken"],
        }
        status, answer = self._call_register(
            "POST", "/users", {"user": user, "host": {"name": request_.host}, "unique": ["username", "email"]}
        )
        if status != 201:
            raise OSError(f"register answered {status} to users: {answer}")
        user |= {"password": body["password"], "token": secrets.token_hex(12)}
        self._users.put(user)
        self._welcome(user)
        return Response(201, {"username": name, "apiEndpoint": self._endpoint(user), "meta": _meta()})

    def _create(self, request_: Request) -> Response:
        body = request_.json
        name = username(str(body.get("username", "")))
        if name is None or not body.get("passwordHash"):
            return _error(400, "invalid-parameters-format", "username and passwordHash are required")
        if self._users.get(name) is not None:
            return _error(409, "item-already-exists", "A user with this name already exists", {"username": name})
        user = {
            **body,
            "username": name,
            "id": secrets.token_hex(12),
            "password": body["passwordHash"],
            "token": secrets.token_hex(12),
        }
        self._users.put(user)
        return Response(201, {"id": user["id"], "meta": _meta()})

    def _delete(self, request_: Request, name: str) -> Response:
        allowed = self._config["user-account"]["delete"]
        by_admin = "adminToken" in allowed and _token_of(request_) == self._config["auth"]["adminAccessKey"]
        if not by_admin and "personalToken" not in allowed:
            return _unknown("resource")
        if not by_admin and not self._users.authorize(name, _token_of(request_)):
            return _error(403, "invalid-access-token", "Cannot find access from token.")
        if username(name) != name or self._users.get(name) is None:
            return _unknown(f'user "{name}"')
        status, answer = self._call_register("DELETE", f"/users/{name}?onlyReg=true", None)
        if status != 200:
            raise OSError(f"register answered {status} to the deletion of {name}: {answer}")
        self._users.remove(name)
        return Response(200, {"userDeletion": {"username": name}, "meta": _meta()})

    def _call_register(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        register = self._config["services"]["register"]
        return request(method, register["url"].rstrip("/") + path, body, {"Authorization": register["key"]})

    def _welcome(self, user: Mapping[str, Any]) -> None:
        """Sends the welcome mail; a failure is only logged. Only `enabled.welcome: false` keeps it from being sent."""
        email = self._config["services"]["email"]
        enabled = email.get("enabled")
        if isinstance(enabled, dict) and enabled.get("welcome") is False:
            return
        message = {
            "key": email["key"],
            "to": {"email": user["email"], "name": user["username"], "type": "to"},
            "substitutions": {"USERNAME": user["username"], "EMAIL": user["email"]},
        }

        def send() -> None:
            try:
                status, answer = request(
                    "POST", f"{email['url']}{email['welcomeTemplate']}/{user['language']}", message
                )
                if status != 200:
                    say(f"Sending email failed: {status} {answer}")
            except OSError as error:
                say(f"Sending email failed: {error}")

        threading.Thread(target=send, daemon=True).start()

    def _endpoint(self, user: Mapping[str, Any]) -> str:
        scheme, rest = self._service["api"].replace("{username}", user["username"]).split("://")
        return f"{scheme}://{user['token']}@{rest}"


def _processes(first: int, default: int) -> list[int]:
    count = int(os.environ.get("NUM_PROCS", default))
    start = int(os.environ.get("STARTING_PORT", first))
    return list(range(start, start + count))


def _service_info(config: Mapping[str, Any]) -> dict[str, Any]:
    try:
        service = load_json(config["serviceInfoUrl"])
        c.check(service, {"api": c.URL, "register": c.URL, "eventTypes": c.URL})
    except (OSError, c.ConfigError) as error:
        raise StartError(f"cannot load the service information: {error}") from error
    return service


def _reach(host: str, port: int) -> None:
    until_reached(f"{host}:{port}", lambda: socket.create_connection((host, port), timeout=5).close())


def _reach_nats(config: Mapping[str, Any]) -> None:
    uri = urlsplit(config["nats"]["uri"])
    _reach(uri.hostname or "", uri.port or NATS_PORT)


def _load(path: Path, kinds: Mapping[str, c.Kind]) -> c.Config:
    config = c.load(path)
    c.refuse_placeholders(config)
    c.check(config, kinds)
    return config


def run_core(conf: Path) -> None:
    """Starts core, with its message bus.

    Args:
        conf: Folder of its configuration.
    """
    config = _load(conf / "core.yml", CORE)
    service = _service_info(config)
    core = Core(config, service)
    bus = socket.create_server(("", NATS_PORT))
    threading.Thread(target=_greet_clients, args=(bus,), daemon=True).start()
    _reach(config["database"]["host"], int(config["database"]["port"]))
    _reach(config["influxdb"]["host"], int(config["influxdb"]["port"]))
    serve("core", config["http"]["ip"], _processes(3000, 1), core.answer)


def _greet_clients(bus: socket.socket) -> None:
    while True:
        client, _ = bus.accept()
        with client:
            client.sendall(b'INFO {"server_id":"standin"}\r\n')


def run_hfs(conf: Path) -> None:
    """Starts hfs: series of data points, kept by influxdb.

    Args:
        conf: Folder of its configuration.
    """
    config = _load(conf / "hfs.yml", HFS)
    try:
        load_json(_service_info(config)["eventTypes"])
    except OSError as error:
        raise StartError(f"cannot load the event types: {error}") from error
    users = UserFiles(Path(config["userFiles"]["path"]))
    points = Store(config)
    _reach(config["influxdb"]["host"], int(config["influxdb"]["port"]))
    _reach_nats(config)

    def answer(request_: Request) -> Response:
        name = request_.host.split(".")[0].lower()
        series = re.fullmatch(r"/events/([^/]+)/series", request_.path)
        if request_.path != "/series/batch" and series is None:
            return _unknown("resource")
        if not users.authorize(name, _token_of(request_)):
            return _error(401, "invalid-access-token", "Cannot find access from token.")
        measurement = f"event.{series[1] if series else 'batch'}"
        if request_.method == "GET":
            found = points.read_series(name, measurement)
            fields = list(found[0]) if found else []
            return Response(
                200,
                {
                    "format": "flatJSON",
                    "fields": fields,
                    "points": [[point[field] for field in fields] for point in found],
                    "meta": _meta(),
                },
            )
        body = request_.json
        rows = [dict(zip(body.get("fields", ()), row, strict=False)) for row in body.get("points", ())]
        points.write_series(name, measurement, rows)
        return Response(200, {"status": "ok", "meta": _meta()})

    serve("hfs", config["http"]["ip"], _processes(3000, 2), answer)


def run_preview(conf: Path) -> None:
    """Starts preview.

    Args:
        conf: Folder of its configuration.
    """
    config = _load(conf / "preview.yml", PREVIEW)
    _service_info(config)
    users = UserFiles(Path(config["userFiles"]["path"]))
    _reach(config["database"]["host"], int(config["database"]["port"]))
    _reach_nats(config)

    def answer(request_: Request) -> Response:
        if not re.fullmatch(r"/events/[^/]+", request_.path):
            return _unknown("resource")
        if not users.authorize(request_.host.split(".")[0].lower(), _token_of(request_)):
            return _error(401, "invalid-access-token", "Cannot find access from token.")
        return Response(200, b"\xff\xd8\xff\xd9", {"Content-Type": "image/jpeg"})

    serve("preview", config["http"]["ip"], [int(config["http"]["port"])], answer)


def run_webhooks(conf: Path) -> None:
    """Starts webhooks, which listens on nothing.

    Args:
        conf: Folder of its configuration.
    """
    config = _load(conf / "webhooks.yml", WEBHOOKS)
    _service_info(config)
    _reach(config["database"]["host"], int(config["database"]["port"]))
    _reach_nats(config)
    say("webhooks is ready")
