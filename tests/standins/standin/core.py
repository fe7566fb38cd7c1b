"""Stands in for core, and for what shares its configuration: hfs, preview and webhooks.

The routes are those of `pryv/service-core` 1.9.2: components/api-server/src/routes (which come in the order of
application.js there), components/hfs-server/src/server.js and components/previews-server/src/routes/event-previews.js.
"""

from __future__ import annotations

import base64
import email.parser
import email.policy
import hashlib
import hmac
import json
import math
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from . import api as a
from . import config as c
from .client import load_json, request, until_reached
from .express import (
    ApiError,
    Route,
    answering,
    authorization_of,
    body_of,
    find,
    forbidden,
    hoisted,
    invalid_operation,
    invalid_structure,
    meta,
    pathname,
    success,
    unknown_resource,
)
from .process import StartError, say
from .schemas import CORE, HFS, METADATA, PREVIEW, WEBHOOKS
from .socketio import SocketIo
from .store import Store
from .web import Request, Response, serve

NATS_PORT = 4222


#: Beginnings of paths that never get a user's name before them (components/api-server/src/routes/Paths.js).
IGNORED = ("/system", "/reg", "/www", "/socket.io", "/favicon.ico")
LISTS, NUMBERS = {"streams", "types", "tags"}, {"fromTime", "toTime", "skip", "limit", "modifiedSince"}
#: A picture of one grey pixel.
JPEG = (
    base64.b64decode(
        "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAP//////////////////////////////////////////////////////////////////////////////////////"
        "wgALCAABAAEBAREA/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQABPxA="
    )
    + b"\xff\xd9"
)
PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"RIFF")


class Core:
    """The API of a core.

    Args:
        config: Its configuration.
        service: The platform's service information.
        store: What it keeps.
    """

    def __init__(self, config: c.Config, service: Mapping[str, Any], store: Store) -> None:
        """Reads nothing yet."""
        self._config = config
        self._api = a.Api(store, config, service, self._tell)
        self._socketio = SocketIo(self._join)
        self._limit = float(config["uploads"]["maxSizeMb"])
        self._routes = [*self._public_routes(), *self._user_routes()]
        #: Answers a request.
        self.answer = answering(self._answer)

    def _answer(self, request_: Request) -> Response:
        if request_.path.startswith("/socket.io/"):
            return self._socketio.answer(request_)
        body = body_of(request_, self._limit)
        path = pathname(hoisted(request_, IGNORED))
        route, parameters = find(self._routes, request_.method, path)
        return route.handler(request_, body, parameters)

    # Routes that name no user's data

    def _public_routes(self) -> list[Route]:
        return [
            Route("DELETE", "/users/:username", self._delete),
            Route("POST", "/users", self._register),
            Route("POST", "/system/create-user", self._as_admin(self._create)),
            # The real program asks for no key here.
            Route("POST", "/register/create-user", self._create),
            Route("GET", "/system/user-info/:username", self._as_admin(self._user_info)),
            Route("DELETE", "/system/users/:username/mfa", self._as_admin(self._deactivate_mfa)),
            Route("GET", "/system/check-platform-integrity", self._as_admin(self._check_integrity)),
            Route("GET", "/", self._greet),
            Route("GET", "/:username", self._greet),
        ]

    @staticmethod
    def _greet(_request: Request, _body: Any, _parameters: Mapping[str, str]) -> Response:
        return success(200, {"cheersFrom": "Pryv API", "learnMoreAt": "https://pryv.github.io/"})

    def _as_admin(self, act: Callable[..., Response]) -> Callable[..., Response]:
        def handle(request_: Request, body: Any, parameters: Mapping[str, str]) -> Response:
            key = str(self._config["auth"]["adminAccessKey"])
            if not hmac.compare_digest(request_.headers.get("authorization", "").encode(), key.encode()):
                raise unknown_resource()
            return act(request_, body, parameters)

        return handle

    def _register(self, request_: Request, body: Any, _parameters: Mapping[str, str]) -> Response:
        """Registers a user, through the registry (components/business/src/auth/registration.js)."""
        body = a.validate(body, REGISTRATION, closed=False)
        self._api.check_new_password(body["password"])
        name, address = body["username"], body["email"]
        # The registry gets the host name that the client wrote for the user's core.
        token = body.get("invitationToken", "no-token")
        unique = {"username": name, "email": address}
        self._validate_on_platform(
            {"username": name, "invitationToken": token, "uniqueFields": unique, "core": request_.host}
        )
        fields = {"email": address, "language": body.get("language", "en")}
        user = {"id": a.new_id(), "username": name, "appId": body["appId"], "invitationToken": token, **fields}
        status, answer = self._call_register(
            "POST", "/users", {"user": user, "host": {"name": request_.host}, "unique": ["username", "email"]}
        )
        if status != 201:
            raise OSError(f"register answered {status} to users: {answer}")
        session = self._api.add_user(name, a.digest(body["password"]), fields, body["appId"])
        self._welcome({**user, "username": name})
        return success(201, {"username": name, "apiEndpoint": self._api.endpoint(name, session)})

    def _validate_on_platform(self, checked: Mapping[str, Any]) -> None:
        """Reserves what has to be unique (components/platform/src/service_register.js)."""
        status, answer = self._call_register("POST", "/users/validate", checked)
        if status == 200:
            return
        refusal = (answer or {}).get("error")
        if not isinstance(refusal, dict):
            raise OSError(f"register answered {status} to users/validate: {answer}")
        if refusal["id"] == "invitationToken-invalid":
            raise invalid_operation("Invalid invitation token")
        data = refusal.get("data") or {}
        keys = ", ".join(f'{name} "{value}"' for name, value in data.items())
        raise ApiError(409, "item-already-exists", f"A user with {keys} already exists", data)

    def _create(self, _request: Request, body: Any, _parameters: Mapping[str, str]) -> Response:
        """Creates a user for the registry, which has made sure that the name is free (methods/system.js)."""
        body = a.validate(body, CREATION, closed=False)
        fields = {name: body[name] for name in ("email", "language")}
        self._api.add_user(body["username"], body["passwordHash"], fields)
        return success(201, {"id": self._api.store.find_user(body["username"])})

    def _user_info(self, _request: Request, _body: Any, parameters: Mapping[str, str]) -> Response:
        context = self._api.context(parameters["username"])
        # Totals are of a user's accesses, which are in the database.
        self._api.store.find("accesses", context.mine)
        usage = {"dbDocuments": 0, "attachedFiles": 0}
        info = {"username": context.username, "storageUsed": usage, "lastAccess": 0, "callsTotal": 0}
        return success(200, {"userInfo": {**info, "callsDetail": {}, "callsPerAccess": {}}})

    def _deactivate_mfa(self, _request: Request, _body: Any, parameters: Mapping[str, str]) -> Response:
        context = self._api.context(parameters["username"])
        context.access = {"type": "personal"}
        self._api.profile_update(context, {"id": "private", "update": {"mfa": None}})
        return Response(204)

    def _check_integrity(self, _request: Request, _body: Any, _parameters: Mapping[str, str]) -> Response:
        return success(200, {"checks": []})

    def _delete(self, request_: Request, _body: Any, parameters: Mapping[str, str]) -> Response:
        """Deletes a user (components/business/src/auth/deletion.js)."""
        allowed, key = self._config["user-account"]["delete"], str(self._config["auth"]["adminAccessKey"])
        token = authorization_of(request_)
        context = self._api.context(parameters["username"], token)
        if not ("adminToken" in allowed and hmac.compare_digest(token.encode(), key.encode())):
            if "personalToken" not in allowed:
                raise unknown_resource()
            try:
                personal = self._api.authorize(context).personal
            except ApiError:
                personal = False
            if not personal:
                raise ApiError(403, "invalid-access-token", "Cannot find access from token.")
        status, answer = self._call_register("DELETE", f"/users/{context.username}?onlyReg=true", None)
        if status != 200:
            raise OSError(f"register answered {status} to the deletion of {context.username}: {answer}")
        self._api.store.remove_user(context.username)
        return success(200, {"userDeletion": {"username": context.username}})

    # Routes to a user's data

    def _user_routes(self) -> list[Route]:
        user, call = "/:username", self._call
        events = f"{user}/events"
        return [
            # Whatever else a path names, its user has to be there.
            Route("GET", f"{user}/access-info", call("getAccessInfo")),
            Route("POST", user, call("callBatch", lambda body, _path, _query: body)),
            Route("GET", f"{user}/accesses", call("accesses.get", lambda _body, _path, query: query)),
            Route("POST", f"{user}/accesses/check-app", call("accesses.checkApp")),
            Route("POST", f"{user}/accesses", call("accesses.create", status=201)),
            Route("PUT", f"{user}/accesses/:id", self._gone),
            Route("DELETE", f"{user}/accesses/:id", call("accesses.delete")),
            Route("GET", f"{user}/account", call("account.get")),
            Route("POST", f"{user}/account/change-password", call("account.changePassword")),
            Route("GET", f"{user}/auth/who-am-i", self._gone),
            Route("POST", f"{user}/auth/login", self._login),
            Route("POST", f"{user}/auth/logout", call("auth.logout")),
            Route("GET", events, call("events.get", lambda _body, _path, query: query)),
            Route("GET", f"{events}/:id", call("events.getOne")),
            Route("GET", f"{events}/:id/:fileId/:fileName?", self._attachment),
            Route("POST", f"{events}/start", self._gone),
            Route("POST", f"{events}/stop", self._gone),
            Route("POST", events, self._with_files("events.create", 201)),
            Route("PUT", f"{events}/:id", call("events.update", _updating)),
            Route("POST", f"{events}/:id", self._with_files("events.update", 200)),
            Route("DELETE", f"{events}/:id", call("events.delete")),
            Route("DELETE", f"{events}/:id/:fileId", call("events.deleteAttachment")),
            Route("GET", f"{user}/profile/public", call("profile.getPublic")),
            Route("GET", f"{user}/profile/private", call("profile.get", lambda *_: {"id": "private"})),
            Route("GET", f"{user}/profile/app", call("profile.getApp")),
            *(
                Route("PUT", f"{user}/profile/{one}", call("profile.update", _profile_update(one)))
                for one in ("public", "private")
            ),
            Route("PUT", f"{user}/profile/app", call("profile.updateApp", lambda body, *_: {"update": body})),
            Route("GET", f"{user}/service/info", self._service_info),
            Route("GET", f"{user}/service/infos", self._service_info),
            Route("GET", f"{user}/streams", call("streams.get", lambda _body, _path, query: query)),
            Route("POST", f"{user}/streams", call("streams.create", status=201)),
            Route("PUT", f"{user}/streams/:id", call("streams.update", _updating)),
            Route("DELETE", f"{user}/streams/:id", call("streams.delete", lambda _b, path, query: {**query, **path})),
            Route("GET", f"{user}/webhooks", call("webhooks.get")),
            Route("POST", f"{user}/webhooks", call("webhooks.create", status=201)),
            Route("DELETE", f"{user}/webhooks/:id", call("webhooks.delete")),
            Route("ALL", f"{user}/*", self._nothing),
        ]

    def _call(
        self, method: str, params: Callable[[Any, dict[str, str], dict[str, Any]], Any] | None = None, status: int = 200
    ) -> Callable[..., Response]:
        """A handler that calls a method of the API.

        Args:
            method: Its name.
            params: Makes its parameters of body, path and query; else they are those of body and path.
            status: HTTP status code of its answer.
        """

        def handle(request_: Request, body: Any, parameters: dict[str, str]) -> Response:
            context = self._context(request_, parameters)
            self._api.authorize(context)
            if params is not None:
                wanted = params(body, parameters, query_of(request_))
            else:
                wanted = {**body, **parameters} if isinstance(body, dict) else body
            answer = success(status, self._api.call(context, method, wanted))
            return Response(answer.status, answer.body, {"Pryv-Access-Id": context.access["id"]})

        return handle

    def _context(self, request_: Request, parameters: dict[str, str]) -> a.Context:
        return self._api.context(parameters.pop("username"), authorization_of(request_))

    def _nothing(self, request_: Request, _body: Any, parameters: dict[str, str]) -> Response:
        self._context(request_, parameters)
        raise unknown_resource()

    @staticmethod
    def _gone(_request: Request, _body: Any, _parameters: dict[str, str]) -> Response:
        raise ApiError(410, "removed-method", "API method gone, please stop using it.")

    def _service_info(self, request_: Request, _body: Any, parameters: dict[str, str]) -> Response:
        return success(200, self._api.call(self._context(request_, parameters), "service.info", {}))

    def _login(self, request_: Request, body: Any, parameters: dict[str, str]) -> Response:
        """Logs a user in (components/api-server/src/routes/auth/login.js)."""
        context = self._context(request_, parameters)
        if not isinstance(body, dict) or not all(key in body for key in ("username", "password", "appId")):
            raise invalid_operation("Missing parameters: username, password and appId are required.")
        origin = request_.headers.get("origin") or request_.headers.get("referer") or ""
        result = self._api.login(context, body, origin)
        return Response(
            200,
            {**result, "meta": meta()},
            {"Set-Cookie": self._cookie({"username": context.username, "token": result["token"]})},
        )

    def _cookie(self, data: Mapping[str, str]) -> str:
        """The cookie by which pages of the platform know the user, signed as Express' cookie-parser wants it."""
        auth = self._config["auth"]
        value = "j:" + json.dumps(data, separators=(",", ":"))
        mac = hmac.new(str(auth["ssoCookieSignSecret"]).encode(), value.encode(), hashlib.sha256).digest()
        signed = quote(f"s:{value}.{base64.b64encode(mac).decode().rstrip('=')}", safe="")
        age = int(auth["sessionMaxAge"]) // 1000
        return f"sso={signed}; Max-Age={age}; Domain={auth['ssoCookieDomain']}; Path=/; HttpOnly; Secure"

    def _with_files(self, method: str, status: int) -> Callable[..., Response]:
        """A handler for events that may come with files (components/middleware/src/filesUploadSupport.js)."""

        def handle(request_: Request, body: Any, parameters: dict[str, str]) -> Response:
            context = self._api.authorize(self._context(request_, parameters))
            body, attached = (body, []) if not is_multipart(request_) else take_apart(request_)
            if method == "events.create":
                result = self._api.events_create(context, body, attached)
            else:
                result = self._api.events_update(context, {**parameters, "update": {}}, attached)
            return success(status, result)

        return handle

    def _attachment(self, request_: Request, _body: Any, parameters: dict[str, str]) -> Response:
        """A file of an event, for a read token or an access (components/api-server/src/routes/events.js)."""
        context = self._context(request_, parameters)
        identity, file = parameters["id"], parameters["fileId"]
        if "auth" in request_.query:
            message = 'Query parameter "auth" is forbidden here, please use the "readToken" instead '
            raise ApiError(
                401, "invalid-access-token", f'{message}or provide the auth token in "Authorization" header.'
            )
        token = request_.query.get("readToken")
        if token is None:
            self._api.authorize(context)
        else:
            access, _, mac = token.partition("-")
            if not access:
                raise ApiError(401, "invalid-access-token", "Invalid read token.")
            self._api.authorize(context, access)
            if not hmac.compare_digest(mac.encode(), self._api.file_hmac(file, context.access["token"]).encode()):
                raise ApiError(401, "invalid-access-token", "Invalid read token.")
        event = self._api.event(context, identity)
        if not self._api.may_read(context, event["streamIds"]):
            raise forbidden()
        found = [one for one in event.get("attachments", ()) if one["id"] == file]
        if not found:
            raise unknown_resource("attachment", file)
        headers = {
            "Content-Type": found[0]["type"],
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(found[0]['fileName'], safe='')}",
        }
        return Response(200, self._api.store.read_attachment(context.user_id, identity, file), headers)

    # Others

    def _join(self, name: str, token: str) -> Callable[[str, Any], Any]:
        """Lets a client of socket.io in (components/api-server/src/socket-io)."""
        context = self._api.authorize(self._api.context(name, token))

        def call(method: str, params: Any) -> Any:
            return {**self._api.call(context, method, params), "meta": meta()}

        return call

    def _tell(self, name: str, what: str) -> None:
        self._socketio.tell(name, what)

    def _call_register(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        register = self._config["services"]["register"]
        return request(method, register["url"].rstrip("/") + path, body, {"Authorization": register["key"]})

    def _welcome(self, user: Mapping[str, Any]) -> None:
        """Sends the welcome mail; a failure is only logged. Only `enabled.welcome: false` keeps it from being sent."""
        settings = self._config["services"]["email"]
        enabled = settings.get("enabled")
        if isinstance(enabled, dict) and enabled.get("welcome") is False:
            return
        message = {
            "key": settings["key"],
            "to": {"email": user["email"], "name": user["username"], "type": "to"},
            "substitutions": {"USERNAME": user["username"], "EMAIL": user["email"]},
        }

        def send() -> None:
            try:
                status, answer = request(
                    "POST", f"{settings['url']}{settings['welcomeTemplate']}/{user['language']}", message
                )
                if status != 200:
                    say(f"Sending email failed: {status} {answer}")
            except OSError as error:
                say(f"Sending email failed: {error}")

        threading.Thread(target=send, daemon=True).start()


#: components/api-server/src/schema/authMethods.js; the password's and the user name's own messages are left out.
REGISTRATION = {
    "username": a.Kind((str,), a.USERNAME, required=True),
    "password": a.PASSWORD,
    "email": a.Kind((str,), longest=300, required=True),
    "appId": a.Kind((str,), shortest=6, longest=99, required=True),
    "invitationToken": a.TEXT,
    "referer": a.Kind((str, type(None)), shortest=1, longest=99),
    "language": a.Kind((str,), shortest=1, longest=5),
}
#: components/api-server/src/schema/user.js
CREATION = {
    "username": a.Kind((str,), a.USERNAME, required=True),
    "passwordHash": a.Kind((str,), required=True),
    "email": a.Kind((str,), longest=300, required=True),
    "language": a.Kind((str,), shortest=1, longest=5, required=True),
}


def _updating(body: Any, path: dict[str, str], _query: dict[str, Any]) -> dict[str, Any]:
    return {"id": path["id"], "update": body}


def _profile_update(identity: str) -> Callable[..., dict[str, Any]]:
    return lambda body, _path, _query: {"id": identity, "update": body}


def query_of(request_: Request) -> dict[str, Any]:
    """A query's parameters, with their types in a body (components/api-server/src/schema/validation.js)."""
    values = parse_qs(request_.target.partition("?")[2].partition("#")[0], keep_blank_values=True)
    found: dict[str, Any] = {}
    for key, texts in values.items():
        name = key.removesuffix("[]")
        if name in LISTS:
            try:
                found[name] = json.loads(texts[0]) if texts[0][:1] in ("[", "{") else texts
            except ValueError as error:
                message = f"Error while parsing JSON-stringified stream query. Error: {error}"
                raise ApiError(400, "invalid-request-structure", message) from error
        elif name in NUMBERS:
            found[name] = _number(texts[0])
        elif texts[0] in ("true", "false"):
            found[name] = texts[0] == "true"
        elif name != "auth":
            found[name] = texts[0]
    return found


def _number(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return text if math.isnan(number) else number


def is_multipart(request_: Request) -> bool:
    """Whether a request comes with files."""
    return request_.headers.get("content-type", "").lower().startswith("multipart/form-data")


def take_apart(request_: Request) -> tuple[Any, list[a.File]]:
    """The JSON and the files of a body in parts.

    Raises:
        ApiError: There is other than one JSON text and files.
    """
    head = f"Content-Type: {request_.headers['content-type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + request_.body)
    texts, attached = [], []
    for part in message.iter_parts() if message.is_multipart() else ():
        content = bytes(part.get_payload(decode=True))
        name = part.get_filename()
        if name is None:
            texts.append(content)
        else:
            attached.append(a.File(str(name), part.get_content_type(), content))
    if len(texts) > 1:
        raise invalid_structure("In multipart requests, we don't expect more than one non-file part.")
    try:
        return (json.loads(texts[0]) if texts else {}), attached
    except ValueError as error:
        raise invalid_structure("In multipart requests, we expect the non-file part to be valid JSON.") from error


def open_store(config: c.Config) -> Store:
    """What a core keeps; returns once the database answers."""
    store = Store(config)
    _reach(config["database"]["host"], int(config["database"].get("port", 27017)))
    until_reached("MongoDB", store.prepare)
    return store


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
    bus = socket.create_server(("", NATS_PORT))
    threading.Thread(target=_greet_clients, args=(bus,), daemon=True).start()
    core = Core(config, service, open_store(config))
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
    _load(conf / "metadata.hjson", METADATA)
    service = _service_info(config)
    try:
        load_json(service["eventTypes"])
    except OSError as error:
        raise StartError(f"cannot load the event types: {error}") from error
    hfs = Hfs(a.Api(open_store(config), config, service))
    _reach(config["influxdb"]["host"], int(config["influxdb"]["port"]))
    _reach_nats(config)
    serve("hfs", config["http"]["ip"], _processes(3000, 2), hfs.answer)


class Hfs:
    """The API of hfs.

    Args:
        api: What finds accesses and events.
    """

    def __init__(self, api: a.Api) -> None:
        """Reads nothing yet."""
        self._api = api
        self._routes = [
            Route("GET", "/system/status", lambda *_: Response(200, {"status": "ok"})),
            Route("POST", "/:username/events/:id/series", self._store),
            Route("GET", "/:username/events/:id/series", self._read),
            Route("POST", "/:username/series/batch", self._store_batch),
        ]
        #: Answers a request.
        self.answer = answering(self._answer)

    def _answer(self, request_: Request) -> Response:
        body = body_of(request_, 10)
        route, parameters = find(self._routes, request_.method, pathname(hoisted(request_)))
        return route.handler(request_, body, parameters)

    def _event(self, request_: Request, name: str, identity: str, write: bool) -> tuple[str, dict[str, Any]]:
        """A user's name and an event whose series the request may write or read."""
        token = request_.headers.get("authorization")
        if token is None:
            status = 400 if write else 401
            raise ApiError(status, "missing-header", 'Missing expected header "authorization"')
        context = self._api.authorize(self._api.context(name, authorization_of(request_)))
        event = self._api.event(context, identity)
        if write and event.get("trashed"):
            message = f'The referenced event "{identity}" is trashed.'
            raise invalid_operation(message, {"trashedReference": "eventId"})
        if write and not any(self._api.may_create(context, one) for one in event["streamIds"]):
            raise forbidden()
        if not write and not self._api.may_read(context, event["streamIds"]):
            raise forbidden()
        if not event["type"].startswith("series:"):
            message = "High Frequency data can only be stored in events whose type starts with 'series:'."
            raise invalid_operation(message)
        return context.username, event

    def _store(self, request_: Request, body: Any, parameters: Mapping[str, str]) -> Response:
        name, event = self._event(request_, parameters["username"], parameters["id"], write=True)
        self._api.store.write_series(name, f"event.{event['id']}", points_of(body))
        return success(200, {"status": "ok"})

    def _store_batch(self, request_: Request, body: Any, parameters: Mapping[str, str]) -> Response:
        if not isinstance(body, dict) or body.get("format") != "seriesBatch" or not isinstance(body.get("data"), list):
            raise invalid_structure("Envelope must be of format 'seriesBatch'")
        writes = []
        for one in body["data"]:
            identity, data = a.parts(one, "eventId", "data")
            name, event = self._event(request_, parameters["username"], str(identity), write=True)
            writes.append((name, f"event.{event['id']}", points_of(data)))
        for write in writes:
            self._api.store.write_series(*write)
        return success(200, {"status": "ok"})

    def _read(self, request_: Request, _body: Any, parameters: Mapping[str, str]) -> Response:
        name, event = self._event(request_, parameters["username"], parameters["id"], write=False)
        limits = {key: request_.query.get(key) for key in ("fromDeltaTime", "toDeltaTime")}
        try:
            begin, end = (float(limit) if limit else None for limit in limits.values())
        except ValueError as error:
            raise ApiError(400, "invalid-parameters-format", f"{limits} must be numbers") from error
        if begin is not None and end is not None and end < begin:
            raise ApiError(
                400, "invalid-parameters-format", "Parameters 'fromDeltaTime' and 'toDeltaTime' are not in order"
            )
        found = [
            one
            for one in self._api.store.read_series(name, f"event.{event['id']}")
            if (begin is None or one["deltaTime"] >= begin) and (end is None or one["deltaTime"] < end)
        ]
        columns = ["deltaTime", *sorted({key for one in found for key in one} - {"deltaTime"})]
        points = [[one.get(column) for column in columns] for one in found]
        return success(200, {"format": "flatJSON", "fields": columns if found else [], "points": points})


def points_of(body: Any) -> list[dict[str, Any]]:
    """Points as a client sends them (components/business/src/series/data_matrix.js).

    Raises:
        ApiError: They are not written as they have to be.
    """
    if not isinstance(body, dict) or body.get("format") != "flatJSON":
        raise invalid_structure('"format" field must contain the string "flatJSON".')
    fields, points = body.get("fields"), body.get("points")
    if not isinstance(fields, list) or not all(isinstance(one, str) for one in fields):
        raise invalid_structure("Field names must be strings.")
    if not isinstance(points, list):
        raise invalid_structure('"points" field must be a list of data points.')
    if not {"deltaTime", "value"} <= set(fields):
        raise invalid_structure('"fields" field must contain valid field names for the series type.')
    if not all(_is_row(one, fields) for one in points):
        raise invalid_structure('"points" matrix must contain correct data types according to series type.')
    return [dict(zip(fields, one, strict=True)) for one in points]


def _is_row(row: Any, fields: Sequence[str]) -> bool:
    if not isinstance(row, list) or len(row) != len(fields):
        return False
    time = row[fields.index("deltaTime")]
    return isinstance(time, int | float) and not isinstance(time, bool) and time >= 0


def run_preview(conf: Path) -> None:
    """Starts preview.

    Args:
        conf: Folder of its configuration.
    """
    config = _load(conf / "preview.yml", PREVIEW)
    preview = Preview(a.Api(open_store(config), config, _service_info(config)))
    _reach_nats(config)
    serve("preview", config["http"]["ip"], [int(config["http"]["port"])], preview.answer)


class Preview:
    """The API of preview: small pictures of pictures. They are all the same here.

    Args:
        api: What finds accesses and events.
    """

    def __init__(self, api: a.Api) -> None:
        """Reads nothing yet."""
        self._api = api
        self._routes = [
            # `:id:extension(.jpg|.jpeg|)`
            Route("GET", "/:username/events/:id", self._show),
            Route("POST", "/clean-up-cache", lambda *_: Response(200, {"message": "Clean-up successful."})),
            Route("POST", "/:username/clean-up-cache", lambda *_: Response(200, {"message": "Clean-up successful."})),
        ]
        #: Answers a request.
        self.answer = answering(self._answer)

    def _answer(self, request_: Request) -> Response:
        route, parameters = find(self._routes, request_.method, pathname(hoisted(request_)))
        return route.handler(request_, parameters)

    def _show(self, request_: Request, parameters: Mapping[str, str]) -> Response:
        context = self._api.authorize(self._api.context(parameters["username"], authorization_of(request_)))
        identity = parameters["id"].removesuffix(".jpg").removesuffix(".jpeg")
        event = self._api.event(context, identity)
        if not self._api.may_read(context, event["streamIds"]):
            raise forbidden()
        if event["type"] != "picture/attached":
            return Response(204)
        if not event.get("attachments"):
            raise ApiError(422, "corrupted-data", "Corrupt event data: expected an attachment.")
        picture = self._api.store.read_attachment(context.user_id, identity, event["attachments"][0]["id"])
        if not picture.startswith(PICTURES):
            raise ApiError(422, "corrupted-data", "Corrupt event data: expected an attached file.")
        return Response(200, JPEG, {"Content-Type": "image/jpeg"})


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
