"""Reads the inventory's variables, and checks them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pryv_platform.topology.flows import SSH
from pryv_platform.topology.jumps import SSH_ARGUMENTS, jumps_of
from pryv_platform.topology.names import NAME_SERVER, NAMES
from pryv_platform.topology.obstacles import Obstacle
from pryv_platform.topology.placeholders import PLACEHOLDER, is_placeholder

ROLES = ("web", "registry", "core", "backup", "monitoring", "standby")
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
HOST_VARIABLES = (
    "ansible_host",
    "ansible_port",
    "ssh_port",
    *SSH_ARGUMENTS,
    "public_address",
    "private_address",
    "privacy_zone",
    "backup_zones",
    "backup_repository",
    "accepts_users",
    "registry_role",
    "pryv_zone_groups",
    "log_zones",
    "hardening_journal_forward_to",
)
#: Where a host's journal is sent: to the hosts that monitor.
TO_MONITORING = "monitoring"
# The registry takes any name of at least this many characters for a user's.
SHORTEST_USERNAME = 5
LONGEST_USERNAME = 60
LONGEST_DNS_NAME = 253
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL_RULE = "1 to 63 characters of a-z, 0-9 and '-', beginning and ending with a letter or digit"


def as_text(value: object) -> str:
    """Return how to write what is a text and should be true or false, as the end of a sentence."""
    if not isinstance(value, str):
        return ""
    return "; this is a text: no quotes in YAML, True or False with a capital letter in an INI inventory"


class Reader:
    """Reads the inventory's variables and collects what is wrong with them."""

    def __init__(self, groups: Mapping[str, Sequence[str]], variables: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep the hosts by group, and the variables of each."""
        self.groups = groups
        self.variables = variables
        self.problems: list[Obstacle] = []

    def problem(self, variable: str, value: object, remedy: str) -> None:
        """Note what is wrong."""
        self.problems.append(Obstacle(variable, value, remedy))

    def members(self, role: str) -> list[str]:
        """Return the hosts of a group."""
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
        """Return the platform's domain."""
        if is_placeholder(value):
            return ""
        rule = "a domain of your own in lower case, without a final dot, for example pryv.example.com"
        if not isinstance(value, str):
            self.problem("pryv_domain", value, rule)
            return ""
        labels = value.split(".")
        if len(labels) < 2 or not all(LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
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
        """Return what the platform is for."""
        if not is_placeholder(value) and value not in ENVIRONMENTS:
            self.problem("pryv_environment", value, f"one of {', '.join(ENVIRONMENTS)}")
        return str(value)

    def admin_networks(self, value: object) -> list[str]:
        """Return the networks that administrators connect from."""
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

    def redirect(self, value: object) -> bool:
        """Return whether port 80 sends to HTTPS."""
        if value is not None and not isinstance(value, bool):
            self.problem("pryv_http_redirect", value, f"true or false{as_text(value)}")
        return value is True

    def web(self, domain: str, url: object, alias: object, hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return where the static pages are."""
        members = [host for host in self.members("web") if host in hosts]
        given = {
            name: value for name, value in (("pryv_web_url", url), ("pryv_web_alias", alias)) if value not in (None, "")
        }
        if members:
            for name, value in given.items():
                self.problem(name, value, f"group web has hosts ({', '.join(members)}); leave out one or the other")
        elif len(given) == 2:
            self.problem("pryv_web_alias", alias, f"pryv_web_url is given as well ({url!r}); leave out one of them")
        elif not given:
            right = "add a host, or set pryv_web_url or pryv_web_alias to where the static pages are"
            self.problem("group web", [], right)
        if "pryv_web_url" in given:
            self.web_url(url)
        if "pryv_web_alias" in given:
            self.web_alias(alias, domain)
        return {
            "hosts": members,
            "addresses": [hosts[host]["public_address"] for host in members],
            "url": str(url) if "pryv_web_url" in given else f"https://{NAMES['pages']}.{domain}",
            "alias": str(alias) if "pryv_web_alias" in given else None,
        }

    def web_url(self, url: object) -> None:
        """Refuse what is no URL that browsers can be sent to."""
        pattern = r"https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?(/[^\s?#]*)?"
        if not is_placeholder(url) and not (isinstance(url, str) and re.fullmatch(pattern, url)):
            self.problem("pryv_web_url", url, "an https:// URL, for example https://pages.example.com")

    def web_alias(self, alias: object, domain: str) -> None:
        """Refuse what is no name that the platform's own can be an alias of."""
        if is_placeholder(alias):
            return
        if not isinstance(alias, str) or "." not in alias or not all(map(LABEL.fullmatch, alias.split("."))):
            self.problem("pryv_web_alias", alias, "a DNS name in lower case, for example pages.example.com")
        elif domain and (alias == domain or alias.endswith(f".{domain}")):
            self.problem("pryv_web_alias", alias, f"a name outside {domain}, which the platform answers for")

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
        if not LABEL.fullmatch(host):
            self.problem(f"host {host}", host, f"a name that DNS can carry: {LABEL_RULE}")
        if not roles:
            self.problem(f"host {host}", list(roles), f"add it to one of the groups {', '.join(ROLES)}")
        entry = {"roles": list(roles), **self.host_addresses(host), "ssh_port": self.ssh_port(host), "leads_to": []}
        zone = self.get(host, "privacy_zone")
        if "core" in roles:
            self.core_name(host)
            self.core_accepts_users(host)
            if isinstance(zone, str) and LABEL.fullmatch(zone):
                entry["privacy_zone"] = str(zone)
            self.core_zone(host, zone)
        if "backup" in roles:
            entry["backup_zones"] = self.backup_zones(host, zone)
        self.stands_alone(host, roles)
        for name, having in (
            ("privacy_zone", ("core", "backup")),
            ("accepts_users", ("core",)),
            ("backup_zones", ("backup",)),
        ):
            value = self.variables[host].get(name)
            if value is not None and not {*roles} & {*having}:
                self.problem(
                    f"{host}: {name}", value, f"only hosts of group {' or '.join(having)} have it; remove it here"
                )
        if "registry" not in roles and self.get(host, "registry_role") is not None:
            role = self.variables[host]["registry_role"]
            self.problem(f"{host}: registry_role", role, "only hosts of group registry have it")
        return entry

    def host_addresses(self, host: str) -> dict[str, str]:
        """Return the addresses at which a host is reached; empty where one waits to be filled in."""
        management = self.get(host, "ansible_host")
        public = self.get(host, "public_address")
        private = self.get(host, "private_address")
        if public is not None:
            public = self.address(host, "public_address", public)
        elif self.waits(host, "public_address") or self.waits(host, "ansible_host"):
            public = ""
        else:
            public = self.address(host, "ansible_host", management)
        return {
            "public_address": public,
            "private_address": public if private is None else self.address(host, "private_address", private),
            "ansible_host": host if management is None else str(management),
        }

    def core_accepts_users(self, host: str) -> None:
        """Refuse what does not say whether a core takes new users."""
        accepts = self.get(host, "accepts_users")
        if accepts is not None and not isinstance(accepts, bool):
            self.problem(f"{host}: accepts_users", accepts, f"true, or false to drain the core{as_text(accepts)}")

    def core_zone(self, host: str, zone: object) -> None:
        """Refuse a core in several privacy zones, or in none."""
        if isinstance(groups := self.variables[host].get("pryv_zone_groups"), Mapping):
            named = " and ".join(f"{group} ({given})" for group, given in groups.items())
            right = f"one: the host is in the groups {named}; leave it in one of them"
            self.problem(f"{host}: privacy_zone", zone, right)
        if not (isinstance(zone, str) and LABEL.fullmatch(zone)) and not self.waits(host, "privacy_zone"):
            quoted = ", in quotes" if isinstance(zone, bool | int) else ""
            right = f"the zone's name{quoted}, in the vars of a child group of core: {LABEL_RULE}"
            self.problem(f"{host}: privacy_zone", zone, right)

    def backup_zones(self, host: str, zone: object) -> list[str]:
        """Return the privacy zones whose cores' data may lie on a host of group backup."""
        given = self.get(host, "backup_zones")
        if self.waits(host, "backup_zones") or self.waits(host, "privacy_zone"):
            return []
        zones = [zone] if given is None else given
        if not isinstance(zones, list) or not zones or not all(isinstance(name, str) and name for name in zones):
            right = "a list of the privacy zones whose data may lie there, for example [ch]; or set privacy_zone"
            self.problem(f"{host}: backup_zones", given, right)
            return []
        return [str(name) for name in zones]

    def stands_alone(self, host: str, roles: Sequence[str]) -> None:
        """Refuse what is there for the loss of others on one of these, or where people's devices reach it."""
        others = [role for role in roles if role in ("web", "registry", "core")]
        for role, loss in (("backup", "lost with what it backs up"), ("monitoring", "silent with what it watches")):
            if role in roles and others:
                right = f"a machine of its own for group {role}: this one is {loss}"
                self.problem(f"host {host}", f"in group {role} and in {' and '.join(others)}", right)

    def backups(self, hosts: Mapping[str, Mapping[str, Any]], leader: str) -> dict[str, str | None]:
        """Return who is backed up, and to which host of group backup; None for a place that the operator names."""
        servers, cores = self.members("backup"), self.members("core")
        stateful = [*([leader] if leader else []), *cores, *self.members("monitoring")]
        found: dict[str, str | None] = {}
        for host in filter(self.is_backed_up, dict.fromkeys(stateful)):
            if self.variables[host].get("backup_repository"):
                found[host] = None
            else:
                found[host] = self.backup_server(hosts, servers, host) if host in cores else servers[0]
        return found

    def is_backed_up(self, host: str) -> bool:
        """Tell whether a host that has a state is backed up."""
        return bool(self.get(host, "backup_repository") or self.members("backup"))

    def backup_server(self, hosts: Mapping[str, Mapping[str, Any]], servers: Sequence[str], core: str) -> str:
        """Return where a core is backed up to: its data stays in its zone."""
        zone = hosts[core].get("privacy_zone")
        there = [server for server in servers if zone in hosts[server]["backup_zones"]]
        if zone and not there:
            zones = sorted({name for server in servers for name in hosts[server]["backup_zones"]})
            right = f"name {zone} in backup_zones of a host of group backup: {core}'s data may lie nowhere else"
            self.problem("backup_zones", zones, right)
        return there[0] if there else ""

    def sends_logs(self, host: str) -> bool:
        """Tell whether a host's journal is to go to the hosts that monitor."""
        return self.variables[host].get("hardening_journal_forward_to") == TO_MONITORING

    def watch(self, hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return the hosts that monitor, and which of them keeps whose journal."""
        monitoring = [host for host in hosts if host in self.members(TO_MONITORING)]
        return {"monitoring": monitoring, "logs": self.logs(hosts, monitoring)}

    def logs(self, hosts: Mapping[str, Mapping[str, Any]], monitoring: Sequence[str]) -> dict[str, str]:
        """Return which host that monitors keeps whose journal: another one, and what a core recorded in its zone."""
        kept = {keeper: self.log_zones(keeper, hosts) for keeper in monitoring}
        found = {}
        for host in filter(self.sends_logs, hosts):
            if not monitoring:
                right = f"add a host to group {TO_MONITORING}, or give the URL of a systemd-journal-remote"
                self.problem(f"{host}: hardening_journal_forward_to", TO_MONITORING, right)
                continue
            zone = hosts[host].get("privacy_zone") if "core" in hosts[host]["roles"] else None
            there = [keeper for keeper in monitoring if keeper != host and (zone is None or zone in kept[keeper])]
            if there:
                found[host] = there[0]
            elif zone is not None:
                right = f"name {zone} in log_zones of a host of group monitoring: {host}'s journal names its users"
                self.problem("log_zones", sorted({name for names in kept.values() for name in names}), right)
        return found

    def log_zones(self, host: str, hosts: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Return the privacy zones whose cores' journals may lie on a host that monitors: the only one, or as given."""
        zones = {str(entry["privacy_zone"]) for entry in hosts.values() if entry.get("privacy_zone")}
        given = self.get(host, "log_zones")
        if given is None:
            return sorted(zones) if len(zones) == 1 else []
        if not isinstance(given, list) or not set(map(str, given)) <= zones:
            right = f"a list of privacy zones, of {', '.join(sorted(zones))}"
            self.problem(f"{host}: log_zones", given, right)
            return []
        return list(map(str, given))

    def core_name(self, host: str) -> None:
        """Refuse a core's name that could be a user's, or is the platform's."""
        if len(host) >= SHORTEST_USERNAME:
            self.problem(
                f"core {host}",
                host,
                f"a name of at most {SHORTEST_USERNAME - 1} characters, such as co1: a longer one could be a user's",
            )
        if host in NAMES.values() or re.fullmatch(rf"{NAME_SERVER}\d+", host):
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
                    way += [owner for jump in jumps_of(str(value or "")) if (owner := owners.get(jump))]
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
        """Refuse an address that two hosts have."""
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

    def cores(self, hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return the privacy zones with their cores, and which of them take new users and which do not."""
        zones: dict[str, list[str]] = {}
        hostings: dict[str, dict[str, dict[str, str]]] = {}
        draining: dict[str, dict[str, str]] = {}
        names = self.members("core")
        self.core_names_are_distinct(names)
        for core in names:
            zone = hosts[core].get("privacy_zone", "")
            ip = {"ip": hosts[core]["public_address"]}
            zones.setdefault(zone, []).append(core)
            if self.variables[core].get("accepts_users") is False:
                draining[core] = ip
            else:
                hostings.setdefault(zone, {})[core] = ip
        if not names:
            self.problem("group core", names, "add a child group with a privacy_zone and at least one host")
        elif not hostings:
            self.problem("accepts_users", False, "at least one core must accept users, or the registry does not start")
        return {"zones": zones, "hostings": hostings, "draining": draining}

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
