"""What a host tells of itself: each collector, beside what it asks."""

from __future__ import annotations

import json
import socket
import socketserver
import sqlite3
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pryv_metrics import __main__ as program
from pryv_metrics import backups, certificate, containers, core, data_disk, firewall, registry, samples, sockets, units
from pryv_metrics.problem import CollectorError
from pryv_metrics.samples import Sample

USER, KEY = "alicesmith", "a-key-of-administrators"


def values(found: Iterator[Sample]) -> dict[str, float]:
    """What a collector tells: value by name and labels as Prometheus writes them."""
    return {samples.line(one).rpartition(" ")[0]: float(one.value) for one in found}


@contextmanager
def served(answers: Mapping[str, tuple[int, Any]], path: Path | None = None, silent: float = 0) -> Iterator[int]:
    """An HTTP service, on a port of its own or a socket, that answers the paths it knows to whoever has the key.

    Args:
        answers: Status and what becomes JSON, by path without query.
        path: Of a socket of the file system.
        silent: For how long it says nothing first, in seconds.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            time.sleep(silent)
            status, body = answers.get(self.path.partition("?")[0], (404, {}))
            if path is None and self.path.startswith(("/system", "/admin")) and self.headers["Authorization"] != KEY:
                status = 401
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def address_string(self) -> str:
            return "-"

        def log_message(self, *_: object) -> None:
            pass

    kind = socketserver.ThreadingTCPServer if path is None else socketserver.ThreadingUnixStreamServer
    with kind(("127.0.0.1", 0) if path is None else str(path), Handler) as server:  # type: ignore[arg-type]
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.socket.getsockname()[1]) if path is None else 0
        server.shutdown()


# What is written


def test_samples_of_one_name_stand_together_with_their_type() -> None:
    told = [Sample("b_total", 2), Sample("a", 1.5, {"x": "2"}), Sample("a", 1, {"x": 'q"\\\n'}), Sample("b_total", 3)]
    assert samples.text(told) == (
        '# TYPE a gauge\na{x="2"} 1.5\na{x="q\\"\\\\\\n"} 1\n# TYPE b_total counter\nb_total 2\nb_total 3\n'
    )


def test_a_file_is_replaced_whole_and_everybody_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "pryv.prom"
    (tmp_path / ".pryv.prom.new").write_text("of a run that was killed")
    path.write_text("old")
    before = path.stat().st_ino
    samples.write(path, "new\n", 0o644)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new\n", 0o644)
    assert path.stat().st_ino != before
    assert list(tmp_path.iterdir()) == [path]


def test_a_collector_that_fails_is_told_of_and_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(_: Mapping[str, Any]) -> Iterator[Sample]:
        yield Sample("before", 1)
        raise ValueError(f"{USER} has no such thing")

    def refuses(_: Mapping[str, Any]) -> Iterator[Sample]:
        raise CollectorError("there is nothing to look at")

    collectors = {"core": breaks, "units": refuses, "firewall": lambda _: [Sample("good", 1)]}
    monkeypatch.setattr(program, "COLLECTORS", collectors)
    configuration = {"file": str(tmp_path / "pryv.prom"), "collectors": {name: {} for name in collectors}}
    (tmp_path / "metrics.json").write_text(json.dumps(configuration))
    monkeypatch.setattr("sys.argv", ["pryv-metrics", f"--configuration={tmp_path / 'metrics.json'}"])
    assert program.main() == 0
    told = dict(line.rsplit(" ", 1) for line in (tmp_path / "pryv.prom").read_text().splitlines() if line[0] != "#")
    assert float(told.pop("pryv_metrics_time_seconds")) == pytest.approx(time.time(), abs=60)
    assert told == {
        "before": "1",
        "good": "1",
        'pryv_metrics_collector_ok{collector="core"}': "0",
        'pryv_metrics_collector_ok{collector="firewall"}': "1",
        'pryv_metrics_collector_ok{collector="units"}': "0",
    }
    said = capsys.readouterr().err
    assert "core: ValueError" in said
    assert "units: there is nothing to look at" in said
    assert USER not in said


def test_collectors_wait_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=10)

    def waits(_: Mapping[str, Any]) -> Iterator[Sample]:
        both.wait()
        yield Sample("met", 1)

    monkeypatch.setattr(program, "COLLECTORS", {"core": waits, "registry": waits})
    found = program.collect({"core": {}, "registry": {}})
    assert [one.value for one in found if one.name == "met"] == [1, 1]


# Containers

COMPOSE = """# Written by Ansible
name: pryv-core

x-service: &service
  restart: unless-stopped

services:
  core:
    image: core
    labels: {a: b}

  mongodb:
    image: mongodb

networks:
  outside: {}
"""


def container(process: int, **changes: Any) -> dict[str, Any]:
    """A container as Docker describes it."""
    state = {"Status": "running", "Pid": process, "StartedAt": "2026-11-28T01:02:03.123456789Z", **changes}
    return {"State": state, "RestartCount": 4, "HostConfig": {"Memory": 1 << 29}}


def listed(name: str, service: str, project: str = "pryv-core") -> dict[str, Any]:
    """A container in Docker's list."""
    return {"Id": name, "Labels": {containers.PROJECT: project, containers.SERVICE: service}}


def test_containers_are_told_of_by_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core/compose.yml").write_text(COMPOSE)
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/cgroup").write_text("0::/system.slice/docker-a.scope\n")
    group = tmp_path / "groups/system.slice/docker-a.scope"
    group.mkdir(parents=True)
    (group / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    monkeypatch.setattr(containers, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(containers, "PROCESSES", tmp_path / "proc")
    answers: dict[str, tuple[int, Any]] = {
        "/containers/json": (200, [listed("a", "core"), listed("b", "theirs", "other"), listed("c", "mongodb")]),
        "/containers/a/json": (200, container(7)),
        "/containers/a/stats": (200, {"memory_stats": {"usage": 3 << 20, "stats": {"inactive_file": 2 << 20}}}),
        "/containers/b/json": (200, container(7)),
    }
    options = {"folder": str(tmp_path), "socket": str(tmp_path / "docker.sock")}
    with served(answers, tmp_path / "docker.sock"):
        # The one of mongodb is gone between both questions.
        found = values(containers.collect(options))
    labels = 'project="pryv-core",service="core"'
    assert found == {
        f"pryv_container_running{{{labels}}}": 1,
        f"pryv_container_restarts_total{{{labels}}}": 4,
        f"pryv_container_memory_limit_bytes{{{labels}}}": 1 << 29,
        f"pryv_container_started_seconds{{{labels}}}": datetime(2026, 11, 28, 1, 2, 3, tzinfo=timezone.utc).timestamp(),
        f"pryv_container_memory_bytes{{{labels}}}": 1048576,
        f"pryv_container_oom_kills_total{{{labels}}}": 2,
        'pryv_container_running{project="pryv-core",service="mongodb"}': 0,
    }


def test_a_container_that_has_ended_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core/compose.yml").write_text(COMPOSE)
    answers: dict[str, tuple[int, Any]] = {
        "/containers/json": (200, [listed("a", "core"), listed("b", "mongodb")]),
        "/containers/a/json": (200, container(0, Status="exited")),
        "/containers/b/json": (200, container(0, Status="paused")),
    }
    with served(answers, tmp_path / "docker.sock"):
        found = values(containers.collect({"folder": str(tmp_path), "socket": str(tmp_path / "docker.sock")}))
    running = {name: value for name, value in found.items() if "running" in name}
    assert sorted(running.values()) == [0, 1]
    assert running['pryv_container_running{project="pryv-core",service="core"}'] == 0


def test_a_docker_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CollectorError, match="Docker does not answer"):
        values(containers.collect({"folder": str(tmp_path), "socket": str(tmp_path / "docker.sock")}))


# The certificate


def issue(folder: Path, begin: datetime, end: datetime) -> x509.Certificate:
    """Writes a certificate with its chain, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "*.poc.pryv.test")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)
    made = builder.sign(key, hashes.SHA256())
    pem = made.public_bytes(serialization.Encoding.PEM)
    (folder / "fullchain.pem").write_bytes(pem + pem)
    private = serialization.PrivateFormat.PKCS8
    (folder / "privkey.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
    )
    return made


@contextmanager
def shown(folder: Path) -> Iterator[int]:
    """A listener with the certificate in a folder; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "fullchain.pem", folder / "privkey.pem")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def shake() -> None:
            plain, _ = server.accept()
            with plain, context.wrap_socket(plain, server_side=True):
                pass

        threading.Thread(target=shake, daemon=True).start()
        yield server.getsockname()[1]


@pytest.mark.parametrize("years", [1, 40])
def test_a_certificate_is_told_of_as_it_lies_there_and_as_it_is_shown(tmp_path: Path, years: int) -> None:
    begin = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    end = begin + timedelta(days=365 * years)
    issue(tmp_path, begin, end)
    options = {"file": str(tmp_path / "fullchain.pem"), "address": "127.0.0.1", "name": "mon.poc.pryv.test"}
    with shown(tmp_path) as port:
        found = values(certificate.collect({**options, "port": port}))
    assert found == {
        'pryv_certificate_not_before_seconds{source="file"}': begin.timestamp(),
        'pryv_certificate_not_after_seconds{source="file"}': end.timestamp(),
        'pryv_certificate_not_after_seconds{source="served"}': end.timestamp(),
        "pryv_certificate_served_is_file": 1,
    }


def test_a_certificate_that_was_renewed_and_is_not_shown_is_seen(tmp_path: Path) -> None:
    begin = datetime(2026, 1, 1, tzinfo=timezone.utc)
    (tmp_path / "old").mkdir()
    issue(tmp_path / "old", begin, begin + timedelta(days=90))
    issue(tmp_path, begin, begin + timedelta(days=180))
    options = {"file": str(tmp_path / "fullchain.pem"), "address": "127.0.0.1", "name": "mon.poc.pryv.test"}
    with shown(tmp_path / "old") as port:
        found = values(certificate.collect({**options, "port": port}))
    assert found["pryv_certificate_served_is_file"] == 0
    assert found['pryv_certificate_not_after_seconds{source="file"}'] == (begin + timedelta(days=180)).timestamp()
    assert found['pryv_certificate_not_after_seconds{source="served"}'] == (begin + timedelta(days=90)).timestamp()


@pytest.mark.parametrize("content", [b"", b"0", b"\x30\x03\x30\x01\x30", b"\x30\x82\xff\xff"])
def test_what_is_no_certificate_is_an_error(content: bytes) -> None:
    with pytest.raises(CollectorError):
        certificate.validity(content)


# Firewall and units


@pytest.mark.parametrize(("command", "expected"), [("sh -c 'test a = a'", 1), ("sh -c 'test a = b'", 0)])
def test_the_firewall_is_as_its_command_says(command: str, expected: int) -> None:
    assert values(firewall.collect({"command": command})) == {"pryv_firewall_as_configured": expected}


def test_a_command_that_is_not_there_is_an_error() -> None:
    with pytest.raises(CollectorError):
        values(firewall.collect({"command": "no-such-program-here"}))


#: Name, load state, state, type, whether it is enabled, what its condition says, and since when.
UNITS = (
    ("nginx.service", "loaded", "inactive", "forking", "enabled", "yes", "7"),
    ("pryv-backup.service", "loaded", "inactive", "oneshot", "static", "yes", "7"),
    ("pryv-drill.service", "loaded", "failed", "oneshot", "static", "yes", "7"),
    ("docker.service", "loaded", "active", "notify", "enabled", "yes", "7"),
    ("mtail.service", "loaded", "inactive", "simple", "enabled", "no", "0"),
    ("chrony.service", "loaded", "inactive", "forking", "enabled", "no", "7"),
    ("ssh.service", "loaded", "inactive", "notify", "disabled", "no", "0"),
    ("pryv-journal@co1.service", "loaded", "failed", "simple", "static", "yes", "7"),
    ("systemd-timesyncd.service", "not-found", "inactive", "", "", "no", "0"),
)


def test_units_that_are_there_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown_units = ("\n".join(map("=".join, zip(units.PROPERTIES, unit, strict=True))) for unit in UNITS)
    (tmp_path / "shown").write_text("\n\n".join(shown_units) + "\n")
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\ncat {tmp_path / 'shown'}\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert values(units.collect({"patterns": ["pryv-*.service"]})) == {
        'pryv_unit_failed{unit="nginx.service"}': 1,
        'pryv_unit_failed{unit="pryv-backup.service"}': 0,
        'pryv_unit_failed{unit="pryv-drill.service"}': 1,
        'pryv_unit_failed{unit="docker.service"}': 0,
        'pryv_unit_failed{unit="mtail.service"}': 1,
        'pryv_unit_failed{unit="chrony.service"}': 0,
        'pryv_unit_failed{unit="ssh.service"}': 0,
    }


# A core and the registry


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Path]:
    """An index of users that a core has open, with one user that is in its log alone."""
    path = tmp_path / "user-index.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE id4name (username TEXT PRIMARY KEY, userId TEXT)")
        connection.execute("INSERT INTO id4name VALUES (?, 'u1')", (USER,))
        yield path


def core_options(index: Path, port: int, key: str = KEY) -> dict[str, Any]:
    """What the collector of a core is told."""
    (index.parent / "core.yml").write_text(
        f"auth:\n    trustedApps: '*'\n    adminAccessKey: {key}\n    ssoCookie: x\n"
    )
    return {"index": str(index), "port": port, "settings": str(index.parent / "core.yml")}


def test_connections_from_the_address_of_sockets_alone_are_clients() -> None:
    """As the kernel tells of them; each is told of at both its ends, and one that was closed still for a while."""
    own, other = "127.0.73.2", "127.0.73.3"
    with socket.create_server(("127.0.0.1", 0)) as server:
        door = server.getsockname()

        def opened(address: str) -> socket.socket:
            return socket.create_connection(door, timeout=5, source_address=(address, 0))

        with opened(own), opened(own) as second, opened(other):
            assert values(sockets.collect({"address": own})) == {"pryv_core_sockets": 2}
            second.close()
            assert values(sockets.collect({"address": own})) == {"pryv_core_sockets": 1}


@pytest.mark.parametrize(("status", "expected"), [(200, 1), (500, 0)])
def test_a_database_answers_or_not(index: Path, status: int, expected: int) -> None:
    with served({f"/system/user-info/{USER}": (status, {})}) as port:
        found = values(core.collect(core_options(index, port)))
    assert 0 < found.pop("pryv_core_database_answer_seconds") < 5
    assert found == {"pryv_core_users_local": 1, "pryv_core_database_answers": expected}


def test_a_core_that_is_silent_or_gone_has_no_database(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "PATIENCE", 0.2)
    with served({f"/system/user-info/{USER}": (200, {})}, silent=2) as port:
        found = values(core.collect(core_options(index, port)))
    assert found["pryv_core_database_answers"] == 0
    assert found["pryv_core_database_answer_seconds"] < 2
    with socket.create_server(("127.0.0.1", 0)) as server:
        gone = server.getsockname()[1]
    assert values(core.collect(core_options(index, gone)))["pryv_core_database_answers"] == 0


def test_a_core_with_another_key_says_nothing_of_its_database(index: Path) -> None:
    with served({f"/system/user-info/{USER}": (200, {})}) as port, pytest.raises(CollectorError) as caught:
        values(core.collect(core_options(index, port, "another")))
    assert USER not in str(caught.value)


def test_settings_without_a_key_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "settings").write_text("{}")
    for key in (core.administrators_key, registry.administrators_key):
        with pytest.raises(CollectorError, match="no key"):
            key(tmp_path / "settings")


def test_an_index_is_read_without_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "user-index.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE id4name (username TEXT PRIMARY KEY, userId TEXT)")
    before = path.read_bytes()
    # A core without users, which does not run.
    assert values(core.collect({"index": str(path), "port": 1, "settings": ""})) == {"pryv_core_users_local": 0}
    assert [one.name for one in tmp_path.iterdir()] == ["user-index.db"]
    assert path.read_bytes() == before


def test_a_core_that_never_ran_says_nothing(tmp_path: Path) -> None:
    assert values(core.collect({"index": str(tmp_path / "user-index.db")})) == {}


def test_the_leader_says_how_many_users_cores_have(tmp_path: Path) -> None:
    servers = {"co1.poc.pryv.test": 3, "alice@example.com": 2, "old.elsewhere.test": 1}
    answers: dict[str, tuple[int, Any]] = {
        registry.QUESTION: (200, {"reserved": False}),
        "/admin/servers": (200, {"servers": servers}),
    }
    keys = {"of-a-core": {"roles": ["system"]}, KEY: {"roles": ["admin", "system"]}}
    (tmp_path / "register.json").write_text(json.dumps({"auth": {"authorizedKeys": keys}}))
    options = {"settings": str(tmp_path / "register.json"), "domain": "poc.pryv.test", "cores": ["co1", "co2"]}
    with served(answers) as port:
        found = values(registry.collect({**options, "port": port}))
        follower = values(registry.collect({"port": port}))
    assert found == {
        "pryv_registry_answers": 1,
        'pryv_core_users{core="co1"}': 3,
        'pryv_core_users{core="co2"}': 0,
        'pryv_core_users{core="unknown"}': 3,
    }
    assert follower == {"pryv_registry_answers": 1}


def test_a_registry_without_its_database_does_not_answer() -> None:
    with served({registry.QUESTION: (500, {})}) as port:
        assert values(registry.collect({"port": port})) == {"pryv_registry_answers": 0}


# The data disk


def disk(path: Path, header: Mapping[str, Any] | None) -> Path:
    """A disk with a header of LUKS2, or none."""
    size = 16384
    start = data_disk.MAGIC + size.to_bytes(8, "big")
    text = json.dumps(header).encode()
    content = start.ljust(data_disk.JSON_AREA, b"\0") + text.ljust(size - data_disk.JSON_AREA, b"\0")
    path.write_bytes(content if header is not None else b"\0" * size)
    return path


def test_keys_of_a_disk_are_counted_by_method(tmp_path: Path) -> None:
    tokens = {
        "0": {"type": "systemd-tpm2", "keyslots": ["1"]},
        "1": {"type": "pryv-unlock", "keyslots": ["1"]},
        "2": {"type": "somebody's", "keyslots": ["3"]},
    }
    header = {"keyslots": {"0": {}, "1": {}, "2": {}, "3": {}}, "tokens": tokens}
    options = {"device": str(disk(tmp_path / "disk", header)), "folder": "/proc"}
    assert values(data_disk.collect(options)) == {
        "pryv_data_disk_open": 1,
        "pryv_data_disk_encrypted": 1,
        'pryv_data_disk_keys{method="tpm2"}': 1,
        'pryv_data_disk_keys{method="recovery"}': 2,
        'pryv_data_disk_keys{method="other"}': 1,
    }


def test_a_disk_without_a_header_is_not_encrypted(tmp_path: Path) -> None:
    options = {"device": str(disk(tmp_path / "disk", None)), "folder": str(tmp_path)}
    assert values(data_disk.collect(options)) == {"pryv_data_disk_open": 0, "pryv_data_disk_encrypted": 0}


# Backups

GOOD = {
    "time": "2026-11-28T01:00:00+00:00",
    "ok": True,
    "error": None,
    "seconds": 12.5,
    "pause_seconds": 0.8,
    "bytes": 1000,
    "users": 3,
}


def test_a_failed_backup_leaves_the_age_of_the_last_good_one(tmp_path: Path) -> None:
    options = {"schedule": str(tmp_path / "schedule.json"), "file": str(tmp_path / "last.json")}
    assert values(backups.collect_own(options)) == {}
    failed = {"time": "2026-11-29T01:00:00+00:00", "ok": False, "error": "no space", "seconds": 1, "newest": None}
    (tmp_path / "last.json").write_text(json.dumps(failed))
    assert values(backups.collect_own(options)) == {"pryv_backup_ok": 0}
    newest = datetime(2026, 11, 28, 1, tzinfo=timezone.utc).timestamp()
    (tmp_path / "last.json").write_text(json.dumps({**GOOD, "newest": GOOD["time"]}))
    assert values(backups.collect_own(options)) == {
        "pryv_backup_ok": 1,
        "pryv_backup_time_seconds": newest,
        "pryv_backup_seconds": 12.5,
        "pryv_backup_pause_seconds": 0.8,
        "pryv_backup_bytes": 1000,
        "pryv_backup_users": 3,
    }
    (tmp_path / "last.json").write_text(json.dumps({**failed, "newest": GOOD["time"]}))
    assert values(backups.collect_own(options)) == {
        "pryv_backup_ok": 0,
        "pryv_backup_time_seconds": newest,
    }


def test_how_old_a_backup_may_be_is_told_before_there_is_one(tmp_path: Path) -> None:
    options = {"schedule": str(tmp_path / "schedule.json"), "file": str(tmp_path / "last.json")}
    (tmp_path / "schedule.json").write_text(json.dumps({"oldest_seconds": 25200, "since": GOOD["time"]}))
    assert values(backups.collect_own(options)) == {
        "pryv_backup_oldest_seconds": 25200,
        "pryv_backup_since_seconds": datetime(2026, 11, 28, 1, tzinfo=timezone.utc).timestamp(),
    }


def test_a_backup_server_tells_of_each_host(tmp_path: Path) -> None:
    (tmp_path / "drill.json").write_text(json.dumps({"co1": GOOD, "gone": GOOD, "co2": {**GOOD, "ok": False}}))
    (tmp_path / "retain.json").write_text(json.dumps({"co1": GOOD}))
    options = {"drill": str(tmp_path / "drill.json"), "retention": str(tmp_path / "retain.json")}
    time_of_it = datetime(2026, 11, 28, 1, tzinfo=timezone.utc).timestamp()
    assert values(backups.collect_kept({**options, "hosts": ["co1", "co2", "reg1"]})) == {
        'pryv_drill_time_seconds{of="co1"}': time_of_it,
        'pryv_drill_ok{of="co1"}': 1,
        'pryv_drill_time_seconds{of="co2"}': time_of_it,
        'pryv_drill_ok{of="co2"}': 0,
        'pryv_retention_ok{of="co1"}': 1,
    }


def test_what_is_no_json_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "last.json").write_text("{")
    with pytest.raises(CollectorError):
        values(backups.collect_own({"schedule": str(tmp_path / "none.json"), "file": str(tmp_path / "last.json")}))
