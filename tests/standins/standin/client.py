"""HTTP requests to other services, with the trust that Node would have."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .process import say


def request(method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
    """Asks another service.

    Args:
        method: HTTP method.
        url: `https://…` or `http://…`. A certificate must come from an authority of the system or of the file that
            NODE_EXTRA_CA_CERTS names.
        body: JSON-able, bytes that are sent as they are, or None for none.
        headers: Additional headers.

    Returns:
        Status and parsed JSON body; None for a body that is no JSON.

    Raises:
        OSError: The service cannot be reached, or its certificate is not trusted.
    """
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.netloc, timeout=10, context=_trust())
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body)
    try:
        connection.request(method, path or "/", sent, {"Content-Type": "application/json", **(headers or {})})
        response = connection.getresponse()
        content = response.read()
    except http.client.HTTPException as error:
        raise OSError(f"{url}: {error!r}") from error
    finally:
        connection.close()
    try:
        return response.status, json.loads(content)
    except ValueError:
        return response.status, None


def load_json(url: str) -> dict[str, Any]:
    """Loads a JSON object from a `file://` or an HTTP URL.

    Raises:
        OSError: It cannot be had.
    """
    try:
        if url.startswith("file://"):
            content = json.loads(Path(url.removeprefix("file://")).read_text(encoding="utf-8"))
        else:
            status, content = request("GET", url)
            if status != 200:
                raise OSError(f"{url} answered {status}")
    except ValueError as error:
        raise OSError(f"{url}: {error}") from error
    if not isinstance(content, dict):
        raise OSError(f"{url} holds no JSON object")
    return content


def until_reached(what: str, attempt: Callable[[], object]) -> None:
    """Tries once a second until an attempt raises no OSError."""
    while True:
        try:
            attempt()
        except OSError as error:
            say(f"Cannot connect to {what}, retrying in a sec: {error}")
            time.sleep(1)
        else:
            return


def _trust() -> ssl.SSLContext:
    context = ssl.create_default_context()
    extra = os.environ.get("NODE_EXTRA_CA_CERTS")
    if extra:
        try:
            context.load_verify_locations(extra)
        except (OSError, ssl.SSLError) as error:
            say(f"Warning: Ignoring extra certs from `{extra}`: {error}")  # as Node does
    return context
