"""Adds the random secrets that an inventory's vault lacks; everything happens on the controller, in memory."""

from __future__ import annotations

import os
import secrets
import string
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible import constants
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret, match_encrypt_secret
from ansible.plugins.action import ActionBase

# Letters and digits need no quoting in JSON, YAML, URLs, HTTP headers and Redis' configuration alike.
ALPHABET = string.ascii_letters + string.digits
HEADER = "---\n# Made by playbooks/secrets.yml; change it with `ansible-vault edit`.\n"


def random_secret(length: int) -> str:
    """Return a random secret.

    Args:
        length: Its length in characters, of 5.95 bits each.
    """
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def missing_keys(text: str, variable: str, keys: Sequence[str]) -> list[str]:
    """Return which keys a vault's variable lacks.

    Args:
        text: The vault's YAML.
        variable: The name of a mapping in it.
        keys: What the mapping should have.

    Raises:
        ValueError: when the text is no mapping of variables, or a key is there without a usable value.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        # Not the error's own text, which quotes lines of the vault.
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise ValueError(f"it holds no valid YAML{where}: mend it with ansible-vault edit") from None
    if data is None:
        return list(keys)
    if not isinstance(data, Mapping):
        raise ValueError("it holds no variables: write `name: value` lines with ansible-vault edit")
    present = data.get(variable)
    if present is None:
        return list(keys)
    if not isinstance(present, Mapping):
        raise ValueError(f"{variable} is not a mapping of names to secrets: mend it with ansible-vault edit")
    unusable = [key for key in keys if key in present and not (isinstance(present[key], str) and present[key])]
    if unusable:
        paths = ", ".join(f"{variable}.{key}" for key in unusable)
        raise ValueError(
            f"{paths} has no text as its value: put the value there, or take the line out to have it made, "
            "with ansible-vault edit"
        )
    return [key for key in keys if key not in present]


def add_secrets(text: str, variable: str, values: Mapping[str, str]) -> str:
    """Return a vault's YAML with secrets added and everything else, comments too, as it was.

    Args:
        text: The vault's YAML, which `missing_keys` has accepted.
        variable: The name of the mapping to add to.
        values: What to add.

    Raises:
        ValueError: when the vault is written in a way that nothing can be added to safely.
    """
    lines = [f'{key}: "{value}"' for key, value in values.items()]
    root = yaml.compose(text)
    node = None
    if isinstance(root, yaml.MappingNode):
        node = next((value for key, value in root.value if key.value == variable), None)
    block = "".join(f"  {line}\n" for line in lines)
    if node is None:
        start = text if text.strip() else HEADER
        added = f"{start.rstrip()}\n{variable}:\n{block}"
    elif isinstance(node, yaml.MappingNode) and node.flow_style:
        at = node.start_mark.index + 1
        added = text[:at] + ", ".join(lines) + (", " if node.value else "") + text[at:]
    elif isinstance(node, yaml.MappingNode):
        at = text.rindex("\n", 0, node.start_mark.index) + 1
        indent = " " * node.start_mark.column
        added = text[:at] + "".join(f"{indent}{line}\n" for line in lines) + text[at:]
    else:
        added = f"{text[: node.start_mark.index].rstrip()}\n{block.rstrip()}{text[node.end_mark.index :]}"

    try:
        before, after = yaml.safe_load(text) or {}, yaml.safe_load(added)
    except yaml.YAMLError:
        before = after = None
    if before is None or after != {**before, variable: {**(before.get(variable) or {}), **values}}:
        raise ValueError(
            f"{variable} is written in a way that nothing can be added to: "
            "write it as one `name: value` line each, with ansible-vault edit"
        )
    return added


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file, readable by its owner alone; a reader sees the old content or the new, never a part.

    Raises:
        OSError: when its folder is not there or cannot be written to.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class ActionModule(ActionBase):  # type: ignore[misc]
    """Completes a vault; documented in the module of the same name."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Add what is missing and say what was added, never its values."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "path": {"type": "path", "required": True},
                "variable": {"type": "str", "required": True},
                "keys": {"type": "list", "elements": "str", "required": True, "no_log": False},
                "length": {"type": "int", "default": 43},
            }
        )
        path = Path(os.path.realpath(arguments["path"]))
        variable, keys = arguments["variable"], arguments["keys"]
        vault: VaultLib = self._loader._vault
        if not vault.secrets:
            raise AnsibleActionFail(
                f"no vault password is given, and {path} is never written without: add --ask-vault-pass or "
                "--vault-password-file FILE"
            )
        text, vault_id, secret = self._read(vault, path)
        try:
            missing = missing_keys(text, variable, keys)
            values = {key: random_secret(arguments["length"]) for key in missing}
            added = add_secrets(text, variable, values) if missing else text
        except ValueError as error:
            raise AnsibleActionFail(f"{path}: {error}") from None
        result.update(changed=bool(missing), path=str(path), created=[f"{variable}.{key}" for key in missing])
        if missing and self._task.diff:
            names = "".join(f"{name}: (a new secret)\n" for name in result["created"])
            result["diff"] = {"before": "", "after": names, "before_header": str(path), "after_header": str(path)}
        if missing and not self._task.check_mode:
            try:
                write_atomically(path, vault.encrypt(added, secret, vault_id=vault_id))
            except OSError as error:
                raise AnsibleActionFail(f"{path} cannot be written: {error.strerror}") from error
        return result

    @staticmethod
    def _read(vault: VaultLib, path: Path) -> tuple[str, str | None, VaultSecret]:
        """Return the vault's YAML, and the identity and secret to encrypt it with.

        Raises:
            AnsibleActionFail: when it is not encrypted, or not with the given secret.
        """
        if not path.exists():
            try:
                identity, secret = match_encrypt_secret(vault.secrets, constants.DEFAULT_VAULT_ENCRYPT_IDENTITY)
            except AnsibleError as error:
                raise AnsibleActionFail(f"{path}: {error}") from error
            # As ansible-vault does: the default identity is not named in the file.
            return "", None if identity == constants.DEFAULT_VAULT_IDENTITY else identity, secret
        content = path.read_bytes()
        if not VaultLib.is_encrypted(content):
            raise AnsibleActionFail(
                f"{path} is not encrypted: run `ansible-vault encrypt {path}` first; its secrets have been readable"
            )
        try:
            plain, identity, secret = vault.decrypt_and_get_vault_id(content)
        except AnsibleError as error:
            raise AnsibleActionFail(f"{path} does not open with the vault password that is given") from error
        return plain.decode(), None if identity == constants.DEFAULT_VAULT_IDENTITY else identity, secret
