"""Collects what a host tells of itself. Run by pryv-metrics.service."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pryv_metrics import backups, certificate, containers, core, data_disk, firewall, logs, registry, sockets, units
from pryv_metrics.problem import CollectorError
from pryv_metrics.samples import Sample, text, write

CONFIGURATION = Path("/etc/pryv/metrics/metrics.json")
COLLECTORS: dict[str, Callable[[Mapping[str, Any]], Iterable[Sample]]] = {
    "backup": backups.collect_own,
    "certificate": certificate.collect,
    "containers": containers.collect,
    "core": core.collect,
    "data_disk": data_disk.collect,
    "firewall": firewall.collect,
    "kept_backups": backups.collect_kept,
    "kept_logs": logs.collect,
    "registry": registry.collect,
    "sockets": sockets.collect,
    "units": units.collect,
}


def run(name: str, options: Mapping[str, Any]) -> list[Sample]:
    """What one collector tells; whatever becomes of it, others go on.

    Args:
        name: Which one.
        options: What it is told.
    """
    found: list[Sample] = []
    good = True
    try:
        found.extend(COLLECTORS[name](options))
    except (CollectorError, OSError) as error:
        good = False
        print(f"pryv-metrics: {name}: {error}", file=sys.stderr)
    except Exception as error:  # its text may quote what was read, a user's name for example
        good = False
        print(f"pryv-metrics: {name}: {type(error).__name__}", file=sys.stderr)
    return [*found, Sample("pryv_metrics_collector_ok", good, {"collector": name})]


def collect(collectors: Mapping[str, Mapping[str, Any]]) -> list[Sample]:
    """What all collectors tell; they wait beside each other for what does not answer.

    Args:
        collectors: What each is told, by name.
    """
    with ThreadPoolExecutor(len(collectors) or 1) as pool:
        told = pool.map(run, collectors.keys(), collectors.values())
        found = [sample for samples in told for sample in samples]
    return [*found, Sample("pryv_metrics_time_seconds", round(time.time(), 3))]


def main() -> int:
    """Writes what the collectors tell into a file; one that fails is told of there, and in the journal."""
    parser = argparse.ArgumentParser(prog="pryv-metrics", description=__doc__)
    parser.add_argument("--configuration", type=Path, default=CONFIGURATION)
    options = parser.parse_args()
    settings = json.loads(options.configuration.read_text())
    write(Path(settings["file"]), text(collect(settings["collectors"])), 0o644)
    return 0


if __name__ == "__main__":
    sys.exit(main())
