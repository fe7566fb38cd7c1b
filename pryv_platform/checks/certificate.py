"""Whether the platform's certificate will do."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from pryv_platform.certificate.source import Settings, material
from pryv_platform.inventory import Inventory, UnreadableError
from pryv_platform.problems import Problem, make_error

PREFIX = "certificate_"


def problems(inventory: Inventory) -> list[Problem]:
    """Read the certificate as role certificate will, and check it. Development's is made by a run."""
    host = inventory.members("all")[0]
    given: dict[str, Any] = {}
    for name in (f"{PREFIX}{field.name}" for field in fields(Settings)):
        if name in inventory.options:
            try:
                given[name.removeprefix(PREFIX)] = inventory.value(host, name, inventory.default(name))
            except UnreadableError as error:
                return [make_error(f"{host}: {name}", f"cannot be read: {error}", "see what the template needs")]
    platform = inventory.topology
    return material(Settings(platform["domain"], platform["environment"], **given), inventory.controller).problems
