"""The driver of all checks counts what it ran, and does not call a failure a success."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from tests import run

REPORT = '<testsuites><testsuite name="pytest" errors="1" failures="2" skipped="3" tests="10"></testsuite></testsuites>'


@pytest.fixture(autouse=True)
def _results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "RESULTS", tmp_path)


@pytest.mark.parametrize(
    ("script", "counts", "passed", "failed"),
    [
        ("true", True, 1, 0),
        ("false", True, 0, 1),
        # pytest that does not even start fails by itself.
        ("false", False, 0, 1),
        ("true", False, 0, 0),
        # Items count beside the scenario that they are in, and instead of a step that is nothing but items.
        ("echo '{report}' >$REPORT; false", True, 4, 4),
        ("echo '{report}' >$REPORT; false", False, 4, 3),
    ],
)
def test_counting(script: str, *, counts: bool, passed: int, failed: int) -> None:
    script = script.replace("{report}", REPORT).replace("$REPORT", "${PYTEST_ADDOPTS#*=}")
    assert run.run(run.Step("step", ["sh", "-c", script], counts=counts)) == run.Result(passed, failed)


def test_items_that_failed_are_named(tmp_path: Path) -> None:
    case = '<testcase classname="tests.{0}" name="test_{0}">{1}</testcase>'
    cases = case.format("a", "") + case.format("b", "<failure/>") + case.format("c", "<error/>")
    report = tmp_path / "report.xml"
    assert run.failed_items(report) == []
    report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    assert run.failed_items(report) == ["tests.b test_b", "tests.c test_c"]
    report.write_text(f"<testsuites><testsuite>{cases}")
    assert run.failed_items(report) == []


@pytest.mark.parametrize("stands_back", [False, True])
def test_others_have_the_processors_before_what_stands_back(*, stands_back: bool) -> None:
    run.run(run.Step("step", ["sh", "-c", "sleep 0.5; nice"], stands_back=stands_back))
    niceness = run.LAST_IN_LINE if stands_back else os.getpriority(os.PRIO_PROCESS, 0)
    assert int((run.RESULTS / "step.log").read_text()) == niceness


def test_output_of_a_failed_step_is_shown_and_of_a_good_one_kept(capsys: pytest.CaptureFixture[str]) -> None:
    run.run(run.Step("good", ["echo", "all is well"]))
    run.run(run.Step("bad", ["sh", "-c", "echo 'this is why' >&2; exit 3"]))
    shown = capsys.readouterr().out
    assert "this is why" in shown
    assert "all is well" not in shown
    assert (run.RESULTS / "good.log").read_text() == "all is well\n"


def test_what_failed_is_said_again_in_a_few_lines() -> None:
    ansible = "TASK [x]\n[ERROR]: Task failed: no way\n\nfatal: [co1]: UNREACHABLE! =>\n    changed: false\n"
    ansible += "    FAILED tests/c.py::test_d\n"
    pytest_output = "tests/a.py .F\nE   assert 1 == 2\nFAILED tests/a.py::test_b - assert 1 == 2\n"
    assert run.reasons(ansible + pytest_output) == [
        "[ERROR]: Task failed: no way",
        "fatal: [co1]: UNREACHABLE! =>",
        "FAILED tests/c.py::test_d",
        "FAILED tests/a.py::test_b - assert 1 == 2",
    ]
    assert [len(line) for line in run.reasons(f"fatal: {'x' * 999}\n" * 99)] == [run.REASON_LENGTH] * run.REASONS


def test_step_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "STEP_SECONDS", 0.2)
    assert run.run(run.Step("slow", ["sleep", "60"])) == run.Result(0, 1)


def named(*names: str) -> list[run.Step]:
    """Steps of the real list that do nothing."""
    known = {step.name: step for step in run.steps(fast=False)}
    return [run.Step(name, ["true", *known[name].command[:1]], stands_back=known[name].stands_back) for name in names]


def test_what_fits_beside_what_runs() -> None:
    disk, vm, poc, load, privacy, unit, page = named("disk", "vm", "poc", "load", "privacy", "unit", "page")
    assert run.fits(disk, [])
    assert run.fits(disk, [poc])
    assert not run.fits(vm, [disk])
    assert run.fits(poc, [vm])
    assert not run.fits(poc, [vm, load])
    assert not run.fits(load, [poc])
    assert not run.fits(privacy, [vm, load])
    # Short ones fill what others leave.
    assert run.fits(load, [unit])
    assert run.fits(unit, [vm, load])
    assert run.fits(unit, [vm, poc])
    assert not run.fits(page, [vm, poc])
    assert not run.fits(page, [load, unit])
    assert run.fits(page, [unit])
    assert not run.fits(page, [unit, unit])


def test_order_begins_with_what_takes_longest_and_has_every_step_once() -> None:
    names = [step.name for step in run.steps(fast=False)]
    assert names[:7] == [*run.ON_MACHINES, *run.UNDISTURBED, *run.LONG]
    assert (
        len(names)
        == len(set(names))
        == len(run.steps(fast=True)) + 2 + len(list(run.CHECKOUT.glob("molecule/*/molecule.yml")))
    )
    assert {*run.ON_MACHINES, *run.UNDISTURBED, *run.LONG} < set(names)


def test_steps_run_side_by_side_as_far_as_they_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def ran(step: run.Step) -> run.Result:
        begun = {path.name for path in tmp_path.iterdir()}
        (tmp_path / step.name).touch()
        time.sleep(0.2)
        (tmp_path / step.name).unlink()
        together.append({step.name, *begun})
        return run.Result(1, 0)

    together: list[set[str]] = []
    monkeypatch.setattr(run, "run", ran)
    names = ["disk", "vm", "poc", "privacy", "load", "unit"]
    assert list(run.run_all(named(*names))) == names
    assert len(together) == len(names)
    assert all(len(group - {"unit"}) <= run.AT_ONCE for group in together)
    assert {"disk", "vm"} not in together
    assert [group for group in together if "poc" in group and group - {"poc", "disk", "vm", "unit"}] == []


def test_report_ends_with_what_each_step_took_and_the_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "CHECKOUT", run.RESULTS)
    monkeypatch.setattr(run, "steps", lambda **_: [run.Step("good", ["true"]), run.Step("vm", ["sleep", "0.6"])])
    monkeypatch.setattr("sys.argv", ["run.py"])
    assert run.main() == 0
    shown = capsys.readouterr().out.splitlines()[-4:]
    assert [re.sub(r"for \d+ %", "for N %", re.sub(" +", " ", line)) for line in shown] == [
        "good 0 s 1 passed 0 failed",
        "vm 1 s 1 passed 0 failed",
        "took 1 s, processors busy for N % of it",
        "2 passed, 0 failed",
    ]


def test_every_scenario_is_a_step() -> None:
    names = [step.name for step in run.steps(fast=False)]
    assert {"development", "poc", "load", "privacy"} <= set(names)
    assert not {"development", "poc"} & {step.name for step in run.steps(fast=True)}
