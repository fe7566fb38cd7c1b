"""The design guide's worksheet, as business people fill it in: a CSV or YAML file, read back as requirements."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: capacity_worksheet
short_description: Read the design guide's worksheet
description:
  - Reads a filled-in worksheet (C(docs/worksheet.csv) or C(docs/worksheet.yml)) into the structure of C(privacy_zones).
  - All problems are reported at once, each with its row and column. Whether the figures make sense, the plan says.
options:
  _input:
    description: Text of the worksheet.
    type: str
    required: true
  name:
    description: Name of the file; C(.csv), C(.yml) or C(.yaml) tells how it is written.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Read the worksheet
  ansible.builtin.set_fact:
    privacy_zones: "{{ lookup('ansible.builtin.file', worksheet) | capacity_worksheet(worksheet) }}"
"""

RETURN = r"""
_value:
  description: Requirements by privacy zone, see docs/capacity.md.
  type: dict
"""

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


def _folded(text: str) -> str:
    """Fold what spreadsheets and people change: case and spaces."""
    return " ".join(text.split()).casefold()


PATHS = {(_folded(part), _folded(metric)): path for (part, metric), path in ROWS.items()}


def number(text: str) -> int | float | None:
    """Read a number as people write it (25'000, 0.05); None when it is none."""
    bare = re.sub(r"(?<=\d)['\u2019\s](?=\d)", "", text.strip())
    if re.fullmatch(r"-?\d+", bare):
        return int(bare)
    return float(bare) if re.fullmatch(r"-?\d+\.\d+", bare) else None


def read_csv(text: str, name: str) -> dict[str, Any]:
    """Read a worksheet that a spreadsheet wrote; the separator is a comma, a semicolon or a tab."""
    first = text.lstrip("\ufeff").split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    rows = list(csv.reader(io.StringIO(text.lstrip("\ufeff")), delimiter=separator))
    header = [cell.strip() for cell in rows[0]] if rows else []
    known = [_folded(cell) for cell in (PART, METRIC, MEANING)]
    places = {_folded(cell): column for column, cell in enumerate(header)}
    columns = {column: cell for column, cell in enumerate(header) if cell and _folded(cell) not in known}
    if not columns or not {known[0], known[1]} <= set(places):
        raise AnsibleFilterError(
            f"{name}: the first row is {first.strip()!r}; right is '{PART}', '{METRIC}' and one column for each zone"
        )
    problems, zones = [], {zone: dict[str, Any]() for zone in columns.values()}
    if len(zones) < len(columns):
        problems.append(f"{name}: two columns have the same name; right is one column for each zone")
    for line, row in enumerate(rows[1:], start=2):
        cells = [*row, *[""] * (len(header) - len(row))]
        part, metric = cells[places[known[0]]], cells[places[known[1]]]
        if not any(cell.strip() for cell in row):
            continue
        path = PATHS.get((_folded(part), _folded(metric)))
        if path is None:
            known_metrics = "; ".join(f"{section}: {wording}" for section, wording in ROWS)
            problems.append(f"{name}, row {line}: {part!r}, {metric!r} is unknown; right is one of {known_metrics}")
            continue
        for column, zone in columns.items():
            cell = cells[column].strip()
            if not cell:
                continue
            value = number(cell)
            if value is None:
                hint = "with a point, such as 0.05" if "," in cell else "such as 25000 or 0.05"
                problems.append(
                    f"{name}, row {line} ({metric.strip()}), column {zone}: {cell!r} is no number; right is one {hint}"
                )
            group, _, leaf = path.rpartition(".")
            target = zones[zone].setdefault(group, {}) if group else zones[zone]
            target[leaf] = value
    _raise(problems)
    return zones


def read_yaml(text: str, name: str) -> dict[str, Any]:
    """Read a worksheet in YAML: zones, or `privacy_zones` with zones."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise AnsibleFilterError(f"{name}: no YAML: {error}") from error
    if not isinstance(content, dict):
        raise AnsibleFilterError(f"{name}: {content!r}; right is a mapping of privacy zones to requirements")
    zones = content.get("privacy_zones", content)
    return zones if isinstance(zones, dict) else {"privacy_zones": zones}


def _raise(problems: Iterable[str]) -> None:
    if lines := list(problems):
        raise AnsibleFilterError("\n".join(lines))


def capacity_worksheet(text: str, name: str) -> dict[str, Any]:
    """Read a worksheet.

    Args:
        text: what is in the file.
        name: its name, whose ending tells how it is written.

    Returns:
        Requirements by zone, in the structure of `privacy_zones`; cells left empty are missing there.

    Raises:
        AnsibleFilterError: it cannot be read; lists every problem.
    """
    readers = {"csv": read_csv, "yml": read_yaml, "yaml": read_yaml}
    reader = readers.get(str(name).rpartition(".")[2].lower())
    if reader is None:
        raise AnsibleFilterError(f"worksheet: {name!r} is neither CSV nor YAML; right is a file *.csv, *.yml or *.yaml")
    return reader(text, name)


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


class FilterModule:
    """Ansible's way to find the filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"capacity_worksheet": capacity_worksheet, "capacity_worksheet_rows": capacity_worksheet_rows}
