"""What apps do works with Pryv's own JavaScript client: tests/client."""

from __future__ import annotations

import subprocess

from tests.fleet.fleet import CHECKOUT
from tests.hosts.conftest import Platform

ZONES = ("ch", "us")
#: What the program does for a user of each zone.
STEPS = (
    *(
        "registration",
        "login",
        "batches",
        "events",
        "attachments",
        "series",
        "sockets",
        "monitors",
        "accesses",
        "pages",
    ),
    *("secondFactor", "logout"),
)


def test_pryvs_own_client_works_in_each_zone(platform: Platform) -> None:
    authority = str((platform.inventory / "ca/ca.pem").absolute())
    server = platform.address(str(platform.topology["leader"]))
    command = [str(CHECKOUT / "tests/client/run"), authority, platform.domain, server, *ZONES, "--second-factor"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    passed = [line for line in done.stdout.splitlines() if line.startswith("ok - ")]
    assert done.returncode == 0, done.stdout + done.stderr
    assert passed == [f"ok - {zone}: {step}" for zone in ZONES for step in STEPS]
