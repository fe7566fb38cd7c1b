"""Jump hosts, from ssh's arguments."""

from __future__ import annotations

import getopt
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pryv_platform.problems import Problem, make_problem

# What Ansible adds to ssh's command line; a jump host may be among it.
SSH_ARGUMENTS = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
# The options of OpenSSH's ssh, as getopt takes them.
SSH_OPTIONS = "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:P:Q:R:S:TVw:W:XYy"


def jumps_of(arguments: str) -> list[str]:
    """Return what ssh's arguments may name as jump hosts, in the order in which they are passed through.

    Args:
        arguments: As in ``ansible_ssh_common_args``, with ``-J``, ``ProxyJump`` or ``ProxyCommand``.

    Raises:
        ValueError: A quotation has no end.
    """
    found: list[str] = []
    for name, value in _proxy_options(arguments):
        if name == "proxyjump":
            found += value.split(",")
        elif name == "proxycommand":
            found += [part for word in shlex.split(value) for part in word.split(",")]
    return [_host_name(jump) for jump in found]


def _proxy_options(arguments: str) -> list[tuple[str, str]]:
    """Return the names, in lower case, and values of ssh's options ``-o`` and ``-J``."""
    words, options = iter(shlex.split(arguments)), list[tuple[str, str]]()
    for word in words:
        if word[:2] in ("-o", "-J"):
            options.append(_proxy_option(word[:2], word[2:] or next(words, "")))
    return options


def _proxy_option(letter: str, text: str) -> tuple[str, str]:
    if letter == "-J":
        return "proxyjump", text
    name, _, value = re.sub(r"^\s*(\w+)(\s*=\s*|\s+)", r"\1=", text).partition("=")
    return name.lower(), value


def _host_name(destination: str) -> str:
    """Return the host of [ssh://][user@]host[:port], which is perhaps in brackets, as names are compared."""
    name = re.sub(r"^(ssh://)?(.*@)?\[?([^\]@]*?)\]?(:\d+)?$", r"\3", destination.strip())
    return name.rstrip(".").lower()


def _certain_jumps(options: Iterable[tuple[str, str]]) -> list[str]:
    """Return the hosts that ssh logs in at on its way; unlike `jumps_of`, no other word of a ``ProxyCommand``."""
    found: list[str] = []
    for name, value in options:
        if name == "proxyjump":
            found += map(_host_name, value.split(","))
        elif name == "proxycommand":
            words = shlex.split(value)
            of_ssh = [index for index, word in enumerate(words) if word.rpartition("/")[2] == "ssh"]
            try:
                given, rest = getopt.getopt(words[of_ssh[0] + 1 :], SSH_OPTIONS) if of_ssh else ([], [])
                more, _command = getopt.getopt(rest[1:], SSH_OPTIONS)
            except getopt.GetoptError:
                continue
            found += _certain_jumps(_proxy_option(*option) for option in [*given, *more] if option[0] in ("-o", "-J"))
            found += map(_host_name, rest[:1])
    # A name with % is the destination's own.
    return [name for name in found if name and name != "none" and "%" not in name]


def owners_of(
    domain: str, hosts: Mapping[str, Mapping[str, Any]], names: Mapping[str, Sequence[str]]
) -> dict[str, str | None]:
    """Return which host has a name or an address; None for what several have, which is none of them but a gateway."""
    claims: dict[str, set[str]] = {}
    for host, entry in hosts.items():
        addresses = (entry[key] for key in ("ansible_host", "public_address", "private_address"))
        for name in (host, f"{host}.{domain}", *addresses):
            claims.setdefault(_host_name(name), set()).add(host)
    by_address = {entry["public_address"]: host for host, entry in hosts.items()}
    for name, having in names.items():
        if len(having) == 1:
            claims.setdefault(name, set()).add(by_address[having[0]])
    return {name: next(iter(owners)) if len(owners) == 1 else None for name, owners in claims.items() if name}


def lead(hosts: Mapping[str, dict[str, Any]], ways: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Note at each jump host where it leads to, and return the pairs: each jump host with the next host on a way.

    Args:
        hosts: The hosts; `leads_to` is filled in.
        ways: Jump hosts by the host that they lead to, in the order in which they are passed through.
    """
    pairs = dict.fromkeys(pair for host, way in ways.items() for pair in zip(way, [*way[1:], host], strict=True))
    for jump, target in pairs:
        hosts[jump]["leads_to"].append(f"{hosts[target]['ansible_host']}:{hosts[target]['ssh_port']}")
    return list(pairs)


def jump_problems(values: Mapping[str, Mapping[str, Any]], platform: Mapping[str, Any]) -> list[Problem]:
    """Warn of jump hosts that are no known hosts of the platform, each of them once.

    Args:
        values: By host, what `SSH_ARGUMENTS` the inventory sets.
        platform: The topology.
    """
    owners = owners_of(platform["domain"], platform["hosts"], platform["names"])
    places: dict[str, str] = {}
    for host, variables in values.items():
        for variable in SSH_ARGUMENTS:
            for jump in _certain_jumps(_proxy_options(str(variables.get(variable) or ""))):
                if owners.get(jump) is None:
                    places.setdefault(jump, f"{host}: {variable}")
    return [
        make_problem(
            "warning",
            where,
            f"leads through {jump}, which is no name or address of one host here: if a host of the platform "
            "is behind that name, it will forward no connections any more, and hosts behind it cannot be reached",
            "if it is one, name it as the inventory does, or set hardening_ssh_tcp_forwarding: true for it; "
            "if it is somebody else's, nothing to do",
        )
        for jump, where in places.items()
    ]
