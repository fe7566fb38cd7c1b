"""Who is backed up and where to, what is refused, and the table of backups."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from pryv_platform import backup
from pryv_platform.checks import backup as checks
from pryv_platform.checks import production
from pryv_platform.inventory import Inventory
from pryv_platform.topology import derivation, obstacles

COMMON = {"pryv_domain": "b.pryv.test", "pryv_environment": "production", "pryv_admin_networks": ["192.0.2.0/24"]}
SECOND = 1_764_200_000.0


def platform(**changes: dict[str, Any]) -> tuple[dict[str, list[str]], dict[str, dict[str, Any]]]:
    """A platform of two zones with a backup host for each; changes are variables by host."""
    hosts: dict[str, dict[str, Any]] = {
        "reg1": {"ansible_host": "10.0.0.21", "registry_role": "leader"},
        "reg2": {"ansible_host": "10.0.0.22", "registry_role": "follower"},
        "co1": {"ansible_host": "10.0.0.11", "privacy_zone": "ch"},
        "co2": {"ansible_host": "10.0.0.12", "privacy_zone": "de"},
        "bk1": {"ansible_host": "10.0.0.41", "backup_zones": ["ch"]},
        "bk2": {"ansible_host": "10.0.0.42", "private_address": "10.9.0.42", "privacy_zone": "de"},
    }
    groups = {
        "all": list(hosts),
        "web": [],
        "registry": ["reg1", "reg2"],
        "core": ["co1", "co2"],
        "backup": ["bk1", "bk2"],
    }
    variables = {
        host: {**COMMON, "pryv_web_alias": "pages.cdn.test", **own, **changes.get(host, {})}
        for host, own in hosts.items()
    }
    return groups, variables


def refused(**changes: dict[str, Any]) -> list[str]:
    with pytest.raises(obstacles.TopologyError) as error:
        derivation.derive(*platform(**changes))
    return [str(problem) for problem in error.value.problems]


def test_a_core_is_backed_up_in_its_zone_and_the_leader_to_the_first() -> None:
    found = derivation.derive(*platform())
    assert found["backups"] == {"reg1": "bk1", "co1": "bk1", "co2": "bk2"}
    ways = [flow for flow in found["flows"] if flow["purpose"].startswith("backups")]
    assert [(way["source"], way["sources"], way["target"], way["address"], way["port"]) for way in ways] == [
        ("reg1", ["10.0.0.21/32"], "bk1", "10.0.0.41", found["ports"]["backup"]),
        ("co1", ["10.0.0.11/32"], "bk1", "10.0.0.41", found["ports"]["backup"]),
        ("co2", ["10.0.0.12/32"], "bk2", "10.9.0.42", found["ports"]["backup"]),
    ]


def test_without_the_group_there_are_none() -> None:
    groups, variables = platform()
    for host in groups.pop("backup"):
        groups["all"].remove(host)
        del variables[host]
    found = derivation.derive(groups, variables)
    assert found["backups"] == {}
    assert not [flow for flow in found["flows"] if "backup" in flow["purpose"]]


@pytest.mark.parametrize(
    ("changes", "start", "remedy"),
    [
        ({"bk2": {"privacy_zone": "ch"}}, "backup_zones is ['ch']: ", "co2's data may lie nowhere else"),
        ({"bk1": {"backup_zones": "ch"}}, "bk1: backup_zones is 'ch': ", "a list of the privacy zones"),
        ({"bk1": {"backup_zones": []}}, "bk1: backup_zones is []: ", "a list of the privacy zones"),
        ({"bk2": {"privacy_zone": None}}, "bk2: backup_zones is not set: ", "or set privacy_zone"),
        ({"co1": {"backup_zones": ["ch"]}}, "co1: backup_zones is ['ch']: ", "only hosts of group backup"),
    ],
)
def test_data_never_leaves_its_zone(changes: dict[str, dict[str, Any]], start: str, remedy: str) -> None:
    assert [line for line in refused(**changes) if line.startswith(start) and remedy in line]


def test_a_machine_does_not_keep_its_own_backup() -> None:
    groups, variables = platform()
    groups["backup"].append("co1")
    with pytest.raises(obstacles.TopologyError) as error:
        derivation.derive(groups, {**variables, "co1": {**variables["co1"], "backup_zones": ["ch"]}})
    assert "host co1 is 'in group backup and in core': a machine of its own" in str(error.value)


def inventory(**changes: dict[str, Any]) -> Inventory:
    groups, variables = platform(**changes)
    return Inventory(variables, groups)


def test_followers_have_their_secrets_before_they_lead() -> None:
    assert backup.backed_up(inventory()) == ["co1", "co2", "reg1", "reg2"]
    without = Inventory(inventory().variables, {**inventory().groups, "backup": []})
    assert backup.backed_up(without) == []
    elsewhere = {"backup_repository": "s3:https://s3.example.com/pryv"}
    some = Inventory(inventory(co2=elsewhere).variables, {**inventory().groups, "backup": []})
    assert backup.backed_up(some) == ["co2"]


def test_production_has_backups_or_a_reason() -> None:
    without = Inventory(inventory().variables, {**inventory().groups, "backup": []})
    found = [each for each in production.problems(without, None) if "no backup" in each["problem"]]
    assert [(each["severity"], each["where"]) for each in found] == [("error", "co1"), ("error", "co2")]
    assert "`preflight_waivers: {backup: REASON}`" in found[0]["remedy"]
    waived = production.problems(without, {"backup": "the provider's snapshots"})
    assert {each["severity"] for each in waived if "no backup" in each["problem"]} == {"warning"}
    assert not [each for each in production.problems(inventory(), None) if "no backup" in each["problem"]]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"backup_pause_seconds": 4}, "co1: backup_pause_seconds is 4"),
        ({"backup_shrink_percent": 100}, "co1: backup_shrink_percent is 100"),
        ({"backup_server_keep": {"within": "2 days"}}, "co1: backup_server_keep.within is '2 days'"),
        ({"backup_repository": "nas:/pryv"}, "co1: backup_repository is 'nas:/pryv'"),
        ({"backup_repository": "/srv/elsewhere"}, "co1: backup_repository is /srv/elsewhere, on the host itself"),
        ({"backup_repository": "sftp:backup@nas.example.com:/pryv", "backup_upload_kib": 0}, None),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, Any], expected: str | None) -> None:
    found = [f"{each['where']} {each['problem']}" for each in checks.problems(inventory(co1=given))]
    assert [line[: len(expected or "")] for line in found] == ([expected] if expected else [])


def test_a_repository_on_the_host_itself_is_for_trials() -> None:
    given = {"backup_repository": "/srv/elsewhere", "pryv_environment": "development"}
    (found,) = checks.problems(inventory(co1=given))
    assert found["severity"] == "warning"


def test_accounts_are_what_rest_server_reads() -> None:
    passwords = {"co1": "x" * 43, "co2": "y" * 43, "co3": "z" * 43}
    first, second = backup.backup_accounts(["co1", "co2"], passwords).splitlines()
    digest = base64.b64encode(hashlib.sha1(b"x" * 43).digest()).decode()  # noqa: S324
    assert first == f"co1:{{SHA}}{digest}"
    assert second.startswith("co2:{SHA}")


def said(**changes: Any) -> str:
    last = {"ok": True, "error": None, "seconds": 12.6, "pause_seconds": 0.61, "bytes": 44_170_852, **changes}
    snapshots = [
        {"id": "1", "time": "2025-11-25T23:33:20.143699216Z", "tags": ["data"]},
        {"id": "2", "time": "2025-11-26T00:33:20Z", "tags": ["ledger"]},
    ]
    return json.dumps({"last": last, "snapshots": snapshots})


def test_the_table_says_of_each_host_how_its_backups_are() -> None:
    drill = {"co1": {"ok": True, "time": "2025-11-26T21:33:20Z", "problems": []}}
    answers = {
        "co1": said(),
        "co2": said(ok=False, error="another run is going on"),
        "reg1": "",
        "bk1": json.dumps({"drill": drill}),
    }
    found = backup.overview(answers, {"co1": "bk1", "co2": "bk1", "reg1": "bk1"})
    assert [entry["host"] for entry in found] == ["co1", "co2", "reg1"]
    assert found[0]["newest"] == "2025-11-25T23:33:20.143699216Z"
    lines = backup.table(found, SECOND)
    assert lines[0].split("  ")[0] == "host"
    assert "24 hours ago" in lines[1]
    assert "44.2 MB" in lines[1]
    assert "0.6 s" in lines[1]
    assert lines[1].endswith("well, 2 hours ago")
    assert "another run is going on" in lines[2]
    assert lines[2].endswith("not yet")
    assert lines[3] == "reg1  no answer"
