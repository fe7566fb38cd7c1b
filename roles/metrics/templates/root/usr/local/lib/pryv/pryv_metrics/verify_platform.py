"""Looks at the platform as playbooks/verify.yml does from outside, without its users, and tells how it is.

Run by pryv-verify-platform.service on hosts that monitor.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pryv_metrics.platform_client import Check, Client, Record
from pryv_metrics.platform_surface import Surface, do_all
from pryv_metrics.samples import Sample, text, write

#: How long one answer may take, in seconds. A name server that is gone is asked for all names, one after the other.
PATIENCE = 4


def look(topology: Mapping[str, Any], authority: str, source: str) -> list[Check]:
    """All that was looked at.

    Args:
        topology: The platform.
        authority: PEM text of further authorities to trust.
        source: This host.
    """
    record = Record()
    # Alerts of their own tell of certificates that are near their end.
    surface = Surface(topology, Client(authority, PATIENCE), record, minimum_days=0, source=source)
    do_all(partial(careful, job, record, topology["leader"]) for job in surface.jobs())
    return record.checks


def careful(job: Callable[[], None], record: Record, where: str) -> None:
    """Does a job; what nobody expected is noted, and other jobs go on.

    Args:
        job: What to do.
        record: Where to note it.
        where: Of which host.
    """
    try:
        job()
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        record.checks.append(Check(where, "a look", found, "See what is asked there by playbooks/verify.yml"))


def samples(checks: Iterable[Check], hosts: Iterable[str], leader: str) -> list[Sample]:
    """How much is wrong with each host.

    Args:
        checks: What was looked at.
        hosts: Those that are looked at.
        leader: The host that is asked about what is no host: zones.
    """
    known = set(hosts)
    wrong = Counter(check.where if check.where in known else leader for check in checks if check.found)
    found = [Sample("pryv_verify_platform_problems", wrong[host], {"of": host}) for host in sorted(known)]
    return [*found, Sample("pryv_verify_platform_time_seconds", round(time.time(), 3))]


def main() -> int:
    """Writes how many problems there are into a file; the journal has which."""
    parser = argparse.ArgumentParser(prog="pryv-verify-platform", description=__doc__)
    parser.add_argument("--configuration", type=Path, default=Path("/etc/pryv/metrics/verify_platform.json"))
    settings = json.loads(parser.parse_args().configuration.read_text())
    topology = settings["topology"]
    checks = look(topology, Path(settings["authority"]).read_text(), settings["host"])
    for check in checks:
        if check.found:
            print(f"pryv-verify-platform: {check}", file=sys.stderr)
    # Nobody sees itself from outside.
    others = [host for host in topology["hosts"] if host != settings["host"]]
    write(Path(settings["file"]), text(samples(checks, others, topology["leader"])), 0o644)
    return 0


if __name__ == "__main__":
    sys.exit(main())
