"""What the inventory alone shows to be wrong with the variables of role `registry`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from pryv_platform.inventory import Inventory
from pryv_platform.problems import Problem, make_error

# What the registry accepts.
SHORTEST_TOKEN, LONGEST_TOKEN = 5, 99
HOSTING_URL = re.compile(r"https?://[a-zA-Z0-9.-]+")


def registry_problems(values: Mapping[str, Mapping[str, Any]], zones: Collection[str]) -> list[Problem]:
    """Check what the registry would refuse, and types cannot say; no token is ever named.

    Args:
        values: By host, the variables that its inventory sets.
        zones: The platform's zones.
    """
    problems = []

    def report(where: str, problem: str, remedy: str) -> None:
        problems.append(make_error(where, problem, remedy))

    for host, variables in values.items():
        tokens = variables.get("registry_invitation_tokens")
        for number, token in enumerate(tokens if isinstance(tokens, list) else (), start=1):
            if not isinstance(token, str):
                problem = "is no text"
            elif not SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN:
                problem = f"has {len(token)} characters"
            else:
                continue
            remedy = f"give a text of {SHORTEST_TOKEN} to {LONGEST_TOKEN} characters, in quotes"
            report(f"{host}: registry_invitation_tokens, number {number}", problem, remedy)
        providers = variables.get("registry_providers")
        for zone, shown in providers.items() if isinstance(providers, Mapping) else ():
            where = f"{host}: registry_providers.{zone}"
            if zone not in zones:
                report(where, "is no zone of the inventory", f"describe one of {', '.join(zones)}")
            elif not isinstance(shown, Mapping):
                report(where, "is not a mapping", "give name, description and url, each of them optional")
            elif "url" in shown and not HOSTING_URL.fullmatch(str(shown["url"])):
                report(f"{where}.url", f"is {shown['url']!r}", "give https:// and a host name, without a path")
    return problems


def problems(inventory: Inventory) -> list[Problem]:
    """Check the invitation tokens and the hostings' descriptions."""
    names = ["registry_invitation_tokens", "registry_providers"]
    return registry_problems(inventory.known(inventory.members("registry"), names), inventory.topology["zones"])
