"""The changelog has the form of Keep a Changelog, and its newest version is the project's."""

from __future__ import annotations

import datetime
import re
from itertools import pairwise
from pathlib import Path

import tomllib

CHECKOUT = Path(__file__).resolve().parents[2]
CHANGELOG = (CHECKOUT / "CHANGELOG.md").read_text()
TITLES = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


def releases() -> list[tuple[tuple[int, ...], datetime.date]]:
    """Version and date of each release, as the changelog has them."""
    found = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", title) for title in TITLES[1:]]
    assert all(found), TITLES
    return [
        (tuple(map(int, each[1].split("."))), datetime.date.fromisoformat(each[2]))
        for each in found
        if each is not None
    ]


def test_what_is_not_released_comes_first() -> None:
    assert TITLES[0] == "[Unreleased]"


def test_the_newest_release_is_the_projects_version() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert ".".join(map(str, releases()[0][0])) == project["version"]


def test_releases_are_in_their_order() -> None:
    assert all(newer[0] > older[0] and newer[1] >= older[1] for newer, older in pairwise(releases()))


def test_changes_are_of_the_known_kinds() -> None:
    """Each once a release."""
    for section in CHANGELOG.split("\n## ")[1:]:
        kinds = re.findall(r"^### (.*)$", section, re.MULTILINE)
        assert len(kinds) == len(set(kinds)), section.splitlines()[0]
        assert set(kinds) <= set(KINDS), section.splitlines()[0]
