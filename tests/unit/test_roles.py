"""Roles read of others what docs/architecture.md lists."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (CHECKOUT / "roles").iterdir())
#: Whose variables all may read: those of the platform, and the arguments of the role that others call.
SHARED = ("pryv", "compose")
WORD = re.compile(r"(?<![\w/-])[a-z]\w*")


def files(role: str, *folders: str) -> str:
    """The text of a role's files, without whole-line comments."""
    paths = (path for folder in folders for path in sorted((CHECKOUT / "roles" / role / folder).rglob("*.*")))
    lines = (line for path in paths if path.suffix in {".yml", ".j2"} for line in path.read_text().splitlines())
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def variables(role: str) -> set[str]:
    """What bears a role's name where it is set: defaults, variables, facts, results and arguments."""
    text = files(role, "defaults", "vars", "tasks", "meta")
    setting = re.findall(r"^ *([a-z]\w*):", text, re.M) + re.findall(r"register: ([a-z]\w*)$", text, re.M)
    return {name for name in setting if name.startswith(f"{role}_")}


def test_roles_read_of_others_what_is_listed() -> None:
    owned = {name for role in ROLES if role not in SHARED for name in variables(role)}
    found = {}
    for role in ROLES:
        read = set(WORD.findall(files(role, "defaults", "tasks", "templates", "vars"))) & owned
        if foreign := {name for name in read if not name.startswith(f"{role}_")}:
            found[role] = foreign
    _, _, text = (CHECKOUT / "docs/architecture.md").read_text().partition("## What roles read of others")
    text, _, _ = text.partition("\n## ")
    rows = re.findall(r"^\| (\w+) \| (`.*) \|$", text, re.M)
    assert {role: set(re.findall(r"`(\w+)`", names)) for role, names in rows} == found


def test_packages_are_said_in_metadata_alone() -> None:
    """Role packages reads every file of the name, and a file of tasks is no list of packages."""
    found = {path.relative_to(CHECKOUT).parts[2] for path in (CHECKOUT / "roles").glob("*/*/packages.yml")}
    assert found == {"meta"}


def test_parts_of_roles_that_are_included_are_there() -> None:
    """Ansible looks for them when it comes to them, in the middle of a run."""
    missing = []
    included = re.compile(r"_role:\n +name: (\S+)\n +tasks_from: (\S+)")
    paths = [path for pattern in ("*.yml", "playbooks/*.yml", "roles/*/tasks/*.yml") for path in CHECKOUT.glob(pattern)]
    for path in [*paths, *CHECKOUT.glob("molecule/**/*.yml")]:
        for role, part in included.findall(path.read_text()):
            if not (CHECKOUT / f"roles/{role}/tasks/{part.removesuffix('.yml')}.yml").exists():
                missing.append(f"{path.relative_to(CHECKOUT)}: {role}/{part}")
    assert missing == []
