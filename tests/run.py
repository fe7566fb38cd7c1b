"""Runs every check and test of the project, or those that are named, and counts.

Usage: tests/run.py [--fast] [STEP ...]

A step is a linter, the unit tests, the tests of pages in a browser, those of nginx beside Express, or a molecule
scenario. All steps run, whatever fails, two scenarios at a time, and beside them another step with the time that they
leave. The output of a step that fails is shown, that of all is kept under .cache/test. Each linter, each scenario and
each pytest item counts as one. A table of what each step took stands at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition
from xml.etree import ElementTree

CHECKOUT = Path(__file__).resolve().parents[1]
RESULTS = CHECKOUT / ".cache" / "test"
PROGRAMS = Path(sys.executable).parent

LINTERS = {
    "ruff": ["ruff", "check"],
    "format": ["ruff", "format", "--check"],
    "mypy": ["mypy", "filter_plugins", "plugins", "pryv_platform", "roles", "tests"],
    "yamllint": ["yamllint", "--strict", "."],
    "ansible-lint": ["ansible-lint", "--offline"],
}

#: How many scenarios run at once: each keeps little less than a processor busy, whatever it waits for. Two of them
#: have no more test hosts than a machine can hold, which is fifteen. One other step fills what they leave.
AT_ONCE = 2

#: Scenarios on virtual machines, of which one runs at a time. They begin at once, beside what must not be disturbed.
ON_MACHINES = ("disk", "vm")

#: Scenarios that measure how fast hosts are: beside them run a virtual machine and what stands back, and nothing else.
UNDISTURBED = ("add_core_and_faults", "poc")

#: The others that take minutes, longest first, so that the last steps of a run are short.
LONG = ("privacy", "development", "load")

#: The niceness of linters and unit tests, for which the processors' time that others leave is enough.
LAST_IN_LINE = 19

#: Longer than any step takes, one with a quiet hour in it; a step that hangs shall not keep the others from running.
STEP_SECONDS = 2 * 60 * 60

#: How much of what went wrong is said again at the end, in lines and characters a line.
REASONS, REASON_LENGTH = 8, 400


@dataclass(frozen=True)
class Step:
    """A program to run.

    Attributes:
        name: What it is called on the command line and in the report.
        command: The program, of the project's environment, and its arguments.
        counts: Whether the step counts by itself, beside the pytest items in it.
        stands_back: Whether all others have the processors first.
    """

    name: str
    command: Sequence[str]
    counts: bool = True
    stands_back: bool = False

    @property
    def is_scenario(self) -> bool:
        """Whether it is one of molecule's."""
        return "molecule" in self.command


@dataclass(frozen=True)
class Result:
    """What came of a step: numbers of tests, and how long it took in seconds."""

    passed: int
    failed: int
    seconds: float = field(default=0, compare=False)


def steps(*, fast: bool) -> list[Step]:
    """All steps in the order in which they begin, so far as each fits beside what runs.

    Args:
        fast: Whether to leave out the scenarios.
    """
    quick = [Step(name, command, stands_back=True) for name, command in LINTERS.items()]
    unit = ["pytest", "--quiet", "--numprocesses", "2", "tests/unit"]
    quick.append(Step("unit", unit, counts=False, stands_back=True))
    if fast:
        return quick
    quick += [Step(name, ["pytest", "--quiet", f"tests/{name}"], counts=False) for name in ("page", "express")]
    names = {path.parent.name for path in CHECKOUT.glob("molecule/*/molecule.yml")}
    ordered = (*ON_MACHINES, *UNDISTURBED, *LONG, *sorted(names.difference(ON_MACHINES, UNDISTURBED, LONG)))
    return [*(Step(name, ["molecule", "test", "--scenario-name", name]) for name in ordered), *quick]


def fits(step: Step, running: Collection[Step]) -> bool:
    """Whether a step may begin beside others."""
    together = [step, *running]
    scenarios = [one for one in together if one.is_scenario]
    if len(scenarios) > AT_ONCE or len(together) > len(scenarios) + max(1, AT_ONCE - len(scenarios)):
        return False
    if len([one for one in together if one.name in ON_MACHINES]) > 1:
        return False
    disturbing = {one.name for one in together if not one.stands_back and one.name not in ON_MACHINES}
    return len(disturbing) <= 1 or not disturbing.intersection(UNDISTURBED)


def run_all(chosen: Sequence[Step]) -> dict[str, Result]:
    """Runs steps, as many at a time as fit, and returns their results in the order of the steps."""
    waiting, running = list(chosen), list[Step]()
    results: dict[str, Result] = {}
    moved = Condition()

    def work() -> None:
        while True:
            with moved:
                while waiting and not any(fits(step, running) for step in waiting):
                    moved.wait()
                if not waiting:
                    return
                step = next(step for step in waiting if fits(step, running))
                waiting.remove(step)
                running.append(step)
            result = run(step)
            with moved:
                results[step.name] = result
                running.remove(step)
                moved.notify_all()

    at_once = AT_ONCE + 1
    with ThreadPoolExecutor(at_once) as pool:
        for worker in [pool.submit(work) for _ in range(at_once)]:
            worker.result()
    return {step.name: results[step.name] for step in chosen}


def busy() -> tuple[int, int]:
    """How long this machine's processors have worked, and been there, in a unit of the kernel's."""
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    worked = user + nice + system + irq + softirq
    return worked, worked + idle + iowait + steal


def stand_back(process: int) -> None:
    """Lets all others have the processors first, as far as the process is still there and the kernel knows how."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process, LAST_IN_LINE)
        # Where processors are shared out by session, a process is nice to those of its own session alone.
        Path(f"/proc/{process}/autogroup").write_text(str(LAST_IN_LINE))


def environment(items: Path) -> Mapping[str, str]:
    """The environment of a step.

    Args:
        items: Where pytest, wherever in the step it is run, writes what became of its items.
    """
    return {
        **os.environ,
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        "PYTEST_ADDOPTS": f"--junitxml={items}",
        "ANSIBLE_FORCE_COLOR": "false",
        "MOLECULE_COMMAND_BORDERS": "false",
        "NO_COLOR": "1",
    }


def count(items: Path) -> Result:
    """Counts pytest's items.

    Args:
        items: A JUnit report; one that is not there has none.
    """
    suites = re.findall(r"<testsuite ([^>]*)", items.read_text()) if items.exists() else []
    totals = Counter[str]()
    for suite in suites:
        totals.update({kind: int(number) for kind, number in re.findall(r'(\w+)="(\d+)"', suite)})
    failed = totals["failures"] + totals["errors"]
    return Result(totals["tests"] - failed - totals["skipped"], failed)


def failed_items(items: Path) -> list[str]:
    """The names of pytest's items that failed, with their modules.

    They stand after all that was said of them, where they are found when only the end of the output is left.

    Args:
        items: A JUnit report; one that is not there has none.
    """
    try:
        found = ElementTree.parse(items).iter("testcase") if items.exists() else ()
    except ElementTree.ParseError:  # pytest was killed while it wrote
        return []
    return [
        f"{item.get('classname')} {item.get('name')}"
        for item in found
        if item.find("failure") is not None or item.find("error") is not None
    ]


def reasons(output: str) -> list[str]:
    """The lines of a step's output in which Ansible and pytest say what failed, the first of them, cut short.

    They are said again at the end of a run, hours of output after they were printed.
    """
    # Ansible indents what a command said.
    found = re.findall(r"^ *((?:fatal: |failed: |\[ERROR\]|FAILED |ERROR ).*)", output, re.MULTILINE)
    return [line[:REASON_LENGTH] for line in found[:REASONS]]


def run(step: Step) -> Result:
    """Runs a step, says how it went, and returns its count."""
    items, log = RESULTS / f"{step.name}.xml", RESULTS / f"{step.name}.log"
    items.unlink(missing_ok=True)
    print(f"--- {step.name}", flush=True)
    start = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            step.command,
            cwd=CHECKOUT,
            env=environment(items),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        if step.stands_back:
            stand_back(process.pid)
        try:
            process.wait(STEP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            output.write(f"\nstopped after {STEP_SECONDS} s\n".encode())
    counted = count(items)
    # A step that fails without a failed item, pytest that cannot even start for one, is a failure of its own.
    own_failure = process.returncode != 0 and (step.counts or counted.failed == 0)
    own_success = process.returncode == 0 and step.counts
    result = Result(counted.passed + own_success, counted.failed + own_failure, time.monotonic() - start)
    word = "passed" if process.returncode == 0 else "FAILED"
    print(
        *([log.read_text(errors="replace")] if process.returncode != 0 else []),
        f"--- {step.name}: {word} in {result.seconds:.0f} s ({result.passed} passed, {result.failed} failed)",
        sep="\n",
        flush=True,
    )
    return result


def table(results: Mapping[str, Result]) -> list[str]:
    """What each step took and how many passed and failed in it, a line each."""
    return [
        f"{name:24} {result.seconds:6.0f} s {result.passed:6} passed {result.failed:4} failed"
        for name, result in results.items()
    ]


def main() -> int:
    """Runs the steps that were asked for; non-zero when any failed."""
    parser = argparse.ArgumentParser(prog="tests/run.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="linters and unit tests only")
    known = steps(fast=False)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of: {', '.join(step.name for step in known)}")
    options = parser.parse_args()
    unknown = set(options.steps) - {step.name for step in known}
    if unknown:
        parser.error(f"no step {', '.join(sorted(unknown))}")
    chosen = [step for step in steps(fast=options.fast) if step.name in options.steps or not options.steps]

    RESULTS.mkdir(parents=True, exist_ok=True)
    start, (worked, there) = time.monotonic(), busy()
    results = run_all(chosen)
    bad = [name for name, result in results.items() if result.failed]
    for name in bad:
        log = RESULTS / f"{name}.log"
        print(
            f"failed: {name}; its output is in {log.relative_to(CHECKOUT)}",
            *reasons(log.read_text(errors="replace")),
            sep="\n  ",
        )
    passed, failed = (sum(getattr(result, kind) for result in results.values()) for kind in ("passed", "failed"))
    worked, there = (now - before for now, before in zip(busy(), (worked, there), strict=True))
    share = f"processors busy for {100 * worked / max(there, 1):.0f} % of it"
    names = [f"failed: {name}: {item}" for name in bad for item in failed_items(RESULTS / f"{name}.xml")]
    print(*table(results), *names, f"took {time.monotonic() - start:.0f} s, {share}", sep="\n")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
