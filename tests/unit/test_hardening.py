"""What files of role hardening promise each other."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROLES = Path(__file__).parents[2] / "roles"
SYSTEMD = ROLES / "hardening/templates/system/etc/systemd"


def test_what_sends_the_journal_on_is_given_the_certificate_that_it_shows() -> None:
    """Its own user may not read the key, so systemd hands it over."""
    unit = "systemd-journal-upload.service"
    given = re.findall(
        r"^LoadCredential=(.+):\{\{ pryv_paths\.(\w+) \}\}$",
        (SYSTEMD / f"system/{unit}.d/pryv.conf.j2").read_text(),
        re.MULTILINE,
    )
    shown = re.findall("^Server.*File=(.+)$", (SYSTEMD / "journal-upload.conf.j2").read_text(), re.MULTILINE)
    assert {f"/run/credentials/{unit}/{name}" for name, _ in given} == set(shown)
    paths = yaml.safe_load((ROLES / "pryv/vars/main.yml").read_text())["pryv_paths"]
    assert [Path(paths[name]).name for _, name in given] == [name for name, _ in given]
