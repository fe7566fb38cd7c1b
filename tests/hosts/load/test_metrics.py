"""What hosts tell of themselves: to hosts that monitor and nobody else, what was promised, and nothing of people."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import pytest

from pryv_platform.scraping import UNWANTED
from tests.hosts.conftest import Platform
from tests.hosts.load.conftest import USER

#: What a user's request could bring into a label.
TOKEN, MAIL = "ckd0br28e00fo1iqi8xp0y3vb", "somebody@example.com"
#: As many as a year of them fit the disk of a monitoring host.
MOST_SERIES = 700
#: Asks as a monitoring host does, from whichever host it runs on. Whom, and with which password, is in the environment.
ASK = r"""
import base64, http.client, json, os, socket, ssl
context = ssl.create_default_context(cafile="/etc/pryv/tls/ca.pem")
name, port, asked = json.loads(os.environ["ASKED"])
answers = []
for address, path, user, password in asked:
    answers.append([0, ""])
    try:
        plain = socket.create_connection((address, port), timeout=2)
    except TimeoutError:
        continue
    connection = http.client.HTTPConnection(name)
    connection.sock = context.wrap_socket(plain, server_hostname=name)
    word = base64.b64encode(f"{user}:{password}".encode()).decode()
    connection.request("GET", path, headers={"Authorization": f"Basic {word}"} if password else {})
    reply = connection.getresponse()
    answers[-1] = [reply.status, reply.read().decode()]
    connection.close()
print(json.dumps(answers))
"""
#: Looks at the host; a look that is under way may have seen part of it before.
LOOK = """
look=pryv-metrics.service
test "$(systemctl show --property ActiveState --value $look)" != activating || systemctl start $look
systemctl start $look
"""
#: Opens three websockets, and tells what the host counts before, meanwhile and afterwards.
SOCKETS = r"""
import socket, ssl, subprocess, sys, time
address, name, look = sys.argv[1:]
def count():
    subprocess.run(["sh", "-c", look], check=True)
    told = open("/var/lib/prometheus/node-exporter/pryv.prom").read()
    print(*(line for line in told.splitlines() if line.startswith("pryv_core_sockets ")))
count()
opened = []
for _ in range(3):
    context = ssl.create_default_context(cafile="/etc/pryv/tls/ca.pem")
    connection = context.wrap_socket(socket.create_connection((address, 443), timeout=5), server_hostname=name)
    words = ["GET /socket.io/?EIO=4&transport=websocket HTTP/1.1", f"Host: {name}", "Upgrade: websocket"]
    words += ["Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: bm90aGluZyBzZWNyZXQgOik="]
    connection.sendall("\r\n".join([*words, "", ""]).encode())
    assert b" 101 " in connection.recv(1000)
    opened.append(connection)
count()
for connection in opened:
    connection.close()
time.sleep(1)
count()
"""
#: Names that every host has, and those that only some have.
EVERYWHERE = {
    *(
        "node_load1",
        "node_load5",
        "node_load15",
        "node_cpu_seconds_total",
        "node_boot_time_seconds",
        "node_time_seconds",
    ),
    *(f"node_memory_{name}_bytes" for name in ("MemTotal", "MemAvailable", "MemFree", "Cached", "Slab")),
    *("node_memory_SwapTotal_bytes", "node_memory_SwapFree_bytes", "node_vmstat_pswpin", "node_vmstat_pswpout"),
    *("node_vmstat_oom_kill", "node_timex_sync_status", "node_timex_offset_seconds", "node_uname_info"),
    *(f"node_filesystem_{name}" for name in ("size_bytes", "avail_bytes", "files", "files_free")),
    *(f"node_disk_{name}_total" for name in ("reads_completed", "writes_completed", "read_bytes", "written_bytes")),
    "node_disk_io_time_seconds_total",
    *(
        f"node_network_{way}_{what}_total"
        for way in ("receive", "transmit")
        for what in ("packets", "bytes", "errs", "drop")
    ),
    *("apt_package_cache_timestamp_seconds", "node_reboot_required", "pryv_firewall_as_configured", "pryv_unit_failed"),
    *("pryv_certificate_not_after_seconds", "pryv_certificate_not_before_seconds", "pryv_certificate_served_is_file"),
    *(
        "pryv_metrics_collector_ok",
        "pryv_metrics_time_seconds",
        "pryv_verify_problems",
        "pryv_verify_time_seconds",
        "pryv_request_bytes_total",
        "pryv_response_bytes_total",
    ),
}
OF_CONTAINERS = {
    *("pryv_container_running", "pryv_container_restarts_total", "pryv_container_started_seconds"),
    *("pryv_container_memory_bytes", "pryv_container_memory_limit_bytes"),
}
OF_REDIS = {"redis_up", "redis_db_keys", "redis_memory_used_bytes", "redis_rdb_last_bgsave_status"}


@dataclass(frozen=True)
class Watcher:
    """A host that monitors.

    Attributes:
        platform: What it monitors.
        password: With which it is let in.
    """

    platform: Platform
    password: str = field(repr=False)

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.platform.topology["monitoring"][0])

    def ask(self, asked: Sequence[tuple[str, str, str]], source: str = "") -> list[tuple[int, str]]:
        """Asks hosts for metrics: status, 0 for no connection, and body.

        Args:
            asked: Host, path, and password, if any.
            source: The host that asks, if not itself.
        """
        hosts, port = self.platform.topology["hosts"], self.platform.topology["ports"]["metrics"]
        words = [(hosts[host]["private_address"], f"/{path}", self.name, password) for host, path, password in asked]
        text = json.dumps([self.platform.topology["service_names"]["monitoring"], port, words])
        answers = self.platform.machine(source or self.name).check_output("ASKED=%s python3 -c %s", text, ASK)
        return [(int(status), str(body)) for status, body in json.loads(answers)]

    def refresh(self, *hosts: str) -> dict[str, dict[str, float]]:
        """All that hosts tell after they have looked once more: by host, values by name with labels."""
        asked = []
        for host in hosts:
            self.platform.machine(host).check_output(LOOK)
            also = ("redis",) if "registry" in self.platform.topology["hosts"][host]["roles"] else ()
            asked += [(host, path, self.password) for path in ("node", "mtail", *also)]
        found: dict[str, dict[str, float]] = {host: {} for host in hosts}
        for (host, path, _), (status, body) in zip(asked, self.ask(asked), strict=True):
            assert status == HTTPStatus.OK, f"{host} {path}"
            lines = (line.rpartition(" ") for line in body.splitlines() if line and not line.startswith("#"))
            found[host] |= {name: float(value) for name, _, value in lines}
        return found


@pytest.fixture(scope="module")
def watcher(platform: Platform, secrets: dict[str, str]) -> Watcher:
    """The first host that monitors."""
    name = platform.topology["monitoring"][0]
    return Watcher(platform, secrets[f"pryv_metrics_passwords.{name}"])


@pytest.fixture(scope="module")
def told(watcher: Watcher, user: str) -> Mapping[str, Mapping[str, float]]:
    """What each host tells, after requests with what no label may have."""
    platform = watcher.platform
    own, registry = f"{USER}.{platform.domain}", f"reg.{platform.domain}"
    for path in ("/events", f"/{TOKEN}", f"/events/{TOKEN}/{MAIL}", f"/streams?auth={TOKEN}"):
        platform.ask(user, own, path, headers={"Authorization": TOKEN})
    platform.ask(user, own, "/events", TOKEN.upper())
    for host in platform.hosts("registry"):
        platform.ask(host, registry, f"/{MAIL}/uid")
    time.sleep(4)  # until the log is written and read
    return watcher.refresh(*platform.topology["hosts"])


def names(values: Mapping[str, float]) -> set[str]:
    """Names of metrics without labels."""
    return {name.partition("{")[0] for name in values}


def test_metrics_are_for_the_monitoring_host_with_its_password(watcher: Watcher) -> None:
    platform = watcher.platform
    core, registry = platform.hosts("core")[0], platform.hosts("registry")[0]
    asked = {
        ("node", watcher.password): HTTPStatus.OK,
        **{(path, ""): HTTPStatus.UNAUTHORIZED for path in ("node", "mtail")},
        ("node", watcher.password[::-1]): HTTPStatus.UNAUTHORIZED,
        **{(path, watcher.password): HTTPStatus.NOT_FOUND for path in ("", "metrics", "node/x", "nodes", "redis")},
    }
    answers = watcher.ask([(core, *each) for each in asked])
    assert [status for status, _ in answers] == list(asked.values())
    # The firewall lets nobody else through; nginx would not either, as who asks from the host itself sees.
    good = watcher.password
    assert [status for status, _ in watcher.ask([(registry, "node", good), (core, "node", good)], core)] == [0, 403]


def test_the_platforms_outside_cannot_reach_metrics(platform: Platform) -> None:
    ports = [platform.topology["ports"][name] for name in ("metrics", "node_exporter", "mtail", "redis_exporter")]
    for host in platform.topology["hosts"]:
        listed = platform.machine(host).check_output("ss --tcp --listening --numeric --no-header").splitlines()
        found = {line.split()[3] for line in listed if int(line.split()[3].rpartition(":")[2]) in ports}
        private = f"{platform.topology['hosts'][host]['private_address']}:{ports[0]}"
        assert found - {private} == {address for address in found if address.startswith("127.0.0.1:")}, host
        assert private in found, host


def test_each_promised_metric_is_there(watcher: Watcher, told: Mapping[str, Mapping[str, float]], user: str) -> None:
    platform = watcher.platform
    for host, values in told.items():
        roles = platform.topology["hosts"][host]["roles"]
        wanted = set(EVERYWHERE)
        if "core" in roles:
            wanted |= OF_CONTAINERS | {"pryv_core_users_local", "pryv_core_sockets"}
        if "registry" in roles:
            wanted |= OF_CONTAINERS | OF_REDIS | {"pryv_registry_answers"}
        if host == platform.topology["leader"]:
            wanted |= {"pryv_core_users", "redis_connected_slave_lag_seconds"}
        if host in platform.topology["followers"]:
            wanted |= {"redis_master_link_up", "redis_master_last_io_seconds_ago"}
        if host == user:
            wanted |= {"pryv_core_database_answers", "pryv_core_database_answer_seconds"}
            wanted |= {"pryv_requests_total", "pryv_request_seconds_bucket", "pryv_request_seconds_count"}
        assert wanted - names(values) == set(), host


def test_what_is_told_is_true(watcher: Watcher, told: Mapping[str, Mapping[str, float]], user: str) -> None:
    platform = watcher.platform
    always = {"pryv_container_running", "pryv_metrics_collector_ok", "pryv_firewall_as_configured", "redis_up"}
    always |= {"redis_master_link_up", "pryv_registry_answers", "pryv_certificate_served_is_file"}
    for host, values in told.items():
        wrong = {name for name, value in values.items() if name.partition("{")[0] in always and value != 1}
        wrong |= {name for name, value in values.items() if name.startswith("pryv_unit_failed") and value}
        assert wrong == set(), host
        assert abs(values["pryv_metrics_time_seconds"] - time.time()) < 60, host
        ends = "openssl x509 -noout -enddate -dateopt iso_8601 -in /etc/pryv/tls/fullchain.pem"
        end = platform.machine(host).check_output(f'date --date "$({ends} | cut -d= -f2)" +%s')
        for source in ("file", "served"):
            assert values[f'pryv_certificate_not_after_seconds{{source="{source}"}}'] == int(end), host
    assert told[user]["pryv_core_users_local"] == 1
    assert told[user]["pryv_core_database_answers"] == 1
    assert told[platform.topology["leader"]][f'pryv_core_users{{core="{user}"}}'] == 1
    assert told[user]['pryv_requests_total{code="4xx",method="GET",route="events"}'] >= 1


def test_open_sockets_are_counted(watcher: Watcher, user: str) -> None:
    machine, address = watcher.platform.machine(user), watcher.platform.topology["hosts"][user]["private_address"]
    counted = machine.check_output(
        "python3 -c %s %s %s %s", SOCKETS, address, f"{USER}.{watcher.platform.domain}", LOOK
    )
    assert [line.split()[-1] for line in counted.splitlines()] == ["0", "3", "0"]


def test_series_are_few_enough_and_nobodys(told: Mapping[str, Mapping[str, float]], secrets: dict[str, str]) -> None:
    for host, values in told.items():
        kept = [name for name in values if not re.fullmatch(UNWANTED, name.partition("{")[0])]
        assert len(kept) <= MOST_SERIES, f"{host}: {len(kept)}"
        # A kernel's version may have anything.
        text = "\n".join(name for name in values if not name.startswith("node_uname_info"))
        for what in (USER, TOKEN, MAIL, "@", *secrets.values()):
            assert what.lower() not in text.lower(), host
        requests = {
            label for name in values if name.startswith("pryv_request") for label in re.findall(r"(\w+)=", name)
        }
        assert requests <= {"route", "method", "code", "le"}, host


def test_what_goes_wrong_is_seen_at_once(watcher: Watcher, user: str) -> None:
    """A look is taken twice a minute. A core's status stays green without its database: what asks that sees it."""
    machine = watcher.platform.machine(user)
    timer = machine.check_output("systemctl show --property TimersCalendar pryv-metrics.timer")
    assert re.findall(r"OnCalendar=(\S+ \S+)", timer) == ["*-*-* *:*:00/30"]
    container = machine.check_output("docker ps --quiet --filter label=com.docker.compose.service=mongodb")
    machine.check_output(f"docker kill {container} && nft add rule inet pryv input tcp dport 4444 accept")
    try:
        found = watcher.refresh(user)[user]
        assert found["pryv_core_database_answers"] == 0
        assert found['pryv_container_running{project="pryv-core",service="mongodb"}'] == 0
        assert found['pryv_metrics_collector_ok{collector="core"}'] == 1
        assert found["pryv_firewall_as_configured"] == 0
    finally:
        machine.check_output(f"docker start {container} && systemctl reload pryv-firewall.service")
    deadline = time.monotonic() + 60
    while (found := watcher.refresh(user)[user])["pryv_core_database_answers"] != 1:
        assert time.monotonic() < deadline, "its database answers no more"
    assert found["pryv_firewall_as_configured"] == 1


def test_what_clients_see_is_seen_from_the_monitoring_host(watcher: Watcher, user: str) -> None:
    """Of all hosts: nothing is wrong, until a header is missing that no other look asks for."""
    watching, machine = watcher.platform.machine(watcher.name), watcher.platform.machine(user)

    def wrong() -> dict[str, float]:
        watching.check_output("systemctl start pryv-verify-platform.service")
        lines = watching.check_output("grep ^pryv_ /var/lib/prometheus/node-exporter/verify-platform.prom").splitlines()
        found = dict(re.findall(r'^pryv_verify_platform_problems{of="(.+)"} (\d+)$', "\n".join(lines), re.MULTILINE))
        assert set(found) == set(watcher.platform.topology["hosts"]) - {watcher.name}
        return {host: float(number) for host, number in found.items() if number != "0"}

    since = watching.check_output("date +%s")
    assert wrong() == {}, watching.check_output(f"journalctl --unit pryv-verify-platform --since @{since} --output cat")
    header = "/etc/nginx/snippets/pryv-headers.conf"
    machine.check_output(f"sed --in-place=.kept /Strict-Transport-Security/d {header} && nginx -s reload")
    try:
        assert wrong() == {user: 1}
        said = watching.check_output(f"journalctl --unit pryv-verify-platform --since @{since} --output cat")
        assert f"{user}: HTTP headers: Strict-Transport-Security is missing" in said
    finally:
        machine.check_output(f"mv {header}.kept {header} && nginx -s reload")
    assert wrong() == {}


def test_exporters_cost_little(watcher: Watcher) -> None:
    """Their memory, and the time of processors that a look takes; docs/performance.md has the figures."""
    for host in watcher.platform.topology["hosts"]:
        machine = watcher.platform.machine(host)
        resident = machine.check_output(
            "ps -C mtail,prometheus-node,prometheus-redi -o rss= | awk '{all += $1} END {print all}'"
        )
        assert int(resident) < 60 << 10, host
