#!/usr/bin/python
"""Make part of a host's file system what a tree of files says it is."""

from __future__ import annotations

import base64
import json
import typing as t
import zlib

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.config_tree_changes import Tree, describe
from ansible.module_utils.config_tree_commands import Rule, due, run
from ansible.module_utils.config_tree_files import TreeError
from ansible.module_utils.config_tree_placement import Marker, place
from ansible.module_utils.config_tree_undo import Provision
from ansible.module_utils.config_tree_validation import validate

DOCUMENTATION = r"""
---
module: config_tree
short_description: Make part of a host's file system what a tree of templates says it is
description:
  - A folder of templates mirrors the target's file system. The controller renders it and ships it in one module call.
  - The new files are validated together before any of them replaces an old one, each is replaced atomically, files that
    the tree no longer makes are pruned from what it owns, and services are told of the changes, all in the same call.
  - A run that is killed leaves a marker, so that the next run does what was still to be done.
options:
  src:
    description:
      - The folder, in the role's C(templates), whose paths are the target's paths. Used on the controller.
      - Files ending in C(.j2) are templates and lose the suffix; C(trim_blocks) and C(lstrip_blocks) are on. All others
        are copied as they are.
      - In templates, C(tree_digest(path)) is the SHA-256 of everything the tree puts at or under a path, and
        C(ansible_managed) a line for the head of a file.
    type: str
    default: root
  exclude:
    description:
      - Paths on the target that the tree leaves out on this host; a folder stands for everything in it.
      - Used on the controller.
    type: list
    elements: str
    default: []
  graft:
    description:
      - Folders on the controller that take the place of what the tree has at a path, by that path.
      - Used on the controller.
    type: dict
    default: {}
  owns:
    description:
      - Paths that belong to the tree alone, folders with everything in them. A file that the tree does not make is
        removed, and so is a folder that is left empty.
      - Symbolic links are removed, never followed; what is mounted below is left alone.
    type: list
    elements: str
    default: []
  attributes:
    description:
      - Owner, group and mode by path; later entries win. What none of them says is C(root), C(root) and C(0644), or
        C(0755) for folders.
      - A pattern ending in C(/) is for folders, and others are for files. A folder that existed keeps its attributes if
        no pattern matches it. A folder's pattern without wildcards also makes that folder.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: A pattern; C(*) and C(?) stay within a folder, C(**) does not.
        type: str
        required: true
      owner:
        description: User name or numeric id.
        type: str
      group:
        description: Group name or numeric id.
        type: str
      mode:
        description: Mode in octal digits, quoted.
        type: str
  validate:
    description:
      - Commands that must succeed before anything is replaced, each run if a path it stands for changes.
      - They run without a shell in a private mount namespace in which the new tree lies over the real one.
      - In check mode, a missing command or a failure is a warning, since an earlier task may only have pretended to
        make what the command needs.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: A pattern, as in O(attributes).
        type: str
        required: true
      command:
        description: The command.
        type: str
        required: true
  on_change:
    description:
      - Commands to run, without a shell, once each and in this order, after a path that they stand for has changed.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: A pattern, as in O(attributes).
        type: str
        required: true
      command:
        description: The command.
        type: str
        required: true
      undo:
        description:
          - For O(confirm_within), what to run instead when the command fails on the old files, because there were none.
          - With C(keep), what brings back what that one has printed, which it gets as its input.
        type: str
      keep:
        description:
          - For O(confirm_within), a command that prints the state that the command is about to change, where the old
            files do not say it all. C(undo) brings it back, and the command is not run on the old files.
        type: str
      unless:
        description:
          - A command that succeeds while what the command made is still there. Where it fails, the command is run
            although nothing has changed, and has to be confirmed like a change. It is run in check mode, too, and must
            change nothing.
        type: str
  confirm_within:
    description:
      - For changes that could lock the operator out. After the commands of O(on_change), the controller connects anew.
        If it has not succeeded within so many seconds, the host puts the old files back and runs the commands again.
      - The new connection shares nothing with an older one, not even on its way through jump hosts.
      - V(0) for changes that need no confirmation.
    type: int
    default: 0
  confirm_through:
    description:
      - Where this host leads to as a jump host, each as C(address:port) of an SSH server. What could be reached through
        it before the change has to be reached afterwards, or the change is not confirmed. Used on the controller.
    type: list
    elements: str
    default: []
  confirm:
    description: Confirms the changes that wait for it; made by the action plugin, over the new connection.
    type: bool
    default: false
  state_directory:
    description: Where the marker of an unfinished run is kept, and what undoes an unconfirmed one.
    type: path
    default: /var/lib/pryv/config_tree
  name:
    description: Names the marker; the controller derives it from the role and O(src).
    type: str
  payload:
    description: The rendered tree; made by the controller.
    type: str
notes:
  - A symbolic link where the tree has a file is replaced, not followed. One where the tree has a folder is followed,
    except below a path in O(owns), where it is refused.
  - A file that not everybody on the host may read, before or after the change, shows no content in a diff, and what it
    contains is masked in the output of commands.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author:
  - Pryv Ansible authors
"""

EXAMPLES = r"""
- name: Configure the services and their proxy
  config_tree:
    owns: [/etc/pryv/core]
    attributes:
      - {path: "/etc/pryv/core/*/*", owner: "9999", group: "9999", mode: "0400"}
      - {path: /var/log/pryv/core/hfs/, owner: "9999", group: "9999", mode: "0750"}
    validate:
      - {path: "/etc/nginx/**", command: nginx -t -q}
    on_change:
      - {path: "/etc/nginx/**", command: systemctl reload nginx.service}
"""

RETURN = r"""
changed_paths:
  description: Files and folders that were made, changed or removed; folders end in C(/).
  returned: always
  type: list
  elements: str
  sample: [/etc/nginx/conf.d/core.conf]
validated:
  description: Validators that accepted the new tree.
  returned: always
  type: list
  elements: str
actions:
  description: Commands that ran after the change, or would have in check mode.
  returned: always
  type: list
  elements: dict
  contains:
    command:
      description: The command.
      type: str
    rc:
      description: Its exit code; none in check mode.
      type: int
resumed:
  description: Whether an earlier run was interrupted, so that this one took its changes up.
  returned: always
  type: bool
unconfirmed:
  description: Whether the changes undo themselves unless they are confirmed.
  returned: always
  type: bool
"""


def make(module: AnsibleModule) -> dict[str, t.Any]:
    """Do all of it and give the result."""
    parameters = module.params
    if not parameters["payload"] or not parameters["name"]:
        raise TreeError("config_tree needs its action plugin, to render the tree: set action_plugins in ansible.cfg")
    marker = Marker(parameters["state_directory"], parameters["name"])
    provision = Provision(module, parameters["state_directory"], parameters["name"])
    if parameters["confirm"]:
        provision.confirm()
        marker.remove()
        return {"changed": True}
    # An earlier run ended before its timer stood, and so before it replaced anything, or after its confirmation.
    if provision.pending and not provision.armed and not module.check_mode:
        provision.forget()
    files = {path: base64.b64decode(content) for path, content in unpack(parameters["payload"]).items()}
    tree = Tree(files, parameters["owns"], parameters["attributes"], module.check_mode, set(marker.temporaries))
    tree.compare()
    rules = [Rule(**rule) for rule in parameters["on_change"]]
    commands = due(module, rules, {*tree.paths, *marker.paths})
    result: dict[str, t.Any] = {
        "changed": bool(tree.changes or commands),
        "changed_paths": tree.paths,
        "validated": validated(module, tree),
        "actions": [{"command": command} for command in commands],
        "resumed": bool(marker.paths),
        "unconfirmed": False,
    }
    if module._diff:
        result["diff"] = [describe(change) for change in tree.changes]
    if module.check_mode:
        return result

    marker.begin(tree.changes)
    if result["changed"] and parameters["confirm_within"] and not provision.pending:
        provision.arm(tree.changes, rules, commands, marker.file, parameters["confirm_within"])
    if tree.changes:
        place(tree.changes)
    for action in result["actions"]:
        action["rc"] = act(module, tree, action["command"])
    result["unconfirmed"] = provision.pending
    if not provision.pending:
        marker.remove()
    return result


def unpack(payload: str) -> dict[str, str]:
    """What the action plugin has packed: content in Base64, by path."""
    files: dict[str, str] = json.loads(zlib.decompress(base64.b64decode(payload)))
    return files


def validated(module: AnsibleModule, tree: Tree) -> list[str]:
    """Commands that accepted the new files.

    Raises:
        TreeError: One of those that are due does not; in check mode, that is a warning.
    """
    accepted = []
    checks = due(module, [Rule(**rule) for rule in module.params["validate"]], tree.paths)
    for command, code, output in validate(module, checks, tree.changes) if checks else ():
        if code == 0:
            accepted.append(command)
            continue
        message = f"{command!r} refuses the new files (exit code {code}): {tree.mask(output)}"
        if not module.check_mode:
            raise TreeError(f"{message}\nNothing was replaced.")
        module.warn(message)
    return accepted


def act(module: AnsibleModule, tree: Tree, command: str) -> int:
    """Run a command that is due after the change, and give its exit code.

    Raises:
        TreeError: It fails.
    """
    code, output = run(module, command)
    if code != 0:
        raise TreeError(
            f"the files are in place, but {command!r} failed (exit code {code}): {tree.mask(output)}\n"
            "The next run tries it again."
        )
    return code


def main() -> None:
    """Run as a module."""
    rule = {"path": {"type": "str", "required": True}, "command": {"type": "str", "required": True}}
    attributes = {
        "path": {"type": "str", "required": True},
        "owner": {"type": "str"},
        "group": {"type": "str"},
        "mode": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "src": {"type": "str", "default": "root"},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "graft": {"type": "dict", "default": {}},
            "owns": {"type": "list", "elements": "str", "default": []},
            "attributes": {"type": "list", "elements": "dict", "default": [], "options": attributes},
            "validate": {"type": "list", "elements": "dict", "default": [], "options": rule},
            "on_change": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {**rule, **{key: {"type": "str"} for key in ("undo", "keep", "unless")}},
            },
            "confirm_within": {"type": "int", "default": 0},
            "confirm_through": {"type": "list", "elements": "str", "default": []},
            "confirm": {"type": "bool", "default": False},
            "state_directory": {"type": "path", "default": "/var/lib/pryv/config_tree"},
            "name": {"type": "str"},
            "payload": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**make(module))
    except (TreeError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
