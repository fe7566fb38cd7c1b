"""The bars of an audit: what a host has to reach."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

GRADES = ("A+", "A", "A-", "B", "C", "D", "E", "F", "T", "M")


def _behind(bar: Mapping[str, Any], value: Any) -> float:
    """Return how far a value is behind a bar, 0 or less when it reaches it. What was not measured is the farthest."""
    if value is None or value == "":
        return math.inf
    if "grade" in bar:
        rank = GRADES.index(value) if value in GRADES else len(GRADES)
        return rank - GRADES.index(bar["grade"])
    return float(bar["least"] - value if "least" in bar else value - bar["most"])


def _wanted(bar: Mapping[str, Any]) -> str:
    """Say what a bar wants."""
    if "grade" in bar:
        return str(bar["grade"])
    if "least" in bar:
        return f"at least {bar['least']}{bar['unit']}"
    return f"at most {bar['most']}{bar['unit']}" if bar["most"] else f"0{bar['unit']}"


def bar_results(hosts: Collection[Mapping[str, Any]], bars: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how each bar is reached, by the worst host. One whose scan was left out everywhere is not claimed.

    Args:
        hosts: What `host_report` returned.
        bars: Each with C(score), C(label), C(unit), and C(least), C(most) or C(grade).
    """
    results = []
    for bar in bars:
        values = {
            host["name"]: host["scores"].get(bar["score"]) for host in hosts if bar["score"] not in host["left_out"]
        }
        if not values:
            continue
        behind = {name: _behind(bar, value) for name, value in values.items()}
        worst = max(behind, key=lambda name: behind[name])
        results.append(
            {
                "label": bar["label"],
                "score": bar["score"],
                "unit": bar["unit"],
                "values": values,
                "worst": worst,
                "value": values[worst],
                "wanted": _wanted(bar),
                "measured": behind[worst] < math.inf,
                "reached": behind[worst] <= 0,
                "left_out": [host["name"] for host in hosts if host["name"] not in values],
            }
        )
    return results
