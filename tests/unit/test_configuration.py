"""What ansible.cfg promises to those who keep an inventory, and to those who wait for a run."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
INVENTORY = Path(sys.executable).with_name("ansible-inventory")
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")


@pytest.mark.parametrize(
    "kept",
    ["certificate/bundle.pem", "certificate/key", "root.crt", "platform.p12", "ca/ca.pem", "backups/luks/co1.vault"],
)
def test_what_lies_beside_the_hosts_is_no_inventory(kept: str, tmp_path: Path) -> None:
    """Read as one it would give warnings that quote it, keys among it."""
    (tmp_path / "hosts.yml").write_text("core: {hosts: {co1: {}}}\n")
    (tmp_path / kept).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / kept).write_text("-----BEGIN EC PRIVATE KEY-----\nsecret\n")
    done = subprocess.run(
        [INVENTORY, "--inventory", tmp_path, "--graph"],
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "WARNING" not in done.stderr
    assert "co1" in done.stdout


@pytest.mark.parametrize("callbacks", ["", "ansible.posix.profile_tasks"])
def test_a_filter_is_loaded_once_a_run(callbacks: str, tmp_path: Path) -> None:
    """Whatever callbacks an operator enables; each task runs in a process of its own, and would load it anew."""
    loaded = tmp_path / "loaded"
    (tmp_path / "filters").mkdir()
    (tmp_path / "filters" / "shout.py").write_text(
        f"open({str(loaded)!r}, 'a').write('once\\n')\n"
        "class FilterModule:\n"
        "    def filters(self):\n"
        "        return {'shout': str.upper}\n"
    )
    (tmp_path / "play.yml").write_text(
        yaml.safe_dump(
            [
                {
                    "hosts": "one:two",
                    "gather_facts": False,
                    "tasks": [{"ansible.builtin.debug": {"msg": f"{{{{ 'said {time}' | shout }}}}"}} for time in "123"],
                }
            ]
        )
    )
    configuration = {
        "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
        "ANSIBLE_FILTER_PLUGINS": str(tmp_path / "filters"),
    }
    if callbacks:
        configuration["ANSIBLE_CALLBACKS_ENABLED"] = callbacks
    done = subprocess.run(
        [PLAYBOOK, "--inventory", "one,two", tmp_path / "play.yml"],
        env={**os.environ, **configuration},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("SAID 3") == 2
    assert loaded.read_text() == "once\n"


def test_no_function_is_longer_than_a_page() -> None:
    """60 lines; what branches too much, or does too much, ruff finds."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    files = listed.stdout.splitlines()
    assert "tests/unit/test_configuration.py" in files
    functions = [
        (f"{file}:{node.lineno} {node.name}", (node.end_lineno or 0) - node.lineno + 1)
        for file in files
        if (CHECKOUT / file).exists()
        for node in ast.walk(ast.parse((CHECKOUT / file).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert [(name, lines) for name, lines in functions if lines > 60] == []
