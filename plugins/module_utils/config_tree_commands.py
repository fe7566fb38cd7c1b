"""The commands that stand for paths of a tree."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.config_tree_files import matches

ENVIRONMENT = {
    # Units that have a script for another init as well: bringing that in step takes seconds each, and nothing runs it.
    "SYSTEMCTL_SKIP_SYSV": "1",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
}


@dataclass(frozen=True)
class Rule:
    """A command and the paths it stands for."""

    path: str
    command: str
    undo: str | None = None
    keep: str | None = None
    unless: str | None = None


def run(module: AnsibleModule, command: str) -> tuple[int, str]:
    """Run a command without a shell and give its exit code and output; 127 when there is no such command."""
    words = shlex.split(command)
    try:
        code, out, err = module.run_command(words, environ_update=ENVIRONMENT, handle_exceptions=False)
    except FileNotFoundError:
        return 127, f"{words[0]}: no such command on this host"
    return code, out + err


def due(module: AnsibleModule, rules: list[Rule], paths: Iterable[str]) -> list[str]:
    """Commands that stand for any of the paths, or for what is gone, once each, in their order."""
    return list(
        dict.fromkeys(
            rule.command
            for rule in rules
            if any(matches(rule.path, path) for path in paths) or (rule.unless and run(module, rule.unless)[0] != 0)
        )
    )
