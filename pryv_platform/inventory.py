"""An inventory as plain data: what hosts' variables are, whether or not all of them can be read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any


class UnreadableError(ValueError):
    """A value is a template of something that is not defined, or only while a run goes on."""


@dataclass(frozen=True)
class Unreadable:
    """Stands, in a variable's value, for what cannot be read.

    Attributes:
        reason: Why, as Ansible says.
    """

    reason: str


def _no_file(path: str) -> bytes:
    raise FileNotFoundError(path)


@dataclass(frozen=True)
class Controller:
    """What the machine has on which a run is started.

    Attributes:
        read: Returns what is in the file of a path, which may be relative to the inventory, decrypted; raises OSError,
            also for what it cannot decrypt.
        trusted: The roots that its system trusts, in PEM.
        now: Tells the time, with its zone.
    """

    read: Callable[[str], bytes] = _no_file
    trusted: bytes = b""
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)


@dataclass(frozen=True)
class Inventory:
    """What an operator wrote down.

    Attributes:
        variables: Every host's variables; what cannot be read in them is `Unreadable`.
        groups: Names of hosts by group.
        raw: Every host's variables as they are written, templates and all.
        command_line: Names of the variables that were given for this run alone.
        options: What roles document of their variables, by name, as in meta/argument_specs.yml.
        validate: Says what is wrong with a variable of a name, documented like that, of a value, as far as types and
            choices go.
        exists: Tells whether the controller has a file or folder of a path.
        controller: The machine on which it lies.
        topology: Who is who on the platform; empty when the inventory does not say.
    """

    variables: Mapping[str, Mapping[str, Any]]
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    raw: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    command_line: Collection[str] = ()
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    validate: Callable[[str, Mapping[str, Any], object], str | None] = lambda *_: None
    exists: Callable[[str], bool] = lambda _: True
    controller: Controller = field(default_factory=Controller)
    topology: Mapping[str, Any] = field(default_factory=dict)

    def members(self, group: str) -> Sequence[str]:
        """Return the hosts of a group; of one that is not there, none."""
        return self.groups.get(group, ())

    def default(self, name: str) -> Any:
        """Return what a role documents as a variable's value where it is not set."""
        return self.options[name].get("default")

    def value(self, host: str, name: str, default: Any = None) -> Any:
        """Return a host's variable.

        Args:
            host: The host.
            name: The variable.
            default: What it is where it is not set.

        Raises:
            UnreadableError: It, or something in it, cannot be read.
        """
        value = self.variables[host].get(name, default)
        if reason := _unreadable(value):
            raise UnreadableError(reason)
        return value

    def known(self, hosts: Iterable[str], names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return those of some variables that are set, by host; None for what cannot be read in them.

        Args:
            hosts: The hosts, each of them perhaps several times.
            names: The variables. Roles' defaults are not among their values.
        """
        wanted = list(names)
        return {
            host: {name: _with_holes(self.variables[host][name]) for name in wanted if name in self.variables[host]}
            for host in dict.fromkeys(hosts)
        }


def _unreadable(value: Any) -> str | None:
    """Return why a value, or the first thing in it that cannot be read, cannot."""
    if isinstance(value, Unreadable):
        return value.reason or "it is not defined"
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((reason for item in items if (reason := _unreadable(item))), None)


def _with_holes(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_holes(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_holes(item) for item in value]
    return None if isinstance(value, Unreadable) else value
