"""The topology itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pryv_platform.inventory import Inventory, UnreadableError
from pryv_platform.ports import PORTS
from pryv_platform.problems import Problem, make_error
from pryv_platform.topology.flows import backup_flows, jump_flows, monitoring_flows, platform_flows
from pryv_platform.topology.jumps import lead, owners_of
from pryv_platform.topology.names import NAME_SERVER, NAMES, service_names
from pryv_platform.topology.obstacles import Obstacle, TopologyError
from pryv_platform.topology.placeholders import PLACEHOLDER, find_placeholders, is_placeholder
from pryv_platform.topology.reader import HOST_VARIABLES, PLATFORM_VARIABLES, ROLES, Reader


def derive(groups: Mapping[str, Sequence[str]], variables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Derive the topology of a platform.

    Args:
        groups: Host names by group, as Ansible's `groups`.
        variables: Every host's `PLATFORM_VARIABLES` and `HOST_VARIABLES`, as far as they are set.

    Returns:
        The structure of docs/architecture.md, "The topology fact".

    Raises:
        TopologyError: with everything that is wrong.
    """
    reader = Reader(groups, variables)
    members = {role: frozenset(reader.members(role)) for role in ROLES}
    platform = reader.platform(list(variables))
    domain = reader.domain(platform["pryv_domain"])
    environment = reader.environment(platform["pryv_environment"])
    networks = reader.admin_networks(platform["pryv_admin_networks"])
    redirect = reader.redirect(platform["pryv_http_redirect"])
    hosts = {host: reader.host(host, [role for role in ROLES if host in members[role]]) for host in variables}
    reader.addresses_are_unique(hosts)
    leader, followers = reader.registry()
    web = reader.web(domain, platform["pryv_web_url"], platform["pryv_web_alias"], hosts)
    cores = reader.cores(hosts)
    backups = reader.backups(hosts, leader)
    watch = reader.watch(hosts)

    name_servers: list[dict[str, str]] = []
    names: dict[str, list[str]] = {}
    if not reader.problems:
        name_servers = [
            {"name": f"{NAME_SERVER}{number}", "host": host, "address": hosts[host]["public_address"]}
            for number, host in enumerate([leader, *followers], start=1)
        ]
        names = _names(domain, hosts, leader, followers, name_servers, web["addresses"], reader.members("core"))
    jumps = lead(hosts, reader.jump_hosts(hosts, owners_of(domain, hosts, names)))
    if reader.problems:
        raise TopologyError(reader.problems)
    return {
        "domain": domain,
        "environment": environment,
        "hosts": hosts,
        **cores,
        "leader": leader,
        "followers": followers,
        "name_servers": name_servers,
        "web": web,
        "names": names,
        "service_names": service_names(domain),
        "ports": dict(PORTS),
        "backups": backups,
        **watch,
        "flows": [
            *platform_flows(hosts, leader, followers, networks, redirect),
            *backup_flows(hosts, backups),
            *monitoring_flows(hosts, networks, **watch),
            *jump_flows(hosts, jumps),
        ],
    }


def _names(
    domain: str,
    hosts: Mapping[str, Mapping[str, Any]],
    leader: str,
    followers: Sequence[str],
    name_servers: Iterable[Mapping[str, str]],
    web: Sequence[str],
    cores: Iterable[str],
) -> dict[str, list[str]]:
    """Return the addresses of the names that clients and programs ask for: not users', nor pages' served elsewhere."""
    of_leader = [hosts[leader]["public_address"]]
    of_service = dict.fromkeys((service for service in NAMES if service != "monitoring"), of_leader)
    of_service["register_copy"] = [hosts[followers[0]]["public_address"]] if followers else of_leader
    of_service["pages"] = of_service["mfa"] = list(web)
    addresses = {NAMES[service]: found for service, found in of_service.items() if found}
    addresses |= {server["name"]: [server["address"]] for server in name_servers}
    addresses |= {core: [hosts[core]["public_address"]] for core in cores}
    return {f"{name}.{domain}": list(found) for name, found in addresses.items()}


def _readable(inventory: Inventory) -> tuple[dict[str, dict[str, Any]], list[Obstacle]]:
    """Return the variables that the topology needs, and those that cannot be read."""
    variables: dict[str, dict[str, Any]] = {}
    problems: list[Obstacle] = []
    for host in inventory.groups.get("all", ()):
        variables[host] = {}
        for name in PLATFORM_VARIABLES + HOST_VARIABLES:
            if name in inventory.variables[host]:
                try:
                    variables[host][name] = inventory.value(host, name)
                except UnreadableError as error:
                    problems.append(Obstacle(f"{host}: {name}", "a template", str(error)))
    return variables, problems


def inventory_problems(inventory: Inventory) -> list[Problem]:
    """Return everything that is wrong with the inventory as such.

    Unlike `topology`, it also finds placeholders in variables that the topology does not read.
    """
    raw = {host: inventory.raw[host] for host in inventory.groups.get("all", ())}
    places = find_placeholders(raw)
    found = [make_error(path, f"is still {PLACEHOLDER}", "put your own value there") for path in places]
    variables, wrong = _readable(inventory)
    if not wrong:
        try:
            derive(inventory.groups, variables)
        except TopologyError as error:
            wrong = [problem for problem in error.problems if not is_placeholder(problem.value)]
    return found + [make_error(problem.variable, problem.found, problem.remedy) for problem in wrong]


def topology(inventory: Inventory) -> dict[str, Any]:
    """Return who is who and who talks to whom.

    Args:
        inventory: What the operator wrote down.

    Returns:
        The structure that docs/architecture.md describes under "The topology fact".

    Raises:
        TopologyError: With everything that is wrong.
    """
    variables, wrong = _readable(inventory)
    if wrong:
        raise TopologyError(wrong)
    return derive(inventory.groups, variables)
