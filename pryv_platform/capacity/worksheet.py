"""The design guide's worksheet, as business people fill it in: a CSV or YAML file, read back as requirements."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from pryv_platform.problems import Problem, ProblemsError, make_error

# The guide's wording and units; the path is where the figure stands in a zone's requirements.
ROWS = {
    ("ZONE", "Users (planned population)"): "users",
    ("ZONE", "Safety margin (factor for every demand, 1 or more)"): "safety_margin",
    ("ZONE", "Growth (users per month)"): "users_growth_per_month",
    ("ZONE", "Users who leave and are replaced (per month)"): "users_leaving_per_month",
    ("ZONE", "Storage system of a core (MB/s)"): "storage_mb_per_second",
    ("WRITE", "Expected Write Requests Per Second (max rqps)"): "write.requests_per_second",
    ("WRITE", "Attachment Writes (max MB/s)"): "write.attachments_mb_per_second",
    ("WRITE", "Volume (data points per day)"): "write.data_points_per_day",
    ("WRITE", "Volume (MB per day)"): "write.mb_per_day",
    ("WRITE", "Retention of data (years)"): "write.retention_years",
    ("READ", "Expected Read Requests Per Second (max rqps)"): "read.requests_per_second",
    ("READ", "Number of Points retrieved per Request (scalar)"): "read.points_per_request",
    ("READ", "Attachment Reads (rqps)"): "read.attachments_per_second",
    ("READ", "Image Previews (rqps)"): "read.previews_per_second",
    ("READ", "Volume (data points per day)"): "read.data_points_per_day",
    ("READ", "Volume (MB per day)"): "read.mb_per_day",
}
# Columns that are no zone.
PART = "Part"
METRIC = "Metric (WRITE and READ: per user)"
MEANING = "What it means"


class WorksheetError(ProblemsError):
    """A worksheet that cannot be read."""


def _folded(text: str) -> str:
    """Fold what spreadsheets and people change: case and spaces."""
    return " ".join(text.split()).casefold()


PATHS = {(_folded(part), _folded(metric)): path for (part, metric), path in ROWS.items()}


# What people and spreadsheets put between groups of three digits, beside points, commas and spaces of every kind.
APOSTROPHES = "'\u2018\u2019\u02b9\u00b4`"
# Between groups of digits, and before decimals, as countries have it; the first is ours.
NOTATIONS = (("'", "."), ("'", ","), (".", ","), (",", "."))


def readings(text: str) -> list[str]:
    """Return every number that people may mean by a text, each as a number with a point and without groups.

    25'000 is one, 0,05 is one, 25.000 and 25,000 are two; a word is none.
    """
    bare = re.sub(rf"(?<=[0-9])[\s{APOSTROPHES}](?=[0-9])", "'", text.strip())
    found = []
    for group, point in NOTATIONS:
        grouped = f"[1-9][0-9]{{0,2}}(?:[{group}][0-9]{{3}})+"
        if match := re.fullmatch(f"(-?(?:{grouped}|0|[1-9][0-9]*))(?:[{point}]([0-9]+))?", bare):
            whole, part = match[1].replace(group, ""), (match[2] or "").rstrip("0")
            # Three decimals could be taken for thousands.
            found.append(f"{whole}.{part}{'0' * (len(part) == 3 and whole != '0')}" if part else whole)
    return list(dict.fromkeys(found))


def number(text: str) -> int | float | None:
    """Read a number (25'000, 0.05); None when it is none, is written with a comma, or can be read in two ways."""
    found = readings(text)
    if len(found) != 1 or "," in text:
        return None
    return float(found[0]) if "." in found[0] else int(found[0])


def _number_problem(where: str, text: str) -> Problem:
    """Say why a cell has no number that can be used, and what would be right."""
    match sorted(readings(text), key=float):
        case [low, high]:
            found, right = f"can be read as {low} and as {high}", f"{high} or {low}, as it is meant"
        case [only]:
            found, right = "is written with a comma", only
        case _:
            found, right = "is no number", "one such as 25000 or 0.05"
    return make_error(where, f"{text!r} {found}", f"right is {right}")


# How a text begins tells its encoding; longer marks first, since one begins with another.
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
RIGHT_ENCODING = "right is UTF-8, which spreadsheets call 'CSV UTF-8'"


def decoded(text: str, name: str) -> str:
    """Read a file's text in the encoding that a spreadsheet gave it.

    Args:
        text: what is in the file, as Ansible decodes bytes: UTF-8, with what is no UTF-8 as lone surrogates.
        name: the file's name.

    Raises:
        WorksheetError: its encoding cannot be told.
    """
    content = text.encode("utf-8", "surrogateescape")
    mark, encoding = next(((mark, name) for mark, name in MARKS if content.startswith(mark)), (b"", ""))
    # Without a mark it is UTF-8, or what Windows writes in Western countries.
    for candidate in [encoding] if encoding else ["utf-8", "windows-1252"]:
        try:
            result = content.removeprefix(mark).decode(candidate)
        except UnicodeDecodeError:
            continue
        if "\0" not in result:
            return result
    tried = f"not quite {encoding.upper()}" if encoding else "neither UTF-8 nor Windows-1252"
    raise WorksheetError([make_error(name, f"its encoding is {tried}", RIGHT_ENCODING)])


def _table(text: str, name: str) -> list[list[str]]:
    """Split the text of a CSV file into rows of cells; the separator is a comma, a semicolon or a tab."""
    first, _, rest = text.partition("\n")
    if told := re.fullmatch(r"sep=([,;\t])\s*", first):  # a spreadsheet's own way to say it
        separator, text = told[1], rest
    else:
        separator = max(",;\t", key=first.count)
    try:
        return list(csv.reader(io.StringIO(text), delimiter=separator, strict=True))
    except csv.Error as error:
        right = "right is what a spreadsheet saves, each cell's quotes closed"
        raise WorksheetError([make_error(name, f"no CSV: {error}", right)]) from error


@dataclass
class _Table:
    """A worksheet's rows and what its columns are."""

    name: str
    rows: list[list[str]]
    places: dict[str, int]  # column by folded title
    zones: dict[int, str]  # zone by column

    @classmethod
    def of(cls, text: str, name: str) -> _Table:
        """Split a worksheet and read its header."""
        rows = _table(text, name)
        header = [cell.strip() for cell in rows[0]] if rows else []
        known = [_folded(cell) for cell in (PART, METRIC, MEANING)]
        places = {_folded(cell): column for column, cell in enumerate(header)}
        zones = {column: cell for column, cell in enumerate(header) if cell and _folded(cell) not in known}
        if not zones or not {known[0], known[1]} <= set(places):
            first = text.partition("\n")[0].strip()
            right = f"right is '{PART}', '{METRIC}' and one column for each zone"
            raise WorksheetError([make_error(name, f"the first row is {first!r}", right)])
        return cls(name, rows, places, zones)

    def cells(self, row: list[str]) -> list[str]:
        """Return a row's cells, as many as the header has."""
        return [*row, *[""] * (len(self.rows[0]) - len(row))][: len(self.rows[0])]

    def shift(self, row: list[str]) -> str | None:
        """Say why a row's cells are not below their titles: a separator within a number makes two cells of it."""
        meaning = self.places.get(_folded(MEANING))
        if any(cell.strip() for cell in row[len(self.rows[0]) :]):
            found = f"has {len(row)} cells, and the header {len(self.rows[0])}"
        elif meaning is not None and re.fullmatch(r"[0-9.,]+", self.cells(row)[meaning].strip()):
            found = f"has {self.cells(row)[meaning].strip()!r} below '{MEANING}'"
        else:
            return None
        return f"{found}: a number with a comma is two cells"


def read_csv(text: str, name: str) -> dict[str, Any]:
    """Read a worksheet that a spreadsheet wrote."""
    table = _Table.of(re.sub(r"\r\n?", "\n", decoded(text, name)), name)
    zones = {zone: dict[str, Any]() for zone in table.zones.values()}
    problems, seen = [], dict[str, int]()
    if len(zones) < len(table.zones):
        problems.append(make_error(name, "two columns have the same name", "right is one column for each zone"))
    for line, row in enumerate(table.rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        cells = table.cells(row)
        part, metric = cells[table.places[_folded(PART)]].strip(), cells[table.places[_folded(METRIC)]].strip()
        path = PATHS.get((_folded(part), _folded(metric)))
        where = f"{name}, row {line} ({metric})"
        if path is None:
            known = "; ".join(f"{section}: {wording}" for section, wording in ROWS)
            problems.append(
                make_error(f"{name}, row {line}", f"{part!r}, {metric!r} is unknown", f"right is one of {known}")
            )
        elif shift := table.shift(row):
            problems.append(make_error(where, shift, "right is 25000 or 0.05, or the cell in quotes"))
        elif (other := seen.setdefault(path, line)) != line:
            both = f"{name}, rows {other} and {line}"
            problems.append(make_error(both, f"both are {part}, {metric}", "right is one row for each"))
        else:
            problems += _fill(zones, path, table, cells, where)
    if problems:
        raise WorksheetError(problems)
    return zones


def _fill(
    zones: dict[str, dict[str, Any]], path: str, table: _Table, cells: list[str], where: str
) -> Iterable[Problem]:
    """Put a row's figures into the zones' requirements; yields what is wrong with them."""
    group, _, leaf = path.rpartition(".")
    for column, zone in table.zones.items():
        if not (cell := cells[column].strip()):
            continue
        value = number(cell)
        if value is None:
            yield _number_problem(f"{where}, column {zone}", cell)
        target = zones[zone].setdefault(group, {}) if group else zones[zone]
        target[leaf] = value


def read_yaml(text: str, name: str) -> dict[str, Any]:
    """Read a worksheet in YAML: zones, or `privacy_zones` with zones."""
    try:
        content = yaml.safe_load(decoded(text, name))
    except yaml.YAMLError as error:
        raise WorksheetError(
            [make_error(name, f"no YAML: {error}", "right is what docs/worksheet.yml looks like")]
        ) from error
    if not isinstance(content, dict):
        right = "right is a mapping of privacy zones to requirements"
        raise WorksheetError([make_error(name, f"{content!r} is not a mapping", right)])
    zones = content.get("privacy_zones", content)
    return zones if isinstance(zones, dict) else {"privacy_zones": zones}


def capacity_worksheet(text: str, name: str) -> dict[str, Any]:
    """Read a worksheet.

    Args:
        text: what is in the file.
        name: its name, whose ending tells how it is written.

    Returns:
        Requirements by zone, in the structure of `privacy_zones`; cells left empty are missing there.

    Raises:
        WorksheetError: it cannot be read; lists every problem.
    """
    readers = {"csv": read_csv, "yml": read_yaml, "yaml": read_yaml}
    reader = readers.get(str(name).rpartition(".")[2].lower())
    if reader is None:
        right = "right is a file *.csv, *.yml or *.yaml"
        raise WorksheetError([make_error("worksheet", f"{name!r} is neither CSV nor YAML", right)])
    return reader(text, name)


def worksheet_problems(text: str, name: str) -> list[Problem]:
    """Find what keeps a worksheet from being read, as preflight reports it.

    Args:
        text: what is in the file.
        name: its name.
    """
    try:
        capacity_worksheet(text, name)
    except WorksheetError as error:
        return error.problems
    return []


def capacity_worksheet_rows(privacy_zones: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lay requirements out as the worksheet does.

    Args:
        privacy_zones: requirements by zone.

    Returns:
        For each line its part (ZONE, WRITE, READ), metric and the values of the zones in their order; None where a
        zone leaves a line to its default.
    """
    rows = []
    for (part, metric), path in ROWS.items():
        group, _, leaf = path.rpartition(".")
        values = [(zone[group] if group else zone).get(leaf) for zone in privacy_zones.values()]
        rows.append({"part": part, "metric": metric, "values": values})
    return rows
