"""What charts and the measured plan read is made of what hosts tell, as Prometheus' own test program sees it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from pryv_platform.capacity.measured import measured_address

RULES = Path(__file__).parents[2] / "roles/monitoring/templates/root/etc/prometheus/rules/history.yml"
CORE = 'host="co1", zone="ch", role="core", job="node"'
#: By name and own labels: what the series tells each minute.
TOLD = {
    "node_load1{}": "0.5x500",
    'node_cpu_seconds_total{cpu="0", mode="user"}': "0+6x500",
    'node_cpu_seconds_total{cpu="0", mode="nice"}': "0+6x500",
    'node_cpu_seconds_total{cpu="1", mode="user"}': "0+0x500",
    'node_cpu_seconds_total{cpu="1", mode="nice"}': "0+0x500",
    'node_cpu_seconds_total{cpu="0", mode="softirq"}': "0+12x500",
    'node_filesystem_avail_bytes{mountpoint="/srv/pryv"}': "25x500",
    'node_filesystem_size_bytes{mountpoint="/srv/pryv"}': "100x500",
    'node_disk_writes_completed_total{device="vda"}': "0+600x500",
    'node_disk_writes_completed_total{device="dm-0"}': "0+600x500",
    'node_network_receive_packets_total{device="eth0"}': "0+6000x500",
    'node_network_receive_packets_total{device="lo"}': "0+6000x500",
    'pryv_container_memory_bytes{project="pryv-core", service="hfs"}': "7000x500",
    'pryv_requests_total{route="events", method="POST", code="2xx"}': "0+120x500",
    'pryv_requests_total{route="streams", method="GET", code="2xx"}': "0+180x300 54000+360x200",
    'pryv_requests_total{route="previews", method="GET", code="4xx"}': "0+60x500",
    'pryv_request_seconds_bucket{le="0.1", route="events"}': "0+60x500",
    'pryv_request_seconds_bucket{le="+Inf", route="events"}': "0+60x500",
    'pryv_request_seconds_bucket{le="0.1", route="sockets"}': "0x500",
    'pryv_request_seconds_bucket{le="+Inf", route="sockets"}': "0+60x500",
    "pryv_core_sockets{}": "12x500",
    "pryv_request_bytes_total{}": "0+60000x500",
}
FROM_ELSEWHERE = {
    'pryv_core_users{host="reg1", zone="", role="registry", job="node", core="co1"}': "4000x500",
    'redis_connected_slave_lag_seconds{host="reg1", slave_ip="127.0.0.1"}': "0x500",
    'redis_connected_slave_lag_seconds{host="reg1", slave_ip="127.0.0.2"}': "3x500",
    'pryv_requests_total{host="reg1", zone="", role="registry", route="register", method="POST"}': "0+60x500",
}
#: By chart and line, what co1 has after six hours.
LINES = {
    ("load", "1 minute"): 0.5,
    # Twelve seconds a minute of one of two CPUs.
    ("cpu", "user"): 0.1,
    ("cpu", "system"): 0.2,
    ("space", "/srv/pryv"): 0.75,
    ("iops", "writes"): 10,
    ("packets", "received"): 100,
    ("containers", "hfs"): 7000,
    ("requests", "2xx"): 8,
    ("requests", "4xx"): 1,
    ("latency", "half are faster"): 0.05,
    ("latency", "99 of 100 are faster"): 0.099,
    ("sockets", "open"): 12,
    ("users", "users"): 4000,
}


def sample(labels: dict[str, str], value: float, name: str = "") -> dict[str, Any]:
    written = ", ".join(f'{label}="{content}"' for label, content in labels.items())
    return {"labels": f"{name}{{{written}}}", "value": value}


def run(folder: Path, cases: list[dict[str, Any]]) -> None:
    """Have promtool evaluate expressions after the rules."""
    own = {f"{name[:-1]}{', ' * (not name.endswith('{}'))}{CORE}}}": values for name, values in TOLD.items()}
    series = [{"series": name, "values": values} for name, values in {**own, **FROM_ELSEWHERE}.items()]
    test = {"interval": "1m", "input_series": series, "promql_expr_test": cases}
    (folder / "test.yml").write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": [test]}))
    done = subprocess.run(
        ["promtool", "test", "rules", folder / "test.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_charts_have_what_a_host_tells(tmp_path: Path) -> None:
    """No more and no less: devices and interfaces that are others' shadows are not counted twice."""
    wanted = [
        sample({"host": "co1", "chart": chart, "line": line}, value, "pryv_history")
        for (chart, line), value in LINES.items()
    ]
    run(
        tmp_path,
        [
            {"expr": 'pryv_history{host="co1"}', "eval_time": "6h", "exp_samples": wanted},
            {
                "expr": 'pryv_history{host="reg1", chart="replication"}',
                "eval_time": "6h",
                "exp_samples": [
                    sample({"host": "reg1", "chart": "replication", "line": "slowest follower"}, 3, "pryv_history")
                ],
            },
            {
                "expr": 'last_over_time(pryv_history_hours{host="co1", chart!="requests", of="peak"}[1h])',
                "eval_time": "6h",
                "exp_samples": [
                    sample({"host": "co1", "chart": chart, "line": line, "of": "peak"}, value, "pryv_history_hours")
                    for (chart, line), value in LINES.items()
                    if chart != "requests"
                ],
            },
        ],
    )


def test_the_measured_plan_has_its_answers(tmp_path: Path) -> None:
    """The one question that it asks is understood, and counts what people ask of cores alone."""
    (query,) = parse_qs(urlsplit(measured_address({"ports": {"prometheus": 1}})).query)["query"]
    zone = {"zone": "ch"}
    peaks = {"writes": 2, "reads": 6, "previews": 1, "points": 2, "bytes_written": 1000}
    run(
        tmp_path,
        [
            {
                "expr": f'({query}) and on(figure) label_replace(vector(1), "figure", "{figure}", "", "")',
                "eval_time": "500m",
                "exp_samples": samples,
            }
            for figure, samples in {
                "peak": [sample({"figure": "peak", "kind": kind, **zone}, value) for kind, value in peaks.items()],
                "users": [
                    sample(
                        {
                            **{"core": "co1", "figure": "users", "host": "reg1", "job": "node"},
                            **{"role": "registry", "zone": ""},
                        },
                        4000,
                        "pryv_core_users",
                    )
                ],
                "users 30": [],
            }.items()
        ],
    )
