"""Numbers that lie within bounds: what types cannot say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pryv_platform.problems import Problem, make_error


def bounds_problems(values: Mapping[str, Mapping[str, Any]], bounds: Mapping[str, Sequence[int]]) -> list[Problem]:
    """Check the bounds of numbers.

    Args:
        values: By host, the variables that its inventory sets.
        bounds: The least and the greatest value of each variable.

    Returns:
        Problems. A value that is no number at all is none of these: its type is
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
                    make_error(
                        f"{host}: {name}",
                        f"is the text {value!r}" if isinstance(value, str) else f"is {value}",
                        f"give a number from {least} to {most}",
                    )
                )
    return problems
