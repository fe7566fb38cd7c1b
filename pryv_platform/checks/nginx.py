"""What the inventory alone shows to be wrong with the limits that keep a host answering."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pryv_platform.inventory import Inventory
from pryv_platform.problems import Problem, make_error

#: What neither nginx nor nftables refuses, and what no platform needs more of.
LEAST, MOST = 1, 1_000_000


def _numbers(name: str, value: Any) -> Iterator[tuple[str, int]]:
    """Numbers in a variable, each with the path to it; types are checked with all others'."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(f"{name}.{key}", inner)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name, value


def limit_problems(values: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """Check that limits let something through.

    Args:
        values: By host, the variables that its inventory sets; numbers in them are looked at, however deep.
    """
    return [
        make_error(f"{host}: {where}", f"is {number}", f"give a number from {LEAST} to {MOST}")
        for host, variables in values.items()
        for name, value in variables.items()
        for where, number in _numbers(name, value)
        if not LEAST <= number <= MOST
    ]


def problems(inventory: Inventory) -> list[Problem]:
    """Check the limits of roles `nginx` and `firewall`."""
    names = ["firewall_limits", "nginx_limits", "nginx_log_days", "nginx_log_gigabytes"]
    return limit_problems(inventory.known(inventory.members("all"), names))
