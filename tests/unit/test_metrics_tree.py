"""Which files role metrics places, by who asks for metrics, and what each of its lists names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from tests.templates import trusted

CHECKOUT = Path(__file__).resolve().parents[2]
ROLE = CHECKOUT / "roles/metrics"
TREE = ROLE / "templates/root"
#: Every file that the role can place, by its place on a host.
FILES = {f"/{path.relative_to(TREE)}".removesuffix(".j2") for path in TREE.rglob("*") if not path.is_dir()}
MAILED = {"monitoring_receivers": [{"name": "a", "mail": ["a@a.test"]}], "monitoring_mail_server": {"host": "a.test"}}


def left_out(host: str, monitoring: list[str], **variables: Any) -> list[str]:
    """What a host does not get.

    Args:
        host: The host.
        monitoring: Who asks.
        variables: Of the inventory.
    """
    own = {
        name: value
        for part in (CHECKOUT / "roles/pryv/vars/main.yml", ROLE / "vars/main.yml")
        for name, value in yaml.safe_load(part.read_text()).items()
    }
    roles = {"co1": ["core"], "reg1": ["registry"], "mon1": [], "mon2": []}
    topology = {
        "hosts": {name: {"roles": found} for name, found in roles.items()},
        "monitoring": monitoring,
        "leader": "reg1",
    }
    templar = Templar(DataLoader(), {**trusted(own), "inventory_hostname": host, "topology": topology, **variables})
    return list(templar.template(trust_as_template("{{ metrics_left_out }}")))


def placed(host: str, monitoring: list[str], **variables: Any) -> set[str]:
    """What it gets."""
    out = left_out(host, monitoring, **variables)
    # A tree's renderer refuses what is named twice, and what is not there.
    assert len(out) == len(set(out))
    covered = {path: {file for file in FILES if file == path or file.startswith(f"{path}/")} for path in out}
    assert [path for path, files in covered.items() if not files] == []
    return FILES.difference(*covered.values())


@pytest.mark.parametrize("host", ["co1", "reg1", "mon1"])
@pytest.mark.parametrize("monitoring", [[], ["mon1"]])
@pytest.mark.parametrize("mailed", [False, True])
def test_lists_name_what_is_there_once(host: str, monitoring: list[str], *, mailed: bool) -> None:
    found = placed(host, monitoring, **(MAILED if mailed else {}))
    watch = {path for path in found if "pryv-watch" in path}
    assert bool(watch) == (mailed and not monitoring)
    assert ("/etc/systemd/system/pryv-metrics.timer" in found) == bool(monitoring)
    assert ("/etc/pryv/metrics/redis" in found) == (host == "reg1" and bool(monitoring))


def test_only_a_host_that_monitors_looks_at_the_platform() -> None:
    for host in ("co1", "mon2"):
        assert not [
            path for path in placed(host, ["mon1"]) if "verify-platform" in path or path.endswith("platform.json")
        ]
    found = placed("mon1", ["mon1"])
    assert {f"/etc/systemd/system/pryv-verify-platform.{kind}" for kind in ("service", "timer")} <= found
    assert "/etc/pryv/metrics/verify_platform.json" in found
