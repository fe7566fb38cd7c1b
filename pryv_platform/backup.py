"""Who is backed up."""

from __future__ import annotations

from pryv_platform.inventory import Inventory
from pryv_platform.topology.reader import Reader

#: Variables that hold a secret by host that is backed up.
SECRETS = ("pryv_backup_passwords", "pryv_backup_operator_passwords", "pryv_backup_server_passwords")


def backed_up(inventory: Inventory) -> list[str]:
    """Return the hosts that need secrets for backups: those with a state, followers of the registry too.

    A follower needs them only when it has become the leader, but then at once.

    Args:
        inventory: What the operator wrote down.

    Returns:
        Names of hosts; none where no backups are asked for.
    """
    groups = ("core", "registry", "monitoring")
    stateful = dict.fromkeys(host for group in groups for host in inventory.members(group))
    reader = Reader(inventory.groups, inventory.known(stateful, ["backup_repository"]))
    return list(filter(reader.is_backed_up, stateful))
