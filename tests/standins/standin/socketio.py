"""The part of socket.io that shows whether a proxy lets clients through and keeps them on one process."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Callable
from io import BufferedRWPair
from socket import socket

from .web import Request, Response

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
Authorize = Callable[[str, str], bool]


class SocketIo:
    """The sessions of all processes; each is known to the process that opened it alone.

    Args:
        authorize: Whether a token is one of a user's.
    """

    def __init__(self, authorize: Authorize) -> None:
        """Begins without sessions."""
        self._authorize = authorize
        self._lock = threading.Lock()
        self._sessions: dict[tuple[int, str], _Session] = {}

    def answer(self, request: Request) -> Response:
        """Answers a request to `/socket.io/`."""
        sid = request.query.get("sid")
        if request.query.get("transport") not in ("polling", "websocket"):
            return _error(0, "Transport unknown")
        if sid is None:
            session = _Session(secrets.token_urlsafe(15), request.query.get("auth", ""))
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
            return Response(200, session.greeting())
        if request.method == "POST":
            session.receive(request.body.decode(), self._authorize)
            return Response(200, "ok")
        return Response(200, session.take())

    def _upgrade(self, request: Request, session: _Session, greet: bool) -> Response:
        key = request.headers.get("sec-websocket-key", "")
        accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()

        def talk(connection: socket) -> None:
            stream = connection.makefile("rwb")
            if greet:
                _send(stream, session.greeting())
            while (text := _receive(stream)) is not None:
                session.receive(text, self._authorize)
                for message in session.take_all():
                    _send(stream, message)

        return Response(
            101,
            headers={"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept},
            takeover=talk,
        )


class _Session:
    def __init__(self, sid: str, token: str) -> None:
        self.sid, self._token = sid, token
        self._messages: list[str] = []

    def greeting(self) -> str:
        offer = {"sid": self.sid, "upgrades": ["websocket"], "pingInterval": 25000, "pingTimeout": 20000}
        return f"0{json.dumps(offer)}"

    def receive(self, text: str, authorize: Authorize) -> None:
        if text == "2probe":
            self._messages.append("3probe")
        elif text.startswith("2"):
            self._messages.append("3")
        elif text.startswith("40/"):
            namespace, _, _ = text[2:].partition(",")
            user, _, _ = namespace[1:].partition("?")
            known = authorize(user, self._token)
            self._messages.append(
                f'40{namespace},{{"sid":"{self.sid}"}}'
                if known
                else f'44{namespace},{{"message":"invalid-access-token"}}'
            )

    def take(self) -> str:
        return self._messages.pop(0) if self._messages else "6"

    def take_all(self) -> list[str]:
        messages, self._messages = self._messages, []
        return messages


def _error(code: int, message: str) -> Response:
    return Response(400, {"code": code, "message": message})


def _receive(stream: BufferedRWPair) -> str | None:
    """The next text of a client; None when it closes."""
    head = stream.read(2)
    if len(head) < 2 or head[0] & 0x0F == 8:
        return None
    length = head[1] & 0x7F
    if length > 125:
        length = int.from_bytes(stream.read(2 if length == 126 else 8), "big")
    mask = stream.read(4)
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(stream.read(length))).decode()


def _send(stream: BufferedRWPair, text: str) -> None:
    data = text.encode()
    head = bytes([0x81, len(data)]) if len(data) < 126 else bytes([0x81, 126]) + len(data).to_bytes(2, "big")
    stream.write(head + data)
    stream.flush()
