"""Looks at the services of this host as playbooks/verify.yml does, and tells how they are.

Run by pryv-verify.service, which is root's and may do little.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from pryv_metrics.samples import Sample, text, write
from pryv_metrics.services import DockerError, Host

#: How long a command may take, and how long services may take to be well, in seconds.
PATIENCE, SECONDS = 60, 15


def execute(command: Sequence[str]) -> tuple[int, str, str]:
    """Run a command; its exit code, what it printed, and what it complained of."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, "", str(error)
    return done.returncode, done.stdout, done.stderr


def problems(folders: Iterable[str], seconds: float) -> list[str]:
    """What is wrong with the services of this host.

    Args:
        folders: Folders with a `compose.yml`, with wildcards.
        seconds: How long services may take to be well.
    """
    try:
        host = Host(execute, folders)
        if host.services:
            host.look_until_well(seconds)
    except DockerError as error:
        # Its command explains itself at length.
        return [f"Docker: {error}".splitlines()[0]]
    return [f"service {one.name} of {one.project} {one.found}" for one in host.services if one.found]


def main() -> int:
    """Writes how many problems there are into a file; the journal has which."""
    parser = argparse.ArgumentParser(prog="pryv-verify", description=__doc__)
    parser.add_argument("--file", type=Path, required=True, help="where node_exporter reads it")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long services may take to be well")
    parser.add_argument("folders", nargs="+", help="folders with a compose.yml, with wildcards")
    options = parser.parse_args()
    found = problems(options.folders, options.seconds)
    for problem in found:
        print(f"pryv-verify: {problem}", file=sys.stderr)
    told = [Sample("pryv_verify_problems", len(found)), Sample("pryv_verify_time_seconds", round(time.time(), 3))]
    write(options.file, text(told), 0o644)
    return 0


if __name__ == "__main__":
    sys.exit(main())
