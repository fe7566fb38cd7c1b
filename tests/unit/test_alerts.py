"""Alerts fire when they should and not when they should not, and lead to a page that says what to do."""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from pryv_platform.scraping import inventory_rules
from pryv_platform.topology import derivation

CHECKOUT = Path(__file__).resolve().parents[2]
RULES = CHECKOUT / "roles/monitoring/templates/root/etc/prometheus/rules"
RUNBOOK = CHECKOUT / "docs/operations/alerts.md"
CASES = {
    alert: case
    for path in sorted(Path(__file__).with_name("alerts").glob("*.yml"))
    for alert, case in yaml.safe_load(path.read_text()).items()
}
#: Of a host that tells, unless a case says otherwise.
LABELS = {"host": "co1", "zone": "ch", "role": "core", "job": "node"}
PLAN = {"zones": {"ch": {"users": 39600, "users_per_core_at_most": 10000}}}
SECONDS = {"m": 60, "h": 3600}


@functools.cache
def platform() -> dict[str, Any]:
    """Two registry hosts and four cores with backups, watched."""
    groups = {
        "registry": ["reg1", "reg2"],
        "core": ["co1", "co2", "co3", "co4"],
        "backup": ["bk1"],
        "monitoring": ["mon1"],
    }
    hosts = [host for members in groups.values() for host in members]
    common = {
        "pryv_domain": "load.pryv.test",
        "pryv_environment": "development",
        "pryv_web_alias": "pages.cdn.test",
        "pryv_admin_networks": ["10.77.0.0/16"],
        "hardening_journal_forward_to": "monitoring",
    }
    own = {"reg1": {"registry_role": "leader"}, "reg2": {"registry_role": "follower"}}
    zoned = {host: {"privacy_zone": "ch"} for host in (*groups["core"], "bk1")}
    variables = {
        host: {**common, **{**own, **zoned}.get(host, {}), "ansible_host": f"10.77.30.{number}"}
        for number, host in enumerate(hosts, 11)
    }
    return derivation.derive({**groups, "all": hosts}, variables)


@functools.cache
def generated() -> str:
    return yaml.safe_dump(inventory_rules(platform(), PLAN), sort_keys=False)


@functools.cache
def rules() -> list[dict[str, Any]]:
    """All alerts of that platform."""
    texts = [*(path.read_text() for path in sorted(RULES.glob("*.yml"))), generated()]
    found = [rule for text in texts for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    return [rule for rule in found if "alert" in rule]


def seconds(span: str) -> int:
    return int(span[:-1]) * SECONDS[span[-1]]


def labelled(series: str) -> str:
    """A series with the labels that every one has."""
    name, _, given = series.partition("{")
    own = dict(re.findall(r'(\w+)="([^"]*)"', given))
    pairs = [f'{key}="{value}"' for key, value in {**LABELS, **own}.items()]
    return f"{name}{{{','.join(pairs)}}}"


def experiment(alert: str, case: dict[str, Any], kind: str) -> dict[str, Any]:
    """A case as promtool takes it: it counts the alerts of that name that fire."""
    look, fires = case[kind], kind.startswith("fires")
    step = look.get("step", "1m")
    steps = seconds(look["at"]) // seconds(step)
    wanted = {**case, **look}.get("of", {"host": "co1"})
    labels = {"alertname": alert, "alertstate": "firing", **(wanted if fires else {})}
    chosen = ",".join(f'{key}="{value}"' for key, value in labels.items())
    values = {
        name: str(value) if isinstance(value, str) else f"{value}+0x{steps}" for name, value in look["series"].items()
    }
    return {
        "interval": step,
        "name": f"{alert} {kind}",
        "input_series": [{"series": labelled(name), "values": value} for name, value in values.items()],
        "promql_expr_test": [
            {
                "expr": f"count(ALERTS{{{chosen}}})",
                "eval_time": look["at"],
                "exp_samples": [{"value": 1, "labels": "{}"}] if fires else [],
            }
        ],
    }


def experiments(alert: str) -> dict[str, Any]:
    """All cases of an alert for promtool, by the rules that they need: what is planned, and the alert's own."""
    planned = [
        rule for group in inventory_rules(platform(), PLAN)["groups"] for rule in group["rules"] if "record" in rule
    ]
    here = {LABELS["host"], None}
    needed = [*planned, *(rule for rule in rules() if rule["alert"] == alert and rule["labels"].get("host") in here)]
    return {
        f"{alert}.rules": {"groups": [{"name": "needed", "rules": needed}]},
        **{
            f"{alert}.{kind}": {
                "rule_files": [f"{alert}.rules"],
                "evaluation_interval": CASES[alert][kind].get("step", "1m"),
                "tests": [experiment(alert, CASES[alert], kind)],
            }
            for kind in CASES[alert]
            if kind != "of"
        },
    }


def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    files = {name: content for alert in CASES for name, content in experiments(alert).items()}
    for name, content in files.items():
        (tmp_path / name).write_text(yaml.safe_dump(content, sort_keys=False))
    tests = [name for name in files if not name.endswith(".rules")]
    done = subprocess.run(
        ["promtool", "test", "rules", *tests], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_of_both_kinds() -> None:
    assert set(CASES) == {rule["alert"] for rule in rules()}
    kinds = {alert: {kind.split()[0] for kind in case} - {"of"} for alert, case in CASES.items()}
    assert {alert for alert, found in kinds.items() if found != {"fires", "quiet"}} == {"Watchdog"}


def test_every_alert_says_what_to_do() -> None:
    headings = {
        re.sub(r"\W", "", title).lower(): title for title in re.findall(r"^### (\w+)$", RUNBOOK.read_text(), re.M)
    }
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning", "none"}
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (CHECKOUT / page, headings[anchor]) == (RUNBOOK, rule["alert"])
    assert set(headings.values()) == {rule["alert"] for rule in rules()}


def test_every_host_has_a_rule_that_notices_its_silence() -> None:
    topology = platform()
    noticed = {
        alert: {rule["labels"]["host"] for rule in rules() if rule["alert"] == alert and "host" in rule["labels"]}
        for alert in ("HostDown", "HostSilent", "MetricsMissing", "BackupMissing", "LogsMissing")
    }
    assert noticed.pop("LogsMissing") == set(topology["hosts"]) - set(topology["monitoring"])
    assert noticed.pop("BackupMissing") == set(topology["backups"])
    assert all(hosts == set(topology["hosts"]) for hosts in noticed.values())


def test_no_alert_names_a_person() -> None:
    """What alerts say goes through mail servers: labels of users, tokens and addresses are in no rule."""
    words = " ".join(
        re.findall(r"labels\.(\w+)", generated() + "".join(path.read_text() for path in RULES.glob("*.yml")))
    )
    known = "host mountpoint device unit collector service core zone name job receiver_name integration of"
    assert set(words.split()) <= set(known.split())
