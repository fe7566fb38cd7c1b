"""What the client of playbooks/verify.yml concludes, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import pytest

from plugins.modules import platform_check as pc

DOMAIN = "poc.pryv.test"
KEY = "a-core-system-key"
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
}
PARAMETERS = {
    "topology": TOPOLOGY,
    "core_system_key": KEY,
    "register_system_key": "register-key",
    "invitation_token": None,
    "minimum_days": 14,
    "ports_closed": [6379],
}


class FakePlatform(pc.Client):
    """A registry and its cores, in memory.

    Args:
        offered: URL of the core that is offered to new users.
        breaks: Part of a path that answers with an error.
    """

    def __init__(self, offered: str = f"https://co2.{DOMAIN}/", breaks: str = "") -> None:
        super().__init__(None, 1)
        self.offered, self.breaks = offered, breaks
        self.users: dict[str, dict[str, str]] = {}
        self.deleted_at: list[str] = []

    def request(
        self, _address: str, name: str, method: str, path: str, body: object = None, key: str | None = None
    ) -> pc.Reply:
        def reply(status: int, content: str = "{}") -> pc.Reply:
            return pc.Reply(status, {}, content)

        if self.breaks and self.breaks in path:
            return reply(500, "broken")
        user = path.rpartition("/")[2]
        if name == f"reg.{DOMAIN}":
            if path == "/hostings":
                offer = f'{{"ch": {{"availableCore": "{self.offered}"}}}}'
                return reply(200, f'{{"regions": {{"r": {{"zones": {{"z": {{"hostings": {offer}}}}}}}}}}}')
            if path.startswith("/admin/users/"):
                known = self.users.get(user)
                return reply(200, str(known).replace("'", '"')) if known else reply(404)
            if path.endswith("/server"):
                return reply(200, f'{{"server": "{self.users[path.split("/")[1]]["server"]}"}}')
            return reply(200, '{"reserved": false}')
        if (method, path) == ("POST", "/users"):
            assert isinstance(body, dict)
            self.users[body["username"]] = {"email": body["email"], "server": name}
            return reply(201, f'{{"apiEndpoint": "https://token@{body["username"]}.{DOMAIN}/"}}')
        if method == "DELETE":
            assert key == KEY
            self.deleted_at.append(name)
            return reply(200 if self.users.pop(user, None) else 404)
        return reply(404)

    def addresses(self, _server: str, name: str) -> tuple[list[str], list[str]]:
        user = self.users.get(name.removesuffix(f".{DOMAIN}"))
        return ([user["server"]], ["192.0.2.12"]) if user else ([], [])


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pc, "REPLICATION_SECONDS", 0)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)


def verdicts(client: FakePlatform) -> dict[str, str]:
    platform = pc.Platform(PARAMETERS, client)
    platform._user("ch")
    return {check.what: check.found for check in platform.checks}


def test_user_is_found_everywhere_and_removed_though_its_core_fails() -> None:
    client = FakePlatform()  # its cores know no API but registration
    found = verdicts(client)
    assert [found[f"{host} finds the user by {way}"] for host in ("reg1", "reg2") for way in ("DNS", "HTTPS")] == [
        ""
    ] * 4
    assert "answered 404" in found["the user's core co2 knows the user"]
    assert found["the user is removed again"] == ""
    assert client.users == {}
    assert client.deleted_at == [f"co2.{DOMAIN}"]


def test_core_of_another_zone_is_not_accepted() -> None:
    found = verdicts(FakePlatform(offered=f"https://co9.{DOMAIN}/"))
    assert "no core that takes users of the zone" in found["a hosting offers a core of the zone"]


def test_user_of_a_killed_run_is_removed_first() -> None:
    client = FakePlatform()
    name, email = pc.identity("ch", DOMAIN, KEY)
    client.users[name] = {"email": email, "server": f"co1.{DOMAIN}"}
    assert verdicts(client)["no user of an earlier run is left"] == ""
    assert client.deleted_at == [f"co1.{DOMAIN}", f"co2.{DOMAIN}"]


def test_a_person_with_that_name_is_left_alone() -> None:
    client = FakePlatform()
    name, _ = pc.identity("ch", DOMAIN, KEY)
    client.users[name] = {"email": "someone@example.org", "server": f"co1.{DOMAIN}"}
    found = verdicts(client)
    assert "left alone" in found["no user of an earlier run is left"]
    assert len(found) == 1
    assert client.deleted_at == []


def test_failed_registration_is_cleaned_up_where_it_was_tried() -> None:
    client = FakePlatform(breaks="hostings")
    found = verdicts(client)
    assert "answered 500" in found["a hosting offers a core of the zone"]
    assert found["the user is removed again"] == ""


@pytest.mark.parametrize("zone", ["ch", "EU West_1", "x" * 80, "-"])
def test_throw_away_user_has_a_valid_name_that_nobody_can_guess(zone: str) -> None:
    name, email = pc.identity(zone, DOMAIN, KEY)
    assert re.fullmatch(r"zz-verify-[0-9a-f]{12}(-[a-z0-9-]*[a-z0-9])?", name)
    assert len(name) <= 60
    assert (name, email) == pc.identity(zone, DOMAIN, KEY) != pc.identity(zone, DOMAIN, "another key")


def test_certificate_must_hold_domain_and_wildcard() -> None:
    certificate = {"subjectAltName": (("DNS", f"*.{DOMAIN}"), ("IP Address", "192.0.2.1"))}
    assert pc.covers(certificate, [DOMAIN, f"*.{DOMAIN}"]) == [DOMAIN]


def test_frame_is_masked_text() -> None:
    data = pc.frame("2probe")
    assert data[:2] == bytes([0x81, 0x86])
    assert bytes(byte ^ data[2 + at % 4] for at, byte in enumerate(data[6:])) == b"2probe"


def test_aliases_are_followed_at_the_same_server(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        f"alice.{DOMAIN}": f"alice.{DOMAIN}. 3600 IN CNAME co1.{DOMAIN}.",
        f"co1.{DOMAIN}": f"co1.{DOMAIN}. 3600 IN A 192.0.2.11",
    }

    def ask(_self: pc.Client, server: str, name: str, _kind: str) -> dns.message.Message:
        assert server == "192.0.2.21"
        return dns.message.from_text(f"id 1\nopcode QUERY\nrcode NOERROR\nflags QR AA\n;ANSWER\n{texts[name]}\n")

    monkeypatch.setattr(pc.Client, "ask", ask)
    assert pc.Client(None, 1).addresses("192.0.2.21", f"alice.{DOMAIN}") == ([f"co1.{DOMAIN}"], ["192.0.2.11"])


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
        monkeypatch.setattr(pc, "HTTPS", port)
        assert pc.Client(None, 5).refuses_old_tls("127.0.0.1", f"reg.{DOMAIN}") is refused
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
        monkeypatch.setattr(pc, "HTTPS", server.getsockname()[1])
        assert not pc.Client(None, 5).refuses_old_tls("127.0.0.1", "test")
