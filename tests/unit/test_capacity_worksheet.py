"""The worksheet in CSV and YAML, read back as requirements."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError

from filter_plugins import capacity, capacity_worksheet
from tests.unit.test_capacity import EXAMPLE

DOCS = Path(__file__).parents[2] / "docs"
HEADER = "Part,Metric (WRITE and READ: per user),ch,de\n"


@pytest.mark.parametrize("name", ["worksheet.csv", "worksheet.yml"])
def test_the_templates_say_what_the_example_says(name: str) -> None:
    """A template that is filled in nowhere gives the example of docs/capacity.md."""
    zones = capacity_worksheet.capacity_worksheet((DOCS / name).read_text(), name)
    assert zones == {"ch": {**EXAMPLE, "users_leaving_per_month": 0}}
    assert capacity.core_counts(zones) == {"ch": 4}


def test_every_requirement_has_its_line() -> None:
    """What the plan asks for, the worksheet has."""
    assert sorted(capacity_worksheet.ROWS.values()) == sorted(field.path for field in capacity.FIELDS)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_what_spreadsheets_do_to_a_file(separator: str) -> None:
    """Byte order mark, other separators, Windows line ends, changed case and spaces, grouped digits, empty rows."""
    rows = [
        ["Part", "metric (write and read:  per user)", "ch", "de"],
        ["zone ", "USERS (planned population)", "25'000", "25 000"],
        ["", "", "", ""],
        ["Write", "Volume (MB  per day)", "0.5", "25\u2019000.5"],
        ["READ", "Volume (MB per day)", "1", ""],
    ]
    text = "\ufeff" + "\r\n".join(separator.join(row) for row in rows)
    assert capacity_worksheet.capacity_worksheet(text, "Plan.CSV") == {
        "ch": {"users": 25000, "write": {"mb_per_day": 0.5}, "read": {"mb_per_day": 1}},
        "de": {"users": 25000, "write": {"mb_per_day": 25000.5}},
    }


def test_all_problems_at_once_with_row_and_column() -> None:
    """A person finds the cell."""
    text = HEADER + 'ZONE,Users (planned population),many,2\nWRITE,Volume (MB per day),1,"0,5"\nREAD,Colour,1,2\n'
    with pytest.raises(AnsibleFilterError) as caught:
        capacity_worksheet.capacity_worksheet(text, "plan.csv")
    users, volume, colour = str(caught.value).splitlines()
    assert users.startswith("plan.csv, row 2 (Users (planned population)), column ch: 'many' is no number")
    assert "column de: '0,5' is no number; right is one with a point" in volume
    assert colour.startswith("plan.csv, row 4: 'READ', 'Colour' is unknown; right is one of")


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("", "a.csv", "the first row"),
        ("Part,Metric (WRITE and READ: per user)\n", "a.csv", "one column for each zone"),
        (HEADER.replace("de", "ch"), "a.csv", "same name"),
        ("a: [", "a.yml", "no YAML"),
        ("- a", "a.yaml", "right is a mapping"),
        ("", "a.xlsx", "neither CSV nor YAML"),
    ],
)
def test_what_cannot_be_read(text: str, name: str, said: str) -> None:
    """The error names the file."""
    with pytest.raises(AnsibleFilterError, match=said) as caught:
        capacity_worksheet.capacity_worksheet(text, name)
    assert name in str(caught.value)


def test_empty_cells_are_missing_requirements() -> None:
    """Left out is not zero."""
    zones = capacity_worksheet.capacity_worksheet(HEADER + "ZONE,Users (planned population),1,\n", "a.csv")
    with pytest.raises(AnsibleFilterError, match=r"privacy_zones\.de\.users: missing"):
        capacity.core_counts(zones)
