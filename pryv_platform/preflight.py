"""What can be known to be wrong before a host is touched, and how it is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pryv_platform.checks import (
    backup,
    certificate,
    core,
    data_disk,
    docker,
    files,
    firewall,
    hardening,
    mail,
    monitoring,
    nginx,
    production,
    registry,
    secrets,
    variables,
)
from pryv_platform.images import unreadable_archives
from pryv_platform.inventory import Inventory
from pryv_platform.problems import Problem
from pryv_platform.topology.derivation import inventory_problems, topology
from pryv_platform.topology.jumps import SSH_ARGUMENTS, jump_problems

#: Each checks the variables of the role of its name, once it is known who is who.
ROLES = (data_disk, docker, firewall, nginx, core, registry, mail, backup, monitoring)


def as_warnings(problems: Iterable[Problem], places: Iterable[str]) -> list[Problem]:
    """Turn the errors of some places into warnings."""
    softened = frozenset(places)
    return [
        {**problem, "severity": "warning"}
        if problem["severity"] == "error" and problem["where"] in softened
        else problem
        for problem in problems
    ]


def inventory_report(
    inventory: Inventory, source: Sequence[Problem], archives: Iterable[Mapping[str, Any]], waivers: object
) -> dict[str, Any]:
    """Find everything that is wrong with an inventory; no host is asked.

    Args:
        inventory: What the operator wrote down.
        source: What is wrong with the text of its files.
        archives: What its image archives hold, from the lookup image_archives.
        waivers: Why a platform for people's data does without something, by name.

    Returns:
        `problems`; `topology`, empty unless the inventory describes a platform; and what can be looked at next:
        `asks`, whether hosts can be asked; `has_variables`, whether roles take the variables and secrets;
        `has_administrators`, whether it is right who may log in.
    """
    obstacles = [*source, *inventory_problems(inventory)]
    unusable = [*variables.problems(inventory), *secrets.problems(inventory)]
    people = hardening.problems(inventory)
    problems: list[Problem] = [
        *obstacles,
        *unusable,
        *files.problems(inventory),
        *unreadable_archives(archives),
        *people,
        *production.problems(inventory, waivers),
    ]
    platform = {} if obstacles else topology(inventory)
    if platform:
        known = replace(inventory, topology=platform)
        problems += [problem for role in ROLES for problem in role.problems(known)]
        problems += [] if unusable else certificate.problems(known)
        problems += jump_problems(inventory.known(inventory.members("all"), SSH_ARGUMENTS), platform)
    return {
        "problems": problems,
        "topology": platform,
        "asks": not obstacles,
        "has_variables": not unusable,
        "has_administrators": not people,
    }


TITLES = {
    "error": "must be put right",
    "warning": "should be looked at",
    "note": "for information",
}


def preflight_report(problems: Sequence[Problem], hosts: Sequence[str], asked: bool = True) -> str:
    """Make one text of all problems.

    Args:
        problems: From any of the checks.
        hosts: The hosts of this run.
        asked: Whether the hosts were asked, or only the inventory was looked at.
    """
    errors = [problem for problem in problems if problem["severity"] == "error"]
    scope = f"the inventory and {len(hosts)} host{'s'[: len(hosts) != 1]}" if asked else "the inventory"
    lines = [
        f"Preflight looked at {scope}: " + (f"{len(errors)} to put right." if errors else "nothing is in the way.")
    ]
    if not asked:
        lines.append("The hosts were not asked: the inventory has to be right first.")
    for severity, title in TITLES.items():
        chosen = [problem for problem in problems if problem["severity"] == severity]
        if chosen:
            lines += ["", f"{title} ({len(chosen)}):"]
        places: dict[tuple[str, str], list[str]] = {}
        for problem in chosen:
            places.setdefault((problem["problem"], problem["remedy"]), []).append(problem["where"])
        for (what, remedy), where in places.items():
            if len(where) == 1:
                lines.append(f"- {where[0]}: {what}")
            else:
                lines += [f"- {what}:", *(f"    {place}" for place in where)]
            lines.append(f"  -> {remedy}")
    return "\n".join(lines)
