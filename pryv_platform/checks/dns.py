"""Whether the world finds the platform's registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pryv_platform.problems import Problem, make_problem


def delegation_problems(topology: Mapping[str, Any], answers: Sequence[str]) -> list[Problem]:
    """Check that the world finds the platform's registry; a warning, as the platform works before it does.

    Args:
        topology: The topology fact.
        answers: Addresses that the controller's own resolver gives for the registry's name.
    """
    domain = topology["domain"]
    name = topology["service_names"]["register"]
    expected = topology["names"][name]
    if set(expected) & set(answers):
        return []
    servers = ", ".join(f"{server['name']}.{domain} ({server['address']})" for server in topology["name_servers"])
    found = f"leads to {', '.join(answers)}" if answers else "is not found in DNS"
    return [
        make_problem(
            "warning",
            name,
            f"{found} from here; the registry is {', '.join(expected)}",
            f"once the platform runs, have {domain} delegated, with glue records, to {servers}",
        )
    ]
