"""A capacity plan written as an inventory whose hosts wait to be filled in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from pryv_platform.topology.placeholders import PLACEHOLDER


def _host(
    name: str, machine: Mapping[str, Mapping[str, Any]], variables: Iterable[str] = (), *, data_disk: bool = False
) -> list[str]:
    """Write a host of a group: its size, its address to be filled in, and further variables.

    Args:
        name: What it is called.
        machine: What the plan wants of it.
        variables: Lines of YAML.
        data_disk: Whether data has a disk of its own, and not a share of the system's.
    """
    size = {resource: figure["value"] for resource, figure in machine.items()}
    data = size.get("data_disk_gb", 0)
    if data_disk or not data:
        disk = f"{size['os_disk_gb']} GB OS disk"
    else:
        disk = f"{size['os_disk_gb'] + data} GB disk, {data} GB of it for data"
    cpus = f"{size['cpus']} CPU{'s' if size['cpus'] > 1 else ''}"
    own = [f"data_disk_device: {PLACEHOLDER} # /dev/disk/by-id/... of at least {data} GB"] if data_disk else []
    return [
        f"    {name}: # {cpus}, {size['ram_gb']} GB RAM, {disk}",
        *(f"      {line}" for line in [f"ansible_host: {PLACEHOLDER}", *own, *variables]),
    ]


def _hosts(plan: Mapping[str, Any]) -> list[str]:
    """Write the hosts file line by line."""
    zones = plan["zones"]
    # Groups take letters, digits and underscores; zones have none of the latter.
    groups = {zone: f"zone_{zone.replace('-', '_')}" for zone in zones}
    # On a development platform, cores may do without a disk of their own.
    with_disk = plan["environment"] != "development"

    def cores(zone: str) -> list[str]:
        machine = zones[zone]["machine"]
        return [line for name in zones[zone]["core_names"] for line in _host(name, machine, data_disk=with_disk)]

    if plan["scenario"]["name"] == "development":
        (name,) = (name for zone in zones.values() for name in zone["core_names"])
        web = registry = [f"    {name}:"]
    else:
        web = _host("web1", plan["web"]["machine"]) if plan["web"]["count"] else []
        count, machine = plan["registry"]["count"], plan["registry"]["machine"]
        registry = []
        for index in range(count):
            # The followers' copies of the database travel between their private addresses.
            copies = [f"private_address: {PLACEHOLDER}", f"registry_role: {'follower' if index else 'leader'}"]
            registry += _host(f"reg{index + 1}", machine, copies if count > 1 else [])
    lines = ["web:", *(["  hosts:", *web] if web else ["  hosts: {}"]), "", "registry:", "  hosts:", *registry, ""]
    lines += ["core:", "  children:", *(f"    {group}:" for group in groups.values())]
    for zone, group in groups.items():
        lines += ["", f"{group}:", "  vars:", f"    {_yaml({'privacy_zone': zone})}".rstrip(), "  hosts:", *cores(zone)]
    return lines + _other_hosts(plan, with_disk=with_disk)


def _other_hosts(plan: Mapping[str, Any], *, with_disk: bool) -> list[str]:
    """Write the groups of hosts that keep backups and that monitor, where there are any."""
    lines = []
    if plan["backup"]:
        lines += ["", "# A core's data stays in its zone, here too.", "backup:", "  hosts:"]
    for number, (zone, machine) in enumerate(plan["backup"].items(), start=1):
        zones = _yaml({"privacy_zone": zone}).rstrip()
        lines += _host(f"bk{number}", machine, [zones], data_disk=with_disk)
    if plan["monitoring"]:
        lines += ["", "monitoring:", "  hosts:", *_host("mon1", plan["monitoring"], data_disk=with_disk)]
    return lines


def _yaml(data: Any) -> str:
    """Write data as YAML, whatever types of its own Ansible has given it."""
    return yaml.safe_dump(json.loads(json.dumps(data)), sort_keys=False, default_flow_style=False)


def capacity_inventory(plan: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, str]:
    """Write an inventory for a plan.

    Args:
        plan: what `capacity_plan` returned.
        variables: what the plan was made from: `privacy_zones`, and `core_limits` and others where they are set.

    Returns:
        The text of `hosts.yml` and `group_vars/all/capacity.yml`.
    """
    head = [
        "---",
        f"# The machines of the capacity plan: {plan['scenario']['title']}.",
        f"# Replace each {PLACEHOLDER}: address and, for cores, data disk.",
    ]
    requirements = "---\n# What this inventory was made for; docs/capacity.md explains each line.\n"
    requirements += _yaml(variables)
    return {
        "hosts.yml": "\n".join([*head, *_hosts(plan), ""]),
        "group_vars/all/capacity.yml": requirements,
    }
