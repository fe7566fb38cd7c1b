"""Keeps all that a run says in a file beside the inventory."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

from ansible import context
from ansible.executor.stats import AggregateStats
from ansible.playbook import Playbook
from ansible.plugins.callback.default import CallbackModule as DefaultCallback
from ansible.utils.display import Display

DOCUMENTATION = r"""
name: run_log
type: aggregate
short_description: Keeps what the default callback says with -v in a file beside the inventory
description:
  - Writes to C(runs/TIME-PLAYBOOK-PROCESS.txt) beside the first inventory that is a file or a folder, whatever is shown
    on the screen. Only its owner can read the file. What tasks hide with C(no_log) is not in it.
  - Keeps the logs of the last 30 runs.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

FOLDER = "runs"
#: How many logs stay.
KEPT = 30
#: Where a message is cut off, such as all that scanners have found on a host.
MESSAGE_CHARACTERS = 20_000
#: How diffs are coloured on a terminal.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Page:
    """What a callback takes for the display: a file, with a time in front of each message."""

    verbosity = 1
    columns = 79

    def __init__(self, path: Path) -> None:
        """Begins the file.

        Args:
            path: A file that is not there yet.

        Raises:
            OSError: It cannot be made.
        """
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8")

    def display(self, msg: str, *, screen_only: bool = False, **_: Any) -> None:
        """Write a message; how it would look on a screen is passed over."""
        if not screen_only:
            more = f" … {len(msg)} characters" if len(msg) > MESSAGE_CHARACTERS else ""
            plain = COLOURS.sub("", msg[:MESSAGE_CHARACTERS]).rstrip()
            self._file.write(f"{time.strftime('%H:%M:%S')} {plain}{more}\n")
            self._file.flush()

    def banner(self, msg: str, **_: Any) -> None:
        """Write a header."""
        self.display(msg)

    def _warning(self, warning: Any) -> None:
        self.display(f"[WARNING]: {warning.event.msg}")

    _deprecated = _warning

    def _error(self, error: Any, **_: Any) -> None:
        # File and line alone: the lines themselves may be of the vault.
        origin = (error.event.formatted_source_context or "").partition("\n")[0]
        self.display(f"[ERROR]: {error.event.msg}" + (f" ({origin})" if origin else ""))


class CallbackModule(DefaultCallback):  # type: ignore[misc]  # Ansible ships no types
    """The default callback, speaking to a file."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "run_log"
    CALLBACK_NEEDS_ENABLED = False

    def __init__(self) -> None:
        """Nothing is written before a playbook begins."""
        super().__init__()
        self.path: Path | None = None

    def set_options(self, *args: Any, **kwargs: Any) -> None:
        """Leave nothing out, whatever is left out on the screen."""
        super().set_options(*args, **kwargs)
        for option in ("display_ok_hosts", "display_skipped_hosts"):
            self.set_option(option, True)

    def v2_playbook_on_start(self, playbook: Playbook) -> None:
        """Begin the log, or say why there is none."""
        sources = [Path(source) for source in context.CLIARGS["inventory"] or () if Path(source).exists()]
        if not sources:
            self.disabled = True
            return
        folder = (sources[0] if sources[0].is_dir() else sources[0].parent) / FOLDER
        # No ending that any Ansible reads as an inventory.
        name = f"{time.strftime('%Y-%m-%dT%H%M%S')}-{Path(playbook._file_name).stem}-{os.getpid()}.txt"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            # An inventory is often kept with git.
            (folder / ".gitignore").write_text("*\n", encoding="ascii")
            for old in sorted(folder.glob("*.txt"))[: 1 - KEPT]:
                old.unlink(missing_ok=True)
            self._display = Page(folder / name)
        except OSError as error:
            Display().warning(f"This run has no log: {error}")
            self.disabled = True
            return
        self.path = folder / name
        super().v2_playbook_on_start(playbook)

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """End the log, and say where it is."""
        super().v2_playbook_on_stats(stats)
        # What is written to stdout may be another callback's, and for a program.
        Display().display(f"All that was done: {os.path.relpath(self.path or FOLDER)}", stderr=True)
