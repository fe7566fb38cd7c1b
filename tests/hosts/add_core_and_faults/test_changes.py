"""A platform comes into being and changes while things go wrong; the tests are one story, in their order.

Every run says all it can (`-vvv --diff`), and the last test looks for secrets in what all of them said.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from ansible.module_utils.platform_client import CheckError, Client

from tests.fleet import fleet
from tests.hosts.conftest import REPEATS

DOMAIN = "changes.pryv.test"
#: What the runs said, also for a look after a failure.
OUTPUTS = fleet.CACHE / "changes"
#: The password of the first user, as installers leave it; sudo asks for it until role hardening has given another way.
SUDO_ANSWER = "Summer-0f-Nobody-2026"
SUDO_FILE = fleet.CACHE / "changes-sudo-password"
#: What cores begin with that are added: the first hosts show how packages come.
EQUIPPED = fleet.Image("debian-13", equipped=True)
#: Seconds until wrong firewall rules undo themselves.
UNDO_SECONDS, UNDO_AFTER_BOOT_SECONDS = 10, 45

#: What is on a host, in a few lines: the content of every file below /etc, and the containers.
STATE = (
    "find /etc -xdev -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum; "
    "find /etc -xdev -printf '%p %M %u %g %l\\n' | sort | sha256sum; docker ps --no-trunc --format '{{.ID}}' | sort"
)


@dataclass(frozen=True)
class Run:
    """What came of a run.

    Attributes:
        status: Exit status of ansible-playbook.
        output: All that it said.
    """

    status: int
    output: str

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        """The figures of each host, by what they count."""
        lines = re.findall(r"^(\w+) +: (ok=.*)$", self.output.rpartition("PLAY RECAP")[2], re.MULTILINE)
        return {host: {key: int(number) for key, number in re.findall(r"(\w+)=(\d+)", rest)} for host, rest in lines}


@dataclass(frozen=True)
class Platform:
    """The platform under change.

    Attributes:
        inventory: Its inventory, which tests edit.
        client: Talks to it as its users do.
    """

    inventory: Path
    client: Client

    @property
    def hosts(self) -> fleet.Fleet:
        """Its test hosts, those of them that exist."""
        return fleet.Fleet(self.inventory)

    def address(self, host: str) -> str:
        """Where a host is."""
        return next(known.address for known in self.hosts.hosts if known.name == host)

    def edit(self, old: str, new: str) -> None:
        """Replaces a text of the inventory that is there once."""
        hosts = self.inventory / "hosts.yml"
        text = hosts.read_text()
        assert text.count(old) == 1, old
        hosts.write_text(text.replace(old, new))

    def command(self, playbook: str, arguments: Sequence[str], variables: Mapping[str, object]) -> list[str]:
        """The command that runs a playbook, and says all it can."""
        given = {
            "pryv_image_archive": [str(fleet.CACHE / "standins/images.tar.gz")],
            "pryv_event_types_file": str(fleet.CHECKOUT / "tests/standins/event-types.json"),
            **variables,
        }
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        options = ["-vvv", "--diff", "--inventory", str(self.inventory), "--extra-vars", json.dumps(given)]
        return [program, *options, playbook, *arguments]

    def provision(
        self,
        *arguments: str,
        playbook: str = "site.yml",
        kill: str | None = None,
        after: float = 0,
        variables: Mapping[str, object] = MappingProxyType({}),
    ) -> Run:
        """Runs a playbook.

        Args:
            arguments: Further ones of ansible-playbook.
            playbook: Which.
            kill: The task in which the run and its workers are killed.
            after: Seconds from that task's beginning.
            variables: Extra variables.
        """
        OUTPUTS.mkdir(parents=True, exist_ok=True)
        log = OUTPUTS / f"{len(list(OUTPUTS.iterdir())):02}.log"
        environment = {**os.environ, **fleet.environment(), "ANSIBLE_NOCOLOR": "true", "PYTHONUNBUFFERED": "1"}
        environment |= {"ANSIBLE_BECOME_PASSWORD_FILE": str(SUDO_FILE), "ANSIBLE_FORCE_COLOR": "false"}
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.command(playbook, arguments, variables),
                cwd=fleet.CHECKOUT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            while kill and process.poll() is None and f"TASK [{kill}" not in log.read_text(errors="replace"):
                time.sleep(0.1)
            if kill:
                time.sleep(after)
                assert process.poll() is None, f"the run ended before it could be killed in {kill}; see {log}"
                kill_with_workers(process.pid)
            process.wait()
        return Run(process.returncode, log.read_text(errors="replace"))

    def make_keys(self) -> None:
        """Has the vault completed, as an operator does for a new core."""
        assert self.provision(playbook="playbooks/secrets.yml").status == 0

    def shell(self, host: str, command: str) -> str:
        """What a command says on a host, whatever Ansible can reach."""
        return fleet.docker("exec", f"{self.hosts.prefix}-{host}", "sh", "-c", command)

    def state(self) -> dict[str, str]:
        """What is on the hosts that are there from the beginning."""
        return {host: self.shell(host, STATE) for host in ("co1", "reg1")}

    def running_since(self, host: str) -> str:
        """When each of a host's containers was started."""
        return self.shell(host, "docker inspect --format '{{.Name}} {{.State.StartedAt}}' $(docker ps --quiet) | sort")

    def register(self, user: str, zone: str) -> str:
        """The core on which the registry puts a new user of a zone."""
        body = {"username": user, "password": "of no importance", "email": f"{user}@user.test"}
        self.ask_registry("POST", "/user", {**body, "hosting": zone, "appid": "changes"})
        return str(self.ask_registry("POST", f"/{user}/server", {})["server"]).removesuffix(f".{DOMAIN}")

    def ask_registry(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The registry's answer."""
        return self.client.request(self.address("reg1"), f"reg.{DOMAIN}", method, path, body).expect(200, path)

    def core_of(self, user: str) -> str:
        """The address that DNS gives for a user."""
        _, addresses = self.client.addresses(self.address("reg1"), f"{user}.{DOMAIN}")
        return " ".join(addresses)

    @contextmanager
    def used(self, names: Mapping[str, str]) -> Iterator[Counter[tuple[str, str]]]:
        """Sends requests as long as the body runs, and counts them by name and answer.

        Args:
            names: Addresses by the names that are asked for.
        """
        answers: Counter[tuple[str, str]] = Counter()
        stop = threading.Event()

        def use(name: str, address: str) -> None:
            while not stop.wait(0.1):
                try:
                    reply = self.client.request(address, name, "GET", "/")
                    answers[name, str(reply.status)] += 1
                except CheckError as error:
                    answers[name, str(error)] += 1

        threads = [threading.Thread(target=use, args=target) for target in names.items()]
        for thread in threads:
            thread.start()
        try:
            yield answers
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def kill_with_workers(process: int) -> None:
    """Kills ansible-playbook and its workers, which have sessions of their own, as a crash of the controller does."""
    workers = fleet.run(["ps", "--no-headers", "-o", "pid", "--ppid", str(process)], check=False).split()
    for number in (process, *map(int, workers)):
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


@pytest.fixture(scope="module")
def platform(request: pytest.FixtureRequest) -> Platform:
    inventory = request.config.getoption("--inventory").resolve()
    for old in OUTPUTS.glob("*.log"):
        old.unlink()
    SUDO_FILE.write_text(SUDO_ANSWER)
    authority = inventory / "ca/ca.pem"
    return Platform(inventory, Client(authority.read_text() if authority.exists() else None, timeout=30))


def becomes_root_without_password(platform: Platform, host: str) -> bool:
    return platform.shell(host, "runuser -u ops -- sudo -k -n id --user 2>/dev/null || true") == "0\n"


def moments(task: str) -> list[tuple[str, float]]:
    """Moments of a task to kill a run in, the last of them a second from its beginning."""
    return [(task, (number + 1) / REPEATS) for number in range(REPEATS)]


def test_first_user_becomes_root_by_a_password(platform: Platform) -> None:
    for host in ("co1", "reg1"):
        platform.shell(host, f"echo ops:{SUDO_ANSWER} | chpasswd && usermod --append --groups sudo ops")
        platform.shell(host, "rm /etc/sudoers.d/ops && touch /etc/sudoers.d/others && chmod 0644 /etc/sudoers.d/others")
        assert not becomes_root_without_password(platform, host)


@pytest.mark.parametrize(
    ("task", "after"),
    [
        *moments("firewall : Place the rules"),  # new rules that nobody confirms any more
        ("packages : Install the packages", 8),  # in the middle of a transaction
        *moments("hardening : Say who may log in"),  # between one way to become root and the other
        *moments("compose : Bring up the containers"),
    ],
)
def test_first_run_is_killed(platform: Platform, task: str, after: float) -> None:
    assert platform.provision(kill=task, after=after).status == -signal.SIGKILL


def test_run_after_that_makes_the_platform_without_a_host_that_does_not_answer(platform: Platform) -> None:
    run = platform.provision()
    assert run.status != 0
    assert {host for host, counts in run.recap.items() if counts["unreachable"]} == {"co2"}, run.recap
    assert not any(counts["failed"] for counts in run.recap.values()), run.recap
    assert "co2: does not answer on 10.77.52.12" in run.output
    assert "NEW CORE co2 IS LEFT OUT" in run.output
    # Now there is an authority.
    platform.client.context.load_verify_locations(platform.inventory / "ca/ca.pem")
    assert platform.register("early-user", "switzerland") == "co1"


def test_whoever_became_root_by_a_password_needs_none_any_more(platform: Platform) -> None:
    for host in ("co1", "reg1"):
        assert platform.shell(host, "passwd --status ops").startswith("ops L ")
        assert becomes_root_without_password(platform, host)


@pytest.fixture(scope="module")
def wrong_certificate(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Variables for certificates that will not do, by what is wrong with them."""
    folder, ca = tmp_path_factory.mktemp("certificate"), platform.inventory / "ca"
    broken, whole = folder / "broken.pem", (ca / "platform.pem").read_text()
    broken.write_text(whole[: len(whole) // 2])
    files = {"broken": (broken, ca / "platform.key"), "another key": (ca / "platform.pem", ca / "ca.key")}
    return {
        wrong: {
            "certificate_source": "pem",
            "certificate_bundle_file": str(bundle),
            "certificate_private_key_file": str(key),
            "certificate_root_file": str(ca / "ca.pem"),
        }
        for wrong, (bundle, key) in files.items()
    }


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("broken", "certificate_bundle_file: has no certificate that can be read"),
        ("another key", "does not belong to the private key"),
    ],
)
def test_certificate_that_will_not_do_is_refused(
    platform: Platform, wrong_certificate: dict[str, dict[str, str]], wrong: str, said: str
) -> None:
    before = platform.state()
    run = platform.provision(variables=wrong_certificate[wrong])
    assert run.status == 2
    assert "No host has been touched." in run.output
    assert said in report(run)
    assert platform.state() == before


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("co2:\n      ansible_host: 10.77.52.12", "co2:\n      ansible_host: 10.77.52.11", "co1 has this one"),
        ("privacy_zone: america", "privacy_zone: atlantis", "privacy_zones.atlantis"),
    ],
    ids=["address of another host", "zone without requirements"],
)
def test_inventory_that_will_not_do_is_refused(platform: Platform, right: str, wrong: str, said: str) -> None:
    before = platform.state()
    platform.edit(right, wrong)
    try:
        run = platform.provision()
    finally:
        platform.edit(wrong, right)
    assert run.status == 2
    assert "No host has been touched." in run.output
    assert said in report(run)
    assert platform.state() == before


def report(run: Run) -> str:
    """What preflight found that must be put right."""
    found = run.output.partition("must be put right")[2]
    assert found, run.output[-3000:]
    return found.partition("TASK [")[0]


def test_rules_that_lock_out_undo_themselves(platform: Platform) -> None:
    before = platform.state()["co1"]
    with platform.used({f"co1.{DOMAIN}": platform.address("co1")}) as answers:
        run = platform.provision(
            *("--limit", "co1", "--tags", "firewall"),
            variables={"pryv_admin_networks": ["192.0.2.0/24"], "firewall_confirm_within": UNDO_SECONDS},
        )
        ended = time.monotonic()
        assert run.status != 0, run.recap
        fleet.await_ssh(next(host for host in platform.hosts.hosts if host.name == "co1"))
    assert time.monotonic() - ended < UNDO_SECONDS + 5
    assert {answer for _, answer in answers} == {"200"}, answers
    assert "/etc/pryv/firewall/rules.nft" in run.output
    assert platform.state()["co1"] == before


def test_rules_that_were_flushed_come_back_only_if_they_let_in(platform: Platform) -> None:
    """They are those of an inventory that locks out, and no file changes."""
    before, rules = platform.state()["co1"], "/etc/pryv/firewall/rules.nft"
    platform.shell("co1", f"sed -i s,10.77.0.0/16,192.0.2.0/24, {rules} && nft delete table inet pryv")
    run = platform.provision(
        *("--limit", "co1", "--tags", "firewall"),
        variables={"pryv_admin_networks": ["192.0.2.0/24"], "firewall_confirm_within": UNDO_SECONDS},
    )
    assert run.status != 0, run.recap
    assert "changed_paths: []" in run.output
    fleet.await_ssh(next(host for host in platform.hosts.hosts if host.name == "co1"))
    assert "inet pryv" not in platform.shell("co1", "nft list tables")
    platform.shell("co1", f"sed -i s,192.0.2.0/24,10.77.0.0/16, {rules} && systemctl reload pryv-firewall.service")
    assert platform.state()["co1"] == before


def test_rules_that_lock_out_undo_themselves_after_a_reboot_too(platform: Platform) -> None:
    before, pending = platform.state()["co1"], "find /var/lib/pryv/config_tree -name '*.undo'"
    platform.provision(
        *("--limit", "co1", "--tags", "firewall"),
        kill="firewall : Place the rules",
        after=UNDO_SECONDS,
        variables={"pryv_admin_networks": ["192.0.2.0/24"], "firewall_confirm_within": UNDO_AFTER_BOOT_SECONDS},
    )
    host = next(host for host in platform.hosts.hosts if host.name == "co1")
    platform.hosts.restart(host)
    assert platform.shell("co1", pending), "they were undone before the reboot"
    fleet.await_ssh(host)
    platform.shell("co1", "systemctl is-system-running --wait")
    end = time.monotonic() + 60
    while platform.state()["co1"] != before:
        assert time.monotonic() < end, platform.shell("co1", "docker ps --all")
        time.sleep(1)
    assert not platform.shell("co1", pending)


def add_cores(platform: Platform, used: Mapping[str, str], *arguments: str) -> None:
    """Runs site.yml while cores are used, and sees that they neither miss a request nor start anything anew.

    Args:
        platform: The platform.
        used: The cores, by the names that are asked for.
        arguments: Of ansible-playbook.
    """
    before = {core: platform.running_since(core) for core in used.values()}
    with platform.used({f"{name}.{DOMAIN}": platform.address(core) for name, core in used.items()}) as answers:
        run = platform.provision(*arguments)
    assert run.status == 0, run.recap
    assert {name for name, _ in answers} == {f"{name}.{DOMAIN}" for name in used}
    assert {answer for _, answer in answers} == {"200"}, answers
    assert {core: platform.running_since(core) for core in before} == before


def test_a_core_is_added_by_a_line_and_a_run_for_it_and_the_registry(platform: Platform) -> None:
    old = "co1: {ansible_host: 10.77.52.11}\n"
    platform.edit(old, f"{old}    co3: {{ansible_host: 10.77.52.13}}\n")
    platform.make_keys()
    platform.hosts.up(EQUIPPED, ["co3"])
    add_cores(platform, {"co1": "co1", "early-user": "co1"}, "--limit", "co3,registry")
    assert platform.register("next-user", "switzerland") == "co3"
    assert platform.core_of("next-user") == platform.address("co3")


def test_a_core_that_was_missing_is_added_by_a_run_for_all(platform: Platform) -> None:
    """The only one of its zone, and one whose roles run in another order: it is hardened when everything runs."""
    platform.hosts.up(EQUIPPED, ["co2"])
    run = platform.provision("--limit", "co2", "--skip-tags", "firewall,hardening")
    assert run.status == 0, run.recap
    # Its timer would have let it fail by now and then.
    platform.shell("co2", "systemctl start logrotate.service")
    add_cores(platform, {"co1": "co1", "early-user": "co1", "co3": "co3", "next-user": "co3"})
    assert platform.register("american-user", "america") == "co2"


def test_nothing_is_left_to_do(platform: Platform) -> None:
    """Neither by the runs that were killed, nor by the rules that undid themselves, nor by the new cores."""
    run = platform.provision()
    assert run.status == 0, run.recap
    changed = {host: counts["changed"] for host, counts in run.recap.items()}
    assert changed == {"co1": 0, "co2": 0, "co3": 0, "reg1": 0}


def test_what_is_behind_a_host_of_the_platform_is_reached_through_it(platform: Platform) -> None:
    """Over new connections, at the jump host's own port, and nothing else is."""
    ssh = ["ssh", "-F", str(fleet.SSH_CONFIG), "-o", "ControlPath=none"]
    jump, behind = f"reg1.{platform.hosts.name}", f"co2.{platform.hosts.name}"
    way = f"ProxyCommand={' '.join(ssh)} -W %h:%p {jump}"
    assert fleet.run([*ssh, "-o", way, behind, "sudo -n hostname"]) == "co2\n"
    with pytest.raises(fleet.FleetError, match="administratively prohibited"):
        fleet.run([*ssh, "-W", f"{platform.address('co1')}:22", jump])


def await_mail(platform: Platform, sent: str) -> None:
    """Waits until the mail service says that it has sent a mail."""
    deadline = time.monotonic() + 10
    while sent not in (said := platform.shell("reg1", "docker logs pryv-mail-mail-1 2>&1")):
        assert time.monotonic() < deadline, said
        time.sleep(0.2)


def test_drained_core_keeps_its_users_and_takes_no_new_one(platform: Platform) -> None:
    # Now co3 would be chosen.
    user = {"username": "further-user", "password": "of no importance", "email": "further@user.test"}
    user |= {"appId": "changes", "language": "en", "invitationToken": "no-token"}
    answer = platform.client.request(platform.address("co1"), f"co1.{DOMAIN}", "POST", "/users", user)
    answer.expect(201, "registration")
    # Which the core tells the mail service, over nginx.
    await_mail(platform, "to further@user.test through smtp.pryv.test")
    before = platform.running_since("co3")
    platform.edit("co3: {ansible_host: 10.77.52.13}", "co3: {ansible_host: 10.77.52.13, accepts_users: false}")
    run = platform.provision("--limit", "registry")
    assert run.status == 0, run.recap
    assert platform.register("last-user", "switzerland") == "co1"
    assert platform.core_of("next-user") == platform.address("co3")
    found = platform.ask_registry("GET", "/cores?username=next-user")
    assert found["core"]["url"].rstrip("/") == f"https://co3.{DOMAIN}"
    assert platform.running_since("co3") == before


def test_core_with_users_cannot_be_taken_out(platform: Platform) -> None:
    before, line = platform.state(), "    co3: {ansible_host: 10.77.52.13, accepts_users: false}\n"
    hosts = platform.inventory / "hosts.yml"
    text = hosts.read_text()
    platform.edit(line, "")
    try:
        run = platform.provision()
    finally:
        hosts.write_text(text)
    assert run.status == 2, run.recap
    assert not any(counts["changed"] for counts in run.recap.values()), run.recap
    assert "core co3 is not in the inventory, but the registry has 1 user" in " ".join(run.output.split())
    assert platform.state() == before


def test_mail_service_goes_when_mail_is_sent_by_others(platform: Platform) -> None:
    """Also when the run is killed after it has removed the service's files."""
    arguments, others = ("--limit", "reg1", "--tags", "mail"), {"pryv_mail_provider": "none"}
    assert "pryv-mail" in platform.shell("reg1", "docker ps --format '{{.Names}}'")
    run = platform.provision(*arguments, variables=others, kill="mail : Configure the mail service", after=0.5)
    assert run.status == -signal.SIGKILL
    assert platform.provision(*arguments, variables=others).status == 0
    assert "pryv-mail" not in platform.shell("reg1", "docker ps --all --format '{{.Names}}'")
    assert platform.provision(*arguments).status == 0
    assert "pryv-mail" in platform.shell("reg1", "docker ps --format '{{.Names}}'")


def test_operations_without_changes(platform: Platform) -> None:
    """Runs them for what they say, which the last test looks through."""
    assert platform.provision(playbook="playbooks/verify.yml").status == 0
    assert platform.provision(playbook="playbooks/secrets.yml").recap["localhost"]["changed"] == 0
    run = platform.provision("--extra-vars", "user=nobody-here", playbook="playbooks/remove_user.yml")
    assert run.status == 2
    assert "the user is no user of the registry" in " ".join(run.output.split())


def found_in(text: str, values: Mapping[str, str]) -> list[str]:
    """The names of values that a text has, plain or in base64, whatever stands before them there."""
    found = []
    for name, value in values.items():
        forms = {value}
        for before in range(3):
            # What the neighbours of the value have no part in.
            encoded = base64.b64encode(b"\0" * before + value.encode()).decode().rstrip("=")
            forms.add(encoded[(0, 2, 3)[before] : -1])
        if any(form in text for form in forms):
            found.append(name)
    return found


def lines_of_key(name: str, path: Path) -> dict[str, str]:
    """The lines of a private key that are its own, by names."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("-----")]
    return {f"{name}, line {number}": line for number, line in enumerate(lines) if len(line) > 16}


def test_search_finds_what_is_there() -> None:
    value = "VeryNearlyASecret0123456789"
    for before in ("", "x", "xx", "xxx"):
        hidden = base64.b64encode(f"{before}{value}, and more".encode()).decode()
        assert found_in(f'{{"payload": "{hidden}"}}', {"value": value}) == ["value"], before
    assert found_in(f"+password: {value}\n", {"value": value}) == ["value"]
    assert found_in("password: VeryNearlyASecret", {"value": value}) == []


def test_no_secret_is_in_what_runs_said(platform: Platform, secrets: dict[str, str]) -> None:
    kept = sorted((platform.inventory / "runs").glob("*.txt"))
    assert kept
    logs = [*sorted(OUTPUTS.glob("*.log")), *kept]
    said = {log.name: log.read_text(errors="replace") for log in logs}
    keys = [lines_of_key(name, platform.inventory / "ca" / name) for name in ("ca.key", "platform.key")]
    assert all(keys)
    values = {**secrets, "mail_smtp.password": "Smtp-Password-0f-Nobody", "sudo": SUDO_ANSWER, **keys[0], **keys[1]}
    # What is no secret is found: a line of a file that everybody may read, and that a file with a password was made.
    public = {"diff": f"+    server_name mail.{DOMAIN};", "made": "/etc/pryv/mail/mail/mail.json: made"}
    assert found_in("".join(said.values()), public) == list(public)
    assert {name: found for name, text in said.items() if (found := found_in(text, values))} == {}
