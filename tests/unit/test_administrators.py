"""Who may log in: what an inventory may say, and who would be shut out by it."""

import base64
import grp
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from plugins.modules import administrators as module
from pryv_platform.checks import hardening
from pryv_platform.inventory import Inventory


def field(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


def line(kind: str, *parts: bytes) -> str:
    return f"{kind} {base64.b64encode(b''.join(map(field, [kind.encode(), *parts]))).decode()} alice@example"


def rsa(bits: int) -> str:
    # A modulus is a positive number: its first byte has no highest bit, or is zero.
    return line("ssh-rsa", b"\x01\x00\x01", b"\x00" + (1 << (bits - 1)).to_bytes(bits // 8, "big"))


ALICE = line("ssh-ed25519", b"a" * 32)
BOB = line("ssh-ed25519", b"b" * 32)
SECURITY_KEY = line("sk-ssh-ed25519@openssh.com", b"c" * 32, b"ssh:")
ECDSA = line("ecdsa-sha2-nistp256", b"nistp256", b"d" * 65)


@pytest.mark.parametrize("text", [ALICE, SECURITY_KEY, ECDSA, rsa(3072), rsa(4096), f"  {ALICE}\n"])
def test_good_keys_lose_their_comment(text: str) -> None:
    assert hardening.public_key(text) == " ".join(text.split()[:2])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (rsa(2048), "RSA key of 2048 bits, and 3072"),
        (line("ssh-dss", b"x"), "begins with one of ssh-ed25519"),
        (f'command="/bin/sh" {ALICE}', "begins with one of"),
        (f"{ALICE}\n{BOB}", "not one line"),
        (ALICE[:50], "damaged"),
        ("ssh-ed25519 ====", "damaged"),
        (line("ssh-ed25519", b"a" * 31), "damaged"),
        (ALICE.replace("ssh-ed25519 ", "ssh-rsa "), "damaged"),
        ("CHANGE_ME", "begins with one of"),
        ("", "begins with one of"),
        (None, "not text"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n", "private key"),
    ],
)
def test_bad_keys_are_named(text: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as raised:
        hardening.public_key(text)
    assert "c2VjcmV0" not in str(raised.value)


def problems(value: object, environment: str = "production") -> list[str]:
    found = hardening.administrators_problems(value, environment)
    assert {problem["severity"] for problem in found} <= {"error"}
    return [f"{problem['where']} {problem['problem']}" for problem in found]


def test_good_administrators() -> None:
    assert problems([{"name": "alice", "keys": [ALICE, ECDSA]}, {"name": "bob", "keys": [BOB], "sudo": False}]) == []


@pytest.mark.parametrize("value", [None, []])
def test_production_needs_an_administrator(value: object) -> None:
    assert problems(value) == ["administrators is empty, and this is production"]
    assert problems(value, "development") == []


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("alice", "administrators is not a list"),
        (["alice"], "administrators[0] is not a mapping"),
        ([{"keys": [ALICE]}], "administrators[0].name is None"),
        ([{"name": "Alice", "keys": [ALICE]}], "administrators[0].name is 'Alice'"),
        ([{"name": "a.*", "keys": [ALICE]}], "administrators[0].name is 'a.*'"),
        ([{"name": "alice"}], "administrators.alice.keys is not a list with at least one key"),
        ([{"name": "alice", "keys": []}], "administrators.alice.keys is not a list with at least one key"),
        ([{"name": "alice", "keys": ALICE}], "administrators.alice.keys is not a list with at least one key"),
        ([{"name": "alice", "keys": [ALICE], "key": 1}], "administrators.alice has key"),
        ([{"name": "alice", "keys": [ALICE], "sudo": "yes"}], "administrators.alice.sudo is 'yes'"),
        ([{"name": "alice", "keys": [ALICE], "sudo": False}], "administrators has nobody who may become root"),
        ([{"name": "alice", "keys": [ALICE]}] * 2, "administrators.alice is there twice"),
        (
            [{"name": "alice", "keys": [ALICE]}, {"name": "bob", "keys": [BOB, ALICE]}],
            "administrators.bob.keys[1] is alice's key as well",
        ),
    ],
)
def test_bad_administrators_are_named(value: object, problem: str) -> None:
    assert problem in problems(value)


def test_what_is_still_to_be_filled_in_is_left_to_the_check_of_all_variables() -> None:
    assert problems([{"name": "CHANGE_ME", "keys": ["CHANGE_ME"]}, {"name": "bob", "keys": ["CHANGE_ME"]}]) == []


def test_what_is_wrong_on_all_hosts_is_said_once() -> None:
    hostvars = {name: {"pryv_environment": "production"} for name in ("co1", "co2")}
    assert len(hardening.administrator_problems(Inventory(hostvars), hostvars)) == 1


def lockouts(user: str, entries: list[Mapping[str, Any]], became: str | None = "sudo", **variables: Any) -> list[str]:
    hostvars = {"co1": {"administrators": entries, "ansible_port": 2222, **variables}, "co2": {}}
    survey = {"user": user, "became": became, "listeners": [{"protocol": "tcp", "port": 2222}]}
    results: dict[str, dict[str, Any]] = {"co1": {"survey": survey}, "co2": {"unreachable": True}}
    return [problem["problem"] for problem in hardening.lockout_problems(results, Inventory(hostvars))]


@pytest.mark.parametrize("variables", [{"ansible_port": 2222}, {"ansible_port": 2201, "ssh_port": "2222"}])
def test_the_port_that_stays_open_is_the_one_at_which_sshd_listens(variables: dict[str, Any]) -> None:
    assert lockouts("root", [], **variables) == []
    assert lockouts("root", [], **{**variables, "ssh_port": 22}) == ["is 22, where nothing listens there"]


def test_who_logs_in_now_can_do_so_afterwards() -> None:
    assert lockouts("alice", [{"name": "alice", "keys": [ALICE]}]) == []
    assert lockouts("root", []) == []
    assert lockouts("root", [], became=None) == []


def test_who_would_be_shut_out_is_named() -> None:
    entry = {"name": "alice", "keys": [ALICE]}
    assert lockouts("root", [entry]) == [
        "Ansible logs in as root, who is none of the administrators and could not log in again"
    ]
    assert lockouts("alice", [{**entry, "sudo": False}]) == [
        "Ansible logs in as alice, whose entry in administrators says sudo: false"
    ]


@pytest.mark.parametrize("entries", [[], [{"name": "alice", "keys": [ALICE]}]])
def test_who_becomes_root_otherwise_than_by_sudo_is_refused(entries: list[Mapping[str, Any]]) -> None:
    """Role hardening leaves no other way."""
    (problem,) = lockouts("alice", entries, became="su")
    assert problem == "Ansible logs in as alice and becomes root with su, which role hardening ends"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("alice:!:20000:0::7:::", (True, True)),
        ("alice:!$y$hash:20000:0::7:::", (True, True)),
        ("alice:*:20000:0::7:::", (True, True)),
        ("alice:$y$hash:20000:0::7:::", (False, True)),
        ("alice::20000:0::7:::", (False, True)),
        ("alice:!:20000:0:365:7:::", (True, False)),
        ("alice:!:20000:0::7:45::", (True, False)),
        ("alice:!:20000:0::7::1:", (True, False)),
    ],
)
def test_accounts_that_no_password_opens_and_that_last_for_ever(entry: str, expected: tuple[bool, bool]) -> None:
    alice = module.shadow(f"root:*:20000:0:99999:7:::\n{entry}\n")["alice"]
    assert (alice.is_locked, alice.is_for_ever) == expected


class FakeModule:
    """What the administrators of a host are made with; sudo asks some of them for a password."""

    def __init__(self, revoke: bool, asked: Collection[str] = (), **parameters: Any) -> None:
        self.params = {"names": ["alice", "bob"], "without_root": [], "group": "pryv-admins", "revoke": revoke}
        self.params |= parameters
        self.asked, self.ran = asked, list[list[str]]()

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        if command[0] == "runuser":
            assert command[3:] == ["--", "sudo", "-k", "-n", "true"]
            return (1, "", "sudo: a password is required") if command[2] in self.asked else (0, "", "")
        self.ran.append(command)
        return 0, "", ""


@pytest.fixture
def with_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host on which alice, bob and carol become root by their passwords; carol is no administrator any more."""
    text = "".join(f"{name}:$y$hash:20000:0::7:::\n" for name in ("alice", "bob", "carol"))
    monkeypatch.setattr(Path, "read_text", lambda _: text)
    groups = [grp.struct_group((name, "x", 100, ["alice", "bob", "carol"])) for name in ("sudo", "pryv-admins")]
    monkeypatch.setattr(grp, "getgrall", lambda: groups)
    monkeypatch.setattr(grp, "getgrnam", lambda name: next(group for group in groups if group.gr_name == name))
    monkeypatch.setattr(module.Administrators, "_end", lambda *_: None)


def accounts(**parameters: Any) -> tuple[FakeModule, module.Administrators]:
    fake = FakeModule(**parameters)
    found = module.Administrators(fake)
    found.plan()
    return fake, found


@pytest.mark.usefixtures("with_passwords")
def test_the_first_step_takes_nothing_away() -> None:
    fake, found = accounts(revoke=False, without_root=["bob"], names=["alice", "bob", "dave"])
    found._apply()
    assert ["useradd", "--create-home", "--shell", "/bin/bash", "dave"] in fake.ran
    assert not [command for command in fake.ran if {"--lock", "--delete", "1"} & set(command)]
    assert {command[-1] for command in fake.ran} == {"dave"}


@pytest.mark.usefixtures("with_passwords")
def test_the_second_step_takes_away_what_nobody_is_to_have() -> None:
    fake, found = accounts(revoke=True, without_root=["bob"])
    found.check_sudo()
    found._apply()
    assert fake.ran == [
        ["usermod", "--lock", "alice"],
        ["usermod", "--lock", "bob"],
        ["gpasswd", "--delete", "bob", "sudo"],
        ["usermod", "--lock", "--expiredate", "1", "carol"],
        ["usermod", "--groups", "", "carol"],
    ]


@pytest.mark.usefixtures("with_passwords")
def test_nobody_loses_the_password_that_sudo_still_asks_for() -> None:
    with pytest.raises(module.AdministratorsError, match=r"bob cannot become root without a password.*No password was"):
        accounts(revoke=True, asked=["bob"])[1].check_sudo()
    # Who may not become root needs none.
    accounts(revoke=True, asked=["bob"], without_root=["bob"])[1].check_sudo()


def test_groups_as_good_as_root_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    members = {
        "adm": ["alice"],
        "sudo": ["bob", "alice"],
        "docker": ["alice"],
        "lxd": ["bob"],
        "pryv-admins": ["alice"],
    }
    groups = [grp.struct_group((name, "x", 100, names)) for name, names in members.items()]
    monkeypatch.setattr(grp, "getgrall", lambda: groups)
    assert module.root_groups("alice") == ["docker", "sudo"]
    assert module.root_groups("carol") == []
