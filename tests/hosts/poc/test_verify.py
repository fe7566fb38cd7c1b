"""What playbooks/verify.yml and site.yml say of a platform that is broken."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet import fleet
from tests.hosts.conftest import Platform

OPEN_PORT = 9025
# Each is of a kind that the programs refuse when they start.
WRONG_SETTINGS = {"mfa": {"sms": {"mode": 7}}, "hfs": {"http": {"ip": 7}}, "preview": {"http": {"ip": 7}}}


def play(platform: Platform, playbook: str, *arguments: str) -> tuple[int, str]:
    """Runs a playbook; returns its exit code and what it said, in one line."""
    program = Path(sys.executable).with_name("ansible-playbook")
    environment = {**os.environ, **fleet.environment(), "ANSIBLE_CONFIG": str(fleet.CHECKOUT / "ansible.cfg")}
    command = [str(program), playbook, "--inventory", str(platform.inventory.absolute()), *arguments]
    done = subprocess.run(command, cwd=fleet.CHECKOUT, env=environment, capture_output=True, check=False)
    return done.returncode, " ".join(done.stdout.decode().split())


def wait_for(platform: Platform, core: str) -> None:
    """Waits until a core answers."""
    name = f"{core}.{platform.domain}"
    platform.machine(core).check_output(
        f"curl --silent --fail --insecure --resolve {name}:443:127.0.0.1 --retry 60 --retry-delay 1 --retry-all-errors "
        f"https://{name}/"
    )


@pytest.fixture
def stopped(platform: Platform) -> Iterator[str]:
    """A core whose program is stopped, and that lets everybody to a port that nobody may reach."""
    core = platform.hosts("core")[0]
    machine = platform.machine(core)
    listen = f"--unit=opened python3 -m http.server --bind {platform.address(core)} {OPEN_PORT}"
    machine.check_output("docker stop --time 1 pryv-core-core-1")
    machine.check_output(f"systemd-run --quiet --collect {listen}")
    machine.check_output(f"nft insert rule inet pryv input tcp dport {OPEN_PORT} accept")
    yield core
    machine.check_output("systemctl stop opened.service; systemctl reload-or-restart pryv-firewall.service")
    machine.check_output("docker start pryv-core-core-1")
    wait_for(platform, core)


@pytest.fixture
def without_database(platform: Platform) -> Iterator[str]:
    """A core whose database is stopped, and whose webhooks end as soon as they are started."""
    core = platform.hosts("core")[0]
    machine = platform.machine(core)
    settings = "/etc/pryv/core/webhooks/webhooks.yml"
    machine.check_output("docker stop --time 1 pryv-core-mongodb-1")
    machine.check_output(f"cp --preserve=all {settings} /run/webhooks.yml && : >{settings}")
    machine.check_output("docker restart --time 1 pryv-core-webhooks-1")
    yield core
    machine.check_output(f"cp --preserve=all /run/webhooks.yml {settings}")
    machine.check_output("docker start pryv-core-mongodb-1 && docker restart --time 1 pryv-core-webhooks-1")
    wait_for(platform, core)


@pytest.fixture
def with_wrong_settings(platform: Platform) -> Iterator[tuple[str, int, str]]:
    """A core after site.yml with settings that some of its programs refuse; with what that run said."""
    core = platform.hosts("core")[0]
    machine = platform.machine(core)
    machine.check_output("cp --archive /etc/pryv/core /run/core")
    given = {
        "pryv_image_archive": [str(fleet.CACHE / "standins/images.tar.gz")],
        "pryv_event_types_file": str(fleet.CHECKOUT / "tests/standins/event-types.json"),
        "core_settings": WRONG_SETTINGS,
        "core_wait_seconds": 12,
    }
    code, said = play(platform, "site.yml", "--tags", "core", "--extra-vars", json.dumps(given))
    yield core, code, said
    machine.check_output("rm -r /etc/pryv/core && mv /run/core /etc/pryv/core")
    machine.check_output("docker compose --file /etc/pryv/core/compose.yml up --detach --wait")
    wait_for(platform, core)


def test_each_thing_that_is_wrong_is_named_and_the_run_fails(platform: Platform, stopped: str) -> None:
    code, said = play(platform, "playbooks/verify.yml")
    assert code != 0
    assert said.count(f"FAILED {stopped}: closed ports") == 1
    assert f": {OPEN_PORT} open. Run site.yml --tags firewall" in said
    assert f"FAILED {stopped}: a user is registered: registration answered 502" in said
    assert f"FAILED {stopped}: service core of pryv-core: is exited" in said
    # Nothing is said of those that are well.
    assert set(re.findall(r"FAILED (zone \S+|\S+):", said)) == {stopped}


def test_a_database_that_is_gone_is_named(platform: Platform, without_database: str) -> None:
    code, said = play(platform, "playbooks/verify.yml")
    assert code != 0
    assert f"FAILED {without_database}: service mongodb of pryv-core: is exited" in said
    assert re.search(rf"FAILED {without_database}: service webhooks of pryv-core: (ends again|was started)", said)
    # The core may give up itself, or let its clients wait until they do.
    assert re.search(rf"FAILED {without_database}: a user is registered: (registration answered 5|no answer)", said)


def test_a_run_fails_for_services_that_do_not_stay_up_and_users_who_cannot_log_in_are_noticed(
    platform: Platform, with_wrong_settings: tuple[str, int, str]
) -> None:
    core, code, said = with_wrong_settings
    assert code != 0
    for service in WRONG_SETTINGS:
        assert re.search(rf"service {service} of pryv-core (ends again|was started|does not answer)", said), service
        assert f"{service} cannot start" in said  # the end of its log
    assert "service core of pryv-core" not in said
    assert "Not well after 12 seconds" in said
    code, said = play(platform, "playbooks/verify.yml")
    assert code != 0
    for what in (
        "the user logs in: the login answered 502",
        "a wrong password is refused: a wrong login answered 502",
        "the second factor can be turned off: POST /mfa/deactivate answered 502",
        "an attachment and its preview: the preview answered 502",
        "a series: POST /events/",
    ):
        assert f"FAILED {core}: {what}" in said, re.findall("FAILED .{,200}", said)
    assert f"ok {core}: a stream and an event" in said
