"""What a monitoring host takes for many hosts, and how soon its page is there.

Ten and 200 hosts: a registry, a core and the monitoring host are there, the latter with all that the roles make for so
many. For the other cores a test host answers (tests/bench_targets.py), with what the core told and values of their own,
at their addresses, over TLS, as often as they are asked. That leaves out years of data, of which tests/page has one,
and hosts as busy as the plan's: while it is recorded, the core is asked for each of its routes again and again.
"""

from __future__ import annotations

import base64
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pryv_platform.capacity.guide import SCRAPE_SECONDS
from pryv_platform.capacity.plan import core_name
from tests.fleet import fleet
from tests.page import chromium
from tests.page.test_monitoring import FLAGS, SHOWN

#: Of how many hosts the platforms are, and for how long each is measured, in seconds: Prometheus writes 120 samples of
#: a series to the disk at once.
SIZES = {10: 300, 200: 1800}
#: What addresses begin with; what is there besides cores.
NETWORK = "10.77.73."
OTHERS = ("reg1", "mon1")
#: The core that is there and tells how cores are, and the host that answers for itself and all further cores.
MODEL, STAND_IN = "co1", "co2"
THERE = (*OTHERS, MODEL)
#: The time between two recordings, and until all is asked regularly, in seconds.
RECORDED, SETTLING = 60, 60
FOLDER = "/root/targets"
VIEWS = {"platform": "", "host": f"#host={STAND_IN}"}
OPENINGS = 5
#: Asks a core for each route and prints what its exporters tell, first before and then after that.
RECORD = """
import http.client, json, socket, ssl, sys, time, urllib.request
address, name, seconds, *ports = sys.argv[1:]
context = ssl.create_default_context(cafile="/etc/pryv/tls/ca.pem")
def told():
    answers = [urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode() for port in ports]
    return time.time(), answers
def ask():
    for path in ("events", "events/c1/f1", "events/c1/series", "streams", "accesses", "auth/login", "profile/app",
                 "system/info", "previews/events/c1", "socket.io/", "users"):
        for method in ("GET", "POST", "PUT", "DELETE"):
            connection = http.client.HTTPSConnection(name)
            connection.sock = context.wrap_socket(socket.create_connection((address, 443)), server_hostname=name)
            connection.request(method, f"/{path}")
            connection.getresponse().read()
            connection.close()
ask()
time.sleep(5)
first, end = told(), time.time() + float(seconds)
while time.time() < end:
    ask()
    time.sleep(1)
print(json.dumps([first, told()]))
"""
#: Prints the CPU time, memory and highest memory of programs: seconds and bytes, by the beginning of their names.
USAGE = """
import glob, json, os, re
found = {}
for folder in glob.glob("/proc/[0-9]*"):
    try:
        stat, status = open(folder + "/stat").read(), open(folder + "/status").read()
        shared = open(folder + "/smaps_rollup").read()
        assert "VmHWM" in status
    except (OSError, AssertionError):
        continue
    name, fields = re.findall(r"[(](.*)[)] (.*)", stat)[0]
    ticks = sum(map(int, fields.split()[11:13])) / os.sysconf("SC_CLK_TCK")
    sizes = [int(re.findall(r"^(?:Pss|VmHWM):\\s+(\\d+)", text, re.M)[0]) << 10 for text in (shared, status)]
    found[name] = [a + b for a, b in zip(found.get(name, [0, 0, 0]), [ticks, *sizes])]
print(json.dumps(found))
"""
PROGRAMS = {"Prometheus": "prometheus", "prober": "prometheus-blac", "Alertmanager": "prometheus-aler"}
#: Prints what Prometheus answers.
ASK = """
import sys, urllib.parse, urllib.request
path, *query = sys.argv[1:]
parameters = urllib.parse.urlencode([("query", one) for one in query])
print(urllib.request.urlopen(f"http://127.0.0.1:9090/api/v1/{path}?{parameters}").read().decode())
"""
#: Makes a block of a copy of what Prometheus has; prints its number of samples, and the bytes that they take.
BLOCK = """
set -e
rm -rf /var/tmp/copy && cp -r /srv/pryv/monitoring/prometheus /var/tmp/copy && rm -f /var/tmp/copy/lock
echo '{}' >/var/tmp/none.yml
prometheus --config.file=/var/tmp/none.yml --storage.tsdb.path=/var/tmp/copy --web.listen-address=127.0.0.1:9990 \\
    --web.enable-admin-api 2>/dev/null &
python3 - <<'END'
import glob, json, os, time, urllib.error, urllib.request
while True:
    try:
        urllib.request.urlopen("http://127.0.0.1:9990/-/ready")
        break
    except OSError:
        time.sleep(0.2)
urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:9990/api/v1/admin/tsdb/snapshot", method="POST"))
(block,) = glob.glob("/var/tmp/copy/snapshots/*/*")
size = sum(map(os.path.getsize, glob.glob(block + "/chunks/*")))
print(json.dumps([json.load(open(block + "/meta.json"))["stats"]["numSamples"], size]))
END
kill $!
rm -r /var/tmp/copy
"""


@dataclass(frozen=True)
class Cost:
    """What a monitoring host takes.

    Attributes:
        hosts: Of how many hosts the platform is.
        series: How many series are kept.
        samples: How many samples come in a second.
        rules: How many rules there are, and how long a look at those takes that are looked at each 15 s, in seconds.
        computing: The share of one CPU that each program takes.
        memory: What each program holds, in bytes, and what it held at most.
        sample: Bytes that a sample takes on the disk.
        views: How long a view of the page takes until all is shown, and of that the slowest question, in seconds.
    """

    hosts: int
    series: int
    samples: float
    rules: tuple[int, float]
    computing: Mapping[str, float]
    memory: Mapping[str, tuple[int, int]]
    sample: float
    views: Mapping[str, tuple[float, float]]


def cores(hosts: int) -> dict[str, str]:
    """The addresses of the cores of a platform of so many hosts, clear of the others'."""
    names = [core_name(number) for number in range(1, hosts - len(OTHERS) + 1)]
    return {name: f"{NETWORK}{10 + n if n <= 2 else 38 + n}" for n, name in enumerate(names, 1)}


class Monitored:
    """A platform that is monitored."""

    def __init__(self, hosts: fleet.Fleet, domain: str) -> None:
        """Takes the test hosts of a platform, which are provisioned, and its domain."""
        self._domain, self._hosts = domain, hosts
        self._containers = {host.name: hosts.container(host) for host in hosts.hosts}
        self._addresses = {host.name: host.address for host in hosts.hosts}

    def _run(self, host: str, *command: str, stdin: bytes | None = None) -> str:
        given = ["--interactive"] if stdin is not None else []
        return fleet.docker("exec", *given, self._containers[host], *command, stdin=stdin)

    def _python(self, host: str, script: str, *arguments: str) -> Any:
        return json.loads(self._run(host, "python3", "-c", script, *arguments))

    def value(self, question: str) -> float:
        """The sum of what Prometheus answers."""
        found = self._python("mon1", ASK, "query", question)["data"]["result"]
        return sum(float(one["value"][1]) for one in found)

    def rules(self) -> tuple[int, float]:
        """How many rules there are, and how long those take that are looked at each 15 s, in seconds."""
        groups = self._python("mon1", ASK, "rules")["data"]["groups"]
        often = [group for group in groups if group["interval"] <= SCRAPE_SECONDS]
        return sum(len(group["rules"]) for group in groups), sum(group["evaluationTime"] for group in often)

    def answer_for_others(self) -> None:
        """Has one host answer for all that are not there."""
        ports = {"node": "9101", "mtail": "3903"}
        user = f"somebody.{self._domain}"
        recordings = self._python(MODEL, RECORD, self._addresses[MODEL], user, str(RECORDED), *ports.values())
        files = {"settings.json": json.dumps({"port": 9443, "first": recordings[0][0], "second": recordings[1][0]})}
        for end, (_, answers) in zip(("first", "second"), recordings, strict=True):
            files |= {f"{path}.{end}": text for path, text in zip(ports, answers, strict=True)}
        files |= {name: self._run(MODEL, "cat", f"/etc/pryv/tls/{name}") for name in ("fullchain.pem", "privkey.pem")}
        files["bench_targets.py"] = Path(__file__).with_name("bench_targets.py").read_text()
        self._run(STAND_IN, "mkdir", "--parents", "--mode=0700", FOLDER)
        for name, text in files.items():
            self._run(STAND_IN, "sh", "-c", 'cat >"$0"', f"{FOLDER}/{name}", stdin=text.encode())
        others = [address for name, address in self._addresses.items() if name not in (*THERE, STAND_IN)]
        lines = "".join(f"address replace {address}/24 dev eth0\n" for address in others)
        self._run(STAND_IN, "ip", "-batch", "-", stdin=lines.encode())
        self._run(STAND_IN, "sh", "-c", "systemctl stop targets.service 2>/dev/null; systemctl reset-failed")
        script = ["/usr/bin/python3", f"{FOLDER}/bench_targets.py", FOLDER]
        self._run(STAND_IN, "systemd-run", "--quiet", "--unit=targets", "--property=LimitNOFILE=65536", *script)

    def wait_until_asked(self) -> None:
        """Waits until every target answers.

        Raises:
            FleetError: When one does not.
        """
        deadline = time.monotonic() + 180
        while self.value("count(up)") < 3 * len(self._addresses) or (missing := self.value("count(up == 0)")):
            if time.monotonic() > deadline:
                raise fleet.FleetError(f"{missing:.0f} targets do not answer")
            time.sleep(3)

    def page(self) -> dict[str, tuple[float, float]]:
        """How long the page's views take."""
        vault = self._hosts.inventory / "group_vars/all/vault.yml"
        command = [str(Path(sys.executable).with_name("ansible-vault")), "view", str(vault)]
        command += ["--vault-password-file", fleet.environment()["ANSIBLE_VAULT_PASSWORD_FILE"]]
        password = yaml.safe_load(fleet.run(command))["pryv_monitoring_passwords"]["ops"]
        word = base64.b64encode(f"ops:{password}".encode()).decode()
        name = f"mon.{self._domain}"
        program = fleet.run([str(fleet.CHECKOUT / "tests/page/install")]).strip()
        flags = [*FLAGS, "--ignore-certificate-errors", f"--host-resolver-rules=MAP {name} {self._addresses['mon1']}"]
        with (
            tempfile.TemporaryDirectory() as folder,
            chromium.running(program, [*flags, f"--user-data-dir={folder}"]) as browser,
        ):
            return {view: opened(browser, f"https://{name}/{address}", word) for view, address in VIEWS.items()}

    def cost(self) -> Cost:
        """Measures, for some minutes."""
        self.wait_until_asked()
        time.sleep(SETTLING)
        before, begin = self._python("mon1", USAGE), time.monotonic()
        time.sleep(SIZES[len(self._addresses)])
        after, seconds = self._python("mon1", USAGE), time.monotonic() - begin
        self.wait_until_asked()
        number, size = json.loads(self._run("mon1", "sh", "-c", BLOCK))
        return Cost(
            len(self._addresses),
            int(self.value("prometheus_tsdb_head_series")),
            self.value("sum(sum_over_time(scrape_samples_post_metric_relabeling[1m])) / 60"),
            self.rules(),
            {name: (after[key][0] - before[key][0]) / seconds for name, key in PROGRAMS.items()},
            {name: (int(after[key][1]), int(after[key][2])) for name, key in PROGRAMS.items()},
            size / number,
            self.page(),
        )


def opened(browser: chromium.Browser, address: str, word: str) -> tuple[float, float]:
    """How long a view takes until all is shown, and its slowest question: medians of some openings, in seconds."""
    found = []
    for _ in range(OPENINGS):
        page = chromium.Page(browser, 1280, 900, "light")
        page.call("Network.enable")
        page.call("Network.setExtraHTTPHeaders", headers={"Authorization": f"Basic {word}"})
        begin = time.monotonic()
        page.open(address)
        page.wait(f"document.readyState === 'complete' && {SHOWN}")
        whole = time.monotonic() - begin
        entries = "performance.getEntriesByType('resource').filter(entry => entry.name.includes('/api/'))"
        found.append((whole, page.evaluate(f"Math.max(...{entries}.map(entry => entry.duration))") / 1000))
        page.close()
    whole, slowest = (statistics.median(values) for values in zip(*found, strict=True))
    return whole, slowest
