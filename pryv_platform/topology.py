"""Who is who on a platform and who talks to whom, derived from the inventory alone.

No host is asked and no fact is used: one dead host or ``--limit`` never changes the answer.
"""

from __future__ import annotations

import getopt
import ipaddress
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pryv_platform.inventory import Inventory, UnreadableError
from pryv_platform.problems import InputError, Problem, make_error, make_problem

ROLES = ("web", "registry", "core", "monitoring", "standby")
ENVIRONMENTS = ("development", "integration", "production")
REGISTRY_ROLES = ("leader", "follower")

PLATFORM_VARIABLES = (
    "pryv_domain",
    "pryv_environment",
    "pryv_web_url",
    "pryv_web_alias",
    "pryv_admin_networks",
    "pryv_http_redirect",
)
# What Ansible adds to ssh's command line; a jump host may be among it.
SSH_ARGUMENTS = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
HOST_VARIABLES = (
    "ansible_host",
    "ansible_port",
    "ssh_port",
    *SSH_ARGUMENTS,
    "public_address",
    "private_address",
    "privacy_zone",
    "accepts_users",
    "registry_role",
    "pryv_zone_groups",
)

# Names under the domain that belong to the platform itself; `dns1`, `dns2`, … come on top.
RESERVED_NAMES = ("reg", "reg2", "access", "service", "sw", "mfa", "mail", "adm", "lead")
# The registry takes any name of at least this many characters for a user's.
SHORTEST_USERNAME = 5
LONGEST_USERNAME = 60
LONGEST_DNS_NAME = 253

PLACEHOLDER = "CHANGE_ME"
EVERYBODY = ["0.0.0.0/0", "::/0"]
SSH, DNS = 22, 53
# The options of OpenSSH's ssh, as getopt takes them.
SSH_OPTIONS = "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:P:Q:R:S:TVw:W:XYy"

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL_RULE = "1 to 63 characters of a-z, 0-9 and '-', beginning and ending with a letter or digit"
# Variables that Ansible itself provides: they repeat the inventory, or say nothing about it.
_MAGIC_VARIABLES = frozenset(
    ("ansible_facts", "environment", "group_names", "groups", "hostvars", "omit", "topology", "vars")
)


@dataclass(frozen=True)
class Obstacle:
    """One thing that is wrong in the inventory.

    Attributes:
        variable: Where it is, as an operator would look for it: ``co1: privacy_zone``.
        value: What is there; None when nothing is.
        remedy: What would be right.
    """

    variable: str
    value: Any
    remedy: str

    @property
    def found(self) -> str:
        """What is there, in words."""
        return "is not set" if self.value is None else f"is {self.value!r}"

    def __str__(self) -> str:
        """Return the problem as one line."""
        return f"{self.variable} {self.found}: {self.remedy}"


class TopologyError(InputError):
    """The inventory does not describe a platform.

    Attributes:
        problems: Everything that is wrong with it.
    """

    def __init__(self, problems: Sequence[Obstacle]) -> None:
        """Keep the problems and make one message of them."""
        lines = [f"- {problem}" for problem in problems]
        super().__init__("\n".join(["the inventory does not describe a platform:", *lines]))
        self.problems = list(problems)


def is_placeholder(value: object) -> bool:
    """Tell whether a value, or anything within it, is still to be filled in."""
    if isinstance(value, str):
        return PLACEHOLDER in value
    if isinstance(value, Mapping):
        return any(is_placeholder(key) or is_placeholder(item) for key, item in value.items())
    if isinstance(value, Sequence):
        return any(is_placeholder(item) for item in value)
    return False


def _placeholder_paths(path: str, value: object) -> list[str]:
    """Return the paths of all strings within `value` that are still to be filled in."""
    if isinstance(value, str):
        return [path] if PLACEHOLDER in value else []
    if isinstance(value, Mapping):
        return [
            found
            for key, item in value.items()
            for found in ([f"{path}.{key}"] if is_placeholder(key) else _placeholder_paths(f"{path}.{key}", item))
        ]
    if isinstance(value, Sequence):
        return [found for index, item in enumerate(value) for found in _placeholder_paths(f"{path}[{index}]", item)]
    return []


def find_placeholders(variables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return where the inventory is still to be filled in.

    Args:
        variables: The variables of each host, not templated.

    Returns:
        One entry a place: the variable's path alone when it is the same on all hosts, else ``host: path``.
    """
    hosts_by_path: dict[str, list[str]] = {}
    for host, own in variables.items():
        if PLACEHOLDER in host:
            hosts_by_path.setdefault("the host's name", []).append(host)
        for name, value in own.items():
            if name not in _MAGIC_VARIABLES:
                for path in _placeholder_paths(name, value):
                    hosts_by_path.setdefault(path, []).append(host)
    found = []
    for path, hosts in hosts_by_path.items():
        found.append(path if len(hosts) == len(variables) > 1 else f"{', '.join(hosts)}: {path}")
    return found


def _jumps(arguments: str) -> list[str]:
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
    """Return the hosts that ssh logs in at on its way; unlike `_jumps`, no other word of a ``ProxyCommand``."""
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


def _owners(
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


def _as_text(value: object) -> str:
    """Return how to write what is a text and should be true or false, as the end of a sentence."""
    if not isinstance(value, str):
        return ""
    return "; this is a text: no quotes in YAML, True or False with a capital letter in an INI inventory"


class _Reader:
    """Reads the inventory's variables and collects what is wrong with them."""

    def __init__(self, groups: Mapping[str, Sequence[str]], variables: Mapping[str, Mapping[str, Any]]) -> None:
        self.groups = groups
        self.variables = variables
        self.problems: list[Obstacle] = []

    def problem(self, variable: str, value: object, remedy: str) -> None:
        self.problems.append(Obstacle(variable, value, remedy))

    def members(self, role: str) -> list[str]:
        return list(self.groups.get(role, ()))

    def get(self, host: str, name: str) -> Any:
        """Return a host's variable; None when it is not set or still to be filled in, which is a problem."""
        value = self.variables[host].get(name)
        if is_placeholder(value):
            self.problem(f"{host}: {name}", value, f"replace {PLACEHOLDER}")
            return None
        return value

    def waits(self, host: str, name: str) -> bool:
        """Tell whether a variable is still to be filled in, which is reported once, by `get`."""
        return is_placeholder(self.variables[host].get(name))

    # -- the platform ------------------------------------------------------------------------------------------

    def platform(self, hosts: Sequence[str]) -> dict[str, Any]:
        """Return the variables that are one for the whole platform."""
        values: dict[str, Any] = {}
        for name in PLATFORM_VARIABLES:
            first = self.variables[hosts[0]].get(name) if hosts else None
            others = [host for host in hosts if self.variables[host].get(name) != first]
            if others:
                self.problem(
                    f"{others[0]}: {name}",
                    self.variables[others[0]].get(name),
                    f"it is {first!r} on {hosts[0]}; set it once, in group_vars/all",
                )
            if is_placeholder(first):
                self.problem(name, first, f"replace {PLACEHOLDER}")
            values[name] = first
        return values

    def domain(self, value: object) -> str:
        if is_placeholder(value):
            return ""
        rule = "a domain of your own in lower case, without a final dot, for example pryv.example.com"
        if not isinstance(value, str):
            self.problem("pryv_domain", value, rule)
            return ""
        labels = value.split(".")
        if len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
            self.problem("pryv_domain", value, rule)
        longest = LONGEST_DNS_NAME - LONGEST_USERNAME - 1
        if len(value) > longest:
            self.problem(
                "pryv_domain",
                value,
                f"it has {len(value)} characters; at most {longest}, so that a user's name fits before it",
            )
        return value

    def environment(self, value: object) -> str:
        if not is_placeholder(value) and value not in ENVIRONMENTS:
            self.problem("pryv_environment", value, f"one of {', '.join(ENVIRONMENTS)}")
        return str(value)

    def admin_networks(self, value: object) -> list[str]:
        rule = "a list of networks in CIDR notation that administrators connect from, for example [192.0.2.0/24]"
        if is_placeholder(value):
            return []
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            self.problem("pryv_admin_networks", value, f"{rule}; without any, nobody could log in")
            return []
        networks = []
        for index, item in enumerate(value):
            try:
                networks.append(str(ipaddress.ip_network(item)))
            except ValueError as error:
                self.problem(f"pryv_admin_networks[{index}]", item, f"{error}; {rule}")
        return networks

    def web(self, domain: str, url: object, alias: object, hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return where the static pages are."""
        members = [host for host in self.members("web") if host in hosts]
        given = {
            name: value
            for name, value in (("pryv_web_url", url), ("pryv_web_alias", alias))
            if value is not None and value != ""
        }
        if members and given:
            for name, value in given.items():
                self.problem(name, value, f"group web has hosts ({', '.join(members)}); leave out one or the other")
        elif len(given) == 2:
            self.problem("pryv_web_alias", alias, f"pryv_web_url is given as well ({url!r}); leave out one of them")
        elif not members and not given:
            self.problem(
                "group web",
                [],
                "add a host, or set pryv_web_url or pryv_web_alias to where the static pages are",
            )
        if "pryv_web_url" in given and not is_placeholder(url):
            pattern = r"https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?(/[^\s?#]*)?"
            if not isinstance(url, str) or not re.fullmatch(pattern, url):
                self.problem("pryv_web_url", url, "an https:// URL, for example https://pages.example.com")
        if "pryv_web_alias" in given and not is_placeholder(alias):
            if not isinstance(alias, str) or "." not in alias or not all(map(_LABEL.fullmatch, alias.split("."))):
                self.problem("pryv_web_alias", alias, "a DNS name in lower case, for example pages.example.com")
            elif domain and (alias == domain or alias.endswith(f".{domain}")):
                self.problem("pryv_web_alias", alias, f"a name outside {domain}, which the platform answers for")
        return {
            "hosts": members,
            "addresses": [hosts[host]["public_address"] for host in members],
            "url": str(url) if "pryv_web_url" in given else f"https://sw.{domain}",
            "alias": str(alias) if "pryv_web_alias" in given else None,
        }

    # -- hosts -------------------------------------------------------------------------------------------------

    def address(self, host: str, name: str, value: object) -> str:
        """Return an IPv4 address in its usual form."""
        rule = "an IPv4 address of the host, as DNS gives it to clients and other hosts connect to it"
        try:
            address = ipaddress.IPv4Address(value) if isinstance(value, str) else None
        except ValueError:
            address = None
        if address is None:
            self.problem(f"{host}: {name}", value, rule)
            return ""
        if address.is_loopback or address.is_multicast or address.is_unspecified or address.is_link_local:
            self.problem(f"{host}: {name}", value, f"{rule}; this one leads to no host")
        return str(address)

    def host(self, host: str, roles: Sequence[str]) -> dict[str, Any]:
        """Return what the topology says about a host."""
        if not _LABEL.fullmatch(host):
            self.problem(f"host {host}", host, f"a name that DNS can carry: {_LABEL_RULE}")
        if not roles:
            self.problem(f"host {host}", list(roles), f"add it to one of the groups {', '.join(ROLES)}")

        management = self.get(host, "ansible_host")
        public = self.get(host, "public_address")
        private = self.get(host, "private_address")
        entry: dict[str, Any] = {"roles": list(roles)}
        if public is not None:
            entry["public_address"] = self.address(host, "public_address", public)
        elif self.waits(host, "public_address") or self.waits(host, "ansible_host"):
            entry["public_address"] = ""
        else:
            entry["public_address"] = self.address(host, "ansible_host", management)
        entry["private_address"] = (
            entry["public_address"] if private is None else self.address(host, "private_address", private)
        )
        entry["ansible_host"] = host if management is None else str(management)
        entry["ssh_port"] = self.ssh_port(host)
        entry["leads_to"] = []

        zone = self.get(host, "privacy_zone")
        if "core" in roles:
            self.core_name(host)
            accepts = self.get(host, "accepts_users")
            if accepts is not None and not isinstance(accepts, bool):
                self.problem(f"{host}: accepts_users", accepts, f"true, or false to drain the core{_as_text(accepts)}")
            if isinstance(groups := self.variables[host].get("pryv_zone_groups"), Mapping):
                named = " and ".join(f"{group} ({zone})" for group, zone in groups.items())
                self.problem(
                    f"{host}: privacy_zone", zone, f"one: the host is in the groups {named}; leave it in one of them"
                )
            if isinstance(zone, str) and _LABEL.fullmatch(zone):
                entry["privacy_zone"] = str(zone)
            elif not self.waits(host, "privacy_zone"):
                quoted = ", in quotes" if isinstance(zone, bool | int) else ""
                self.problem(
                    f"{host}: privacy_zone",
                    zone,
                    f"the zone's name{quoted}, in the vars of a child group of core: {_LABEL_RULE}",
                )
        else:
            for name in ("privacy_zone", "accepts_users"):
                if self.variables[host].get(name) is not None:
                    self.problem(f"{host}: {name}", self.variables[host][name], "only cores have it; remove it here")
        if "registry" not in roles and self.get(host, "registry_role") is not None:
            self.problem(
                f"{host}: registry_role", self.variables[host]["registry_role"], "only hosts of group registry have it"
            )
        return entry

    def core_name(self, host: str) -> None:
        if len(host) >= SHORTEST_USERNAME:
            self.problem(
                f"core {host}",
                host,
                f"a name of at most {SHORTEST_USERNAME - 1} characters, such as co1: a longer one could be a user's",
            )
        if host in RESERVED_NAMES or re.fullmatch(r"dns\d+", host):
            self.problem(f"core {host}", host, "another name, for example co1: this one is the platform's own")

    def core_names_are_distinct(self, cores: Sequence[str]) -> None:
        """Refuse a core whose name ends with another's: the registry finds a core by a part of its URL."""
        names = frozenset(cores)
        for core in cores:
            for start in range(1, min(len(core), SHORTEST_USERNAME)):
                if core[start:] in names:
                    self.problem(
                        f"core {core}",
                        core,
                        f"a name that does not end with {core[start:]}: the registry would take one for the other",
                    )

    def ssh_port(self, host: str) -> int:
        """Return the port at which a host's SSH server listens: Ansible's own, unless a gateway is between."""
        for name in ("ssh_port", "ansible_port"):
            value = self.get(host, name)
            if value is None:
                continue
            if not re.fullmatch(r"\d{1,5}", str(value)) or not 0 < int(value) < 2**16:
                self.problem(f"{host}: {name}", value, "a port, a number from 1 to 65535")
                break
            return int(value)
        return SSH

    def jump_hosts(
        self, hosts: Mapping[str, Mapping[str, Any]], owners: Mapping[str, str | None]
    ) -> dict[str, list[str]]:
        """Return the platform's own hosts through which others are reached, by host, in the order of the way there."""
        found = {}
        for host in hosts:
            way: list[str] = []
            for name in SSH_ARGUMENTS:
                value = self.get(host, name)
                try:
                    way += [owner for jump in _jumps(str(value or "")) if (owner := owners.get(jump))]
                except ValueError as error:
                    self.problem(f"{host}: {name}", value, f"arguments as a shell reads them: {error}")
            if way := [jump for jump in dict.fromkeys(way) if jump != host]:
                found[host] = way
                try:
                    ipaddress.IPv4Address(hosts[host]["ansible_host"])
                except ValueError:
                    self.problem(
                        f"{host}: ansible_host",
                        hosts[host]["ansible_host"],
                        f"an IPv4 address, since {way[-1]}, which leads there, opens nothing else",
                    )
        return found

    def addresses_are_unique(self, hosts: Mapping[str, Mapping[str, Any]]) -> None:
        owners: dict[tuple[str, str], str] = {}
        behind: dict[str, list[str]] = {}
        for host, entry in hosts.items():
            behind.setdefault(entry["ansible_host"], []).append(host)
        for host, entry in hosts.items():
            port = str(self.variables[host].get("ansible_port") or 22)
            for name in ("public_address", "private_address", "ansible_host"):
                # Hosts behind one gateway may be reached through different ports of it.
                key = (entry[name], port) if name == "ansible_host" else (entry[name], "platform")
                owner = owners.setdefault(key, host)
                if entry[name] and owner != host:
                    self.problem(f"{host}: {name}", entry[name], f"an address of its own: {owner} has this one")
                    break
            others = behind[entry["ansible_host"]]
            # With one port for two of them it is no gateway's address, and reported above.
            ports = {str(self.variables[other].get("ansible_port") or SSH) for other in others}
            if len(others) > 1 and len(ports) == len(others) and self.variables[host].get("ssh_port") is None:
                self.problem(
                    f"{host}: ssh_port",
                    None,
                    f"{' and '.join(others)} are behind one gateway: the port at which sshd listens, such as {SSH}",
                )

    def registry(self) -> tuple[str, list[str]]:
        """Return the leader's name and the followers'."""
        members = self.members("registry")
        by_role: dict[str, list[str]] = {role: [] for role in REGISTRY_ROLES}
        valid = True
        for host in members:
            role = self.get(host, "registry_role")
            if role is None and len(members) == 1 and not self.waits(host, "registry_role"):
                role = "leader"
            if role in REGISTRY_ROLES:
                by_role[role].append(host)
            else:
                valid = False
                if not self.waits(host, "registry_role"):
                    self.problem(f"{host}: registry_role", role, f"one of {', '.join(REGISTRY_ROLES)}")
        if not members:
            self.problem("group registry", members, "add a host: it answers DNS and registers users")
        elif valid and len(by_role["leader"]) != 1:
            self.problem(
                "registry_role: leader",
                by_role["leader"],
                f"exactly one of the registry hosts ({', '.join(members)}) is the leader, all others are followers",
            )
        return (by_role["leader"] or members or [""])[0], by_role["follower"]


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
    reader = _Reader(groups, variables)
    names = list(variables)
    role_members = {role: frozenset(reader.members(role)) for role in ROLES}
    platform = reader.platform(names)
    domain = reader.domain(platform["pryv_domain"])
    environment = reader.environment(platform["pryv_environment"])
    networks = reader.admin_networks(platform["pryv_admin_networks"])
    redirect = platform["pryv_http_redirect"]
    if redirect is not None and not isinstance(redirect, bool):
        reader.problem("pryv_http_redirect", redirect, f"true or false{_as_text(redirect)}")

    hosts = {host: reader.host(host, [role for role in ROLES if host in role_members[role]]) for host in names}
    reader.addresses_are_unique(hosts)
    leader, followers = reader.registry()
    web = reader.web(domain, platform["pryv_web_url"], platform["pryv_web_alias"], hosts)

    zones: dict[str, list[str]] = {}
    hostings: dict[str, dict[str, dict[str, str]]] = {}
    draining: dict[str, dict[str, str]] = {}
    cores = reader.members("core")
    reader.core_names_are_distinct(cores)
    for core in cores:
        zone = hosts[core].get("privacy_zone", "")
        ip = {"ip": hosts[core]["public_address"]}
        zones.setdefault(zone, []).append(core)
        if variables[core].get("accepts_users") is False:
            draining[core] = ip
        else:
            hostings.setdefault(zone, {})[core] = ip
    if not cores:
        reader.problem("group core", cores, "add a child group with a privacy_zone and at least one host")
    elif not hostings:
        reader.problem("accepts_users", False, "at least one core must accept users, or the registry does not start")

    name_servers: list[dict[str, str]] = []
    dns_names: dict[str, list[str]] = {}
    if not reader.problems:
        name_servers = [
            {"name": f"dns{number}", "host": host, "address": hosts[host]["public_address"]}
            for number, host in enumerate([leader, *followers], start=1)
        ]
        dns_names = _names(domain, hosts, leader, followers, name_servers, web["addresses"], cores)
    jumps = _lead(hosts, reader.jump_hosts(hosts, _owners(domain, hosts, dns_names)))
    if reader.problems:
        raise TopologyError(reader.problems)
    return {
        "domain": domain,
        "environment": environment,
        "hosts": hosts,
        "zones": zones,
        "hostings": hostings,
        "draining": draining,
        "leader": leader,
        "followers": followers,
        "name_servers": name_servers,
        "web": web,
        "names": dns_names,
        "flows": [*_flows(hosts, leader, followers, networks, redirect is True), *_jump_flows(hosts, jumps)],
    }


def _lead(hosts: Mapping[str, dict[str, Any]], ways: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Note at each jump host where it leads to, and return the pairs: each jump host with the next host on a way.

    Args:
        hosts: The hosts; `leads_to` is filled in.
        ways: Jump hosts by the host that they lead to, in the order in which they are passed through.
    """
    pairs = dict.fromkeys(pair for host, way in ways.items() for pair in zip(way, [*way[1:], host], strict=True))
    for jump, target in pairs:
        hosts[jump]["leads_to"].append(f"{hosts[target]['ansible_host']}:{hosts[target]['ssh_port']}")
    return list(pairs)


def _flow(
    purpose: str, source: str, sources: Sequence[str], target: str, address: str, port: int, protocol: str = "tcp"
) -> dict[str, Any]:
    return {
        "purpose": purpose,
        "source": source,
        "sources": list(sources),
        "target": target,
        "address": address,
        "protocol": protocol,
        "port": port,
    }


def _jump_flows(hosts: Mapping[str, Mapping[str, Any]], jumps: Iterable[tuple[str, str]]) -> Iterable[dict[str, Any]]:
    """Yield the connections from jump hosts to where they lead."""
    for jump, target in jumps:
        # From which of its addresses depends on routes.
        own = dict.fromkeys(
            (hosts[jump]["private_address"], hosts[jump]["public_address"], hosts[jump]["ansible_host"])
        )
        sources = [f"{address}/32" for address in own if re.fullmatch(r"[\d.]+", address)]
        purpose = f"administration over SSH, through {jump}"
        yield _flow(purpose, jump, sources, target, hosts[target]["ansible_host"], hosts[target]["ssh_port"])


def _names(
    domain: str,
    hosts: Mapping[str, Mapping[str, Any]],
    leader: str,
    followers: Sequence[str],
    name_servers: Iterable[Mapping[str, str]],
    web: Sequence[str],
    cores: Iterable[str],
) -> dict[str, list[str]]:
    """Return the addresses of every name of the platform, except those of users and of pages served elsewhere."""
    of_leader = [hosts[leader]["public_address"]]
    addresses = dict.fromkeys(("reg", "access", "service", "mail", "adm", "lead"), of_leader)
    addresses["reg2"] = [hosts[followers[0]]["public_address"]] if followers else of_leader
    if web:
        addresses["sw"] = addresses["mfa"] = list(web)
    addresses |= {server["name"]: [server["address"]] for server in name_servers}
    addresses |= {core: [hosts[core]["public_address"]] for core in cores}
    return {f"{name}.{domain}": list(found) for name, found in addresses.items()}


def _flows(
    hosts: Mapping[str, Mapping[str, Any]],
    leader: str,
    followers: Sequence[str],
    networks: Sequence[str],
    redirect: bool,
) -> Iterable[dict[str, Any]]:
    """Yield every connection that the platform needs to be let through to a host."""

    def flow(purpose: str, source: str, sources: Sequence[str], target: str, to: str, port: int) -> dict[str, Any]:
        protocol = "udp" if port == DNS else "tcp"
        return _flow(purpose, source, sources, target, hosts[target][to], port, protocol)

    what = {"web": "static pages", "registry": "registration of users", "core": "users' data"}
    for host, entry in hosts.items():
        served = [what[role] for role in entry["roles"] if role in what]
        if served:
            yield flow(f"HTTPS: {', '.join(served)}", "any", EVERYBODY, host, "public_address", 443)
            if redirect:
                yield flow("HTTP, only sends to HTTPS", "any", EVERYBODY, host, "public_address", 80)
        if "registry" in entry["roles"]:
            yield flow("DNS of the platform's domain", "any", EVERYBODY, host, "public_address", DNS)
        yield flow("administration over SSH", "admin", networks, host, "ansible_host", entry["ssh_port"])
    for follower in followers:
        source = f"{hosts[follower]['private_address']}/32"
        yield flow("replication of the registry, over TLS", follower, [source], leader, "private_address", 6380)


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


def jump_problems(values: Mapping[str, Mapping[str, Any]], platform: Mapping[str, Any]) -> list[Problem]:
    """Warn of jump hosts that are no known hosts of the platform, each of them once.

    Args:
        values: By host, what `SSH_ARGUMENTS` the inventory sets.
        platform: The topology.
    """
    owners = _owners(platform["domain"], platform["hosts"], platform["names"])
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
