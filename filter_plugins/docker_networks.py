"""Filter that divides the address pool of a host's containers, and refuses one that collides with the platform."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = """
name: docker_networks
short_description: Divide the address pool of a host's containers
description:
  - The first /24 of the pool is Docker's own bridge. Its second half holds the networks of compose projects, /26 each.
options:
  _input:
    description: The pool, an IPv4 network of /22 or larger.
    type: str
    required: true
  topology:
    description: The C(topology) fact. No host of it may have an address in the pool.
    type: dict
    required: true
  admin_networks:
    description: Networks that administrators connect from. None may overlap the pool.
    type: list
    elements: str
    default: []
"""

EXAMPLES = """
- ansible.builtin.debug:
    msg: "{{ '172.29.0.0/16' | docker_networks(topology) }}"
  # bridge: 172.29.0.1/24
  # bridge_address: 172.29.0.1
  # pool: 172.29.128.0/17
  # size: 26
"""

RETURN = """
_value:
  description:
    - C(bridge), the host's address on Docker's bridge with its prefix length; C(bridge_address), without it.
    - C(pool), the network that compose projects take theirs from, and C(size), their prefix length.
  type: dict
"""

LARGEST_PREFIX = 22
NETWORK_SIZE = 26


def docker_networks(pool: str, topology: Mapping[str, Any], admin_networks: Iterable[str] = ()) -> dict[str, str | int]:
    """Divide a container address pool.

    Args:
        pool: IPv4 network in CIDR notation, /22 or larger.
        topology: The platform's topology; ``hosts`` holds each host's addresses.
        admin_networks: Networks in CIDR notation that administrators connect from.

    Returns:
        ``bridge`` (address/prefix), ``bridge_address``, ``pool`` (CIDR) and ``size`` (prefix length).

    Raises:
        AnsibleFilterError: The pool is no such network, or it overlaps one that is in use.
    """
    try:
        network = ipaddress.IPv4Network(pool)
    except ValueError as error:
        raise AnsibleFilterError(
            f"docker_address_pool is {pool!r}, which is no IPv4 network ({error}); give one like 172.29.0.0/16."
        ) from error
    if network.prefixlen > LARGEST_PREFIX or not network.is_private:
        raise AnsibleFilterError(
            f"docker_address_pool is {pool}; give a private network of /{LARGEST_PREFIX} or larger, like 172.29.0.0/16."
        )
    for name, host in topology["hosts"].items():
        for kind in ("ansible_host", "private_address", "public_address"):
            if _within(host.get(kind), network):
                raise AnsibleFilterError(
                    f"docker_address_pool is {pool}, which holds {host[kind]}, the {kind} of {name}: containers could "
                    "not reach that host. Give a network that nothing else uses."
                )
    for other in admin_networks:
        candidate = ipaddress.ip_network(other, strict=False)
        if candidate.version == network.version and candidate.overlaps(network) and candidate.prefixlen:
            raise AnsibleFilterError(
                f"docker_address_pool is {pool}, which overlaps {other} of pryv_admin_networks: administrators there "
                "would get no answer. Give a network that nothing else uses."
            )
    bridge_address = str(network.network_address + 1)
    return {
        "bridge": f"{bridge_address}/24",
        "bridge_address": bridge_address,
        "pool": str(list(network.subnets())[1]),
        "size": NETWORK_SIZE,
    }


def _within(address: str | None, network: ipaddress.IPv4Network) -> bool:
    """Whether an address literal lies in a network; a host name does not count."""
    try:
        return ipaddress.ip_address(address or "") in network
    except ValueError:
        return False


class FilterModule:
    """Makes the filter known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file by name."""
        return {"docker_networks": docker_networks}
