"""Whether the rules of the firewall are those that the toolkit wrote."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from pryv_metrics.problem import CollectorError
from pryv_metrics.samples import Sample

PATIENCE = 20.0


def collect(options: Mapping[str, Any]) -> Iterator[Sample]:
    """Tells whether they are.

    Args:
        options: `command`, as a shell has it, which fails when they are not.

    Raises:
        CollectorError: When it does not end, or is no program.
    """
    try:
        done = subprocess.run(shlex.split(options["command"]), capture_output=True, check=False, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CollectorError(f"the rules cannot be looked at: {error}") from error
    yield Sample("pryv_firewall_as_configured", done.returncode == 0)
