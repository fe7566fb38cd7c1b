"""Journals of others that this host keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pryv_metrics.samples import Sample


def collect(options: Mapping[str, Any]) -> Iterator[Sample]:
    """Tells when each journal last got a line, by this host's clock; nothing of one that never did.

    Args:
        options: `folder`, with one for each host; `hosts`, whose journals come here.
    """
    for host in options["hosts"]:
        times = [path.stat().st_mtime for path in Path(options["folder"], host).glob("*.journal*")]
        if times:
            yield Sample("pryv_logs_time_seconds", round(max(times), 3), {"of": host})
