"""socket.io as core has it: clients stay on one process, call methods, and are told what changes.

See components/api-server/src/socket-io of `pryv/service-core` 1.9.2, and the protocols of npm engine.io (versions 3
and 4) and socket.io. Polls are answered at once, with nothing where there is nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import threading
from collections.abc import Callable
from io import BufferedRWPair
from socket import socket
from typing import Any

from .express import ApiError, meta
from .web import Request, Response

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PING_SECONDS = 25
#: Calls a method of the API with parameters.
Call = Callable[[str, Any], Any]
#: Lets the user in whose name and token it gets; raises ApiError for anybody else.
Join = Callable[[str, str], Call]


class SocketIo:
    """The sessions of all processes; each is known to the process that opened it alone.

    Args:
        join: Lets a user in.
    """

    def __init__(self, join: Join) -> None:
        """Begins without sessions."""
        self._join = join
        self._lock = threading.Lock()
        self._sessions: dict[tuple[int, str], _Session] = {}

    def answer(self, request: Request) -> Response:
        """Answers a request to `/socket.io/`."""
        sid = request.query.get("sid")
        if request.query.get("transport") not in ("polling", "websocket"):
            return _error(0, "Transport unknown")
        if sid is None:
            session = _Session(secrets.token_urlsafe(15), request.query.get("auth", ""), self._join)
            with self._lock:
                self._sessions[request.port, session.sid] = session
        else:
            found = self._sessions.get((request.port, sid))
            if found is None:
                return _error(1, "Session ID unknown")
            session = found
        if request.headers.get("upgrade", "").lower() == "websocket":
            return self._upgrade(request, session, greet=sid is None)
        if sid is None:
            return Response(200, session.greeting(("websocket",)))
        if request.method == "POST":
            for text in request.body.decode().split("\x1e"):
                session.receive(text)
            return Response(200, "ok")
        return Response(200, session.take())

    def tell(self, username: str, what: str) -> None:
        """Tells a user's clients, on all processes, what changed."""
        with self._lock:
            sessions = list(self._sessions.values())
        for session in sessions:
            session.tell(username, what)

    def _upgrade(self, request: Request, session: _Session, greet: bool) -> Response:
        key = request.headers.get("sec-websocket-key", "")
        accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()

        def talk(connection: socket) -> None:
            stream = connection.makefile("rwb")
            connection.settimeout(None)
            try:
                session.talk(stream, greet)
            except OSError:
                pass  # the client is gone
            finally:
                with self._lock:
                    self._sessions.pop((request.port, session.sid), None)

        return Response(
            101,
            headers={"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept},
            takeover=talk,
        )


class _Session:
    def __init__(self, sid: str, token: str, join: Join) -> None:
        self.sid, self._token, self._join = sid, token, join
        self._calls: dict[str, Call] = {}
        self._messages: list[str] = []
        self._stream: BufferedRWPair | None = None
        self._lock = threading.RLock()

    def greeting(self, upgrades: tuple[str, ...] = ()) -> str:
        offer = {"upgrades": upgrades, "pingInterval": PING_SECONDS * 1000, "pingTimeout": 20000}
        return f"0{json.dumps({'sid': self.sid, **offer, 'maxPayload': 1000000})}"

    def talk(self, stream: BufferedRWPair, greet: bool) -> None:
        """Serves a websocket until it closes."""
        with self._lock:
            self._stream = stream
            if greet:
                self._messages.insert(0, self.greeting())
            self._flush()
        ended = threading.Event()
        threading.Thread(target=self._ping, args=(ended,), daemon=True).start()
        try:
            while (text := _receive(stream)) is not None:
                self.receive(text)
        finally:
            ended.set()

    def _ping(self, ended: threading.Event) -> None:
        while not ended.wait(PING_SECONDS):
            self.send("2")

    def receive(self, text: str) -> None:
        """Takes a packet."""
        if text == "2probe":
            self.send("3probe")
        elif text.startswith("2"):
            self.send("3")
        elif text.startswith("40/"):
            self._connect(text[2:].partition(",")[0])
        elif text.startswith("42/"):
            self._act(text[2:])

    def _connect(self, namespace: str) -> None:
        user = namespace.partition("?")[0].rstrip("/").rpartition("/")[2]
        try:
            if not self._token:
                raise ApiError(401, "", "Missing 'auth' parameter with a valid access token.")
            self._calls[namespace] = self._join(user, self._token)
        except ApiError as error:
            self.send(f"44{namespace},{json.dumps({'message': str(error)})}")
        else:
            self.send(f'40{namespace},{{"sid":"{self.sid}"}}')

    def _act(self, text: str) -> None:
        found = re.fullmatch(r"(/[^,]*),(\d*)(\[.*)", text, re.DOTALL)
        call = self._calls.get(found[1]) if found else None
        if found is None or call is None:
            return
        method, *rest = json.loads(found[3])
        try:
            result = [None, call(str(method), rest[0] if rest else None)]
        except ApiError as error:
            result = [{"error": error.public, "meta": meta()}]
        if found[2]:
            self.send(f"43{found[1]},{found[2]}{json.dumps(result)}")

    def tell(self, username: str, what: str) -> None:
        """Sends an event to the namespace of a user."""
        for namespace in list(self._calls):
            if namespace.partition("?")[0].rstrip("/").rpartition("/")[2].lower() == username:
                self.send(f"42{namespace},{json.dumps([what])}")

    def send(self, text: str) -> None:
        """Sends a packet, or keeps it for the next poll."""
        with self._lock:
            self._messages.append(text)
            self._flush()

    def take(self) -> str:
        """A packet for a poll."""
        with self._lock:
            return self._messages.pop(0) if self._messages else "6"

    def _flush(self) -> None:
        if self._stream is None:
            return
        try:
            while self._messages:
                _send(self._stream, self._messages.pop(0))
        except (OSError, ValueError):
            self._stream = None  # the client is gone


def _error(code: int, message: str) -> Response:
    return Response(400, {"code": code, "message": message})


def _receive(stream: BufferedRWPair) -> str | None:
    """The next text of a client; None when it closes."""
    text = b""
    while True:
        head = stream.read(2)
        if len(head) < 2 or head[0] & 0x0F == 8:
            return None
        length = head[1] & 0x7F
        if length > 125:
            length = int.from_bytes(stream.read(2 if length == 126 else 8), "big")
        mask = stream.read(4)
        text += bytes(byte ^ mask[place % 4] for place, byte in enumerate(stream.read(length)))
        if head[0] & 0x80:
            return text.decode()


def _send(stream: BufferedRWPair, text: str) -> None:
    data = text.encode()
    if len(data) < 126:
        head = bytes([0x81, len(data)])
    elif len(data) < 1 << 16:
        head = bytes([0x81, 126]) + len(data).to_bytes(2, "big")
    else:
        head = bytes([0x81, 127]) + len(data).to_bytes(8, "big")
    stream.write(head + data)
    stream.flush()
