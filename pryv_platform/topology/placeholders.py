"""What of an inventory still waits to be filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PLACEHOLDER = "CHANGE_ME"
# Variables that Ansible itself provides: they repeat the inventory, or say nothing about it.
_MAGIC_VARIABLES = frozenset(
    ("ansible_facts", "environment", "group_names", "groups", "hostvars", "omit", "topology", "vars")
)


def is_placeholder(value: object) -> bool:
    """Tell whether a value, or anything within it, is still to be filled in."""
    if isinstance(value, str):
        return PLACEHOLDER in value
    if isinstance(value, Mapping):
        return any(is_placeholder(key) or is_placeholder(item) for key, item in value.items())
    if isinstance(value, Sequence):
        return any(is_placeholder(item) for item in value)
    return False


def _placeholder_paths(path: str, value: object) -> list[str]:
    """Return the paths of all strings within `value` that are still to be filled in."""
    if isinstance(value, str):
        return [path] if PLACEHOLDER in value else []
    if isinstance(value, Mapping):
        return [
            found
            for key, item in value.items()
            for found in ([f"{path}.{key}"] if is_placeholder(key) else _placeholder_paths(f"{path}.{key}", item))
        ]
    if isinstance(value, Sequence):
        return [found for index, item in enumerate(value) for found in _placeholder_paths(f"{path}[{index}]", item)]
    return []


def find_placeholders(variables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return where the inventory is still to be filled in.

    Args:
        variables: The variables of each host, not templated.

    Returns:
        One entry a place: the variable's path alone when it is the same on all hosts, else ``host: path``.
    """
    hosts_by_path: dict[str, list[str]] = {}
    for host, own in variables.items():
        if PLACEHOLDER in host:
            hosts_by_path.setdefault("the host's name", []).append(host)
        for name, value in own.items():
            if name not in _MAGIC_VARIABLES:
                for path in _placeholder_paths(name, value):
                    hosts_by_path.setdefault(path, []).append(host)
    found = []
    for path, hosts in hosts_by_path.items():
        found.append(path if len(hosts) == len(variables) > 1 else f"{', '.join(hosts)}: {path}")
    return found
