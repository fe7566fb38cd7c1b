"""The variables of an inventory as Ansible reads them, except that a locked vault is passed over.

Ansible stops at the first encrypted file when no vault password was given, even if nothing needs what is in it. With
this plugin, what needs no secret runs without the password; what does need one finds the locked files' paths in the
variable `pryv_locked_vaults`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.inventory.group import Group
from ansible.inventory.host import Host
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import is_encrypted
from ansible.plugins.vars.host_group_vars import VarsModule as HostGroupVars
from ansible.utils.display import Display
from yaml import MarkedYAMLError

DOCUMENTATION = r"""
name: unlocked_group_vars
short_description: Variables of host_vars and group_vars, without those in a locked vault
description:
  - Does what P(ansible.builtin.host_group_vars#vars) does. When the run has no vault password at all, files that are
    encrypted as a whole are left out with a warning, instead of ending the run; C(pryv_locked_vaults) has their paths.
  - With a vault password nothing differs, a wrong one included. A file that is no YAML is named with the line.
  - A host that is in several groups which set C(privacy_zone), and differently, has them in C(pryv_zone_groups).
options:
  stage:
    ini:
      - key: stage
        section: vars_unlocked_group_vars
    env:
      - name: ANSIBLE_VARS_PLUGIN_STAGE
extends_documentation_fragment:
  - vars_plugin_staging
"""

ZONE = "privacy_zone"


class VarsModule(HostGroupVars):  # type: ignore[misc]  # Ansible ships no types
    """Reads host_vars and group_vars beside the inventory."""

    def load_found_files(self, loader: DataLoader, data: dict[str, Any], found_files: Iterable[str]) -> dict[str, Any]:
        """Load the files over `data`, but for locked ones."""
        locked = [found for found in found_files if not loader._vault.secrets and self._is_vault(found)]
        readable = [found for found in found_files if found not in locked]
        result = data
        for found in readable:
            try:
                result = super().load_found_files(loader, result, [found])
            except AnsibleParserError as error:
                # Without it, what Ansible says has neither the file nor the line.
                mark = error.__cause__.problem_mark if isinstance(error.__cause__, MarkedYAMLError) else None
                place = f"{found}, line {mark.line + 1}, column {mark.column + 1}" if mark else found
                raise AnsibleParserError(f"{place}: {error}") from error
        if locked:
            result = {**result, "pryv_locked_vaults": [str(found) for found in locked]}
        return result

    def get_vars(self, loader: DataLoader, path: str, entities: Any, cache: bool = True) -> dict[str, Any]:
        """Read the variables of hosts and groups; a core's also have which groups set its zone, when those disagree."""
        result: dict[str, Any] = super().get_vars(loader, path, entities, cache)
        for host in entities if isinstance(entities, list) else [entities]:
            if isinstance(host, Host) and ZONE not in host.vars and ZONE not in result:
                zones = {group: self._zone(group, loader, path) for group in host.get_groups()}
                # A group's own value goes before that of a group above it; between others, none does.
                above = {other for group in zones if zones[group] for other in group.get_ancestors()}
                own = {group.name: zone for group, zone in zones.items() if zone and group not in above}
                if len(set(own.values())) > 1:
                    result = {**result, "pryv_zone_groups": own}
        return result

    def _zone(self, group: Group, loader: DataLoader, path: str) -> str | None:
        zone = super().get_vars(loader, path, group).get(ZONE, group.vars.get(ZONE))
        return None if zone is None else str(zone)

    def _is_vault(self, found: str) -> bool:
        with Path(found).open("rb") as file:
            locked = bool(is_encrypted(file.readline()))
        if locked:
            Display().warning(f"{found} is locked (no vault password): its variables are not there")
        return locked
