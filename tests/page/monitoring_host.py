"""A monitoring host for tests of its page: a real Prometheus with a made-up year, and what serves the page."""

from __future__ import annotations

import functools
import http.client
import json
import math
import mimetypes
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
TREE = ROOT / "roles/monitoring/templates/root"
PAGE = TREE / "usr/share/pryv/monitoring"
YEAR, DAY = 365 * 86400, 86400
#: What the host that monitors tells of others, and which one that is.
OUTSIDE, WATCHER = "pryv_verify_platform_problems", "mon1"
#: What is dangerous if a page takes it for markup or for a question of its own.
HOSTILE = '<img src=x onerror="window.hurt=1">"}'
#: What role monitoring's nginx lets the page do.
POLICY = re.findall(
    r'Content-Security-Policy "(.*)" always', (TREE / "etc/nginx/conf.d/monitoring.conf.j2").read_text()
)[0]


def charts() -> list[tuple[str, str]]:
    """Return the charts and the names of their lines, as the rules give them; where labels name a line, one of them."""
    rules = yaml.safe_load((TREE / "etc/prometheus/rules/history.yml").read_text())["groups"][0]["rules"]
    made = {
        "cpu": ["user", "system", "iowait", "idle"],
        "space": ["/", "/srv/pryv", HOSTILE],
        "disk": ["vda", "vdb"],
        "requests": ["2xx", "3xx", "4xx", "5xx"],
        "containers": ["core", "hfs", "influxdb", "mongodb", "preview", HOSTILE],
    }
    found = []
    for rule in rules:
        chart = rule["labels"]["chart"]
        lines = [rule["labels"]["line"]] if "line" in rule["labels"] else made[chart]
        found += [(chart, line) for line in lines]
    return found


#: How large values are about.
SCALES = {
    **{
        "users": 5000,
        "sockets": 700,
        "keys": 90000,
        "requests": 12,
        "latency": 0.05,
        "database": 0.02,
        "load": 0.8,
        "cpu": 0.2,
    },
    **{"memory": 2e9, "containers": 3e8, "swap": 1e6, "iops": 60, "bytes": 1e6, "packets": 800, "errors": 0.001},
}


def quoted(labels: Mapping[str, str]) -> str:
    """Write labels as OpenMetrics has them."""
    return ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())


#: Of what there is less or more than of the others in its chart, and what only grows.
FACTORS = {"3xx": 0.1, "4xx": 0.05, "5xx": 0.002, "half are faster": 0.2, "iowait": 0.2, "idle": 3, "out": 0.2}
GROWING = ("users", "keys", "space")


def value(chart: str, line: str, number: int, at: int) -> float:
    """Return what a line of a chart has at a time: days and years are to be seen in it."""
    scale, year = SCALES.get(chart, 0.5) * FACTORS.get(line, 1), at % (2 * YEAR) / YEAR
    if chart in GROWING:
        return scale * (1 + year) / 2
    day = math.sin(at * 2 * math.pi / DAY + number % 2)
    return scale * (1 + day / 4 + year / 4 + (at * 7919 % 101) / 1000)


def history(hosts: Iterable[str], now: int) -> Iterator[str]:
    """Yield the history of hosts as the rules make it: a year by hours, six hours by five minutes."""
    lines = [
        (number, chart, line, quoted({"host": host, "chart": chart, "line": line}))
        for host in hosts
        for number, (chart, line) in enumerate(charts())
    ]
    yield "# TYPE pryv_history gauge\n"
    for number, chart, line, labels in lines:
        for at in range(now - 6 * 3600 - 600, now + 300, 300):
            yield f"pryv_history{{{labels}}} {value(chart, line, number, at):.4g} {at}\n"
    yield "# TYPE pryv_history_hours gauge\n"
    for number, chart, line, labels in lines:
        for at in range(now - YEAR, now + 300, 3600):
            mean = value(chart, line, number, at)
            yield f'pryv_history_hours{{{labels},of="mean"}} {mean:.4g} {at}\n'
            yield f'pryv_history_hours{{{labels},of="peak"}} {mean * (1 if chart in GROWING else 1.3):.4g} {at}\n'


def present(platform: Mapping[str, Any], now: int, states: Mapping[str, Mapping[str, float | None]]) -> Iterator[str]:
    """Yield what a platform tells now, each 15 seconds from ten minutes ago until ten minutes ahead.

    Args:
        platform: The platform, as the page is told of it.
        now: The time, in seconds since 1970.
        states: By host, what differs from one that is well; None for what it does not tell.
    """
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    leader = {"job": "node", "host": platform["leader"]}

    def add(name: str, labels: dict[str, str], value: float) -> None:
        samples.setdefault(name, []).append((labels, value))

    for host in platform["hosts"]:
        own = {"job": "node", "host": host}
        for name, value in {
            "up": 1.0,
            "pryv_certificate_not_after_seconds": now + 61.5 * DAY,
            "apt_upgrades_pending": 3,
            "node_reboot_required": 0,
            "node_boot_time_seconds": now - 40 * DAY,
            "pryv_verify_problems": 0,
            "pryv_verify_time_seconds": now - 150,
            OUTSIDE: 0,
            **states.get(host, {}),
        }.items():
            if value is not None and (name, host) != (OUTSIDE, WATCHER):
                # That is told by who looks at the host, which does not look at itself.
                add(name, {**own, "host": WATCHER, "of": host} if name == OUTSIDE else own, value)
    add("pryv_verify_platform_time_seconds", {"job": "node", "host": WATCHER}, now - 400)
    for host, keeper in platform["backups"].items():
        add("pryv_backup_time_seconds", {"job": "node", "host": host}, now - 5 * 3600)
        add("pryv_backup_oldest_seconds", {"job": "node", "host": host}, 26 * 3600)
        add("pryv_backup_ok", {"job": "node", "host": host}, 1)
        add("pryv_drill_time_seconds", {"job": "node", "host": keeper, "of": host}, now - 3 * DAY)
        add("pryv_drill_ok", {"job": "node", "host": keeper, "of": host}, 1)
    for zone in platform["zones"].values():
        for number, core in enumerate(zone["cores"]):
            add("pryv_core_users", {**leader, "core": core}, 4100 + 1800 * number)
    for name, series in samples.items():
        yield f"# TYPE {name} gauge\n"
        for labels, value in series:
            yield from (f"{name}{{{quoted(labels)}}} {value} {at}\n" for at in range(now - 600, now + 600, 15))


def free_port() -> int:
    """Return a port of the loopback at which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def rule(name: str, severity: str, expression: str, summary: str) -> dict[str, Any]:
    """Return an alert's rule as role monitoring writes them."""
    return {
        "alert": name,
        "expr": expression,
        "labels": {"severity": severity},
        "annotations": {
            "summary": summary,
            "description": "What {{ $labels.host }} tells.",
            "runbook": f"docs/operations/alerts.md#{name.lower()}",
        },
    }


WATCHDOG = rule("Watchdog", "none", "vector(1)", "Always fires")


@functools.cache
def install() -> None:
    """Have Prometheus installed where it is not, without a service of it."""
    subprocess.run([ROOT / "tests/unit/install"], check=True, stdin=subprocess.DEVNULL)


@contextmanager
def prometheus(folder: Path, samples: Iterable[str], alerts: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Run a Prometheus with samples and rules; give its address."""
    install()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "samples.txt").open("w") as file:
        file.writelines(samples)
        file.write("# EOF\n")
    blocks = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", "--max-block-duration=8760h"]
    subprocess.run([*blocks, folder / "samples.txt", folder / "data"], check=True, capture_output=True)
    (folder / "samples.txt").unlink()
    (folder / "rules.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "alerts", "interval": "1s", "rules": list(alerts)}]})
    )
    (folder / "prometheus.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"]}))
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [
            *("prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
            *("--storage.tsdb.retention.time=400d", f"--web.listen-address={address}", "--log.level=error"),
        ],
        stdin=subprocess.DEVNULL,
    )
    try:
        wait_for_alerts(address)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def asked(address: str, path: str) -> tuple[int, bytes]:
    """Return a server's answer: its status and its content."""
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def wait_for_alerts(address: str) -> None:
    """Wait until a Prometheus has looked at its rules."""
    end = time.monotonic() + 60
    while True:
        try:
            if json.loads(asked(address, "/api/v1/alerts")[1])["data"]["alerts"]:
                return
        except (OSError, ValueError):
            pass
        assert time.monotonic() < end, "no alert fires"
        time.sleep(0.1)


class Host(ThreadingHTTPServer):
    """Serves the page as a monitoring host's nginx does, and passes questions on to a Prometheus."""

    daemon_threads = True

    def __init__(self, rendered: Mapping[str, str], ask: str) -> None:
        """Serve at a free port.

        Args:
            rendered: Files that Ansible makes, by name.
            ask: The address of Prometheus.
        """
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rendered, self.ask = dict(rendered), ask
        self.address = f"http://127.0.0.1:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: Host
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if re.fullmatch(r"/api/v1/(query|query_range|alerts)", path):
            self._pass_on()
            return
        name = path.removeprefix("/") or "index.html"
        if name in self.server.rendered:
            self._answer(200, name, self.server.rendered[name].encode())
        elif (PAGE / name).is_file() and "/" not in name:
            self._answer(200, name, (PAGE / name).read_bytes())
        else:
            self._answer(404, "missing.html", b"not here")

    def _pass_on(self) -> None:
        try:
            status, content = asked(self.server.ask, self.path)
        except OSError:
            status, content = 502, b"<html>Bad Gateway</html>"
        self._answer(status, "answer.json", content)

    def _answer(self, status: int, name: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", mimetypes.guess_type(name)[0] or "text/plain")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Cache-Control", "no-cache")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def serving(rendered: Mapping[str, str], ask: str) -> Iterator[Host]:
    """Serve the page for a while."""
    host = Host(rendered, ask)
    thread = threading.Thread(target=host.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield host
    finally:
        host.shutdown()
        thread.join()
        host.server_close()
