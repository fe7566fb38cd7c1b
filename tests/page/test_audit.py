"""The audit's report, as a person opens it in a browser and prints it."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pryv_platform.audit.report import audit_report
from tests.unit import markup
from tests.unit import test_audit as samples

ROOT = Path(__file__).parents[2]
ABOUT = {
    "inventory": "clinic",
    "started": "2026-11-24T11:22:00Z",
    "finished": "2026-11-24T11:29:30Z",
    "controller": "controller",
    "packages": [{"name": "lynis", "version": "3.1.7-1"}],
}
#: A finding that would be dangerous if the page took it for markup.
HOSTILE = {"id": "<script>alert(1)</script>", "severity": "HIGH", "finding": "<img src=x onerror=alert(1)>"}


def report(**raw: Any) -> dict[str, Any]:
    """Return a report on two hosts, the second of which is otherwise."""
    topology = {
        **samples.TOPOLOGY,
        "hosts": {**samples.TOPOLOGY["hosts"], "co2": {"roles": ["core", "registry"], "public_address": "192.0.2.11"}},
        "flows": [{**flow, "target": host} for flow in samples.TOPOLOGY["flows"] for host in ("co1", "co2")],
    }
    return audit_report(
        {"co1": samples.RAW, "co2": {**samples.RAW, **raw}},
        topology=topology,
        deviations=[*samples.DEVIATIONS, {"scanner": "lynis", "rule": "OLD-1", "reason": "It was so once."}],
        bars=samples.BARS,
        asked=["co1", "co2"],
        headers=samples.HEADERS,
        certificate_days=14,
        about=ABOUT,
    )


def render(folder: Path, content: dict[str, Any]) -> str:
    """Return the page that Ansible makes of a report."""
    (folder / "report.json").write_text(json.dumps({"audit_report": content}))
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("ansible"), "localhost", "-i", "localhost,", "-c", "local"),
            *("--playbook-dir", "playbooks", "-e", f"ansible_python_interpreter={sys.executable}"),
            *(
                "-e",
                f"@{folder / 'report.json'}",
                "-m",
                "template",
                "-a",
                f"src=audit.html.j2 dest={folder / 'report.html'}",
            ),
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if "VAULT" not in name},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the page of an audit that did not pass."""
    raw = {"ssh": samples.SSH, "tls": [*samples.TLS, HOSTILE], "digests": ["aa", "bb"]}
    return render(tmp_path_factory.mktemp("failed"), report(**raw))


@pytest.fixture(scope="module")
def good_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the page of an audit that passed."""
    return render(tmp_path_factory.mktemp("passed"), report())


def test_the_page_says_first_how_it_went(page: str, good_page: str) -> None:
    """The verdict, in words."""
    assert "Not passed. 4 findings need work, 1 bar is missed." in markup.read(page).text
    assert (
        "Passed. Every bar is reached, and every deviation has a reason that was accepted."
        in markup.read(good_page).text
    )


def test_the_page_gives_what_failed_and_why_others_are_accepted(page: str) -> None:
    """With the host, the rule, and the reason."""
    text = markup.read(page).text
    assert "SSH key exchange ecdh-sha2-nistp256 co2 · ssh-audit kex_ecdh-sha2-nistp256" in text
    row = next(row for row in markup.read(page).all("tr") if "package_nginx_removed" in row.text)
    assert [cell.text for cell in row.all("td")] == ["every host", "It serves the platform."]
    assert "lynis OLD-1" in text


def test_what_a_scanner_says_is_never_markup(page: str) -> None:
    """A server chooses what its headers and certificates say."""
    content = markup.read(page)
    assert content.all("script", "img") == []
    assert HOSTILE["finding"] in content.text


def test_the_page_needs_nothing_else(page: str) -> None:
    """One file that loads nothing."""
    assert markup.read(page).all("link", "iframe", "object") == []
    assert not re.search(r"@import|url\((?!#)", page)


def test_the_page_has_a_structure(page: str) -> None:
    """A language, a title, headings without gaps, a caption for each table, targets for the contents."""
    content = markup.read(page)
    assert content.all("html")[0].attributes["lang"] == "en"
    assert content.all("title")[0].text == "Security audit, clinic.pryv.test"
    levels = [int(heading.tag[1]) for heading in content.all("h1", "h2", "h3", "h4")]
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    for table in content.all("table"):
        assert table.children[0].tag == "caption"
        assert all(cell.attributes.get("scope") for cell in table.all("th"))
    targets = {element.attributes["id"] for element in content.all("h2")}
    assert {link.attributes["href"].removeprefix("#") for link in content.all("a")} == targets


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(page: str, assert_accessible: Callable[[str, str], None], scheme: str) -> None:
    """No rule of axe is broken in either colour scheme, contrast included, with everything unfolded."""
    assert_accessible(page, scheme)


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_fits_its_window(page: str, measured: Callable[..., Any], width: int) -> None:
    """Only tables scroll sideways, never the page."""
    opened = page.replace("<details>", "<details open>")
    assert measured(opened, width, "inside.documentElement.scrollWidth") == width


def test_the_page_prints(page: str, browse: Callable[..., str], tmp_path: Path) -> None:
    """On a handful of A4 pages."""
    browse(page, "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'audit.pdf'}")
    printed = (tmp_path / "audit.pdf").read_bytes()
    assert printed.startswith(b"%PDF-")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 6
