"""Controller side of config_tree: renders a folder of templates and ships it in one module call."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template

TEMPLATE_SUFFIX = ".j2"
END_MARK = "\0"
MANAGED = "Made by Ansible; what is changed here is lost."
INTERNAL = {"confirm", "name", "payload"}
#: Seconds between attempts to confirm.
CONFIRMATION_PAUSES = (1, 3)
#: What ssh says when the server refuses who asks. It is not asked again: it would shut this address out for a while.
REFUSAL = "Permission denied"
#: An ssh whose connections share nothing with older ones. What it starts to pass through jump hosts (ProxyJump by the
#: name that it was called by itself, ProxyCommand by PATH) is again this one; of options given twice, the first counts.
FRESH_SSH = """\
#!/usr/bin/env bash
export PATH={folder}:"$PATH"
exec -a "$0" {ssh} -o ControlMaster=no -o ControlPath=none "$@"
"""
#: Seconds that a server behind a jump host may take to answer, and what it is greeted with.
JUMP_SECONDS, GREETING = 15, b"SSH-2.0-confirmation\r\n"


class ActionModule(ActionBase):  # type: ignore[misc]
    """Renders the tree; the module of the same name does the rest on the host."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Render every file and call the module once."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if forbidden := INTERNAL & set(arguments):
            raise AnsibleActionFail(
                f"config_tree: {', '.join(sorted(forbidden))} is made by the action plugin and cannot be given"
            )
        src = str(arguments.get("src", "root"))
        role = self._task._role
        try:
            folder = self._find_needle("templates", src)
        except AnsibleError as error:
            raise AnsibleActionFail(
                f"config_tree: there is no folder {src} in the templates of {role or 'this playbook'}"
            ) from error
        if not Path(folder).is_dir():
            raise AnsibleActionFail(f"config_tree: {folder} is not a folder")
        exclude = arguments.get("exclude") or []
        grafts = {
            target: Path(self._loader.path_dwim(str(given))) for target, given in (arguments.get("graft") or {}).items()
        }
        files = Renderer(self, Path(folder), exclude, grafts, task_vars or {}).render_all()
        content = json.dumps({path: base64.b64encode(data).decode() for path, data in sorted(files.items())})
        arguments["name"] = re.sub(r"[^\w.-]+", "-", f"{role.get_name() if role else 'playbook'}-{src}")
        arguments["payload"] = base64.b64encode(zlib.compress(content.encode())).decode()
        reached = [target for target in arguments.get("confirm_through") or [] if self._leads_to(target)]
        result.update(self._execute_module(module_name="config_tree", module_args=arguments, task_vars=task_vars))
        if result.get("unconfirmed") and not result.get("failed"):
            changed = result["changed_paths"] or [action["command"] for action in result["actions"]]
            confirmation = self._confirm(arguments, changed, reached, task_vars)
            if confirmation.get("failed"):
                return {**result, **confirmation}
            result["unconfirmed"] = False
        return result

    def _confirm(
        self, arguments: dict[str, Any], changed: list[str], reached: list[str], task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Confirm the changes through a new connection, and return what the module says.

        Only a connection made after the change proves that the next one will be possible, too. An SSH server that reads
        its configuration again refuses connections for a moment, up to a second on a busy host; hence the retries.

        Args:
            arguments: The module's.
            changed: What changed, in words.
            reached: Servers behind this host that were reached before.
            task_vars: Variables of the task.
        """
        confirm = {**arguments, "confirm": True}
        pauses = iter(CONFIRMATION_PAUSES)
        # What comes after this task does not go on over the old connection either.
        self._connection.reset()
        with self._new_connections():
            while True:
                try:
                    if lost := [target for target in reached if not self._leads_to(target)]:
                        raise AnsibleConnectionFailure(f"through this host, {', '.join(lost)} is not reached any more")
                    return dict(
                        self._execute_module(module_name="config_tree", module_args=confirm, task_vars=task_vars)
                    )
                except AnsibleConnectionFailure as error:
                    pause = next(pauses, None)
                    if pause is None or REFUSAL in error.message:
                        raise AnsibleConnectionFailure(
                            f"No new connection since {', '.join(changed)} changed; within "
                            f"{arguments['confirm_within']} seconds the host puts back what was there: {error.message}"
                        ) from error
                time.sleep(pause)

    @contextmanager
    def _new_connections(self) -> Iterator[None]:
        """Have the connection plugin make each connection anew, and each of a jump host on the way."""
        if self._connection.transport != "ssh":
            yield
            return
        given = self._connection.get_option("ssh_executable")
        patience = int(self._connection.get_option("timeout"))
        with tempfile.TemporaryDirectory(dir=constants.DEFAULT_LOCAL_TMP) as folder:
            fresh = Path(folder, "ssh")
            real = shlex.quote(shutil.which(given) or given)
            fresh.write_text(FRESH_SSH.format(folder=shlex.quote(folder), ssh=real))
            fresh.chmod(0o700)
            self._connection.set_option("ssh_executable", str(fresh))
            # There is to be time for all attempts before what was there is put back.
            self._connection.set_option("timeout", min(patience, max(10, patience // 3)))
            try:
                yield
            finally:
                self._connection.set_option("ssh_executable", given)
                self._connection.set_option("timeout", patience)

    def _leads_to(self, target: str) -> bool:
        """Whether an SSH server, given as `address:port`, answers through this host."""
        if self._connection.transport != "ssh":
            return True
        host, ssh = (self._connection.get_option(name) for name in ("host", "ssh_executable"))
        command = self._connection._build_command(ssh, "ssh", "-W", target, host)
        try:
            said = self._connection._run([b"timeout", str(JUMP_SECONDS).encode(), *command], GREETING, sudoable=False)
        except AnsibleConnectionFailure:
            return False
        return bytes(said[1]).startswith(b"SSH-")


class Renderer:
    """Renders the files of one tree, each when it is first needed."""

    def __init__(
        self,
        action: ActionModule,
        folder: Path,
        exclude: list[str],
        grafts: dict[str, Path],
        task_vars: dict[str, Any],
    ) -> None:
        """Find the files.

        Args:
            action: The task's action, for its loader and templar.
            folder: The tree on the controller.
            exclude: Target paths left out; a folder stands for everything in it.
            grafts: Folders on the controller that take the place of the tree's, by target path.
            task_vars: Variables of the task.

        Raises:
            AnsibleActionFail: An exclusion is not a path of the tree, a graft is no folder, or two files have one
                target.
        """
        self._loader = action._loader
        self._folder = folder
        self._sources: dict[str, Path] = {}
        self._add(folder, "")
        for path, graft in grafts.items():
            if not graft.is_dir():
                raise AnsibleActionFail(f"config_tree: graft: {graft}, for {path!r}, is not a folder")
            for target in self._under(path):
                del self._sources[target]
            self._add(graft, path.rstrip("/"))
        for path in exclude:
            covered = self._under(path)
            if not covered:
                raise AnsibleActionFail(
                    f"config_tree: exclude: the tree {folder} has nothing at {path!r}; give a file's or folder's path"
                )
            for target in covered:
                del self._sources[target]
        self._templar = action._templar.copy_with_new_env(
            searchpath=[str(folder.parent), *task_vars.get("ansible_search_path", [])],
            available_variables={"ansible_managed": MANAGED, **task_vars, "tree_digest": self.digest},
        )
        self._done: dict[str, bytes] = {}
        self._doing: list[str] = []

    def _add(self, folder: Path, prefix: str) -> None:
        for source in sorted(path for path in folder.rglob("*") if path.is_file()):
            target = f"{prefix}/{source.relative_to(folder)}".removesuffix(TEMPLATE_SUFFIX)
            if target in self._sources:
                raise AnsibleActionFail(f"config_tree: {self._sources[target]} and {source} are both for {target}")
            self._sources[target] = source

    def render_all(self) -> dict[str, bytes]:
        """Content of every file by its path on the target."""
        return {target: self._render(target) for target in self._sources}

    def digest(self, path: str) -> str:
        """SHA-256, in hexadecimal, of the paths and contents of everything at or under a path."""
        covered = self._under(path)
        if not covered:
            raise AnsibleActionFail(f"tree_digest: the tree {self._folder} has nothing at {path!r}")
        whole = hashlib.sha256()
        for target in covered:
            whole.update(f"{target}\0{hashlib.sha256(self._render(target)).hexdigest()}\n".encode())
        return whole.hexdigest()

    def _under(self, path: str) -> list[str]:
        folder = path.rstrip("/") + "/"
        return sorted(target for target in self._sources if target == path or target.startswith(folder))

    def _render(self, target: str) -> bytes:
        if target in self._done:
            return self._done[target]
        source = self._sources[target]
        if target in self._doing:
            cycle = " -> ".join([*self._doing[self._doing.index(target) :], target])
            raise AnsibleActionFail(f"tree_digest: a file cannot contain its own digest: {cycle}")
        self._doing.append(target)
        if source.suffix == TEMPLATE_SUFFIX:
            self._done[target] = self._template(source)
        else:
            self._done[target] = Path(self._loader.get_real_file(os.fspath(source))).read_bytes()
        self._doing.pop()
        return self._done[target]

    def _template(self, source: Path) -> bytes:
        template = self._loader.get_text_file_contents(os.fspath(source))
        try:
            # The end mark makes the result text, even that of a template which is a single expression.
            text = self._templar.template(
                trust_as_template(template + END_MARK),
                escape_backslashes=False,
                overrides={"trim_blocks": True, "lstrip_blocks": True},
            ).removesuffix(END_MARK)
        except AnsibleError as error:
            raise AnsibleActionFail(f"config_tree: {source}: {error.message}") from error
        if template.endswith("\n") and text and not text.endswith("\n"):
            text += "\n"  # a block at the very end took it
        return str(text).encode()
