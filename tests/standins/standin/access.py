"""Requests of apps for an access, which wait at the registry until the user has decided.

The same as `pryv/service-register` has in src/routes/access.js and src/business/access-lib.js; they are kept in Redis
under the real keys.
"""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from . import config as c
from .redis import Redis

SECONDS = 3600
POLL_MS = 1000
_KEY = re.compile(r"[a-zA-Z0-9]{10,200}")
_APP = range(6, 100)


class AccessError(Exception):
    """A request that is not right.

    Args:
        identity: Which error it is.
        detail: More of it.
    """

    def __init__(self, identity: str, detail: str = "") -> None:
        """Keeps both."""
        super().__init__(detail or identity)
        self.identity, self.detail = identity, detail


class Accesses:
    """The requests.

    Args:
        config: A prepared configuration of register.
        redis: Where they are kept.
    """

    def __init__(self, config: c.Config, redis: Redis) -> None:
        """Reads nothing yet."""
        self._config, self._redis = config, redis
        access = config.get("access") or {}
        self._page = str(access.get("defaultAuthUrl", ""))
        self._trusted = [*(access.get("trustedAuthUrls") or []), self._page]

    def ask(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Takes a request.

        Args:
            body: What an app sent.

        Returns:
            The request's state, with where the user decides, and where the app learns of it.

        Raises:
            AccessError: A part of it is wrong.
        """
        app = str(body.get("requestingAppId") or "").strip()
        if len(app) not in _APP:
            raise AccessError("INVALID_APP_ID")
        if not isinstance(body.get("requestedPermissions"), list):
            raise AccessError("INVALID_DATA", "Missing or invalid requestedPermissions field")
        language = body.get("languageCode") or "en"
        if not isinstance(language, str) or len(language) > 5:
            raise AccessError("INVALID_LANGUAGE")
        back = body.get("returnURL") or None
        if back is not None and not isinstance(back, str):
            raise AccessError("INVALID_DATA", "Invalid returnURL field.")
        page = body.get("authUrl") or self._page
        if not str(page).startswith(tuple(self._trusted)):
            raise AccessError("UNTRUSTED_AUTH_URL", f"domain : {self._config['dns']['domain']} / auth : {page}")
        self._check_kinds(body)
        service = self._config["service"]
        key = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(16))
        poll = f"{service['access']}{key}"
        begin = f"{page}{'&' if '?' in page else '?'}"
        url = f"{begin}lang={language}&key={key}&requestingAppId={app}"
        url += f"&returnURL={quote(back, safe='')}" if back else ""
        url += f"&domain={self._config['dns']['domain']}&registerURL={quote(service['register'], safe='')}"
        state = {
            "status": "NEED_SIGNIN",
            "code": 201,
            "key": key,
            "requestingAppId": app,
            "requestedPermissions": body["requestedPermissions"],
            "url": f"{url}&poll={quote(poll, safe='')}",
            "authUrl": f"{begin}pollUrl={quote(poll, safe='')}",
            "poll": poll,
            "returnURL": back,
            "oauthState": body.get("oauthState"),
            "poll_rate_ms": POLL_MS,
            "lang": language,
            **{name: body[name] for name in ("clientData", "serviceInfo", "deviceName", "expireAfter") if name in body},
        }
        return self._keep(key, state)

    @staticmethod
    def _check_kinds(body: Mapping[str, Any]) -> None:
        for name, kind, error in (
            ("deviceName", str, "INVALID_DEVICE_NAME"),
            ("expireAfter", int, "INVALID_EXPIRE_AFTER"),
            ("referer", str, "INVALID_REFERER"),
        ):
            if body.get(name) is not None and not isinstance(body[name], kind):
                raise AccessError(error, f"{name} : {body[name]}")

    def state(self, key: str) -> dict[str, Any]:
        """A request's state.

        Raises:
            AccessError: There is no such request.
        """
        kept = self._redis.get(f"{key}:access") if _KEY.fullmatch(key) else None
        if kept is None:
            raise AccessError("INVALID_KEY")
        return self._shown(json.loads(kept))

    def decide(self, key: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Takes what the user decided.

        Args:
            key: Which request it is about.
            body: What the page sent, with the new access where there is one.

        Returns:
            The request's new state.

        Raises:
            AccessError: There is no such request, or the decision is not right.
        """
        before = self.state(key)
        decision, message = body.get("status"), body.get("message") or ""
        if decision == "REFUSED":
            state = {"status": decision, "reasonID": body.get("reasonID") or "REASON_UNDEFINED", "message": message}
        elif decision == "ERROR":
            found = {"id": body.get("id") or "INTERNAL_ERROR", "message": message, "detail": body.get("detail") or ""}
            state = {"status": decision, **found}
        elif decision == "ACCEPTED":
            state = self._accepted(body)
        else:
            state = {"status": "ERROR", "id": body.get("id"), "message": f"Unknown status code : {decision}"}
        state["code"] = 200 if decision == "ACCEPTED" else 403
        return self._keep(key, {**state, "serviceInfo": before["serviceInfo"]})

    def _accepted(self, body: Mapping[str, Any]) -> dict[str, Any]:
        name, token = str(body.get("username") or "").strip().lower(), body.get("token")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{3,58}[a-z0-9]", name):
            raise AccessError("INVALID_USER_NAME")
        if not isinstance(token, str) or not 0 < len(token) < 256:
            raise AccessError("INVALID_DATA")
        scheme, rest = self._config["service"]["api"].replace("{username}", name).split("://")
        endpoint = body.get("apiEndpoint") or f"{scheme}://{token}@{rest.rstrip('/')}/"
        return {"status": "ACCEPTED", "apiEndpoint": endpoint, "username": name, "token": token}

    def _keep(self, key: str, state: dict[str, Any]) -> dict[str, Any]:
        seconds = int(c.lookup(self._config, "persistence.access-ttl") or SECONDS)
        name = f"{key}:access"
        self._redis.transaction([["SET", name, json.dumps(state)], ["EXPIRE", name, seconds]])
        return self._shown(state)

    def _shown(self, state: dict[str, Any]) -> dict[str, Any]:
        info = {**self._config["service"], "version": c.lookup(self._config, "reporting.templateVersion")}
        return {**state, "serviceInfo": state.get("serviceInfo") or info}
