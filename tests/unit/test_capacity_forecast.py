"""The forecast, and the registry's way of giving users to cores."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pryv_platform.capacity.forecast import assign, capacity_forecast, leave
from pryv_platform.problems import InputError
from tests.unit.test_capacity import zone

CORES = st.lists(st.integers(0, 60), min_size=1, max_size=7)


def one_by_one(users: list[int], newcomers: int) -> list[int]:
    """Give each newcomer to the first core, in configuration order, of those with the fewest users."""
    users = list(users)
    for _ in range(newcomers):
        users[users.index(min(users))] += 1
    return users


@given(CORES, st.integers(0, 400))
def test_assigning_at_once_equals_one_by_one(users: list[int], newcomers: int) -> None:
    """The shortcut is exact."""
    assert assign(users, newcomers) == one_by_one(users, newcomers)


@given(CORES, st.integers(0, 400))
def test_leaving_is_proportional(users: list[int], leavers: int) -> None:
    """Everyone who leaves leaves somewhere, and each core loses its share to within one."""
    left = leave(users, leavers)
    gone = [before - after for before, after in zip(users, left, strict=True)]
    assert sum(gone) == min(leavers, sum(users))
    assert all(count >= 0 for count in left)
    if total := sum(users):
        share = min(leavers, total) / total
        assert all(abs(lost - before * share) < 1 for lost, before in zip(gone, users, strict=True))


@pytest.mark.parametrize(
    ("users", "newcomers", "result"),
    [
        ([0, 0, 0], 7, [3, 2, 2]),  # round-robin on a stable set
        ([0, 0], 1, [1, 0]),  # the first of equals
        ([5, 3, 3], 1, [5, 4, 3]),
        ([8000, 8000, 0], 500, [8000, 8000, 500]),  # a new core takes all
        ([8000, 8000, 0], 8001, [8001, 8000, 8000]),
        ([7], 3, [10]),
    ],
)
def test_assignment_by_hand(users: list[int], newcomers: int, result: list[int]) -> None:
    """The registry's rule in small numbers."""
    assert assign(users, newcomers) == result


def forecast(months: int = 12, start: str = "2026-11", **changes: Any) -> dict[str, Any]:
    """Return the forecast of one zone."""
    zones: dict[str, Any] = capacity_forecast({"ch": zone(**changes)}, start, months)["zones"]
    result: dict[str, Any] = zones["ch"]
    return result


def test_next_core_by_hand() -> None:
    """9'000 + 500 a month: 9'500, then 10'000, which a core does not hold."""
    ahead = forecast(users=9000, users_growth_per_month=500)
    expected = {"month": "2027-01", "in_months": 2, "cores": 2, "users": 10000, "metric": "users"}
    assert ahead["next_core"] == expected
    assert ahead["additions"][0] == expected
    assert [entry["users_per_core"] for entry in ahead["history"][:5]] == [
        [9000],
        [9500],
        [9500, 500],
        [9500, 1000],
        [9500, 1500],
    ]
    assert [entry["skew"] for entry in ahead["history"][:4]] == [0, 0, 9000, 8500]
    assert ahead["full_without_additions"] == ["2027-01"]


def test_next_core_beyond_the_horizon() -> None:
    """A far month is named all the same."""
    ahead = forecast(users=9000, users_growth_per_month=1)
    assert ahead["additions"] == []
    assert ahead["next_core"]["in_months"] == 1000
    assert ahead["full_without_additions"] == [None]


def test_no_growth_no_next_core() -> None:
    """Nothing grows, nothing is needed; users who leave are replaced."""
    ahead = forecast(users=9000, users_leaving_per_month=100)
    assert ahead["next_core"] is None
    assert {entry["users"] for entry in ahead["history"]} == {9000}


def test_leaving_users_level_a_new_core() -> None:
    """The old core shrinks as users leave it, and the new one takes all newcomers until they are level."""
    ahead = forecast(months=120, users=9900, users_growth_per_month=20, users_leaving_per_month=300)
    skew = [entry["skew"] for entry in ahead["history"]]
    added = ahead["next_core"]["in_months"]
    assert skew[added] > 9000
    # A core more shrinks the other's share month by month, until both take turns.
    assert all(later <= earlier for earlier, later in zip(skew[added:], skew[added + 1 :], strict=False))
    assert skew[-1] <= 1


@given(
    st.integers(0, 30000),
    st.integers(0, 3000),
    st.integers(0, 3000),
    st.floats(0, 0.5),
    st.floats(1, 2),
    st.integers(1, 24),
)
def test_no_core_is_ever_overfull(
    users: int, growth: int, leaving: int, reads: float, margin: float, months: int
) -> None:
    """With cores added when the forecast says so, no core holds more than it may (but for one uneven user)."""
    ahead = forecast(
        months=months,
        users=users,
        users_growth_per_month=growth,
        users_leaving_per_month=leaving,
        read__requests_per_second=reads,
        safety_margin=margin,
    )
    for month, entry in enumerate(ahead["history"]):
        assert entry["users"] == users + growth * month
        assert max(entry["users_per_core"]) <= ahead["users_per_core_at_most"] + 1
    counts = [len(entry["users_per_core"]) for entry in ahead["history"]]
    assert counts == sorted(counts)
    if ahead["additions"]:
        assert ahead["additions"][0] == ahead["next_core"]


@pytest.mark.parametrize(
    ("arguments", "variable"),
    [
        ({"start": "november"}, "capacity_start"),
        ({"start": "2026-13"}, "capacity_start"),
        ({"months": 0}, "capacity_forecast_months"),
        ({"months": "12"}, "capacity_forecast_months"),
        ({"months": 1000}, "capacity_forecast_months"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], variable: str) -> None:
    """An error names the variable."""
    with pytest.raises(InputError, match=f"^{variable}: "):
        capacity_forecast({"ch": zone()}, **{"start": "2026-11", **arguments})


def test_a_million_users_in_seconds() -> None:
    """Three years of a platform that grows to a million users, twice with the same result."""
    changes: dict[str, Any] = {"users": 100_000, "users_growth_per_month": 25_000, "users_leaving_per_month": 5000}
    started = time.process_time()
    first = forecast(months=36, **changes)
    elapsed = time.process_time() - started
    assert first["history"][-1]["users"] == 1_000_000
    assert len(first["history"][-1]["users_per_core"]) == 101  # 1'000'000 / 9'999
    assert first == forecast(months=36, **changes)
    assert elapsed < 2
