"""Measures a core's nginx beside a minimal TLS proxy of the same program; run on the core, as root.

Usage: python3 bench_proxy.py NAME [ROUNDS]        NAME is a user's host name

Both stand before one trivial service and are asked by wrk in turns. Prints JSON: by method and proxy, lists of requests
a second, of microseconds of CPU time that the proxy's workers take for a request, which a machine that is busy with
other things hardly changes, and of the 99th percentile of latency in milliseconds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path("/run/bench-proxy")
SERVICE, REDIRECT, PORTS = 18000, 18003, {"minimal": 18001, "core": 18002}
SECONDS, CONNECTIONS = 3, 32
#: What core answers to a question for events when there are none, and what an event takes.
ANSWER = '{"events":[],"meta":{"apiVersion":"1.9.2","serverTime":1764262800.0,"serial":"2026112701"}}'
EVENT = '{"streamIds":["weight"],"type":"mass/kg","content":90}'
HEAD = """worker_processes {workers}; pid {folder}/{name}.pid; error_log {folder}/{name}.log crit;
events {{ worker_connections 16384; }}
"""
TRIVIAL = """
http {{ access_log off; keepalive_requests 1000000;
    server {{ listen 127.0.0.1:{service}; location / {{ default_type application/json; return 200 '{answer}'; }} }} }}
"""
MINIMAL = """
http {{ access_log off; ssl_certificate /etc/pryv/tls/fullchain.pem; ssl_certificate_key /etc/pryv/tls/privkey.pem;
    upstream service {{ server 127.0.0.1:{service}; keepalive 32; }}
    server {{ listen 127.0.0.1:{port} ssl;
        location / {{ proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}
"""
REQUESTS = {
    "GET": 'wrk.headers["Authorization"] = "token"',
    "POST": f"""wrk.method, wrk.body = "POST", '{EVENT}'
        wrk.headers["Authorization"], wrk.headers["Content-Type"] = "token", "application/json\"""",
}


def configurations() -> dict[str, Path]:
    """Writes what nginx is started with three times, and gives the files by name."""
    FOLDER.mkdir()
    head = {
        name: HEAD.format(name=name, folder=FOLDER, workers=1 if name == "service" else "auto")
        for name in ("service", "minimal")
    }
    (FOLDER / "service.conf").write_text(head["service"] + TRIVIAL.format(service=SERVICE, answer=ANSWER))
    (FOLDER / "minimal.conf").write_text(head["minimal"] + MINIMAL.format(service=SERVICE, port=PORTS["minimal"]))
    # The core's own, but for its ports and its logs, and without what is not HTTP.
    shutil.copytree("/etc/nginx", FOLDER / "nginx")
    for path in (FOLDER / "nginx").rglob("*.conf"):
        text = re.sub(r"listen (\S*:)?443 ", f"listen 127.0.0.1:{PORTS['core']} ", path.read_text())
        text = re.sub(r"^ *listen \[::\].*$", "", text, flags=re.MULTILINE)
        # A server that listens nowhere would listen on 80.
        text = re.sub(r"listen (\S*:)?80\b", f"listen 127.0.0.1:{REDIRECT}", text)
        # Where it listens on several addresses, that is the same line again.
        text = re.sub(r"^( *listen 127\.0\.0\.1:[^\n]*\n)\1+", r"\1", text, flags=re.MULTILINE)
        # All processes of the core are the one service.
        text = re.sub(r"server 127\.0\.0\.1:\d+ max_fails", f"server 127.0.0.1:{SERVICE} max_fails", text)
        text = text.replace("/run/nginx.pid", f"{FOLDER}/core.pid")
        text = text.replace("/etc/nginx/", f"{FOLDER}/nginx/").replace("/var/log/nginx/", f"{FOLDER}/")
        path.write_text(text)
    main = FOLDER / "nginx/nginx.conf"
    main.write_text(re.sub(r"^stream \{.*?^\}", "", main.read_text(), flags=re.MULTILINE | re.DOTALL))
    return {"service": FOLDER / "service.conf", "minimal": FOLDER / "minimal.conf", "core": main}


@contextmanager
def running(files: dict[str, Path]) -> Iterator[dict[str, int]]:
    """Runs nginx with each of the files while the block runs, and yields the masters' process numbers."""
    started = {name: subprocess.Popen(["nginx", "-c", file, "-g", "daemon off;"]) for name, file in files.items()}
    try:
        time.sleep(2)
        yield {name: process.pid for name, process in started.items()}
    finally:
        for process in started.values():
            process.terminate()
            process.wait()


def computed(master: int) -> float:
    """Seconds of CPU time that the workers of a master have taken."""
    workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    fields = [Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split() for worker in workers]
    return sum(int(found[11]) + int(found[12]) for found in fields) / os.sysconf("SC_CLK_TCK")


def ask(name: str, proxy: str, method: str, master: int) -> tuple[float, float, float]:
    """Has wrk ask a proxy, and gives what the module's description lists."""
    script = FOLDER / f"{method}.lua"
    script.write_text(REQUESTS[method])
    before = computed(master)
    said = subprocess.run(
        [
            "wrk",
            "--threads=1",
            f"--connections={CONNECTIONS}",
            f"--duration={SECONDS}s",
            "--latency",
            f"--script={script}",
            f"https://{name}:{PORTS[proxy]}/events?limit=1",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    if "Non-2xx" in said or not (total := re.search(r"(\d+) requests in ([\d.]+)s", said)):
        raise RuntimeError(f"{proxy} does not answer {method}: {said}")
    number, unit = re.findall(r"99%\s+([\d.]+)(us|ms|s)", said)[0]
    rate, cost = int(total[1]) / float(total[2]), (computed(master) - before) / int(total[1]) * 1e6
    return rate, cost, float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def main() -> None:
    """Measures in turns, so that what else the machine does hits both."""
    name, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 15
    hosts = Path("/etc/hosts")
    known = hosts.read_text()
    hosts.write_text(f"{known}127.0.0.1 {name}\n")
    found: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    try:
        with running(configurations()) as masters:
            for method in [*REQUESTS] * rounds:
                for proxy in PORTS:
                    found.setdefault(method, {}).setdefault(proxy, []).append(ask(name, proxy, method, masters[proxy]))
    finally:
        hosts.write_text(known)
        shutil.rmtree(FOLDER, ignore_errors=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
