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
KEYS = ["register_admin_key", "redis_password"]


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
    "text",
    [
        "pryv_secrets:\n  one: a\n  two: b\n",
        "x: 1\npryv_secrets:\n  # about one\n  one: 'a'  # beside\n\n  # about two\n  two: b\ny: |\n  one: a\n",
        "pryv_secrets: {one: a, two: b}\n",
        'pryv_secrets: {two: b, one: "a"}  # short\n',
        "pryv_secrets: {one: a}\npryv_retired_secrets:\n  other.key: c  # keep\n",
        "pryv_retired_secrets: {}\npryv_secrets:\n  one: a",
    ],
)
def test_replacing_and_dropping_change_nothing_else(text: str) -> None:
    before = yaml.safe_load(text)
    retired = {**(before.get("pryv_retired_secrets") or {}), "pryv_secrets.one": "a"}

    replaced, gone = plugin.change(text, "pryv_secrets", {"one": "A1"}, [], "pryv_retired_secrets")
    expected = {**before, "pryv_secrets": {**before["pryv_secrets"], "one": "A1"}, "pryv_retired_secrets": retired}
    assert yaml.safe_load(replaced) == expected
    assert list(yaml.safe_load(replaced)["pryv_secrets"]) == list(before["pryv_secrets"])
    assert gone == []

    dropped, gone = plugin.change(text, "pryv_secrets", {}, ["one", "nothing"], "pryv_retired_secrets")
    after = yaml.safe_load(dropped)
    del expected["pryv_secrets"]["one"]
    assert after == expected
    assert gone == ["one"]
    for comment in re.findall(r"# (?!beside).*", text):
        assert comment in dropped
        assert comment in replaced

    forgotten, _ = plugin.change(replaced, "pryv_retired_secrets", {}, list(retired), None)
    assert yaml.safe_load(forgotten)["pryv_retired_secrets"] == {}
    assert yaml.safe_load(forgotten)["pryv_secrets"]["one"] == "A1"


def test_a_secret_is_not_replaced_again_before_the_old_one_is_dropped() -> None:
    """Whoever shows the old one would be refused."""
    text, _ = plugin.change("pryv_secrets: {one: a}\n", "pryv_secrets", {"one": "b"}, [], "pryv_retired_secrets")
    with pytest.raises(ValueError, match=r"pryv_secrets\.one is being replaced already"):
        plugin.change(text, "pryv_secrets", {"one": "c"}, [], "pryv_retired_secrets")


@pytest.mark.parametrize("text", ["pryv_secrets: {two: b}\n", "", "pryv_secrets:\n"])
def test_what_is_not_there_cannot_be_replaced(text: str) -> None:
    with pytest.raises(ValueError, match=r"pryv_secrets\.one is not there"):
        plugin.change(text, "pryv_secrets", {"one": "A1"}, [], None)


def test_what_cannot_be_changed_safely_is_refused() -> None:
    """An anchor that other values refer to would be lost."""
    text = "pryv_secrets:\n  one: &a hush\nother: *a\n"
    for replaced, dropped in (({"one": "A1"}, []), ({}, ["one"])):
        with pytest.raises(ValueError, match="cannot be changed") as error:
            plugin.change(text, "pryv_secrets", replaced, dropped, None)
        assert "hush" not in str(error.value)


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


PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")


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
            # Not the project's inventory, which may have a vault of its own by now.
            [PLAYBOOK, self.folder / "play.yml", "--inventory", "localhost,", "-vvv", *given, *options],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
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
    assert "pryv_secrets.register_admin_key" in result.stdout
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


# -- the playbook ----------------------------------------------------------------------------------------------


class Playbook:
    """Runs playbooks/secrets.yml on an inventory of two cores."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "group_vars/all").mkdir(parents=True)
        (folder / "hosts.yml").write_text("core: {hosts: {co1: {}, co2: {}}}\n")
        (folder / "password").write_text("correct\n")
        self.vault = folder / "group_vars/all/vault.yml"

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).parent / "ansible-playbook"
        return subprocess.run(
            [program, "playbooks/secrets.yml", "-i", self.folder, "-vvv", "--diff", *options],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_VAULT_PASSWORD_FILE": str(self.folder / "password")},
            capture_output=True,
            text=True,
            check=False,
        )

    def read(self) -> dict[str, dict[str, str]]:
        read: dict[str, dict[str, str]] = yaml.safe_load(vault_lib.decrypt(self.vault.read_bytes()))
        return read


def test_a_vault_of_shared_keys_is_brought_over_and_a_key_rotated(tmp_path: Path) -> None:
    """What cores show is accepted throughout: the old key stays until it is dropped, and no value is said."""
    playbook = Playbook(tmp_path)
    old = {name: name.title().replace("_", "") * 2 for name in ("core_system_key", "register_system_key", "mail_key")}
    playbook.vault.write_bytes(vault_lib.encrypt(yaml.safe_dump({"pryv_secrets": old}), secret))
    runs = [playbook.run()]
    assert runs[0].returncode == 0, output(runs[0])
    first = playbook.read()
    assert first["pryv_retired_secrets"] == {
        f"pryv_secrets.{name}": old[name] for name in ("core_system_key", "register_system_key")
    }
    assert first["pryv_secrets"]["mail_key"] == old["mail_key"]
    assert "core_system_key" not in first["pryv_secrets"]
    assert list(first["pryv_core_admin_keys"]) == list(first["pryv_core_register_keys"]) == ["co1", "co2"]

    runs.append(playbook.run())
    assert "changed=0" in runs[-1].stdout
    assert playbook.read() == first

    runs.append(playbook.run("-e", "secrets_drop_retired=true", "-e", "secrets_rotate=pryv_core_register_keys.co1"))
    assert runs[-1].returncode == 0, output(runs[-1])
    second = playbook.read()
    assert second["pryv_retired_secrets"] == {"pryv_core_register_keys.co1": first["pryv_core_register_keys"]["co1"]}
    assert second["pryv_core_register_keys"]["co1"] != first["pryv_core_register_keys"]["co1"]
    assert second["pryv_core_register_keys"]["co2"] == first["pryv_core_register_keys"]["co2"]

    runs.append(playbook.run("-e", "secrets_rotate=pryv_secrets.mail_key"))
    third = playbook.read()
    assert third["pryv_secrets"]["mail_key"] != old["mail_key"]
    assert third["pryv_retired_secrets"] == second["pryv_retired_secrets"]

    refused = playbook.run("-e", "secrets_rotate=pryv_core_admin_keys.co9")
    assert refused.returncode != 0
    assert "secrets_rotate is pryv_core_admin_keys.co9: give one of pryv_secrets.register_admin_key" in output(refused)
    assert playbook.read() == third

    values = {value for vault in (first, second, third) for keys in vault.values() for value in keys.values()}
    assert not [value for value in values for run in runs if value in output(run)]
