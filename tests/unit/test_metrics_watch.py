"""What hosts mail that nobody monitors: to a mail server that is one, with and without TLS."""

from __future__ import annotations

import json
import re
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email import message_from_string, policy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pryv_metrics import watch

NOW = datetime(2026, 11, 28, tzinfo=timezone.utc).timestamp()
OPENS = "what-opens-the-mail-server"
REPLIES = {"EHLO": b"250-here\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n", "AUTH": b"235 known\r\n", "QUIT": b"221 bye\r\n"}


@dataclass
class Server:
    """A mail server.

    Attributes:
        port: Where it listens.
        mails: What it took: who it is from and for, and the text.
        said: The commands that it got in the clear.
        refuses: Whether it takes nothing.
    """

    port: int = 0
    mails: list[tuple[list[str], str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    refuses: bool = False


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A mail server with a certificate that this machine trusts."""
    certify(tmp_path, datetime.fromtimestamp(time.time() - 60, timezone.utc), timedelta(days=1), "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "fullchain.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "fullchain.pem", tmp_path / "privkey.pem")
    state = Server()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            stream, sealed, names = self.connection.makefile("rwb", buffering=0), False, list[str]()
            stream.write(b"220 ready\r\n")
            while line := stream.readline().decode().strip():
                verb = line.split()[0].upper()
                if not sealed:
                    state.said.append(verb)
                if verb == "STARTTLS":
                    stream.write(b"220 go\r\n")
                    self.connection = context.wrap_socket(self.connection, server_side=True)
                    stream, sealed = self.connection.makefile("rwb", buffering=0), True
                elif verb == "DATA":
                    stream.write(b"354 go\r\n")
                    state.mails.append((names[:], b"".join(iter(stream.readline, b".\r\n")).decode()))
                    stream.write(b"250 taken\r\n")
                else:
                    names += re.findall("<(.+)>", line)
                    stream.write(REPLIES.get(verb, b"550 no\r\n" if state.refuses else b"250 good\r\n"))

    class Listener(socketserver.ThreadingTCPServer):
        def handle_error(self, *_: object) -> None:
            """Says nothing of clients that go away."""

    with Listener(("127.0.0.1", 0), Handler) as listener:
        listener.daemon_threads = True
        state.port = listener.server_address[1]
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield state
        listener.shutdown()


def certify(folder: Path, begin: datetime, life: timedelta, name: str = "*.poc.pryv.test") -> None:
    """Writes a certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(begin).not_valid_after(begin + life)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    made = builder.sign(key, hashes.SHA256())
    (folder / "fullchain.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "privkey.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, private, plain))


@pytest.fixture
def host(tmp_path: Path) -> dict[str, Any]:
    """The configuration of a host with which all is well."""
    folder = tmp_path / "host"
    folder.mkdir()
    certify(folder, datetime.fromtimestamp(NOW, timezone.utc) - timedelta(days=10), timedelta(days=100))
    last = {"ok": True, "seconds": 1, "pause_seconds": 1, "bytes": 1, "users": 1}
    when = datetime.fromtimestamp(NOW - 3600, timezone.utc).isoformat()
    (folder / "last.json").write_text(json.dumps({**last, "time": when, "newest": when}))
    (folder / "schedule.json").write_text(json.dumps({"oldest_seconds": 26 * watch.HOUR, "since": when}))
    return {
        "host": "co1.poc.pryv.test",
        "zone": "ch",
        "server": {"host": "localhost", "port": 0, "tls": True, "from": "alerts@poc.pryv.test"},
        "receivers": [{"name": "ops", "mail": ["ops@example.com", "two@example.com"]}],
        "folders": [],
        "certificate": str(folder / "fullchain.pem"),
        "backup": {"schedule": str(folder / "schedule.json"), "file": str(folder / "last.json")},
    }


def names(host: dict[str, Any], now: float = NOW) -> dict[str, str]:
    """What is wrong with a host: severities by name."""
    return {alert.name: alert.severity for alert in watch.alerts(host, now)}


def test_a_host_with_which_all_is_well_has_nothing_to_tell(host: dict[str, Any]) -> None:
    assert names({**host, "folders": ["/proc"]}) == {}


@pytest.mark.parametrize(("free", "expected"), [(4, {"DiskAlmostFull": "critical"}), (6, {})])
def test_a_disk_is_almost_full(
    host: dict[str, Any], monkeypatch: pytest.MonkeyPatch, free: int, expected: dict[str, str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=100, free=free))
    assert names({**host, "folders": ["/"]}) == expected


@pytest.mark.parametrize(
    ("days", "expected"),
    [(64, {}), (66, {"CertificateNotRenewed": "warning"}), (81, {"CertificateExpires": "critical"})],
)
def test_a_certificate_is_near_its_end(host: dict[str, Any], days: int, expected: dict[str, str]) -> None:
    assert names({**host, "backup": {}}, NOW + days * watch.DAY) == expected


def test_a_host_without_its_certificate_says_so(host: dict[str, Any]) -> None:
    Path(host["certificate"]).unlink()
    assert names(host) == {"CertificateExpires": "critical"}


def test_a_backup_is_missed_or_has_failed(host: dict[str, Any]) -> None:
    assert names(host, NOW + 24 * watch.HOUR) == {}
    assert names(host, NOW + 26 * watch.HOUR) == {"BackupMissed": "critical"}
    file = Path(host["backup"]["file"])
    file.write_text(json.dumps({**json.loads(file.read_text()), "ok": False}))
    assert names(host) == {"BackupFailed": "warning"}
    assert names(host, NOW + 26 * watch.HOUR) == {"BackupMissed": "critical"}


def test_a_backup_is_missed_by_its_schedule(host: dict[str, Any]) -> None:
    file = Path(host["backup"]["schedule"])
    file.write_text(json.dumps({**json.loads(file.read_text()), "oldest_seconds": 7 * watch.HOUR}))
    assert names(host, NOW + 5 * watch.HOUR) == {}
    assert names(host, NOW + 7 * watch.HOUR) == {"BackupMissed": "critical"}


def test_a_first_backup_is_waited_for_as_long_as_any(host: dict[str, Any]) -> None:
    Path(host["backup"]["file"]).unlink()
    assert names(host, NOW + 25 * watch.HOUR) == {}
    assert names(host, NOW + 26 * watch.HOUR) == {"BackupMissed": "critical"}
    # Before the host is told to make any.
    Path(host["backup"]["schedule"]).unlink()
    assert names(host, NOW + 26 * watch.HOUR) == {}


def told(server: Server) -> list[str]:
    """Subjects of the mails that a server took."""
    return [str(message_from_string(text)["Subject"]) for _, text in server.mails]


def test_people_are_told_when_something_changes_and_once_a_day(host: dict[str, Any], server: Server) -> None:
    host["server"]["port"] = server.port
    state: dict[str, Any] = {"told": {}}
    assert watch.tell(host, state, NOW)
    assert server.mails == []
    late = NOW + 30 * watch.HOUR
    for now in (late, late + watch.HOUR, late + watch.DAY, late + watch.DAY + watch.HOUR):
        assert watch.tell(host, state, now)
    assert told(server) == ["co1.poc.pryv.test: BackupMissed"] * 2
    names_of_it, text = server.mails[0]
    assert names_of_it == ["alerts@poc.pryv.test", "ops@example.com", "two@example.com"]
    said = message_from_string(text, policy=policy.default).get_content()
    assert "BackupMissed (critical): No backup for 26 hours. The last one is of 2026-11-27 23:00:00 UTC." in said
    assert "docs/operations/alerts.md" in said
    assert watch.tell({**host, "backup": {}}, state, late + 2 * watch.DAY)
    assert told(server)[2:] == ["co1.poc.pryv.test: all is well again"]
    assert state["told"]["ops"]["names"] == []


def test_nothing_but_the_beginning_is_said_in_the_clear(host: dict[str, Any], server: Server) -> None:
    host["server"] |= {"port": server.port, "user": "pryv", "password": OPENS}
    watch.send(host["server"], watch.message(host["host"], [], host["server"], ["ops@example.com"]))
    assert len(server.mails) == 1
    assert server.said == ["EHLO", "STARTTLS"]


def test_a_server_that_nobody_vouches_for_gets_nothing(
    host: dict[str, Any], server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", host["certificate"])
    host["server"] |= {"port": server.port, "user": "pryv", "password": OPENS}
    state: dict[str, Any] = {"told": {}}
    assert not watch.tell(host, state, NOW + 30 * watch.HOUR)
    assert server.mails == []
    assert state["told"] == {}
    said = capsys.readouterr().err
    assert said == "pryv-watch: ops could not be told: SSLCertVerificationError\n"


def test_who_could_not_be_told_is_told_the_next_time_and_others_once(host: dict[str, Any], server: Server) -> None:
    host["server"] |= {"port": server.port, "tls": False}
    host["receivers"] = [{"name": name, "mail": [f"{name}@example.com"]} for name in ("one", "two")]
    state: dict[str, Any] = {"since": NOW, "told": {"one": {"names": ["BackupMissed"], "time": NOW + 30 * watch.HOUR}}}
    server.refuses = True
    assert not watch.tell(host, state, NOW + 30 * watch.HOUR)
    server.refuses = False
    assert watch.tell(host, state, NOW + 31 * watch.HOUR)
    assert [names_of_it[1:] for names_of_it, _ in server.mails] == [["two@example.com"]]
    assert "STARTTLS" not in server.said


@pytest.mark.parametrize(
    ("receiver", "expected"),
    [
        ({}, 2),
        ({"severities": ["critical"]}, 1),
        ({"zones": ["us"]}, 0),
        ({"zones": ["ch", "us"], "severities": ["warning"]}, 1),
    ],
)
def test_receivers_are_told_of_what_they_want(receiver: dict[str, Any], expected: int) -> None:
    found = [watch.Alert("BackupMissed", "critical", ""), watch.Alert("BackupFailed", "warning", "")]
    assert len(watch.wanted(receiver, found, "ch")) == expected


def test_a_host_of_no_zone_concerns_everybody() -> None:
    assert watch.wanted({"zones": ["us"]}, [watch.Alert("BackupMissed", "critical", "")], "")


def test_the_program_remembers_whom_it_told(
    host: dict[str, Any], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host["server"]["port"] = server.port
    Path(host["certificate"]).unlink()
    (tmp_path / "watch.json").write_text(json.dumps({**host, "backup": {}}))
    state = tmp_path / "told.json"
    monkeypatch.setattr("sys.argv", ["pryv-watch", f"--configuration={tmp_path / 'watch.json'}", f"--state={state}"])
    assert [watch.main(), watch.main()] == [0, 0]
    assert told(server) == ["co1.poc.pryv.test: CertificateExpires"]
    assert state.stat().st_mode & 0o777 == 0o600
