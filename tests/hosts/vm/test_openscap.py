"""OpenSCAP's rules about what a container has not of its own; scenario `development` has the others."""

from __future__ import annotations

import pytest
import yaml
from testinfra.host import Host

from tests.fleet.fleet import CHECKOUT
from tests.hosts import openscap
from tests.hosts.conftest import Platform

pytestmark = pytest.mark.on_machines


@pytest.fixture(scope="module")
def answers(machine: Host) -> openscap.Answers:
    """What the machine's rules say of it."""
    return openscap.scan(machine, openscap.MACHINES)


def test_what_fails_is_accepted(answers: openscap.Answers, platform: Platform) -> None:
    assert {name: set(rules) for name, rules in answers.items()} == openscap.MACHINES
    assert openscap.unaccepted(answers, platform) == []


def test_container_and_machine_reach_the_bars_together(answers: openscap.Answers) -> None:
    bars = yaml.safe_load((CHECKOUT / "roles/audit/defaults/main.yml").read_text())["audit_bars"]
    least = {bar["score"]: bar["least"] for bar in bars if bar["score"] in openscap.PROFILES}
    assert set(least) == set(openscap.PROFILES)
    for name, known in openscap.KNOWN["container"].items():
        here = openscap.score(answers[name])
        passed, judged = (known[kind] + here[kind] for kind in ("passed", "judged"))
        assert 100 * passed / judged >= least[name], (name, passed, judged)
