"""OpenSCAP's rules for machines, but for those about what a container shares with its host: tests/hosts/openscap.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from testinfra.host import Host

from tests.hosts import openscap
from tests.hosts.conftest import Platform

#: The scanner, and what it takes a system with a kernel by.
PACKAGES = "openscap-scanner linux-base"


@pytest.fixture(scope="module")
def answers(machine: Host) -> Iterator[openscap.Answers]:
    """What all rules say of the container."""
    own = machine.check_output("apt-mark showmanual; apt-mark showauto").split()
    assert not set(PACKAGES.split()) & set(own)
    machine.check_output("apt-get -qq update && apt-get -qq install --yes --no-install-recommends " + PACKAGES)
    # As every boot does.
    machine.run("systemd-tmpfiles --create")
    # What it takes a container by.
    machine.check_output("mv /.dockerenv /run/dockerenv")
    yield openscap.scan(machine)
    machine.check_output("mv /run/dockerenv /.dockerenv")
    machine.check_output(f"apt-get -qq purge --yes --autoremove {PACKAGES}")


def test_each_rule_is_answered_here_or_put_to_the_machine(answers: openscap.Answers) -> None:
    assert {name: len(rules) for name, rules in answers.items()} == {"cis": 403, "anssi": 323}
    for name, rules in answers.items():
        assert set(rules) >= openscap.MACHINES[name]
        assert {rule for rule, said in rules.items() if said == "notapplicable"} <= openscap.MACHINES[name]


def test_what_fails_is_accepted_or_put_to_the_machine(answers: openscap.Answers, platform: Platform) -> None:
    failed = openscap.unaccepted(answers, platform)
    assert [(name, rule) for name, rule in failed if rule not in openscap.MACHINES[name]] == []


def test_the_score_is_the_one_that_the_machine_adds_to(answers: openscap.Answers) -> None:
    here = {
        name: {rule: said for rule, said in rules.items() if rule not in openscap.MACHINES[name]}
        for name, rules in answers.items()
    }
    assert {name: openscap.score(rules) for name, rules in here.items()} == openscap.KNOWN["container"]
