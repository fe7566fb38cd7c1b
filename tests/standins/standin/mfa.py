"""Stands in for mfa: logs users in at core, and asks those who want it for a second factor.

The routes are those of `pryv/service-mfa` 1.1.9: src/routes/login.js and mfa.js, with src/middlewares before them and
src/business behind; what a configuration must hold is in config/schema/schema.yml, and is looked at before the defaults
of config/default-config.yml are added.
"""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import config as c
from . import schemas
from .client import request
from .express import (
    ApiError,
    Route,
    answering,
    authorization_of,
    body_of,
    find,
    hoisted,
    invalid_structure,
    pathname,
)
from .web import Request, Response, serve

#: Headers that go on to core.
PASSED = ("origin", "referer", "host")


@dataclass
class Profile:
    """Who has a second factor.

    Attributes:
        content: What the service that sends codes needs, such as a telephone number.
        recovery_codes: Each of them switches the second factor off.
    """

    content: dict[str, Any]
    recovery_codes: list[str]


@dataclass
class Session:
    """A login that waits for its second factor.

    Attributes:
        profile: What is asked for.
        token: The token that the client gets in the end.
        expires: When it is forgotten, in seconds of the monotonic clock.
    """

    profile: Profile
    token: str
    expires: float


class Mfa:
    """The API.

    Args:
        config: A checked configuration.
    """

    def __init__(self, config: c.Config) -> None:
        """Begins without sessions."""
        self._core = str(config["core"]["url"]).rstrip("/")
        self._sms = config["sms"]
        self._age = float(config["sessions"]["ttlSeconds"])
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._codes: dict[str, tuple[str, float]] = {}
        self._routes = [
            Route("POST", "/:username/login", self._login),
            *(
                Route("POST", f"/:username/mfa/{name}", handler)
                for name, handler in (
                    ("activate", self._activate),
                    ("confirm", self._confirm),
                    ("deactivate", self._deactivate),
                    ("recover", self._recover),
                    ("challenge", self._challenge_again),
                    ("verify", self._verify),
                )
            ),
        ]
        #: Answers a request.
        self.answer = answering(self._answer)

    def _answer(self, request_: Request) -> Response:
        body = body_of(request_)
        try:
            route, parameters = find(self._routes, request_.method, pathname(hoisted(request_)))
        except ApiError:
            # This program has no answer of its own for other paths: Express' is a page.
            page = f"<pre>Cannot {request_.method} {request_.path}</pre>\n"
            return Response(404, page, {"Content-Type": "text/html; charset=utf-8"})
        try:
            return route.handler(request_, body if isinstance(body, dict) else {}, parameters)
        except ApiError as error:
            # Without `meta`, but for what core refuses.
            return Response(error.status, {"error": error.public})

    # Routes

    def _login(self, request_: Request, body: dict[str, Any], parameters: Mapping[str, str]) -> Response:
        name = parameters["username"]
        result = self._ask_core(request_, "POST", f"/{name}/auth/login", body)
        profile = self._profile(request_, name, result["token"])
        if not profile.content:
            return Response(200, result)
        return Response(302, {"mfaToken": self._open(profile, result["token"])})

    def _activate(self, request_: Request, body: dict[str, Any], parameters: Mapping[str, str]) -> Response:
        token, name = _token_of(request_), parameters["username"]
        if self._ask_core(request_, "GET", f"/{name}/access-info", None, token).get("type") != "personal":
            raise _unauthorized("You cannot access this resource using the given access token.")
        profile = Profile(body, [])
        self._challenge(name, profile)
        return Response(302, {"mfaToken": self._open(profile, token)})

    def _confirm(self, request_: Request, body: dict[str, Any], parameters: Mapping[str, str]) -> Response:
        identity, session = self._session(request_)
        self._check(parameters["username"], session.profile, body)
        codes = [str(uuid.uuid4()) for _ in range(10)]
        update = {"mfa": {"content": session.profile.content, "recoveryCodes": codes}}
        self._ask_core(request_, "PUT", f"/{parameters['username']}/profile/private", update, session.token)
        self._sessions.pop(identity, None)
        return Response(200, {"recoveryCodes": codes})

    def _challenge_again(self, request_: Request, _body: dict[str, Any], parameters: Mapping[str, str]) -> Response:
        self._challenge(parameters["username"], self._session(request_)[1].profile)
        return Response(200, {"message": "Please verify the MFA challenge."})

    def _verify(self, request_: Request, body: dict[str, Any], parameters: Mapping[str, str]) -> Response:
        identity, session = self._session(request_)
        self._check(parameters["username"], session.profile, body)
        self._sessions.pop(identity, None)
        return Response(200, {"token": session.token})

    def _deactivate(self, request_: Request, _body: dict[str, Any], parameters: Mapping[str, str]) -> Response:
        path = f"/{parameters['username']}/profile/private"
        self._ask_core(request_, "PUT", path, {"mfa": None}, _token_of(request_))
        return Response(200, {"message": "MFA deactivated."})

    def _recover(self, request_: Request, body: dict[str, Any], parameters: Mapping[str, str]) -> Response:
        name, code = parameters["username"], body.pop("recoveryCode", None)
        if code is None:
            raise invalid_structure("Missing parameter: recoveryCode.")
        token = self._ask_core(request_, "POST", f"/{name}/auth/login", body)["token"]
        if code not in self._profile(request_, name, token).recovery_codes:
            raise ApiError(400, "invalid-parameters-format", "Invalid recovery code.")
        self._ask_core(request_, "PUT", f"/{name}/profile/private", {"mfa": None}, token)
        return Response(200, {"message": "MFA deactivated."})

    # Core

    def _ask_core(
        self, request_: Request, method: str, path: str, body: Mapping[str, Any] | None, token: str = ""
    ) -> dict[str, Any]:
        headers = {name: request_.headers[name] for name in PASSED if name in request_.headers}
        if token:
            headers["Authorization"] = token
        status, answer = request(method, self._core + path, body, headers)
        answer = answer if isinstance(answer, dict) else {}
        if status >= 400:
            error = answer.get("error", {})
            raise ApiError(status, error.get("id", "unexpected-error"), error.get("message", f"core answered {status}"))
        return answer

    def _profile(self, request_: Request, name: str, token: str) -> Profile:
        kept = self._ask_core(request_, "GET", f"/{name}/profile/private", None, token)["profile"].get("mfa") or {}
        return Profile(dict(kept.get("content") or {}), list(kept.get("recoveryCodes") or []))

    # Sessions

    def _open(self, profile: Profile, token: str) -> str:
        identity = str(uuid.uuid4())
        with self._lock:
            self._sessions[identity] = Session(profile, token, time.monotonic() + self._age)
        return identity

    def _session(self, request_: Request) -> tuple[str, Session]:
        identity = _token_of(request_)
        session = self._sessions.get(identity)
        if session is None or session.expires < time.monotonic():
            self._sessions.pop(identity, None)
            raise _unauthorized("Invalid MFA session token.")
        return identity, session

    # Codes: made here in mode `single`, by the service that sends them in the other

    def _challenge(self, name: str, profile: Profile) -> None:
        if self._sms["mode"] == "single":
            code = f"{secrets.randbelow(10_000):04}"
            self._codes[name] = code, time.monotonic() + self._age
            self._send("single", {**_replaced(profile.content, "code", code), "code": code})
        else:
            self._send("challenge", profile.content)

    def _check(self, name: str, profile: Profile, body: Mapping[str, Any]) -> None:
        if self._sms["mode"] != "single":
            self._send("verify", {**body, **profile.content})
            return
        code, expires = self._codes.get(name, ("", 0.0))
        if not code or expires < time.monotonic() or body.get("code") != code:
            raise ApiError(400, "invalid-code", f"The provided code is invalid: {body.get('code')}")
        del self._codes[name]

    def _send(self, endpoint: str, replacements: Mapping[str, Any]) -> None:
        """Asks the service that sends codes, with what its template names filled in."""
        wanted = (self._sms.get("endpoints") or {}).get(endpoint) or {}
        url, body, headers = str(wanted.get("url", "")), str(wanted.get("body", "")), dict(wanted.get("headers") or {})
        for name, value in replacements.items():
            mark = f"{{{{ {name} }}}}"
            url, body = url.replace(mark, str(value)), body.replace(mark, str(value))
            headers = {header: str(text).replace(mark, str(value)) for header, text in headers.items()}
        get = wanted.get("method", "POST") == "GET"
        try:
            status, _ = request("GET" if get else "POST", url, None if get else body.encode(), headers)
            problem = "" if status < 400 else f"status {status}"
        except OSError as error:
            problem = str(error)
        if problem:
            message = f'Error from messaging service. Error message: "{problem}"'
            raise ApiError(400, "messaging-server-error", message)


def _replaced(content: Mapping[str, Any], name: str, value: str) -> dict[str, Any]:
    mark = f"{{{{ {name} }}}}"
    return {key: text.replace(mark, value) if isinstance(text, str) else text for key, text in content.items()}


def _token_of(request_: Request) -> str:
    token = authorization_of(request_)
    if not token:
        raise _unauthorized("Missing 'Authorization' header or 'auth' query parameter.")
    return token


def _unauthorized(message: str) -> ApiError:
    return ApiError(403, "forbidden", message)


def run(conf: Path) -> None:
    """Starts the service.

    Args:
        conf: Folder of its configuration.
    """
    config = c.load(conf / "mfa.yml")
    c.check(config, schemas.mfa(config))
    serve("mfa", config["http"]["ip"], [int(config["http"]["port"])], Mfa(config).answer)
