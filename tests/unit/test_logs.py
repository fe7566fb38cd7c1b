"""Journals of hosts at a host that monitors: who sends where, who looks, and how long they are kept."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pryv_logs import __main__ as program
from pryv_logs import keep
from pryv_metrics import logs

from pryv_platform.checks import production
from pryv_platform.checks.secrets import secret_owners
from pryv_platform.inventory import Inventory
from pryv_platform.topology import derivation, obstacles
from tests.unit.test_topology import COMMON, flows, inventory, problems

FORWARD = "hardening_journal_forward_to"
DAY = 86400


def watched(*watchers: str, **own: Any) -> tuple[dict[str, list[str]], dict[str, dict[str, Any]]]:
    """A platform of two zones that sends its journals to hosts that monitor, which may have variables of their own."""
    groups, variables = inventory()
    groups["monitoring"] = list(watchers)
    groups["all"] += watchers
    for number, watcher in enumerate(watchers, 41):
        addresses = {"ansible_host": f"198.51.100.{number}", "private_address": f"10.0.0.{number}"}
        variables[watcher] = {**COMMON, **addresses, "log_zones": ["ch", "de"], **own}
    for variable in variables.values():
        variable[FORWARD] = "monitoring"
    return groups, variables


def test_a_journal_goes_to_a_host_that_monitors_and_to_no_other() -> None:
    found = derivation.derive(*watched("mon1"))
    senders = set(found["hosts"]) - {"mon1"}
    assert found["logs"] == dict.fromkeys(senders, "mon1")
    purpose = [flow for flow in found["flows"] if flow["port"] == found["ports"]["logs"]]
    assert {(flow["source"], *flow["sources"], flow["target"], flow["address"]) for flow in purpose} == {
        (host, f"{found['hosts'][host]['private_address']}/32", "mon1", "10.0.0.41") for host in senders
    }
    assert flows(found, found["ports"]["logs"]).keys() == {"mon1"}


def test_two_hosts_that_monitor_keep_each_others() -> None:
    found = derivation.derive(*watched("mon1", "mon2"))["logs"]
    assert (found["mon1"], found["mon2"], found["co1"]) == ("mon2", "mon1", "mon1")


def test_a_host_may_send_elsewhere_or_nowhere() -> None:
    groups, variables = watched("mon1")
    variables["co1"][FORWARD], variables["reg1"][FORWARD] = "https://logs.example.com", ""
    assert not {"co1", "reg1"} & derivation.derive(groups, variables)["logs"].keys()


def test_what_a_core_recorded_stays_in_its_zone() -> None:
    assert (
        "log_zones is []: name ch in log_zones of a host of group monitoring"
        in problems(*watched("mon1", log_zones=None))[0]
    )
    assert "name de in log_zones" in problems(*watched("mon1", log_zones=["ch"]))[0]
    assert "mon1: log_zones is ['fr']: a list of privacy zones, of ch, de" in problems(
        *watched("mon1", log_zones=["fr"])
    )
    groups, variables = watched("mon1", "mon2")
    variables["mon1"]["log_zones"], variables["mon2"]["log_zones"] = ["ch"], ["de"]
    found = derivation.derive(groups, variables)["logs"]
    assert (found["co1"], found["co2"], found["co3"]) == ("mon1", "mon1", "mon2")


def test_the_only_zone_need_not_be_named() -> None:
    groups, variables = watched("mon1", log_zones=None)
    variables["co3"]["privacy_zone"] = "ch"
    assert derivation.derive(groups, variables)["logs"]["co3"] == "mon1"


def test_nobody_sends_where_nothing_monitors() -> None:
    groups, variables = watched()
    with pytest.raises(obstacles.TopologyError, match="add a host to group monitoring"):
        derivation.derive(groups, variables)
    assert secret_owners(Inventory(variables, groups))["pryv_log_passwords"] == []


def test_every_sender_has_a_password_of_its_own() -> None:
    groups, variables = watched("mon1")
    variables["co1"][FORWARD] = "https://logs.example.com"
    assert set(secret_owners(Inventory(variables, groups))["pryv_log_passwords"]) == set(variables) - {"co1"}


def test_a_lone_host_that_monitors_sends_its_own_nowhere() -> None:
    groups, variables = watched("mon1")
    topology = derivation.derive(groups, variables)
    found = production.problems(Inventory(variables, groups, topology=topology), None)
    assert [one["where"] for one in found if FORWARD in one["where"]] == [f"mon1: {FORWARD}"]


def journals(folder: Path, *hosts: str) -> Path:
    for host in hosts:
        (folder / host).mkdir()
        (folder / host / keep.CURRENT).write_bytes(host.encode())
    return folder


def test_old_journals_go_and_new_files_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journals(tmp_path, "co1", "reg1")
    co1, reg1 = tmp_path / "co1", tmp_path / "reg1"
    (tmp_path / "co9").mkdir()  # has sent nothing yet
    now = (co1 / keep.CURRENT).stat().st_mtime
    for name, days in {"current@1.journal": 366, "current@2.journal": 364, "current@3.journal~": 400}.items():
        (co1 / name).touch()
        os.utime(co1 / name, (now - days * DAY,) * 2)
    monkeypatch.setattr("sys.argv", ["keep", "--folder", str(tmp_path), "--days", "365"])
    assert keep.main() == 0
    left = sorted(path.name for path in co1.iterdir())
    assert left[1:] == ["current@2.journal"]
    assert left[0] != keep.CURRENT
    assert (co1 / left[0]).read_bytes() == b"co1"
    # As journald names them, or a host that uses up its space would never lose any.
    assert all(path.name.count("-") == 2 and path.stem[40] == "-" for path in reg1.iterdir())
    assert keep.main() == 0
    assert sorted(path.name for path in co1.iterdir()) == left


def test_it_is_told_when_a_journal_got_a_line(tmp_path: Path) -> None:
    journals(tmp_path, "co1", "co2")
    os.utime(tmp_path / "co1" / keep.CURRENT, (5, 5))
    (tmp_path / "co1" / "current@1.journal").touch()
    os.utime(tmp_path / "co1" / "current@1.journal", (7, 7))
    (found,) = logs.collect({"folder": str(tmp_path), "hosts": ["co1", "reg1"]})
    assert (found.name, found.value, found.labels) == ("pryv_logs_time_seconds", 7, {"of": "co1"})


def test_who_looks_is_who_logged_in() -> None:
    name = pwd.getpwuid(os.getuid()).pw_name
    assert program.asker(str(os.getuid()), {"SUDO_USER": "somebody"}) == name
    assert program.asker(str(program.NOBODY), {"SUDO_USER": "ops"}) == "ops"
    assert program.asker("", {}) == "root"
    assert program.asker("54321", {}) == "54321"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """What is run, as root, in folders of two hosts."""
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command))
    monkeypatch.setattr(os, "execvp", lambda _, command: commands.append(command))
    journals(tmp_path, "co1", "co2")
    return commands


def search(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["pryv-logs", "--folder", str(folder), *arguments])
    return program.main()


def test_a_look_is_written_down_before_it_is_taken(
    run: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(monkeypatch, tmp_path, "--host", "co1", "--unit", "ssh.service", "--namespace=pryv", "--since", "-1h")
    written, looked = run
    assert written[0] == "logger"
    assert written[-1].endswith(" looks at: --host=co1 --unit=ssh.service --since=-1h _NAMESPACE=pryv")
    chosen = ["--unit=ssh.service", "--since=-1h", "_NAMESPACE=pryv"]
    assert looked == ["journalctl", "--quiet", f"--file={tmp_path}/co1/*.journal*", *chosen]


def test_a_look_is_written_down_in_full(run: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search(monkeypatch, tmp_path, *["--host", "co1"] * 500, "--grep", "a name")
    written, looked = run
    assert written[-1].endswith(" '--grep=a name'")
    (size,) = (int(word.removeprefix("--size=")) for word in written if word.startswith("--size="))
    assert size >= len(written[-1])
    assert looked[-1] == "--grep=a name"


def test_an_option_without_its_value_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.parse(["--folder", "x", "--since"])
    assert "expected one argument" in capsys.readouterr().err


def test_without_a_host_all_are_searched(run: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search(monkeypatch, tmp_path, "--follow")
    assert [word for word in run[1] if word.startswith("--file")] == [
        f"--file={tmp_path}/{host}/*.journal*" for host in ("co1", "co2")
    ]


def test_what_is_not_there_is_said(
    run: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong in ("co9", "../co1", "*"):
        assert search(monkeypatch, tmp_path, "--host", wrong) == 1
        assert f"pryv-logs: {wrong}: no journal is here; there is co1, co2" in capsys.readouterr().err
    assert run == []


def test_nobody_but_root_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert search(monkeypatch, tmp_path) == 1


def test_a_look_that_cannot_be_written_down_is_not_taken(
    run: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise subprocess.CalledProcessError(1, "logger")

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(subprocess.CalledProcessError):
        search(monkeypatch, tmp_path)
    assert run == []
