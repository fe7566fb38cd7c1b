"""Measures runs of site.yml on test hosts: remote executions and wall time, as a table for docs/performance.md.

Usage: tests/bench.py [INVENTORY ...]      default: poc load

For each inventory: a first run on new hosts, and a run that changes nothing. For `load` also the addition of a core:
its first run is without the last one. The hosts are removed afterwards.
"""

from __future__ import annotations

import argparse
import collections
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.fleet import fleet

RESULTS = fleet.CACHE / "bench"
IMAGES = fleet.CACHE / "standins" / "images.tar.gz"
LATE_CORE = "co4"


@dataclass(frozen=True)
class Measure:
    """What a run took.

    Attributes:
        name: What was run.
        seconds: Wall time.
        computing: CPU time of Ansible and all that it started on this machine, in seconds; other work hardly counts.
        executions: What was started over SSH, by host.
    """

    name: str
    seconds: float
    computing: float
    executions: dict[str, int]


def play(
    name: str, playbook: str, hosts: fleet.Fleet, arguments: Sequence[str] = (), *, may_change: bool = True
) -> Measure:
    """Runs a playbook and counts.

    Args:
        name: What to call the measure.
        playbook: The playbook's path in the project.
        hosts: The test hosts.
        arguments: Further arguments of ansible-playbook.
        may_change: Whether there is anything for it to change.

    Raises:
        FleetError: When the run fails, or changes what it may not.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    log = RESULTS / f"{hosts.name}-{name.replace(' ', '-')}.log"
    command = ["ansible-playbook", "-vvv", "--inventory", str(hosts.inventory), playbook, *arguments]
    command += ["--extra-vars", f'{{"pryv_image_archive": ["{IMAGES}"]}}']
    command += ["--extra-vars", f"pryv_event_types_file={fleet.CHECKOUT}/tests/standins/event-types.json"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    start, before = time.monotonic(), computed()
    with log.open("wb") as output:
        environment = {**os.environ, **fleet.environment(), "PATH": path, "ANSIBLE_NOCOLOR": "true"}
        done = subprocess.run(
            command, cwd=fleet.CHECKOUT, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False
        )
    seconds, computing = time.monotonic() - start, computed() - before
    if done.returncode:
        raise fleet.FleetError(f"{name} of {hosts.name} failed; its output is in {log}")
    said = log.read_text(errors="replace")
    if not may_change and re.search(r"^\S+ +: ok=\d+ +changed=[1-9]", said, re.MULTILINE):
        raise fleet.FleetError(f"{name} of {hosts.name} changed something; its output is in {log}")
    # With pipelining a module is one execution; what copies files first takes several.
    started = collections.Counter(re.findall(r"^<(\S+)> SSH: EXEC ", said, re.MULTILINE))
    executions = {host.name: started[host.address] for host in hosts.hosts}
    return Measure(name, seconds, computing, executions)


def computed() -> float:
    """CPU time of this program's children so far, in seconds."""
    times = os.times()
    return times.children_user + times.children_system


def measure(inventory: str) -> list[Measure]:
    """Measures the runs of an inventory, on hosts made for it.

    Args:
        inventory: A folder of inventories/.
    """
    hosts = fleet.Fleet(fleet.CHECKOUT / "inventories" / inventory)
    hosts.down()
    hosts.up()
    try:
        play("secrets", "playbooks/secrets.yml", hosts)
        late = inventory == "load"
        measures = [play("first run", "site.yml", hosts, ["--limit", f"all,!{LATE_CORE}"] if late else ())]
        if late:
            measures.append(play("a core added", "site.yml", hosts, ["--limit", f"{LATE_CORE},registry"]))
        return [*measures, play("nothing to change", "site.yml", hosts, may_change=False)]
    finally:
        hosts.down()


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="tests/bench.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("inventories", nargs="*", metavar="INVENTORY", default=["poc", "load"])
    options = parser.parse_args()
    busy = os.getloadavg()[1]
    try:
        fleet.run([str(fleet.CHECKOUT / "tests/standins/build")])
        results = {inventory: measure(inventory) for inventory in options.inventories}
    except fleet.FleetError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} CPUs, {memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"
    print(f"{machine}, load {busy:.1f} before\n")
    print("| inventory | run | seconds | CPU seconds of the controller | executions over SSH, by host |")
    print("|---|---|---|---|---|")
    for inventory, measures in results.items():
        for done in measures:
            by_host = ", ".join(f"{host} {number}" for host, number in done.executions.items())
            print(f"| {inventory} | {done.name} | {done.seconds:.0f} | {done.computing:.0f} | {by_host} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
