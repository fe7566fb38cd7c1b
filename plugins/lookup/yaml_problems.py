"""What YAML reads otherwise than people write it, found in the text of an inventory's files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ansible import context
from ansible.parsing.vault import is_encrypted
from ansible.plugins.lookup import LookupBase

# As in filter_plugins/pryv.py: the package of this checkout.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from pryv_platform.checks.text import yaml_problems
from pryv_platform.problems import Problem, make_error

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

SUFFIXES = (".yml", ".yaml")
VARIABLES = ("group_vars", "host_vars")


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
        return [
            problem
            if "lines" in problem["where"].partition(":")[0]
            else make_error(problem["where"], "YAML does not read what is written", "write the value in quotes")
            for problem in yaml_problems(text, os.path.relpath(file))
        ]
