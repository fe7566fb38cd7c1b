"""Grafana's dashboards: made of the page's charts, what Grafana's own schema takes, their questions have answers."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from tests.page import monitoring_host
from tests.page.monitoring_host import PAGE, ROOT, WATCHDOG, quoted, rule
from tests.page.test_monitoring import files

HERE = Path(__file__).with_name("grafana")
FOLDER = ROOT / "grafana"
DASHBOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
#: What Grafana's dashboards and panels are. Its enumerations are written as their values.
TYPES = """\
import type { Dashboard, Panel } from '@grafana/schema';
import type * as table
  from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeseries
  from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';
type Plain<T> = T extends string ? `${T}` : T extends (infer E)[] ? Plain<E>[]
  : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
type Of<Options, Field> = Plain<Omit<Panel<Options, Field>, 'options'> & { options?: Options }>;
"""


def read(path: Path) -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads(path.read_text())
    return dashboard


def complaints(folder: Path, dashboards: dict[str, dict[str, Any]]) -> list[str]:
    """Return what Grafana's schema has against dashboards by name, as the compiler says it."""
    (folder / "node_modules").symlink_to(HERE / "node_modules")
    for name, dashboard in dashboards.items():
        lines = [TYPES, f"export const whole: Plain<Dashboard> = {json.dumps(dashboard)};"]
        for panel in dashboard["panels"]:
            kind = f"Of<{panel['type']}.Options, {panel['type']}.FieldConfig>"
            lines.append(f"export const panel{panel['id']}: {kind} = {json.dumps(panel)};")
        (folder / f"{name}.ts").write_text("\n".join(lines))
    options = {"strict": True, "noEmit": True, "module": "nodenext", "skipLibCheck": True, "types": []}
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": options}))
    subprocess.run([HERE / "install"], check=True, stdin=subprocess.DEVNULL)
    done = subprocess.run(
        ["node", HERE / "node_modules/typescript/bin/tsc", "--pretty", "false", "--project", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    found = done.stdout.splitlines()
    assert (done.returncode == 0) == (not found), done.stderr
    return found


def test_dashboards_are_what_their_program_makes() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/dashboards", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_chart_of_the_page_is_a_panel() -> None:
    """With its title, in its order."""
    wanted = re.findall(r"title: '(.*?)'", (PAGE / "charts.js").read_text())
    for name in ("host", "host-years"):
        panels = read(FOLDER / f"dashboards/{name}.json")["panels"]
        assert [panel["title"] for panel in panels] == wanted
        assert [panel["id"] for panel in panels] == list(range(1, len(wanted) + 1))
        places = [tuple(panel["gridPos"][side] for side in "xy") for panel in panels]
        assert len(set(places)) == len(places)


def test_grafana_takes_the_dashboards(tmp_path: Path) -> None:
    """By the types that it publishes; they see what is wrong in a dashboard, a panel and its options."""
    good = {path.stem: read(path) for path in DASHBOARDS}
    wrong = {name: read(FOLDER / "dashboards/host.json") for name in ("dashboard", "panel", "option")}
    wrong["dashboard"]["refreshed"] = "1m"
    wrong["panel"]["panels"][0]["gridPos"]["x"] = "0"
    wrong["option"]["panels"][0]["options"]["legend"]["displayMode"] = "liszt"
    found = complaints(tmp_path, {**good, **wrong})
    assert {line.partition(".ts")[0].rpartition("/")[2] for line in found if "error" in line} == set(wrong), found


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of the Prometheus of a monitoring host with an hour of history."""
    # What Prometheus itself adds, alerts that fire, has to be newer than all this.
    now = int(time.time()) - 660
    platform = json.loads(files()["platform.json"])
    series: dict[str, list[dict[str, str]]] = {
        "pryv_history": [{"chart": chart, "line": line, "host": "co1"} for chart, line in monitoring_host.charts()],
        "pryv_history_requests": [{"zone": "ch", "kind": kind} for kind in ("reads", "writes", "bytes_read")],
        "pryv_plan_users": [{"zone": zone} for zone in platform["zones"]],
        "pryv_plan_core_users": [
            {"zone": name, "core": core} for name, zone in platform["zones"].items() for core in zone["cores"]
        ],
    }
    series["pryv_history_hours"] = [
        {**labels, "of": of} for labels in series["pryv_history"] for of in ("mean", "peak")
    ]
    history = itertools.chain.from_iterable(
        [f"# TYPE {name} gauge\n"]
        + [f"{name}{{{quoted(labels)}}} 7 {at}\n" for labels in own for at in range(now - 3000, now + 600, 60)]
        for name, own in series.items()
    )
    silent = rule("HostSilent", "critical", "up == 0", "{{ $labels.host }} does not answer")
    samples = itertools.chain(history, monitoring_host.present(platform, now, {"co2": {"up": 0}}))
    with monitoring_host.prometheus(tmp_path_factory.mktemp("told"), samples, [WATCHDOG, silent]) as ask:
        yield ask


def answer(address: str, way: str, query: str, **times: float) -> list[dict[str, Any]]:
    """Return what a Prometheus answers, by one of the two ways that a monitoring host leaves open to who may look."""
    status, content = monitoring_host.asked(address, f"/api/v1/{way}?{urlencode({'query': query, **times})}")
    assert status == 200, (query, content)
    result: list[dict[str, Any]] = json.loads(content)["data"]["result"]
    return result


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_question_has_an_answer(told: str, path: Path) -> None:
    dashboard, asked = read(path), 0
    # What fires is a series a moment after it is known to fire.
    end = time.monotonic() + 20
    while not answer(told, "query", 'ALERTS{alertname="HostSilent"}'):
        assert time.monotonic() < end
        time.sleep(0.1)
    now = time.time()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            query = target["expr"].replace("$host", "co1").replace("$__interval", panel.get("interval", "1m"))
            span = {"start": now - 1800, "end": now, "step": 300.0}
            assert answer(told, "query_range", query, **span) if target["range"] else answer(told, "query", query), (
                query
            )
            asked += 1
    assert asked >= len(dashboard["panels"]) > 0


def test_hosts_are_chosen_by_a_question_that_a_monitoring_host_answers(told: str) -> None:
    """Names of series are none of them."""
    variables = [
        variable for path in DASHBOARDS for variable in read(path)["templating"]["list"] if variable["type"] == "query"
    ]
    assert len(variables) == 2
    for variable in variables:
        query = re.fullmatch(r"query_result\((.*)\)", variable["query"])
        assert query, variable["query"]
        # As Grafana writes a result before it takes the expression to it.
        results = [f"{{{quoted(result['metric'])}}} 1 1" for result in answer(told, "query", query[1])]
        found = [re.findall(variable["regex"].strip("/"), result) for result in results]
        assert sorted(name for names in found for name in names) == sorted(
            json.loads(files()["platform.json"])["hosts"]
        )


def test_what_is_provisioned_reads_and_holds_no_secret() -> None:
    (source,) = yaml.safe_load((FOLDER / "provisioning/datasources/pryv.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((FOLDER / "provisioning/dashboards/pryv.yml").read_text())["providers"]
    # A monitoring host takes no POST, which Grafana would use.
    assert source["jsonData"]["httpMethod"] == "GET"
    assert source["access"] == "proxy"
    assert [source["url"], source["basicAuthUser"], *source["secureJsonData"].values()] == [
        "$PRYV_MONITORING_URL",
        "$PRYV_MONITORING_USER",
        "$PRYV_MONITORING_PASSWORD",
    ]
    assert provider["type"] == "file"
    assert provider["options"]["path"] == "$PRYV_DASHBOARDS"
