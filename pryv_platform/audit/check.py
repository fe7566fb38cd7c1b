"""A thing that an audit looked at, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

FAILED, ACCEPTED, PASSED, ADVICE, UNKNOWN = "failed", "accepted", "passed", "advice", "unknown"
#: In the order in which a person wants to see them.
STATUSES = (FAILED, ACCEPTED, ADVICE, UNKNOWN, PASSED)
SEVERITIES = ("critical", "high", "medium", "low", "")

SCANNERS = {
    "openscap": "OpenSCAP",
    "lynis": "Lynis",
    "ssh_audit": "ssh-audit",
    "tls": "testssl.sh",
    "nginx": "gixy",
    "ports": "Open ports",
    "docker_bench": "Docker bench",
    "host": "Own checks",
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at on one host.

    Attributes:
        scanner: A key of `SCANNERS`.
        rule: What the scanner calls it.
        title: What was looked at.
        status: One of `STATUSES`.
        found: What is there, when it is not as it should be.
        remedy: What to do about it, or how it should be.
        severity: One of `SEVERITIES`.
        reason: Why it is accepted.
    """

    scanner: str
    rule: str
    title: str
    status: str
    found: str = ""
    remedy: str = ""
    severity: str = ""
    reason: str = ""


def judge(scanner: str, rule: str, title: str, problem: str, remedy: str, severity: str = "medium") -> Check:
    """Return a check that passed when there is no problem."""
    if not problem:
        return Check(scanner, rule, title, PASSED)
    return Check(scanner, rule, title, FAILED, problem, remedy, severity)


def unless(fine: object, problem: str) -> str:
    """Return a problem where something is not fine; empty text where it is."""
    return "" if fine else problem
