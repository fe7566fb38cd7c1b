"""An inventory against its plan: what is refused, what is only said."""

from __future__ import annotations

from typing import Any

import pytest

from pryv_platform.capacity.check import capacity_problems
from tests.unit.test_capacity import zone

SMALL = {"cpus": 2, "ram_mb": 3900, "os_disk_gb": 15, "data_disk_gb": 15}


def topology(cores: dict[str, list[str]], draining: tuple[str, ...] = (), followers: int = 1) -> dict[str, Any]:
    """Return what of a topology the comparison needs: one web host, a registry leader, followers and these cores."""
    registries = [f"reg{number}" for number in range(1, followers + 2)]
    hosts: dict[str, Any] = {"web1": {"roles": ["web"]}, **{name: {"roles": ["registry"]} for name in registries}}
    hosts |= {core: {"roles": ["core"], "privacy_zone": name} for name, names in cores.items() for core in names}
    return {
        "hosts": hosts,
        "zones": cores,
        "draining": {core: {"ip": "192.0.2.1"} for core in draining},
        "followers": registries[1:],
        "web": {"hosts": ["web1"]},
    }


def problems(zones: Any, cores: dict[str, list[str]], **arguments: Any) -> list[tuple[str, str, str, str]]:
    """Return the problems as tuples."""
    shape = arguments.pop("topology", None) or topology(cores)
    found = capacity_problems(zones, shape, **arguments)
    return [(entry["severity"], entry["where"], entry["problem"], entry["remedy"]) for entry in found]


def test_a_fitting_inventory_has_no_problems() -> None:
    """Silence is the answer to an inventory that is right."""
    machines = {"co1": SMALL, "reg1": SMALL, "web1": {"cpus": 1, "ram_mb": 960, "os_disk_gb": 14}}
    assert problems({"ch": zone(users=9000)}, {"ch": ["co1"]}, machines=machines) == []


def test_too_few_cores() -> None:
    """Zone, needed, present, the metric that decides, and the line to add."""
    ((severity, where, problem, remedy),) = problems({"ch": zone(users=20000)}, {"ch": ["co1", "co2"]})
    assert (severity, where) == ("error", "privacy_zones.ch")
    assert "needs 3 cores and has 2 (co1, co2)" in problem
    assert "users (users): 20000 users demanded, 9999 on one core" in problem
    assert "privacy_zone is ch: `co3: {ansible_host: ADDRESS}`" in remedy
    assert "capacity_accept_shortfall: [ch]" in remedy


def test_a_zone_without_cores() -> None:
    """None is fewer than one."""
    found = problems({"ch": zone(), "de": zone()}, {"ch": ["co1"]})
    assert [(entry[0], entry[1]) for entry in found] == [("error", "privacy_zones.de")]
    assert "needs 1 cores and has 0 (none)" in found[0][2]


def test_a_shortfall_can_be_accepted_and_is_always_said() -> None:
    """The override turns the error of its own zone into a warning."""
    found = problems(
        {"ch": zone(users=10000), "de": zone(users=10000)}, {"ch": ["co1"], "de": ["co2"]}, accept_shortfall=["ch"]
    )
    assert [entry[:2] for entry in found] == [("warning", "privacy_zones.ch"), ("error", "privacy_zones.de")]
    assert "accepted by capacity_accept_shortfall" in found[0][2]


def test_a_useless_or_wrong_override_is_said() -> None:
    """An override that covers nothing hides the next shortfall."""
    found = problems({"ch": zone()}, {"ch": ["co1"]}, accept_shortfall=["ch", "de"])
    assert [entry[:3] for entry in found] == [
        ("warning", "capacity_accept_shortfall", "'ch' has no shortfall"),
        ("warning", "capacity_accept_shortfall", "'de' is no zone of privacy_zones"),
    ]


def test_more_cores_than_needed() -> None:
    """A note, no more."""
    ((severity, where, problem, _),) = problems({"ch": zone()}, {"ch": ["co1", "co2"]})
    assert (severity, where) == ("note", "privacy_zones.ch")
    assert "has 2 cores, the plan needs 1" in problem


def test_a_draining_core_takes_no_new_users() -> None:
    """It counts, with a warning."""
    cores = {"ch": ["co1", "co2"]}
    found = problems({"ch": zone(users=12000)}, cores, topology=topology(cores, draining=("co2",)))
    assert [entry[:2] for entry in found] == [("warning", "privacy_zones.ch")]
    assert "co2 drains" in found[0][2]


def test_cores_of_a_zone_without_requirements() -> None:
    """What is not planned is refused."""
    found = problems({"ch": zone()}, {"ch": ["co1"], "de": ["co2"]})
    assert [entry[:2] for entry in found] == [("error", "privacy_zones.de")]


@pytest.mark.parametrize("zones", [None, {}, {"ch": zone(users="CHANGE_ME")}])
def test_wrong_requirements_are_problems_like_others(zones: Any) -> None:
    """The report lists them beside everything else."""
    ((severity, where, _, remedy),) = problems(zones, {"ch": ["co1"]})
    assert severity == "error"
    assert where.startswith("privacy_zones")
    assert "right is" in remedy


@pytest.mark.parametrize(
    ("host", "facts", "said"),
    [
        ("co1", {"cpus": 1}, "has 1 CPUs and needs 4 (4 with image previews)"),
        # 5 GB with previews; what the kernel keeps is forgiven, a GB less is not.
        ("co1", {"ram_mb": 4200}, "has 4.4 GB of RAM and needs 5"),
        ("co1", {"os_disk_gb": 10}, "has 10 GB of OS disk and needs 15"),
        ("co1", {"data_disk_gb": 40}, "has 40 GB of data disk and needs 55"),
        ("reg1", {"cpus": 1}, "has 1 CPUs and needs 2 (minimum of a registry)"),
        ("reg1", {"data_disk_gb": 13}, "has 13 GB of data disk and needs 15"),
        ("web1", {"ram_mb": 512}, "has 0.537 GB of RAM and needs 1"),
        # Without a disk of its own, data shares the OS disk.
        ("co1", {"data_disk_gb": None, "os_disk_gb": 60}, "has 60 GB of OS disk and needs 70 (15 for the system + 55"),
    ],
)
def test_a_machine_smaller_than_its_role_needs(host: str, facts: dict[str, Any], said: str) -> None:
    """Both figures, and the rule."""
    requirements = {"ch": zone(users=100, read__previews_per_second=0.1, write__mb_per_day=1, write__retention_years=1)}
    enough = {"cpus": 4, "ram_mb": 4800, "os_disk_gb": 15, "data_disk_gb": 60}
    cores = {"ch": ["co1"]}
    assert problems(requirements, cores, machines={host: enough}) == []
    ((severity, where, problem, remedy),) = problems(requirements, cores, machines={host: {**enough, **facts}})
    assert (severity, where) == ("error", host)
    assert problem.startswith(said)
    assert f"give {host} at least" in remedy
    accepted = problems(requirements, cores, machines={host: {**enough, **facts}}, accept_shortfall=["ch"])
    assert accepted[0][0] == "warning" if host == "co1" else "error"


def test_what_keeps_backups_or_monitors_is_told_when_it_is_small() -> None:
    """A warning: it does so until it is full. By hand: two cores and the registry of 15 GB each, and a drill."""
    shape = topology({"ch": ["co1", "co2"]})
    shape["hosts"] |= {"bk1": {"roles": ["backup"]}, "bk2": {"roles": ["backup"]}, "mon1": {"roles": ["monitoring"]}}
    shape |= {"leader": "reg1", "backups": {"reg1": "bk1", "co1": "bk1", "co2": "bk1"}, "logs": {}}
    machines = {name: {**SMALL, "data_disk_gb": size} for name, size in (("bk1", 60), ("bk2", 15), ("mon1", 30))}
    (found,) = problems({"ch": zone(users=12000)}, {}, topology=shape, machines=machines)
    assert found[:2] == ("warning", "bk1")
    assert found[2].startswith("has 60 GB of data disk and needs 76 (45 GB of data disks x (1 + 0.01")
    machines["mon1"]["data_disk_gb"] = 20
    machines["bk1"]["data_disk_gb"] = 70
    (found,) = problems({"ch": zone(users=12000)}, {}, topology=shape, machines=machines)
    assert found[:2] == ("warning", "mon1")
    assert found[2].startswith("has 20 GB of data disk and needs 33 (8 hosts x 700 series every 15 s x 400 days")
    # Two journals of 4 GB, on a disk that is four fifths full.
    ((_, _, found_with_logs, _),) = problems(
        {"ch": zone(users=12000)},
        {},
        topology={**shape, "logs": {"co1": "mon1", "co2": "mon1", "reg1": "mon2"}},
        machines=machines,
    )
    assert found_with_logs.startswith("has 20 GB of data disk and needs 43 (")


def test_what_is_not_known_is_not_judged() -> None:
    """Before any host is asked, only the inventory is compared."""
    assert problems({"ch": zone()}, {"ch": ["co1"]}, machines={"co1": {}}) == []


@pytest.mark.parametrize(
    ("environment", "accepted", "severity"),
    [("development", [], None), ("production", [], "error"), ("production", ["ch"], "warning")],
)
def test_a_single_node_where_the_guide_forbids_it(environment: str, accepted: list[str], severity: str | None) -> None:
    """The guide's reasons are given."""
    shape = topology({"ch": ["co1"]}, followers=0)
    shape["hosts"] = {"co1": {"roles": ["web", "registry", "core"], "privacy_zone": "ch"}}
    found = problems({"ch": zone()}, {}, topology=shape, environment=environment, accept_shortfall=accepted)
    assert [entry[:2] for entry in found] == ([(severity, "inventory")] if severity else [])
    if severity:
        assert "production data" in found[0][2]


def test_warnings_of_the_plan_are_passed_on() -> None:
    """No follower where load is partitioned, cursors, many users."""
    cores = {"ch": ["co1", "co2"]}
    found = problems(
        {"ch": zone(users=12000, read__points_per_request=5000)}, cores, topology=topology(cores, followers=0)
    )
    assert [entry[:2] for entry in found] == [
        ("warning", "privacy_zones.ch.read.points_per_request"),
        ("warning", "registry"),
    ]
