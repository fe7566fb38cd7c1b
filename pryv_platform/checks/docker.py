"""What a host has of Docker, or has where Docker's networks will be, and whether that may be replaced."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from pryv_platform.docker import REMEDY, shape_problem, take_over_wanted
from pryv_platform.inventory import Inventory
from pryv_platform.problems import InputError, Problem, Severity, make_error, make_problem

Found = Iterator[tuple[Severity, str, str]]

#: Docker's own packages, which serve as well as a distribution's; all of them are needed.
DOCKERS_OWN = ("docker-ce", "docker-ce-cli", "containerd.io", "docker-compose-plugin")
#: Systems that have no compose v2 of their own, for which role packages brings Docker's.
WITH_DOCKERS_OWN = {("debian", "12")}
#: Whose packages apt would remove for those that it installs.
OTHERS = ("docker-engine", "moby-cli", "moby-compose", "moby-containerd", "moby-engine", "moby-runc", "podman-docker")
DISTRIBUTIONS = ("containerd", "docker-cli", "docker-compose-v2", "docker.io", "runc")
#: The oldest that know start_interval of health checks.
OLDEST_ENGINE, OLDEST_COMPOSE = (25, 0), (2, 24)
#: Options of the daemon that daemon.json has, too: with both it does not start.
OURS = (
    *("--bip", "--config-file", "--data-root", "--default-address-pool", "--default-network-opt", "--feature", "--icc"),
    *("--ip", "--live-restore", "--log-driver", "--log-opt", "--no-new-privileges", "--userland-proxy"),
)
#: Where role docker puts what it replaces.
COPIES = "/var/backups/pryv/docker"
#: How many of a list are named.
NAMED = 8


def docker_host_problems(
    results: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, Mapping[str, Any]],
    default_pool: str,
    command_line: Collection[str],
) -> list[Problem]:
    """Check what hosts have of Docker, and their routes.

    Args:
        results: Results of machine_survey by host; those without a survey are passed over.
        values: By host, `docker_take_over` and `docker_address_pool` of its inventory.
        default_pool: The pool of hosts for which the inventory names none.
        command_line: Names of the variables that were given for this run alone.
    """
    problems = []
    for host, result in results.items():
        if survey := result.get("survey"):
            pool = str(values[host].get("docker_address_pool", default_pool))
            found = [
                *_package_problems(survey["docker"], survey["system"]),
                *_use_problems(host, survey["docker"], values[host].get("docker_take_over"), command_line),
                *_route_problems(survey["routes"], pool),
            ]
            problems += [make_problem(severity, host, problem, remedy) for severity, problem, remedy in found]
    return problems


def version(text: str) -> tuple[int, ...]:
    """Return the first two numbers of a package's version, which may begin with an epoch."""
    return tuple(int(part) for part in re.findall(r"\d+", text.rpartition(":")[2])[:2])


def _package_problems(docker: Mapping[str, Any], system: Mapping[str, str]) -> Found:
    """Yield packages that would have to go, or are too old."""
    packages: Mapping[str, str] = docker["packages"]
    if docker["snap"]:
        yield "error", "has Docker as a snap", "move what runs in it elsewhere; snap remove docker"
    own = [name for name in DOCKERS_OWN if name in packages]
    if len(own) < len(DOCKERS_OWN):
        takes_dockers = (system["ID"], system["VERSION_ID"]) in WITH_DOCKERS_OWN
        others = [*OTHERS, *(DISTRIBUTIONS if takes_dockers else DOCKERS_OWN)]
        if in_the_way := [name for name in others if name in packages]:
            missing = [name for name in DOCKERS_OWN if name not in packages]
            completing = f"or complete Docker's own: apt-get install {' '.join(missing)}"
            yield (
                "error",
                f"has {', '.join(in_the_way)} installed, which apt would remove for the packages of role docker",
                f"move what needs it elsewhere; apt-get remove {' '.join(in_the_way)}"
                + (f"; {completing}" if own or takes_dockers else ""),
            )
    for engine, compose in (("docker-ce", "docker-compose-plugin"), ("docker.io", "docker-compose-v2")):
        for name, oldest in ((engine, OLDEST_ENGINE), (compose, OLDEST_COMPOSE)):
            if name in packages and version(packages[name]) < oldest:
                wanted = ".".join(map(str, oldest))
                yield (
                    "error",
                    f"has {name} {packages[name]}, and {wanted} is the oldest that will do",
                    f"upgrade {name}",
                )


def _use_problems(host: str, docker: Mapping[str, Any], wanted: object, command_line: Collection[str]) -> Found:
    """Yield what would be lost to others, or keep Docker from starting, unless the operator wants it taken over."""
    try:
        is_taken = take_over_wanted(wanted, host, command_line)
    except InputError as error:
        yield "error", str(error), "give it with --extra-vars"
        return
    there = []
    if not docker["ours"]:
        containers = [f"{container['name']} ({container['image']})" for container in docker["containers"]]
        there += _some("container", containers) + _some("volume", docker["volumes"])
        if docker["settings"] is None:
            there.append("an unreadable /etc/docker/daemon.json")
        elif docker["settings"]:
            there.append(f"/etc/docker/daemon.json with {', '.join(docker['settings'])}")
    for file, options in docker["flags"].items():
        conflicting = [option for option in options if option in OURS or _listens(option)]
        if conflicting:
            there.append(f"{file}, which gives the daemon {', '.join(dict.fromkeys(conflicting))}")
    if not there:
        return
    if is_taken:
        kept = f"what is replaced is kept in {COPIES} there, and containers and volumes in {docker['root']}"
        yield "note", f"its Docker is taken over from {'; '.join(there)}", kept
        return
    yield (
        "error",
        f"has Docker in use: {'; '.join(there)}",
        "give the platform a host of its own, or move what is there. If nobody needs it here any more: "
        f"-e docker_take_over={host} (docs/operations/docker.md)",
    )


def _listens(option: str) -> bool:
    """Whether an option has the daemon listen on the network, for whoever comes."""
    name, _, value = option.partition("=")
    return name == "--host" and not value.startswith(("fd:", "unix:"))


def _some(what: str, names: Iterable[str]) -> list[str]:
    """One text that names the first of them and counts all; none when there are none."""
    known = list(names)
    more = [f"{len(known) - NAMED} more"] if len(known) > NAMED else []
    return [f"{what}{'s'[: len(known) != 1]} {', '.join([*known[:NAMED], *more])}"] if known else []


def _route_problems(routes: Iterable[str], pool: str) -> Found:
    """Yield networks that a host reaches now, and would look for among its containers."""
    try:
        network = ipaddress.IPv4Network(pool)
    except ValueError:
        return  # reported with the inventory
    for route in routes:
        if network.overlaps(ipaddress.IPv4Network(route)):
            yield (
                "warning",
                f"has a route to {route}, which overlaps its docker_address_pool ({pool}): "
                "what it reaches there would be looked for among its containers",
                "set docker_address_pool to a private network of /22 or larger without a route, like 192.168.240.0/20",
            )


def docker_problems(
    values: Mapping[str, Mapping[str, Any]], topology: Mapping[str, Any], default: str
) -> list[Problem]:
    """Check that hosts' container address pools are such networks, and that nobody else is in them.

    Args:
        values: By host, the variables that its inventory sets.
        topology: The platform's topology; ``hosts`` holds each host's addresses.
        default: The pool of hosts for which the inventory names none.
    """
    # Most hosts have the same pool.
    found: dict[tuple[str, ...], list[str]] = {}
    problems = []
    for host, variables in values.items():
        pool = str(variables.get("docker_address_pool", default))
        asked = (pool, *map(str, variables.get("pryv_admin_networks") or ()))
        if asked not in found:
            shape = shape_problem(pool)
            found[asked] = [shape] if shape else list(_collisions(pool, topology["hosts"], asked[1:]))
        problems += [make_error(f"{host}: docker_address_pool", problem, REMEDY) for problem in found[asked]]
    return problems


def _collisions(pool: str, hosts: Mapping[str, Mapping[str, Any]], admin_networks: Iterable[str]) -> Iterator[str]:
    """Yield who else is in a pool: from its containers and their host, they could not be reached."""
    network = ipaddress.IPv4Network(pool)
    for name, host in hosts.items():
        for kind in ("ansible_host", "private_address", "public_address"):
            if _within(host.get(kind), network):
                yield f"is {pool}, which holds {host[kind]}, the {kind} of {name}: containers could not reach it"
                break
    for other in admin_networks:
        candidate = ipaddress.ip_network(other, strict=False)
        if candidate.version == network.version and candidate.overlaps(network) and candidate.prefixlen:
            yield f"is {pool}, which overlaps {other} of pryv_admin_networks: administrators would get no answer"


def _within(address: str | None, network: ipaddress.IPv4Network) -> bool:
    """Whether an address literal lies in a network; a host name does not count."""
    try:
        return ipaddress.ip_address(address or "") in network
    except ValueError:
        return False


def host_problems(inventory: Inventory, results: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """Check what hosts have of Docker, and their routes.

    Args:
        inventory: What the operator wrote down.
        results: Results of machine_survey by host.
    """
    values = inventory.known(results, ["docker_address_pool", "docker_take_over"])
    pool = str(inventory.default("docker_address_pool"))
    return docker_host_problems(results, values, pool, inventory.command_line)


def problems(inventory: Inventory) -> list[Problem]:
    """Check that the containers' addresses are nobody else's."""
    values = inventory.known(inventory.members("all"), ["docker_address_pool", "pryv_admin_networks"])
    return docker_problems(values, inventory.topology, str(inventory.default("docker_address_pool")))
