"""An inventory written for a plan is one that the toolkit accepts once it is filled in."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import yaml

from pryv_platform.capacity import inventory as capacity_inventory
from pryv_platform.capacity.check import capacity_problems
from pryv_platform.capacity.plan import capacity_plan
from pryv_platform.capacity.requirements import core_counts
from pryv_platform.topology import derivation
from tests.unit.test_capacity import zone

PLATFORM = {"pryv_domain": "plan.pryv.test", "pryv_admin_networks": ["192.0.2.0/24"]}


def load(text: str) -> tuple[dict[str, list[str]], dict[str, dict[str, Any]]]:
    """Return groups and hostvars of a hosts file, as Ansible would."""
    content = yaml.safe_load(text)
    groups: dict[str, list[str]] = {name: list(group.get("hosts") or {}) for name, group in content.items()}
    groups["core"] = [host for child in content["core"]["children"] for host in groups[child]]
    groups["all"] = sorted({host for hosts in groups.values() for host in hosts})
    hostvars: dict[str, dict[str, Any]] = {host: {"inventory_hostname": host, **PLATFORM} for host in groups["all"]}
    for group in content.values():
        for host, variables in (group.get("hosts") or {}).items():
            hostvars[host] |= {**group.get("vars", {}), **(variables or {})}
    return groups, hostvars


@pytest.mark.parametrize("environment", ["development", "integration", "production"])
@pytest.mark.parametrize(
    "zones",
    [
        {"ch": zone()},
        {"ch": zone(users=25000)},
        {"ch": zone(users=12000), "de": zone(), "us": zone(users=30000)},
        {"no": zone(), "1e3": zone(), "a-b": zone()},
    ],
)
def test_it_has_what_the_plan_asks_for(zones: dict[str, Any], environment: str) -> None:
    """Filled in, topology and plan find nothing to say."""
    plan = capacity_plan(zones, environment=environment)
    files = capacity_inventory.capacity_inventory(plan, {"privacy_zones": zones})
    assert yaml.safe_load(files["group_vars/all/capacity.yml"]) == {"privacy_zones": zones}

    addresses = itertools.count(1)
    text = files["hosts.yml"]
    assert "ansible_host: CHANGE_ME" in text
    assert ("data_disk_device: CHANGE_ME" in text) == (environment != "development")
    if "reg1:" in text:
        system, data = (plan["registry"]["machine"][disk]["value"] for disk in ("os_disk_gb", "data_disk_gb"))
        assert re.search(rf"reg1: # .* {system + data} GB disk, {data} GB of it for data", text)
    filled = re.sub("(ansible_host|private_address): CHANGE_ME", lambda at: f"{at[1]}: 192.0.2.{next(addresses)}", text)
    groups, hostvars = load(filled)
    for variables in hostvars.values():
        variables["pryv_environment"] = environment
    shape = derivation.derive(groups, hostvars)
    assert {name: len(cores) for name, cores in shape["zones"].items()} == core_counts(zones)
    assert len(shape["hosts"]) == plan["totals"]["machines"]
    assert capacity_problems(zones, shape, environment=environment) == []


def test_web_pages_elsewhere() -> None:
    """No host is made for them."""
    plan = capacity_plan({"ch": zone(users=25000)}, web_delegated=True)
    assert "web:\n  hosts: {}\n" in capacity_inventory.capacity_inventory(plan, {})["hosts.yml"]


def test_many_cores_have_short_names() -> None:
    """A core's name has at most four characters, as longer ones could be a user's."""
    plan = capacity_plan({"ch": zone(users=1_200_000)})
    names = plan["zones"]["ch"]["core_names"]
    assert len(names) == len(set(names)) == plan["totals"]["cores"] == 121
    assert max(map(len, names)) == 4
