"""The plan as an operator makes it, and its page in a headless browser."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit import markup

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent


def ansible(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program of Ansible in the project, without a vault password and without colours."""
    surroundings = {key: value for key, value in os.environ.items() if "VAULT" not in key}
    return subprocess.run(
        [PROGRAMS / program, *arguments],
        cwd=ROOT,
        env={**surroundings, "ANSIBLE_NOCOLOR": "1", "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of an inventory with a locked vault, none of whose hosts can be reached."""
    folder = tmp_path_factory.mktemp("inventories") / "clinic"
    shutil.copytree(ROOT / "inventories/privacy", folder)
    vault, password = folder / "group_vars/all/vault.yml", folder.parent / "password"
    vault.write_text("pryv_secrets: {redis_password: unknown}\n")
    password.write_text("open sesame\n")
    locked = ansible("ansible-vault", "encrypt", "--vault-password-file", password, vault)
    assert locked.returncode == 0, locked.stderr
    return folder


@pytest.fixture(scope="module")
def plan(inventory: Path) -> subprocess.CompletedProcess[str]:
    """Return the run that made the plan."""
    made = ansible(
        *("ansible-playbook", "playbooks/plan.yml", "-i", inventory, "-e", "capacity_start=2026-11"),
        *("-e", f"write_inventory={inventory.parent / 'new'}"),
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return made


@pytest.fixture(scope="module")
def page(inventory: Path, plan: subprocess.CompletedProcess[str]) -> str:
    """Return the page of the plan."""
    assert plan.returncode == 0
    return (inventory / "plan.html").read_text()


def test_the_terminal_shows_the_plan(plan: subprocess.CompletedProcess[str]) -> None:
    """Zones, their cores, what decides, the next core; in lines that fit, and with the vault left alone."""
    row = next(line.split() for line in plan.stdout.splitlines() if line.split()[:1] == ["ch"])
    assert row == [*("ch", "15'000", "2", "users", "90", "%", "1'665", "users"), *("2027-05,", "in", "6", "months")]
    shown = plan.stdout[plan.stdout.index("Show the plan") :].splitlines()
    assert max(len(line) for line in shown if line.startswith("        ")) <= 100
    assert "vault.yml is locked (no vault password)" in plan.stderr + plan.stdout


def test_the_files_say_the_same(inventory: Path, plan: subprocess.CompletedProcess[str]) -> None:
    """JSON for programs, Markdown for a merge request; the page is tested below."""
    assert plan.returncode == 0
    content = json.loads((inventory / "plan.json").read_text())
    assert {name: zone["cores"] for name, zone in content["plan"]["zones"].items()} == {"ch": 2, "de": 1, "us": 1}
    assert content["forecast"]["zones"]["ch"]["next_core"]["month"] == "2027-05"
    text = (inventory / "plan.md").read_text()
    assert "22'000 users in 3 privacy zones need 4 cores on 7 machines." in text
    assert "| **in all** | | 7 | 13 | 21 | 105 | 90 |" in text
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_again_changes_nothing_and_overwrites_no_inventory(
    inventory: Path, plan: subprocess.CompletedProcess[str]
) -> None:
    """The same input gives the same files; an inventory that is there stays as it is."""
    assert plan.returncode == 0
    new = inventory.parent / "new"
    arguments = ("-e", "capacity_start=2026-11", "-e", f"write_inventory={new}")
    refused = ansible("ansible-playbook", "playbooks/plan.yml", "-i", inventory, *arguments)
    assert refused.returncode != 0
    assert " changed=0 " in refused.stdout, refused.stdout
    assert f"write_inventory: {new} is an inventory already" in refused.stdout + refused.stderr


def test_preflight_accepts_the_written_inventory(
    inventory: Path, plan: subprocess.CompletedProcess[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with it is what waits to be filled in, and the secrets that playbooks/secrets.yml makes."""
    assert plan.returncode == 0
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    monkeypatch.setenv("ANSIBLE_PRIVATE_KEY_FILE", str(tmp_path / "key"))
    looked = ansible("ansible-playbook", "playbooks/preflight.yml", "-i", inventory.parent / "new")
    assert looked.returncode != 0
    report = looked.stdout[looked.stdout.index("must be put right") :].partition("\nTASK")[0]
    problems = re.findall(r"^ +- (.+)$", report, re.MULTILINE)
    assert [problem for problem in problems if "CHANGE_ME" not in problem and problem != "is missing:"] == []
    missing = report.partition("is missing:")[2].partition("->")[0].split()
    assert [name for name in missing if not name.startswith(("pryv_secrets.", "pryv_core_"))] == []
    assert any("CHANGE_ME" in problem for problem in problems)


def test_a_worksheet_replaces_the_requirements(inventory: Path, tmp_path: Path) -> None:
    """The path is the operator's, relative to where the command is run."""
    arguments = ("-e", "worksheet=docs/worksheet.csv", "-e", f"plan_directory={tmp_path}")
    made = ansible("ansible-playbook", "playbooks/plan.yml", "-i", inventory, *arguments)
    assert made.returncode == 0, made.stdout + made.stderr
    assert json.loads((tmp_path / "plan.json").read_text())["plan"]["totals"]["cores"] == 4


def test_the_page_needs_nothing_else(page: str) -> None:
    """One file: no address, no script, nothing to load."""
    assert "http:" not in page
    assert "https:" not in page
    content = markup.read(page)
    assert content.all("script", "link", "img", "iframe", "object") == []
    assert not re.search(r"@import|url\((?!#)", page)


def test_the_page_has_a_structure(page: str) -> None:
    """A language, a title, headings without gaps, a caption for each table, targets for the contents."""
    content = markup.read(page)
    assert content.all("html")[0].attributes["lang"] == "en"
    assert content.all("title")[0].text == "Capacity plan, privacy.pryv.test"
    levels = [int(heading.tag[1]) for heading in content.all("h1", "h2", "h3")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    for table in content.all("table"):
        assert table.children[0].tag == "caption"
        assert all(cell.attributes.get("scope") for cell in table.all("th"))
    targets = {element.attributes["id"] for element in content.all("h2")}
    assert {link.attributes["href"].removeprefix("#") for link in content.all("a")} <= targets


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(page: str, assert_accessible: Callable[[str, str], None], scheme: str) -> None:
    """No rule of axe is broken in either colour scheme, contrast included."""
    assert_accessible(page, scheme)


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_fits_its_window(page: str, measured: Callable[..., Any], width: int) -> None:
    """Only tables and drawings scroll sideways, never the page; no bar is longer than its scale."""
    bars = "[...inside.querySelectorAll('.bar')].map(bar => bar.firstChild.offsetWidth / bar.offsetWidth)"
    wide, bars_filled = measured(page, width, f"[inside.documentElement.scrollWidth, {bars}]")
    assert wide == width
    assert bars_filled
    assert all(0 < bar <= 1 for bar in bars_filled)


def test_the_page_prints(page: str, browse: Callable[..., str], tmp_path: Path) -> None:
    """On a handful of A4 pages."""
    browse(page, "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'plan.pdf'}")
    printed = (tmp_path / "plan.pdf").read_bytes()
    pages = len(re.findall(rb"/Type\s*/Page\b", printed))
    assert printed.startswith(b"%PDF-")
    assert 3 <= pages <= 7
