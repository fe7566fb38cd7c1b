"""What keeps an inventory from describing a platform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pryv_platform.problems import InputError


@dataclass(frozen=True)
class Obstacle:
    """One thing that is wrong in the inventory.

    Attributes:
        variable: Where it is, as an operator would look for it: ``co1: privacy_zone``.
        value: What is there; None when nothing is.
        remedy: What would be right.
    """

    variable: str
    value: Any
    remedy: str

    @property
    def found(self) -> str:
        """What is there, in words."""
        return "is not set" if self.value is None else f"is {self.value!r}"

    def __str__(self) -> str:
        """Return the problem as one line."""
        return f"{self.variable} {self.found}: {self.remedy}"


class TopologyError(InputError):
    """The inventory does not describe a platform.

    Attributes:
        problems: Everything that is wrong with it.
    """

    def __init__(self, problems: Sequence[Obstacle]) -> None:
        """Keep the problems and make one message of them."""
        lines = [f"- {problem}" for problem in problems]
        super().__init__("\n".join(["the inventory does not describe a platform:", *lines]))
        self.problems = list(problems)
