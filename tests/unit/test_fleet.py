"""What the test hosts' tool reads from an inventory, without making a host."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from tests.fleet import fleet

CHECKOUT = Path(__file__).resolve().parents[2]


def inventory(hostvars: dict[str, dict[str, str]]) -> dict[str, object]:
    return {"_meta": {"hostvars": hostvars}, "core": {"hosts": list(hostvars)}}


def test_addresses_are_unique_and_the_administrators_comes_first() -> None:
    same = {"ansible_host": "10.0.0.1", "public_address": "10.0.0.1"}
    own = {"ansible_host": "10.0.0.2", "public_address": "192.0.2.2", "private_address": "10.0.1.2"}
    one, two = fleet.parse_hosts(inventory({"one": same, "two": own}))
    assert [str(address) for address in one.addresses] == ["10.0.0.1"]
    assert [str(address) for address in two.addresses] == ["10.0.0.2", "10.0.1.2", "192.0.2.2"]
    assert len(two.networks) == 3


def test_second_address_in_a_network_shares_its_interface() -> None:
    (host,) = fleet.parse_hosts(inventory({"one": {"ansible_host": "10.0.0.1", "private_address": "10.0.0.101"}}))
    assert [list(map(str, addresses)) for addresses in host.networks.values()] == [["10.0.0.1", "10.0.0.101"]]


@pytest.mark.parametrize("value", [None, "co1.example.test", "{{ address }}", "10.0.0.256", "fd00::1"])
def test_host_without_plain_address_is_named(value: str | None) -> None:
    with pytest.raises(fleet.FleetError, match=f"one: ansible_host is {value!r}, and has to be an IPv4 address"):
        fleet.parse_hosts(inventory({"one": {"ansible_host": value} if value else {}}))


def test_ipv6_addresses_read_like_ipv4_ones() -> None:
    assert str(fleet.ipv6_address(ipaddress.IPv4Address("10.77.20.11"))) == "fd0a:4d14::11"
    assert str(fleet.ipv6_network(ipaddress.IPv4Network("10.77.20.0/24"))) == "fd0a:4d14::/64"


def test_inventory_is_read_without_its_vault(tmp_path: Path) -> None:
    (tmp_path / "group_vars/all").mkdir(parents=True)
    (tmp_path / "group_vars/all/vault.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    (tmp_path / "hosts.yml").write_text("core: {hosts: {co1: {ansible_host: 10.0.0.1}}}\n")
    assert [(host.name, host.address) for host in fleet.read_inventory(tmp_path)] == [("co1", "10.0.0.1")]


@pytest.mark.parametrize("name", ["development", "poc", "load", "privacy"])
def test_every_scenario_has_a_network_of_its_own(name: str) -> None:
    ours = {network for host in fleet.read_inventory(CHECKOUT / "inventories" / name) for network in host.networks}
    assert len(ours) == 1
    assert ours <= {fleet.network_of(ipaddress.IPv4Address(f"10.77.{number}.1")) for number in (10, 20, 30, 40)}


def test_fleets_of_two_checkouts_do_not_share_names(tmp_path: Path) -> None:
    prefixes = set()
    for checkout in ("one", "two"):
        folder = tmp_path / checkout / "poc"
        folder.mkdir(parents=True)
        (folder / "hosts.yml").write_text("core: {hosts: {co1: {ansible_host: 10.0.0.1}}}\n")
        prefixes.add(fleet.Fleet(folder).prefix)
    assert len(prefixes) == 2
    assert all(prefix.startswith("poc-") for prefix in prefixes)


def test_ssh_finds_a_host_at_its_own_port() -> None:
    known = ["10.0.0.1,[10.0.0.1]:2222,co1.poc key\n", "10.0.0.2,co2.poc key\n"]
    hosts = fleet.ssh_config(known).partition("Host *")[0]
    assert hosts == "Host co1.poc\n  HostName 10.0.0.1\n  Port 2222\nHost co2.poc\n  HostName 10.0.0.2\n"


def test_host_that_moved_is_known_by_its_new_address_alone() -> None:
    (host,) = fleet.parse_hosts(inventory({"co1": {"ansible_host": "10.0.1.1"}}))
    known = ["10.0.0.1,co1.poc key\n", "10.0.1.1,10.0.2.1,web1.load key\n", "10.0.0.2,co1.load key\n"]
    assert fleet.strangers(known, host, "poc") == ["10.0.0.2,co1.load key\n"]


def test_taken_network_says_whose_it_is_and_how_to_be_rid_of_it() -> None:
    network = ipaddress.IPv4Network("10.77.20.0/24")
    other = {
        "Name": "poc-123456-10.77.20.0",
        "IPAM": {"Config": [{"Subnet": "10.77.0.0/16"}, {"Subnet": "fd0a::/64"}]},
        "Labels": {"pryv.fleet": "poc-123456", "pryv.checkout": "/home/somebody/pryv"},
    }
    assert fleet.network_overlaps(network, other)
    message = fleet.in_the_way(network, other)
    assert "/home/somebody/pryv" in message
    assert "docker network rm $(docker network ls -q --filter label=pryv.fleet=poc-123456)" in message
    assert not fleet.network_overlaps(network, {"IPAM": {"Config": [{"Subnet": "10.77.30.0/24"}]}})
    assert not fleet.network_overlaps(network, {"IPAM": {"Config": None}})


@pytest.mark.parametrize(
    ("hosts", "running", "abandoned"), [(["a", "b"], [], True), (["a", "b"], ["b"], False), ([], [], False)]
)
def test_only_a_fleet_that_stands_still_gives_way(
    hosts: list[str], running: list[str], abandoned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def docker(*arguments: str) -> str:
        assert "label=pryv.fleet=poc-123456" in arguments
        return "\n".join(hosts if "--all" in arguments else running)

    monkeypatch.setattr(fleet, "docker", docker)
    assert fleet.is_abandoned({"Labels": {"pryv.fleet": "poc-123456"}}) is abandoned
    assert not fleet.is_abandoned({"Labels": {}})


@pytest.mark.parametrize("suite", fleet.SUITES)
def test_image_is_named_by_its_recipe(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fleet.Image(suite).tag
    assert first == fleet.Image(suite).tag
    monkeypatch.setattr(fleet, "PACKAGES", (*fleet.PACKAGES, "one-more"))
    assert first != fleet.Image(suite).tag


def test_equipped_image_has_what_roles_install_and_another_name() -> None:
    found = fleet.packages_of_roles("debian-13")
    assert {"aide", "curl", "docker-cli", "docker-compose", "docker.io", "nftables", "nginx"} <= set(found)
    more = set(fleet.packages_of_roles("debian-13", monitored=True)) - set(found)
    exporters = {
        "mtail",
        "prometheus-node-exporter",
        "prometheus-node-exporter-collectors",
        "prometheus-redis-exporter",
    }
    assert more == {*exporters, "prometheus", "prometheus-alertmanager", "prometheus-blackbox-exporter"}
    assert fleet.Image("debian-13", equipped=True).tag != fleet.Image("debian-13").tag
