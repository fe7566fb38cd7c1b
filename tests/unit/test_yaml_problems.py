"""What YAML 1.1 reads otherwise than people write it, in every file of an inventory."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible import context
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret

from plugins.lookup.yaml_problems import LookupModule
from pryv_platform.checks.text import yaml_problems

ROOT = Path(__file__).parents[2]


def told(text: str) -> list[str]:
    """What is wrong, as an operator reads it."""
    found = yaml_problems(text, "a.yml")
    assert all(problem["severity"] == "error" for problem in found)
    return [f"{problem['where']}: {problem['problem']} -> {problem['remedy']}" for problem in found]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("z:\n  users: 025000", "line 2: z.users: 025000 is read as 10752 (octal) -> write 25000, or '025000'"),
        ("users: -0_7", "line 1: users: -0_7 is read as -7 (octal) -> write -7"),
        ("users: 25:00", "line 1: users: 25:00 is read as 1500 (base 60)"),
        ("rate: 25:00.5", "line 1: rate: 25:00.5 is read as 1500.5 (base 60)"),
        ("users: 25_00", "line 1: users: 25_00 is read as 2500 -> write 2500"),
        (
            "privacy_zones:\n  ch:\n    users: 25.000",
            "line 3: privacy_zones.ch.users: 25.000 can be read as 25 and as 25000 -> right is 25000 or 25",
        ),
        (
            "all: {vars: {privacy_zones: {ch: {read: {mb_per_day: 1.125}}}}}",
            "line 1: all.vars.privacy_zones.ch.read.mb_per_day: 1.125 can be read as 1.1250 and as 1125 -> right",
        ),
        ("a: [{b: 010}]", "line 1: a[0].b: 010 is read as 8 (octal) -> write 10"),
        ("zones:\n  no: {users: 1}", "line 2: zones.no: no is read as False -> write 'no', in quotes"),
        ("zones:\n  ~: 1", "line 2: zones.~: ~ is read as None -> write '~', in quotes"),
        ("accepted: [ch, No]", "line 1: accepted[1]: No is read as False -> write 'No', in quotes"),
        ("z:\n  ch: 1\n  de: 2\n  'ch': 3", "lines 2 and 4: z.ch: is there twice -> leave one"),
        ("a: 1\nb: {c: !vault x, c: 2}", "lines 2 and 2: b.c: is there twice -> leave one"),
    ],
)
def test_what_means_something_else_is_told_with_its_place(text: str, problem: str) -> None:
    (only,) = told(text)
    assert only.startswith(f"a.yml, {problem}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "users: 25000",
        "users: 25_000",
        "users: 0",
        "rate: 0.05",
        "core_limits: {rate: 25.000}",
        "privacy_zones: {ch: {users: 25000, write: {a: 0.125, b: 25.0, c: 1.1250, d: '25.000', e: 1000.000}}}",
        "limits: [.inf, 1.5e+3, 0x1F, 0b1_0, 1_000.5]",
        "texts: ['025000', \"25:00\", 08, 02:30, 1e3]",
        "accepts_users: no\nothers: [true, False]",
        "empty:\nnone: [~]".replace("[~]", "~"),
        "a: &a {b: 1}\nc: {<<: *a, b: 2}\nd: {b: 1}",
        "key: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  025000",
        "a: [",
    ],
)
def test_what_means_what_it_says(text: str) -> None:
    assert told(text) == []


def test_every_file_that_ansible_reads_is_looked_at(tmp_path: Path) -> None:
    inside = [
        "hosts.yml",
        "group_vars/all/capacity.yml",
        "group_vars/core.yaml",
        "group_vars/web",
        "host_vars/co1/x.yml",
    ]
    outside = ["hosts.ini", "README", "group_vars/notes.md", "ca/x.yml", "plan.json"]
    for name in [*inside, *outside]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a: 010\n")
    for source in (tmp_path, tmp_path / "hosts.yml"):
        places = [problem["where"] for problem in LookupModule().run([str(source)])]
        assert sorted(place.partition(f"{tmp_path.name}/")[2].partition(",")[0] for place in places) == sorted(inside)
    assert LookupModule().run(["web1,co1", str(tmp_path / "missing")]) == []


def test_a_vault_is_looked_at_with_its_password_and_shows_no_value(tmp_path: Path) -> None:
    secret = VaultSecret(b"open sesame")
    vault = tmp_path / "group_vars/all/vault.yml"
    vault.parent.mkdir(parents=True)
    vault.write_bytes(VaultLib().encrypt("passphrase: 012345\nkeys:\n  co1: a\n  co1: b\n", secret=secret))
    loader = DataLoader()
    assert LookupModule(loader=loader).run([str(tmp_path)]) == []
    loader.set_vault_secrets([("default", secret)])
    passphrase, keys = LookupModule(loader=loader).run([str(tmp_path)])
    assert passphrase["where"].endswith("vault.yml, line 1: passphrase")
    assert keys["where"].endswith("vault.yml, lines 3 and 4: keys.co1")
    assert keys["problem"] == "is there twice"
    assert "012345" not in str(passphrase)
    assert "5349" not in str(passphrase)


def test_files_for_one_run_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tmp_path / "given.yml"
    given.write_text("a: 1\na: 2\n")
    monkeypatch.setattr(context, "CLIARGS", {"extra_vars": ("b=3", f"@{given}")})
    (found,) = LookupModule().run([])
    assert found["where"].endswith("given.yml, lines 1 and 2: a")


def test_the_inventories_of_this_repository_say_what_they_mean() -> None:
    inventories = [str(path.parent) for path in ROOT.glob("*/*/**/hosts.yml") if ".cache" not in path.parts]
    assert len(inventories) > 5
    assert LookupModule().run(inventories) == []
