"""What the topology filter derives from an inventory, and what it refuses."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from filter_plugins.pryv import FilterModule
from pryv_platform.registry import registry_names
from pryv_platform.topology import derivation, jumps, obstacles, placeholders, reader

filters = FilterModule().filters()

Inventory = tuple[dict[str, list[str]], dict[str, dict[str, Any]]]
COMMON = {
    "pryv_domain": "example.pryv.test",
    "pryv_environment": "production",
    "pryv_admin_networks": ["192.0.2.0/24"],
}


def inventory() -> Inventory:
    """Return a platform of two zones, a leader, two followers and a web host."""
    hosts: dict[str, dict[str, Any]] = {
        "web1": {"ansible_host": "198.51.100.31"},
        "reg1": {"ansible_host": "198.51.100.21", "private_address": "10.0.0.21", "registry_role": "leader"},
        "reg2": {"ansible_host": "198.51.100.22", "private_address": "10.0.0.22", "registry_role": "follower"},
        "reg3": {"ansible_host": "198.51.100.23", "private_address": "10.0.0.23", "registry_role": "follower"},
        "co1": {"ansible_host": "10.9.9.11", "public_address": "198.51.100.11", "privacy_zone": "ch"},
        "co2": {"ansible_host": "198.51.100.12", "privacy_zone": "ch", "accepts_users": False},
        "co3": {"ansible_host": "198.51.100.13", "privacy_zone": "de", "accepts_users": True},
    }
    groups = {
        "all": list(hosts),
        "web": ["web1"],
        "registry": ["reg1", "reg2", "reg3"],
        "core": ["co1", "co2", "co3"],
    }
    return groups, {host: COMMON | own for host, own in hosts.items()}


def derive() -> dict[str, Any]:
    return dict(derivation.derive(*inventory()))


def problems(groups: dict[str, list[str]], variables: dict[str, dict[str, Any]]) -> list[str]:
    with pytest.raises(obstacles.TopologyError) as error:
        derivation.derive(groups, variables)
    return [str(problem) for problem in error.value.problems]


def test_zones_hold_draining_cores_and_hostings_do_not() -> None:
    found = derive()
    assert found["zones"] == {"ch": ["co1", "co2"], "de": ["co3"]}
    assert found["hostings"] == {"ch": {"co1": {"ip": "198.51.100.11"}}, "de": {"co3": {"ip": "198.51.100.13"}}}
    assert found["draining"] == {"co2": {"ip": "198.51.100.12"}}


def test_a_zone_whose_cores_all_drain_is_not_offered() -> None:
    groups, variables = inventory()
    variables["co3"]["accepts_users"] = False
    found = derivation.derive(groups, variables)
    assert list(found["hostings"]) == ["ch"]
    assert list(found["zones"]) == ["ch", "de"]


def test_hosts_have_roles_and_default_addresses() -> None:
    hosts = derive()["hosts"]
    assert hosts["co1"] == {
        "roles": ["core"],
        "public_address": "198.51.100.11",
        "private_address": "198.51.100.11",
        "ansible_host": "10.9.9.11",
        "privacy_zone": "ch",
        "ssh_port": 22,
        "leads_to": [],
    }
    assert hosts["reg2"]["private_address"] == "10.0.0.22"
    assert hosts["reg2"]["public_address"] == "198.51.100.22"


def test_registry_and_its_name_servers() -> None:
    found = derive()
    assert (found["leader"], found["followers"]) == ("reg1", ["reg2", "reg3"])
    assert found["name_servers"] == [
        {"name": "dns1", "host": "reg1", "address": "198.51.100.21"},
        {"name": "dns2", "host": "reg2", "address": "198.51.100.22"},
        {"name": "dns3", "host": "reg3", "address": "198.51.100.23"},
    ]


def test_every_name_has_its_address() -> None:
    leader, follower, web = ["198.51.100.21"], ["198.51.100.22"], ["198.51.100.31"]
    assert derive()["names"] == {
        f"{name}.example.pryv.test": addresses
        for name, addresses in {
            "reg": leader,
            "reg2": follower,
            "access": leader,
            "service": leader,
            "mail": leader,
            "adm": leader,
            "lead": leader,
            "sw": web,
            "mfa": web,
            "dns1": leader,
            "dns2": follower,
            "dns3": ["198.51.100.23"],
            "co1": ["198.51.100.11"],
            "co2": ["198.51.100.12"],
            "co3": ["198.51.100.13"],
        }.items()
    }


def single_node() -> Inventory:
    groups = {"all": ["co1"], "web": ["co1"], "registry": ["co1"], "core": ["co1"]}
    return groups, {"co1": {**COMMON, "ansible_host": "198.51.100.11", "privacy_zone": "ch"}}


def test_one_machine_may_have_every_role() -> None:
    found = derivation.derive(*single_node())
    assert found["leader"] == "co1"
    assert found["hosts"]["co1"]["roles"] == ["web", "registry", "core"]
    assert set(found["names"]["reg2.example.pryv.test"]) == {"198.51.100.11"}
    assert sorted((flow["protocol"], flow["port"]) for flow in found["flows"]) == [
        ("tcp", 22),
        ("tcp", 443),
        ("udp", 53),
    ]


def flows(found: dict[str, Any], port: int) -> dict[str, tuple[str, list[str], str]]:
    return {
        flow["target"]: (flow["source"], flow["sources"], flow["address"])
        for flow in found["flows"]
        if flow["port"] == port
    }


def test_flows_are_the_platforms_and_nothing_else() -> None:
    found = derive()
    everybody = ["0.0.0.0/0", "::/0"]
    assert set(flows(found, 443)) == set(found["hosts"])
    assert flows(found, 443)["co1"] == ("any", everybody, "198.51.100.11")
    assert set(flows(found, 53)) == {"reg1", "reg2", "reg3"}
    assert flows(found, 22)["co1"] == ("admin", ["192.0.2.0/24"], "10.9.9.11")
    replication = [flow for flow in found["flows"] if flow["port"] == 6380]
    assert [(flow["source"], flow["sources"], flow["target"], flow["address"]) for flow in replication] == [
        ("reg2", ["10.0.0.22/32"], "reg1", "10.0.0.21"),
        ("reg3", ["10.0.0.23/32"], "reg1", "10.0.0.21"),
    ]
    assert {flow["port"] for flow in found["flows"]} == {443, 53, 22, 6380}
    assert all(flow["purpose"] for flow in found["flows"])


def test_port_80_only_on_request_and_only_where_pages_are_served() -> None:
    groups, variables = inventory()
    groups["monitoring"] = ["mon1"]
    groups["all"].append("mon1")
    variables["mon1"] = {**COMMON, "ansible_host": "198.51.100.41"}
    for own in variables.values():
        own["pryv_http_redirect"] = True
    found = derivation.derive(groups, variables)
    assert set(flows(found, 80)) == set(found["hosts"]) - {"mon1"}
    assert "mon1" in flows(found, 22)


def test_who_monitors_reaches_every_hosts_metrics_and_administrators_its_page() -> None:
    groups, variables = inventory()
    groups["monitoring"] = ["mon1"]
    groups["all"].append("mon1")
    variables["mon1"] = {**COMMON, "ansible_host": "198.51.100.41", "private_address": "10.0.0.41"}
    found = derivation.derive(groups, variables)
    assert found["monitoring"] == ["mon1"]
    metrics = flows(found, 9443)
    assert set(metrics) == set(found["hosts"])
    assert all(flow[:2] == ("mon1", ["10.0.0.41/32"]) for flow in metrics.values())
    assert flows(found, 443)["mon1"] == ("admin", COMMON["pryv_admin_networks"], "198.51.100.41")
    # Programs in containers know nothing of it, and need not be made anew for it.
    assert not [name for name in found["names"] if name.startswith("mon.")]
    assert registry_names(found, found["zones"]["ch"])["mon"] == {"ip": ["198.51.100.41"]}


def test_who_monitors_is_not_lost_with_a_core() -> None:
    groups, variables = inventory()
    groups["monitoring"] = ["co1"]
    with pytest.raises(obstacles.TopologyError, match="a machine of its own for group monitoring"):
        derivation.derive(groups, variables)


@pytest.mark.parametrize(
    ("given", "url", "alias"),
    [
        ({"pryv_web_url": "https://pages.cdn.test/x"}, "https://pages.cdn.test/x", None),
        ({"pryv_web_alias": "pages.cdn.test"}, "https://sw.example.pryv.test", "pages.cdn.test"),
        ({"pryv_web_alias": "pages.cdn.test", "pryv_web_url": ""}, "https://sw.example.pryv.test", "pages.cdn.test"),
    ],
)
def test_pages_served_elsewhere(given: dict[str, str], url: str, alias: str | None) -> None:
    groups, variables = inventory()
    groups["all"].remove("web1")
    groups["web"] = []
    del variables["web1"]
    for own in variables.values():
        own.update(given)
    found = derivation.derive(groups, variables)
    assert found["web"] == {"hosts": [], "addresses": [], "url": url, "alias": alias}
    assert "sw.example.pryv.test" not in found["names"]


Change = Callable[[dict[str, list[str]], dict[str, dict[str, Any]]], Any]


def everywhere(name: str, value: object) -> Change:
    return lambda _, variables: [own.update({name: value}) for own in variables.values()]


def on(host: str, name: str, value: object) -> Change:
    return lambda _, variables: variables[host].update({name: value})


def without(host: str, name: str) -> Change:
    return lambda _, variables: variables[host].pop(name)


def group(name: str, members: list[str]) -> Change:
    return lambda groups, _: groups.update({name: members})


def renamed(host: str, new: str) -> Change:
    def change(groups: dict[str, list[str]], variables: dict[str, dict[str, Any]]) -> None:
        for name, members in groups.items():
            groups[name] = [new if member == host else member for member in members]
        variables[new] = variables.pop(host)

    return change


REFUSED: list[tuple[Change, str, str]] = [
    (on("reg1", "registry_role", "follower"), "registry_role: leader is []", "exactly one of the registry hosts"),
    (on("reg2", "registry_role", "leader"), "registry_role: leader is ['reg1', 'reg2']", "exactly one"),
    (without("reg2", "registry_role"), "reg2: registry_role is not set", "one of leader, follower"),
    (on("reg2", "registry_role", "slave"), "reg2: registry_role is 'slave'", "one of leader, follower"),
    (on("co1", "registry_role", "leader"), "co1: registry_role is 'leader'", "only hosts of group registry"),
    (group("registry", []), "group registry is []", "add a host"),
    (group("core", []), "group core is []", "add a child group"),
    (without("co1", "privacy_zone"), "co1: privacy_zone is not set", "the zone's name"),
    (on("co1", "privacy_zone", "Schweiz (CH)"), "co1: privacy_zone is 'Schweiz (CH)'", "1 to 63 characters"),
    (on("co1", "privacy_zone", False), "co1: privacy_zone is False", "in quotes"),
    (on("web1", "privacy_zone", "ch"), "web1: privacy_zone is 'ch'", "only hosts of group core"),
    (on("web1", "accepts_users", False), "web1: accepts_users is False", "only hosts of group core"),
    (on("co1", "accepts_users", "no"), "co1: accepts_users is 'no'", "true, or false to drain"),
    (on("co1", "accepts_users", "false"), "co1: accepts_users is 'false'", "this is a text: no quotes in YAML, True"),
    (on("co1", "accepts_users", 0), "co1: accepts_users is 0", "true, or false to drain the core"),
    (
        on("co1", "pryv_zone_groups", {"zone_ch": "ch", "zone_de": "de"}),
        "co1: privacy_zone is 'ch'",
        "the host is in the groups zone_ch (ch) and zone_de (de); leave it in one of them",
    ),
    (on("co3", "ansible_host", "198.51.100.12"), "co3: public_address is '198.51.100.12'", "co2 has this one"),
    (on("co3", "private_address", "10.0.0.21"), "co3: private_address is '10.0.0.21'", "reg1 has this one"),
    (on("co3", "ansible_host", "10.9.9.11"), "co3: ansible_host is '10.9.9.11'", "co1 has this one"),
    (group("web", []), "host web1 is []", "add it to one of the groups"),
    (without("web1", "ansible_host"), "web1: ansible_host is not set", "IPv4"),
    (on("co1", "public_address", "2001:db8::1"), "co1: public_address is '2001:db8::1'", "IPv4"),
    (on("co1", "public_address", "198.51.100.256"), "co1: public_address is '198.51.100.256'", "IPv4"),
    (on("co1", "public_address", "127.0.0.1"), "co1: public_address is '127.0.0.1'", "leads to no host"),
    (on("co2", "private_address", "co2.internal"), "co2: private_address is 'co2.internal'", "IPv4"),
    (on("web1", "ansible_host", "web.example.com"), "web1: ansible_host is 'web.example.com'", "IPv4"),
    (renamed("co1", "core1"), "core core1 is 'core1'", "at most 4 characters"),
    (renamed("co1", "reg"), "core reg is 'reg'", "the platform's own"),
    (renamed("co1", "adm"), "core adm is 'adm'", "the platform's own"),
    (renamed("co1", "dns7"), "core dns7 is 'dns7'", "the platform's own"),
    (renamed("co1", "xco2"), "core xco2 is 'xco2'", "does not end with co2"),
    (renamed("web1", "web_1"), "host web_1 is 'web_1'", "DNS can carry"),
    (renamed("web1", "w" * 64), f"host {'w' * 64}", "1 to 63 characters"),
    (everywhere("pryv_domain", None), "pryv_domain is not set", "in lower case"),
    (everywhere("pryv_domain", "Pryv.Test"), "pryv_domain is 'Pryv.Test'", "in lower case"),
    (everywhere("pryv_domain", "pryv"), "pryv_domain is 'pryv'", "for example"),
    (everywhere("pryv_domain", "pryv..test"), "pryv_domain is 'pryv..test'", "for example"),
    (everywhere("pryv_domain", "pryv.test."), "pryv_domain is 'pryv.test.'", "without a final dot"),
    (everywhere("pryv_domain", ".".join(["d" * 60] * 4)), "pryv_domain", "it has 243 characters; at most 192"),
    (on("co3", "pryv_domain", "other.test"), "co3: pryv_domain is 'other.test'", "set it once, in group_vars/all"),
    (everywhere("pryv_environment", "prod"), "pryv_environment is 'prod'", "development, integration, production"),
    (everywhere("pryv_admin_networks", []), "pryv_admin_networks is []", "nobody could log in"),
    (everywhere("pryv_admin_networks", "192.0.2.0/24"), "pryv_admin_networks is '192.0.2.0/24'", "a list"),
    (everywhere("pryv_admin_networks", ["192.0.2.1/24"]), "pryv_admin_networks[0] is '192.0.2.1/24'", "host bits set"),
    (everywhere("pryv_http_redirect", "yes"), "pryv_http_redirect is 'yes'", "true or false"),
    (everywhere("pryv_web_url", "https://a.test"), "pryv_web_url is 'https://a.test'", "group web has hosts (web1)"),
]


@pytest.mark.parametrize(("change", "what", "remedy"), REFUSED, ids=[what for _, what, _ in REFUSED])
def test_refused(change: Change, what: str, remedy: str) -> None:
    groups, variables = inventory()
    change(groups, variables)
    found = problems(groups, variables)
    assert any(problem.startswith(what) and remedy in problem for problem in found), found


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({}, "group web is []: add a host, or set pryv_web_url or pryv_web_alias"),
        ({"pryv_web_url": "https://a.test", "pryv_web_alias": "a.test"}, "pryv_web_alias is 'a.test': pryv_web_url"),
        ({"pryv_web_url": "http://a.test"}, "pryv_web_url is 'http://a.test': an https:// URL"),
        ({"pryv_web_alias": "https://a.test"}, "pryv_web_alias is 'https://a.test': a DNS name"),
        ({"pryv_web_alias": "sw.example.pryv.test"}, "pryv_web_alias is 'sw.example.pryv.test': a name outside"),
    ],
)
def test_refused_pages(given: dict[str, str], what: str) -> None:
    groups, variables = inventory()
    groups["web"] = []
    groups["monitoring"] = ["web1"]
    for own in variables.values():
        own.update(given)
    assert [problem for problem in problems(groups, variables) if problem.startswith(what)]


def test_the_registry_needs_a_core_that_accepts_users() -> None:
    groups, variables = inventory()
    for core in groups["core"]:
        variables[core]["accepts_users"] = False
    assert "at least one core must accept users" in problems(groups, variables)[0]


def test_an_address_that_is_there_twice_is_no_gateways() -> None:
    groups, variables = inventory()
    variables["co3"]["ansible_host"] = variables["co2"]["ansible_host"]
    (only,) = problems(groups, variables)
    assert only.startswith("co3: public_address is '198.51.100.12': an address of its own: co2 has this one")


def test_hosts_behind_a_gateway_share_its_address_but_not_its_port() -> None:
    groups, variables = inventory()
    for number, host in enumerate(("co2", "co3")):
        variables[host].update(
            public_address=variables[host]["ansible_host"], ansible_host="203.0.113.1", ansible_port=2201 + number
        )
    assert [problem.partition(":")[0] for problem in problems(groups, variables)] == ["co2", "co3"]
    assert "ssh_port is not set: co2 and co3 are behind one gateway" in problems(groups, variables)[0]
    for host in ("co2", "co3"):
        variables[host]["ssh_port"] = 22
    found = derivation.derive(groups, variables)
    assert {found["hosts"][host]["ssh_port"] for host in ("co2", "co3")} == {22}
    variables["co3"]["ansible_port"] = 2201
    assert problems(groups, variables) == [
        "co3: ansible_host is '203.0.113.1': an address of its own: co2 has this one"
    ]


@pytest.mark.parametrize("port", [2222, "2222"])
def test_the_port_that_ansible_uses_is_the_one_that_is_open(port: object) -> None:
    groups, variables = inventory()
    variables["co1"]["ansible_port"] = port
    found = derivation.derive(groups, variables)
    assert found["hosts"]["co1"]["ssh_port"] == 2222
    assert list(flows(found, 2222)) == ["co1"]
    assert "co1" not in flows(found, 22)


@pytest.mark.parametrize("name", ["ansible_port", "ssh_port"])
@pytest.mark.parametrize("port", [0, 65536, "ssh", True])
def test_what_is_no_port_is_refused(name: str, port: object) -> None:
    groups, variables = inventory()
    variables["co1"][name] = port
    assert problems(groups, variables) == [f"co1: {name} is {port!r}: a port, a number from 1 to 65535"]


@pytest.mark.parametrize(
    "arguments",
    [
        "-J reg1",
        "-q -Jops@reg1:2222 -4",
        "-o ProxyJump=ops@10.9.9.21",
        "-oProxyJump=ssh://ops@reg1:2222",
        "-o 'ProxyJump reg1'",
        '-o ProxyCommand="ssh -W %h:%p -q -o UserKnownHostsFile=/dev/null ops@reg1"',
        "-o 'proxycommand = ssh -q -i key -W [%h]:%p -p 2222 198.51.100.21'",
    ],
)
def test_a_host_of_the_platform_that_others_are_reached_through_leads_there(arguments: str) -> None:
    groups, variables = inventory()
    variables["reg1"].update(ansible_host="10.9.9.21", ansible_port=2222, public_address="198.51.100.21")
    variables["co1"]["ansible_ssh_common_args"] = arguments
    found = derivation.derive(groups, variables)
    assert {host: entry["leads_to"] for host, entry in found["hosts"].items() if entry["leads_to"]} == {
        "reg1": ["10.9.9.11:22"]
    }
    (flow,) = [flow for flow in found["flows"] if flow["source"] == "reg1"]
    assert (flow["target"], flow["address"], flow["port"]) == ("co1", "10.9.9.11", 22)
    assert set(flow["sources"]) == {"198.51.100.21/32", "10.0.0.21/32", "10.9.9.21/32"}


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("web1.example.pryv.test", "web1"),
        ("WEB1.example.pryv.test.", "web1"),
        ("sw.example.pryv.test", "web1"),
        ("co2.example.pryv.test", "co2"),
        ("dns2.example.pryv.test", "reg2"),
        ("reg.example.pryv.test", "reg1"),
        ("co2.example.com", None),
        ("example.pryv.test", None),
    ],
)
@pytest.mark.parametrize("arguments", ["-J ops@{}", '-o ProxyCommand="ssh -W %h:%p ops@{}"'])
def test_a_jump_host_is_known_by_its_names_in_dns(arguments: str, name: str, owner: str | None) -> None:
    groups, variables = inventory()
    variables["co1"]["ansible_ssh_common_args"] = arguments.format(name)
    found = derivation.derive(groups, variables)
    leading = {host: entry["leads_to"] for host, entry in found["hosts"].items() if entry["leads_to"]}
    assert leading == ({owner: ["10.9.9.11:22"]} if owner else {})
    warned = jumps.jump_problems({"co1": {"ansible_ssh_common_args": arguments.format(name)}}, found)
    assert bool(warned) == (owner is None)


def test_a_name_that_several_hosts_have_is_no_jump_host_of_ours() -> None:
    groups, variables = inventory()
    groups["web"].append("web2")
    groups["all"].append("web2")
    variables["web2"] = COMMON | {"ansible_host": "198.51.100.32"}
    variables["co1"]["ansible_ssh_common_args"] = "-J sw.example.pryv.test"
    assert not any(entry["leads_to"] for entry in derivation.derive(groups, variables)["hosts"].values())


@pytest.mark.parametrize(
    ("arguments", "unknown"),
    [
        ("-o ControlMaster=auto -o ControlPersist=60s -q -4 -p 2222 -i /home/ops/.ssh/key -F /etc/ssh/ours", []),
        ("-o StrictHostKeyChecking=accept-new -o ProxyJump=none -o ProxyCommand=none", []),
        ("-J reg1,web1.example.pryv.test", []),
        ("-J ops@Bastion.example.com:2222,reg1,192.0.2.7", ["bastion.example.com", "192.0.2.7"]),
        ("-o 'ProxyJump bastion.example.com'", ["bastion.example.com"]),
        ('-o ProxyCommand="/usr/bin/ssh -qW %h:%p -i key -p 2222 ops@bastion.example.com"', ["bastion.example.com"]),
        ('-o ProxyCommand="ssh -q bastion.example.com -W [%h]:%p"', ["bastion.example.com"]),
        (
            '-o ProxyCommand="ssh -J first.example.com bastion.example.com nc %h 22"',
            ["first.example.com", "bastion.example.com"],
        ),
        ('-o ProxyCommand="ssh -l ops -W %h:%p reg1"', []),
        ('-o ProxyCommand="nc -X 5 -x proxy.example.com:1080 %h %p"', []),
        ('-o ProxyCommand="ssh -~ bastion.example.com"', []),
        ("", []),
        (None, []),
    ],
)
def test_jump_hosts_that_may_be_ours_under_another_name_are_told_once(
    arguments: str | None, unknown: list[str]
) -> None:
    values = {host: {"ansible_ssh_common_args": arguments} for host in ("co1", "co2")}
    found = jumps.jump_problems(values, derive())
    assert [problem["problem"].split(",")[0] for problem in found] == [f"leads through {name}" for name in unknown]
    for problem in found:
        assert (problem["severity"], problem["where"]) == ("warning", "co1: ansible_ssh_common_args")
        assert "set hardening_ssh_tcp_forwarding: true for it" in problem["remedy"]


def test_a_way_through_several_hosts_is_open_from_each_to_the_next() -> None:
    groups, variables = inventory()
    variables["co1"]["ansible_ssh_extra_args"] = "-J bastion.example.com,reg1,co2"
    hosts = derivation.derive(groups, variables)["hosts"]
    assert (hosts["reg1"]["leads_to"], hosts["co2"]["leads_to"]) == (["198.51.100.12:22"], ["10.9.9.11:22"])


def test_other_arguments_and_other_jump_hosts_lead_nowhere() -> None:
    groups, variables = inventory()
    for arguments in ("-o ControlPath=reg1 -o StrictHostKeyChecking=yes", "-J bastion.example.com", None):
        variables["co1"]["ansible_ssh_common_args"] = arguments
        found = derivation.derive(groups, variables)
        assert not any(entry["leads_to"] for entry in found["hosts"].values()), arguments


def test_where_a_jump_host_of_ours_leads_is_an_address() -> None:
    groups, variables = inventory()
    variables["co1"].update(
        ansible_ssh_common_args="-J reg1", ansible_host="co1.example.com", public_address="198.51.100.11"
    )
    assert problems(groups, variables) == [
        "co1: ansible_host is 'co1.example.com': an IPv4 address, since reg1, which leads there, opens nothing else"
    ]
    variables["co1"]["ansible_ssh_common_args"] = "-o ProxyCommand='"
    assert problems(groups, variables) == [
        'co1: ansible_ssh_common_args is "-o ProxyCommand=\'": arguments as a shell reads them: No closing quotation'
    ]


def test_all_problems_at_once_and_placeholders_once_each() -> None:
    groups, variables = inventory()
    everywhere("pryv_domain", "CHANGE_ME")(groups, variables)
    on("co1", "public_address", "CHANGE_ME")(groups, variables)
    on("co2", "privacy_zone", "CHANGE_ME")(groups, variables)
    on("reg1", "registry_role", "CHANGE_ME")(groups, variables)
    on("co3", "accepts_users", "maybe")(groups, variables)
    assert sorted(problem.split(":")[0] + ":" + problem.split(":")[1] for problem in problems(groups, variables)) == [
        "co1: public_address is 'CHANGE_ME'",
        "co2: privacy_zone is 'CHANGE_ME'",
        "co3: accepts_users is 'maybe'",
        "pryv_domain is 'CHANGE_ME': replace CHANGE_ME",
        "reg1: registry_role is 'CHANGE_ME'",
    ]


def test_an_empty_inventory_is_refused_not_a_crash() -> None:
    assert any(problem.startswith("group core") for problem in problems({"all": []}, {}))


def test_placeholders_are_found_wherever_they_are() -> None:
    variables: dict[str, dict[str, Any]] = {
        "co1": {"a": "x", "list": ["ok", {"key": "CHANGE_ME: your key"}], "groups": {"all": ["CHANGE_ME"]}},
        "co2": {"a": "x", "list": ["ok", {"key": "CHANGE_ME: your key"}], "own": "https://CHANGE_ME/"},
    }
    assert placeholders.find_placeholders(variables) == ["list[1].key", "co2: own"]


class Host(dict[str, Any]):
    """A host's variables of which one is a template that fails."""

    def __getitem__(self, name: str) -> Any:
        if name == "privacy_zone":
            raise AnsibleFilterError("'zone' is undefined")
        return super().__getitem__(name)


def test_a_template_that_fails_is_a_problem_of_its_variable() -> None:
    groups, variables = inventory()
    with pytest.raises(AnsibleFilterError, match=r"co1: privacy_zone .*'zone' is undefined"):
        filters["platform_topology"](groups, variables | {"co1": Host(variables["co1"])})


def test_thousand_hosts_are_quick() -> None:
    groups, variables = inventory()
    for number in range(1000):
        name = f"{number:04d}"
        groups["core"].append(name)
        variables[name] = {
            **COMMON,
            "ansible_host": f"10.{number // 250}.1.{number % 250 + 1}",
            "privacy_zone": f"z{number % 9}",
        }
    # What it costs, and not how long a busy machine takes.
    started = time.process_time()
    found = derivation.derive(groups, variables)
    assert time.process_time() - started < 0.5
    assert sum(map(len, found["zones"].values())) == 1003


words = st.text(alphabet="aZ0-_. é", max_size=6)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), words, st.lists(st.integers(), max_size=2))


@given(values=st.dictionaries(st.sampled_from(reader.PLATFORM_VARIABLES + reader.HOST_VARIABLES), scalars))
def test_whatever_is_written_gives_a_result_or_its_problems(values: dict[str, Any]) -> None:
    groups, variables = inventory()
    variables["co1"].update(values)
    refused: list[Any] | None = None
    try:
        derivation.derive(groups, variables)
    except obstacles.TopologyError as error:
        refused = error.problems
    assert refused != []
