"""What `ansible-doc` shows of this toolkit's plugins, beside what the plugins are."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

CHECKOUT = Path(__file__).resolve().parents[2]
ANSIBLE_DOC = Path(sys.executable).with_name("ansible-doc")
FILTERS = CHECKOUT / "filter_plugins"
DOCUMENTED = sorted(path.stem for path in FILTERS.glob("*.yml"))


def plugins(kind: str) -> list[str]:
    return sorted(path.stem for path in (CHECKOUT / "plugins" / kind).glob("*.py"))


def shown(kind: str, names: list[str]) -> dict[str, Any]:
    """What `ansible-doc` says of plugins; it fails when it knows nothing of one."""
    done = subprocess.run(
        [ANSIBLE_DOC, "--type", kind, "--json", *names],
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert sorted(found) == names, done.stderr
    return found


@cache
def filters() -> dict[str, Callable[..., Any]]:
    """All filters of the toolkit by name."""
    found: dict[str, Callable[..., Any]] = {}
    for path in sorted(FILTERS.glob("*.py")):
        specification = importlib.util.spec_from_file_location(f"filters_of_{path.stem}", path)
        assert specification
        assert specification.loader
        module = importlib.util.module_from_spec(specification)
        sys.modules[specification.name] = module  # dataclasses look for it there
        specification.loader.exec_module(module)
        found |= module.FilterModule().filters()
    return found


def test_every_filter_is_documented() -> None:
    assert sorted(filters()) == DOCUMENTED


def test_no_filter_bears_the_name_of_a_variable() -> None:
    """`keys | keys` says nothing, and who searches finds both."""
    tops = ("inventories", "playbooks", "roles", "scripts")
    texts = [path.read_text() for top in tops for path in (CHECKOUT / top).rglob("*.yml")]
    names = {name for text in texts for name in re.findall(r"^[ #-]*(?:register: )?([a-z]\w+)(?:: |:$|$)", text, re.M)}
    assert {"topology", "verify_services", "docker_networks", "pryv_domain"} <= names
    assert names & set(filters()) == set()


def test_ansible_doc_shows_what_filters_do() -> None:
    for name, entry in shown("filter", DOCUMENTED).items():
        # Without a description, ansible-doc shows nothing but to programs.
        assert entry["doc"]["description"], name
        assert entry["return"]["_value"]["description"], name


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_filter_takes_what_its_documentation_says(name: str) -> None:
    """In name and order, and with what may be left out."""
    written = yaml.safe_load((FILTERS / f"{name}.yml").read_text())["DOCUMENTATION"]
    assert name in filters(), "the documentation of no filter"
    _, *parameters = inspect.signature(filters()[name]).parameters.values()
    options = {option: entry.get("required", False) for option, entry in written.get("options", {}).items()}
    assert written["name"] == name
    assert options.pop("_input") is True
    assert options == {each.name: each.default is each.empty for each in parameters}
    positional = [word.strip() for word in written.get("positional", "").split(",") if word]
    assert positional == [each.name for each in parameters if each.kind is not each.KEYWORD_ONLY]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_example_of_a_filter_is_tasks_that_use_it(name: str) -> None:
    tasks = yaml.safe_load(yaml.safe_load((FILTERS / f"{name}.yml").read_text())["EXAMPLES"])
    assert all("name" in task and len(task) == 2 for task in tasks)
    assert f"| {name}" in str(tasks)


def test_the_examples_of_filters_run(tmp_path: Path) -> None:
    """With `inventories/poc`, the keys of a vault, and what else they name."""
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id_ed25519.pub").write_bytes(line)
    (tmp_path / "backups/luks").mkdir(parents=True)
    sealed = VaultLib([("default", VaultSecret(b"K" * 43))]).encrypt("a header")
    (tmp_path / "backups/luks/co1.vault").write_bytes(sealed)
    (tmp_path / "docs").symlink_to(CHECKOUT / "docs")
    given = {
        "topology": "{{ groups | platform_topology(hostvars) }}",
        "plan": "{{ privacy_zones | capacity_plan }}",
        "forecast": "{{ privacy_zones | capacity_forecast('2027-01') }}",
        "raw": {},
        "audit_bars": [],
        "pryv_secrets": {"register_admin_key": "A" * 43},
        "pryv_core_register_keys": {"co1": "C" * 43},
        "data_disk_recovery_keys": {"co1": "K" * 43},
    }
    tasks = [
        task
        for name in DOCUMENTED
        for task in yaml.safe_load(yaml.safe_load((FILTERS / f"{name}.yml").read_text())["EXAMPLES"])
    ]
    # What only shows something is shown by one task, which takes less time.
    messages = [task["ansible.builtin.debug"]["msg"] for task in tasks if "ansible.builtin.debug" in task]
    tasks = [task for task in tasks if "ansible.builtin.debug" not in task] + [
        {"ansible.builtin.debug": {"msg": messages}}
    ]
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": given, "tasks": tasks}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        [ANSIBLE_DOC.with_name("ansible-playbook"), "-i", CHECKOUT / "inventories/poc", "-v", "play.yml"],
        cwd=tmp_path,
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"ok={len(tasks)} .*failed=0", done.stdout), done.stdout


@pytest.mark.parametrize("kind", ["module", "lookup"])
def test_ansible_doc_shows_what_modules_and_lookups_do(kind: str) -> None:
    for name, entry in shown(kind, plugins({"module": "modules"}.get(kind, kind))).items():
        assert entry["doc"]["short_description"], name
        assert name in entry["examples"], name
        assert entry["return"], name


@pytest.mark.parametrize("kind", ["callback", "vars"])
def test_ansible_doc_shows_what_other_plugins_do(kind: str) -> None:
    for name, entry in shown(kind, plugins(kind)).items():
        assert entry["doc"]["short_description"], name


def test_an_action_is_documented_with_its_module() -> None:
    assert set(plugins("action")) <= set(plugins("modules"))
