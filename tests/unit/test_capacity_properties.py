"""What holds of the number of cores whatever the requirements are."""

from __future__ import annotations

import copy
from fractions import Fraction
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from pryv_platform.capacity.plan import capacity_plan
from pryv_platform.capacity.requirements import MOST_CORES, core_counts
from tests.unit.test_capacity import zone

LIMITS = {
    "write__requests_per_second": 2000,
    "write__attachments_mb_per_second": 200,  # half of the 400 MB/s of zone()
    "read__requests_per_second": 2000,
    "read__attachments_per_second": 600,
    "read__previews_per_second": 100,
}
METRICS = st.sampled_from(["users", "safety_margin", *LIMITS])


def numbers(most: float) -> st.SearchStrategy[float]:
    """Return numbers as people write them, integers and decimals, and as machines do."""
    return st.one_of(
        st.integers(0, int(most)),
        st.decimals(0, most, places=3).map(float),
        st.floats(0, most, allow_subnormal=False),
    )


@st.composite
def requirements(draw: st.DrawFn) -> dict[str, Any]:
    """Return the changes of a zone that a core can serve at least one user of."""
    # Up to a limit divided by the largest margin, so that no single user exceeds a core.
    changes: dict[str, Any] = {key: draw(numbers(limit / 2)) for key, limit in LIMITS.items()}
    return {**changes, "users": draw(st.integers(0, 200_000)), "safety_margin": draw(st.floats(1, 2))}


def count(changes: dict[str, Any]) -> int:
    """Return the cores of one zone."""
    return core_counts({"ch": zone(**changes)})["ch"]


def fits(changes: dict[str, Any], cores: int) -> bool:
    """Tell whether so many cores stay within every limit, by the rule's own words and in fractions."""
    users, margin = changes["users"], Fraction(str(changes["safety_margin"]))
    people = -(-users * margin // 1)
    fullest = -(-people // cores)
    within = (users * Fraction(str(changes[key])) * margin <= limit * cores for key, limit in LIMITS.items())
    return fullest < 10_000 and all(within)


@given(requirements())
def test_the_count_is_minimal(changes: dict[str, Any]) -> None:
    """As many cores as counted stay within every limit; one fewer breaks one."""
    cores = count(changes)
    assert cores >= 1
    assert fits(changes, cores)
    assert cores == 1 or not fits(changes, cores - 1)


@given(requirements(), METRICS, st.data())
def test_more_demand_never_needs_fewer_cores(changes: dict[str, Any], metric: str, data: st.DataObject) -> None:
    """Raising any one figure raises the count or leaves it."""
    if metric == "users":
        value: float = data.draw(st.integers(0, 400_000))
    else:
        value = data.draw(st.floats(0, 2 if metric == "safety_margin" else LIMITS[metric] / 2, allow_subnormal=False))
    assume(value >= changes[metric])
    assert count({**changes, metric: value}) >= count(changes)


@given(st.lists(requirements(), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_zones_do_not_influence_each_other(changes: list[dict[str, Any]], random: Any) -> None:
    """Each zone counts as if it were alone, in whatever order zones and lines are written."""
    zones = {f"z{number}": zone(**change) for number, change in enumerate(changes)}
    counts = core_counts(zones)
    assert counts == {f"z{number}": count(change) for number, change in enumerate(changes)}

    def shuffled(mapping: dict[str, Any]) -> dict[str, Any]:
        keys = list(mapping)
        random.shuffle(keys)
        return {key: shuffled(mapping[key]) if isinstance(mapping[key], dict) else mapping[key] for key in keys}

    assert core_counts(shuffled(zones)) == counts


@given(requirements())
def test_the_plan_agrees_and_changes_nothing(changes: dict[str, Any]) -> None:
    """Plan and count are one, the metric that decides asks for all cores, the input stays as it was."""
    # A platform has names for so many cores.
    changes["users"] = changes["users"] * MOST_CORES // max(count(changes), MOST_CORES)
    zones = {"ch": zone(**changes)}
    before = copy.deepcopy(zones)
    plan = capacity_plan(zones)["zones"]["ch"]
    assert zones == before
    assert plan["cores"] == count(changes)
    assert plan["metrics"][plan["binding"]]["cores"] in (plan["cores"], 0)
    assert all(0 <= metric["load"] <= 1.0000001 for metric in plan["metrics"].values())
    rooms = [metric["headroom_users"] for metric in plan["metrics"].values() if metric["headroom_users"] is not None]
    assert min(rooms) >= 0
    # The room is exact: that many users more still fit, and one more does not.
    assert count({**changes, "users": changes["users"] + min(rooms)}) == plan["cores"]
    assert count({**changes, "users": changes["users"] + min(rooms) + 1}) > plan["cores"]
