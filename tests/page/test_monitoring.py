"""A monitoring host's page in a headless browser, before a real Prometheus with ten hosts and a year of one."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import axe_core_python
import pytest

from pryv_platform.capacity.plan import capacity_plan
from pryv_platform.monitoring import monitoring_platform
from pryv_platform.topology import derivation
from pryv_platform.topology_svg import topology_svg
from tests.page import chromium, monitoring_host
from tests.page.monitoring_host import HOSTILE, PAGE, WATCHDOG, Host, rule
from tests.unit.test_monitoring import ZONE

GROUPS = {
    "web": ["web1"],
    "registry": ["reg1", "reg2"],
    "core": ["co1", "co2", "co3", "co4"],
    "backup": ["bk1", "bk2"],
    "monitoring": ["mon1"],
}
ZONES = {"co1": "ch", "co2": "ch", "co3": "ch", "co4": "de", "bk1": "ch", "bk2": "de"}
#: How long a view may take until all of it is shown, in seconds.
SECONDS = 2
SHOWN = "document.getElementById('updated').textContent !== ''"
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--disable-background-networking")
VERDICT = "document.getElementById('verdict').innerText"
RUNBOOK = """# Alerts

## Hosts

### DiskFills
See `df -h`, then [data disks](data-disk.md):

    du -xd1 /srv/pryv

- <b>not bold</b>

### HostSilent
Start it.
"""


def files() -> dict[str, str]:
    """Return what Ansible makes for the page, of ten hosts in two zones."""
    hosts = list(itertools.chain(*GROUPS.values()))
    common = {"pryv_domain": "clinic.test", "pryv_environment": "production", "pryv_admin_networks": ["192.0.2.0/24"]}
    roles: dict[str, dict[str, Any]] = {
        "reg1": {"registry_role": "leader"},
        "reg2": {"registry_role": "follower"},
        "co3": {"accepts_users": False},
    }
    variables = {
        host: {
            **common,
            **roles.get(host, {}),
            **({"privacy_zone": ZONES[host]} if host in ZONES else {}),
            "ansible_host": f"198.51.100.{number}",
        }
        for number, host in enumerate(hosts, 1)
    }
    topology = derivation.derive({**GROUPS, "all": hosts}, variables)
    platform = monitoring_platform(topology, capacity_plan({"ch": ZONE, "de": {**ZONE, "users": 6000}}))
    return {"platform.json": json.dumps(platform), "platform.svg": topology_svg(topology), "runbook.md": RUNBOOK}


ALERTS = [
    WATCHDOG,
    rule("HostSilent", "critical", "up == 0", "{{ $labels.host }} does not answer"),
    rule(
        "DiskFills", "warning", f"label_replace(up{{host='co1'}}, 'mountpoint', {json.dumps(HOSTILE)}, '', '')", HOSTILE
    ),
]


@pytest.fixture(scope="module")
def window(browser: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    """Return a browser that runs."""
    profile = tmp_path_factory.mktemp("profile")
    with chromium.running(browser, [*FLAGS, f"--user-data-dir={profile}"]) as window:
        yield window


@pytest.fixture(scope="module")
def unwell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Return the page of a platform one of whose hosts is silent, with a year of history."""
    rendered = files()
    platform, now = json.loads(rendered["platform.json"]), int(time.time()) // 300 * 300
    samples = itertools.chain(
        monitoring_host.history(["co1"], now),
        monitoring_host.present(
            platform,
            now,
            {
                "co2": {"up": 0, "pryv_verify_time_seconds": now - 3 * 3600},
                "reg2": {"node_reboot_required": 1, "pryv_verify_problems": 2},
                "web1": {"apt_upgrades_pending": None, "pryv_verify_platform_problems": 1},
                "bk1": {"pryv_verify_problems": None, "pryv_verify_time_seconds": None},
            },
        ),
    )
    folder = tmp_path_factory.mktemp("unwell")
    with (
        monitoring_host.prometheus(folder, samples, ALERTS) as ask,
        monitoring_host.serving(rendered, ask) as host,
    ):
        yield host


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of the Prometheus of a platform with nothing wrong, and no history."""
    now = int(time.time())
    samples = monitoring_host.present(json.loads(files()["platform.json"]), now, {})
    with monitoring_host.prometheus(tmp_path_factory.mktemp("well"), samples, [WATCHDOG]) as ask:
        yield ask


@pytest.fixture
def look(window: chromium.Browser) -> Iterator[Any]:
    """Return a function that opens a view and waits until it is there; in the end, nothing may have gone wrong."""
    opened: list[chromium.Page] = []

    def open_view(host: Host, view: str = "", width: int = 1280, scheme: str = "light") -> chromium.Page:
        page = chromium.Page(window, width, 900, scheme)
        opened.append(page)
        page.open(host.address + view)
        page.wait(f"document.readyState === 'complete' && {SHOWN}")
        return page

    yield open_view
    complaints = [complaint for page in opened for complaint in page.complaints()]
    for page in opened:
        page.close()
    assert complaints == []


VIEWS = {"platform": "", "host": "#host=co1", "runbook": "#runbook=DiskFills"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_view_is_accessible_and_fits_a_telephone(look: Any, unwell: Host, view: str, scheme: str) -> None:
    """No rule of axe is broken, with tables unfolded; nothing but tables and drawings scrolls sideways."""
    page = look(unwell, view, scheme=scheme)
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is (scheme == "dark")
    if "co1" in view:
        page.evaluate("document.querySelector('details summary').click()")
        page.wait("document.querySelector('details[open] td') !== null")
    page.evaluate((Path(axe_core_python.__file__).parent / "axe.min.js").read_text() + "; 0")
    for width in (1280, 320):
        page.size(width, 700)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        found = page.evaluate(
            "axe.run().then(found => ({passes: found.passes.map(rule => rule.id), broken: found.violations.map("
            "rule => [rule.id, rule.nodes.map(node => node.html + node.failureSummary)])}))"
        )
        assert "color-contrast" in found["passes"]
        assert found["broken"] == []


def test_it_says_first_how_the_platform_is(look: Any, unwell: Host) -> None:
    """In one sentence, then what fires; each state is a word as well as a colour."""
    page = look(unwell)
    assert page.evaluate(VERDICT) == "Not well. 1 critical alert; 1 warning; nothing new from co2."
    alerts = page.evaluate("[...document.querySelectorAll('.finding')].map(alert => alert.innerText)")
    assert [alert.splitlines()[0] for alert in alerts] == ["✕ critical co2 does not answer", f"! warning {HOSTILE}"]
    assert "co2 · HostSilent, for " in alerts[0]
    said = dict(
        page.evaluate(
            "[...document.querySelectorAll('[data-host]')].map(box => [box.dataset.host,"
            " [...box.querySelectorAll('text')].map(text => text.textContent).join(' ')])"
        )
    )
    assert set(said) == set(itertools.chain(*GROUPS.values()))
    assert (said["co1"], said["co2"], said["reg1"]) == ("co1 ! warning", "co2 ✕ does not answer", "reg1 ✓ well")
    text = page.evaluate("document.getElementById('content').innerText")
    assert "17'700 users; 15'000 are planned." in text
    assert page.evaluate("document.title").startswith("clinic.test: Not well.")
    rows = page.evaluate("[...document.querySelectorAll('tr')].map(row => [...row.cells].map(cell => cell.innerText))")
    assert ["co3drains", "✓ well", "7'700", "5'000", "9'999", " 77 %"] in [
        [*row[:5], f" {row[5].strip()}"] for row in rows if len(row) == 6
    ]
    outside = {row[0]: row.pop(4) for row in rows if len(row) == 8}
    assert outside["web1"].startswith("✕ 1 problem, ")
    assert outside["reg2"].startswith("✓ well, ")
    assert outside["mon1"] == "unknown"
    verified = {row[0]: row.pop(3) for row in rows if len(row) == 7}
    assert ["reg2", "registry", "✓ well", "61 days", "3", "! waits"] in rows
    assert ["web1", "web", "✓ well", "61 days", "0", "no"] in rows
    assert re.fullmatch(r"✓ well, \d+ (second|minute)s ago", verified["web1"])
    assert verified["reg2"].startswith("✕ 2 problems, ")
    assert verified["bk1"] == "unknown, never"
    late = "[...document.querySelectorAll('[data-key=hosts] td .missed')].map(cell => cell.innerText)"
    assert [text for text in page.evaluate(late) if text.endswith("ago")] == ["3 hours ago"]
    assert ["co1", "bk1", "5 hours ago", "✓ made", "3 days ago", "✓ restored"] in rows


def test_a_platform_that_is_well_is_said_to_be(look: Any, well: str) -> None:
    with monitoring_host.serving(files(), well) as host:
        page = look(host)
        assert page.evaluate(VERDICT) == "Well. All 10 hosts answer, and no alert fires."
        assert page.evaluate("document.querySelectorAll('.finding').length") == 0


@pytest.mark.parametrize("view", ["", "#host=co1", "#host=co1&period=week", "#host=co1&period=year"])
def test_a_view_opens_quickly(look: Any, unwell: Host, view: str) -> None:
    """With a year of the data of a host; docs/performance.md has ten."""
    begin = time.monotonic()
    page = look(unwell, view)
    assert time.monotonic() - begin < SECONDS
    if view:
        charts = page.evaluate(
            "[...document.querySelectorAll('.chart path.line')].map(line => line.getAttribute('d').length)"
        )
        assert len(charts) >= len(monitoring_host.charts())
        assert all(charts)
        asked = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
        ends = [int(end) for address in asked for end in re.findall(r"query_range.*&end=(\d+)", address)]
        # What has just come is shown as well.
        assert ends
        assert all(end >= time.time() - SECONDS for end in ends)


def test_a_chart_is_said_in_words_and_numbers(look: Any, unwell: Host) -> None:
    page = look(unwell, "#host=co1")
    titles = page.evaluate("[...document.querySelectorAll('.chart strong')].map(title => title.innerText)")
    assert {"Load", "CPU by kind", "Disk space in use", "Disk operations", "Network packets", "Swap in use"} <= set(
        titles
    )
    words = page.evaluate("document.querySelector('[data-key=chart-cpu] svg[role=img]').getAttribute('aria-label')")
    assert words.startswith("CPU by kind over 6 hours. idle: ")
    assert " % last, " in words
    page.evaluate("document.querySelector('#chart-cpu-table summary').click()")
    page.wait("document.querySelectorAll('#chart-cpu-table tbody tr').length > 60")
    heads = page.evaluate(
        "[...document.querySelectorAll('#chart-cpu-table th[scope=col]')].map(cell => cell.innerText)"
    )
    assert heads == ["time", "idle", "iowait", "system", "user"]


def test_every_chart_has_its_rules_and_every_rule_its_chart() -> None:
    text = (PAGE / "charts.js").read_text()
    assert {chart for chart, _ in monitoring_host.charts()} == set(re.findall(r"key: '(\w+)'", text))


def test_a_look_is_late_when_its_alert_says_so() -> None:
    rules = "".join(path.read_text() for path in (monitoring_host.TREE / "etc/prometheus/rules").glob("*.yml"))
    for series, constant in (
        ("pryv_verify_time_seconds", "LOOKS"),
        ("pryv_verify_platform_time_seconds", "PLATFORM_LOOKS"),
    ):
        late = re.findall(rf"time\(\) - {series} > (\d+)", rules)
        assert len(late) == 1
        assert late == re.findall(rf"const {constant} = (\d+);", (PAGE / "views.js").read_text())


def test_what_labels_and_addresses_say_is_never_markup(look: Any, unwell: Host) -> None:
    """Neither text nor a question to Prometheus that was not meant."""
    for view in ("", "#host=co1", "#runbook=DiskFills", f"#host={HOSTILE}", f"#runbook={HOSTILE}", "#host=__proto__"):
        page = look(unwell, view)
        assert page.evaluate("document.querySelectorAll('img, b, main script').length") == 0
        assert page.evaluate("window.hurt") is None
    assert "no host" in page.evaluate("document.getElementById('content').innerText")
    page = look(unwell, "#host=co1")
    assert HOSTILE in page.evaluate("document.querySelector('[data-key=chart-space]').innerText")


def test_what_to_do_is_one_key_away(look: Any, unwell: Host) -> None:
    """By keyboard alone: the first key skips what is before the content; links lead to the runbook and back."""
    page = look(unwell)
    page.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "To the content"
    page.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.press("Tab")
    page.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "what to do\nabout HostSilent"
    page.press("Enter")
    page.wait("document.getElementById('heading').innerText === 'HostSilent'")
    assert page.evaluate("document.activeElement.id") == "heading"
    assert "Start it." in page.evaluate("document.getElementById('content').innerText")
    page.press("Tab")
    while page.evaluate("document.activeElement.innerText") != "co4":
        page.press("Tab")
    page.press("Enter")
    page.wait("document.getElementById('heading').innerText === 'co4'")
    page.evaluate("document.querySelector('.skip').focus()")
    page.press("Enter")
    assert page.evaluate("[document.activeElement.id, location.hash]") == ["content", "#host=co4"]


def test_it_refreshes_where_the_reader_is(look: Any, unwell: Host) -> None:
    """Neither focus nor an unfolded table is lost, and who paused it is not disturbed."""
    page = look(unwell, "#host=co1")
    page.evaluate("document.querySelector('#chart-load-table summary').click()")
    page.wait("document.querySelector('#chart-load-table td') !== null")
    page.evaluate("document.querySelector('#chart-load-table summary').focus()")
    page.evaluate("window.kept = document.activeElement; document.getElementById('updated').textContent = ''")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.wait(SHOWN)
    assert page.evaluate("document.activeElement === window.kept && window.kept.isConnected")
    assert page.evaluate("document.querySelector('#chart-load-table').open")
    page.evaluate("document.getElementById('pause').focus()")
    page.press("Space")
    assert page.evaluate("document.getElementById('pause').getAttribute('aria-pressed')") == "true"
    page.evaluate("document.getElementById('updated').textContent = ''")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    time.sleep(0.5)
    assert not page.evaluate(SHOWN)


def test_a_prometheus_that_ends_is_told_of(look: Any, well: str, window: chromium.Browser) -> None:
    """What was seen stays, with its time; when it answers again, that is told as well."""
    with monitoring_host.serving(files(), well) as host:
        page = look(host)
        host.ask = f"127.0.0.1:{monitoring_host.free_port()}"
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.wait(f"{VERDICT}.startsWith('Prometheus does not answer: the answer was 502. What is shown is of ')")
        assert page.evaluate("document.title") == "Prometheus does not answer"
        assert "15'000 are planned" in page.evaluate("document.getElementById('content').innerText")
        host.ask = well
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.wait(f"{VERDICT}.startsWith('Well.')")
        # The refusal itself is what the browser complains of.
        assert all("502" in complaint for complaint in page.complaints())
        window.events.clear()


def test_a_prometheus_that_collects_nothing_is_told_of(look: Any, tmp_path: Path) -> None:
    """It answers, but what it knows is old, or it has never known anything."""
    rendered = files()
    old = int(time.time()) - 600 - 200
    samples = monitoring_host.present(json.loads(rendered["platform.json"]), old, {})
    with (
        monitoring_host.prometheus(tmp_path, samples, [WATCHDOG]) as ask,
        monitoring_host.serving(rendered, ask) as host,
    ):
        page = look(host)
        assert page.evaluate(VERDICT).startswith("Nobody knows. The newest sample is of ")
        assert "? tells nothing new" in page.evaluate("document.getElementById('content').innerText")


def test_a_silent_watchdog_is_told_of(look: Any, tmp_path: Path) -> None:
    rendered = files()
    samples = monitoring_host.present(json.loads(rendered["platform.json"]), int(time.time()), {})
    quiet = rule("Other", "warning", "vector(1)", "Something")
    with (
        monitoring_host.prometheus(tmp_path, samples, [quiet]) as ask,
        monitoring_host.serving(rendered, ask) as host,
    ):
        page = look(host)
        assert page.evaluate(VERDICT) == (
            "Working, with something to look at. 1 warning; the watchdog is silent, so other alerts may be as well."
        )
