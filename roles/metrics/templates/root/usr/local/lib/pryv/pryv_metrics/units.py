"""Units of systemd that a host of the platform has."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from pryv_metrics.problem import CollectorError
from pryv_metrics.samples import Sample

PATIENCE = 20.0
PROPERTIES = (
    *("Id", "LoadState", "ActiveState", "Type", "UnitFileState"),
    *("ConditionResult", "ConditionTimestampMonotonic"),
)
#: In which states a service that should run does.
UP = ("active", "activating", "reloading", "refreshing")


def collect(options: Mapping[str, Any]) -> Iterator[Sample]:
    """Tells which units have failed; one that should run all the time and does not has failed, too.

    Args:
        options: `patterns`, of the units' names; those that are not there are left out.

    Raises:
        CollectorError: When systemd does not answer.
    """
    command = ["systemctl", "show", "--no-pager", f"--property={','.join(PROPERTIES)}", *options["patterns"]]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CollectorError(f"systemd cannot be asked: {error}") from error
    if done.returncode:
        raise CollectorError(f"systemctl failed ({done.returncode})")
    found = {}
    for block in done.stdout.split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        # Instances of a template come and go, and would leave a series each.
        if unit.get("LoadState") == "loaded" and "@" not in unit["Id"]:
            found[unit["Id"]] = failed(unit)
    for name, is_failed in found.items():
        yield Sample("pryv_unit_failed", is_failed, {"unit": name})


def failed(unit: Mapping[str, str]) -> bool:
    """Whether a unit is not as it should be, by its properties."""
    if unit["ActiveState"] == "failed":
        return True
    always = unit["Type"] != "oneshot" and unit["UnitFileState"] == "enabled"
    # Of a unit that was never to be started, its condition has not been looked at either.
    unwanted = unit["ConditionResult"] == "no" and unit["ConditionTimestampMonotonic"] != "0"
    return always and not unwanted and unit["ActiveState"] not in UP
