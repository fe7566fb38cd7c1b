"""Backups to a place that is the operator's, over SFTP, by the unit that takes them."""

from __future__ import annotations

import json

from testinfra.host import Host

from tests.hosts.conftest import Platform
from tests.hosts.poc.test_data import register

RESTORED = "/srv/pryv/backup/restored"


def test_what_is_sent_over_sftp_is_restored(machine: Host, platform: Platform, secrets: dict[str, str]) -> None:
    user = register(platform, platform.hosts("core")[0], secrets, "sftp")
    try:
        machine.check_output("systemctl start --wait pryv-backup.service")
        last = json.loads(machine.check_output("cat /var/lib/pryv/backup/last.json"))
        assert last["ok"], last
        repository = machine.check_output("cat /etc/pryv/backup/repository")
        assert repository.startswith("sftp:ops@")
        assert machine.file(repository.split(":", 2)[-1] + "/snapshots").is_directory
        machine.check_output(f"pryv-backup restore --into {RESTORED}")
        folder = user.folder(machine).replace("/srv/pryv/", f"{RESTORED}/", 1)
        assert machine.file(folder).is_directory, folder
    finally:
        machine.check_output(f"rm -rf {RESTORED}")
        user.delete(machine)
