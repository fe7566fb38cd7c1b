"""The worksheet in CSV and YAML, read back as requirements."""

from __future__ import annotations

from pathlib import Path

import pytest

from pryv_platform.capacity import worksheet as capacity_worksheet
from pryv_platform.capacity.guide import FIELDS
from pryv_platform.capacity.requirements import core_counts
from pryv_platform.problems import InputError
from tests.unit.test_capacity import EXAMPLE

DOCS = Path(__file__).parents[2] / "docs"
HEADER = "Part,Metric (WRITE and READ: per user),ch,de\n"


@pytest.mark.parametrize("name", ["worksheet.csv", "worksheet.yml"])
def test_the_templates_say_what_the_example_says(name: str) -> None:
    """A template that is filled in nowhere gives the example of docs/capacity.md."""
    zones = capacity_worksheet.capacity_worksheet((DOCS / name).read_text(), name)
    assert zones == {"ch": {**EXAMPLE, "users_leaving_per_month": 0}}
    assert core_counts(zones) == {"ch": 4}


def test_every_requirement_has_its_line() -> None:
    """What the plan asks for, the worksheet has."""
    assert sorted(capacity_worksheet.ROWS.values()) == sorted(field.path for field in FIELDS)


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


@pytest.mark.parametrize(
    ("cell", "right"),
    [
        ("25.000", "can be read as 25 and as 25000; right is 25000 or 25, as it is meant"),
        ("25,000", "can be read as 25 and as 25000; right is 25000 or 25, as it is meant"),
        ("1.250", "can be read as 1.25 and as 1250; right is 1250 or 1.25"),
        ("1.234", "can be read as 1.2340 and as 1234; right is 1234 or 1.2340"),
        ("0,05", "is written with a comma; right is 0.05"),
        ("0,001", "is written with a comma; right is 0.001"),
        ("25.000,00", "is written with a comma; right is 25000"),
        ("1,234,567", "is written with a comma; right is 1234567"),
        ("1,234.5", "is written with a comma; right is 1234.5"),
        ("25\u00a0000,5", "is written with a comma; right is 25000.5"),
        *(
            (cell, "is no number")
            for cell in ("2'50", "1 2", "2,50,000", "1.2.3", "007", "000", "1e3", "50%", "\u0663")
        ),
    ],
)
def test_a_number_that_is_not_ours_is_refused_with_what_would_be_right(cell: str, right: str) -> None:
    """A spreadsheet's thousands are never taken for a fraction, nor the other way round."""
    with pytest.raises(InputError) as caught:
        capacity_worksheet.capacity_worksheet(f'{HEADER}ZONE,Users (planned population),"{cell}",1\n', "plan.csv")
    assert f"row 2 (Users (planned population)), column ch: {cell!r} {right}" in str(caught.value)
    for number in right.partition("right is ")[2].partition(",")[0].split(" or ") if "right is " in right else []:
        assert capacity_worksheet.number(number) is not None


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        *((f"25{mark}000", 25000) for mark in " '\u2019\u2018`\u00b4\u00a0\u2009\u202f\u2007"),
        ("1.234.567", 1234567),
        (" 25000\u00a0", 25000),
        ("0.001", 0.001),
        ("12.5", 12.5),
        ("1.2340", 1.234),
        ("1234.567", 1234.567),
        ("25000.0", 25000),
    ],
)
def test_a_number_that_can_be_read_in_one_way(cell: str, value: float) -> None:
    """Groups of three digits, with whatever a spreadsheet puts between them."""
    assert capacity_worksheet.number(cell) == value


def test_a_line_that_is_there_twice() -> None:
    """Neither wins; both are named."""
    text = HEADER + 'ZONE,Users (planned population),1,2\n\n"zone ",users (planned  population),1,2\n'
    with pytest.raises(InputError, match=r"plan.csv, rows 2 and 4: both are zone, users \(planned  population\)"):
        capacity_worksheet.capacity_worksheet(text, "plan.csv")


@pytest.mark.parametrize("row", ["25,000,1,Why", "25,000,30,000,Why", "25,000,1"])
def test_a_number_that_became_two_cells(row: str) -> None:
    """Without quotes, the comma in a number moves all that follows to the next column."""
    text = f"{HEADER[:-1]},What it means\nZONE,Users (planned population),{row}\n"
    with pytest.raises(InputError, match=r"row 2 .*: a number with a comma is two cells"):
        capacity_worksheet.capacity_worksheet(text, "plan.csv")


LINES = [HEADER.strip(), "ZONE,Users (planned population),25\u00a0000,3"]
READ = {"ch": {"users": 25000}, "de": {"users": 3}}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "windows-1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_file_in_any_of_spreadsheets_encodings(encoding: str, separator: str, end: str) -> None:
    """What is no UTF-8 comes from Ansible as lone surrogates."""
    content = end.join([*LINES, ""]).replace(",", separator).encode(encoding)
    text = content.decode("utf-8", "surrogateescape")
    assert capacity_worksheet.capacity_worksheet(text, "plan.csv") == READ


def test_the_line_that_names_the_separator() -> None:
    """Spreadsheets write it, and hide it."""
    text = "\r\n".join(["sep=;", *LINES]).replace(",", ";")
    assert capacity_worksheet.capacity_worksheet(text, "plan.csv") == READ


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("\n".join(LINES).encode("utf-16-le"), "neither UTF-8 nor Windows-1252; right is UTF-8"),
        (b"Part\x81", "neither UTF-8 nor Windows-1252"),
        (b"\xff\xfeP", "not quite UTF-16-LE"),
    ],
)
def test_an_encoding_that_cannot_be_told(content: bytes, said: str) -> None:
    """The refusal says which was tried and which is right."""
    with pytest.raises(InputError, match=rf"plan\.csv: its encoding is {said}"):
        capacity_worksheet.capacity_worksheet(content.decode("utf-8", "surrogateescape"), "plan.csv")


def test_all_problems_at_once_with_row_and_column() -> None:
    """A person finds the cell."""
    text = HEADER + 'ZONE,Users (planned population),many,2\nWRITE,Volume (MB per day),1,"0,5"\nREAD,Colour,1,2\n'
    with pytest.raises(InputError) as caught:
        capacity_worksheet.capacity_worksheet(text, "plan.csv")
    users, volume, colour = str(caught.value).splitlines()
    assert users.startswith("plan.csv, row 2 (Users (planned population)), column ch: 'many' is no number")
    assert "column de: '0,5' is written with a comma; right is 0.5" in volume
    assert colour.startswith("plan.csv, row 4: 'READ', 'Colour' is unknown; right is one of")


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("", "a.csv", "the first row"),
        ("Part,Metric (WRITE and READ: per user)\n", "a.csv", "one column for each zone"),
        (HEADER.replace("de", "ch"), "a.csv", "same name"),
        (HEADER + 'ZONE,"open', "a.csv", "no CSV: unexpected end of data"),
        ("a: [", "a.yml", "no YAML"),
        ("- a", "a.yaml", "right is a mapping"),
        ("", "a.xlsx", "neither CSV nor YAML"),
    ],
)
def test_what_cannot_be_read(text: str, name: str, said: str) -> None:
    """The error names the file."""
    with pytest.raises(InputError, match=said) as caught:
        capacity_worksheet.capacity_worksheet(text, name)
    assert name in str(caught.value)


def test_empty_cells_are_missing_requirements() -> None:
    """Left out is not zero."""
    zones = capacity_worksheet.capacity_worksheet(HEADER + "ZONE,Users (planned population),1,\n", "a.csv")
    with pytest.raises(InputError, match=r"privacy_zones\.de\.users: missing"):
        core_counts(zones)
