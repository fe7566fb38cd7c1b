"""Limits that would let nothing through are refused by the variable's name."""

from __future__ import annotations

from typing import Any

import pytest

from pryv_platform.checks.nginx import limit_problems


@pytest.mark.parametrize("number", [0, -1, 1_000_001])
def test_a_limit_that_is_none_is_refused_by_name(number: int) -> None:
    values: dict[str, dict[str, Any]] = {
        "co1": {"nginx_limits": {"login": {"per_minute": number, "burst": 600}}},
        "reg1": {"nginx_log_days": 60},
    }
    (found,) = limit_problems(values)
    assert found["where"] == "co1: nginx_limits.login.per_minute"
    assert found["problem"] == f"is {number}"
    assert "from 1 to 1000000" in found["remedy"]


@pytest.mark.parametrize("value", [1, 1_000_000, "many", None, [], True])
def test_all_else_is_checked_with_the_others(value: Any) -> None:
    assert limit_problems({"co1": {"firewall_limits": {"https_connections": value}}}) == []
