"""How a container address pool is divided, and which ones are refused."""

import ipaddress
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from pryv_platform.checks.docker import docker_problems
from pryv_platform.docker import LARGEST_PREFIX
from pryv_platform.docker import docker_networks as divide
from pryv_platform.problems import InputError

TEMPLATES = list((Path(__file__).parents[2] / "roles").glob("*/templates/root/etc/pryv/*/compose.yml.j2"))


def networks(template: Path) -> Counter[str]:
    """How many services are on each network of a compose project, with all that its template can have."""
    text = re.sub(r"\{% macro.*?endmacro %\}|\{#.*?#\}|\{%.*?%\}", "", template.read_text(), flags=re.DOTALL)
    # A service that is on one of several networks counts on each of them.
    text = re.sub(r"\{\{ '(\w+)' if \w+ else '(\w+)' \}\}", r"\1, \2", text)
    project = yaml.safe_load(re.sub(r"\{\{.*?\}\}", "x", re.sub(r"(?m)^ *\{\{.*\}\}$", "", text)))
    used = Counter(name for service in project["services"].values() for name in service.get("networks", ["default"]))
    assert set(used) - {"default"} == set(project.get("networks", {}))
    return used


def platform(**addresses: str) -> dict[str, Any]:
    """A topology of one core with these addresses."""
    return {"hosts": {"co1": {"ansible_host": "10.0.0.11", **addresses}}}


@pytest.mark.parametrize("pool", ["172.29.0.0/16", "10.200.0.0/16", "192.168.252.0/22"])
def test_parts_lie_in_the_pool_and_apart_from_each_other(pool: str) -> None:
    parts = divide(pool)
    bridge, rest = ipaddress.IPv4Interface(parts["bridge"]), ipaddress.IPv4Network(parts["pool"])
    whole = ipaddress.IPv4Network(pool)
    assert bridge.network.subnet_of(whole)
    assert rest.subnet_of(whole)
    assert not bridge.network.overlaps(rest)
    assert str(bridge.ip) == parts["bridge_address"]


def test_the_smallest_pool_has_room_for_a_host_with_all_roles() -> None:
    """Also where four networks of /26 are left over, one of each project, as hosts may have them."""
    projects = [networks(template) for template in TEMPLATES]
    wanted = sum(map(len, projects))
    assert (len(projects), wanted) == (4, 11)
    parts = divide(f"192.168.252.0/{LARGEST_PREFIX}")
    room = len(list(ipaddress.IPv4Network(parts["pool"]).subnets(new_prefix=parts["size"])))
    left_over = len(projects) * 2 ** (parts["size"] - 26)
    assert room >= wanted + left_over
    # The network's own, the host's and the last address are no container's, and a few are for those that come and go.
    assert 2 ** (32 - parts["size"]) - 3 >= max(max(project.values()) for project in projects) + 4


def test_default_pool() -> None:
    assert divide("172.29.0.0/16") == {
        "bridge": "172.29.0.1/24",
        "bridge_address": "172.29.0.1",
        "pool": "172.29.128.0/17",
        "size": 28,
    }


@pytest.mark.parametrize("pool", ["172.29.0.0", "172.29.0.0/23", "172.29.0.1/16", "pool", "", "8.8.0.0/16", "fd00::/8"])
def test_what_is_no_pool_is_refused(pool: str) -> None:
    with pytest.raises(InputError, match=r"docker_address_pool is .*172\.29\.0\.0/16"):
        divide(pool)


def problems(topology: dict[str, Any], *networks: str, pool: str | None = None) -> list[str]:
    """What is found wrong with co1's pool, which is the default one if none is given."""
    given = {"pryv_admin_networks": list(networks)} | ({"docker_address_pool": pool} if pool else {})
    found = docker_problems({"co1": given}, topology, "172.29.0.0/16")
    assert {problem["severity"] for problem in found} <= {"error"}
    return [f"{problem['where']}: {problem['problem']}" for problem in found]


def test_what_is_no_pool_is_reported() -> None:
    (found,) = problems(platform(), pool="172.29.0.0/23")
    assert found == "co1: docker_address_pool: is 172.29.0.0/23, which is too small or not private"


@pytest.mark.parametrize("kind", ["ansible_host", "private_address", "public_address"])
def test_a_host_in_the_pool_is_named(kind: str) -> None:
    (found,) = problems({"hosts": {"co2": {kind: "10.0.9.9"}}}, pool="10.0.0.0/16")
    assert f"holds 10.0.9.9, the {kind} of co2" in found


def test_administrators_in_the_pool_are_named() -> None:
    (found,) = problems(platform(), "172.16.0.0/12")
    assert "overlaps 172.16.0.0/12 of pryv_admin_networks" in found


def test_administrators_anywhere_and_names_are_no_collision() -> None:
    assert problems(platform(ansible_host="core.example.org"), "0.0.0.0/0", "::/0", "2001:db8::/32") == []
