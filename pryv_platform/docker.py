"""How the address pool of a host's containers is divided, and which hosts' Docker is taken over."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import TypedDict

from pryv_platform.command_line import refuse_lasting
from pryv_platform.problems import InputError

LARGEST_PREFIX = 22
# Addresses for the host and 13 containers, and 32 such networks even in the smallest pool: a host with all roles has
# 11, and may still have four of /26, each in the place of four, which stay as they are.
NETWORK_SIZE = 28
REMEDY = f"give a private network of /{LARGEST_PREFIX} or larger that nothing else uses, like 172.29.0.0/16"


class Networks(TypedDict):
    """How a pool is divided.

    Attributes:
        bridge: The host's address on Docker's bridge, with its prefix length.
        bridge_address: The same without it.
        pool: The network that compose projects take theirs from.
        size: Their prefix length.
    """

    bridge: str
    bridge_address: str
    pool: str
    size: int


def docker_networks(pool: str) -> Networks:
    """Divide a container address pool.

    Args:
        pool: IPv4 network in CIDR notation, /22 or larger.

    Raises:
        InputError: The pool is no such network.
    """
    if problem := shape_problem(pool):
        raise InputError(f"docker_address_pool {problem}; {REMEDY}.")
    network = ipaddress.IPv4Network(pool)
    bridge_address = str(network.network_address + 1)
    return {
        "bridge": f"{bridge_address}/24",
        "bridge_address": bridge_address,
        "pool": str(list(network.subnets())[1]),
        "size": NETWORK_SIZE,
    }


def shape_problem(pool: str) -> str | None:
    """Return what keeps a pool from being divided."""
    try:
        network = ipaddress.IPv4Network(pool)
    except ValueError as error:
        return f"is {pool!r}, which is no IPv4 network ({error})"
    if network.prefixlen > LARGEST_PREFIX or not network.is_private:
        return f"is {pool}, which is too small or not private"
    return None


def take_over_wanted(wanted: object, host: str, command_line: Collection[str]) -> bool:
    """Whether the operator wants this host's Docker taken over, whatever runs in it.

    Args:
        wanted: Names of hosts, with commas between them, or nothing.
        host: This host.
        command_line: Names of the variables that were given for this run alone.

    Raises:
        InputError: When it is not from the command line.
    """
    if not wanted:
        return False
    refuse_lasting("docker_take_over", host, command_line, "docs/operations/docker.md")
    return host in [name.strip() for name in str(wanted).split(",")]
