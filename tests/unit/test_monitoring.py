"""What the page of a monitoring host is told of a platform."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pryv_platform.capacity.plan import capacity_plan
from pryv_platform.monitoring import monitoring_platform
from pryv_platform.topology_svg import topology_svg
from tests.unit.test_topology_svg import read

ZONE = {
    "users": 15000,
    "write": {
        "requests_per_second": 0.05,
        "attachments_mb_per_second": 0,
        "data_points_per_day": 100,
        "mb_per_day": 0.1,
        "retention_years": 5,
    },
    "read": {
        "requests_per_second": 0.05,
        "points_per_request": 100,
        "attachments_per_second": 0,
        "previews_per_second": 0,
        "data_points_per_day": 100,
        "mb_per_day": 0.1,
    },
}


@pytest.fixture
def platform() -> dict[str, Any]:
    return monitoring_platform(read("privacy"), capacity_plan({"ch": ZONE}))


def test_it_has_every_host_with_its_roles_and_zone(platform: dict[str, Any]) -> None:
    assert platform["hosts"]["co1"] == {"roles": ["core"], "zone": "ch"}
    assert platform["hosts"][platform["leader"]]["zone"] == ""
    assert set(platform["hosts"]) == set(read("privacy")["hosts"])
    assert set(platform["name_servers"]) == {platform["leader"], *platform["followers"]}


def test_a_zone_has_what_was_planned_for_it_or_nothing(platform: dict[str, Any]) -> None:
    assert platform["zones"]["ch"] == {
        "cores": ["co1", "co2"],
        "draining": [],
        "plan_users": 15000,
        "limit_per_core": 9999,
    }
    assert platform["zones"]["de"]["plan_users"] is None
    assert monitoring_platform(read("privacy"), {})["zones"]["ch"]["limit_per_core"] is None


def test_it_tells_of_a_core_that_drains_and_of_no_address() -> None:
    topology = read("privacy")
    topology["draining"] = {"co2": topology["hostings"]["ch"]["co2"]}
    platform = monitoring_platform(topology, {})
    assert platform["zones"]["ch"]["draining"] == ["co2"]
    assert not any(host["public_address"] in json.dumps(platform) for host in topology["hosts"].values())


def test_the_picture_says_which_box_is_which_host() -> None:
    topology = read("load")
    picture = topology_svg(topology)
    assert all(picture.count(f'<g data-host="{host}">') == 1 for host in topology["hosts"])
