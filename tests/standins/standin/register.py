"""Stands in for register: the registry's HTTP API, for clients and for cores."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import secrets
import ssl
import string
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import access, registry
from . import config as c
from .express import ApiError, Route, cross_origin, pathname
from .process import die, say
from .redis import RedisError
from .web import Request, Response, serve

RESERVATION_SECONDS = 600
# Longer than any client waits.
UNANSWERED_SECONDS = 120
# 4 to 70 characters: a hosting with a shorter name can be registered at only through its core.
_HOSTING = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.-]{2,68}[a-zA-Z0-9]")
_SERVER = re.compile(r"[a-zA-Z0-9_.-]{3,256}")
ALWAYS_VALID = "enjoy"  # an invitation that is never used up


class RefusalError(Exception):
    """An error that goes to the client.

    Args:
        status: HTTP status code.
        body: What the client gets.
    """

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        """Keeps both for the response."""
        super().__init__(body)
        self.response = Response(status, body)


def refuse(status: int, error: str, message: str = "") -> RefusalError:
    """An error as the registry words them."""
    return RefusalError(status, {"id": error, "message": message or error, "errors": []})


class Register:
    """The API.

    Args:
        config: A prepared configuration.
        users: The users.
    """

    def __init__(self, config: c.Config, users: registry.Users) -> None:
        """Reads nothing yet."""
        self.config, self.users = config, users
        self.accesses = access.Accesses(config, users.redis)
        self._hostings_counted = False
        self._lock = threading.Lock()
        # In the real program's order: the first that matches answers.
        self._routes = [
            Route(method, path, handler)
            for method, path, handler in (
                ("GET", "/", self.home),
                ("GET", "/service/info", self.service_info),
                ("GET", "/service/infos", self.service_info),
                ("GET", "/apps", lambda _request: Response(200, {"apps": []})),
                ("GET", "/apps/:app", lambda _request, app: Response(200, {"app": {"id": app}})),
                ("GET", "/hostings", self.hostings),
                ("POST", "/email/check", self.email_is_free),
                ("GET", "/:email/check_email", self.check_email),
                ("GET", "/:email/uid", lambda request, email: self.username_of_email(request, email, "uid")),
                ("GET", "/:email/username", lambda request, email: self.username_of_email(request, email, "username")),
                ("GET", "/:name/server", self.server_redirect),
                ("POST", "/:name/server", self.server),
                ("POST", "/user", self.create_user),
                ("POST", "/users", self.add_user),
                ("PUT", "/users", self.update_user),
                ("DELETE", "/users/:name", self.delete_user),
                ("POST", "/username/check", self.username_is_free),
                ("GET", "/:name/check_username", self.check_username),
                ("POST", "/users/validate", self.validate),
                ("GET", "/admin/users", self.admin_users),
                ("GET", "/admin/invitations", self.admin_invitations),
                ("GET", "/admin/users/:name", self.admin_user),
                ("GET", "/admin/invitations/post", self.admin_invite),
                ("GET", "/admin/servers", self.admin_servers),
                ("GET", "/admin/servers/:server/users", self.admin_server_users),
                ("GET", "/admin/servers/:old/rename/:new", self.admin_rename),
                ("POST", "/access", self.ask_access),
                ("POST", "/access/invitationtoken/check", self.check_invitation),
                ("GET", "/access/:key", self.poll_access),
                ("POST", "/access/:key", self.decide_access),
                ("POST", "/records", self.records),
                ("GET", "/cores", self.cores),
            )
        ]

    def answer(self, request: Request) -> Response:
        """Finds and calls what a path stands for."""
        headers = cross_origin(request)
        found = Response(200, "OK") if request.method == "OPTIONS" else self._find(request)
        return Response(found.status, found.body, {**headers, **found.headers}, found.takeover)

    def _find(self, request: Request) -> Response:
        path = pathname(request.target)
        try:
            if not _is_readable(request):
                return Response(400, {"error": {"id": "invalid-parameters-format", "message": "SyntaxError"}})
            for route in self._routes:
                parameters = route.match(request.method, path)
                if parameters is not None:
                    return route.handler(request, **parameters)
        except RefusalError as refusal:
            return refusal.response
        except (RedisError, OSError, ApiError) as error:
            say(f"internal error: {error}")
            return refuse(500, "INTERNAL_ERROR", "Internal error").response
        return Response(404, f"Cannot {request.method} {request.path}\n")

    # For everyone

    def home(self, _request: Request) -> Response:
        """Leads to the platform's home page."""
        return Response(302, headers={"Location": self.config["service"]["home"]})

    def service_info(self, _request: Request) -> Response:
        """What clients need to know of the platform."""
        return Response(200, {**self.config["service"], "version": self.config["reporting"]["templateVersion"]})

    def hostings(self, _request: Request) -> Response:
        """The hostings and, for each, the core to register new users at.

        As in the real program that core is found once after a start, and the answer that finds it does not hold it yet
        where users have to be counted.
        """
        with self._lock:
            first, self._hostings_counted = not self._hostings_counted, True
        if not first:
            return Response(200, self.config["net"]["aahostings"])
        servers = self.config["net"]["aaservers"]
        uncounted = []
        for name, hosting in registry.hostings_of(self.config["net"]):
            hosting["available"] = bool(servers[name])
            if len(servers[name]) < 2:
                hosting["availableCore"] = servers[name][0]["base_url"] if servers[name] else ""
            else:
                uncounted.append((name, hosting))
        answer = json.loads(json.dumps(self.config["net"]["aahostings"]))
        for name, hosting in uncounted:
            hosting["availableCore"] = self._least_populated_url(name)
        return Response(200, answer)

    def cores(self, request: Request) -> Response:
        """The URL of a user's core, by name or email."""
        name, email = request.query.get("username"), request.query.get("email")
        if (name is None) == (email is None):
            raise refuse(400, "INVALID_PARAMETERS", 'provide either "username" or "email" as query parameter')
        if email is not None:
            name = self.users.owner("email", email)
            if name is None:
                return Response(200, {"core": {"url": self._all_cores()[0]["base_url"]}})
        elif registry.username(name or "") is None:
            raise refuse(400, "INVALID_USER_NAME")
        server = self.users.server(name or "")
        if server is None:
            raise refuse(404, "UNKNOWN_USER_NAME")
        for core in reversed(self._all_cores()):
            if server in core["base_url"]:
                return Response(200, {"core": {"url": core["base_url"]}})
        # The real program fails here outside of any error handling: that ends its process, or leaves the client without
        # an answer.
        error = f"TypeError: no hosting has the core {server} of user {name}"
        if "--unhandled-rejections=warn" not in os.environ.get("NODE_OPTIONS", ""):
            die(error)
        say(error)
        time.sleep(UNANSWERED_SECONDS)
        return Response(500)

    def server_redirect(self, _request: Request, name: str) -> Response:
        """Leads to a user's core."""
        user, server = self._located(name)
        return Response(302, headers={"Location": f"https://{server}/?username={user}"})

    def server(self, _request: Request, name: str) -> Response:
        """Host name of a user's core."""
        user, server = self._located(name)
        return Response(200, {"server": server, "alias": f"{user}.{self.config['dns']['domain']}"})

    def check_username(self, _request: Request, name: str) -> Response:
        """Whether a user name is taken."""
        user = registry.username(name)
        if user is None:
            raise refuse(400, "INVALID_USER_NAME")
        if self._is_reserved(user):
            return Response(200, {"reserved": True, "reason": "RESERVED_USER_NAME"})
        return Response(200, {"reserved": self.users.exists(user)})

    def username_is_free(self, request: Request) -> Response:
        """The same the other way round, as plain text."""
        user = registry.username(str(request.json.get("username", "")))
        free = user is not None and not self._is_reserved(user) and not self.users.exists(user)
        return Response(200, str(free).lower())

    def check_email(self, _request: Request, email: str) -> Response:
        """Whether an email address is taken."""
        return Response(200, {"exists": self.users.owner("email", email) is not None})

    def email_is_free(self, request: Request) -> Response:
        """The same the other way round, as plain text."""
        email = request.json.get("email")
        return Response(200, str(isinstance(email, str) and self.users.owner("email", email) is None).lower())

    def username_of_email(self, _request: Request, email: str, field: str) -> Response:
        """The user who has an email address."""
        if c.lookup(self.config, "routes.disableGetUsernameByEmail"):
            raise refuse(405, "DISABLED_METHOD")
        name = self.users.owner("email", email)
        if name is None:
            raise refuse(404, "UNKNOWN_EMAIL")
        return Response(200, {field: name})

    def create_user(self, request: Request) -> Response:
        """Registers a user on the least populated core of a hosting, as old clients ask for it."""
        body = request.json
        hosting, name = str(body.get("hosting") or "").strip(), registry.username(str(body.get("username") or ""))
        email, password = body.get("email"), str(body.get("password") or "").strip()
        language = body.get("languageCode") or "en"
        for fits, error in (
            (_HOSTING.fullmatch(hosting), "INVALID_HOSTING"),
            (5 < len(str(body.get("appid") or "").strip()) < 100, "INVALID_APPID"),
            (name, "INVALID_USER_NAME"),
            (isinstance(email, str) and len(email.strip()) <= 300, "INVALID_EMAIL"),
            (5 < len(password) < 100, "INVALID_PASSWORD"),
            (isinstance(language, str) and len(language) <= 5, "INVALID_LANGUAGE"),
        ):
            if not fits:
                raise refuse(400, error)
        name, email, token = str(name), str(email).strip(), body.get("invitationtoken") or "no-token"
        hindrances = [
            error
            for hinders, error in (
                (not self._may_join(token), "INVALID_INVITATION"),
                (self._is_reserved(name), "RESERVED_USER_NAME"),
                (self.users.exists(name), "EXISTING_USER_NAME"),
                (self.users.owner("email", email) is not None, "EXISTING_EMAIL"),
            )
            if hinders
        ]
        if len(hindrances) == 1:
            raise refuse(400, hindrances[0])
        if hindrances:
            errors = [{"id": error, "message": error, "errors": []} for error in hindrances]
            raise RefusalError(400, {"id": "INVALID_DATA", "message": "Invalid Data", "errors": errors})
        core = registry.least_populated(self.config["net"]["aaservers"].get(hosting, []), self.users.counts())
        if core is None:
            raise refuse(400, "UNAVAILABLE_HOSTING")
        _post_to_core(
            core,
            {
                "username": name,
                "passwordHash": hashlib.sha256(password.encode()).hexdigest(),
                "language": language,
                "email": email.lower(),
            },
        )
        fields = {"email": email, "language": language, "invitationToken": token, "appid": body["appid"]}
        self.users.store(name, registry.host_name(core), fields, ["email"])
        self._consume(token, name)
        return Response(200, self._created(name))

    def ask_access(self, request: Request) -> Response:
        """Takes an app's request for an access."""
        return self._about_access(lambda: self.accesses.ask(request.json))

    def poll_access(self, _request: Request, key: str) -> Response:
        """Tells an app how its request stands."""
        return self._about_access(lambda: self.accesses.state(key))

    def decide_access(self, request: Request, key: str) -> Response:
        """Takes what the user decided."""
        return self._about_access(lambda: self.accesses.decide(key, request.json))

    @staticmethod
    def _about_access(act: Callable[[], dict[str, Any]]) -> Response:
        try:
            state = act()
        except access.AccessError as error:
            raise RefusalError(400, {"id": error.identity, "message": str(error), "detail": error.detail}) from error
        return Response(state["code"], state)

    def check_invitation(self, request: Request) -> Response:
        """Whether an invitation token is one."""
        return Response(200, str(self._may_join(request.json.get("invitationtoken"))).lower())

    # For cores: the system role

    def validate(self, request: Request) -> Response:
        """Reserves a name and the other unique fields for ten minutes, for the core that asks."""
        self._demand(request, "system")
        body = request.json
        if not self._may_join(body.get("invitationToken")):
            raise RefusalError(400, {"reservation": False, "error": {"id": "invitationToken-invalid", "data": {}}})
        name, unique = str(body.get("username", "")), dict(body.get("uniqueFields") or {})
        unique.pop("username", None)
        taken = {"username": name} if self.users.exists(name) else {}
        taken |= {field: value for field, value in unique.items() if self.users.owner(field, str(value)) is not None}
        if taken:
            raise RefusalError(400, {"reservation": False, "error": {"id": "item-already-exists", "data": taken}})
        unique["username"] = name
        core, now = str(body.get("core", "")), time.time()
        for field, value in unique.items():
            held = self.users.redis.hash(f"{field}-reservations:{value}")
            if held and held["core"] != core and float(held["time"]) / 1000 > now - RESERVATION_SECONDS:
                raise RefusalError(400, {"reservation": False, "error": [f"Existing_{field}"]})
        self.users.redis.transaction(
            ["HMSET", f"{field}-reservations:{value}", "core", core, "time", int(now * 1000)]
            for field, value in unique.items()
        )
        return Response(200, {"reservation": True})

    def add_user(self, request: Request) -> Response:
        """Adds a user whom a core has registered; one of that name is replaced, whatever core it was on."""
        self._demand(request, "system")
        body = request.json
        fields = {key: value for key, value in body["user"].items() if value is not None}
        if "appId" in fields:
            fields["appid"] = fields.pop("appId")
        self.users.store(fields["username"], body["host"]["name"], fields, body.get("unique", []))
        self._consume(fields.get("invitationToken"), fields["username"])
        return Response(201, self._created(fields["username"].lower()))

    def update_user(self, request: Request) -> Response:
        """Changes a user's indexed fields."""
        self._demand(request, "system")
        body = request.json
        name = str(body.get("username") or "").lower()
        fields = {field: values for field, values in (body.get("user") or {}).items() if field != "username"}
        deletions = {field: value for field, value in (body.get("fieldsToDelete") or {}).items() if field != "username"}
        if not self.users.exists(name):
            error = {"httpCode": 404, "data": {"id": "UNKNOWN_USER_NAME", "message": "No such user"}}
            raise RefusalError(400, {"user": False, "error": error})
        if not all(isinstance(values, list) for values in fields.values()):
            raise RefusalError(400, {"user": False, "error": {}})  # such as the core, which cannot be changed like this
        taken = {
            field: entry["value"]
            for field, values in fields.items()
            for entry in values
            if entry.get("isUnique") and self.users.owner(field, entry["value"]) not in (None, name)
        }
        if taken:
            raise RefusalError(400, {"user": False, "error": {"id": "item-already-exists", "data": taken}})
        done = self.users.update(name, fields, deletions)
        return Response(200 if done else 400, {"user": done})

    def delete_user(self, request: Request, name: str) -> Response:
        """Forgets a user whom a core has deleted."""
        self._demand(request, "system")
        if request.query.get("onlyReg") != "true":
            raise refuse(421, "NO_SUCH_FUNCTION", "This method needs onlyReg=true for now (query).")
        if not self.users.exists(name):
            raise refuse(404, "NO_SUCH_USER", f"No such user ('{name}')")
        dry = request.query.get("dryRun") == "true"
        if not dry:
            self.users.remove(name)
        return Response(200, {"result": {"dryRun": dry, "deleted": not dry}})

    # For administrators

    def admin_users(self, request: Request) -> Response:
        """All users, the newest first."""
        self._demand(request, "admin")
        names = [key.removesuffix(":users") for key in self.users.redis.keys("*:users")]
        users = [self._described(name) for name in names]
        return Response(200, {"users": sorted(users, key=lambda user: -int(user["registeredTimestamp"]))})

    def admin_user(self, request: Request, name: str) -> Response:
        """One user."""
        self._demand(request, "system")
        if not self.users.exists(name):
            return Response(404, "User not found")
        return Response(200, self._described(name))

    def admin_servers(self, request: Request) -> Response:
        """Number of users by core."""
        self._demand(request, "admin")
        return Response(200, {"servers": self.users.counts()})

    def admin_server_users(self, request: Request, server: str) -> Response:
        """Names of a core's users."""
        self._demand(request, "admin")
        keys = self._keys_on(_server(server, "serverName"))
        return Response(200, {"users": [key.split(":")[0] for key in keys]})

    def admin_rename(self, request: Request, old: str, new: str) -> Response:
        """Moves all users of one core to another, in the registry only."""
        self._demand(request, "system")
        source, target = _server(old, "srcServerName"), _server(new, "dstServerName")
        keys = self._keys_on(source)
        for key in keys:
            self.users.redis.run("SET", key, target)
        return Response(200, {"count": len(keys)})

    def admin_invitations(self, request: Request) -> Response:
        """The invitations that were made here."""
        self._demand(request, "admin")
        keys = self.users.redis.keys("*:invitation")
        return Response(
            200,
            {"invitations": [{**self.users.redis.hash(key), "id": key.removesuffix(":invitation")} for key in keys]},
        )

    def admin_invite(self, request: Request) -> Response:
        """Makes invitations."""
        key = self._demand(request, "admin")
        made = []
        for _ in range(int(request.query.get("count") or 0)):
            token = "".join(secrets.choice(string.ascii_lowercase) for _ in range(5))
            data = {
                "createdAt": int(time.time() * 1000),
                "createdBy": key.split("|")[0],
                "description": request.query.get("message") or "",
            }
            self.users.redis.run("HMSET", f"{token}:invitation", *(word for pair in data.items() for word in pair))
            made.append({**data, "id": token})
        return Response(200, {"data": made})

    def records(self, request: Request) -> Response:
        """Changes what DNS answers, until the next start and in this process alone."""
        self._demand(request, "admin")
        changes = request.json
        if not changes or not all(
            isinstance(entry, dict) and entry.get("description") is not None for entry in changes.values()
        ):
            return refuse(500, "INTERNAL_ERROR", "Internal Error").response
        for entry in changes.values():
            if not isinstance(entry["description"], list):
                entry["description"] = [entry["description"]]
        with self._lock:
            entries = self.config["dns"]["staticDataInDomain"] = registry.merged(
                self.config["dns"]["staticDataInDomain"], changes
            )
        return Response(200, [{name: entries[name]} for name in changes])

    # Helpers

    def _demand(self, request: Request, role: str) -> str:
        key = request.headers.get("authorization") or request.query.get("auth") or ""
        granted = self.config["auth"]["authorizedKeys"].get(key)
        if granted is None:
            raise RefusalError(
                401, {"id": "unauthorized", "message": 'Expected "Authorization" header or "auth" query parameter'}
            )
        if role not in granted["roles"]:
            raise RefusalError(403, {"id": "forbidden", "message": "Access forbidden"})
        return key

    def _located(self, name: str) -> tuple[str, str]:
        user = registry.username(name)
        if user is None:
            raise refuse(400, "INVALID_USER_NAME")
        server = self.users.server(user)
        if server is None:
            raise refuse(404, "UNKNOWN_USER_NAME")
        return user, server

    def _is_reserved(self, name: str) -> bool:
        return (
            name.startswith("pryv") or name in self.config["dns"]["staticDataInDomain"] or self.users.is_reserved(name)
        )

    def _may_join(self, token: Any) -> bool:
        return self.users.may_join(self.config.get("invitationTokens"), _as_key(token))

    def _consume(self, token: Any, name: str) -> None:
        if token == ALWAYS_VALID:
            return
        if not self._may_join(token):
            raise refuse(404, "INVALID_INVITATION")
        consumed = ("consumedAt", int(time.time() * 1000), "consumedBy", name)
        self.users.redis.run("HMSET", f"{_as_key(token)}:invitation", *consumed)

    def _keys_on(self, server: str) -> list[str]:
        keys = self.users.redis.keys("*:server")
        return [key for key in keys if self.users.redis.get(key) == server]

    def _all_cores(self) -> list[dict[str, str]]:
        return [core for cores in self.config["net"]["aaservers"].values() for core in cores]

    def _least_populated_url(self, hosting: str) -> str:
        try:
            core = registry.least_populated(self.config["net"]["aaservers"][hosting], self.users.counts())
        except (RedisError, OSError):
            return ""
        return core["base_url"] if core else ""

    def _created(self, name: str) -> dict[str, str]:
        endpoint = self.config["service"]["api"].replace("{username}", name)
        return {"username": name, "server": f"{name}.{self.config['dns']['domain']}", "apiEndpoint": endpoint}

    def _described(self, name: str) -> dict[str, Any]:
        user: dict[str, Any] = {"registeredTimestamp": 0, **self.users.redis.hash(f"{name}:users")}
        server = self.users.server(name)
        if server is None:
            user["errors"] = [{"server": f"{name}:server is empty"}]
        else:
            user["server"] = server
        seconds = int(user["registeredTimestamp"]) / 1000
        user["registeredDate"] = (
            format_datetime(datetime.fromtimestamp(seconds, timezone.utc), usegmt=True) if seconds else ""
        )
        return user


def _is_readable(request: Request) -> bool:
    if not request.body or "json" not in request.headers.get("content-type", ""):
        return True
    try:
        json.loads(request.body)
    except ValueError:
        return False
    return True


def _server(text: str, parameter: str) -> str:
    """A server's name, as the paths of administrators may have it."""
    name = text.strip()
    if not _SERVER.fullmatch(name):
        raise refuse(400, "INVALID_DATA", f"{parameter} invalid")
    return name


def _as_key(token: Any) -> str:
    return "undefined" if token is None else str(token)


def _post_to_core(core: Mapping[str, str], user: Mapping[str, str]) -> None:
    """Has a core create a user; the real program does not verify the core's certificate either."""
    url = urlsplit(core["base_url"])
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    port = url.port or (443 if url.scheme == "https" else 80)
    connection = (
        http.client.HTTPSConnection(url.hostname or "", port, timeout=5, context=context)
        if url.scheme == "https"
        else http.client.HTTPConnection(url.hostname or "", port, timeout=5)
    )
    headers = {"Content-Type": "application/json", "Authorization": core["authorization"]}
    connection.request("POST", "/register/create-user", json.dumps(user), headers)
    response = connection.getresponse()
    if response.status != 201:
        raise OSError(f"{core['base_url']} answered {response.status} to create-user: {response.read()[:200]!r}")


def run(conf: Path) -> None:
    """Starts the service.

    Args:
        conf: Folder of its configuration.
    """
    config = c.load(conf / "register.json")
    registry.prepare(config)
    users = registry.connect(config)
    serve("register", "", [int(config["server"]["port"])], Register(config, users).answer)
