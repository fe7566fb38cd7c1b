"""How a platform is asked as its clients do, and how what is found is noted."""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import ssl
import struct
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .named_https import HTTPS, Connection, trust

try:
    import dns.exception
    import dns.flags
    import dns.message
    import dns.query
    import dns.rdatatype
    import dns.rrset
except ImportError:
    DNS_ERROR: str | None = traceback.format_exc()
else:
    DNS_ERROR = None

# For a port to take a connection; a packet that got lost is sent again after one second.
PORT_SECONDS = 2.0
# How long a follower may lag behind.
REPLICATION_SECONDS = 15.0
RENEW = (
    "See docs/operations/certificate.md: renew it, or name the root of an authority of your own, "
    "and run site.yml --tags certificate"
)


class CheckError(Exception):
    """Something is not as it should be; the message says what was found."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        where: Host or zone.
        what: What was looked at.
        found: What is wrong; empty when nothing is.
        remedy: What to do about it.
    """

    where: str
    what: str
    found: str
    remedy: str

    def __str__(self) -> str:
        """Return the check as a line of the report."""
        if not self.found:
            return f"ok      {self.where}: {self.what}"
        return f"FAILED  {self.where}: {self.what}: {self.found}. {self.remedy}"


class Record:
    """Keeps what was looked at; threads share it."""

    def __init__(self) -> None:
        """Nothing has been looked at yet."""
        self.checks: list[Check] = []

    @contextmanager
    def check(self, where: str, what: str, remedy: str) -> Iterator[None]:
        """Note whether what is done within finds anything wrong.

        Args:
            where: Host or zone.
            what: What is looked at.
            remedy: What to do when something is wrong.
        """
        found = ""
        try:
            yield
        except CheckError as error:
            found = str(error)
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):  # whatever was asked for
                remedy = RENEW
        self.checks.append(Check(where, what, found, remedy))


@dataclass(frozen=True)
class Reply:
    """What came back over HTTP.

    Attributes:
        status: Status code.
        headers: Values by lower-case name.
        content: The body.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode(errors="replace")

    @property
    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty when it is none."""
        try:
            content = json.loads(self.content)
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    def expect(self, status: int, what: str) -> dict[str, Any]:
        """Return the body as JSON.

        Raises:
            CheckError: The status is another one.
        """
        if self.status != status:
            raise CheckError(f"{what} answered {self.status}, not {status}: {self.text[:200]!r}")
        return self.json


class Client:
    """Talks to hosts by address and name.

    Args:
        ca: PEM text of further authorities to trust; None or empty for none.
        timeout: For one answer, in seconds.
    """

    def __init__(self, ca: str | None, timeout: float) -> None:
        """Load what to trust."""
        self.timeout = timeout
        self.context = trust()
        if ca:
            self.context.load_verify_locations(cadata=ca)

    def request(
        self,
        address: str,
        name: str,
        method: str,
        path: str,
        body: object = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request.

        Args:
            address: Address of the host.
            name: Host name in TLS and in the Host header.
            method: HTTP method.
            path: Path with query.
            body: Sent as JSON, text and bytes as they are; None for none.
            key: Value of the Authorization header.
            headers: Further headers.

        Raises:
            CheckError: There was no answer.
        """
        sent = {"Content-Type": "text/plain" if isinstance(body, str) else "application/json", **(headers or {})}
        if key:
            sent["Authorization"] = key
        content = body if body is None or isinstance(body, str | bytes) else json.dumps(body)
        with closing(Connection(address, name, self.context, self.timeout)) as connection:
            try:
                connection.request(method, path, content, sent)
                answer = connection.getresponse()
                received = answer.read()
            except (OSError, http.client.HTTPException) as error:
                raise CheckError(
                    f"no answer from https://{name}{urlsplit(path).path} at {address} ({error})"
                ) from error
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, received)

    @contextmanager
    def tls(self, address: str, name: str, version: ssl.TLSVersion | None = None) -> Iterator[ssl.SSLSocket]:
        """Open a TLS connection, of one version when it is given.

        Raises:
            CheckError: It cannot be made.
        """
        context = self.context
        if version is not None:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.minimum_version = context.maximum_version = version
        try:
            with (
                socket.create_connection((address, HTTPS), timeout=self.timeout) as plain,
                context.wrap_socket(plain, server_hostname=name) as wrapped,
            ):
                yield wrapped
        except OSError as error:
            raise CheckError(f"no TLS connection to {address} as {name} ({error})") from error

    def refuses_old_tls(self, address: str, name: str) -> bool:
        """Tell whether a host refuses TLS 1.1, whatever this machine's own library can do.

        Raises:
            CheckError: The host cannot be reached.
        """
        try:
            with socket.create_connection((address, HTTPS), timeout=self.timeout) as plain:
                plain.sendall(client_hello(name))
                try:
                    first = plain.recv(1)
                except OSError:
                    first = b""
        except OSError as error:
            raise CheckError(f"no connection to {address}:{HTTPS} ({error})") from error
        return first != b"\x16"  # a handshake record: the host goes on with it

    def is_open(self, address: str, port: int) -> bool:
        """Tell whether a TCP port takes connections."""
        try:
            socket.create_connection((address, port), timeout=min(self.timeout, PORT_SECONDS)).close()
        except OSError:
            return False
        return True

    def ask(self, server: str, name: str, kind: str) -> dns.message.Message:
        """Ask a name server.

        Raises:
            CheckError: There was no answer, or it is not authoritative.
        """
        query = dns.message.make_query(name, kind)
        error: Exception | None = None
        for _ in range(2):  # a datagram may get lost
            try:
                answer = dns.query.udp(query, server, timeout=self.timeout / 2)
            except (dns.exception.DNSException, OSError) as failure:
                error = failure
                continue
            if not answer.flags & dns.flags.AA:
                raise CheckError(f"{name} {kind}: the answer is not authoritative")
            return answer
        raise CheckError(f"{name} {kind}: no answer from {server}:53/udp ({error})")

    def addresses(self, server: str, name: str) -> tuple[list[str], list[str]]:
        """Resolve a name at one name server, through aliases.

        Returns:
            The aliases on the way, and the addresses in order.
        """
        aliases: list[str] = []
        while True:
            records = list(records_of(self.ask(server, aliases[-1] if aliases else name, "A")))
            target = next((value for kind, value in records if kind == "CNAME"), None)
            if target is None or len(aliases) > 3:
                return aliases, sorted(value for kind, value in records if kind == "A")
            aliases.append(target.rstrip("."))


def records_of(message: dns.message.Message) -> Iterator[tuple[str, str]]:
    """Yield type and value of each record in a response's answer."""
    for rrset in message.answer:
        for item in rrset:
            yield dns.rdatatype.to_text(rrset.rdtype), item.to_text()


def client_hello(name: str) -> bytes:
    """Return the first message of a client that knows TLS 1.1 and nothing newer.

    Args:
        name: Host name it is for.
    """

    def sized(content: bytes, size: int) -> bytes:
        return len(content).to_bytes(size, "big") + content

    host = sized(sized(b"\0" + sized(name.encode(), 2), 2), 2)
    # With RSA and ECDSA keys alike: ECDHE and plain RSA, AES in CBC mode.
    ciphers = b"".join(struct.pack("!H", number) for number in (0xC013, 0xC014, 0xC009, 0xC00A, 0x002F, 0x0035))
    curves = sized(sized(struct.pack("!HH", 23, 29), 2), 2)
    points = sized(sized(b"\0", 1), 2)
    extensions = b"\0\0" + host + struct.pack("!H", 10) + curves + struct.pack("!H", 11) + points
    hello = b"\x03\x02" + secrets.token_bytes(32) + b"\0" + sized(ciphers, 2) + b"\x01\0" + sized(extensions, 2)
    return b"\x16\x03\x01" + sized(b"\x01" + sized(hello, 3), 2)


def frame(text: str) -> bytes:
    """Return a short text as a client's websocket frame."""
    data, mask = text.encode(), secrets.token_bytes(4)
    return bytes([0x81, 0x80 | len(data)]) + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


def retry(look: Callable[[], None]) -> None:
    """Try until nothing is found wrong, as long as a follower may lag behind.

    Args:
        look: Raises CheckError when something is.

    Raises:
        CheckError: Something still is.
    """
    end = time.monotonic() + REPLICATION_SECONDS
    while True:
        try:
            return look()
        except CheckError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
