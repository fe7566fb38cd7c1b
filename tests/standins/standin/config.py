"""Configuration files of Pryv's services: loaded, and refused when the real program could not use them."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Config = dict[str, Any]


class ConfigError(Exception):
    """A configuration that the service cannot start with; the message lists every problem, one a line."""


@dataclass(frozen=True)
class Kind:
    """What a value has to be.

    Attributes:
        name: In words, for the message about a wrong value.
        accepts: Whether a value is of this kind.
        required: Whether the key may be left out.
    """

    name: str
    accepts: Callable[[Any], bool]
    required: bool = True


def _is_port(value: Any) -> bool:
    # Pryv's own templates quote some ports.
    return not isinstance(value, bool) and str(value).isdecimal() and 0 < int(value) < 65536


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("https://", "http://", "file://"))


def _is_address(value: Any) -> bool:
    try:
        ipaddress.IPv4Address(value)
    except ValueError:
        return False
    return True


def _are(kind: Kind) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(kind.accepts(item) for item in value)


def one_of(*texts: str) -> Kind:
    """One of some texts."""
    return Kind(f"one of {', '.join(texts)}", lambda value: isinstance(value, str) and value in texts)


STRING = Kind("a text, which may be empty", lambda value: isinstance(value, str))
TEXT = Kind("a text", lambda value: isinstance(value, str) and bool(value.strip()))
SECRET = Kind("a text of at least 8 characters", lambda value: isinstance(value, str) and len(value) >= 8)
NUMBER = Kind("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool))
WHOLE = Kind("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0)
PORT = Kind("a port", _is_port)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
URL = Kind("a URL", _is_url)
ADDRESS = Kind("an IPv4 address", _is_address)
PATH = Kind("an absolute path", lambda value: isinstance(value, str) and value.startswith("/"))
TEXTS = Kind("a list of texts", _are(TEXT))
FLAGS = Kind(
    "a mapping of true or false", lambda value: isinstance(value, dict) and all(map(FLAG.accepts, value.values()))
)
LIST = Kind("a list", lambda value: isinstance(value, list))
MAP = Kind("a mapping", lambda value: isinstance(value, dict))
OFF = Kind("false", lambda value: value is False)


def optional(kind: Kind) -> Kind:
    """The same kind, for a key that may be left out or null."""
    return Kind(kind.name, kind.accepts, required=False)


def load(path: Path) -> Config:
    """Reads a JSON or YAML file, by its suffix.

    Args:
        path: The file, `.json` or `.yml`.

    Returns:
        Its content.

    Raises:
        ConfigError: The file cannot be read or parsed, or holds anything but a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping, not {type(content).__name__}")
    return content


def lookup(config: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, or None when a part of the path is missing."""
    value: Any = config
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def check(config: Mapping[str, Any], expected: Mapping[str, Kind]) -> None:
    """Compares a configuration with what a service needs.

    Args:
        config: The configuration.
        expected: Kind of value by dotted path.

    Raises:
        ConfigError: At least one key is missing or of another kind.
    """
    found = problems(config, expected)
    if found:
        raise ConfigError("\n".join(found))


def problems(config: Mapping[str, Any], expected: Mapping[str, Kind]) -> list[str]:
    """What is wrong with a configuration, one line for each key that is missing or of another kind."""
    return [text for path, kind in expected.items() if (text := _problem(path, kind, lookup(config, path)))]


def _problem(path: str, kind: Kind, value: Any) -> str:
    if value is None:
        return f"{path} is missing; it must be {kind.name}" if kind.required else ""
    # The value itself may be a secret.
    return "" if kind.accepts(value) else f"{path} must be {kind.name}, not this {type(value).__name__}"


def refuse_placeholders(config: Any, path: str = "") -> None:
    """Refuses texts that contain REPLACE, as Pryv's core does.

    Raises:
        ConfigError: A placeholder is left.
    """
    if isinstance(config, str) and "REPLACE" in config:
        raise ConfigError(f"{path} still holds a placeholder")
    children = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, value in children:
        refuse_placeholders(value, f"{path}.{key}".lstrip("."))
