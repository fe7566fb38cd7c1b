"""Checks of the inventory's `administrators`: who may log in, and with which keys."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pryv_platform.inventory import Inventory, UnreadableError
from pryv_platform.problems import Problem, make_error
from pryv_platform.topology.placeholders import PLACEHOLDER

#: What `useradd` takes on every system, and what needs no quotes in sshd's and sudo's files.
NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
FIELDS = {"name", "keys", "sudo"}
KEY_TYPES = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
)
SSH = 22
SHORTEST_RSA = 3072  # bits
EXAMPLE = "as in the .pub file that ssh-keygen -t ed25519 makes"


def _fields(blob: bytes) -> list[bytes]:
    """Take a key apart.

    Args:
        blob: The key: fields, each after its length in four bytes.

    Raises:
        ValueError: It ends in the middle of a field.
    """
    fields, rest = [], blob
    while rest:
        length = int.from_bytes(rest[:4], "big")
        if len(rest) < 4 + length:
            raise ValueError("it is cut short")
        fields.append(rest[4 : 4 + length])
        rest = rest[4 + length :]
    return fields


def public_key(text: object) -> str:
    """Return the key in a line of a .pub file without its comment.

    Args:
        text: The line.

    Raises:
        ValueError: With what is wrong; nothing of a private key is ever in it.
    """
    if not isinstance(text, str):
        raise ValueError("is not text")
    if "PRIVATE KEY" in text:
        raise ValueError("is a private key: make a new pair, this one has been given away")
    words = text.split()
    if "\n" in text.strip() or len(words) < 2 or words[0] not in KEY_TYPES:
        raise ValueError(f"is not one line that begins with one of {', '.join(KEY_TYPES)}")
    kind, encoded = words[0], words[1]
    try:
        fields = _fields(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError) as reason:
        raise ValueError("is damaged or not whole") from reason
    if len(fields) < 2 or fields[0] != kind.encode():
        raise ValueError("is damaged or not whole")
    if kind == "ssh-rsa":
        bits = int.from_bytes(fields[-1], "big").bit_length()
        if bits < SHORTEST_RSA:
            raise ValueError(f"is an RSA key of {bits} bits, and {SHORTEST_RSA} are the least")
    if kind == "ssh-ed25519" and len(fields[1]) != 32:
        raise ValueError("is damaged or not whole")
    return f"{kind} {encoded}"


def administrators_problems(administrators: object, environment: str) -> list[Problem]:
    """Check a host's administrators.

    Args:
        administrators: The variable's value; None when it is not set.
        environment: The platform's environment; production needs somebody.
    """
    where = "administrators"
    if administrators in (None, []):
        if environment != "production":
            return []
        return [make_error(where, "is empty, and this is production", "name who may log in, each with public SSH keys")]
    if not isinstance(administrators, Sequence) or isinstance(administrators, str):
        return [make_error(where, "is not a list", "write one entry for each person, with name and keys")]
    problems: list[Problem] = []
    names: set[str] = set()
    owners: dict[str, str] = {}
    for number, entry in enumerate(administrators):
        problems += _entry_problems(f"{where}[{number}]", entry, names, owners)
    if not problems and not any(entry.get("sudo", True) for entry in administrators):
        problems.append(make_error(where, "has nobody who may become root", "leave out sudo: false for one at least"))
    return problems


def _entry_problems(where: str, entry: object, names: set[str], owners: dict[str, str]) -> Iterable[Problem]:
    """Check one administrator.

    Args:
        where: What to call it.
        entry: Its value.
        names: Names that others have; this one's is added.
        owners: Owners of keys; this one's are added.
    """
    if not isinstance(entry, Mapping):
        yield make_error(where, "is not a mapping", "give it a name and keys")
        return
    name = entry.get("name")
    if name == PLACEHOLDER:  # reported with all others of the inventory
        return
    if not isinstance(name, str) or not NAME.fullmatch(name):
        yield make_error(
            f"{where}.name",
            f"is {name!r}",
            "give a name of at most 32 lower-case letters, digits, - and _, that begins with a letter",
        )
        return
    where = f"administrators.{name}"
    if name in names:
        yield make_error(where, "is there twice", "give each person one entry, with all keys in it")
    names.add(name)
    if unknown := sorted(str(field) for field in set(entry) - FIELDS):
        yield make_error(where, f"has {', '.join(unknown)}", f"its fields are {', '.join(sorted(FIELDS))}")
    if not isinstance(entry.get("sudo", True), bool):
        yield make_error(f"{where}.sudo", f"is {entry['sudo']!r}", "true or false")
    yield from _keys_problems(where, entry.get("keys"), name, owners)


def _keys_problems(where: str, keys: object, name: str, owners: dict[str, str]) -> Iterable[Problem]:
    """Check an administrator's keys.

    Args:
        where: What to call the administrator.
        keys: The keys.
        name: Whose they are.
        owners: Owners of keys; these are added.
    """
    if not isinstance(keys, Sequence) or isinstance(keys, str) or not keys:
        yield make_error(f"{where}.keys", "is not a list with at least one key", f"list public SSH keys, {EXAMPLE}")
        return
    for position, text in enumerate(keys):
        if text == PLACEHOLDER:
            continue
        try:
            key = public_key(text)
        except ValueError as reason:
            yield make_error(f"{where}.keys[{position}]", str(reason), f"give a public SSH key, {EXAMPLE}")
            continue
        if (owner := owners.setdefault(key, name)) != name:
            yield make_error(
                f"{where}.keys[{position}]", f"is {owner}'s key as well", "give each person a key of their own"
            )


def administrator_problems(inventory: Inventory, hosts: Iterable[str]) -> list[Problem]:
    """Check the administrators of all hosts; what is wrong on several is said once.

    Args:
        inventory: What the operator wrote down.
        hosts: The hosts.
    """
    problems: list[Problem] = []
    for host in hosts:
        try:
            environment = str(inventory.value(host, "pryv_environment", "development"))
            found = administrators_problems(inventory.value(host, "administrators"), environment)
        except UnreadableError as reason:
            found = [make_error("administrators", f"cannot be read: {reason}", "see its comment in group_vars")]
        problems += [problem for problem in found if problem not in problems]
    return problems


def lockout_problems(results: Mapping[str, Mapping[str, Any]], inventory: Inventory) -> list[Problem]:
    """Check that who Ansible logs in as will be able to do so afterwards.

    Args:
        results: Results of machine_survey by host.
        inventory: What the operator wrote down.
    """
    problems = []
    for host, result in results.items():
        survey = result.get("survey", {})
        user = survey.get("user")
        port = int(inventory.value(host, "ssh_port") or inventory.value(host, "ansible_port") or SSH)
        if user and port not in {entry["port"] for entry in survey["listeners"] if entry["protocol"] == "tcp"}:
            problems.append(
                make_error(
                    f"{host}: ssh_port",
                    f"is {port}, where nothing listens there",
                    "give the port at which the host's own sshd listens; the one that Ansible uses (ansible_port, or "
                    "22) may be a gateway's",
                )
            )
        if user not in (None, "root") and survey["became"] != "sudo":
            problems.append(
                make_error(
                    host,
                    f"Ansible logs in as {user} and becomes root with {survey['became']}, which role hardening ends",
                    f"have sudo installed there, {user} in group sudo, and ansible_become_method as it is by default; "
                    "--ask-become-pass is for sudo as well",
                )
            )
            continue
        entries = inventory.value(host, "administrators") or []
        named = {entry["name"]: entry.get("sudo", True) for entry in entries}
        if not user or not named:
            continue
        if user not in named:
            problem = f"Ansible logs in as {user}, who is none of the administrators and could not log in again"
        elif not named[user]:
            problem = f"Ansible logs in as {user}, whose entry in administrators says sudo: false"
        else:
            continue
        problems.append(
            make_error(
                host, problem, f"log in as one of them (ansible_user), or add {user} with sudo and the key used now"
            )
        )
    return problems


def problems(inventory: Inventory) -> list[Problem]:
    """Check who may log in."""
    return administrator_problems(inventory, inventory.members("all"))
