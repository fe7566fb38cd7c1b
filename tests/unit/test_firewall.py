"""What the rules of role firewall let out of a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

CHECKOUT = Path(__file__).parents[2]
TEMPLATE = CHECKOUT / "roles/firewall/templates/root/etc/pryv/firewall/rules.nft.j2"
TOPOLOGY = {"flows": [], "followers": [], "names": {"co1": ["192.0.2.1"]}}
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
    variables = {"inventory_hostname": "co1", "topology": TOPOLOGY, **variables}
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


def test_the_firewall_stands_before_any_package_that_opens_a_port() -> None:
    plays = yaml.safe_load((CHECKOUT / "site.yml").read_text())
    roles = [role["role"] for play in plays for role in play.get("roles", [])]
    assert roles.index("firewall") == 0
    assert "packages" in roles
