"""The driver of all checks counts what it ran, and does not call a failure a success."""

from __future__ import annotations

import re
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


def test_scenarios_on_machines_run_beside_all_else() -> None:
    others, on_machines = ([step.name for step in row] for row in run.lanes(run.steps(fast=False)))
    assert on_machines == ["disk", "vm"]
    assert {"ruff", "unit", "page", "express", "development", "poc", "load", "privacy"} <= set(others)
    assert len(others) + len(on_machines) == len(run.steps(fast=False))


def test_report_ends_with_what_each_step_took_and_the_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "CHECKOUT", run.RESULTS)
    monkeypatch.setattr(run, "steps", lambda **_: [run.Step("good", ["true"]), run.Step("vm", ["sleep", "0.6"])])
    monkeypatch.setattr("sys.argv", ["run.py"])
    assert run.main() == 0
    shown = capsys.readouterr().out.splitlines()[-4:]
    assert [re.sub(" +", " ", line) for line in shown] == [
        "good 0 s 1 passed 0 failed",
        "vm 1 s 1 passed 0 failed",
        "took 1 s",
        "2 passed, 0 failed",
    ]


def test_every_scenario_is_a_step() -> None:
    names = [step.name for step in run.steps(fast=False)]
    assert {"development", "poc", "load", "privacy"} <= set(names)
    assert not {"development", "poc"} & {step.name for step in run.steps(fast=True)}
