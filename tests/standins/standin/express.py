"""How Express finds the route of a request, and what the services of a core share in their answers.

As in the real programs: the pathname as `parseurl` and Node's `url.parse` find it (npm parseurl, index.js), routes as
Express 4 matches them (npm path-to-regexp 0.1, index.js: neither case nor a slash at the end matters), the user's name
put before the path (pryv/service-core, components/middleware/src/subdomainToPath.js; pryv/service-mfa,
src/middlewares/subdomainToPath.js), bodies (body-parser in components/api-server/src/expressApp.js), headers
(components/middleware/src/commonHeaders.js) and errors (components/errors/src/factory.js).
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from .web import Request, Response

VERSION = "1.9.2"
MEGABYTE = 1 << 20
#: What a text may hold that `parseurl` leaves to `url.parse`, which takes it apart otherwise.
_NEEDS_FULL_PARSE = re.compile("[\t\n\x0c\r #\xa0\ufeff]")
_USERNAME = re.compile(r"[a-z0-9][a-z0-9-]{3,58}[a-z0-9]")


class ApiError(Exception):
    """An error that goes to the client.

    Args:
        status: HTTP status code.
        identity: Which error it is, such as `forbidden`.
        message: In words.
        data: Details, JSON-able.
    """

    def __init__(self, status: int, identity: str, message: str, data: Any = None) -> None:
        """Keeps all for the answer."""
        super().__init__(message)
        self.status = status
        self.public = {"id": identity, "message": message, **({} if data is None else {"data": data})}


def unknown_resource(what: str = "resource", identity: str = "") -> ApiError:
    """Nothing is there."""
    return ApiError(404, "unknown-resource", f"Unknown {what} " + (f'"{identity}"' if identity else ""))


def forbidden(message: str = "The given token's access permissions do not allow this operation.") -> ApiError:
    """The access does not allow it."""
    return ApiError(403, "forbidden", message)


def invalid_operation(message: str, data: Any = None) -> ApiError:
    """It cannot be done as things are."""
    return ApiError(400, "invalid-operation", message, data)


def invalid_structure(message: str) -> ApiError:
    """The request cannot be read."""
    return ApiError(400, "invalid-request-structure", message)


def invalid_parameters(*problems: Mapping[str, Any]) -> ApiError:
    """Parameters do not follow the schema.

    Args:
        problems: `code`, `message`, `path` of each.
    """
    return ApiError(400, "invalid-parameters-format", "The parameters' format is invalid.", list(problems))


def meta() -> dict[str, Any]:
    """What comes with each answer."""
    return {"apiVersion": VERSION, "serverTime": round(time.time(), 3), "serial": "standin"}


def looks_like_username(text: str) -> bool:
    """Whether a text could be a user's name."""
    return _USERNAME.fullmatch(text.lower()) is not None


def hoisted(request: Request, ignored: Sequence[str] = ()) -> str:
    """The request's target with the user's name of the host name before it.

    Args:
        request: The request.
        ignored: Beginnings of targets that stay as they are.
    """
    first = request.host.split(".")[0]
    if request.target.startswith(tuple(ignored)) or not looks_like_username(first):
        return request.target
    return request.target if request.target.startswith(f"/{first}") else f"/{first}{request.target}"


def pathname(target: str) -> str:
    """What Express takes for the path.

    Only a target with a `#`, a space or their like is read as a URL: there a backslash is a slash, and `#` ends it.
    """
    if target.startswith("/") and not _NEEDS_FULL_PARSE.search(target):
        return target.partition("?")[0]
    return target.strip().partition("?")[0].partition("#")[0].replace("\\", "/") or "/"


class Route:
    """A route as it is written for Express.

    Args:
        method: HTTP method, or `ALL`.
        path: Such as `/:username/events/:id/:file?`; `*` stands for anything.
        handler: Gets the request and the path's parameters.
    """

    def __init__(self, method: str, path: str, handler: Callable[..., Response]) -> None:
        """Compiles the path."""
        self.method, self.handler = method, handler
        pattern = re.sub(r"/:(\w+)\?", r"(?:/(?P<\1>[^/]+?))?", path.rstrip("/") or "")
        pattern = re.sub(r":(\w+)", r"(?P<\1>[^/]+?)", pattern).replace("*", ".*")
        self._pattern = re.compile(f"{pattern}/?", re.IGNORECASE)

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """The path's parameters; None where the route is not for the request.

        Raises:
            ApiError: A parameter is not well encoded.
        """
        found = self._pattern.fullmatch(path)
        if found is None or self.method not in (method, "GET" if method == "HEAD" else method):
            return None
        try:
            return {
                name: _decoded(value).decode() for name, value in found.groupdict(default="").items() if value != ""
            }
        except ValueError as error:
            raise invalid_structure(f"Failed to decode param: {error}") from error


def find(routes: Sequence[Route], method: str, path: str) -> tuple[Route, dict[str, str]]:
    """The first route for a request, and the path's parameters.

    Raises:
        ApiError: There is none.
    """
    for route in routes:
        parameters = route.match(method, path)
        if parameters is not None:
            return route, parameters
    raise unknown_resource()


def _decoded(text: str) -> bytes:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise ValueError(text)
    return unquote_to_bytes(text)


def body_of(request: Request, limit_mb: float = 0.1) -> Any:
    """The body as the parsers for JSON and for forms read it.

    Args:
        request: The request.
        limit_mb: Largest JSON body in MiB.

    Returns:
        What it holds; an empty mapping for a body of another type.

    Raises:
        ApiError: It is too large or no JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.size == 0 or kind not in ("application/json", "application/x-www-form-urlencoded"):
        return {}
    if request.size > (limit_mb * MEGABYTE if kind == "application/json" else 100 << 10):
        raise invalid_structure("request entity too large")
    try:
        text = request.body.decode()
        content = json.loads(text) if kind == "application/json" else dict(parse_qsl(text, keep_blank_values=True))
    except ValueError as error:
        raise invalid_structure(str(error)) from error
    if not isinstance(content, dict | list):
        raise invalid_structure("Unexpected token in JSON")
    return content


def authorization_of(request: Request) -> str:
    """The token of a request (components/middleware/src/getAuth.js); empty where there is none."""
    header = request.headers.get("authorization")
    if header is None:
        return request.query.get("auth", "")
    scheme, _, rest = header.partition(" ")
    if scheme.lower() != "basic" or not rest:
        return header
    try:
        return base64.b64decode(rest).decode("latin-1").partition(":")[0]
    except ValueError:
        return ""


def cross_origin(request: Request) -> dict[str, str]:
    """Headers that let pages of other origins read an answer."""
    asked = request.headers
    return {
        "Access-Control-Allow-Origin": asked.get("origin", "*"),
        "Access-Control-Allow-Methods": asked.get("access-control-request-method", "POST, GET, PUT, DELETE, OPTIONS"),
        "Access-Control-Allow-Headers": asked.get("access-control-request-headers", "Authorization, Content-Type"),
        "Access-Control-Expose-Headers": "API-Version",
        "Access-Control-Max-Age": str(60 * 60 * 24 * 365),
        "Access-Control-Allow-Credentials": "true",
        "API-Version": VERSION,
    }


def answering(act: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Makes of a function that may raise ApiError one that answers what Pryv's services answer.

    Args:
        act: Answers a request; any method but OPTIONS, which needs no service.
    """

    def answer(request: Request) -> Response:
        headers = cross_origin(request)
        if request.method == "OPTIONS":
            return Response(200, "OK", headers)
        try:
            response = act(request)
        except ApiError as error:
            response = failure(error)
        return Response(response.status, response.body, {**headers, **response.headers}, response.takeover)

    return answer


def failure(error: ApiError) -> Response:
    """The answer for an error."""
    return Response(error.status, {"error": error.public, "meta": meta()})


def success(status: int, content: Mapping[str, Any]) -> Response:
    """The answer of a method."""
    return Response(status, {**content, "meta": meta()})
