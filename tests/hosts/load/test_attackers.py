"""Who has got into a core's container, a core or a follower, or is outside, reads no metrics, and changes nothing.

They use all that they find: each word on the host's disk that could be a password is tried.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import pytest

from tests.hosts.conftest import HTTPS, Platform

CONTAINER, OUTSIDE = "container", "outside"
#: Tries doors, each an address with a port, and says which open, with the answers to all that was asked there: 0 for
#: none. Doors, names of users, the page's name, and further passwords are in the environment.
ATTACK = r"""
import base64, concurrent.futures, http.client, json, os, pathlib, re, socket, ssl

doors, users, name, words = json.loads(os.environ["ATTACK"])
for folder in ("/etc/pryv", "/etc/nginx"):
    for path in pathlib.Path(folder).rglob("*"):
        if path.is_file():
            words += re.findall(r"[\w+/=-]{20,}", path.read_text(errors="replace"))
ASKED = [
    *(("GET", path) for path in ("/metrics", "/node", "/mtail", "/redis", "/api/v1/query?query=up", "/platform.json")),
    *(("POST", path) for path in ("/api/v2/silences", "/api/v2/alerts", "/api/v1/write", "/-/quit", "/-/reload")),
    ("GET", "/federate"), ("PUT", "/metrics/job/attack"), ("POST", "/api/v1/admin/tsdb/delete_series?match[]=up"),
]
READ = ("GET", "/api/v1/query?query=up"), ("GET", "/node")

def connect(address, port, tls):
    plain = socket.create_connection((address, port), timeout=2)
    connection = http.client.HTTPConnection(name)
    connection.sock = plain
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection.sock = context.wrap_socket(plain, server_hostname=name)
    return connection

def attempt(door):
    found = set()
    try:
        socket.create_connection(door, timeout=2).close()
    except OSError:
        return None
    for tls in (True, False):
        tried = [(request, None) for request in ASKED]
        if tls:
            tried += [(READ[door[1] != 443], f"{user}:{word}") for word in sorted(set(words)) for user in users]
        connection = None
        for (method, path), password in tried:
            word = {"Authorization": "Basic " + base64.b64encode(password.encode()).decode()} if password else {}
            try:
                connection = connection or connect(*door, tls)
                connection.request(method, path, b"{}" if method != "GET" else None, word)
                reply = connection.getresponse()
                reply.read()
                found.add(reply.status)
                if reply.will_close:
                    connection = None
            except (OSError, http.client.HTTPException):
                connection = None
                if password is None and not found:
                    break
    return sorted(found) or [0]

with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print(json.dumps(list(pool.map(attempt, map(tuple, doors)))))
"""


def doors(platform: Platform) -> list[tuple[str, int]]:
    """Every port that has to do with monitoring, on every host, and the page."""
    names = ("metrics", "node_exporter", "mtail", "redis_exporter", "prometheus", "alertmanager", "blackbox_exporter")
    addresses = [host["private_address"] for host in platform.topology["hosts"].values()]
    page = platform.address(platform.topology["monitoring"][0]), HTTPS
    return [page, *((address, platform.topology["ports"][name]) for address in addresses for name in names)]


def attack(platform: Platform, source: str, words: Sequence[str] = ()) -> dict[tuple[str, int], list[int]]:
    """What answers, and how, to somebody who has got to a place: a host, a core's container, or outside.

    Args:
        platform: Which one.
        source: Name of the host, `CONTAINER` or `OUTSIDE`.
        words: What is tried beside all that is there.
    """
    administrators = [entry["name"] for entry in platform.variables["mon1"]["administrators"]]
    page, tried = platform.topology["service_names"]["monitoring"], doors(platform)
    text = json.dumps([tried, [*administrators, *platform.topology["monitoring"]], page, list(words)])
    if source == OUTSIDE:
        environment = {**os.environ, "ATTACK": text}
        said = subprocess.run([sys.executable, "-c", ATTACK], env=environment, check=True, capture_output=True).stdout
    else:
        # The network is the container's, and all that the host has is there: more than who is in the container has.
        into = 'nsenter --net=/proc/$(docker inspect --format "{{.State.Pid}}" pryv-core-core-1)/ns/net'
        command = f"ATTACK=%s {into if source == CONTAINER else ''} python3 -c %s"
        said = platform.machine("co1" if source == CONTAINER else source).check_output(command, text, ATTACK)
    answers: list[Any] = json.loads(said)
    return {door: answer for door, answer in zip(tried, answers, strict=True) if answer is not None}


@pytest.mark.parametrize("source", [CONTAINER, "co1", "reg2", OUTSIDE])
def test_nobody_but_who_may_reads_pushes_or_silences(platform: Platform, source: str) -> None:
    found = attack(platform, source)
    page, own = doors(platform)[0], platform.topology["ports"]["metrics"]
    opened = {status for answers in found.values() for status in answers if status < HTTPStatus.BAD_REQUEST and status}
    assert opened == set(), found
    # The page asks everybody for a password, and a host sees its own listener, which is for others.
    address = platform.topology["hosts"].get(source, {}).get("private_address", "")
    assert set(found) <= {page, (address, own)}, found
    silences = "amtool silence query --quiet --alertmanager.url http://127.0.0.1:9093"
    assert platform.machine("mon1").check_output(silences) == ""


def test_the_attack_would_be_seen(platform: Platform, secrets: Mapping[str, str]) -> None:
    """With the passwords of a host that monitors and of a reader, from there, each host answers, and the page."""
    words = [secrets["pryv_metrics_passwords.mon1"], secrets["pryv_monitoring_passwords.ops"]]
    found = attack(platform, "mon1", words)
    page, own = doors(platform)[0], platform.topology["ports"]["metrics"]
    assert {door for door, answers in found.items() if HTTPStatus.OK in answers} == {
        page,
        *((host["private_address"], own) for host in platform.topology["hosts"].values()),
    }


def test_who_may_look_changes_nothing(platform: Platform, reader: dict[str, str]) -> None:
    name = platform.topology["service_names"]["monitoring"]
    for path in ("/api/v1/admin/tsdb/snapshot", "/-/quit", "/api/v1/status/config", "/metrics", "/federate"):
        assert platform.ask("mon1", name, path, headers=reader).status == HTTPStatus.NOT_FOUND, path
    for path in ("/api/v2/silences", "/api/v2/alerts", "/api/v1/query"):
        assert platform.ask("mon1", name, path, "POST", reader).status == HTTPStatus.FORBIDDEN, path
