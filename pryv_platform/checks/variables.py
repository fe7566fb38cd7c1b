"""The inventory's variables beside what roles document: names that are nearly right, and wrong values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pryv_platform.inventory import Inventory, UnreadableError
from pryv_platform.problems import Problem, make_error
from pryv_platform.topology.reader import HOST_VARIABLES, PLATFORM_VARIABLES

# What checks of their own look at, and no role documents.
CHECKED_ELSEWHERE = (
    *PLATFORM_VARIABLES,
    *HOST_VARIABLES,
    "administrators",
    "capacity_accept_shortfall",
    "capacity_assumptions",
    "core_limits",
    "preflight_archives",  # a fact of role preflight
    "privacy_zones",
)


def _is_secret(option: Mapping[str, Any]) -> bool:
    return bool(option.get("no_log")) or any(map(_is_secret, option.get("options", {}).values()))


# Ansible takes a text for these, and templates then find "false" true.
NO_TEXTS = {"bool": "true or false", "int": "a number", "float": "a number"}
# One path may stand for a list of them.
EITHER = frozenset({"pryv_image_archive"})


def _items(option: Mapping[str, Any], value: object) -> Iterable[tuple[str, Mapping[str, Any], object]]:
    """Yield what is within a value: how a path to it goes on, what is documented of it, and itself."""
    if isinstance(value, list | tuple):
        inner = {"type": option.get("elements", "str"), "options": option.get("options", {})}
        yield from ((f"[{index}]", inner, item) for index, item in enumerate(value))
    elif isinstance(value, Mapping):
        yield from ((f".{key}", inner, value.get(key)) for key, inner in option.get("options", {}).items())


def _shape_problem(option: Mapping[str, Any], value: object) -> tuple[str, str] | None:
    """Return where, in a value or within it, a role takes a list or a mapping and gets one text or number, and which.

    Ansible makes a list of a text, which templates do not, and fails over a number in place of a mapping. Values are
    not repeated unless all that are right are documented.
    """
    kind, given = option.get("type", "str"), "a text" if isinstance(value, str) else "a number"
    if isinstance(value, bool):
        given = "true or false"
    if kind == "list" and isinstance(value, str | int | float):
        if isinstance(value, str) and option.get("choices"):
            return "", f"is the text {value!r}, and has to be a list: [{value}]"
        return "", f"is {given}, and has to be a list: in YAML each item in a line of its own, after a hyphen"
    if kind == "dict" and isinstance(value, str | int | float | list | tuple):
        given = "a list" if isinstance(value, list | tuple) else given
        return "", f"is {given}, and has to be a mapping: in YAML `name: value` lines"
    for path, inner, item in _items(option, value):
        if found := _shape_problem(inner, item):
            return path + found[0], found[1]
    return None


def _text_problem(option: Mapping[str, Any], value: object) -> str | None:
    """Return what is a text, in a value or within it, where a role takes a number, true or false."""
    kind = option.get("type", "str")
    if kind in NO_TEXTS and isinstance(value, str):
        return (
            f"{value!r} is a text; right is {NO_TEXTS[kind]}: no quotes in YAML, as Python writes it (True, 5) in INI"
        )
    return next((found for _, inner, item in _items(option, value) if (found := _text_problem(inner, item))), None)


def _wrong(name: str, option: Mapping[str, Any], value: object, inventory: Inventory) -> tuple[str, str | None]:
    """Return where within a variable its value is wrong, and what is."""
    either = name in EITHER and isinstance(value, str)
    if not either and (shape := _shape_problem(option, value)):
        return shape
    found = inventory.validate(name, option, value) or _text_problem(option, value)
    return "", "does not fit what is documented of it" if found and _is_secret(option) else found


def variable_problems(
    inventory: Inventory, hosts: Iterable[str], others: Iterable[str] = CHECKED_ELSEWHERE
) -> list[Problem]:
    """Check the inventory's variables against what roles document: names that are nearly right, and wrong values.

    Args:
        inventory: What the operator wrote down.
        hosts: The hosts whose variables are checked.
        others: Variables that are known and checked elsewhere.
    """
    options = inventory.options
    checked_elsewhere = frozenset(others)
    known = [*options, *checked_elsewhere]
    problems: list[Problem] = []
    seen: list[tuple[str, Any]] = []
    for host in hosts:
        for name, value in inventory.raw[host].items():
            # Most variables are the same on all hosts: each value is looked at once.
            if name in checked_elsewhere or (name, value) in seen:
                continue
            if name in options:
                seen.append((name, value))
                if name == "pryv_secrets":
                    continue  # what is in it, a check of its own looks at
                try:
                    within, wrong = _wrong(name, options[name], inventory.value(host, name), inventory)
                except UnreadableError as error:
                    if options[name].get("type") not in ("list", "dict") or _is_secret(options[name]):
                        continue  # a template of something that only a run knows
                    within, wrong = "", f"cannot be read: {error}"
                if wrong:
                    remedy = _unmarked(str(_first(options[name].get("description", "see the role's README"))))
                    problems.append(make_error(f"{host}: {name}{within}", wrong, remedy))
            elif not name.startswith("ansible_") and (near := difflib.get_close_matches(name, known, 1, 0.85)):
                seen.append((name, value))
                problems.append(
                    make_error(f"{host}: {name}", "is no variable of this toolkit", f"did you mean {near[0]}?")
                )
    return problems


def _unmarked(text: str) -> str:
    """Return a description without Ansible's markup, such as C(code)."""
    return re.sub(r"\b[COVI]\(([^)]*)\)", r"\1", text)


def _first(description: object) -> object:
    return description[0] if isinstance(description, list) and description else description


def problems(inventory: Inventory) -> list[Problem]:
    """Check all hosts' variables."""
    return variable_problems(inventory, inventory.members("all"))
