"""Runs every check and test of the project, or those that are named, and counts.

Usage: tests/run.py [--fast] [STEP ...]

A step is a linter, the unit tests, the tests of pages in a browser, those of nginx beside Express, or a molecule
scenario. All steps run, whatever fails; scenarios on virtual machines run beside those on containers. The output of a
step that fails is shown, that of all is kept under .cache/test. Each linter, each scenario and each pytest item counts
as one. A table of what each step took stands at the end.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

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

#: Scenarios on virtual machines. An emulated processor keeps little more than one core busy, and so does a scenario on
#: containers, much of which is waiting. Machines take as long as all else together, so they begin at once.
ON_MACHINES = frozenset({"disk", "vm"})

#: Longer than any step takes; a step that hangs shall not keep the others from running.
STEP_SECONDS = 60 * 60

#: How much of what went wrong is said again at the end, in lines and characters a line.
REASONS, REASON_LENGTH = 8, 400


@dataclass(frozen=True)
class Step:
    """A program to run.

    Attributes:
        name: What it is called on the command line and in the report.
        command: The program, of the project's environment, and its arguments.
        counts: Whether the step counts by itself, beside the pytest items in it.
    """

    name: str
    command: Sequence[str]
    counts: bool = True


@dataclass(frozen=True)
class Result:
    """What came of a step: numbers of tests, and how long it took in seconds."""

    passed: int
    failed: int
    seconds: float = field(default=0, compare=False)


def steps(*, fast: bool) -> list[Step]:
    """All steps in their order, quick ones first.

    Args:
        fast: Whether to leave out the scenarios.
    """
    found = [Step(name, command) for name, command in LINTERS.items()]
    found.append(Step("unit", ["pytest", "--quiet", "--numprocesses", "2", "tests/unit"], counts=False))
    if not fast:
        found.append(Step("page", ["pytest", "--quiet", "tests/page"], counts=False))
        found.append(Step("express", ["pytest", "--quiet", "tests/express"], counts=False))
        scenarios = sorted(path.parent.name for path in CHECKOUT.glob("molecule/*/molecule.yml"))
        found += [Step(name, ["molecule", "test", "--scenario-name", name]) for name in scenarios]
    return found


def lanes(chosen: Sequence[Step]) -> list[list[Step]]:
    """The chosen steps as two rows that run side by side: what needs no virtual machine, and what does."""
    return [[step for step in chosen if (step.name in ON_MACHINES) == machines] for machines in (False, True)]


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
    rows = lanes(chosen)

    RESULTS.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    results: dict[str, Result] = {}
    with ThreadPoolExecutor(len(rows)) as pool:
        for row in pool.map(lambda row: {step.name: run(step) for step in row}, rows):
            results |= row
    bad = [name for name, result in results.items() if result.failed]
    for name in bad:
        log = RESULTS / f"{name}.log"
        print(
            f"failed: {name}; its output is in {log.relative_to(CHECKOUT)}",
            *reasons(log.read_text(errors="replace")),
            sep="\n  ",
        )
    passed, failed = (sum(getattr(result, kind) for result in results.values()) for kind in ("passed", "failed"))
    print(*table(results), f"took {time.monotonic() - start:.0f} s", sep="\n")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
