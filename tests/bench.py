"""Measures runs of site.yml on test hosts: remote executions, time and memory, as a table for docs/performance.md.

Usage: tests/bench.py [INVENTORY ...]      default: poc load scale monitoring

For each inventory: a first run on new hosts, and a run that changes nothing. For `load` also the addition of a core:
its first run is without the last one. The hosts are removed afterwards.

On a core of `poc`, its nginx is held against a minimal TLS proxy (tests/bench_proxy.py), and its backup against restic
alone (tests/bench_backup.py).

`scale` is `load` with more and more cores. Of a platform of 50 hosts, this machine could not hold the test hosts, and
what it is asked is what the controller takes: the registries and two cores are there; the other cores are answered for
by tests/bench_ssh as one of the two answered, after as long. That leaves out the hosts, SSH's part of the CPU time, and
the look at the end, which asks hosts as a client does.

`monitoring` is what a monitoring host takes for 10 and for 200 hosts (tests/bench_monitoring.py).
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests import bench_monitoring
from tests.fleet import fleet

RESULTS = fleet.CACHE / "bench"
IMAGES = fleet.CACHE / "standins" / "images.tar.gz"
LATE_CORE = "co4"
#: Of `scale`: cores that are there, what their addresses begin with, and how many cores there are beside registries.
REAL_CORES = 2
NETWORK = "10.77.60."
CORES = (REAL_CORES, 12, 47)
#: Of how many hosts the table tells the executions.
SHOWN = 12


@dataclass(frozen=True)
class Measure:
    """What a run took.

    Attributes:
        name: What was run.
        seconds: Wall time.
        computing: CPU time of Ansible and all that it started on this machine, in seconds; other work hardly counts.
        executions: What was started over SSH, by host.
        memory: The most that Ansible and all that it started held at once, in bytes; what processes share counts once.
    """

    name: str
    seconds: float
    computing: float
    executions: dict[str, int]
    memory: int


def play(
    name: str,
    playbook: str,
    hosts: fleet.Fleet,
    arguments: Sequence[str] = (),
    *,
    may_change: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Measure:
    """Runs a playbook and counts.

    Args:
        name: What to call the measure.
        playbook: The playbook's path in the project.
        hosts: The test hosts.
        arguments: Further arguments of ansible-playbook.
        may_change: Whether there is anything for it to change.
        environment: Further variables of its environment.

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
    settings = {**os.environ, **fleet.environment(), "PATH": path, "ANSIBLE_NOCOLOR": "true", **(environment or {})}
    most = 0
    with log.open("wb") as output:
        running = subprocess.Popen(command, cwd=fleet.CHECKOUT, env=settings, stdout=output, stderr=subprocess.STDOUT)
        while running.poll() is None:
            most = max(most, held(running.pid))
            time.sleep(0.5)
    seconds, computing = time.monotonic() - start, computed() - before
    if running.returncode:
        raise fleet.FleetError(f"{name} of {hosts.name} failed; its output is in {log}")
    said = log.read_text(errors="replace")
    if not may_change and re.search(r"^\S+ +: ok=\d+ +changed=[1-9]", said, re.MULTILINE):
        raise fleet.FleetError(f"{name} of {hosts.name} changed something; its output is in {log}")
    # With pipelining a module is one execution; what copies files first takes several.
    started = collections.Counter(re.findall(r"^<(\S+)> SSH: EXEC ", said, re.MULTILINE))
    executions = {host.name: started[host.address] for host in hosts.hosts}
    return Measure(name, seconds, computing, executions, most)


def computed() -> float:
    """CPU time of this program's children so far, in seconds."""
    times = os.times()
    return times.children_user + times.children_system


def held(first: int) -> int:
    """Memory of a process and all below it, in bytes; what several share is divided among them (PSS)."""
    total, found = 0, {first}
    # Whoever was started has a higher number, but where numbers begin anew.
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        # A process may end while it is looked at.
        with contextlib.suppress(OSError):
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if int(process.name) == first or parent in found:
                found.add(int(process.name))
                said = re.search(r"^Pss: +(\d+) kB", (process / "smaps_rollup").read_text(), re.MULTILINE)
                total += int(said[1]) * 1024 if said else 0
    return total


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
        measures.append(play("nothing to change", "site.yml", hosts, may_change=False))
        if inventory == "poc":
            (RESULTS / "proxies.json").write_text(proxies(hosts))
            (RESULTS / "backups.json").write_text(backups(hosts))
        return measures
    finally:
        hosts.down()


def proxies(hosts: fleet.Fleet) -> str:
    """What tests/bench_proxy.py says on the first core."""
    core = hosts.container(hosts.selected(["co1"])[0])
    fleet.docker("exec", core, "sh", "-c", "apt-get -qq update && apt-get -qq install --yes wrk")
    return on(core, "bench_proxy.py", f"somebody.{hosts.name}.pryv.test")


def on(container: str, program: str, *arguments: str) -> str:
    """Runs a program that lies beside this one in a test host, and returns its output."""
    script = Path(__file__).with_name(program).read_bytes()
    return fleet.docker("exec", "--interactive", container, "python3", "-", *arguments, stdin=script)


def show_proxies() -> None:
    """Prints how a core's nginx stands beside the minimal proxy: medians of what was measured in turns."""
    said: dict[str, dict[str, list[tuple[float, float, float]]]] = json.loads((RESULTS / "proxies.json").read_text())
    print("\n| method | requests/s: minimal | core's | of it | CPU µs a request | core's | p99, ms | core's |")
    print("|---|---|---|---|---|---|---|---|")
    for method, by_proxy in said.items():
        (rate, cost, late), (own_rate, own_cost, own_late) = (
            [statistics.median(values) for values in zip(*by_proxy[proxy], strict=True)]
            for proxy in ("minimal", "core")
        )
        print(
            f"| {method} | {rate:.0f} | {own_rate:.0f} | {own_rate / rate:.0%} | {cost:.1f} | {own_cost:.1f} |"
            f" {late:.1f} | {own_late:.1f} |"
        )


def backups(hosts: fleet.Fleet) -> str:
    """What tests/bench_backup.py says on the first core, and for how long the backup host then looks through it."""
    core, leader, server = (hosts.container(hosts.selected([name])[0]) for name in ("co1", "reg1", "bk1"))
    found = json.loads(on(core, "bench_backup.py"))
    fleet.docker("exec", leader, "systemctl", "start", "--wait", "pryv-backup.service")
    start = time.monotonic()
    fleet.docker("exec", server, "systemctl", "start", "--wait", "pryv-drill.service")
    return json.dumps({**found, "drill": {"own": time.monotonic() - start}})


def show_backups() -> None:
    """Prints how backups of 2 GB in 24'000 files stand beside restic alone."""
    said: dict[str, dict[str, float]] = json.loads((RESULTS / "backups.json").read_text())
    print("\n| backup of a core | restic alone, s | the toolkit, s | of it | the core's pause, s |")
    print("|---|---|---|---|---|")
    for step, took in said.items():
        alone, paused = took.get("restic"), took.get("pause")
        cells = [f"{alone:.0f}" if alone else "", f"{took['own']:.0f}"]
        cells += [f"{took['own'] / alone:.1f}" if alone else "", f"{paused:.1f}" if paused else ""]
        print(f"| {step} | {' | '.join(cells)} |")


def scale() -> list[Measure]:
    """Measures the runs of platforms with more and more cores, of which only two and the registries are there."""
    folder = inventory_like_load("scale")
    platform_of(folder / "inventory", NETWORK, addresses_of(REAL_CORES))
    there = fleet.Fleet(folder / "inventory")
    there.down()
    there.up()
    try:
        return [run for cores in CORES for run in scaled(folder, cores)]
    finally:
        there.down()


def inventory_like_load(name: str) -> Path:
    """Makes a folder for an inventory that has all of `load` but its hosts and its domain, and returns it."""
    folder = RESULTS / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(fleet.CHECKOUT / "inventories/load/group_vars", folder / "inventory/group_vars")
    names = folder / "inventory/group_vars/all/platform.yml"
    names.write_text(names.read_text().replace("load.pryv.test", f"{name}.pryv.test"))
    return folder


def platform_of(inventory: Path, network: str, cores: Mapping[str, str], *, monitored: bool = False) -> None:
    """Writes an inventory of registries and some cores, whose plan needs them.

    Args:
        inventory: Its folder.
        network: What addresses begin with.
        cores: The cores' addresses, by name.
        monitored: Whether there is one registry and a host that monitors, or three registries and none.
    """
    text = (fleet.CHECKOUT / "inventories/load/hosts.yml").read_text()
    inside: dict[str, Any] = yaml.safe_load(text.replace("10.77.30.", network))
    if monitored:
        inside["registry"]["hosts"] = {"reg1": inside["registry"]["hosts"]["reg1"]}
    else:
        del inside["monitoring"]
    inside["zone_ch"]["hosts"] = {name: {"ansible_host": address} for name, address in cores.items()}
    (inventory / "hosts.yml").write_text(yaml.safe_dump(inside, sort_keys=False))
    plan = inventory / "group_vars/all/capacity.yml"
    needs: dict[str, Any] = yaml.safe_load(plan.read_text())
    needs["privacy_zones"]["ch"]["users"] = len(cores) * 9_000
    plan.write_text(yaml.safe_dump(needs))


def addresses_of(cores: int) -> dict[str, str]:
    """The addresses of so many cores."""
    return {f"co{core}": address_of(core) for core in range(1, cores + 1)}


def address_of(core: int) -> str:
    """A core's address, clear of the registries'."""
    return f"{NETWORK}{10 + core if core <= REAL_CORES else 100 + core}"


def scaled(folder: Path, cores: int) -> Iterator[Measure]:
    """Measures a first run, and one that changes nothing, of a platform of so many cores."""
    platform_of(folder / "inventory", NETWORK, addresses_of(cores))
    whole = fleet.Fleet(folder / "inventory")
    play("secrets", "playbooks/secrets.yml", whole)
    hosts = folder / "hosts"
    for name, may_change in (("first run", True), ("nothing to change", False)):
        answers = folder / name.replace(" ", "-")
        answers.mkdir(exist_ok=True)
        shutil.rmtree(hosts, ignore_errors=True)
        # The host that is copied writes its answers down in the first platform alone.
        for core in [REAL_CORES] if cores == REAL_CORES else range(REAL_CORES + 1, cores + 1):
            host = hosts / address_of(core)
            host.mkdir(parents=True)
            (host / "name").write_text(f"co{core}")
            (host / "step").write_text("0")
        (hosts / "original").write_text(address_of(REAL_CORES))
        (hosts / "original-name").write_text(f"co{REAL_CORES}")
        environment = {
            "ANSIBLE_SSH_EXECUTABLE": str(fleet.CHECKOUT / "tests/bench_ssh"),
            # Files go through it as well.
            "ANSIBLE_SSH_TRANSFER_METHOD": "piped",
            "PRYV_BENCH_SSH": str(shutil.which("ssh")),
            "PRYV_BENCH_HOSTS": str(hosts),
            "PRYV_BENCH_ANSWERS": str(answers),
        }
        yield play(
            f"{name} of {cores + 3} hosts",
            "site.yml",
            whole,
            ["--skip-tags", "verify"],
            may_change=may_change,
            environment=environment,
        )


def monitoring() -> list[bench_monitoring.Cost]:
    """Measures a monitoring host of platforms of some and of many hosts."""
    folder = inventory_like_load("monitoring")
    there = fleet.Fleet(folder / "inventory")
    there.down()
    try:
        return [monitored(folder, size) for size in bench_monitoring.SIZES]
    finally:
        there.down()


def monitored(folder: Path, size: int) -> bench_monitoring.Cost:
    """Measures the monitoring host of a platform of so many hosts."""
    cores = bench_monitoring.cores(size)
    platform_of(folder / "inventory", bench_monitoring.NETWORK, cores, monitored=True)
    hosts = fleet.Fleet(folder / "inventory")
    hosts.up(fleet.Image("debian-13", equipped=True), [*bench_monitoring.THERE, bench_monitoring.STAND_IN])
    play("secrets", "playbooks/secrets.yml", hosts)
    # Cores that are not there make a difference to the monitoring host alone.
    limit = bench_monitoring.THERE if size == min(bench_monitoring.SIZES) else ["mon1"]
    play(f"{size} hosts", "site.yml", hosts, ["--limit", ",".join(limit), "--skip-tags", "verify"])
    platform = bench_monitoring.Monitored(hosts, "monitoring.pryv.test")
    platform.answer_for_others()
    return platform.cost()


def show_monitoring(costs: Sequence[bench_monitoring.Cost]) -> None:
    """Prints what a monitoring host takes."""
    print(
        "\n| hosts | series | samples/s | rules, a look at them |",
        *(f"{one}: CPU, MiB |" for one in costs[0].memory),
        end="",
    )
    print(" bytes a sample |", *(f"{view}: slowest question, all |" for view in costs[0].views))
    print("|---" * (5 + len(costs[0].memory) + len(costs[0].views)), end="|\n")
    for cost in costs:
        programs = (
            f"{cost.computing[name]:.1%}, {now / 2**20:.0f} ({most / 2**20:.0f}) |"
            for name, (now, most) in cost.memory.items()
        )
        views = (f"{slowest:.2f} s, {whole:.2f} s |" for whole, slowest in cost.views.values())
        rules, seconds = cost.rules
        print(f"| {cost.hosts} | {cost.series} | {cost.samples:.0f} | {rules}, {seconds:.2f} s |", *programs, end="")
        print(f" {cost.sample:.2f} |", *views)


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="tests/bench.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("inventories", nargs="*", metavar="INVENTORY", default=["poc", "load", "scale", "monitoring"])
    options = parser.parse_args()
    busy = os.getloadavg()[1]
    try:
        fleet.run([str(fleet.CHECKOUT / "tests/standins/build")])
        runs = [inventory for inventory in options.inventories if inventory != "monitoring"]
        results = {inventory: scale() if inventory == "scale" else measure(inventory) for inventory in runs}
        costs = monitoring() if "monitoring" in options.inventories else []
    except fleet.FleetError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} CPUs, {memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"
    print(f"{machine}, load {busy:.1f} before\n")
    print("| inventory | run | seconds | CPU seconds of the controller | its memory | executions over SSH, by host |")
    print("|---|---|---|---|---|---|")
    for inventory, measures in results.items():
        for done in measures:
            shown = list(done.executions.items())[:SHOWN]
            by_host = ", ".join(f"{host} {number}" for host, number in shown)
            print(
                f"| {inventory} | {done.name} | {done.seconds:.0f} | {done.computing:.0f} |"
                f" {done.memory / 2**20:.0f} MiB | {by_host} |"
            )
    if "poc" in results:
        show_proxies()
        show_backups()
    if costs:
        show_monitoring(costs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
