"""Commands of docs/operations that handle secrets do what the text says."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from plugins.action.vault_secrets import add_secrets

OPERATIONS = Path(__file__).parents[2] / "docs/operations"
KEYS = {"mail_key": "M" * 43, "register_admin_key": "A" * 43}
COMMANDS = [
    command
    for document in ("drain-a-core.md", "remove-a-core.md", "remove-a-user.md")
    for command in re.findall(r"^ +ansible-vault view .*\n.*\n.*$", (OPERATIONS / document).read_text(), re.MULTILINE)
]


def stand_in(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_all_that_ask_the_registry_are_found() -> None:
    assert len(COMMANDS) == 4


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("quote", ['"', ""])
def test_a_key_goes_from_the_vault_to_curl_and_is_no_argument(command: str, quote: str, tmp_path: Path) -> None:
    (tmp_path / "vault.yml").write_text(add_secrets("", "pryv_secrets", KEYS).replace('"', quote))
    stand_in(tmp_path / "ansible-vault", f"cat {tmp_path}/vault.yml")
    stand_in(tmp_path / "curl", 'echo "$@"; cat')
    done = subprocess.run(
        ["sh", "-c", re.sub(r"<(\w+)>", r"\1", command)],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    arguments, *headers = done.stdout.splitlines()
    assert arguments.startswith("--header @- ")
    assert headers == [f"Authorization: {KEYS['register_admin_key']}"]
