"""What a host tells of its services: how many are not well, and in the journal which."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from pryv_metrics import verify, verify_platform
from pryv_metrics.platform_client import Record

#: Docker's command, which answers what lies beside it.
DOCKER = r"""#!/bin/sh
cd "${0%/*}"
case "$1" in compose) echo webhooks;; ps) echo abc;; inspect) cat inspect.json;; esac
exit "$(cat code)"
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a project, and with Docker's command, which knows one container."""
    (tmp_path / "core").mkdir()
    (tmp_path / "core/compose.yml").write_text("name: pryv-core\n")
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    (tmp_path / "code").write_text("0")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    told = [f"--file={tmp_path / 'verify.prom'}", "--seconds=0", f"{tmp_path}/*"]
    monkeypatch.setattr("sys.argv", ["pryv-verify", *told])
    container(tmp_path, "running")
    return tmp_path


def container(folder: Path, status: str) -> None:
    """What Docker says of the container; its program is this machine's first, which has run for long."""
    labels = {"com.docker.compose.project": "pryv-core", "com.docker.compose.service": "webhooks"}
    started = time.strftime("%Y-%m-%dT%H:%M:%S.0Z", time.gmtime())
    state = {"Status": status, "Pid": 1, "ExitCode": 3, "StartedAt": started}
    details = {"Id": "abc", "RestartCount": 0, "Config": {"Labels": labels}, "NetworkSettings": {"Ports": {}}}
    (folder / "inspect.json").write_text(json.dumps([{**details, "State": state}]))


def told(folder: Path) -> dict[str, float]:
    """What it writes."""
    assert verify.main() == 0
    lines = (folder / "verify.prom").read_text().splitlines()
    return {name: float(value) for name, _, value in (line.partition(" ") for line in lines if line[0] != "#")}


def test_a_host_whose_services_are_well_has_no_problem(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(host)
    assert found["pryv_verify_problems"] == 0
    assert found["pryv_verify_time_seconds"] == pytest.approx(time.time(), abs=60)
    assert capsys.readouterr().err == ""


def test_what_is_wrong_is_counted_and_named_in_the_journal(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    container(host, "exited")
    assert told(host)["pryv_verify_problems"] == 1
    assert capsys.readouterr().err == "pryv-verify: service webhooks of pryv-core is exited (exit code 3)\n"


def test_docker_that_does_not_answer_is_a_problem(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "code").write_text("1")
    assert told(host)["pryv_verify_problems"] == 1
    assert capsys.readouterr().err.startswith("pryv-verify: Docker: docker compose failed")


def test_a_host_without_projects_has_no_docker_to_ask(host: Path) -> None:
    (host / "core/compose.yml").unlink()
    (host / "docker").unlink()
    assert told(host)["pryv_verify_problems"] == 0


def test_what_clients_see_is_told_by_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens at any address: each look at the only host fails."""
    topology = {
        "domain": "a.test",
        "leader": "reg1",
        "followers": [],
        "hosts": {
            "reg1": {"roles": ["registry"], "public_address": "127.0.0.9"},
            "mon1": {"roles": ["monitoring"], "public_address": "127.0.0.8"},
        },
        "hostings": {"ch": {}},
        "name_servers": [{"name": "dns1", "host": "reg1"}],
        "names": {"co1.a.test": ["127.0.0.7"]},
        "flows": [],
        "service_names": {"register": "reg.a.test", "pages": "sw.a.test"},
        "ports": {"redis": 6379},
    }
    result, authority = tmp_path / "verify-platform.prom", tmp_path / "ca.pem"
    authority.write_text("")
    settings = {"host": "mon1", "topology": topology, "authority": str(authority), "file": str(result)}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    monkeypatch.setattr("sys.argv", ["pryv-verify-platform", f"--configuration={tmp_path / 'settings.json'}"])
    assert verify_platform.main() == 0
    told = dict(line.split() for line in result.read_text().splitlines() if line[0] != "#")
    assert float(told['pryv_verify_platform_problems{of="reg1"}']) > 5
    assert 'pryv_verify_platform_problems{of="mon1"}' not in told
    assert float(told["pryv_verify_platform_time_seconds"]) == pytest.approx(time.time(), abs=60)


def test_a_look_that_nobody_expected_to_fail_is_told_and_others_go_on() -> None:
    record, answer = Record(), dict[str, str]()
    verify_platform.careful(lambda: print(answer["a"]), record, "reg1")
    assert [(check.where, check.found) for check in record.checks] == [("reg1", "KeyError: 'a'")]
    (sample, _) = verify_platform.samples(record.checks, ["reg1"], "reg1")
    assert (sample.value, sample.labels) == (1, {"of": "reg1"})
