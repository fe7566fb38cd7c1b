"""What files of role hardening promise each other."""

from __future__ import annotations

import re
from pathlib import Path

ROLES = Path(__file__).parents[2] / "roles"
SYSTEMD = ROLES / "hardening/templates/system/etc/systemd"


def test_what_sends_the_journal_on_is_given_the_certificate_that_it_shows() -> None:
    """Its own user may not read the key, so systemd hands it over."""
    unit = "systemd-journal-upload.service"
    given = re.findall("^LoadCredential=(.+):(.+)$", (SYSTEMD / f"system/{unit}.d/pryv.conf").read_text(), re.MULTILINE)
    shown = re.findall("^Server.*File=(.+)$", (SYSTEMD / "journal-upload.conf.j2").read_text(), re.MULTILINE)
    assert {f"/run/credentials/{unit}/{name}" for name, _ in given} == set(shown)
    assert [path for _, path in given if not (ROLES / f"certificate/templates/root{path}.j2").is_file()] == []
