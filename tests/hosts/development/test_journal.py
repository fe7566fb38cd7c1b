"""The journal is sent on over TLS, from a service that may not read the platform's key itself."""

from __future__ import annotations

import time

from testinfra.host import Host

from tests.hosts.conftest import Platform
from tests.hosts.development.test_administrators import OPS, harden

PORT = 19532
RECEIVED = "/srv/received"
AUTHORITY = "/usr/local/share/ca-certificates/pryv-test.crt"


def test_the_journal_arrives_where_it_is_sent(machine: Host, platform: Platform) -> None:
    name = f"logs.{platform.domain}"
    machine.check_output(f"cp /etc/hosts /run/hosts; echo 127.0.0.1 {name} >>/etc/hosts; mkdir -p {RECEIVED}")
    # Credentials are mounts, which systemd shares with its services, but not in a container.
    machine.check_output("mount --make-shared /run")
    machine.check_output(f"cp /etc/pryv/tls/ca.pem {AUTHORITY}; update-ca-certificates")
    machine.check_output(
        "systemd-run --unit=journal-receiver /usr/lib/systemd/systemd-journal-remote "
        f"--listen-https={PORT} --key=/etc/pryv/tls/privkey.pem --cert=/etc/pryv/tls/fullchain.pem --output={RECEIVED}/"
    )
    try:
        run = harden(platform.inventory, OPS, hardening_journal_forward_to=f"https://{name}:{PORT}")
        assert run.returncode == 0, run.stdout
        # A core's audit trail has a journal of its own. It is sent on as well, and all of it from the beginning.
        machine.check_output("logger --socket /run/systemd/journal.pryv/dev-log --tag pryv-audit read-by-nobody")
        deadline = time.monotonic() + 180
        arrived = f"journalctl --quiet --directory={RECEIVED} --output=cat --lines=1"
        while not (
            machine.run(f"{arrived} SYSLOG_IDENTIFIER=sudo").stdout
            and machine.run(f"{arrived} _NAMESPACE=pryv _TRANSPORT=syslog").stdout
        ):
            status = machine.run("journalctl --unit=systemd-journal-upload.service --lines=5").stdout
            assert time.monotonic() < deadline, status
            time.sleep(1)
    finally:
        machine.run("systemctl stop journal-receiver.service; cat /run/hosts >/etc/hosts")
        machine.run(f"rm --recursive /run/hosts {RECEIVED} {AUTHORITY}; update-ca-certificates --fresh")
        assert harden(platform.inventory, OPS).returncode == 0
