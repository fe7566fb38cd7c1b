"""What an inventory's list of allowed outgoing connections leaves out that the platform itself was told to use."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pryv_platform.inventory import Inventory
from pryv_platform.problems import Problem, make_error
from pryv_platform.topology.reader import TO_MONITORING

#: Where systemd-journal-upload sends to when its URL has no port.
JOURNAL_PORT = 19532


def _allows(entry: Mapping[str, Any], host: str, port: int) -> bool:
    """Tell whether an entry of `firewall_egress` lets TCP to a host through; of a name, the port alone is known."""
    if entry.get("protocol", "tcp") != "tcp" or entry.get("port") != port:
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return True
    return address in ipaddress.ip_network(str(entry.get("network")), strict=False)


def _receiver(text: str) -> tuple[str, int] | None:
    """Return name and port of a journal's receiver; nothing for what is no URL over TLS."""
    try:
        url = urlsplit(text)
        name, port = url.hostname, url.port or JOURNAL_PORT
    except ValueError:
        return None
    return (name, port) if url.scheme == "https" and text.startswith("https://") and name else None


def firewall_problems(values: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """Check that the journal's receiver is one, and can be reached.

    Args:
        values: By host, `firewall_egress` and `hardening_journal_forward_to`; see `inventory_values`.
    """
    problems = []
    for host, variables in values.items():
        allowed, receiver = variables.get("firewall_egress"), str(variables.get("hardening_journal_forward_to") or "")
        # What goes to the hosts that monitor is let out as a flow of the topology.
        if receiver in ("", TO_MONITORING):
            continue
        if not (found := _receiver(receiver)):
            problems.append(
                make_error(
                    f"{host}: hardening_journal_forward_to",
                    f"is {receiver!r}, which is no URL that begins with https://: nothing would be sent",
                    f"give one, such as https://logs.example.com:19532, or `{TO_MONITORING}` for a host of that group",
                )
            )
            continue
        name, port = found
        if allowed is not None and not any(_allows(entry, name, port) for entry in allowed):
            problems.append(
                make_error(
                    f"{host}: firewall_egress",
                    f"does not let the journal out to {name}, tcp/{port} (hardening_journal_forward_to)",
                    f"add {{network: <address of {name}>, port: {port}}}",
                )
            )
    return problems


def problems(inventory: Inventory) -> list[Problem]:
    """Check that the firewall lets out what the inventory sends."""
    names = ["firewall_egress", "hardening_journal_forward_to"]
    return firewall_problems(inventory.known(inventory.members("all"), names))
