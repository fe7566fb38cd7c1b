"""Who may look at what is seen of the platform, what their page knows of it, and who sends it what is logged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pryv_platform.inventory import Inventory
from pryv_platform.topology.reader import Reader


def page_readers(inventory: Inventory) -> list[str]:
    """Return who may look at the page of the hosts that monitor: their administrators.

    Args:
        inventory: What the operator wrote down.

    Returns:
        Names; none where nothing monitors, or the administrators are not given as they should be, which is reported.
    """
    found = inventory.known(inventory.members("monitoring"), ["administrators"])
    lists = [variables.get("administrators") for variables in found.values()]
    entries = [entry for each in lists if isinstance(each, list) for entry in each if isinstance(entry, Mapping)]
    return list(dict.fromkeys(str(entry["name"]) for entry in entries if entry.get("name")))


def log_senders(inventory: Inventory) -> list[str]:
    """Return the hosts whose journals are to go to those that monitor.

    One of these itself is among them: with a second one, it sends there.

    Args:
        inventory: What the operator wrote down.

    Returns:
        Names of hosts; none where nothing monitors.
    """
    hosts = inventory.members("all") if inventory.members("monitoring") else ()
    reader = Reader(inventory.groups, inventory.known(hosts, ["hardening_journal_forward_to"]))
    return list(filter(reader.sends_logs, hosts))


def monitoring_platform(
    topology: Mapping[str, Any],
    plan: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe a platform for the page of its monitoring host.

    Args:
        topology: The structure of docs/architecture.md, "The topology fact".
        plan: What `capacity_plan` returned; empty where nothing is planned.

    Returns:
        `domain`, `environment`, `hosts` (roles and zone of each), `zones` (cores, those of them that drain, and the
        numbers of users that were planned for the zone and that a core may have), `leader`, `followers`,
        `name_servers`, and `backups` (where each host that has a state is backed up to). No address and no secret.
    """
    planned = plan.get("zones", {})
    return {
        **{key: topology[key] for key in ("domain", "environment", "leader", "followers", "backups")},
        "name_servers": [server["host"] for server in topology["name_servers"]],
        "hosts": {
            name: {"roles": host["roles"], "zone": host.get("privacy_zone") or ""}
            for name, host in topology["hosts"].items()
        },
        "zones": {
            zone: {
                "cores": cores,
                "draining": [core for core in cores if core in topology["draining"]],
                "plan_users": planned[zone]["users"] if zone in planned else None,
                "limit_per_core": planned[zone]["users_per_core_at_most"] if zone in planned else None,
            }
            for zone, cores in topology["zones"].items()
        },
    }
