"""What the programs of a monitoring host are told is theirs to read, and says what the inventory does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins.modules.alert_delivery import read_counts, verdicts
from pryv_platform.alerting import alert_checks, alertmanager_configuration
from pryv_platform.checks.monitoring import receiver_problems
from pryv_platform.checks.production import problems as production_problems
from pryv_platform.inventory import Inventory
from pryv_platform.scraping import blackbox_configuration, prometheus_configuration
from tests.unit.test_alerts import platform

RECEIVERS = [
    {"name": "duty", "webhook": "https://chat.example.com/1", "severities": ["critical"]},
    {"name": "swiss", "mail": ["ops@example.ch", "more@example.ch"], "zones": ["ch"]},
]
SERVER = {"host": "smtp.example.com", "user": "pryv", "password": "secret", "from": "pryv@example.com"}


def alertmanager(tmp_path: Path) -> Path:
    """Alertmanager's configuration with two receivers and a watchdog."""
    content = alertmanager_configuration(RECEIVERS, SERVER, "https://watchdog.example.com/1", "example.com")
    file = tmp_path / "alertmanager.yml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_alertmanager_takes_its_configuration(tmp_path: Path) -> None:
    subprocess.run(["amtool", "check-config", alertmanager(tmp_path)], check=True, capture_output=True)
    (tmp_path / "nobody.yml").write_text(yaml.safe_dump(alertmanager_configuration([], {}, "", "example.com")))
    subprocess.run(["amtool", "check-config", tmp_path / "nobody.yml"], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"alertname": "Watchdog", "severity": "none"}, "watchdog"),
        ({"alertname": "HostDown", "severity": "critical", "zone": "ch"}, "duty,swiss"),
        ({"alertname": "HostDown", "severity": "critical", "zone": "de"}, "duty"),
        # The registry is everybody's.
        ({"alertname": "RedisDown", "severity": "critical"}, "duty,swiss"),
        ({"alertname": "CpuBusy", "severity": "warning", "zone": "ch"}, "swiss"),
        ({"alertname": "CpuBusy", "severity": "warning", "zone": "de"}, "nobody"),
    ],
)
def test_alerts_go_to_those_whose_severity_and_zone_it_is(labels: dict[str, str], told: str, tmp_path: Path) -> None:
    asked = ["amtool", "config", "routes", "test", f"--config.file={alertmanager(tmp_path)}"]
    done = subprocess.run(
        [*asked, *(f"{key}={value}" for key, value in labels.items())], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == told


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    (tmp_path / "ca.pem").write_text("")
    files = {"authority": "ca.pem", "password": "password", "rules": "*.rules"}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(prometheus_configuration(platform(), "mon1", files)))
    subprocess.run(["promtool", "check", "config", "--syntax-only", tmp_path / "prometheus.yml"], check=True)


def targets() -> dict[str, list[dict[str, Any]]]:
    files = {"authority": "ca.pem", "password": "password", "rules": "*.rules"}
    jobs = prometheus_configuration(platform(), "mon1", files)["scrape_configs"]
    return {job["job_name"]: job["static_configs"] for job in jobs}


def test_every_host_is_asked_for_all_that_it_has_to_tell() -> None:
    topology = platform()
    for job in ("node", "requests"):
        assert {target["labels"]["host"] for target in targets()[job]} == set(topology["hosts"])
    assert [target["labels"]["host"] for target in targets()["redis"]] == ["reg1", "reg2"]
    assert targets()["node"][0] == {
        "targets": ["10.77.30.11:9443"],
        "labels": {"host": "reg1", "zone": "", "role": "registry", "instance": "reg1"},
    }


def test_every_name_server_and_name_is_asked_at_its_own_address() -> None:
    probes = [target["labels"] for target in targets()["probe"]]
    asked = {(labels["probe"], labels["host"]): labels["__param_target"] for labels in probes}
    assert asked["dns", "reg2"] == "10.77.30.12:53"
    assert asked["https", "co1"] == "https://10.77.30.13/status"
    assert {host for kind, host in asked if kind == "ping"} == set(platform()["hosts"])
    assert all(labels["__param_module"] == labels["probe"] for labels in probes)
    modules = blackbox_configuration(platform(), "/ca.pem")["modules"]
    assert modules["dns"]["dns"]["validate_answer_rrs"] == {
        "fail_if_none_matches_regexp": [r".*\sA\s+10[.]77[.]30[.]11"]
    }


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"monitoring_receivers": [{"name": "duty"}]}, "monitoring_receivers[0].mail: is missing, and so is webhook"),
        (
            {"monitoring_receivers": [{"name": "nobody", "webhook": "https://a.example"}]},
            "monitoring_receivers[0].name: is 'nobody'",
        ),
        (
            {"monitoring_receivers": [{"name": "a", "webhook": "chat.example"}]},
            "monitoring_receivers[0].webhook: is no URL",
        ),
        ({"monitoring_receivers": [{"name": "a", "mail": ["ops"]}]}, "monitoring_receivers[0].mail: has 'ops'"),
        (
            {"monitoring_receivers": [{**RECEIVERS[0], "severities": ["high"]}]},
            "monitoring_receivers[0].severities: has 'high'",
        ),
        ({"monitoring_receivers": [{**RECEIVERS[0], "zones": ["us"]}]}, "monitoring_receivers[0].zones: has 'us'"),
        ({"monitoring_receivers": [RECEIVERS[0], RECEIVERS[0]]}, "monitoring_receivers: has duty twice"),
        ({"monitoring_mail_server": {}}, "monitoring_mail_server.host: is missing"),
        ({"monitoring_mail_server": {"host": "a", "user": "b"}}, "monitoring_mail_server.password: is missing"),
        ({"monitoring_watchdog_url": "watchdog"}, "monitoring_watchdog_url: is no URL"),
        ({"monitoring_receivers": [], "pryv_environment": "production"}, "monitoring_receivers: is empty"),
    ],
)
def test_what_is_wrong_with_receivers_is_said(change: dict[str, Any], found: str) -> None:
    right = {"monitoring_receivers": RECEIVERS, "monitoring_mail_server": SERVER, "pryv_environment": "production"}
    assert receiver_problems("mon1", right, ["ch"]) == []
    (problem,) = receiver_problems("mon1", {**right, **change}, ["ch"])
    assert f"{problem['where']}: {problem['problem']}".startswith(f"mon1: {found}")
    assert problem["severity"] == ("warning" if change.get("monitoring_receivers") == [] else "error")


@pytest.mark.parametrize("waivers", [None, {"monitoring": "somebody else watches"}])
def test_a_production_platform_that_nobody_watches_is_told_of(waivers: object) -> None:
    inventory = Inventory({"co1": {"pryv_environment": "production"}}, {"all": ["co1"], "core": ["co1"]})
    (problem,) = [one for one in production_problems(inventory, waivers) if one["where"] == "group monitoring"]
    assert problem["severity"] == ("note" if waivers else "warning")
    watched = Inventory({**inventory.variables, "mon1": {}}, {**inventory.groups, "monitoring": ["mon1"]})
    assert [one for one in production_problems(watched, None) if one["where"] == "group monitoring"] == []


METRICS = """
# TYPE alertmanager_notifications_total counter
alertmanager_notifications_total{integration="email",receiver_name="duty"} 3
alertmanager_notifications_total{integration="webhook",receiver_name="duty"} 4
alertmanager_notifications_total{integration="webhook",receiver_name="office"} 5
alertmanager_notifications_failed_total{integration="email",reason="other",receiver_name="duty"} 2
alertmanager_notifications_failed_total{integration="email",reason="serverError",receiver_name="duty"} 1
"""


def test_a_receiver_has_an_alert_when_a_message_did_not_fail() -> None:
    before = {"duty by email": (0.0, 0.0), "duty by webhook": (3.0, 0.0), "office by webhook": (5.0, 0.0)}
    after = read_counts(METRICS)
    assert after["duty by email"] == (3, 3)
    assert verdicts(before, after) == {
        "duty by email": "refused",
        "duty by webhook": "delivered",
        "office by webhook": "nothing sent",
    }


def test_verify_tells_of_alerts_and_of_who_tells_nothing() -> None:
    series = [
        {"metric": {"__name__": "ALERTS", "alertname": "HostDown", "host": "co1", "job": "node"}, "value": [0, "1"]},
        {"metric": {"__name__": "up", "host": "reg1", "job": "redis"}, "value": [0, "0"]},
    ]
    found = {
        one["where"]: one["found"] for one in alert_checks({"mon1": json.dumps(series), "mon2": "[]", "mon3": None})
    }
    assert found == {"mon1": "HostDown co1; reg1 tells no redis", "mon2": "", "mon3": "no answer of Prometheus"}
