"""The methods of Pryv's API, as `pryv/service-core` 1.9.2 has them in components/api-server/src/methods.

They are called over HTTP one by one, in batches, and over socket.io. What a parameter may be follows
components/api-server/src/schema; what an access may do, components/business/src/accesses/AccessLogic.js; which access a
token stands for, components/business/src/MethodContext.js. What the account has is kept as events with the real
streams' IDs, but these are not listed as streams; event types are checked no further than their form.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import string
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import config as c
from .express import ApiError, forbidden, invalid_operation, invalid_parameters, unknown_resource
from .store import ExistsError, Store

Document = dict[str, Any]
Notify = Callable[[str, str], None]

TWO_WEEKS = 14 * 24 * 3600 * 1000.0
LEVELS = {"none": -1, "read": 0, "create-only": 1, "contribute": 1, "manage": 2}
TYPE = re.compile(r"(series:)?[a-z0-9-]+/[a-z0-9-]+")
USERNAME = re.compile(r"[a-z0-9][a-z0-9-]{3,58}[a-z0-9]")
EVENT_ID = re.compile(r"(:[a-z0-9-]+:[a-z0-9A-Z-]{1,256})|(c[a-z0-9-]{24})")
STREAM_ID = re.compile(r"[a-z0-9-]{1,100}")
ACCOUNT = {"email": "email/string", "language": "language/iso-639-1"}
#: Fields of an account of which no two users may have the same value.
UNIQUE = ("email",)
SYSTEM = "system"
#: Changes that clients are told of over socket.io.
EVENTS, STREAMS, ACCESSES = "eventsChanged", "streamsChanged", "accessesChanged"


def new_id() -> str:
    """An ID as the real program's, 25 characters."""
    return "c" + "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(24))


@dataclass(frozen=True)
class Kind:
    """What a parameter may be.

    Attributes:
        types: Python's types for it.
        pattern: What a text has to look like.
        shortest: Fewest characters of a text.
        longest: Most characters of a text.
        required: Whether it may be left out.
        allowed: The values that it may have; all when empty.
    """

    types: tuple[type, ...]
    pattern: re.Pattern[str] | None = None
    shortest: int = 0
    longest: int = 1 << 30
    required: bool = False
    allowed: frozenset[Any] = frozenset()

    def problem(self, value: Any) -> tuple[str, str] | None:
        """The validator's code and message for a value; None for a right one."""
        if (isinstance(value, bool) and bool not in self.types) or not isinstance(value, self.types):
            return "INVALID_TYPE", f"Expected type {self.types[0].__name__} but found type {type(value).__name__}"
        if not isinstance(value, str):
            return None
        if self.allowed and value not in self.allowed:
            return "ENUM_MISMATCH", f"No enum match for: {value}"
        if self.pattern and not self.pattern.fullmatch(value):
            return "PATTERN", f"String does not match pattern {self.pattern.pattern}: {value}"
        if len(value) < self.shortest:
            return "MIN_LENGTH", f"String is too short ({len(value)} chars), minimum {self.shortest}"
        if len(value) > self.longest:
            return "MAX_LENGTH", f"String is too long ({len(value)} chars), maximum {self.longest}"
        return None


NULL = type(None)
TEXT, NUMBER, FLAG = Kind((str,)), Kind((int, float)), Kind((bool,))
LIST, MAP, ANY = Kind((list,)), Kind((dict,)), Kind((object,))
TRACKING = dict.fromkeys(("created", "createdBy", "modified", "modifiedBy"), ANY)
_EVENT = {
    "time": NUMBER,
    "duration": Kind((int, float, NULL)),
    "streamId": TEXT,
    "streamIds": LIST,
    "tags": Kind((list, NULL)),
    "content": ANY,
    "description": Kind((str, NULL)),
    "clientData": Kind((dict, NULL)),
    "trashed": Kind((bool, NULL)),
    "integrity": Kind((str, NULL)),
    **TRACKING,
}
EVENT_CREATE = {**_EVENT, "id": Kind((str,), EVENT_ID), "type": Kind((str,), TYPE, required=True), "files": LIST}
EVENT_UPDATE = {**_EVENT, "id": TEXT, "type": Kind((str,), TYPE), "attachments": LIST}
EVENT_ALTERABLE = {
    *("streamId", "streamIds", "time", "duration", "type", "content", "tags", "references", "description"),
    *("clientData", "trashed"),
}
EVENTS_GET = {
    "streams": ANY,
    "tags": LIST,
    "types": Kind((list, NULL)),
    "fromTime": NUMBER,
    "toTime": NUMBER,
    "sortAscending": FLAG,
    "skip": NUMBER,
    "limit": NUMBER,
    "state": Kind((str,), allowed=frozenset({"default", "trashed", "all"})),
    "modifiedSince": NUMBER,
    "includeDeletions": FLAG,
    "auth": TEXT,
    "running": FLAG,
}
_STREAM = {
    "id": Kind((str,), shortest=1),
    "parentId": Kind((str, NULL), shortest=1),
    "clientData": Kind((dict, NULL)),
    "trashed": Kind((bool, NULL)),
    "children": Kind((list, NULL)),
    "childrenHidden": Kind((bool, NULL)),
    **TRACKING,
}
STREAM_CREATE = {**_STREAM, "name": Kind((str,), shortest=1, required=True)}
STREAM_UPDATE = {**_STREAM, "name": Kind((str,), shortest=1)}
ACCESS_CREATE = {
    "token": Kind((str,), shortest=1),
    "apiEndpoint": TEXT,
    "name": Kind((str,), shortest=1, required=True),
    "permissions": Kind((list,), required=True),
    "lastUsed": NUMBER,
    "integrity": Kind((str, NULL)),
    "type": Kind((str,), allowed=frozenset({"personal", "app", "shared"})),
    "deviceName": Kind((str, NULL)),
    "expireAfter": NUMBER,
    "clientData": MAP,
    **TRACKING,
}
PASSWORD = Kind((str,), shortest=6, longest=100, required=True)


def validate(params: Any, kinds: Mapping[str, Kind], closed: bool = True) -> Document:
    """Compares a method's parameters with its schema.

    Args:
        params: The parameters.
        kinds: What each may be.
        closed: Whether there may be no others.

    Returns:
        The parameters.

    Raises:
        ApiError: They do not follow the schema; it tells each problem.
    """
    if not isinstance(params, dict):
        raise invalid_parameters({"code": "INVALID_TYPE", "message": "Expected type object", "path": "#/"})
    problems = []
    for name, kind in kinds.items():
        if name in params:
            if problem := kind.problem(params[name]):
                problems.append({"code": problem[0], "message": problem[1], "path": f"#/{name}", "param": name})
        elif kind.required:
            message = f"Missing required property: {name}"
            problems.append({"code": "OBJECT_MISSING_REQUIRED_PROPERTY", "message": message, "path": "#/"})
    if closed:
        problems += [
            {
                "code": "OBJECT_ADDITIONAL_PROPERTIES",
                "message": f"Additional properties not allowed: {name}",
                "path": "#/",
            }
            for name in params.keys() - kinds.keys()
        ]
    if problems:
        raise invalid_parameters(*problems)
    return params


def parts(params: Any, *names: str) -> tuple[Any, ...]:
    """Parameters that have to be there.

    Raises:
        ApiError: One is missing.
    """
    validate(params, {name: Kind((object,), required=True) for name in names}, closed=False)
    return tuple(params[name] for name in names)


@dataclass
class File:
    """A file that came with a request."""

    name: str
    type: str
    content: bytes = field(repr=False)


@dataclass
class Context:
    """Who calls a method.

    Attributes:
        username: Whose data it is about.
        user_id: Their ID.
        token: What the request carried.
        access: What that stands for, once `Api.authorize` has looked.
    """

    username: str
    user_id: str
    token: str = ""
    access: Document = field(default_factory=dict)

    @property
    def personal(self) -> bool:
        """Whether it is the user."""
        return self.access.get("type") == "personal"

    @property
    def mine(self) -> Document:
        """The part of a query that finds the user's documents."""
        return {"userId": self.user_id}


class Api:
    """The methods.

    Args:
        store: What the core keeps.
        config: The configuration of core, or of hfs or preview, which need no more than to authorize.
        service: The platform's service information.
        notify: Called with a user's name and what changed.
    """

    def __init__(
        self, store: Store, config: c.Config, service: Mapping[str, Any], notify: Notify = lambda _user, _what: None
    ) -> None:
        """Reads nothing yet."""
        self.store, self.service, self._notify = store, service, notify
        self._auth: Mapping[str, Any] = config.get("auth", {})
        self._audited = bool(c.lookup(config, "audit.active"))
        self._methods: dict[str, Callable[[Context, Any], Document]] = {
            "getAccessInfo": self.access_info,
            "callBatch": self.batch,
            "service.info": lambda _context, _params: dict(self.service),
            "accesses.get": self.accesses_get,
            "accesses.create": self.accesses_create,
            "accesses.delete": self.accesses_delete,
            "accesses.checkApp": self.accesses_check_app,
            "account.get": self.account_get,
            "account.changePassword": self.change_password,
            "auth.logout": self.logout,
            "events.get": self.events_get,
            "events.getOne": self.events_get_one,
            "events.create": self.events_create,
            "events.update": self.events_update,
            "events.delete": self.events_delete,
            "events.deleteAttachment": self.events_delete_attachment,
            "profile.getPublic": lambda context, _params: self._profile(context, "public"),
            "profile.get": self.profile_get,
            "profile.update": self.profile_update,
            "profile.getApp": self.profile_get_app,
            "profile.updateApp": self.profile_update_app,
            "streams.get": self.streams_get,
            "streams.create": self.streams_create,
            "streams.update": self.streams_update,
            "streams.delete": self.streams_delete,
            "webhooks.get": self.webhooks_get,
            "webhooks.create": self.webhooks_create,
            "webhooks.delete": self.webhooks_delete,
        }

    # Who calls

    def context(self, username: str, token: str = "") -> Context:
        """A user's context.

        Raises:
            ApiError: There is no such user.
        """
        user_id = self.store.find_user(username.lower())
        if user_id is None:
            raise unknown_resource("user", username)
        return Context(username.lower(), user_id, token)

    def authorize(self, context: Context, access_id: str = "") -> Context:
        """Finds the access of a context by its token, or by its ID.

        Raises:
            ApiError: There is none, or it or its session has expired.
        """
        if not context.token and not access_id:
            raise ApiError(
                401,
                "invalid-access-token",
                'The access token is missing: expected an "Authorization" header or an "auth" query string parameter.',
            )
        query = {"id": access_id} if access_id else {"token": context.token}
        found = [access for access in self.store.find("accesses", {**context.mine, **query}) if "deleted" not in access]
        if not found:
            raise ApiError(403, "invalid-access-token", "Cannot find access from token.")
        context.access = found[0]
        if context.access.get("expires") is not None and time.time() > context.access["expires"]:
            raise forbidden("Access has expired.")
        if context.personal:
            self._touch(context.access["token"])
        return context

    def _touch(self, token: str) -> None:
        """Keeps a session alive (components/storage/src/Sessions.js)."""
        now = time.time() * 1000
        session = [one for one in self.store.find("sessions", {"id": token}) if one["expires"] > now]
        if not session:
            self.store.delete("sessions", {"id": token})
            raise ApiError(403, "invalid-access-token", "Access session has expired.")
        # The real program writes each time.
        if session[0]["expires"] < now + 0.99 * self._session_age:
            self.store.update("sessions", {"id": token}, {"expires": now + self._session_age})

    @property
    def _session_age(self) -> float:
        return float(self._auth.get("sessionMaxAge") or TWO_WEEKS)

    # Calls

    def call(self, context: Context, method: str, params: Any) -> Document:
        """Calls a method.

        Args:
            context: Who calls.
            method: Such as `events.get`.
            params: Its parameters, JSON-able.

        Returns:
            What it gives.

        Raises:
            ApiError: It refuses.
        """
        act = self._methods.get(method)
        if act is None:
            raise ApiError(404, "invalid-method", f'Invalid method id "{method}"')
        error = None
        try:
            return act(context, {} if params is None else params)
        except ApiError as refusal:
            error = refusal
            raise
        finally:
            if method != "callBatch":
                self._audit(context, method, error)

    def _audit(self, context: Context, method: str, error: ApiError | None) -> None:
        """Writes to the user's audit trail (components/audit/src/Audit.js)."""
        if not self._audited:
            return
        content = {"action": method, **({"error": error.public} if error else {})}
        access = context.access.get("id", "invalid")
        self.store.audit(
            context.user_id,
            {
                "type": "audit-log/pryv-api-error" if error else "audit-log/pryv-api",
                "streamIds": [f":_audit:access-{access}", f":_audit:action-{method}"],
                "content": content,
            },
        )

    def batch(self, context: Context, calls: Any) -> Document:
        """Calls methods in turn (methods/utility.js); an error ends none of those that follow."""
        if not isinstance(calls, list):
            raise invalid_parameters({"code": "INVALID_TYPE", "message": "Expected type array", "path": "#/"})
        results: list[Document] = []
        for call in calls:
            try:
                method, params = parts(call, "method", "params")
                results.append(self.call(context, str(method), params))
            except ApiError as error:
                results.append({"error": error.public})
        return {"results": results}

    def access_info(self, context: Context, _params: Any) -> Document:
        """What a token stands for (methods/utility.js)."""
        shown = {name: value for name, value in context.access.items() if name != "userId" and value is not None}
        return {**shown, "user": {"username": context.username}}

    # Users

    def add_user(self, username: str, password: str, fields: Mapping[str, str], app_id: str = "") -> str:
        """Keeps a new user (components/business/src/users/repository.js).

        Args:
            username: Their name.
            password: Their password, or a hash of it as `digest` makes it.
            fields: Their account, by the names of its streams.
            app_id: Which app registers them; they get a session for it.

        Returns:
            The token of that session; empty without one.

        Raises:
            ApiError: There is a user of that name.
        """
        user_id = new_id()
        try:
            self.store.add_user(username, user_id, {name: fields[name] for name in UNIQUE if name in fields})
        except ExistsError as error:
            raise ApiError(
                409, "item-already-exists", f'A user with username "{username}" already exists', {"username": username}
            ) from error
        self.store.set_password(user_id, password)
        now = time.time()
        for name, value in fields.items():
            event = {
                "type": ACCOUNT.get(name, "identifier/string"),
                "streamIds": [f":_system:{name}", ":_system:active"],
                "content": value,
            }
            tracking = {"time": now, "created": now, "createdBy": SYSTEM, "modified": now, "modifiedBy": SYSTEM}
            self.store.insert("events", {"id": new_id(), "userId": user_id, **event, **tracking})
        return self._open_session(Context(username, user_id), app_id) if app_id else ""

    def login(self, context: Context, params: Mapping[str, Any], origin: str) -> Document:
        """Opens a session (methods/auth/login.js).

        Args:
            context: Whose name the request carries.
            params: `username`, `password` and `appId`.
            origin: Where the page that asks comes from.

        Raises:
            ApiError: It is another user's name, a wrong password, or an app that is not trusted.
        """
        app = str(params["appId"])
        if not is_trusted(str(self._auth.get("trustedApps", "")), app, origin):
            raise ApiError(401, "invalid-credentials", 'The app id ("appId") is either missing or not trusted.')
        if context.username != str(params["username"]).lower():
            raise invalid_operation("The username in the path does not match that of the credentials.")
        if not self.store.check_password(context.user_id, digest(str(params["password"]))):
            raise ApiError(401, "invalid-credentials", "The given username/password pair is invalid.")
        token = self._open_session(context, app)
        language = self.account_get(context, {}, check=False)["account"].get("language", "en")
        return {"token": token, "apiEndpoint": self.endpoint(context.username, token), "preferredLanguage": language}

    def _open_session(self, context: Context, app: str) -> str:
        now = time.time()
        data = {"username": context.username, "appId": app}
        alive = [one for one in self.store.find("sessions", {"data": data}) if one["expires"] > now * 1000]
        token = str(alive[0]["id"]) if alive else new_id()
        if not alive:
            self.store.insert("sessions", {"id": token, "data": data, "expires": now * 1000 + self._session_age})
        query = {**context.mine, "name": app, "type": "personal"}
        changed = {"token": token, "modified": now, "modifiedBy": SYSTEM}
        if not self.store.update("accesses", query, changed):
            self.store.insert("accesses", {"id": new_id(), **query, "created": now, "createdBy": SYSTEM, **changed})
        return token

    def logout(self, context: Context, _params: Any) -> Document:
        """Ends the session."""
        self.store.delete("sessions", {"id": context.token})
        return {}

    def endpoint(self, username: str, token: str) -> str:
        """The URL by which an access reaches its user's data."""
        scheme, rest = self.service["api"].replace("{username}", username).split("://")
        return f"{scheme}://{token}@{rest}"

    def account_get(self, context: Context, _params: Any, check: bool = True) -> Document:
        """The account (methods/account.js)."""
        if check:
            _require_personal(context)
        account = {"username": context.username}
        for event in self.store.find("events", context.mine):
            for stream in event.get("streamIds", ()):
                if stream.startswith(":_system:") and stream not in (":_system:active", ":_system:unique"):
                    account[stream.removeprefix(":_system:")] = event["content"]
        return {"account": account}

    def change_password(self, context: Context, params: Any) -> Document:
        """Replaces the password."""
        _require_personal(context)
        validate(params, {"oldPassword": Kind((str,), required=True), "newPassword": PASSWORD})
        if not self.store.check_password(context.user_id, digest(params["oldPassword"])):
            raise invalid_operation("The given password does not match.")
        self.check_new_password(params["newPassword"])
        self.store.set_password(context.user_id, digest(params["newPassword"]))
        return {}

    def check_new_password(self, password: str) -> None:
        """Refuses a password that breaks the platform's rules (components/business/src/users/passwordRules.js)."""
        shortest, categories = (
            int(self._auth.get(f"passwordComplexity{name}") or 0) for name in ("MinLength", "MinCharCategories")
        )
        found = sum(bool(re.search(pattern, password)) for pattern in ("[a-z]", "[A-Z]", "[0-9]", "[^a-zA-Z0-9]"))
        problem = ""
        if len(password) < shortest:
            problem = f"Password is {len(password)} characters long, but at least {shortest} are required"
        elif found < categories:
            problem = f"Password contains characters from {found} categories, but at least {categories} are required"
        if problem:
            message = f"The new password does not follow complexity rules: {problem}"
            raise ApiError(400, "invalid-parameters-format", message, [problem])

    # Profiles, where mfa keeps who has a second factor (methods/profile.js)

    def _profile(self, context: Context, identity: str) -> Document:
        found = self.store.find("profile", {**context.mine, "id": identity})
        return {"profile": found[0]["data"] if found else {}}

    def _set_profile(self, context: Context, identity: str, update: Any) -> Document:
        validate(update, {}, closed=False)
        data = {**self._profile(context, identity)["profile"], **update}
        data = {name: value for name, value in data.items() if value is not None}
        if not self.store.update("profile", {**context.mine, "id": identity}, {"data": data}):
            self.store.insert("profile", {**context.mine, "id": identity, "data": data})
        return {"profile": data}

    def profile_get(self, context: Context, params: Any) -> Document:
        """The public or the private profile."""
        _require_personal(context)
        return self._profile(context, parts(params, "id")[0])

    def profile_update(self, context: Context, params: Any) -> Document:
        """Sets keys of such a profile; null removes one."""
        _require_personal(context)
        return self._set_profile(context, *parts(params, "id", "update"))

    def profile_get_app(self, context: Context, _params: Any) -> Document:
        """An app's own profile."""
        return self._profile(context, _app_name(context))

    def profile_update_app(self, context: Context, params: Any) -> Document:
        """Sets keys of an app's own profile."""
        return self._set_profile(context, _app_name(context), parts(params, "update")[0])

    # Accesses (methods/accesses.js)

    def accesses_get(self, context: Context, params: Any) -> Document:
        """Accesses: all for the user, those that it made for an app."""
        _require_no_shared(context)
        found = [
            self._shown(context, access)
            for access in self.store.find("accesses", context.mine)
            if "deleted" not in access
            and (context.personal or access["createdBy"] == context.access["id"])
            and (params.get("includeExpired") or (access.get("expires") or time.time()) >= time.time())
        ]
        return {"accesses": found}

    def accesses_create(self, context: Context, params: Any) -> Document:
        """Makes an access, and the streams that it names."""
        _require_no_shared(context)
        access = {"type": "shared", **validate(params, ACCESS_CREATE)}
        if access["type"] == "personal":
            raise forbidden("Personal accesses are created automatically on login.")
        for permission in access["permissions"]:
            _check_permission(permission)
        if not self._may_create(context, access):
            raise forbidden("Your access token has insufficient permissions to create this new access.")
        after = access.pop("expireAfter", None)
        if after is not None:
            if after < 0:
                raise ApiError(400, "invalid-parameters-format", "expireAfter cannot be negative.")
            access["expires"] = time.time() + after
        if context.personal:
            for permission in access["permissions"]:
                self._ensure_stream(context, permission)
        access["permissions"] = [
            {name: value for name, value in permission.items() if name not in ("defaultName", "name")}
            for permission in access["permissions"]
        ]
        access = {**access, "deviceName": None if access["type"] == "shared" else access.get("deviceName")}
        for other in self.store.find("accesses", context.mine):
            _refuse_same_access(access, other)
        access = {"id": new_id(), "token": new_id(), **access, **context.mine, **_created(context)}
        self.store.insert("accesses", access)
        self._notify(context.username, ACCESSES)
        return {"access": self._shown(context, access)}

    def accesses_delete(self, context: Context, params: Any) -> Document:
        """Ends an access, and those that it made."""
        (identity,) = parts(params, "id")
        found = self._accesses(context, {"id": identity})
        if not found:
            raise unknown_resource("access", str(identity))
        itself = identity == context.access["id"]
        if not (context.personal or itself or found[0]["createdBy"] == context.access["id"]):
            raise forbidden("Your access token has insufficient permissions to delete this access.")
        related = [
            {"id": one["id"]} for one in self._accesses(context, {"createdBy": identity}) if one["id"] != identity
        ]
        for gone in ({"id": identity}, *related):
            self.store.update("accesses", {**context.mine, **gone}, {"deleted": time.time()})
        self._notify(context.username, ACCESSES)
        return {"accessDeletion": {"id": identity}, **({"relatedDeletions": related} if related else {})}

    def accesses_check_app(self, context: Context, params: Any) -> Document:
        """Whether an app has the access that it asks for."""
        _require_personal(context)
        app, permissions = parts(params, "requestingAppId", "requestedPermissions")
        query = {"type": "app", "name": app, "deviceName": params.get("deviceName")}
        wanted = {one.get("streamId"): one.get("level") for one in permissions}
        found = self._accesses(context, query)
        if found and wanted == {one.get("streamId"): one.get("level") for one in found[0]["permissions"]}:
            return {"matchingAccess": self._shown(context, found[0])}
        checked = []
        streams = {stream["id"]: stream for stream in self.store.find("streams", context.mine)}
        for permission in permissions:
            known = streams.get(permission.get("streamId"))
            if permission.get("streamId") != "*" and "defaultName" not in permission:
                raise invalid_parameters(
                    {"code": "MISSING", "message": "defaultName", "path": "#/requestedPermissions"}
                )
            named = {"name": known["name"]} if known else {"defaultName": permission.get("defaultName")}
            bare = {name: value for name, value in permission.items() if name != "defaultName"}
            checked.append(bare if permission.get("streamId") == "*" else {**bare, **named})
        mismatch = {"mismatchingAccess": self._shown(context, found[0])} if found else {}
        return {**mismatch, "checkedPermissions": checked}

    def _accesses(self, context: Context, query: Document) -> list[Document]:
        return [one for one in self.store.find("accesses", {**context.mine, **query}) if "deleted" not in one]

    def _shown(self, context: Context, access: Document) -> Document:
        shown = {name: value for name, value in access.items() if name != "userId" and value is not None}
        return {**shown, "apiEndpoint": self.endpoint(context.username, access["token"])}

    def _may_create(self, context: Context, access: Document) -> bool:
        if context.personal:
            return True
        streams = [one for one in access["permissions"] if one.get("streamId") is not None]
        mine = [(self.level(context, one["streamId"]), one["level"]) for one in streams]
        return (
            access["type"] == "shared"
            and bool(mine)
            and all(own not in (None, "create-only") and LEVELS[str(own)] >= LEVELS[asked] for own, asked in mine)
        )

    def _ensure_stream(self, context: Context, permission: Document) -> None:
        stream, name = permission.get("streamId"), permission.get("defaultName")
        if stream in (None, "*") or name is None:
            return
        found = self.store.find("streams", {**context.mine, "id": stream})
        if found and not found[0].get("trashed"):
            return
        if found:
            self.store.update("streams", {**context.mine, "id": stream}, {"trashed": False})
        else:
            self._add_stream(context, {"id": stream, "name": name, "parentId": None})

    def levels(self, context: Context) -> Callable[[str | None], str | None]:
        """What an access may do with a stream: its own permission, that of the next one above it, or that of all."""
        if context.personal:
            return lambda _stream: "manage"
        levels = {one["streamId"]: one["level"] for one in context.access["permissions"] if one.get("streamId")}
        parents = {one["id"]: one.get("parentId") for one in self.store.find("streams", context.mine)}

        def level(stream: str | None) -> str | None:
            while stream not in (None, "*"):
                if stream in levels:
                    return str(levels[stream])
                stream = parents.get(stream)
            found = levels.get("*")
            return None if found is None else str(found)

        return level

    def level(self, context: Context, stream: str | None) -> str | None:
        """What an access may do with one stream."""
        return self.levels(context)(stream)

    def reader(self, context: Context) -> Callable[[Iterable[str]], bool]:
        """Whether an access may read what is in one of some streams."""
        level = self.levels(context)
        return lambda streams: any(level(stream) not in (None, "none", "create-only") for stream in streams)

    def may_read(self, context: Context, streams: Iterable[str]) -> bool:
        """Whether an access may read events of one of some streams."""
        return self.reader(context)(streams)

    def may_create(self, context: Context, stream: str) -> bool:
        """Whether an access may make events in a stream."""
        return LEVELS[self.level(context, stream) or "none"] >= LEVELS["contribute"]

    def may_update(self, context: Context, stream: str) -> bool:
        """Whether an access may change events of a stream."""
        return self.level(context, stream) in ("contribute", "manage")

    # Streams (methods/streams.js)

    def streams_get(self, context: Context, params: Any) -> Document:
        """The streams that an access may see, as trees."""
        kinds = {"parentId": TEXT, "id": TEXT, "state": TEXT, "includeDeletionsSince": NUMBER}
        validate(params, kinds, closed=False)
        found = [one for one in self.store.find("streams", context.mine) if "deleted" not in one]
        if params.get("state") != "all":
            found = [one for one in found if not one.get("trashed")]
        readable = self.reader(context)
        seen = [one for one in found if readable([one["id"]])]
        root = params.get("parentId") or params.get("id")
        if root is not None and root not in {one["id"] for one in seen}:
            raise forbidden(f"Insufficient permissions or non-existant stream [{root}]")
        streams = _trees(seen, params.get("parentId"))
        if params.get("id"):
            streams = [one for one in _flat(streams) if one["id"] == params["id"]]
        result: Document = {"streams": streams}
        if params.get("includeDeletionsSince") is not None:
            result["streamDeletions"] = [
                {"id": one["id"], "deleted": one["deleted"]}
                for one in self.store.find("streams", context.mine)
                if one.get("deleted", 0) > params["includeDeletionsSince"]
            ]
        return result

    def streams_create(self, context: Context, params: Any) -> Document:
        """Makes a stream."""
        stream = {"parentId": None, **validate(params, STREAM_CREATE)}
        _refuse_system_stream(stream)
        if self.level(context, stream["parentId"]) != "manage":
            raise forbidden()
        self._check_parent(context, stream)
        if "id" in stream:
            slug = re.sub(r"[^a-z0-9-]+", "-", stream["id"].lower()).strip("-")
            if slug in ("", "null", "undefined", "*", "true", "false"):
                raise ApiError(400, "invalid-item-id", f'The specified id "{stream["id"]}" is not allowed.')
            stream["id"] = slug
        stream = self._add_stream(context, {name: value for name, value in stream.items() if name != "children"})
        return {"stream": {**stream, "children": []}}

    def streams_update(self, context: Context, params: Any) -> Document:
        """Changes a stream."""
        identity, update = parts(params, "id", "update")
        _refuse_system_stream({"id": identity})
        validate(update, STREAM_UPDATE)
        _refuse_protected(update, {"name", "parentId", "clientData", "trashed"})
        stream = self._stream(context, identity)
        if self.level(context, identity) != "manage":
            raise forbidden()
        if update.get("parentId") == identity:
            raise invalid_operation('The provided "parentId" is the same as the stream\'s "id".', update)
        self._check_parent(context, {**stream, **update})
        self._refuse_sibling(context, {**stream, **update})
        update = {**update, **_modified(context)}
        self.store.update("streams", {**context.mine, "id": identity}, update)
        self._notify(context.username, STREAMS)
        return {"stream": _bare({**stream, **update})}

    def streams_delete(self, context: Context, params: Any) -> Document:
        """Marks a stream as trash; removes one that is trash, with those below."""
        (identity,) = parts(params, "id")
        _refuse_system_stream({"id": identity})
        stream = self._stream(context, identity)
        if self.level(context, identity) != "manage":
            raise forbidden()
        if not stream.get("trashed"):
            update = {"trashed": True, **_modified(context)}
            self.store.update("streams", {**context.mine, "id": identity}, update)
            self._notify(context.username, STREAMS)
            return {"stream": _bare({**stream, **update})}
        gone = {one["id"] for one in _flat(_trees(self._all_streams(context), identity))} | {identity}
        updated = self._unlink(context, gone, stream.get("parentId"), params.get("mergeEventsWithParent"))
        for one in gone:
            self.store.delete("streams", {**context.mine, "id": one})
            self.store.insert("streams", {**context.mine, "id": one, "deleted": time.time()})
        self._notify(context.username, STREAMS)
        return {"streamDeletion": {"id": identity}, **({"updatedEvents": updated} if updated else {})}

    def _unlink(self, context: Context, gone: set[str], parent: str | None, merge: Any) -> list[Document]:
        """Takes events out of streams that are about to go."""
        merge = {"true": True, "false": False}.get(merge, merge) if isinstance(merge, str) else merge
        linked = [one for one in self._all_events(context) if gone & set(one["streamIds"])]
        if merge and parent is None:
            message = (
                "Deleting a root stream with mergeEventsWithParent=true is rejected since there is no parent stream"
            )
            raise invalid_operation(f"{message} to merge linked events in.")
        if linked and merge is None:
            message = (
                "There are events referring to the deleted items and the `mergeEventsWithParent` parameter is missing."
            )
            raise ApiError(400, "invalid-parameters-format", message)
        updated = []
        for event in linked:
            left = [one for one in event["streamIds"] if one not in gone]
            if merge and parent not in left:
                left.append(str(parent))
            if left:
                self.store.update("events", {**context.mine, "id": event["id"]}, {"streamIds": left})
            else:
                self._remove_event(context, event["id"])
            action = "mergedToParent" if merge else "updatedStreamIds" if left else "deleted"
            updated.append({"action": action, "id": event["id"]})
        return updated

    def _all_streams(self, context: Context) -> list[Document]:
        return [one for one in self.store.find("streams", context.mine) if "deleted" not in one]

    def _stream(self, context: Context, identity: str) -> Document:
        found = [one for one in self._all_streams(context) if one["id"] == identity]
        if not found:
            raise unknown_resource("stream", str(identity))
        return found[0]

    def _check_parent(self, context: Context, stream: Document) -> None:
        parent = stream.get("parentId")
        if parent is None:
            return
        found = [one for one in self._all_streams(context) if one["id"] == parent]
        if not found:
            raise ApiError(
                400,
                "unknown-referenced-resource",
                f'Unknown referenced unknown Stream: "{parent}"',
                {"parentId": parent},
            )
        if found[0].get("trashed"):
            raise invalid_operation("parent stream is trashed")

    def _refuse_sibling(self, context: Context, stream: Document) -> None:
        for other in self._all_streams(context):
            if other["id"] == stream.get("id"):
                continue
            if (other["name"], other.get("parentId")) == (stream["name"], stream.get("parentId")):
                text = f'A sibling stream with name "{stream["name"]}" already exists'
                raise ApiError(409, "item-already-exists", text, {"name": stream["name"]})

    def _add_stream(self, context: Context, stream: Document) -> Document:
        self._refuse_sibling(context, stream)
        stream = {"id": new_id(), **stream, **_created(context)}
        if stream["id"] in {one["id"] for one in self._all_streams(context)}:
            text = f'A stream with id "{stream["id"]}" already exists'
            raise ApiError(409, "item-already-exists", text, {"id": stream["id"]})
        # One that was deleted may come back.
        self.store.delete("streams", {**context.mine, "id": stream["id"]})
        self.store.insert("streams", {**context.mine, **stream})
        self._notify(context.username, STREAMS)
        return stream

    # Events (methods/events.js)

    def _all_events(self, context: Context) -> list[Document]:
        return [one for one in self.store.find("events", context.mine) if "deleted" not in one]

    def events_get(self, context: Context, params: Any) -> Document:
        """Events, the latest first; the last 20 where nothing else is asked for."""
        validate(params, EVENTS_GET)
        asked, readable = self._streams_asked(context, params.get("streams")), self.reader(context)
        found = [
            one
            for one in self._all_events(context)
            if readable(one["streamIds"]) and asked(one["streamIds"]) and _fits(one, params)
        ]
        found.sort(key=lambda one: one["time"], reverse=not params.get("sortAscending"))
        limit = params.get("limit")
        if limit is None and params.get("fromTime") is None and params.get("toTime") is None:
            limit = 20
        begin = int(params.get("skip") or 0)
        found = found[begin:] if limit is None else found[begin : begin + int(limit)]
        result: Document = {"events": [self.shown_event(context, one) for one in found]}
        if params.get("includeDeletions") and params.get("modifiedSince") is not None:
            result["eventDeletions"] = [
                {"id": one["id"], "deleted": one["deleted"]}
                for one in self.store.find("events", context.mine)
                if one.get("deleted", 0) > params["modifiedSince"]
            ]
        return result

    def _streams_asked(self, context: Context, query: Any) -> Callable[[Sequence[str]], bool]:
        """What a query of streams asks for: IDs, or `any`, `all` and `not` (methods/helpers/streamsQueryUtils.js)."""
        if query is None:
            return lambda _streams: True
        queries = query if isinstance(query, list) else [query]
        texts = [one for one in queries if isinstance(one, str)]
        objects = [one for one in queries if isinstance(one, dict)] + ([{"any": texts}] if texts else [])
        streams = self._all_streams(context)

        def expanded(identity: str) -> set[str]:
            return {identity, *(one["id"] for one in _flat(_trees(streams, identity)))}

        def matches(one: Mapping[str, Any], own: set[str]) -> bool:
            wanted = one.get("any") or ["*"]
            return (
                ("*" in wanted or any(expanded(identity) & own for identity in wanted))
                and all(expanded(identity) & own for identity in one.get("all") or ())
                and not any(expanded(identity) & own for identity in one.get("not") or ())
            )

        return lambda own: any(matches(one, set(own)) for one in objects)

    def event(self, context: Context, identity: str) -> Document:
        """An event.

        Raises:
            ApiError: There is none.
        """
        found = [one for one in self.store.find("events", {**context.mine, "id": identity}) if "deleted" not in one]
        if not found:
            raise unknown_resource("event", identity)
        return found[0]

    def events_get_one(self, context: Context, params: Any) -> Document:
        """An event."""
        event = self.event(context, str(parts(params, "id")[0]))
        if not self.may_read(context, event["streamIds"]):
            raise forbidden()
        return {"event": self.shown_event(context, event)}

    def events_create(self, context: Context, params: Any, files: Sequence[File] = ()) -> Document:
        """Makes an event, with files where they come over HTTP."""
        event = dict(validate(params, EVENT_CREATE))
        event.pop("files", None)
        if "streamId" not in event and "streamIds" not in event:
            message = "Data does not match any schemas from 'anyOf'"
            raise invalid_parameters({"code": "ANY_OF_MISSING", "message": message, "path": "#/"})
        self._set_streams(context, event)
        for stream in event["streamIds"]:
            if not self.may_create(context, stream):
                raise forbidden()
        event = {"id": new_id(), "time": time.time(), **event, "tags": event.get("tags") or [], **_created(context)}
        if event["type"].startswith("series:"):
            if "content" in event:
                message = "Events of type High-frequency have a read-only content"
                raise ApiError(400, "invalid-parameters-format", "The event content's format is invalid.", message)
            element = event["type"].removeprefix("series:")
            event |= {"content": {"elementType": element, "fields": ["value"], "required": ["value"]}, "duration": 0}
        if self.store.find("events", {**context.mine, "id": event["id"]}):
            text = f'An event with id "{event["id"]}" already exists'
            raise ApiError(409, "item-already-exists", text, {"id": event["id"]})
        if files:
            event["attachments"] = [self._keep(context, event["id"], file) for file in files]
        self.store.insert("events", {**context.mine, **event})
        self._notify(context.username, EVENTS)
        return {"event": self.shown_event(context, event)}

    def events_update(self, context: Context, params: Any, files: Sequence[File] = ()) -> Document:
        """Changes an event, or adds files to it."""
        identity, update = parts(params, "id", "update")
        update = dict(validate(update, EVENT_UPDATE))
        _refuse_protected(update, EVENT_ALTERABLE)
        if "streamId" in update or "streamIds" in update:
            self._set_streams(context, update)
        event = self.event(context, str(identity))
        moved = set(update.get("streamIds") or event["streamIds"]) ^ set(event["streamIds"])
        if not any(self.may_update(context, one) for one in event["streamIds"]) or not all(
            self.may_update(context, one) for one in moved
        ):
            raise forbidden()
        if event["type"].startswith("series:") != str(update.get("type", event["type"])).startswith("series:"):
            raise invalid_operation("Normal events cannot be updated to HF-events and vice versa.")
        if update.get("clientData") is not None:
            merged = {**(event.get("clientData") or {}), **update["clientData"]}
            update["clientData"] = {name: value for name, value in merged.items() if value is not None}
        if files:
            added = [self._keep(context, event["id"], file) for file in files]
            update["attachments"] = [*event.get("attachments", ()), *added]
        update |= _modified(context)
        self.store.update("events", {**context.mine, "id": event["id"]}, update)
        self._notify(context.username, EVENTS)
        return {"event": self.shown_event(context, {**event, **update})}

    def events_delete(self, context: Context, params: Any) -> Document:
        """Marks an event as trash; removes one that is trash."""
        event = self.event(context, str(parts(params, "id")[0]))
        if not any(self.may_update(context, one) for one in event["streamIds"]):
            raise forbidden()
        if not event.get("trashed"):
            update = {"trashed": True, **_modified(context)}
            self.store.update("events", {**context.mine, "id": event["id"]}, update)
            self._notify(context.username, EVENTS)
            return {"event": self.shown_event(context, {**event, **update})}
        self._remove_event(context, event["id"])
        self._notify(context.username, EVENTS)
        return {"eventDeletion": {"id": event["id"]}}

    def events_delete_attachment(self, context: Context, params: Any) -> Document:
        """Takes a file from an event."""
        identity, file = parts(params, "id", "fileId")
        event = self.event(context, str(identity))
        if not any(self.may_update(context, one) for one in event["streamIds"]):
            raise forbidden()
        left = [one for one in event.get("attachments", ()) if one["id"] != file]
        if len(left) == len(event.get("attachments", ())):
            raise unknown_resource("attachment", str(file))
        self.store.update("events", {**context.mine, "id": identity}, {"attachments": left, **_modified(context)})
        self._notify(context.username, EVENTS)
        return self.events_get_one(context, {"id": identity})

    def _remove_event(self, context: Context, identity: str) -> None:
        self.store.delete("events", {**context.mine, "id": identity})
        self.store.insert("events", {**context.mine, "id": identity, "deleted": time.time()})
        self.store.delete_attachments(context.user_id, identity)

    def _set_streams(self, context: Context, event: Document) -> None:
        """Makes `streamIds` of both ways to name them, and looks whether they are there."""
        if "streamId" in event and "streamIds" in event:
            raise invalid_operation("It is forbidden to provide both streamId and streamIds.")
        streams = [event.pop("streamId")] if "streamId" in event else list(dict.fromkeys(event["streamIds"]))
        if not streams or not all(isinstance(one, str) for one in streams):
            raise invalid_parameters({"code": "INVALID_TYPE", "message": "Expected texts", "path": "#/streamIds"})
        known = {one["id"]: one for one in self._all_streams(context)}
        missing = [one for one in streams if one not in known]
        if missing:
            text = f'Unknown referenced stream "{chr(34).join(missing)}"'
            raise ApiError(400, "unknown-referenced-resource", text, {"streamIds": missing})
        trashed = [one for one in streams if known[one].get("trashed")]
        if trashed:
            text = f'The referenced streams "{",".join(trashed)}" are trashed.'
            raise invalid_operation(text, {"trashedReference": "streamIds"})
        event["streamIds"] = streams

    def _keep(self, context: Context, event: str, file: File) -> Document:
        identity = new_id()
        self.store.write_attachment(context.user_id, event, identity, file.content)
        return {"id": identity, "fileName": file.name, "type": file.type, "size": len(file.content)}

    def shown_event(self, context: Context, event: Document) -> Document:
        """An event as clients get it: with the first of its streams, and a token to read each file by."""
        shown = {name: value for name, value in event.items() if name not in ("userId", "_id")}
        shown["streamId"] = event["streamIds"][0]
        if "attachments" in event:
            access = context.access
            shown["attachments"] = [
                {**one, "readToken": f"{access['id']}-{self.file_hmac(one['id'], access['token'])}"}
                for one in event["attachments"]
            ]
        return shown

    def file_hmac(self, file: str, token: str) -> str:
        """What proves that an access may read a file (components/utils/src/encryption.js)."""
        key = str(self._auth.get("filesReadTokenSecret", "")).encode()
        text = base64.b64encode(hmac.new(key, f"{file}-{token}".encode(), hashlib.sha1).digest())
        return text.decode().replace("/", "_").replace("+", "-").rstrip("=")

    # Webhooks (methods/webhooks.js)

    def webhooks_get(self, context: Context, _params: Any) -> Document:
        """Webhooks: all for the user, its own for an app."""
        found = self.store.find("webhooks", context.mine)
        mine = [_bare(one) for one in found if context.personal or one["accessId"] == context.access["id"]]
        return {"webhooks": mine}

    def webhooks_create(self, context: Context, params: Any) -> Document:
        """Has changes told to a URL."""
        if context.personal:
            raise forbidden("You cannot access webhooks.create resource using the given access")
        validate(params, {"url": Kind((str,), re.compile(r"https?://.+"), required=True)}, closed=False)
        if self.store.find("webhooks", {**context.mine, "accessId": context.access["id"], "url": params["url"]}):
            text = f'A webhook with url "{params["url"]}" already exists'
            raise ApiError(409, "item-already-exists", text, {"url": params["url"]})
        webhook = {
            "id": new_id(),
            "accessId": context.access["id"],
            "url": params["url"],
            "runCount": 0,
            "failCount": 0,
            "lastRun": {"status": 0, "timestamp": 0},
            "runs": [],
            "state": "active",
            "currentRetries": 0,
            "maxRetries": 5,
            "minIntervalMs": 5000,
            **_created(context),
        }
        self.store.insert("webhooks", {**context.mine, **webhook})
        return {"webhook": webhook}

    def webhooks_delete(self, context: Context, params: Any) -> Document:
        """Ends that."""
        (identity,) = parts(params, "id")
        found = self.store.find("webhooks", {**context.mine, "id": identity})
        if not found:
            raise unknown_resource("webhook", str(identity))
        if not context.personal and found[0]["accessId"] != context.access["id"]:
            raise forbidden()
        self.store.delete("webhooks", {**context.mine, "id": identity})
        return {"webhookDeletion": {"id": identity}}


def digest(password: str) -> str:
    """What is kept of a password: what the registry hands over when it creates a user itself."""
    return hashlib.sha256(password.encode()).hexdigest()


def is_trusted(trusted: str, app: str, origin: str) -> bool:
    """Whether an app at an origin may log users in (methods/helpers/commonFunctions.js).

    Args:
        trusted: `app@origin` of each, with commas between; `*` stands for anything.
        app: The app's ID.
        origin: What the request's header `Origin` or `Referer` says.
    """
    for pair in trusted.split(","):
        found = re.fullmatch(r"\s*(\S+)\s*@\s*(\S+)\s*", pair)
        origins = re.escape(found[2]).replace(r"\*", r"\S*") if found and app and found[1] in (app, "*") else None
        if origins is not None and re.fullmatch(origins, origin):
            return True
    return False


def _require_personal(context: Context) -> None:
    if not context.personal:
        raise forbidden("You cannot access this resource using the given access token.")


def _require_no_shared(context: Context) -> None:
    if context.access.get("type") == "shared":
        raise forbidden("You cannot access this resource using the given access")


def _app_name(context: Context) -> str:
    if context.access.get("type") != "app":
        raise invalid_operation("This resource is only available to app accesses.")
    return str(context.access["name"])


def _refuse_system_stream(stream: Document) -> None:
    for name in ("id", "parentId"):
        if str(stream.get(name) or "").startswith((":_system:", ":system:")):
            raise invalid_operation("It is forbidden to modify system streams.")


def _refuse_protected(update: Document, alterable: set[str]) -> None:
    protected = [name for name in update if name not in alterable]
    if protected:
        fields = ",".join(protected)
        raise forbidden(f"Forbidden update was attempted on the following protected field(s): [{fields}].")


def _check_permission(permission: Any) -> None:
    if not isinstance(permission, dict) or not (
        ("streamId" in permission and permission.get("level") in LEVELS)
        or ("feature" in permission and "setting" in permission)
    ):
        raise invalid_parameters({"code": "ONE_OF_MISSING", "message": "Invalid permission", "path": "#/permissions"})


def _refuse_same_access(access: Document, other: Document) -> None:
    if "deleted" in other:
        return
    if access.get("token") is not None and access["token"] == other["token"]:
        raise ApiError(
            409, "item-already-exists", 'An access with token "(hidden)" already exists', {"token": "(hidden)"}
        )
    keys = {name: access.get(name) for name in ("type", "name", "deviceName")}
    if keys == {name: other.get(name) for name in keys}:
        raise ApiError(409, "item-already-exists", f"An access with {keys} already exists", keys)


def _created(context: Context) -> Document:
    now, access = time.time(), context.access["id"]
    return {"created": now, "createdBy": access, "modified": now, "modifiedBy": access}


def _modified(context: Context) -> Document:
    return {"modified": time.time(), "modifiedBy": context.access["id"]}


def _bare(document: Document) -> Document:
    return {name: value for name, value in document.items() if name not in ("userId", "_id")}


def _trees(streams: Sequence[Document], root: str | None) -> list[Document]:
    """Streams below one, with theirs below them; those whose parent is not among them are at the root."""
    known = {one["id"] for one in streams}

    def parent(stream: Document) -> str | None:
        return stream.get("parentId") if stream.get("parentId") in known else None

    return [
        {**_bare(one), "parentId": parent(one), "children": _trees_below(streams, one["id"])}
        for one in streams
        if parent(one) == root
    ]


def _trees_below(streams: Sequence[Document], root: str) -> list[Document]:
    return [
        {**_bare(one), "children": _trees_below(streams, one["id"])} for one in streams if one.get("parentId") == root
    ]


def _flat(trees: Iterable[Document]) -> list[Document]:
    return [one for tree in trees for one in (tree, *_flat(tree["children"]))]


def _fits(event: Document, params: Mapping[str, Any]) -> bool:
    """Whether an event is of the kind and the time that are asked for."""
    state = params.get("state", "default")
    if state != "all" and bool(event.get("trashed")) != (state == "trashed"):
        return False
    begin, end = params.get("fromTime"), params.get("toTime")
    until = event["time"] + (event.get("duration") or 0)
    if (begin is not None and until < begin) or (end is not None and event["time"] > end):
        return False
    since = params.get("modifiedSince")
    if since is not None and event["modified"] <= since:
        return False
    types = params.get("types")
    return not types or any(
        event["type"] == one or (one.endswith("/*") and event["type"].startswith(one[:-1])) for one in types
    )
