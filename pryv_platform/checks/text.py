"""What YAML reads otherwise than people write it, found in the text of a file.

Ansible's YAML is version 1.1: 025000 is 10752 there, 25:00 is 1500, and Norway's zone `no` is false. Once a variable
has its value, nobody can see what was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from pryv_platform.problems import Problem, make_error

Keys = tuple[str, ...]

INTEGER, FLOAT, BOOLEAN, NULL = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null"))
# In one country 25, in another 25000; see pryv_platform/capacity/worksheet.py, which asks the same of a worksheet.
THOUSANDS = re.compile(r"[-+]?[1-9][0-9]{0,2}\.[0-9]{3}")
# Grouped as people do it; YAML ignores every underscore.
UNDERSCORES = re.compile(r"[-+]?[1-9][0-9]{0,2}(_[0-9]{3})+(\.[0-9]*)?")


def _misread(node: yaml.ScalarNode, *, is_name: bool, is_planned: bool = False) -> tuple[str, str] | None:
    """Return what is wrong with a scalar, and what would be right.

    Args:
        node: a scalar as it is written.
        is_name: whether it stands where a name is expected: as a key, or in a list.
        is_planned: whether it is one of the capacity plan's figures, which people copy as they write them.
    """
    written = node.value
    if node.style:
        return None  # in quotes, or a block: a text
    if node.tag in (INTEGER, FLOAT):
        means = yaml.safe_load(written)
        if ":" in written:
            return f"{written} is read as {means} (base 60)", f"write the number with digits alone, or '{written}'"
        if re.fullmatch(r"[-+]?0[0-7_]+", written):
            right = re.sub("^([-+]?)0+", r"\1", written.replace("_", "")) or "0"
            return f"{written} is read as {means} (octal)", f"write {right}, or '{written}' if it is a text"
        if "_" in written and not UNDERSCORES.fullmatch(written) and not re.match("[-+]?0[bx]", written):
            return f"{written} is read as {means}", f"write {means}, or '{written}' if it is a text"
        if is_planned and THOUSANDS.fullmatch(written):
            low, high = written.rstrip("0").rstrip("."), written.replace(".", "")
            low += "0" * (low == written)  # three decimals could be taken for thousands
            return f"{written} can be read as {low} and as {high}", f"right is {high} or {low}, as it is meant"
    if is_name and node.tag in (BOOLEAN, NULL) and written.lower() not in ("true", "false", ""):
        return f"{written} is read as {yaml.safe_load(written)}", f"write '{written}', in quotes"
    return None


def _walk(node: yaml.Node, path: Keys, name: str) -> Iterator[Problem]:
    """Yield what is wrong within a node."""
    match node:
        case yaml.ScalarNode():
            is_name = bool(path) and path[-1].startswith("[")
            if found := _misread(node, is_name=is_name, is_planned="privacy_zones" in path):
                yield make_error(_place(name, path, node), *found)
        case yaml.SequenceNode():
            for index, item in enumerate(node.value):
                yield from _walk(item, (*path, f"[{index}]"), name)
        case yaml.MappingNode():
            yield from _walk_mapping(node, path, name)


def _walk_mapping(node: yaml.MappingNode, path: Keys, name: str) -> Iterator[Problem]:
    first: dict[tuple[str, str], yaml.Node] = {}
    for key, value in node.value:
        own = (*path, str(key.value) if isinstance(key, yaml.ScalarNode) else "?")
        if isinstance(key, yaml.ScalarNode):
            if found := _misread(key, is_name=True):
                yield make_error(_place(name, own, key), *found)
            other = first.setdefault((key.tag, key.value), key)
            if other is not key and key.tag != "tag:yaml.org,2002:merge":
                lines = f"{_line(other)} and {_line(key)}"
                yield make_error(
                    f"{name}, lines {lines}: {_dotted(own)}", "is there twice", "leave one; the last one would win"
                )
        yield from _walk(value, own, name)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _dotted(path: Keys) -> str:
    return ".".join(path).replace(".[", "[")


def _place(name: str, path: Keys, node: yaml.Node) -> str:
    return f"{name}, line {_line(node)}: {_dotted(path)}"


def yaml_problems(text: str, name: str) -> list[Problem]:
    """Find what YAML 1.1 reads otherwise than it is written.

    Args:
        text: what is in the file.
        name: what to call it.

    Returns:
        What is wrong; nothing for what is no YAML.
    """
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        return []
    return list(_walk(node, (), name)) if node else []
