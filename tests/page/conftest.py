"""What tests of the toolkit's pages share: a headless browser, and what it says about a page."""

from __future__ import annotations

import html
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import axe_core_python
import pytest

ROOT = Path(__file__).parents[2]
# As Chromium numbers them.
SCHEMES = {"light": 1, "dark": 0}


@pytest.fixture(scope="session")
def browser() -> str:
    """Return a headless browser, installed where there is none."""
    found = subprocess.run([ROOT / "tests/page/install"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


@pytest.fixture
def browse(browser: str, tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs the browser on a page and returns what it printed."""

    def run(text: str, *flags: str) -> str:
        (tmp_path / "page.html").write_text(text)
        done = subprocess.run(
            [
                browser,
                *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
                *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"),
                f"--user-data-dir={tmp_path / 'profile'}",
                *flags,
                (tmp_path / "page.html").as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout

    return run


@pytest.fixture
def assert_accessible(browse: Callable[..., str]) -> Callable[[str, str], None]:
    """Return a function that asserts that a page, all of it unfolded, breaks no rule of axe in a colour scheme."""

    def look(page: str, scheme: str) -> None:
        axe = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()
        probe = (
            "axe.run().then(found => { document.body.innerHTML = ''; document.body.append(JSON.stringify("
            "{dark: matchMedia('(prefers-color-scheme: dark)').matches, passes: found.passes.map(rule => rule.id),"
            " broken: found.violations.map(rule => [rule.id, rule.nodes.map(node => node.html + node.failureSummary)])"
            "})) })"
        )
        opened = page.replace("<details>", "<details open>")
        script = f"<script>{axe}</script><script>{probe}</script></body>"
        printed = browse(
            opened.replace("</body>", script),
            *("--dump-dom", "--virtual-time-budget=60000", f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}"),
        )
        found: dict[str, Any] = json.loads(
            html.unescape(printed[printed.rindex("<body>") + 6 : printed.rindex("</body>")])
        )
        assert found["dark"] == (scheme == "dark")
        assert "color-contrast" in found["passes"]
        assert found["broken"] == []

    return look


@pytest.fixture
def measured(browse: Callable[..., str]) -> Callable[[str, int, str], Any]:
    """Return a function that lays a page out in a width and returns what an expression about `inside` gives."""

    def measure(page: str, width: int, expression: str) -> Any:
        probe = (
            "<script>onload = () => { const inside = document.querySelector('iframe').contentDocument;"
            f" document.body.innerHTML = JSON.stringify({expression}) }}</script>"
        )
        frame = f'<iframe width="{width}" height="900" style="border:0" srcdoc="{html.escape(page)}"></iframe>'
        printed = browse(
            f"<body>{probe}{frame}</body>", "--dump-dom", "--virtual-time-budget=10000", "--window-size=1400,1000"
        )
        return json.loads(printed[printed.rindex("<body>") + 6 : printed.rindex("</body>")])

    return measure
