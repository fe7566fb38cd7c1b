"""How the address pool of a host's containers is divided, and which ones would collide with the platform."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = """
name: docker_networks
short_description: Divide the address pool of a host's containers
description:
  - The first /24 of the pool is Docker's own bridge. Its second half holds the networks of compose projects, /28 each.
options:
  _input:
    description: The pool, an IPv4 network of /22 or larger.
    type: str
    required: true
"""

EXAMPLES = """
- ansible.builtin.debug:
    msg: "{{ '172.29.0.0/16' | docker_networks }}"
  # bridge: 172.29.0.1/24
  # bridge_address: 172.29.0.1
  # pool: 172.29.128.0/17
  # size: 28
"""

RETURN = """
_value:
  description:
    - C(bridge), the host's address on Docker's bridge with its prefix length; C(bridge_address), without it.
    - C(pool), the network that compose projects take theirs from, and C(size), their prefix length.
  type: dict
"""

LARGEST_PREFIX = 22
# Addresses for the host and 13 containers, and 32 such networks even in the smallest pool: a host with all roles has
# 11, and may still have four of /26, each in the place of four, which stay as they are.
NETWORK_SIZE = 28
REMEDY = f"give a private network of /{LARGEST_PREFIX} or larger that nothing else uses, like 172.29.0.0/16"


def docker_networks(pool: str) -> dict[str, str | int]:
    """Divide a container address pool.

    Args:
        pool: IPv4 network in CIDR notation, /22 or larger.

    Returns:
        ``bridge`` (address/prefix), ``bridge_address``, ``pool`` (CIDR) and ``size`` (prefix length).

    Raises:
        AnsibleFilterError: The pool is no such network.
    """
    if problem := _shape_problem(pool):
        raise AnsibleFilterError(f"docker_address_pool {problem}; {REMEDY}.")
    network = ipaddress.IPv4Network(pool)
    bridge_address = str(network.network_address + 1)
    return {
        "bridge": f"{bridge_address}/24",
        "bridge_address": bridge_address,
        "pool": str(list(network.subnets())[1]),
        "size": NETWORK_SIZE,
    }


def docker_problems(
    values: Mapping[str, Mapping[str, Any]], topology: Mapping[str, Any], default: str
) -> list[dict[str, str]]:
    """Check that hosts' container address pools are such networks, and that nobody else is in them.

    Args:
        values: By host, the variables that its inventory sets.
        topology: The platform's topology; ``hosts`` holds each host's addresses.
        default: The pool of hosts for which the inventory names none.

    Returns:
        Mappings of severity, where, problem and remedy.
    """
    # Most hosts have the same pool.
    found: dict[tuple[str, ...], list[str]] = {}
    problems = []
    for host, variables in values.items():
        pool = str(variables.get("docker_address_pool", default))
        asked = (pool, *map(str, variables.get("pryv_admin_networks") or ()))
        if asked not in found:
            shape = _shape_problem(pool)
            found[asked] = [shape] if shape else list(_collisions(pool, topology["hosts"], asked[1:]))
        problems += [
            {"severity": "error", "where": f"{host}: docker_address_pool", "problem": problem, "remedy": REMEDY}
            for problem in found[asked]
        ]
    return problems


def _shape_problem(pool: str) -> str | None:
    """Return what keeps a pool from being divided."""
    try:
        network = ipaddress.IPv4Network(pool)
    except ValueError as error:
        return f"is {pool!r}, which is no IPv4 network ({error})"
    if network.prefixlen > LARGEST_PREFIX or not network.is_private:
        return f"is {pool}, which is too small or not private"
    return None


def _collisions(pool: str, hosts: Mapping[str, Mapping[str, Any]], admin_networks: Iterable[str]) -> Iterator[str]:
    """Yield who else is in a pool: from its containers and their host, they could not be reached."""
    network = ipaddress.IPv4Network(pool)
    for name, host in hosts.items():
        for kind in ("ansible_host", "private_address", "public_address"):
            if _within(host.get(kind), network):
                yield f"is {pool}, which holds {host[kind]}, the {kind} of {name}: containers could not reach it"
                break
    for other in admin_networks:
        candidate = ipaddress.ip_network(other, strict=False)
        if candidate.version == network.version and candidate.overlaps(network) and candidate.prefixlen:
            yield f"is {pool}, which overlaps {other} of pryv_admin_networks: administrators would get no answer"


def _within(address: str | None, network: ipaddress.IPv4Network) -> bool:
    """Whether an address literal lies in a network; a host name does not count."""
    try:
        return ipaddress.ip_address(address or "") in network
    except ValueError:
        return False


class FilterModule:
    """Makes the filters known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file by name."""
        return {"docker_networks": docker_networks, "docker_problems": docker_problems}
