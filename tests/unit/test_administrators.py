"""Who may log in: what an inventory may say, and who would be shut out by it."""

import base64
import grp
from collections.abc import Mapping
from typing import Any

import pytest

from filter_plugins import administrators
from plugins.modules import administrators as module


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
    assert administrators.public_key(text) == " ".join(text.split()[:2])


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
        administrators.public_key(text)
    assert "c2VjcmV0" not in str(raised.value)


def problems(value: object, environment: str = "production") -> list[str]:
    found = administrators.administrators_problems(value, environment)
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
    assert len(administrators.administrator_problems(hostvars, hostvars)) == 1


def lockouts(user: str, entries: list[Mapping[str, Any]]) -> list[str]:
    hostvars = {"co1": {"administrators": entries}, "co2": {}}
    results: dict[str, dict[str, Any]] = {"co1": {"survey": {"user": user}}, "co2": {"unreachable": True}}
    return [problem["problem"] for problem in administrators.lockout_problems(results, hostvars)]


def test_who_logs_in_now_can_do_so_afterwards() -> None:
    assert lockouts("alice", [{"name": "alice", "keys": [ALICE]}]) == []
    assert lockouts("root", []) == []


def test_who_would_be_shut_out_is_named() -> None:
    entry = {"name": "alice", "keys": [ALICE]}
    assert lockouts("root", [entry]) == [
        "Ansible logs in as root, who is none of the administrators and could not log in again"
    ]
    assert lockouts("alice", [{**entry, "sudo": False}]) == [
        "Ansible logs in as alice, whose entry in administrators says sudo: false"
    ]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("alice:!:20000:0::7:::", True),
        ("alice:!$y$hash:20000:0::7:::", True),
        ("alice:*:20000:0::7:::", True),
        ("alice:$y$hash:20000:0::7:::", False),
        ("alice::20000:0::7:::", False),
        ("alice:!:20000:0:365:7:::", False),
        ("alice:!:20000:0::7:45::", False),
        ("alice:!:20000:0::7::1:", False),
    ],
)
def test_accounts_that_a_key_alone_opens_and_for_ever(entry: str, expected: bool) -> None:
    accounts = module.shadow(f"root:*:20000:0:99999:7:::\n{entry}\n")
    assert accounts["alice"].is_key_only is expected


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
