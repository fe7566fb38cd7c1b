"""Ports of services, names under the domain and paths on hosts are said in one place each."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pryv_platform.ports import PORTS
from pryv_platform.topology.names import NAMES

ROOT = Path(__file__).parents[2]
CODE = ("filter_plugins", "playbooks", "plugins", "pryv_platform", "roles", "scripts", "site.yml")
#: What Ansible shows of a plugin: its examples are of a platform as it is.
SHOWN = {"DOCUMENTATION", "EXAMPLES", "RETURN"}
KEYFILE = {"roles/data_disk/defaults/main.yml", "plugins/modules/data_disk.py"}
#: Numbers that are no port of a service.
OTHERS = re.compile(r"https_connections: 4000|5353: _DNS|default\W+\[53, .*\]")


def python(text: str) -> Iterator[str]:
    """Yields the lines of Python's code, without what only people read."""
    tree = ast.parse(text)
    prose = {
        number
        for node in ast.walk(tree)
        if (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in SHOWN)
        for number in range(node.lineno, (node.end_lineno or 0) + 1)
    }
    for number, line in enumerate(text.splitlines(), 1):
        if number not in prose:
            yield line.split("  # ")[0]


def is_read_by_people_alone(path: Path) -> bool:
    return path.suffix in {".md", ".pyc"} or path.name in {"argument_specs.yml", "deviations.yml"}


@functools.cache
def lines() -> list[tuple[str, str]]:
    """Every line of code with its place; what documents variables and plugins is none."""
    paths = [path for top in CODE for path in [ROOT / top, *sorted((ROOT / top).rglob("*"))]]
    return [
        (str(path.relative_to(ROOT)), line)
        for path in paths
        if path.is_file() and path.parent.name != "filter_plugins" and not is_read_by_people_alone(path)
        for line in (python if path.suffix == ".py" else str.splitlines)(path.read_text())
        if not line.lstrip().startswith(("#", "{#"))
    ]


def places(pattern: str) -> set[str]:
    return {place for place, line in lines() if re.search(pattern, OTHERS.sub("", line))}


@pytest.mark.parametrize("port", sorted(set(PORTS.values())))
def test_a_port_is_said_once(port: int) -> None:
    assert places(rf"(?<![\w.-]){port}(?![\w.%])") == {"pryv_platform/ports.py"}


#: Where a path may be said besides role pryv's variables: by what runs without these, and the defaults of a role's own.
PATHS = {
    "/etc/pryv": {"roles/pryv/vars/main.yml", "plugins/modules/machine_survey.py", *KEYFILE},
    "/etc/pryv/tls": {"roles/pryv/vars/main.yml"},
    "/etc/pryv/data_disk/key": KEYFILE,
    "/var/log/pryv": {"roles/pryv/vars/main.yml"},
    "/srv/pryv": {"roles/pryv/defaults/main.yml", "roles/preflight/tasks/survey.yml"},
    "br-shut": {"roles/pryv/vars/main.yml"},
    r"\b9999\b": {"roles/pryv/vars/main.yml"},
}


@pytest.mark.parametrize(("path", "where"), PATHS.items())
def test_a_path_on_hosts_is_said_once(path: str, where: set[str]) -> None:
    # A program that a role puts on hosts has to know, by itself, where its configuration is.
    assert {place for place in places(path) if not (place.startswith("roles/") and place.endswith(".py"))} == where


def test_trees_have_the_paths_that_are_said() -> None:
    """A folder's name cannot be a variable."""
    said = yaml.safe_load((ROOT / "roles/pryv/vars/main.yml").read_text())["pryv_paths"]
    tree = ROOT / "roles/certificate/templates/root"
    made = {f"/{path.relative_to(tree).with_suffix('')}" for path in tree.rglob("*.j2")}
    assert made == {said["certificate"], said["certificate_key"], said["authority"]}
    for role in ("core", "mail", "registry", "web"):
        assert (ROOT / f"roles/{role}/templates/root{said['configuration']}/{role}/compose.yml.j2").is_file()


@pytest.mark.parametrize("name", sorted(NAMES.values()))
def test_a_name_under_the_domain_is_said_once(name: str) -> None:
    """Neither in front of the domain, nor for itself in quotes where a name of the platform is meant."""
    assert places(rf"""(?<![\w-]){name}\.(\{{|DOMAIN|['"] ~)""") == set()
