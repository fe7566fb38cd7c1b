"""What the client of playbooks/verify.yml concludes, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import json
import re
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rdatatype
import dns.rrset
import pytest
from ansible.module_utils import named_https, platform_client, platform_surface, platform_user
from ansible.module_utils.platform_client import RENEW, Check, CheckError, Client, Record, Reply, frame
from ansible.module_utils.platform_surface import Surface
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plugins.modules import platform_check as pc

DOMAIN = "poc.pryv.test"
KEY = "a-key"
TOPOLOGY: dict[str, Any] = {
    "domain": DOMAIN,
    "leader": "reg1",
    "followers": ["reg2"],
    "hosts": {
        "co1": {"roles": ["core"], "public_address": "192.0.2.11"},
        "co2": {"roles": ["core"], "public_address": "192.0.2.12"},
        "reg1": {"roles": ["registry"], "public_address": "192.0.2.21"},
        "reg2": {"roles": ["registry"], "public_address": "192.0.2.22"},
    },
    "hostings": {"ch": {"co1": {"ip": "192.0.2.11"}, "co2": {"ip": "192.0.2.12"}}},
    "name_servers": [{"name": "dns1", "host": "reg1"}, {"name": "dns2", "host": "reg2"}],
    "names": {f"co1.{DOMAIN}": ["192.0.2.11"]},
    "flows": [],
    "service_names": {"register": f"reg.{DOMAIN}", "pages": f"sw.{DOMAIN}"},
    "ports": {"redis": 6379},
}
PARAMETERS = {
    "topology": TOPOLOGY,
    "core_admin_keys": {"co1": f"{KEY}-co1", "co2": f"{KEY}-co2"},
    "register_admin_key": KEY,
    "cores": None,
    "invitation_token": None,
    "minimum_days": 14,
}


class FakePlatform(Client):
    """A registry and its cores, in memory, with the shapes of Pryv's documented API.

    Args:
        breaks: Part of a method and path that answers with an error.
        status: The error.
        body: What the error says.
        lets_in: Whether any password is right.
        forgets: Whether what was stored comes back as something else.
    """

    def __init__(
        self, breaks: str = "", status: int = 500, body: str = "broken", lets_in: bool = False, forgets: bool = False
    ) -> None:
        super().__init__(None, 1)
        self.breaks, self.status, self.body = breaks, status, body
        self.lets_in, self.forgets = lets_in, forgets
        self.offered = f"https://co2.{DOMAIN}/"
        self.users: dict[str, dict[str, str]] = {}
        self.deleted_at: list[str] = []
        self.halves: set[str] = set()
        self.asked: list[str] = []
        self.origins: set[str | None] = set()
        self.stored: dict[str, Any] = {}
        self.knows_cores = True

    def request(
        self,
        _address: str,
        name: str,
        method: str,
        path: str,
        body: object = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        self.asked.append(f"{method} {path}")
        if self.breaks and self.breaks in f"{method} {path}":
            return Reply(self.status, {}, self.body.encode())
        answer: dict[str, Any]
        if name == f"reg.{DOMAIN}":
            status, answer = self._answer_registry(path, key)
        elif method == "DELETE":
            assert key == f"{KEY}-{name.partition('.')[0]}"
            self.deleted_at.append(name)
            self.halves.clear()
            status, answer = 200 if self.users.pop(path.rpartition("/")[2], None) else 404, {}
        elif (method, path) == ("POST", "/users") and self.halves:
            status, answer = 409, {"error": "", "meta": ""}
        elif (method, path) == ("POST", "/users"):
            assert isinstance(body, dict)
            self.users[body["username"]] = {"email": body["email"], "server": name, "password": body["password"]}
            status, answer = 201, {"apiEndpoint": f"https://token@{body['username']}.{DOMAIN}/"}
        elif path == "/auth/login":
            assert isinstance(body, dict)
            self.origins.add((headers or {}).get("Origin"))
            right = body["password"] == self.users[body["username"]]["password"] or self.lets_in
            status, answer = (200, {"token": "session"}) if right else (401, {"error": "", "meta": ""})
        else:
            return self._answer_user(method, path, body)
        return Reply(status, {}, json.dumps(answer).encode())

    def _answer_registry(self, path: str, key: str | None) -> tuple[int, dict[str, Any]]:
        if path == "/hostings":
            offer = {"ch": {"availableCore": self.offered}}
            return 200, {"regions": {"r": {"zones": {"z": {"hostings": offer}}}}}
        if path.startswith("/admin/users/"):
            assert key == KEY
            known = self.users.get(path.rpartition("/")[2])
            return (200, dict(known)) if known else (404, {})
        if path.endswith("/server"):
            return 200, {"server": self.users[path.split("/")[1]]["server"]}
        return 200, {"reserved": False}

    def _answer_user(self, method: str, path: str, body: object) -> Reply:
        plain = path.partition("?")[0]
        if "\\" in path:  # nginx
            return Reply(400, {}, b"<html>")
        if plain.startswith("/previews/"):
            return Reply(200, {"content-type": "text/plain" if self.forgets else "image/jpeg"}, b"picture")
        if plain.endswith("/check.png"):
            return Reply(200, {}, b"" if self.forgets else self.stored["file"])
        answer: dict[str, Any] = {"meta": {}}
        status = 201 if method == "POST" and plain in ("/events", "/streams") else 200
        if plain.endswith("/series"):
            if isinstance(body, dict):
                self.stored["points"] = body["points"]
            answer["points"] = [] if self.forgets else self.stored["points"]
        elif method == "POST" and plain == "/events":
            if isinstance(body, bytes):
                self.stored["file"] = body.partition(b"image/png\r\n\r\n")[2].rpartition(b"\r\n--")[0]
                answer["event"] = {"id": "e1", "attachments": [{"id": "f1"}]}
            else:
                assert isinstance(body, dict)
                self.stored["event"] = {"id": "e1", **body}
                answer["event"] = self.stored["event"]
        elif plain == "/events/e1":
            answer["event"] = {} if self.forgets else self.stored["event"]
        elif plain == "/access-info":
            (user,) = self.users
            answer["user"] = {"username": "someone" if self.forgets else user}
        return Reply(status, {}, json.dumps(answer).encode())

    def addresses(self, _server: str, name: str) -> tuple[list[str], list[str]]:
        label = name.removesuffix(f".{DOMAIN}")
        if label in TOPOLOGY["hosts"]:
            return [], [TOPOLOGY["hosts"][label]["public_address"]] if self.knows_cores else []
        user = self.users.get(label)
        return ([user["server"]], ["192.0.2.12"]) if user else ([], [])


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform_client, "REPLICATION_SECONDS", 0)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)


def verdicts(client: FakePlatform, **settings: Any) -> dict[str, str]:
    """What is found wrong on core `co2`.

    Args:
        client: The platform.
        settings: What its inventory says of the core.
    """
    platform = pc.Platform({**PARAMETERS, "cores": {"co2": settings}}, client)
    platform.visit("co2")
    return {check.what: check.found for check in platform.record.checks}


def wrong(client: FakePlatform, **settings: Any) -> dict[str, str]:
    return {what: found for what, found in verdicts(client, **settings).items() if found and what != SOCKET}


SOCKET = "a socket"  # the fake one has none


@pytest.mark.parametrize("mode", ["disabled", "single"])
def test_all_is_well_with_a_core_and_the_user_is_removed(mode: str) -> None:
    client = FakePlatform()
    assert wrong(client, core_mfa_mode=mode) == {}
    assert client.users == {}
    assert client.origins == {f"https://verify.{DOMAIN}"}
    # Each of these is a connection that a host and clients beside it have to carry.
    assert len(client.asked) <= 26


@pytest.mark.parametrize(
    ("breaks", "what"),
    [
        ("POST /auth/login", "the user logs in"),
        ("GET /access-info", "the user is known by the token"),
        ("POST /streams", "a stream and an event"),
        ("GET /events/e1", "a stream and an event"),
        ("/check.png", "an attachment and its preview"),
        ("GET /previews/", "an attachment and its preview"),
        ("POST /events/e1/series", "a series"),
        ("POST /mfa/", "the second factor can be turned off"),
    ],
)
def test_what_is_broken_is_named_and_the_user_removed(breaks: str, what: str) -> None:
    client = FakePlatform(breaks, 502)
    assert "answered 502, not 20" in wrong(client, core_mfa_mode="single")[what]
    assert client.users == {}


def test_what_comes_back_as_something_else_is_named() -> None:
    assert wrong(FakePlatform(forgets=True)).keys() == {
        "the user is known by the token",
        "a stream and an event",
        "an attachment and its preview",
        "a series",
    }


def test_a_wrong_password_that_is_right_is_named() -> None:
    assert wrong(FakePlatform(lets_in=True))["a wrong password is refused"].startswith("a wrong login answered 200")


@pytest.mark.parametrize(
    ("mode", "answer", "expected"),
    [
        ("single", '{"meta": {}}', r"the core answers to /auth/login\# and /zz-verify-"),
        ("single", '{"error": {}}', None),
        ("disabled", '{"meta": {}}', None),  # there is nothing to go round
    ],
)
def test_ways_round_the_second_factor(mode: str, answer: str, expected: str | None) -> None:
    found = wrong(FakePlatform("auth/login\\#", 401, answer), core_mfa_mode=mode).get(
        "closed paths are closed in every form"
    )
    assert found is None if expected is None else str(found).startswith(expected)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], ("platform-check", f"https://verify.{DOMAIN}")),
        (["*@*"], ("platform-check", "verify")),
        (["diary@https://diary.example.com", "*@*"], ("diary", "https://diary.example.com")),
        (["diary"], None),
    ],
)
def test_an_app_that_the_core_trusts(entries: list[str], expected: tuple[str, str] | None) -> None:
    if expected is None:
        with pytest.raises(CheckError, match="nobody can log in"):
            platform_user.trusted_app(entries, DOMAIN)
    else:
        assert platform_user.trusted_app(entries, DOMAIN) == expected


def test_user_is_found_everywhere_though_its_core_fails() -> None:
    found = verdicts(FakePlatform("/access-info"))
    assert [found[f"{host} finds the user by {way}"] for host in ("reg1", "reg2") for way in ("DNS", "HTTPS")] == [
        ""
    ] * 4


def test_core_of_another_zone_is_not_offered() -> None:
    client = FakePlatform()
    client.offered = f"https://co9.{DOMAIN}/"
    platform = pc.Platform(PARAMETERS, client)
    platform.surface._zone("ch")
    assert "no core that takes users of the zone" in platform.record.checks[0].found


def test_nobody_is_registered_on_a_core_that_the_registry_does_not_know() -> None:
    client = FakePlatform()
    client.knows_cores = False
    assert "does not know the core yet" in wrong(client)["a user is registered"]
    assert "POST /users" not in client.asked


def test_user_of_a_killed_run_is_removed_first() -> None:
    client = FakePlatform()
    name, email = platform_user.identity("co2", DOMAIN, KEY)
    client.users[name] = {"email": email, "server": f"co2.{DOMAIN}"}
    assert verdicts(client)["no user of an earlier run is left"] == ""
    assert client.deleted_at == [f"co2.{DOMAIN}"] * 2


def test_half_of_a_user_that_the_registry_does_not_know_is_removed_first() -> None:
    client = FakePlatform()
    client.halves = {platform_user.identity("co2", DOMAIN, KEY)[0]}
    assert wrong(client) == {}


def test_a_person_with_that_name_is_left_alone() -> None:
    client = FakePlatform()
    name, _ = platform_user.identity("co2", DOMAIN, KEY)
    client.users[name] = {"email": "someone@example.org", "server": f"co2.{DOMAIN}"}
    found = verdicts(client)
    assert "left alone" in found["no user of an earlier run is left"]
    assert len(found) == 1
    assert client.deleted_at == []


def test_failed_registration_is_cleaned_up_where_it_was_tried() -> None:
    client = FakePlatform("POST /users")
    found = verdicts(client)
    assert "answered 500" in found["a user is registered"]
    assert found["the user is removed again"] == ""
    assert client.deleted_at == [f"co2.{DOMAIN}"]


def test_throw_away_user_has_a_valid_name_that_nobody_can_guess() -> None:
    name, email = platform_user.identity("co2", DOMAIN, KEY)
    assert re.fullmatch(r"zz-verify-[0-9a-f]{12}-co2", name)
    assert (name, email) == platform_user.identity("co2", DOMAIN, KEY) != platform_user.identity("co2", DOMAIN, "k2")
    assert name != platform_user.identity("co1", DOMAIN, KEY)[0]


def test_picture_is_one() -> None:
    assert platform_user.picture().startswith(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")


def test_what_hosts_say_of_their_services_is_part_of_the_report() -> None:
    one = {"what": "service mfa of pryv-core", "found": "ends again and again", "remedy": "See its log"}
    found = pc.services_of(
        {"co1": {"checks": [one]}, "co2": {"unreachable": True, "msg": "no route"}, "mon1": {"skipped": True}}
    )
    assert [str(check) for check in found] == [
        "FAILED  co1: service mfa of pryv-core: ends again and again. See its log",
        "FAILED  co2: services: it cannot be asked: no route. See if it can be reached by SSH",
    ]


def test_certificate_must_hold_domain_and_wildcard() -> None:
    certificate = {"subjectAltName": (("DNS", f"*.{DOMAIN}"), ("IP Address", "192.0.2.1"))}
    assert platform_surface.covers(certificate, [DOMAIN, f"*.{DOMAIN}"]) == [DOMAIN]


def test_frame_is_masked_text() -> None:
    data = frame("2probe")
    assert data[:2] == bytes([0x81, 0x86])
    assert bytes(byte ^ data[2 + at % 4] for at, byte in enumerate(data[6:])) == b"2probe"


def test_aliases_are_followed_at_the_same_server(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        f"alice.{DOMAIN}": f"alice.{DOMAIN}. 3600 IN CNAME co1.{DOMAIN}.",
        f"co1.{DOMAIN}": f"co1.{DOMAIN}. 3600 IN A 192.0.2.11",
    }

    def ask(_self: Client, server: str, name: str, _kind: str) -> dns.message.Message:
        assert server == "192.0.2.21"
        return dns.message.from_text(f"id 1\nopcode QUERY\nrcode NOERROR\nflags QR AA\n;ANSWER\n{texts[name]}\n")

    monkeypatch.setattr(Client, "ask", ask)
    assert Client(None, 1).addresses("192.0.2.21", f"alice.{DOMAIN}") == ([f"co1.{DOMAIN}"], ["192.0.2.11"])


@contextlib.contextmanager
def listening(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server that takes one message and answers it."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                received.append(connection.recv(4096))
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], received
        thread.join(5)


@pytest.mark.parametrize(
    ("answer", "refused"), [(b"\x16\x03\x02", False), (b"\x15\x03\x02\0\2\2\x46", True), (b"", True)]
)
def test_old_tls_is_refused_by_an_alert_or_silence(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, refused: bool
) -> None:
    with listening(answer) as (port, received):
        monkeypatch.setattr(platform_client, "HTTPS", port)
        assert Client(None, 5).refuses_old_tls("127.0.0.1", f"reg.{DOMAIN}") is refused
    assert struct.unpack("!H", received[0][9:11]) == (0x0302,)  # TLS 1.1
    assert f"reg.{DOMAIN}".encode() in received[0]


def test_greeting_of_an_old_client_is_one_that_a_library_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = f"openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=test -days 1 -keyout {key} -out {certificate}"
    subprocess.run(
        make.split(),
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with contextlib.suppress(OSError), connection:
                context.wrap_socket(connection, server_side=True)

        threading.Thread(target=serve, daemon=True).start()
        monkeypatch.setattr(platform_client, "HTTPS", server.getsockname()[1])
        assert not Client(None, 5).refuses_old_tls("127.0.0.1", "test")


def surface_at(address: str, *, ca: str | None = None, source: str = "", **changes: Any) -> Surface:
    """A platform whose hosts are all at an address, looked at by a real client.

    Args:
        address: The address.
        ca: What the client trusts, as PEM text.
        source: The host that looks.
        changes: What is different in the topology.
    """
    hosts = {name: {**host, "public_address": address} for name, host in TOPOLOGY["hosts"].items()}
    return Surface({**TOPOLOGY, "hosts": hosts, **changes}, Client(ca, 5), Record(), 14, source)


def failures(surface: Surface) -> dict[str, str]:
    return {check.what: check.found for check in surface.record.checks if check.found}


def test_port_that_is_open_is_told_from_one_that_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        opened, closed = server.getsockname()[1], other.getsockname()[1]
        other.close()
        surface = surface_at("127.0.0.1", ports={"redis": closed, "register": opened})
        surface._ports("co1")
        assert [check.found for check in surface.record.checks] == [f"{opened} open"]
        server.close()
        surface.record.checks.clear()
        surface._ports("co1")
        assert [check.found for check in surface.record.checks] == [""]


def test_port_that_is_open_to_the_host_that_looks_is_left_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        opened = server.getsockname()[1]
        flows = [{"source": "mon1", "target": "co1", "port": opened}]
        for source, host, found in (
            ("mon1", "co1", ""),
            ("mon1", "co2", f"{opened} open"),
            ("", "co1", f"{opened} open"),
        ):
            surface = surface_at("127.0.0.1", source=source, ports={"metrics": opened}, flows=flows)
            surface._ports(host)
            assert [check.found for check in surface.record.checks] == [found]


class NameServer(threading.Thread):
    """Answers every question for an address with one of its own.

    Args:
        address: What it answers; None for nothing.
        authoritative: Whether it says that it speaks for the domain.
    """

    def __init__(self, address: str | None, authoritative: bool = True) -> None:
        super().__init__(daemon=True)
        self._address, self._authoritative = address, authoritative
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, client = self.socket.recvfrom(4096)
                query = dns.message.from_wire(data)
                answer = dns.message.make_response(query)
                if self._authoritative:
                    answer.flags |= dns.flags.AA
                question = query.question[0]
                if self._address and question.rdtype == dns.rdatatype.A:
                    answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", self._address))
                self.socket.sendto(answer.to_wire(), client)


@pytest.mark.parametrize(
    ("server", "found"),
    [
        (NameServer("192.0.2.11"), ""),
        (NameServer("192.0.2.99"), "['192.0.2.99'] instead of ['192.0.2.11']"),
        (NameServer(None), "no address instead of ['192.0.2.11']"),
        (NameServer("192.0.2.11", authoritative=False), f"co1.{DOMAIN} A: the answer is not authoritative"),
    ],
)
def test_wrong_dns_answer_is_told(monkeypatch: pytest.MonkeyPatch, server: NameServer, found: str) -> None:
    server.start()
    monkeypatch.setattr("dns.query.udp", partial(dns.query.udp, port=server.socket.getsockname()[1]))
    surface = surface_at("127.0.0.1")
    surface._dns("reg1")
    assert failures(surface).get(f"DNS knows co1.{DOMAIN}", "") == found
    assert failures(surface)[f"DNS has the start of authority of {DOMAIN}"]


def test_name_server_that_is_down_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: Any, **__: Any) -> dns.message.Message:
        raise dns.exception.Timeout

    monkeypatch.setattr("dns.query.udp", nobody)
    surface = surface_at("127.0.0.1")
    surface._dns("reg1")
    assert len(failures(surface)) == len(surface.record.checks)
    assert all("no answer from 127.0.0.1:53/udp" in found for found in failures(surface).values())


def certificate(folder: Path, days: float, names: tuple[str, ...]) -> tuple[Path, Path]:
    """Makes a self-signed certificate with its key in one file, and a file of the same without the key to trust.

    Args:
        folder: Where to.
        days: For how many days it is valid from now on; less than 0 for an expired one.
        names: What it is for.
    """
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=100))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    ).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    whole, trusted = folder / "whole.pem", folder / "trusted.pem"
    whole.write_bytes(private + made)
    trusted.write_bytes(made)
    return whole, trusted


@contextlib.contextmanager
def https(whole: Path, headers: dict[str, str], any_name: bool) -> Iterator[int]:
    """A host that answers over HTTPS.

    Args:
        whole: Its certificate and key.
        headers: What it answers.
        any_name: Whether it answers to names that are not its own.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Clients that turn away are no news."""

    def refuse(_socket: Any, name: str | None, _context: Any) -> int | None:
        foreign = not any_name and not str(name).endswith(DOMAIN)
        return int(ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME) if foreign else None

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(whole)
    context.sni_callback = refuse
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


GOOD_HEADERS = {"Strict-Transport-Security": "max-age=63072000", "Server": "nginx"}
BOTH_NAMES = (DOMAIN, f"*.{DOMAIN}")


@pytest.mark.parametrize(
    ("days", "names", "headers", "any_name", "expected"),
    [
        (30, BOTH_NAMES, GOOD_HEADERS, False, {}),
        (-1, BOTH_NAMES, GOOD_HEADERS, False, {f"certificate for co1.{DOMAIN}": "certificate has expired"}),
        (5.5, BOTH_NAMES, GOOD_HEADERS, False, {f"certificate for co1.{DOMAIN}": "it expires in 5 days"}),
        (
            30,
            (f"*.{DOMAIN}",),
            GOOD_HEADERS,
            False,
            {f"certificate for co1.{DOMAIN}": f"it does not cover {DOMAIN}"},
        ),
        (
            30,
            ("other.example",),
            GOOD_HEADERS,
            False,
            {f"certificate for co1.{DOMAIN}": f"certificate is not valid for 'co1.{DOMAIN}'"},
        ),
        (30, BOTH_NAMES, {"Server": "nginx"}, False, {"HTTP headers": "Strict-Transport-Security is missing"}),
        (
            30,
            BOTH_NAMES,
            {**GOOD_HEADERS, "Server": "nginx/1.26.3"},
            False,
            {"HTTP headers": "Server tells a version: nginx/1.26.3"},
        ),
        (30, BOTH_NAMES, GOOD_HEADERS, True, {"an unknown host name gets nothing": "a certificate"}),
    ],
)
def test_what_is_wrong_with_a_host_is_told(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    days: float,
    names: tuple[str, ...],
    headers: dict[str, str],
    any_name: bool,
    expected: dict[str, str],
) -> None:
    whole, trusted = certificate(tmp_path, days, names)
    with https(whole, headers, any_name) as port:
        monkeypatch.setattr(platform_client, "HTTPS", port)
        monkeypatch.setattr(named_https, "HTTPS", port)
        monkeypatch.setattr(Client, "is_open", lambda *_: False)  # port 80
        surface = surface_at("127.0.0.1", ca=trusted.read_text())
        surface._https("co1")
    found = failures(surface)
    if any("certificate " in text for text in expected.values()):
        # Without a certificate that can be trusted there is no answer either.
        assert "no answer" in found.pop("HTTP headers", "no answer")
        remedies = {check.remedy for check in surface.record.checks if "certificate " in check.found}
        assert remedies <= {RENEW}, remedies
    assert found.keys() == expected.keys(), found
    for what, text in expected.items():
        assert text in found[what]


def port_80(monkeypatch: pytest.MonkeyPatch, number: int, redirects: bool) -> str:
    """What is found wrong with port 80.

    Args:
        monkeypatch: Pytest's.
        number: The port that stands for it.
        redirects: Whether the topology has it open.
    """
    monkeypatch.setattr(platform_surface, "HTTP", number)
    flows = [{"source": "any", "target": "co1", "port": number}] if redirects else []
    surface = surface_at("127.0.0.1", flows=flows)
    surface._https("co1")
    return failures(surface).get("HTTP only leads to HTTPS", "")


@pytest.mark.parametrize(
    ("redirects", "answer", "expected"),
    [
        (True, f"HTTP/1.1 301 Moved\r\nLocation: https://co1.{DOMAIN}/\r\n\r\n", ""),
        (True, "HTTP/1.1 200 OK\r\n\r\n", "port 80 answers 200 "),
        (False, "", "port 80 is open without pryv_http_redirect"),
    ],
)
def test_open_port_80(monkeypatch: pytest.MonkeyPatch, redirects: bool, answer: str, expected: str) -> None:
    with listening(answer.encode()) as (port, _):
        assert port_80(monkeypatch, port, redirects) == expected


@pytest.mark.parametrize(("redirects", "expected"), [(True, "port 80 gives no answer"), (False, "")])
def test_closed_port_80(monkeypatch: pytest.MonkeyPatch, redirects: bool, expected: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    assert port_80(monkeypatch, closed, redirects).partition(" (")[0] == expected


def test_host_that_is_down_is_told_in_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(platform_client, "HTTPS", server.getsockname()[1])
    surface = surface_at("127.0.0.1")
    surface._https("co1")
    for what in (f"certificate for co1.{DOMAIN}", "TLS 1.2", "TLS 1.3", "TLS 1.1 is refused", "HTTP headers"):
        assert "refused" in failures(surface)[what]


def test_core_whose_container_is_stopped_is_told() -> None:
    found = verdicts(FakePlatform("POST /users", 502))
    assert "registration answered 502" in found["a user is registered"]


def test_report_names_place_finding_and_remedy() -> None:
    line = str(Check("co1", "TLS 1.2", "no connection", "Run site.yml --tags nginx"))
    assert line == "FAILED  co1: TLS 1.2: no connection. Run site.yml --tags nginx"
    assert str(Check("co1", "TLS 1.2", "", "")) == "ok      co1: TLS 1.2"
