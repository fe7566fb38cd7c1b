"""The HTTP server that all stand-ins share; it writes down every request it gets."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .process import LOG, say

# A larger body is counted but not kept; it is more than a core takes by default.
KEPT_BODY = 32 << 20


@dataclass(frozen=True)
class Request:
    """What a client sent.

    Attributes:
        method: `GET`, `POST`, …
        target: As the client wrote it, with its query.
        path: Without the query.
        query: First value of each parameter.
        headers: Values by lower-case name; repeated headers are joined by a comma.
        body: At most the first KEPT_BODY bytes.
        size: Length of the whole body in bytes.
        seconds: How long the body took to arrive.
        port: Port that the request came in by.
    """

    method: str
    target: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    size: int
    seconds: float
    port: int

    @property
    def host(self) -> str:
        """The Host header."""
        return self.headers.get("host", "")

    @property
    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty when it is none."""
        try:
            content = json.loads(self.body)
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class Response:
    """What goes back: a JSON-able value, text or bytes.

    Attributes:
        status: HTTP status code.
        body: Text is sent as text/plain, bytes as they are, all else as JSON.
        headers: Additional headers; `Content-Type` overrides the one that follows from the body.
        takeover: Called with the connection after a 101; the connection ends with it.
    """

    status: int
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    takeover: Callable[[socket], None] | None = None


Answer = Callable[[Request], Response]


class Recorder:
    """Appends what was received to a file of JSON lines; to the container's log where there is no such file.

    Args:
        path: The file; None where there is none.
    """

    def __init__(self, path: Path | None) -> None:
        """Opens nothing yet."""
        self._path = path
        self._lock = threading.Lock()

    def write(self, entry: Mapping[str, Any]) -> None:
        """Appends one entry, with the time in seconds since 1970."""
        line = json.dumps({"time": round(time.time(), 3), **entry})
        if self._path is None:
            say(line)
            return
        try:
            with self._lock, self._path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError as error:
            say(f"cannot record a request: {error}")


def serve(service: str, address: str, ports: list[int], answer: Answer) -> None:
    """Listens on each port, as one process of the real service each would; returns when all are open.

    Args:
        service: Name of the service, for the record and the header `X-Standin`.
        address: Address to listen on.
        ports: One for each process of the real service.
        answer: Gives the response to a request.
    """
    recorder = Recorder(LOG / "requests.jsonl" if LOG.is_mount() else None)
    for port in ports:
        server = _Server((address, port), _Handler)
        server.service, server.answer, server.recorder = service, answer, recorder
        threading.Thread(target=server.serve_forever, daemon=True).start()
        say(f"{service} listens on {address}:{port}")


def compact(content: Any) -> str:
    """JSON as Node writes it, without spaces: Pryv's client reads long answers piece by piece and relies on that."""
    return json.dumps(content, separators=(",", ":"))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 511  # as Node's
    service: str
    answer: Answer
    recorder: Recorder


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 75
    server: _Server

    def handle_one_request(self) -> None:
        """Answers one request of a connection."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            self.close_connection = True
            return
        if not self.parse_request():
            return
        request = self._read()
        self._record(request)
        try:
            response = self.server.answer(request)
        except Exception as error:  # the service goes on, as the real one does
            say(f"{request.method} {request.path}: {error!r}")
            response = Response(500, {"error": {"id": "unexpected-error", "message": str(error)}})
        self._send(response)

    def log_message(self, *_: Any) -> None:
        """Says nothing: requests are recorded."""

    def _read(self) -> Request:
        url = urlsplit(self.path)
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            key = name.lower()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        if headers.get("expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        begin = time.monotonic()
        body, size = self._body(headers)
        seconds = round(time.monotonic() - begin, 3)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        target = self.requestline.split()[1]  # Python would take slashes at its beginning together
        return Request(
            self.command, target, url.path, query, headers, body, size, seconds, self.server.server_address[1]
        )

    def _body(self, headers: Mapping[str, str]) -> tuple[bytes, int]:
        kept, size = bytearray(), 0
        if "chunked" in headers.get("transfer-encoding", "").lower():
            while length := int(self.rfile.readline().split(b";")[0], 16):
                chunk = self.rfile.read(length)
                self.rfile.readline()
                size += length
                kept += chunk[: KEPT_BODY - len(kept)]
            while self.rfile.readline().strip():
                pass  # trailers
            return bytes(kept), size
        size = left = int(headers.get("content-length", 0))
        while left:
            chunk = self.rfile.read(min(left, 1 << 16))
            if not chunk:
                break
            left -= len(chunk)
            kept += chunk[: KEPT_BODY - len(kept)]
        return bytes(kept), size

    def _record(self, request: Request) -> None:
        hidden = {name: "(present)" for name in ("authorization", "cookie") if name in request.headers}
        self.server.recorder.write(
            {
                "service": self.server.service,
                "process": request.port,
                "method": request.method,
                "path": request.path,
                "host": request.host,
                "headers": {**request.headers, **hidden},
                "size": request.size,
                "seconds": request.seconds,
            }
        )

    def _send(self, response: Response) -> None:
        headers = {"X-Standin": f"{self.server.service}/{self.server.server_address[1]}"}
        if isinstance(response.body, bytes):
            body = response.body
        elif isinstance(response.body, str):
            body, headers["Content-Type"] = response.body.encode(), "text/plain; charset=utf-8"
        else:
            body, headers["Content-Type"] = compact(response.body).encode(), "application/json; charset=utf-8"
        if response.takeover is None:
            headers["Content-Length"] = str(len(body))
        headers.update(response.headers)
        self.send_response_only(response.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if response.takeover is not None:
            self.close_connection = True
            response.takeover(self.connection)
