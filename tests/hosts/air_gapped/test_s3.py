"""Backups to a place that is the operator's, on S3 with an authority of its own, by the unit that takes them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.hosts.conftest import Platform
from tests.hosts.poc.test_backups import play, said
from tests.hosts.poc.test_data import register

KEYS = {"AWS_ACCESS_KEY_ID": "pryv-backup", "AWS_SECRET_ACCESS_KEY": "what-nobody-may-see-1"}
AUTHORITY, RESTORED = "/etc/ssl/s3.pem", "/srv/pryv/backup/restored"


@pytest.fixture
def place(machine: Host, platform: Platform, tmp_path: Path) -> Iterator[str]:
    """Address of a server of S3's on this machine, which takes these keys alone; `buckets` is what it has."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.connect((platform.topology["hosts"][platform.hosts("core")[0]]["ansible_host"], 9))
        own = probe.getsockname()[0]
    with socket.create_server((own, 0)) as free:
        address = f"{own}:{free.getsockname()[1]}"
    certificate, key, buckets = tmp_path / "s3.pem", tmp_path / "s3.key", tmp_path / "buckets"
    (buckets / "pryv").mkdir(parents=True)
    names = ["-subj", "/CN=s3", "-addext", f"subjectAltName=IP:{own}"]
    new = ["-x509", "-nodes", "-days", "1", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run(
        ["openssl", "req", *new, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    machine.check_output("printf %%s %s >%s", certificate.read_text(), AUTHORITY)
    program = Path(sys.executable).with_name("rclone")
    command: list[str | Path] = [
        program,
        "serve",
        "s3",
        buckets,
        f"--addr={address}",
        f"--cert={certificate}",
        f"--key={key}",
    ]
    with subprocess.Popen([*command, f"--auth-key={','.join(KEYS.values())}", "--config=/dev/null"]) as server:
        try:
            end = time.monotonic() + 20
            while not answers(address):
                assert time.monotonic() < end, "it does not listen"
                time.sleep(0.1)
            yield address
        finally:
            server.kill()
            machine.check_output("rm %s", AUTHORITY)


def answers(address: str) -> bool:
    """Whether somebody listens there."""
    host, _, port = address.partition(":")
    with socket.socket() as connection:
        return connection.connect_ex((host, int(port))) == 0


def test_what_is_sent_to_s3_is_restored(
    machine: Host, platform: Platform, secrets: dict[str, str], place: str, tmp_path: Path
) -> None:
    user = register(platform, platform.hosts("core")[0], secrets, "s3")
    given = {
        "backup_repository": f"s3:https://{place}/pryv",
        "backup_environment": {**KEYS, "SSL_CERT_FILE": AUTHORITY},
    }
    try:
        run = play(platform, "site.yml", "--tags=backup", "--diff", **given)
        assert run.returncode == 0, said(run)
        machine.check_output("systemctl start --wait pryv-backup.service")
        last = json.loads(machine.check_output("cat /var/lib/pryv/backup/last.json"))
        assert last["ok"], last
        assert list((tmp_path / "buckets/pryv" / user.core / "snapshots").iterdir())
        machine.check_output(f"pryv-backup restore --into {RESTORED}")
        assert machine.file(user.folder(machine).replace("/srv/pryv/", f"{RESTORED}/", 1)).is_directory
        # What opens it is in one file, which is root's alone, and nowhere in what was said.
        secret = KEYS["AWS_SECRET_ACCESS_KEY"]
        assert secret not in run.stdout + run.stderr
        # sudo logs the question, which must not be its own answer.
        pattern = f"[{secret[0]}]{secret[1:]}"
        where = "/etc /run/systemd /var/lib/pryv /var/log"
        found = machine.check_output(f"grep -rl --devices=skip %s {where} || true", pattern)
        assert found == "/etc/pryv/backup/backup.json"
        kept = machine.file(found)
        assert (kept.user, kept.mode) == ("root", 0o400)
    finally:
        machine.check_output(f"rm -rf {RESTORED}")
        user.delete(machine)
        back = play(platform, "site.yml", "--tags=backup")
    assert back.returncode == 0, said(back)
    assert machine.check_output("cat /etc/pryv/backup/repository").startswith("sftp:")
