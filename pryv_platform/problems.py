"""What is wrong, in the one form in which every part of the toolkit says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

Severity = Literal["error", "warning", "note"]


class Problem(TypedDict):
    """One thing that an operator should know before a host is touched.

    Attributes:
        severity: An error keeps the platform from being provisioned.
        where: The variable, host or file that it is about.
        problem: What is wrong, as the rest of a sentence that begins with where.
        remedy: What to do.
    """

    severity: Severity
    where: str
    problem: str
    remedy: str


def make_problem(severity: Severity, where: str, problem: str, remedy: str) -> Problem:
    """Make a problem; see `Problem`."""
    return {"severity": severity, "where": where, "problem": problem, "remedy": remedy}


def make_error(where: str, problem: str, remedy: str) -> Problem:
    """Make a problem that must be put right; see `Problem`."""
    return make_problem("error", where, problem, remedy)


class InputError(ValueError):
    """What an operator wrote cannot be used; its text is for them."""


class ProblemsError(InputError):
    """Input that cannot be used, in more than one place perhaps.

    Attributes:
        problems: Everything that is wrong with it.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Keep the problems and make one message of them."""
        super().__init__("\n".join("{where}: {problem}; {remedy}".format(**problem) for problem in problems))
        self.problems = list(problems)
