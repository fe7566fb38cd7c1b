"""Makes, replaces and drops secrets in an inventory's vault; everything happens on the controller, in memory."""

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


def _entry(mapping: yaml.Node | None, name: str) -> tuple[yaml.Node, yaml.Node]:
    """Return key and value of what is there in a mapping."""
    pairs: list[tuple[yaml.Node, yaml.Node]] = mapping.value if mapping else []
    return next(pair for pair in pairs if pair[0].value == name)


def _changed(text: str, changed: str, variable: str, secrets: Mapping[str, str]) -> str:
    """Return a changed vault, after a look whether nothing but one mapping is another.

    Raises:
        ValueError: when it is not so; the vault is written in a way that cannot be changed safely.
    """
    try:
        before, after = yaml.safe_load(text), yaml.safe_load(changed)
    except yaml.YAMLError:
        before = after = None
    if before is None or after != {**before, variable: secrets}:
        raise ValueError(
            f"{variable} is written in a way that cannot be changed: "
            "write it as one `name: value` line each, with ansible-vault edit"
        )
    return changed


def replace_secret(text: str, variable: str, name: str, value: str) -> str:
    """Return a vault's YAML with one secret replaced and everything else, comments too, as it was.

    Args:
        text: The vault's YAML.
        variable: The name of a mapping in it.
        name: The secret, which is there.
        value: The new one.

    Raises:
        ValueError: when the vault is written in a way that cannot be changed safely.
    """
    _, old = _entry(_entry(yaml.compose(text), variable)[1], name)
    changed = f'{text[: old.start_mark.index]}"{value}"{text[old.end_mark.index :]}'
    return _changed(text, changed, variable, {**yaml.safe_load(text)[variable], name: value})


def drop_secret(text: str, variable: str, name: str) -> str:
    """Return a vault's YAML without one secret and everything else, comments on other lines too, as it was.

    Args:
        text: The vault's YAML.
        variable: The name of a mapping in it.
        name: The secret, which is there.

    Raises:
        ValueError: when the vault is written in a way that cannot be changed safely.
    """
    variable_key, mapping = _entry(yaml.compose(text), variable)
    key, value = _entry(mapping, name)
    in_lines = isinstance(mapping, yaml.MappingNode) and not mapping.flow_style
    start, end = key.start_mark.index, value.end_mark.index
    if in_lines:
        start, end = text.rindex("\n", 0, start) + 1, (text + "\n").index("\n", end) + 1
    elif text[end:].lstrip().startswith(","):
        end += text[end:].index(",") + 1
    elif text[:start].rstrip().endswith(","):
        start = text.rindex(",", 0, start)
    changed = text[:start] + text[end:]
    kept = {other: secret for other, secret in yaml.safe_load(text)[variable].items() if other != name}
    if not kept and in_lines:
        colon = changed.index(":", variable_key.end_mark.index) + 1
        changed = f"{changed[:colon]} {{}}{changed[colon:]}"
    return _changed(text, changed, variable, kept)


def change(
    text: str, variable: str, replaced: Mapping[str, str], dropped: Sequence[str], retired: str | None
) -> tuple[str, list[str]]:
    """Replace secrets of a vault and take others out.

    Args:
        text: The vault's YAML, which `missing_keys` has accepted.
        variable: The name of a mapping in it.
        replaced: New values by name.
        dropped: Names of what is taken out, if it is there.
        retired: The name of a mapping that gets what is replaced or taken out, as `variable.name`; None for none.

    Returns:
        The vault's YAML, and the names of what was taken out.

    Raises:
        ValueError: when a secret to be replaced is not there or is being replaced already, or the vault cannot be
            changed safely.
    """
    there = (yaml.safe_load(text) or {}).get(variable) or {}
    gone = [name for name in dropped if name in there]
    for name in replaced:
        if name not in there:
            raise ValueError(f"{variable}.{name} is not there, so it cannot be replaced")
    for name in [*replaced, *gone]:
        if retired:
            kept = f"{variable}.{name}"
            if not missing_keys(text, retired, [kept]):
                raise ValueError(f"{kept} is being replaced already: run site.yml, and drop what it replaced, first")
            text = add_secrets(text, retired, {kept: there[name]})
        if name in replaced:
            text = replace_secret(text, variable, name, replaced[name])
        else:
            text = drop_secret(text, variable, name)
    return text, gone


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
        """Change what was asked for and say what was changed, never a value."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "path": {"type": "path", "required": True},
                "variable": {"type": "str", "required": True},
                "keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
                "replace": {"type": "list", "elements": "str", "default": []},
                "drop": {"type": "list", "elements": "str", "default": []},
                "retired": {"type": "str"},
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
            made = {name: random_secret(arguments["length"]) for name in [*missing, *arguments["replace"]]}
            new, gone = change(
                add_secrets(text, variable, {name: made[name] for name in missing}) if missing else text,
                variable,
                {name: made[name] for name in arguments["replace"]},
                arguments["drop"],
                arguments["retired"],
            )
        except ValueError as error:
            raise AnsibleActionFail(f"{path}: {error}") from None
        result.update(
            changed=new != text,
            path=str(path),
            created=[f"{variable}.{name}" for name in made],
            dropped=[f"{variable}.{name}" for name in gone],
        )
        if result["changed"] and self._task.diff:
            before = "".join(f"{name}: (a secret)\n" for name in result["dropped"])
            after = "".join(f"{name}: (a new secret)\n" for name in result["created"])
            result["diff"] = {"before": before, "after": after, "before_header": str(path), "after_header": str(path)}
        if result["changed"] and not self._task.check_mode:
            try:
                write_atomically(path, vault.encrypt(new, secret, vault_id=vault_id))
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
