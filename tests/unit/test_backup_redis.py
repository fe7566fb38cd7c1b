"""A registry's backup, of a real Redis."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from pryv_backup import redis
from pryv_backup.problem import BackupError

from tests.unit.backup_host import Host, core, initialised

KEY = "redis-password-3"


def free_port() -> int:
    """A port that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(folder: Path, port: int) -> Iterator[redis.Client]:
    """A Redis that keeps its files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    program = shutil.which("redis-check-rdb")
    settings = f"port {port}\nbind 127.0.0.1\nrequirepass {KEY}\ndir {folder}\ndbfilename dump.rdb\nappendonly yes\n"
    # The server is this program, under its own name.
    with subprocess.Popen(
        ["redis-server", "-"], executable=program, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(settings.encode())
            process.stdin.close()
            wait_for(port)
            with redis.connected(port, KEY) as client:
                yield client
        finally:
            process.kill()


def wait_for(port: int) -> None:
    """Waits until Redis answers."""
    end = time.monotonic() + 30
    while True:
        try:
            with redis.connected(port, KEY) as client:
                client.ask("PING")
            return
        except BackupError:
            assert time.monotonic() < end
            time.sleep(0.1)


def registry(root: Path, port: int, **settings: object) -> Host:
    """A host that is registry and nothing else."""
    (root / "redis-password").parent.mkdir(parents=True, exist_ok=True)
    (root / "redis-password").write_text(f"{KEY}\n")
    found = {
        "password_file": str(root / "redis-password"),
        "port": port,
        "folder": "registry/redis",
        "file": "dump.rdb",
    }
    nothing: dict[str, object] = {"project": None, "copied": [], "linked": [], "required": []}
    return initialised(Host(root, **{**nothing, "redis": found, **settings}))


def test_a_registry_is_backed_up_as_it_is(tmp_path: Path) -> None:
    port = free_port()
    host = registry(tmp_path, port)
    with server(host.data / "registry/redis", port) as client:
        for number in range(50):
            client.ask("SET", f"user{number}:users", f"{{{number}}}")
            client.ask("SET", f"user{number}:server", "co1")
        done = host.said("run")
        assert (done["users"], done["files"], done["pause_seconds"]) == (50, 1, 0)
        client.ask("SET", "late:users", "{}")
        assert host.said("run")["users"] == 51
        told = host.said("restore", "--into", host.data / "restored")
        assert told["users"] == 51
        # Which images have to read it; nothing of it stands still.
        assert told["images"][0]["id"] == "sha256:1"
        assert KEY not in host.calls
    assert "docker pause" not in host.calls
    assert "docker unpause" not in host.calls


def test_what_was_restored_is_what_redis_had(tmp_path: Path) -> None:
    port = free_port()
    host = registry(tmp_path, port)
    with server(host.data / "registry/redis", port) as client:
        client.ask("SET", "anna:server", "co1")
        host.said("run")
    host.said("restore", "--into", host.data / "restored")
    done = subprocess.run(
        ["redis-check-rdb", host.data / "restored/registry/redis/dump.rdb"], capture_output=True, text=True, check=True
    )
    assert "1 keys read" in done.stdout


def test_a_machine_that_is_core_and_registry_has_both(tmp_path: Path) -> None:
    port = free_port()
    both = registry(tmp_path / "registry", port)
    host = initialised(core(tmp_path / "core", redis=both.settings["redis"]))
    with server(host.data / "registry/redis", port) as client:
        client.ask("SET", "user0:users", "{}")
        done = host.said("run")
    assert (done["users"], done["files"]) == (3, 13)
    host.said("restore", "--into", host.data / "restored")
    assert (host.data / "restored/registry/redis/dump.rdb").read_bytes().startswith(b"REDIS")


def test_what_redis_refuses_is_told_without_a_secret(tmp_path: Path) -> None:
    port = free_port()
    host = registry(tmp_path, port)
    assert f"Redis on port {port}" in host.refusal("run")
    with server(host.data / "registry/redis", port):
        (tmp_path / "redis-password").write_text("another-password")
        said = host.refusal("run")
        assert "Redis refuses AUTH" in said
        assert "another-password" not in said
        (tmp_path / "redis-password").write_text(KEY)
        host.configure(redis={**host.settings["redis"], "file": "old.rdb"})
        assert "old.rdb" in host.refusal("run")
        (host.data / "registry/redis/old.rdb").write_bytes(b"REDIS")
        os.utime(host.data / "registry/redis/old.rdb", (1, 1))
        assert "Redis wrote its database elsewhere" in host.refusal("run")
    assert host.said("list")["snapshots"] == []


def test_a_redis_that_cannot_write_is_told(tmp_path: Path) -> None:
    port = free_port()
    host = registry(tmp_path, port)
    with server(host.data / "registry/redis", port) as client:
        client.ask("SET", "anna:users", "{}")
        # A folder in the file's place: the write fails, whoever Redis runs as.
        (host.data / "registry/redis/dump.rdb").mkdir()
        with pytest.raises(BackupError, match="could not write its database"):
            client.save()
