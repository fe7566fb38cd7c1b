"""What the processes of all tasks need is loaded before they are forked.

Ansible runs each task for each host in a process of its own, forked from the main one. The main process hardly uses
a filter, test or lookup itself, so without this each of those processes finds and reads them all again.
"""

from __future__ import annotations

import gc

from ansible._internal._task import UnifiedTaskResult
from ansible.playbook import Playbook
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import (
    action_loader,
    become_loader,
    connection_loader,
    filter_loader,
    lookup_loader,
    shell_loader,
    test_loader,
)

DOCUMENTATION = r"""
name: load_once
type: aggregate
short_description: Loads filters, tests and lookups once a run, and not once a task and host
description:
  - Says nothing and changes no outcome; without it, a run takes up to half as much CPU time again on the controller.
  - Also makes Python look for cyclic garbage less often. The processes of tasks end long before it would matter, and
    looking through what they share with the main process copies it.
"""

LOADERS = (
    filter_loader,
    test_loader,
    lookup_loader,
    action_loader,
    connection_loader,
    shell_loader,
    become_loader,
)
#: How many more objects are made than freed between two searches for garbage; Python's default is 700.
OBJECTS_BETWEEN_COLLECTIONS = 50_000


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible ships no types
    """Prepares the main process at the start of each playbook."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "load_once"
    # Works wherever ansible.cfg is read, whatever callbacks an operator enables.
    CALLBACK_NEEDS_ENABLED = False

    def v2_playbook_on_start(self, _playbook: Playbook) -> None:
        """Load what tasks need; the loaders keep it."""
        for loader in LOADERS:
            list(loader.all(class_only=True))
        # Finds out the types of all its fields, and keeps them.
        UnifiedTaskResult.from_action_result_dict()
        gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
