"""What YAML reads otherwise than people write it, found in the text of an inventory's files.

Ansible's YAML is version 1.1: 025000 is 10752 there, 25:00 is 1500, and Norway's zone `no` is false. Once a variable
has its value, nobody can see what was written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from ansible import context
from ansible.parsing.vault import is_encrypted
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = r"""
name: yaml_problems
short_description: What YAML reads otherwise than people write it
description:
  - Looks into the text of YAML files for numbers that YAML 1.1 reads otherwise than people do, for figures below
    C(privacy_zones) such as 25.000, which are thousands in some countries, for words that it takes
    for true or false where a name stands, and for keys that are there twice, of which the last one would win.
  - Encrypted files are looked at when the run has the vault's password, and no value of theirs is shown. What is no
    YAML is passed over, and refused by Ansible itself.
options:
  _terms:
    description:
      - Inventories, of which all YAML files that Ansible reads are looked at, beside the files that were given for this
        run with C(-e @FILE). What is not there is passed over.
    required: true
"""

EXAMPLES = r"""
- name: Refuse an inventory that says something else than it seems to
  ansible.builtin.assert:
    that: query('yaml_problems', *ansible_inventory_sources) == []
"""

RETURN = r"""
_raw:
  description: What is wrong, each with C(severity), C(where), C(problem) and C(remedy).
  type: list
  elements: dict
"""

Problem = dict[str, str]
Keys = tuple[str, ...]

SUFFIXES = (".yml", ".yaml")
VARIABLES = ("group_vars", "host_vars")
INTEGER, FLOAT, BOOLEAN, NULL = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null"))
# In one country 25, in another 25000; see pryv_platform/capacity/worksheet.py, which asks the same of a worksheet.
THOUSANDS = re.compile(r"[-+]?[1-9][0-9]{0,2}\.[0-9]{3}")
# Grouped as people do it; YAML ignores every underscore.
UNDERSCORES = re.compile(r"[-+]?[1-9][0-9]{0,2}(_[0-9]{3})+(\.[0-9]*)?")


def _problem(where: str, problem: str, remedy: str) -> Problem:
    return {"severity": "error", "where": where, "problem": problem, "remedy": remedy}


def _misread(node: yaml.ScalarNode, *, is_name: bool, is_planned: bool = False) -> tuple[str, str] | None:
    """Return what is wrong with a scalar, and what would be right.

    Args:
        node: a scalar as it is written.
        is_name: whether it stands where a name is expected: as a key, or in a list.
        is_planned: whether it is one of the capacity plan's figures, which people copy as they write them.
    """
    written = node.value
    if node.style is not None:
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
                yield _problem(_place(name, path, node), *found)
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
                yield _problem(_place(name, own, key), *found)
            other = first.setdefault((key.tag, key.value), key)
            if other is not key and key.tag != "tag:yaml.org,2002:merge":
                lines = f"{_line(other)} and {_line(key)}"
                yield _problem(
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
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return []
    return list(_walk(node, (), name)) if node else []


def yaml_files(source: Path) -> Iterable[Path]:
    """Return the YAML files that Ansible reads of an inventory.

    Args:
        source: the inventory, a folder or a file; what is no file is none, such as a list of hosts.
    """
    if source.is_file():
        own, folder = [source], source.parent
    elif source.is_dir():
        own, folder = sorted(source.iterdir()), source
    else:
        return
    variables = (path for name in VARIABLES for path in sorted((folder / name).rglob("*")))
    for path in [*own, *variables]:
        # In folders for variables a name without an ending is YAML; an inventory's may be INI.
        is_variables = path.relative_to(folder).parts[0] in VARIABLES
        if path.is_file() and (path.suffix in SUFFIXES or (is_variables and not path.suffix)):
            yield path


class LookupModule(LookupBase):  # type: ignore[misc]  # Ansible ships no types
    """Reads the files and has them looked at."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Problem]:
        """Return what is wrong with all files together."""
        self.set_options(var_options=variables, direct=kwargs)
        # What is given for one run (-e @FILE) is read like an inventory's variables.
        given = [extra[1:] for extra in context.CLIARGS.get("extra_vars", ()) if extra.startswith("@")]
        sources = [Path(term).expanduser().resolve() for term in terms]
        found = [file for source in sources for file in yaml_files(source)]
        files = dict.fromkeys([*found, *(Path(file).expanduser().resolve() for file in given)])
        return [problem for file in files for problem in self._problems(file)]

    def _problems(self, file: Path) -> list[Problem]:
        content = file.read_bytes()
        if not is_encrypted(content):
            return yaml_problems(content.decode("utf-8", "replace"), os.path.relpath(file))
        vault = self._loader._vault if self._loader else None
        if not (vault and vault.secrets):
            return []
        text = vault.decrypt(content).decode("utf-8", "replace")
        secret = {"problem": "YAML does not read what is written", "remedy": "write the value in quotes"}
        return [
            problem if "lines" in problem["where"].partition(":")[0] else {**problem, **secret}
            for problem in yaml_problems(text, os.path.relpath(file))
        ]
