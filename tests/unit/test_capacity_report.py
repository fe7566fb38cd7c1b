"""The plan in the terminal and in drawings."""

from __future__ import annotations

from typing import Any

import pytest

from pryv_platform.capacity import report as capacity_report
from pryv_platform.capacity.forecast import capacity_forecast
from pryv_platform.capacity.plan import capacity_plan
from tests.unit import markup
from tests.unit.test_capacity import EXAMPLE, zone


@pytest.mark.parametrize(
    ("value", "text"), [(25000, "25'000"), (1234567, "1'234'567"), (0.05, "0.05"), (2000.5, "2'000.5"), (None, "")]
)
def test_number(value: float | None, text: str) -> None:
    """Groups of three, as in the guide."""
    assert capacity_report.number(value) == text


@pytest.mark.parametrize(("count", "text"), [(1, "in 1 month"), (12, "in 1 year"), (29, "in 2 years and 5 months")])
def test_months(count: int, text: str) -> None:
    """Years and months."""
    assert capacity_report.months(count) == text


def test_percent() -> None:
    """What is not nothing is not shown as nothing."""
    assert [capacity_report.percent(share) for share in (0, 0.001, 0.75, 1)] == ["0 %", "< 1 %", "75 %", "100 %"]


def test_table_fits_a_terminal() -> None:
    """Zones, metric, machines and warnings, in 100 columns, with nothing after the last word of a line."""
    zones = {"ch": EXAMPLE, "liechtenstein": zone(users=3)}
    plan = capacity_plan(zones)
    text = capacity_report.capacity_table(plan, capacity_forecast(zones, "2026-11"))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines == [line.rstrip() for line in lines]
    (row,) = (line for line in lines if line.startswith("ch "))
    assert row.split() == [
        *("ch", "25'000", "4", "users", "75", "%", "8'330", "users"),
        *("2028-04,", "in", "1", "year", "and", "5", "months"),
    ]
    assert any(line.split() == ["core", "(ch)", "4", "4", "10", "15", "20'532"] for line in lines)


@pytest.mark.parametrize(
    "zones",
    [
        {"ch": zone()},
        {"ch": zone(users=25000)},
        {"ch": zone(users=1_000_000)},
        {f"z{number}": zone(users=20000) for number in range(20)},
    ],
)
@pytest.mark.parametrize("environment", ["development", "production"])
def test_diagram(zones: dict[str, Any], environment: str) -> None:
    """A drawing of any platform is well-formed, has a text alternative, and nothing lies outside of it."""
    plan = capacity_plan(zones, environment=environment)
    drawing = markup.read(capacity_report.capacity_diagram(plan))
    assert_inside(drawing)
    words = [text.text for text in drawing.all("text")]
    assert "co1" in words
    assert any("HTTPS" in word for word in words)
    for name in list(zones)[:12]:
        assert any(name in word for word in words)


def test_chart() -> None:
    """One line for cores that came together, beginning where they come."""
    forecast = capacity_forecast({"ch": zone(users=15000, users_growth_per_month=300)}, "2026-11", 36)
    drawing = markup.read(capacity_report.capacity_chart(forecast, "ch"))
    assert_inside(drawing)
    words = [text.text for text in drawing.all("text")]
    assert {"cores 1 to 2", "core 3", "full: 9'999 users", "2026-11", "2029-11"} <= set(words)
    assert len([path for path in drawing.all("path") if "line" in path.attributes["class"].split()]) == 2


def assert_inside(drawing: markup.Element) -> None:
    """Assert that a drawing has a text alternative, and that its boxes and texts are within it."""
    (svg,) = drawing.all("svg")
    assert svg.attributes["role"] == "img"
    assert svg.attributes["aria-label"]
    _, _, width, height = map(float, svg.attributes["viewbox"].split())
    for element in svg.all("rect", "text"):
        x, y, wide, high = (float(element.attributes.get(key, 0)) for key in ("x", "y", "width", "height"))
        assert 0 <= x <= x + wide <= width
        assert 0 <= y <= y + high <= height
