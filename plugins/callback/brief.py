"""What a person watches who provisions many hosts: where the run is, what changes where, and what went wrong."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ansible import constants, context
from ansible.executor.stats import AggregateStats
from ansible.executor.task_result import CallbackTaskResult
from ansible.inventory.host import Host
from ansible.playbook.play import Play
from ansible.playbook.task import Task
from ansible.plugins.callback.default import CallbackModule as DefaultCallback

DOCUMENTATION = r"""
name: brief
type: stdout
short_description: A line for each role, what changes on which host, what went wrong, and a summary
description:
  - Shows a line when a role begins, with the time since the run began; a line when a task takes long, with the hosts
    that are not done; what changes, with the hosts in one line unless there are diffs; what a task is made to show;
    warnings and failures in full, as the default callback does. Tasks that change nothing are not shown.
  - The recap is the default callback's; below it stand how long each role took, what changed where, and what needs
    attention.
  - With C(-v) all is shown that the default callback shows.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

#: Seconds after which a task is said to be still running; again when it has taken twice as long, and so on.
LONG_SECONDS = 10
#: How many hosts or paths are named in one line where not each matters.
NAMED = 6
#: How much is repeated of a message that has been shown in full.
REPEATED_CHARACTERS = 200


def clock(seconds: float) -> str:
    """Minutes and seconds, such as C( 1:05)."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes:2}:{rest:02}"


def some(names: Iterable[str]) -> str:
    """The first of some names, and how many more there are."""
    every = list(names)
    more = [f"{len(every) - NAMED} more"] if len(every) > NAMED else []
    return ", ".join(every[:NAMED] + more)


def concern(task: Task) -> str:
    """The role of the play that a task is run for, also when that includes or needs others; empty without one."""
    block = task
    while block._parent is not None:
        block = block._parent
    roles = [*(block.get_dep_chain() or ()), block._role]
    return roles[0].get_name() if roles[0] else ""


def outcome(changes: Mapping[str, int], hosts: int, *, check: bool) -> str:
    """What a run has changed, in one line.

    Args:
        changes: How many tasks changed something, by host; hosts with none may be there.
        hosts: How many hosts there were.
        check: Whether the run only looked.
    """
    counts = [f"{host} ({count})" for host, count in sorted(changes.items()) if count]
    would = "would change" if check else "changed"
    return f"Tasks that {would} something: {', '.join(counts)}" if counts else f"Nothing {would} on {hosts} host(s)"


class Stopwatch:
    """How long a run takes, and each of its parts."""

    def __init__(self) -> None:
        """Starts it."""
        self.start = self.since = time.monotonic()
        self.part = ""
        self.spent: dict[str, float] = {}

    @property
    def passed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.start

    @property
    def running(self) -> float:
        """Seconds since the last task began."""
        return time.monotonic() - self.since

    def begin(self, part: str) -> None:
        """A task of some part begins; the one before has ended."""
        now = time.monotonic()
        self.spent[self.part] = self.spent.get(self.part, 0) + now - self.since
        self.part, self.since = part, now

    def table(self) -> str:
        """The parts that took a second or more, longest first."""
        self.begin(self.part)
        longest = sorted(self.spent.items(), key=lambda item: -item[1])
        long = [f"{part} {seconds:.0f} s" for part, seconds in longest if part and seconds >= 1]
        return f"Took {clock(self.passed).strip()} min: {', '.join(long) or 'no part of it more than a second'}"


class CallbackModule(DefaultCallback):  # type: ignore[misc]  # Ansible ships no types
    """Leaves out of the default callback's output what nobody has to look at."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "brief"

    def __init__(self) -> None:
        """Nothing has been said yet."""
        super().__init__()
        self._watch = Stopwatch()
        self._role = ""
        self._banner_due = False
        self._task: Task | None = None
        self._working: set[str] = set()
        self._changed: dict[str, list[str]] = {}
        self._warned: dict[str, list[str]] = {}
        self._failed: dict[str, list[str]] = {}
        self._missed: list[str] = []

    @property
    def _is_brief(self) -> bool:
        return not self._display.verbosity

    def set_options(self, *args: Any, **kwargs: Any) -> None:
        """Headers come with what is below them, as the default callback has it when it leaves out skipped hosts."""
        super().set_options(*args, **kwargs)
        if self._is_brief:
            self.set_option("display_skipped_hosts", False)
            self.set_option("display_included_hosts", False)

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Watch for what takes long."""
        super().v2_playbook_on_start(playbook)
        if self._is_brief and not context.CLIARGS.get("step"):
            # Display's lock is held while a task's process is forked, so it is safe to speak from a thread.
            threading.Thread(target=self._watch_for_long_tasks, daemon=True).start()

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Keep the header until there is something below it."""
        self._end_task()
        self._play, self._role, self._banner_due = play, "", True
        if not self._is_brief:
            self._begin_play()

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """A play without hosts is worth a word where a run is limited to some, who may be the wrong ones."""
        if not self._is_brief:
            super().v2_playbook_on_no_hosts_matched()
        elif context.CLIARGS["subset"]:
            self._missed.append(self._play.get_name())

    def _task_start(self, task: Task, prefix: str | None = None) -> None:
        self._end_task()
        role = concern(task)
        self._task = task
        self._watch.begin(role or self._play.get_name())
        if role and role != self._role and self._is_brief:
            self._begin_play()
            self._say(role)
        self._role = role
        super()._task_start(task, prefix)

    def v2_runner_on_start(self, host: Host, task: Task) -> None:
        """A host has begun."""
        self._working.add(host.get_name())
        super().v2_runner_on_start(host, task)

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """Show what changes, or is made to be shown."""
        self._working.discard(result.host.get_name())
        is_change = result.result.get("changed", False)
        if is_change and self._is_brief and not (result.task.loop or context.CLIARGS["diff"]):
            self._show_warnings(result)
            paths = some(result.result.get("changed_paths") or [])
            self._changed.setdefault(f" => {paths}" if paths else "", []).append(self.host_label(result))
        elif self._is_shown(result):
            super().v2_runner_on_ok(result)
        else:
            self._show_warnings(result)

    def v2_runner_item_on_ok(self, result: CallbackTaskResult) -> None:
        """As for a task without a loop."""
        if self._is_shown(result):
            super().v2_runner_item_on_ok(result)
        else:
            self._show_warnings(result)

    def v2_runner_on_skipped(self, result: CallbackTaskResult) -> None:
        """Only a warning is worth a word."""
        self._working.discard(result.host.get_name())
        if self._is_brief:
            self._show_warnings(result)
        super().v2_runner_on_skipped(result)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """Show it in full, and keep it for the end."""
        self._working.discard(result.host.get_name())
        if not ignore_errors:
            self._keep_failure(result)
        super().v2_runner_on_failed(result, ignore_errors)

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        """Show it in full, and keep it for the end."""
        self._working.discard(result.host.get_name())
        self._keep_failure(result)
        super().v2_runner_on_unreachable(result)

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """After the recap, say what was done, how long it took, and what needs attention."""
        self._end_task()
        super().v2_playbook_on_stats(stats)
        took = self._watch.table()
        self._display.display(outcome(stats.changed, len(stats.processed), check=context.CLIARGS["check"]))
        self._display.display(took)
        # Others have failed in what was meant to be able to fail.
        lost = {
            host: said[min(stats.rescued.get(host, 0), len(said) - 1)]
            for host, said in self._failed.items()
            if stats.failures.get(host) or stats.dark.get(host)
        }
        for said in dict.fromkeys(lost.values()):
            hosts = sorted(host for host in lost if lost[host] == said)
            self._display.display(f"Needs attention: {', '.join(hosts)}: {said}", color=constants.COLOR_ERROR)
        if self._missed:
            self._display.display(f"No host of this run: {some(self._missed)}", color=constants.COLOR_WARN)
        for said, hosts in self._warned.items():
            self._display.display(f"Needs attention: {some(sorted(hosts))}: {said}", color=constants.COLOR_WARN)

    def _is_shown(self, result: CallbackTaskResult) -> bool:
        return not self._is_brief or result.result.get("changed", False) or self._run_is_verbose(result)

    def _show_warnings(self, result: CallbackTaskResult) -> None:
        """Of a host that is not shown itself."""
        if result.result.get("warnings") and self._last_task_banner != result.task._uuid:
            self._print_task_banner(result.task)
        self._handle_warnings_and_exception(result)

    def _handle_warnings_and_exception(self, result: CallbackTaskResult) -> None:
        for warning in result.result.get("warnings") or ():
            hosts = self._warned.setdefault(str(warning)[:REPEATED_CHARACTERS], [])
            if result.host.get_name() not in hosts:
                hosts.append(result.host.get_name())
        super()._handle_warnings_and_exception(result)

    def _keep_failure(self, result: CallbackTaskResult) -> None:
        host = result.host.get_name()
        said = str(result.result.get("msg") or "see above").strip().partition("\n")[0]
        failure = f"{result.task.get_name()}: {said[:REPEATED_CHARACTERS]}"
        self._failed.setdefault(host, []).append(failure)

    def _print_task_banner(self, task: Task) -> None:
        self._begin_play()
        super()._print_task_banner(task)

    def _begin_play(self) -> None:
        """Print the play's header, once."""
        if self._banner_due:
            self._banner_due = False
            super().v2_playbook_on_play_start(self._play)

    def _end_task(self) -> None:
        """Say where the task that ends has changed something."""
        if self._changed and self._task and self._last_task_banner != self._task._uuid:
            self._print_task_banner(self._task)
        for what, hosts in self._changed.items():
            self._display.display(f"changed: [{', '.join(sorted(hosts))}]{what}", color=constants.COLOR_CHANGED)
        self._changed.clear()
        self._working.clear()

    def _say(self, text: str) -> None:
        self._display.display(f"{clock(self._watch.passed)}  {text}")
        # Whoever reads it through a pipe wants to read it now.
        sys.stdout.flush()

    def _watch_for_long_tasks(self) -> None:
        task, due = self._task, LONG_SECONDS
        while True:
            time.sleep(1)
            if task is not self._task:
                task, due = self._task, LONG_SECONDS
            if task and self._watch.running >= due:
                due *= 2
                hosts = f", waiting for {some(sorted(self._working))}" if self._working else ""
                self._say(f"{task.get_name()}: {self._watch.running:.0f} s{hosts}")
