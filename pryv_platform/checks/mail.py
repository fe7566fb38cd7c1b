"""What the inventory alone shows to be wrong with the variables of role ``mail``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pryv_platform.inventory import Inventory
from pryv_platform.problems import Problem, make_error


def mail_problems(values: Mapping[str, Mapping[str, Any]], leader: str, cores: Collection[str]) -> list[Problem]:
    """Check that whoever sends mail has what the provider needs; no value is ever named.

    Args:
        values: By host, the variables that the inventory sets.
        leader: The registry's leader, which runs Pryv's mail service.
        cores: The cores, which send by Mandrill themselves.
    """
    return [
        make_error(
            f"{host}: {name}",
            f"is missing, and pryv_mail_provider is {variables['pryv_mail_provider']}",
            f"{remedy}, or set pryv_mail_provider to none",
        )
        for host, variables in values.items()
        if not variables.get("pryv_locked_vaults")  # reported with the secrets
        for name, remedy in _missing(variables, host == leader, host in cores)
    ]


def _missing(variables: Mapping[str, Any], is_leader: bool, is_core: bool) -> Iterator[tuple[str, str]]:
    """Yield what a host has to have and has not, and what to do about it."""
    provider = variables.get("pryv_mail_provider")
    if provider == "pryv" and is_leader:
        server = variables.get("mail_smtp")
        server = server if isinstance(server, Mapping) else {}
        if not server.get("host"):
            yield "mail_smtp.host", "name the server that mail is handed over to"
        if server.get("user") and not server.get("password"):
            yield "mail_smtp.password", "put it into the vault"
    if provider == "mandrill" and is_core and not variables.get("pryv_mail_mandrill_key"):
        yield "pryv_mail_mandrill_key", "put it into the vault"


def problems(inventory: Inventory) -> list[Problem]:
    """Check what the mail provider needs."""
    leader, cores = inventory.topology["leader"], inventory.members("core")
    names = ["mail_smtp", "pryv_locked_vaults", "pryv_mail_mandrill_key", "pryv_mail_provider"]
    return mail_problems(inventory.known([leader, *cores], names), leader, cores)
