"""The vault is completed: nothing that is there changes, nothing is ever readable."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from plugins.action import vault_secrets as plugin

ROOT = Path(__file__).parents[2]
KEYS = ["core_system_key", "redis_password"]


secret = VaultSecret(b"correct")
vault_lib = VaultLib([("default", secret)])


# -- the text of a vault ---------------------------------------------------------------------------------------


def test_secrets_are_random_and_need_no_quoting() -> None:
    made = {plugin.random_secret(43) for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9]{43}", one) for one in made)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "---\n",
        "---\n# nothing yet\n",
        "other: 1",
        "---\nother: {a: [1, 2]}  # keep\n",
        "pryv_secrets:\n",
        "pryv_secrets:  # to come\nother: 1\n",
        "pryv_secrets: null\nother: 1\n",
        "pryv_secrets: {}\n",
        "a: 1\npryv_secrets: {mail_key: x}\nb: 2\n",
        "# head\npryv_secrets:\n    # about mail\n    mail_key: x  # beside\n    sso: y\nafter: |\n  text\n\n  two\n",
    ],
)
def test_adding_changes_nothing_else(text: str) -> None:
    before = yaml.safe_load(text) or {}
    added = plugin.add_secrets(text, "pryv_secrets", {"one": "A1", "two": "0123"})
    after = yaml.safe_load(added)
    assert after.pop("pryv_secrets") == {**(before.pop("pryv_secrets", None) or {}), "one": "A1", "two": "0123"}
    assert after == before
    for comment in re.findall(r"#.*", text):
        assert comment in added


def test_what_cannot_be_added_to_safely_is_refused() -> None:
    with pytest.raises(ValueError, match="one `name: value` line each"):
        plugin.add_secrets("{pryv_secrets: null, other: 1}", "pryv_secrets", {"one": "A1"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- list\n", "holds no variables"),
        ("pryv_secrets: [a]\n", "pryv_secrets is not a mapping"),
        ("pryv_secrets:\n  redis_password:\n", r"pryv_secrets\.redis_password has no text"),
        ("pryv_secrets:\n  redis_password: 12345\n", r"pryv_secrets\.redis_password has no text"),
        ("pryv_secrets:\n  redis_password: hush: hush\n", r"no valid YAML \(line 2\)"),
    ],
)
def test_a_vault_that_makes_no_sense_is_refused_without_quoting_it(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        plugin.missing_keys(text, "pryv_secrets", KEYS)
    assert "hush" not in str(error.value)
    assert "12345" not in str(error.value)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vault.yml"
    path.write_bytes(b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        plugin.write_atomically(path, b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("vault.yml", b"old")]


# -- the task --------------------------------------------------------------------------------------------------


def output(result: subprocess.CompletedProcess[str]) -> str:
    """Return all that was said, however its lines were wrapped."""
    return " ".join((result.stdout + result.stderr).split())


class Task:
    """Runs the task on a vault in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vault = folder / "vault" / "vault.yml"
        self.vault.parent.mkdir()
        (folder / "password").write_text("correct\n")
        task = {"name": "Complete the vault", "register": "made"}
        task |= {"vault_secrets": {"path": str(self.vault), "variable": "pryv_secrets", "keys": KEYS}}  # type: ignore[dict-item]
        show = {"name": "Show", "ansible.builtin.debug": {"var": "made"}}
        play = {"name": "Test", "hosts": "localhost", "gather_facts": False, "tasks": [task, show]}
        (folder / "play.yml").write_text(yaml.safe_dump([play]))

    def run(self, *options: str, password: bool = True) -> subprocess.CompletedProcess[str]:
        given = ["--vault-password-file", str(self.folder / "password")] if password else []
        return subprocess.run(
            [Path(sys.executable).parent / "ansible-playbook", self.folder / "play.yml", "-vvv", *given, *options],
            cwd=ROOT,
            # Not the project's inventory, which may have a vault of its own by now.
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_INVENTORY": "localhost,"},
            capture_output=True,
            text=True,
            check=False,
        )

    def write(self, text: str) -> bytes:
        self.vault.write_bytes(vault_lib.encrypt(text, secret))
        return self.vault.read_bytes()

    def read(self) -> str:
        return str(vault_lib.decrypt(self.vault.read_bytes()).decode())


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(tmp_path)


def test_new_vault_then_complete(task: Task) -> None:
    first = task.run("--diff")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "changed=1" in first.stdout
    assert "+pryv_secrets.redis_password: (a new secret)" in first.stdout
    made = yaml.safe_load(task.read())["pryv_secrets"]
    assert list(made) == KEYS
    assert task.vault.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in task.vault.parent.iterdir()] == ["vault.yml"]
    for value in made.values():
        assert value not in output(first)

    content = task.vault.read_bytes()
    second = task.run("--diff")
    assert "changed=0" in second.stdout
    assert task.vault.read_bytes() == content
    for value in made.values():
        assert value not in output(second)


def test_missing_keys_are_added_and_all_else_stays(task: Task) -> None:
    task.write("---\n# ours\npryv_secrets:\n  redis_password: kept-as-it-is\nsmtp_password: also kept  # why\n")
    result = task.run()
    assert "changed=1" in result.stdout
    text = task.read()
    assert "# ours\n" in text
    assert "smtp_password: also kept  # why\n" in text
    assert yaml.safe_load(text)["pryv_secrets"].pop("redis_password") == "kept-as-it-is"
    assert len(yaml.safe_load(text)["pryv_secrets"]) == len(KEYS)
    assert "kept" not in output(result)


def test_check_mode_says_what_would_be_made_and_writes_nothing(task: Task) -> None:
    result = task.run("--check", "--diff")
    assert "changed=1" in result.stdout
    assert "pryv_secrets.core_system_key" in result.stdout
    assert not list(task.vault.parent.iterdir())


def test_wrong_password(task: Task) -> None:
    content = task.write("pryv_secrets: {}\n")
    (task.folder / "password").write_text("wrong\n")
    result = task.run()
    assert result.returncode != 0
    assert f"{task.vault} does not open with the vault password that is given" in output(result)
    assert task.vault.read_bytes() == content


def test_no_password(task: Task) -> None:
    result = task.run(password=False)
    assert result.returncode != 0
    assert "no vault password is given" in output(result)
    assert "--ask-vault-pass" in output(result)
    assert not task.vault.exists()


def test_a_readable_file_is_refused(task: Task) -> None:
    task.vault.write_text("pryv_secrets:\n  redis_password: hush\n")
    result = task.run()
    assert result.returncode != 0
    assert f"run `ansible-vault encrypt {task.vault}` first" in output(result)
    assert "hush" not in output(result)
