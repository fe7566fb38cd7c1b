"""What the registry is told about the cores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# The registry wants the names of hostings to start with a letter or a digit: nobody can choose one with a dash there.
CLOSED = "-"


def registry_net(
    topology: dict[str, Any], cores: list[str], providers: dict[str, dict[str, str]], keys: Mapping[str, str]
) -> dict[str, Any]:
    """Make the ``net`` section of the registry's configuration.

    Pryv's documented form, ``hostings``, has one key for all cores, and cannot name a core without offering it; a core
    that is not named must not have users. We therefore write what the registry itself makes of ``hostings`` when it
    starts: what it offers (``aahostings``) apart from what it knows (``aaservers``), each core with a key of its own. A
    zone all of whose cores are drained is shown, as not available.

    Args:
        topology: The ``topology`` fact.
        cores: Names of the cores that the registry may know.
        providers: ``name``, ``description`` and ``url`` by zone, each of them optional.
        keys: By core, the key with which the registry talks to it; of a core without one, none is written.

    Returns:
        The section.
    """
    domain = topology["domain"]
    open_cores = {zone: [name for name in members if name in cores] for zone, members in topology["hostings"].items()}
    closed_cores = {
        zone: [name for name in members if name in topology["draining"] and name in cores]
        for zone, members in topology["zones"].items()
    }
    shown = {
        zone: {"name": zone, "description": "", "url": f"https://{domain}", **providers.get(zone, {})}
        for zone in topology["zones"]
        if open_cores.get(zone) or closed_cores[zone]
    }

    def server(name: str) -> dict[str, str]:
        key = {"authorization": keys[name]} if name in keys else {}
        return {"base_url": f"https://{name}.{domain}/", **key}

    known = {zone: list(map(server, open_cores.get(zone, []))) for zone in shown}
    known |= {CLOSED + zone: list(map(server, names)) for zone, names in closed_cores.items() if names}
    # The registry wants hostings within zones within regions; those are its words, and one of each will do.
    zones = {"zone1": {"name": "Zone 1", "localizedName": {}, "hostings": shown}}
    regions = {"region1": {"name": "Region 1", "localizedName": {}, "zones": zones}}
    return {"aaservers": known, "aahostings": {"regions": regions}}


def registry_keys(
    secrets: Mapping[str, str], cores: Iterable[str], core_keys: Mapping[str, str], retired: Mapping[str, str]
) -> dict[str, dict[str, list[str]]]:
    """Make the keys that the registry accepts, in the form of ``auth.authorizedKeys``.

    Each core has a key of its own, and administrators have one that does what cores do, too. Keys that are being
    replaced are accepted until they are dropped.

    Args:
        secrets: ``pryv_secrets``.
        cores: Names of all cores.
        core_keys: By core, the key that it shows.
        retired: ``pryv_retired_secrets``, among them the key that all cores shared once.

    Returns:
        The roles by key.
    """
    admin, system = {"roles": ["admin", "system"]}, {"roles": ["system"]}
    keys = {retired[name]: system for name in retired if name == "pryv_secrets.register_system_key"}
    for core in cores:
        name = f"pryv_core_register_keys.{core}"
        keys |= {key: system for key in (core_keys[core], retired.get(name)) if key}
    name = "register_admin_key"
    return keys | {key: admin for key in (secrets[name], retired.get(f"pryv_secrets.{name}")) if key}


def registry_names(topology: dict[str, Any], cores: list[str]) -> dict[str, dict[str, Any]]:
    """Make the names that the registry's DNS answers besides those of users.

    Args:
        topology: The ``topology`` fact.
        cores: Names of the cores that the registry may know.

    Returns:
        Records by name within the domain, in the form of ``dns.staticDataInDomain``.
    """
    suffix = "." + topology["domain"]
    unknown = {name for members in topology["zones"].values() for name in members if name not in cores}
    records: dict[str, dict[str, Any]] = {
        name.removesuffix(suffix): {"ip": list(addresses)}
        for name, addresses in topology["names"].items()
        if name.endswith(suffix) and name.removesuffix(suffix) not in unknown
    }
    if topology["web"].get("alias"):
        records[topology["service_names"]["pages"].removesuffix(suffix)] = {"alias": {"name": topology["web"]["alias"]}}
    if topology["monitoring"]:
        addresses = [topology["hosts"][host]["public_address"] for host in topology["monitoring"]]
        records[topology["service_names"]["monitoring"].removesuffix(suffix)] = {"ip": addresses}
    return records
