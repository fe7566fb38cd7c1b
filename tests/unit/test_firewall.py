"""What the rules of role firewall let out of a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from pryv_platform.checks import firewall
from pryv_platform.ports import PORTS

CHECKOUT = Path(__file__).parents[2]
ROLE = CHECKOUT / "roles/firewall"
TEMPLATE = ROLE / "templates/root/etc/pryv/firewall/rules.nft.j2"
TOPOLOGY = {
    "domain": "pryv.test",
    "flows": [],
    "followers": [],
    "hosts": {"co1": {"public_address": "192.0.2.1"}, "web1": {"public_address": "192.0.2.3"}},
    "monitoring": [],
    "names": {"co1.pryv.test": ["192.0.2.1"], "co2.pryv.test": ["192.0.2.2"], "reg.pryv.test": ["192.0.2.9"]},
    "ports": PORTS,
    "zones": {"ch": ["co1"], "us": ["co2"]},
}
POOL = "172.29.0.0/16"
TANG = {
    "data_disk_device": "/dev/disk/by-id/data",
    "data_disk_unlock": "tang",
    "data_disk_tang_servers": [
        {"url": "http://tang1"},
        {"url": "http://[2001:db8::1]:7500"},
        {"url": "https://tang3/a"},
    ],
}


def rules(**variables: Any) -> str:
    parts = (ROLE.parent / "pryv/vars", ROLE / "defaults", ROLE / "vars")
    own = {name: value for part in parts for name, value in yaml.safe_load((part / "main.yml").read_text()).items()}
    computed = {name: trust_as_template(value) if isinstance(value, str) else value for name, value in own.items()}
    groups = {"registry": ["reg1"]}
    variables = {
        "inventory_hostname": "co1",
        "topology": TOPOLOGY,
        "groups": groups,
        "docker_address_pool": POOL,
        **computed,
        **variables,
    }
    return str(
        Templar(loader=DataLoader(), variables=variables).template(
            trust_as_template(TEMPLATE.read_text()), overrides={"trim_blocks": True, "lstrip_blocks": True}
        )
    )


def test_a_disk_opens_at_the_next_boot_whatever_a_host_may_reach() -> None:
    output = rules(firewall_egress=[], **TANG).partition("chain output {")[2].partition("}\n")[0]
    for port in (80, 7500, 443):
        assert f"meta skuid root tcp dport {port} accept\n" in output


@pytest.mark.parametrize("other", [{"data_disk_unlock": "tpm2"}, {"data_disk_device": ""}, {"firewall_egress": None}])
def test_nothing_is_opened_that_no_disk_needs(other: dict[str, Any]) -> None:
    assert "skuid" not in rules(**{"firewall_egress": [], **TANG, **other})


def test_a_host_that_monitors_reaches_the_ports_that_should_be_closed() -> None:
    for monitoring in ([], ["co1"]):
        output = rules(firewall_egress=[], topology={**TOPOLOGY, "monitoring": monitoring}).partition("chain egress {")[
            2
        ]
        assert ("ip daddr { 192.0.2.1, 192.0.2.3 } meta l4proto tcp accept\n" in output) == bool(monitoring)


def test_private_addresses_that_containers_need_are_listed() -> None:
    listed = {"network": "10.1.2.3/32", "port": 25}
    for variables in ({"firewall_container_egress": [listed]}, {"firewall_egress": [listed]}):
        chain = rules(**variables).partition("chain container {")[2].partition("chain refused")[0]
        assert chain.index("ip daddr 10.1.2.3/32 tcp dport 25 accept") < chain.index("10.0.0.0/8")


def test_a_bridge_of_the_host_itself_is_not_taken_for_containers() -> None:
    judged = [line.split() for line in rules().splitlines() if "iifname" in line and "br-*" in line]
    assert judged
    assert all(line[2:5] == ["ip", "saddr", POOL] for line in judged)


def test_another_core_changes_the_rules_of_registries_alone() -> None:
    assert "192.0.2.2" not in rules()
    assert "192.0.2.2" in rules(inventory_hostname="reg1")


def test_the_firewall_stands_before_any_package_that_opens_a_port() -> None:
    plays = yaml.safe_load((CHECKOUT / "site.yml").read_text())
    roles = [role["role"] for play in plays for role in play.get("roles", [])]
    assert roles.index("firewall") == 0
    assert "packages" in roles


@pytest.mark.parametrize(
    ("receiver", "egress", "right"),
    [
        ("", [], True),
        ("https://192.0.2.7", None, True),
        ("https://192.0.2.7", [{"network": "192.0.2.0/24", "port": 19532}], True),
        ("https://192.0.2.7:443", [{"network": "192.0.2.7", "port": 443, "protocol": "tcp"}], True),
        ("https://[2001:db8::7]:443", [{"network": "2001:db8::/64", "port": 443}], True),
        ("https://logs.example.com", [{"network": "192.0.2.0/24", "port": 19532}], True),
        ("https://192.0.2.7", [], False),
        ("https://192.0.2.7", [{"network": "192.0.3.0/24", "port": 19532}], False),
        ("https://192.0.2.7", [{"network": "192.0.2.0/24", "port": 443}], False),
        ("https://192.0.2.7", [{"network": "192.0.2.0/24", "port": 19532, "protocol": "udp"}], False),
        ("https://logs.example.com", [{"network": "192.0.2.0/24", "port": 443}], False),
    ],
)
def test_the_journals_receiver_can_be_reached(receiver: str, egress: list[dict[str, Any]] | None, right: bool) -> None:
    values = {"co1": {"hardening_journal_forward_to": receiver, "firewall_egress": egress}}
    found = firewall.firewall_problems(values)
    assert [problem["where"] for problem in found] == ([] if right else ["co1: firewall_egress"])
    assert right or "hardening_journal_forward_to" in found[0]["problem"]


@pytest.mark.parametrize("egress", [None, []])
@pytest.mark.parametrize(
    "receiver",
    [
        "none",
        True,
        "logs.example.com",
        "http://logs.example.com",
        "https://",
        "https:logs",
        "https://logs:port",
        "HTTPS",
    ],
)
def test_the_journals_receiver_is_a_url_over_tls(receiver: object, egress: list[dict[str, Any]] | None) -> None:
    values = {"web1": {"hardening_journal_forward_to": receiver, "firewall_egress": egress}}
    (found,) = firewall.firewall_problems(values)
    assert found["severity"] == "error"
    assert found["where"] == "web1: hardening_journal_forward_to"
    assert "begins with https://" in found["problem"]


def test_every_use_of_apt_waits_as_long_for_its_lock() -> None:
    tasks = [
        task["ansible.builtin.apt"]
        for path in (CHECKOUT / "roles").glob("*/tasks/*.yml")
        for task in yaml.safe_load(path.read_text()) or []
        if "ansible.builtin.apt" in task
    ]
    assert len(tasks) > 3
    assert {task.get("lock_timeout") for task in tasks} == {"{{ pryv_apt_lock_seconds }}"}


def test_one_client_is_limited_where_names_are_answered() -> None:
    flow = {"target": "co1", "source": "any", "address": "192.0.2.1", "protocol": "udp", "port": 53, "purpose": "DNS"}
    limits = {"https_connections": 123, "dns_queries_per_second": 45}
    with_names = rules(firewall_limits=limits, topology={**TOPOLOGY, "flows": [flow]})
    assert "tcp dport { 443, 9444 } add @https_clients { ip saddr ct count over 123 } reject" in with_names
    assert "limit rate over 45/second burst 225 packets } drop" in with_names
    chain = with_names.partition("chain input {")[2]
    assert chain.index("udp dport 53 jump names") < chain.index("ct state vmap") < chain.index("add @https_clients")
    assert "chain names" not in rules(firewall_limits=limits)
