"""The page of the monitoring host: who may open it, what it is made of, and what it and the plan can ask."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

from tests.fleet import fleet
from tests.hosts.conftest import Answer, Platform

HOST = "mon1"


def ask(platform: Platform, path: str, headers: Mapping[str, str], method: str = "GET") -> Answer:
    return platform.ask(HOST, platform.topology["service_names"]["monitoring"], path, method, headers)


def test_nobody_but_administrators_sees_anything(platform: Platform, reader: dict[str, str]) -> None:
    for path in ("/", "/platform.json", "/api/v1/query?query=up"):
        assert ask(platform, path, {}).status == HTTPStatus.UNAUTHORIZED
        assert ask(platform, path, reader).status == HTTPStatus.OK
    # nginx writes its log each second.
    seen = """until grep -q '"ops" "GET /platform.json" 200' /var/log/nginx/monitoring.log; do sleep 0.2; done"""
    assert platform.machine(HOST).run(f"timeout 10 sh -c {shlex.quote(seen)}").rc == 0


def test_the_page_has_all_its_parts_and_may_run_them(platform: Platform, reader: dict[str, str]) -> None:
    """Each with the type without which a browser refuses it, below a policy that lets in nothing else."""
    page = ask(platform, "/", reader)
    parts = re.findall(r'(?:href|src)="(\w[\w.-]+)"', page.body.decode())
    modules = {
        name
        for path in ("app.js", "views.js", "state.js", "chart.js")
        for name in re.findall(r"from '\./([\w.]+)'", ask(platform, f"/{path}", reader).body.decode())
    }
    types = {"js": "application/javascript", "css": "text/css", "svg": "image/svg+xml"}
    assert {"app.js", "plan.css", "audit.css", "page.css"} <= set(parts)
    for part in {*parts, *modules}:
        answer = ask(platform, f"/{part}", reader)
        assert answer.status == HTTPStatus.OK, part
        assert answer.headers["content-type"].partition(";")[0] == types[part.rpartition(".")[2]], part
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert "### HostDown" in ask(platform, "/runbook.md", reader).body.decode()


def test_it_knows_the_platform_and_what_hosts_tell(platform: Platform, reader: dict[str, str]) -> None:
    told = json.loads(ask(platform, "/platform.json", reader).body)
    assert set(told["hosts"]) == set(platform.topology["hosts"])
    assert told["zones"]["ch"]["cores"] == platform.topology["zones"]["ch"]
    up = json.loads(ask(platform, "/api/v1/query?query=up%7Bjob%3D%22node%22%7D", reader).body)["data"]["result"]
    assert {sample["metric"]["host"] for sample in up} == set(platform.topology["hosts"])
    picture = ask(platform, "/platform.svg", reader).body.decode()
    assert all(f'data-host="{host}"' in picture for host in platform.topology["hosts"])


def test_the_plan_asks_what_was_measured(platform: Platform, tmp_path: Path) -> None:
    """A platform that has just been made knows too little, and says so."""
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("ansible-playbook"), "playbooks/plan.yml", "-i", platform.inventory),
            *("-e", "measured=true", "-e", f"plan_directory={tmp_path}"),
        ],
        cwd=fleet.CHECKOUT,
        env={**os.environ, **fleet.environment()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "zone ch: nothing can be said yet: 0.0 days are known" in done.stdout
