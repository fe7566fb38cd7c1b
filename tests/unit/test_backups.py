"""Who is backed up and where to, what is refused, and the table of backups."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from pryv_platform import accounts, backup, backup_report
from pryv_platform.checks import backup as checks
from pryv_platform.checks import production
from pryv_platform.inventory import Inventory
from pryv_platform.topology import derivation, obstacles

COMMON = {"pryv_domain": "b.pryv.test", "pryv_environment": "production", "pryv_admin_networks": ["192.0.2.0/24"]}
SECOND = 1_764_200_000.0
S3, S3_SECRET = {"backup_repository": "s3:https://s3.example.com/pryv"}, "backup_environment.AWS_SECRET_ACCESS_KEY"


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


def test_a_repository_that_the_operator_names_takes_the_place_of_a_host() -> None:
    found = derivation.derive(
        *platform(co2={"backup_repository": "s3:https://s3.example.com/pryv"}, bk2={"privacy_zone": "ch"})
    )
    assert found["backups"] == {"reg1": "bk1", "co1": "bk1", "co2": None}
    assert "co2" not in {flow["source"] for flow in found["flows"] if flow["purpose"].startswith("backups")}


def test_without_the_group_there_are_none() -> None:
    groups, variables = platform()
    for host in groups.pop("backup"):
        groups["all"].remove(host)
        del variables[host]
    found = derivation.derive(groups, variables)
    assert found["backups"] == {}
    assert not [flow for flow in found["flows"] if "backup" in flow["purpose"]]


def test_what_monitors_is_backed_up_to_the_first() -> None:
    """It knows nothing of people, so that zones do not matter; nor does the leader's being there."""
    groups, variables = platform()
    groups = {**groups, "monitoring": ["mon1"], "all": [*groups["all"], "mon1"]}
    variables["mon1"] = {**COMMON, "pryv_web_alias": "pages.cdn.test", "ansible_host": "10.0.0.51"}
    assert derivation.derive(groups, variables)["backups"]["mon1"] == "bk1"
    assert backup.backed_up(Inventory(variables, groups)) == ["co1", "co2", "reg1", "reg2", "mon1"]


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
    assert [(each["severity"], each["where"]) for each in found] == [
        ("error", "co1"),
        ("error", "co2"),
        ("error", "reg1"),
    ]
    assert "`preflight_waivers: {backup: REASON}`" in found[0]["remedy"]
    waived = production.problems(without, {"backup": "the provider's snapshots"})
    assert {each["severity"] for each in waived if "no backup" in each["problem"]} == {"warning"}
    assert not [each for each in production.problems(inventory(), None) if "no backup" in each["problem"]]


def test_production_has_a_backup_of_the_registry_too() -> None:
    elsewhere = {"backup_repository": "s3:https://s3.example.com/pryv"}
    some = Inventory(inventory(co1=elsewhere, co2=elsewhere).variables, {**inventory().groups, "backup": []})

    def without(given: Inventory) -> list[str]:
        return [each["where"] for each in production.problems(given, None) if "no backup" in each["problem"]]

    assert without(some) == ["reg1"]
    # A single one need not say that it leads; of two that do not, topology says so.
    assert without(Inventory(some.variables, {**some.groups, "registry": ["reg2"]})) == ["reg2"]
    undecided = {host: {**values, "registry_role": None} for host, values in some.variables.items()}
    assert without(Inventory(undecided, some.groups)) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"backup_pause_seconds": 4}, "co1: backup_pause_seconds is 4"),
        ({"backup_shrink_percent": 100}, "co1: backup_shrink_percent is 100"),
        ({"backup_server_keep": {"within": "2 days"}}, "co1: backup_server_keep.within is '2 days'"),
        ({"backup_repository": "nas:/pryv"}, "co1: backup_repository is 'nas:/pryv'"),
        ({"backup_repository": "/srv/elsewhere"}, "co1: backup_repository is /srv/elsewhere, on the host itself"),
        ({"backup_repository": "sftp:backup@nas.example.com:/pryv", "backup_upload_kib": 0}, None),
        ({**S3, "backup_environment": {"AWS_ACCESS_KEY_ID": "id"}}, f"co1: {S3_SECRET} is missing"),
        (
            {**S3, "backup_environment": {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": ""}},
            f"co1: {S3_SECRET} is",
        ),
        ({**S3, "backup_environment": {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}}, None),
        # What opens the bucket may be the machine's own.
        (S3, "co1: backup_environment has neither AWS_ACCESS_KEY_ID nor AWS_SECRET_ACCESS_KEY"),
        # It may be in there, which is reported with the secrets.
        ({**S3, "pryv_locked_vaults": ["vault.yml"]}, None),
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
    first, second = accounts.basic_auth_accounts(["co1", "co2"], passwords).splitlines()
    digest = base64.b64encode(hashlib.sha1(b"x" * 43).digest()).decode()  # noqa: S324
    assert first == f"co1:{{SHA}}{digest}"
    assert second.startswith("co2:{SHA}")


def ago(**span: float) -> str:
    """A time before SECOND, as ISO 8601."""
    return (datetime.fromtimestamp(SECOND, timezone.utc) - timedelta(**span)).isoformat()


def client(**changes: Any) -> dict[str, Any]:
    """What program pryv-backup says on a host where all is well."""
    last = {"ok": True, "error": None, "time": ago(hours=20), "newest": ago(hours=20), "seconds": 12.6}
    last |= {"pause_seconds": 0.61, "bytes": 44_170_852}
    return {
        "initialised": True,
        "since": ago(days=30),
        "last": last,
        "next": ago(hours=-4),
        "oldest_seconds": 93600,
        **changes,
    }


def server(**changes: Any) -> dict[str, Any]:
    """What it says on a host that keeps the backups of `co1`, where all is well."""
    well = {"ok": True, "problems": [], "time": ago(hours=3)}
    arrived = {"co1": [ago(days=20), ago(hours=20)]}
    return {
        "arrived": arrived,
        "keeps": ["co1"],
        "keep_days": 35,
        "drill": {"co1": well},
        "retain": {"co1": well},
        **changes,
    }


def overview(*told: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What `co1` and its server say, put together."""
    said = {host: json.dumps(answer) if answer else None for host, answer in zip(("co1", "bk1"), told, strict=False)}
    return backup_report.overview(said, {"co1": "bk1" if len(told) > 1 else None}, SECOND)


def test_the_table_says_of_each_host_how_its_backups_are() -> None:
    snapshots = [
        {"time": "2025-11-25T23:33:20.143699216Z", "tags": ["data"]},
        {"time": ago(hours=1), "tags": ["ledger"]},
    ]
    found = overview(client(snapshots=snapshots, problem=None), server())
    assert found[0]["newest"] == "2025-11-25T23:33:20.143699216Z"
    assert found[0]["problems"] == []
    heads, cells = (re.split("  +", line) for line in backup_report.table(found, SECOND))
    assert dict(zip(heads, cells, strict=True)) == {
        "host": "co1",
        "newest backup": "24 hours ago",
        "kept": "1",
        "size": "44.2 MB",
        "took": "13 s",
        "pause": "0.6 s",
        "last run": "well, 20 hours ago",
        "next run": "in 4 hours",
        "last drill": "well, 3 hours ago",
        "retention": "well, 3 hours ago",
    }


FAILED = {"ok": False, "problems": ["MongoDB does not start"], "time": ago(hours=3)}
OLD = {"ok": True, "problems": [], "time": ago(days=9)}
NEW = {"arrived": {"co1": [ago(hours=20), ago(hours=20)]}, "drill": {}, "retain": {}}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([client(), server()], ""),
        ([client()], ""),
        ([client(last=None, since=ago(hours=1)), server(**{**NEW, "arrived": {}})], ""),
        ([client(), server(**NEW)], ""),
        # It found no backup, of course, before there was one.
        ([client(), server(**{**NEW, "retain": {"co1": {**FAILED, "time": ago(hours=23)}}})], ""),
        ([None, server()], "it does not say how its backups are"),
        ([client(initialised=False)], "there is no repository for its backups"),
        ([client(snapshots=None, problem="connection refused")], "its repository cannot be read: connection refused"),
        (
            [client(last={"ok": False, "error": "no space", "time": ago(hours=1), "newest": ago(hours=9)})],
            "the last run failed: no space",
        ),
        (
            [client(last={"ok": True, "time": ago(hours=27), "newest": ago(hours=27)})],
            "the newest backup is of 27 hours ago",
        ),
        # Whatever it says itself.
        ([client(), server(arrived={"co1": [ago(days=9), ago(days=3)]})], "the newest backup is of 3 days ago"),
        # By its schedule.
        ([client(oldest_seconds=21 * 3600)], ""),
        ([client(oldest_seconds=7 * 3600)], "the newest backup is of 20 hours ago"),
        (
            [client(oldest_seconds=7 * 3600, last=None, since=ago(hours=8))],
            "there is no backup, though its repository was made 8 hours ago",
        ),
        ([client(last=None, since=ago(hours=27))], "there is no backup, though its repository was made 27 hours ago"),
        ([client(), server(drill={"co1": FAILED})], "the last drill failed: MongoDB does not start"),
        ([client(), server(drill={"co1": OLD})], "no backup was restored for a look since 9 days ago"),
        ([client(), server(drill={})], "no backup was restored for a look since the first came 20 days ago"),
        ([client(), server(retain={"co1": FAILED})], "old backups are not forgotten: MongoDB"),
        ([client(), server(retain={"co1": OLD})], "old backups were not forgotten since 9 days ago"),
        ([client(), server(retain={})], "old backups were not forgotten since the first came 20 days ago"),
    ],
)
def test_what_is_wrong_with_backups_is_said(told: list[dict[str, Any] | None], expected: str) -> None:
    found = overview(*told)
    (check,) = backup_report.checks(found)
    assert (check["where"], check["what"]) == ("co1", "backups")
    assert check["found"].startswith(expected)
    assert bool(check["found"]) == bool(expected)
    assert backup_report.table(found, SECOND)[2:] == ([f"co1: {check['found']}"] if expected else [])


def test_backups_of_a_host_that_went_elsewhere_are_shown_and_have_an_end() -> None:
    arrived = {
        "co1": [ago(days=20), ago(hours=20)],
        "co9": [ago(days=34), ago(days=3)],
        "co8": [ago(days=36), ago(days=9)],
    }
    _, *left = overview(client(), server(arrived=arrived))
    assert [(entry["host"], entry["server"], entry["newest"]) for entry in left] == [
        ("co9", "bk1", ago(days=3)),
        ("co8", "bk1", ago(days=9)),
    ]
    assert [entry["problems"] for entry in left] == [
        [],
        ["bk1 has backups of 36 days ago, longer than the 35 days that are stated: remove them there"],
    ]
