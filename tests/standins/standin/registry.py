"""What register and dns have in common: their configuration and their users in Redis.

Both real services are one program, pryv/service-register, with two configurations.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from . import config as c
from .process import die, say
from .redis import Redis, RedisError
from .schemas import REGISTRY

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9-]+(?<!-)(\.(?!-)[A-Za-z0-9-]+(?<!-))*")
_HOSTING_URL = re.compile(r"https?://[a-zA-Z0-9.-]+")
_USERNAME = re.compile(r"[a-z0-9][a-z0-9-]{3,58}[a-z0-9]")
# A few of the hundred thousand words that the real program keeps in its database.
RESERVED = ("administrator", "anonymous", "hostmaster", "postmaster", "security", "webmaster")
VERSION = "standin"
# What a hosting is called when the configuration does not describe its provider.
_PROVIDER = {
    "url": "https://hostingprovider.com",
    "name": "Hosting provider name",
    "description": "Hosting provider slogan",
    "localizedDescription": {},
}


def username(text: str) -> str | None:
    """A user name as stored, or None when it can be none: 5 to 60 letters, digits and inner hyphens."""
    name = text.strip().lower()
    return name if _USERNAME.fullmatch(name) else None


def prepare(config: c.Config) -> None:
    """Checks a configuration and adds what follows from it, as the real program does before anything else.

    `net.hostings` becomes `net.aahostings` (what clients see) and `net.aaservers` (cores by hosting), and each core a
    name in `dns.staticDataInDomain`, as do the `dns.customEntries`.

    Args:
        config: Changed in place.

    Raises:
        ConfigError: The real program would not start, or not work.
    """
    dns, net = config.get("dns"), config.get("net")
    problems = c.problems(config, REGISTRY)
    if not problems and isinstance(dns, dict) and isinstance(net, dict):
        dns["staticDataInDomain"] = {**dns["staticDataInDomain"], **(dns.get("customEntries") or {})}
        if net.get("hostings") is not None:
            problems += _translate_hostings(config)
        problems += [*_mail_problems(dns.get("mail") or []), *_hosting_problems(net)]
    problems += _invitation_problems(config.get("invitationTokens"))
    if problems:
        raise c.ConfigError("\n".join(problems))
    for path in ("access", "api", "register"):
        config["service"][path] = config["service"][path].rstrip("/") + "/"


def _translate_hostings(config: c.Config) -> list[str]:
    dns, net = config["dns"], config["net"]
    if not c.lookup(config, "auth.coreSystemKey"):
        return ["auth.coreSystemKey is missing; with net.hostings it is the key of every core"]
    providers = net.get("providers") or {}
    servers: dict[str, list[dict[str, str]]] = {}
    for hosting, cores in net["hostings"].items():
        for core, entry in cores.items():
            url = f"http://{core}:{entry['port']}/" if entry.get("port") else f"https://{core}.{dns['domain']}/"
            servers.setdefault(hosting, []).append({"base_url": url, "authorization": config["auth"]["coreSystemKey"]})
            dns["staticDataInDomain"][core] = entry
    hostings = {hosting: dict(providers.get(hosting) or _PROVIDER) for hosting in net["hostings"]}
    zone = {"name": "Zone 1", "localizedName": {"fr": "Zone 1"}, "hostings": hostings}
    region = {"name": "Region 1", "localizedName": {"fr": "Region 1"}, "zones": {"zone1": zone}}
    net["aaservers"], net["aahostings"] = servers, {"regions": {"region1": region}}
    return []


def _mail_problems(entries: list[Any]) -> list[str]:
    problems = []
    for entry in entries:
        if not isinstance(entry.get("name"), str) or not _HOST_NAME.fullmatch(entry["name"]):
            problems.append(f"dns.mail: 'name' must be a host name, not {entry.get('name')!r}")
        if entry.get("ip") is not None and not c.ADDRESS.accepts(entry["ip"]):
            problems.append(f"dns.mail: 'ip' must be an IPv4 address, not {entry['ip']!r}")
        if not c.NUMBER.accepts(entry.get("priority")):
            problems.append(f"dns.mail: 'priority' must be a number, not {entry.get('priority')!r}")
    return problems


def _hosting_problems(net: Mapping[str, Any]) -> list[str]:
    regions = (net.get("aahostings") or {}).get("regions")
    if regions is None:
        return ["net.hostings is missing; it must be a mapping"]
    problems = []
    for hosting, provider in hostings_of(net):
        if not isinstance(provider.get("url"), str) or not _HOSTING_URL.fullmatch(provider["url"]):
            problems.append(
                f"net.providers.{hosting}.url must be http(s)://server.domain.tld, not {provider.get('url')!r}"
            )
        if hosting not in (net.get("aaservers") or {}):
            problems.append(f"net.hostings.{hosting} has no core: GET /hostings would fail")
    if not all(zone.get("hostings") for region in regions.values() for zone in region["zones"].values()):
        problems.append("net.hostings must have at least one hosting")
    return problems


def hostings_of(net: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Name and description of every hosting that clients see."""
    return [
        (name, hosting)
        for region in net["aahostings"]["regions"].values()
        for zone in region["zones"].values()
        for name, hosting in zone["hostings"].items()
    ]


def _invitation_problems(tokens: Any) -> list[str]:
    if tokens is None:
        return []
    if not isinstance(tokens, list):
        return ["invitationTokens must be a list, or null to let everyone in"]
    if all(isinstance(token, str) and 5 <= len(token) <= 99 for token in tokens):
        return []
    return ["each of invitationTokens must be a text of 5 to 99 characters"]


def least_populated(cores: list[dict[str, str]], users: Mapping[str, int]) -> dict[str, str] | None:
    """The core for a new user: the one with the fewest, the first of several.

    Args:
        cores: The cores of one hosting, in the configuration's order.
        users: Number of users by core's host name.

    Returns:
        The core, or None when the hosting has none.
    """
    return min(cores, key=lambda core: users.get(host_name(core), 0), default=None)


def host_name(core: Mapping[str, str]) -> str:
    """A core's name as stored with its users: `co1.DOMAIN`."""
    return urlsplit(core["base_url"]).hostname or ""


class Users:
    """Users in Redis: `<name>:server`, `<name>:users` (a hash) and `<value>:<field>` for each unique field.

    Args:
        redis: Where they are.
    """

    def __init__(self, redis: Redis) -> None:
        """Reads nothing yet."""
        self.redis = redis

    def server(self, name: str) -> str | None:
        """Host name of a user's core."""
        return self.redis.get(f"{name.lower()}:server")

    def exists(self, name: str) -> bool:
        """Whether there is such a user."""
        return self.redis.exists(f"{name.lower()}:users")

    def owner(self, field: str, value: str) -> str | None:
        """The user who has a unique field's value."""
        return self.redis.get(f"{value.lower()}:{field}")

    def counts(self) -> dict[str, int]:
        """Number of users by host name of their core."""
        counts: dict[str, int] = {}
        for key in self.redis.keys("*:server"):
            server = self.redis.get(key)
            if server is not None:
                counts[server] = counts.get(server, 0) + 1
        return counts

    def store(self, name: str, server: str, fields: Mapping[str, Any], unique: Iterable[str]) -> None:
        """Adds a user, or replaces one."""
        name = name.lower()
        attributes = {**fields, "username": name, "registeredTimestamp": int(time.time() * 1000)}
        if attributes.get("email"):
            attributes["email"] = attributes["email"].lower()
        old_email = (self.redis.run("HGET", f"{name}:users", "email") or "").lower()
        commands: list[list[Any]] = [
            ["HMSET", f"{name}:users", *(word for pair in attributes.items() for word in pair)],
            ["SET", f"{name}:server", server],
        ]
        if old_email and old_email != attributes.get("email"):
            commands.append(["DEL", f"{old_email}:email"])
        commands += [
            ["SET", f"{str(attributes[field]).lower()}:{field}", name] for field in unique if attributes.get(field)
        ]
        self.redis.transaction(commands)

    def update(
        self, name: str, fields: Mapping[str, Iterable[Mapping[str, Any]]], deletions: Mapping[str, str]
    ) -> bool | None:
        """Changes a user's fields, and which values nobody else may have.

        Args:
            name: The user's name, in lower case.
            fields: Values by field, each with `value`, `isUnique`, `isActive` and `creation`.
            deletions: Unique values by field that are free from now on, where they are this user's.

        Returns:
            Whether Redis found something to do for each change; None when there was none.
        """
        old, commands = self.redis.hash(f"{name}:users"), []
        inactive = self._inactive(name)
        for field, values in fields.items():
            for entry in values:
                commands += self._changes(name, field, entry, old.get(field, ""), inactive.get(field, []))
        commands += [
            ["DEL", f"{value.lower()}:{field}"]
            for field, value in deletions.items()
            if self.redis.get(f"{value}:{field}") == name
        ]
        answers = self.redis.transaction(commands) if commands else []
        return all(answer == "OK" or int(answer) > 0 for answer in answers) if answers else None

    @staticmethod
    def _changes(name: str, field: str, entry: Mapping[str, Any], old: str, inactive: list[str]) -> list[list[Any]]:
        value = str(entry["value"]).lower()
        commands: list[list[Any]] = []
        if entry.get("isActive"):
            commands.append(["HMSET", f"{name}:users", field, value])
        if not entry.get("isUnique"):
            return commands
        commands.append(["SET", f"{value}:{field}", name])
        if old != value and not entry.get("creation"):
            commands.append(["DEL", f"{old.lower()}:{field}"])
        # Values that once were unique, or are besides the active one.
        listed = f"{name}:inactive:{field}"
        if entry.get("isActive"):
            commands += [["LPUSH", listed, old]] if old != value else []
            commands += [["LREM", listed, 0, value]] if value in inactive else []
        elif value not in inactive:
            commands.append(["LPUSH", listed, value])
        return commands

    def _inactive(self, name: str) -> dict[str, list[str]]:
        keys = self.redis.keys(f"{name}:inactive:*")
        return {key.split(":")[-1]: list(self.redis.run("LRANGE", key, 0, -1)) for key in keys}

    def remove(self, name: str) -> None:
        """Removes a user and what reserves their unique fields."""
        name = name.lower()
        commands = [
            ["DEL", f"{value.lower()}:{field}"]
            for field, value in self.redis.hash(f"{name}:users").items()
            if self.redis.get(f"{value}:{field}") == name
        ]
        for field, values in self._inactive(name).items():
            commands += [
                *(["DEL", f"{value.lower()}:{field}"] for value in values),
                ["DEL", f"{name}:inactive:{field}"],
            ]
        self.redis.transaction([*commands, ["DEL", f"{name}:users"], ["DEL", f"{name}:server"]])

    def may_join(self, tokens: list[str] | None, token: str) -> bool:
        """Whether an invitation token is one: of the configuration's, or a generated one that nobody has used."""
        if tokens is None or token in tokens:
            return True
        invitation = self.redis.hash(f"{token}:invitation") if tokens else {}
        return bool(invitation) and not invitation.get("consumedAt")

    def is_reserved(self, name: str) -> bool:
        """Whether nobody may have a name."""
        return bool(self.redis.run("SISMEMBER", "reservedwords:list", name))


def merged(old: Any, new: Any) -> Any:
    """What lodash's `merge` makes of two values: mappings by key, lists by place; what a longer list has more stays."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}
    if isinstance(old, list) and isinstance(new, list):
        return [*(merged(*pair) for pair in zip(old, new, strict=False)), *new[len(old) :], *old[len(new) :]]
    return new


def connect(config: Mapping[str, Any]) -> Users:
    """Opens the users, and writes the test user that the real program writes at each start.

    The real program ends when Redis refuses it (a wrong password), and also on a read-only replica unless NODE_OPTIONS
    contains `--unhandled-rejections=warn`: there the refusal comes as an unhandled rejection.

    Args:
        config: A prepared configuration.

    Returns:
        The users.
    """
    settings = config["redis"]
    users = Users(Redis(settings["host"], int(settings["port"]), settings.get("password")))
    try:
        users.redis.wait()
        users.store("wactiv", config["dns"]["domain"], {"id": 0, "email": "wactiv@pryv.io"}, ["email"])
        users.redis.transaction([["SADD", "reservedwords:list", *RESERVED], ["SET", "reservedwords:version", VERSION]])
    except RedisError as error:
        if not str(error).startswith("READONLY") or "--unhandled-rejections=warn" not in os.environ.get(
            "NODE_OPTIONS", ""
        ):
            die(f"DB not available: {error}")
        say(f"DB not available: {error}")
    return users
