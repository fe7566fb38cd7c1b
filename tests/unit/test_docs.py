"""What the documentation names is there: files, headings, playbooks, options, variables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md"), *CHECKOUT.glob("roles/*/README.md")])
NAMES = [str(page.relative_to(CHECKOUT)) for page in PAGES]
CODE = (
    "ansible.cfg",
    "filter_plugins",
    "inventories",
    "molecule",
    "playbooks",
    "plugins",
    "pryv_platform",
    "roles",
    "scripts",
    "site.yml",
)
ROLES = sorted(path.name for path in (CHECKOUT / "roles").iterdir())


def code() -> str:
    """All that runs, in one text; descriptions are not among it."""
    files = (
        path for name in CODE for path in ((CHECKOUT / name).rglob("*.*") if "." not in name else [CHECKOUT / name])
    )
    return "\n".join(
        path.read_text() for path in files if path.suffix in {".cfg", ".j2", ".py", ".yml"} and path.is_file()
    )


WORDS = frozenset(re.findall(r"[A-Za-z_]\w+", code()))


def anchors(page: Path) -> set[str]:
    """What a link may point to in a page, as forges make it of headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in target:
            name, _, anchor = target.partition("#")
            led_to = page.parent / name if name else page
            assert led_to.exists(), target
            assert not anchor or anchor in anchors(led_to), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_have_playbooks_and_options_that_exist(page: Path) -> None:
    text = page.read_text()
    for playbook in re.findall(r"(?<![\w/])playbooks/\w+\.yml", text):
        assert (CHECKOUT / playbook).is_file(), playbook
    assert set(re.findall(r"(?<=-e )\w+(?==)", text)) <= WORDS
    for tags in re.findall(r"--(?:skip-)?tags ([\w,]+)", text):
        assert set(tags.split(",")) <= WORDS, tags


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_variables_of_roles_exist(page: Path) -> None:
    prefix = "|".join(ROLES)
    named = re.findall(rf"`[^`\n]*?\b((?:{prefix})_[a-z0-9_]+)\b", page.read_text())
    assert set(named) <= WORDS
