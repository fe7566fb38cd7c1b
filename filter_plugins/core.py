"""What the inventory alone shows to be wrong with the variables of role ``core``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def core_problems(values: Mapping[str, Mapping[str, Any]], bounds: Mapping[str, Sequence[int]]) -> list[dict[str, str]]:
    """Check the bounds of numbers.

    Args:
        values: By host, the variables that its inventory sets.
        bounds: The least and the greatest value of each variable.

    Returns:
        Mappings of severity, where, problem and remedy. A value that is no number at all is none of these: its type is
        checked with all others'.
    """
    problems = []
    for host, variables in values.items():
        for name, value in variables.items():
            try:
                number = int(value)
            except (TypeError, ValueError):
                continue
            least, most = bounds[name]
            if isinstance(value, str) or not least <= number <= most:
                problems.append(
                    {
                        "severity": "error",
                        "where": f"{host}: {name}",
                        "problem": f"is the text {value!r}" if isinstance(value, str) else f"is {value}",
                        "remedy": f"give a number from {least} to {most}",
                    }
                )
    return problems


class FilterModule:
    """The filters of role ``core``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filters."""
        return {"core_problems": core_problems}
