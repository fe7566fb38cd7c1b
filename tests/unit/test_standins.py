"""The logic of the registry's stand-ins: answers of the name server, and the core for a new user."""

from __future__ import annotations

import copy
from typing import Any

import dns.flags
import dns.message
import pytest

from tests.standins.standin import config, registry
from tests.standins.standin.dns import Zone, respond

DOMAIN = "poc.pryv.test"
CONFIG: dict[str, Any] = {
    "domain": DOMAIN,
    "service": {
        "serial": "1",
        "name": "Test",
        "support": "https://support.example",
        "terms": "https://terms.example",
        "register": f"https://reg.{DOMAIN}",
        "access": f"https://access.{DOMAIN}/access",
        "api": f"https://{{username}}.{DOMAIN}",
        "home": f"https://sw.{DOMAIN}",
        "eventTypes": "https://types.example/flat.json",
    },
    "server": {"port": 9000},
    "auth": {"coreSystemKey": "core-system-key", "authorizedKeys": {"system-key": {"roles": ["system"]}}},
    "dns": {
        "port": 5353,
        "ip": "192.0.2.2",
        "name": f"reg.{DOMAIN}",
        "domain": DOMAIN,
        "domains": [DOMAIN],
        "certificateAuthorityAuthorization": {"issuer": "letsencrypt.org"},
        "staticDataInDomain": {"sw": {"ip": "192.0.2.1"}, "access": {"alias": {"name": f"reg.{DOMAIN}"}}},
        "customEntries": {"_acme-challenge": {"description": ["one", "two"]}},
        "mail": [{"name": f"mail.{DOMAIN}", "ip": "192.0.2.2", "priority": 10}],
        "domain_A": "192.0.2.1",
        "nameserver": [{"name": f"dns1.{DOMAIN}", "ip": "192.0.2.2"}, {"name": f"dns2.{DOMAIN}", "ip": "192.0.2.3"}],
        "rootTXT": {"description": ["v=spf1 -all"]},
    },
    "net": {"hostings": {"ch": {"co1": {"ip": "192.0.2.11"}, "co2": {"ip": "192.0.2.12"}}}},
    "redis": {"host": "redis", "port": 6379},
    "reporting": {"templateVersion": "1.9.2"},
}


@pytest.fixture
def prepared() -> dict[str, Any]:
    content = copy.deepcopy(CONFIG)
    registry.prepare(content)
    return content


def nobody(_name: str) -> None:
    """Knows no user."""


def ask(zone: Zone, name: str, kind: str) -> dns.message.Message:
    """Asks as a client does and reads the response with a DNS library."""
    query = dns.message.make_query(name, kind)
    response = respond(query.to_wire(), zone)
    assert response is not None
    message = dns.message.from_wire(response[0])
    assert query.is_response(message)
    assert message.flags & dns.flags.AA
    assert not message.flags & dns.flags.RA
    return message


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        (f"sw.{DOMAIN}", "A", ["sw.poc.pryv.test. 3600 IN A 192.0.2.1"]),
        (f"access.{DOMAIN}", "A", ["access.poc.pryv.test. 3600 IN CNAME reg.poc.pryv.test."]),
        (f"co2.{DOMAIN}", "A", ["co2.poc.pryv.test. 3600 IN A 192.0.2.12"]),
        (f"alice.{DOMAIN}", "A", ["alice.poc.pryv.test. 3600 IN CNAME co2.poc.pryv.test."]),
        (f"bob.{DOMAIN}", "A", []),
        (f"nobody.{DOMAIN}", "A", []),
        ("example.org", "A", []),
        (
            f"_acme-challenge.{DOMAIN}",
            "TXT",
            [f'_acme-challenge.{DOMAIN}. 3600 IN TXT "{text}"' for text in ("one", "two")],
        ),
        (DOMAIN, "CAA", ['poc.pryv.test. 3600 IN CAA 0 issue "letsencrypt.org"']),
        (DOMAIN, "MX", ["poc.pryv.test. 3600 IN MX 10 mail.poc.pryv.test."]),
        (DOMAIN, "TXT", ['poc.pryv.test. 3600 IN TXT "v=spf1 -all"']),
        (DOMAIN, "SOA", ["poc.pryv.test. 3600 IN SOA reg.poc.pryv.test. admin.poc.pryv.test. 0 1800 900 604800 86400"]),
    ],
)
def test_name_server_answers(prepared: dict[str, Any], name: str, kind: str, expected: list[str]) -> None:
    zone = Zone(prepared, {"alice": f"co2.{DOMAIN}", "bob": f"co1.{DOMAIN}"}.get)
    assert [line for rrset in ask(zone, name, kind).answer for line in rrset.to_text().splitlines()] == expected


def test_name_servers_come_with_their_addresses(prepared: dict[str, Any]) -> None:
    message = ask(Zone(prepared, nobody), DOMAIN, "NS")
    assert {item.to_text() for rrset in message.answer for item in rrset} == {f"dns1.{DOMAIN}.", f"dns2.{DOMAIN}."}
    assert {item.to_text() for rrset in message.additional for item in rrset} == {"192.0.2.2", "192.0.2.3"}


def test_responses_are_not_answered(prepared: dict[str, Any]) -> None:
    query = dns.message.make_query(DOMAIN, "A")
    query.flags |= dns.flags.QR
    assert respond(query.to_wire(), Zone(prepared, nobody)) is None


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        ({}, "co1"),
        ({f"co1.{DOMAIN}": 1}, "co2"),
        ({f"co1.{DOMAIN}": 3, f"co2.{DOMAIN}": 3}, "co1"),
        ({f"co1.{DOMAIN}": 3, f"co2.{DOMAIN}": 2, "gone.example": 1}, "co2"),
    ],
)
def test_new_user_goes_to_the_least_populated_core(
    prepared: dict[str, Any], users: dict[str, int], expected: str
) -> None:
    core = registry.least_populated(prepared["net"]["aaservers"]["ch"], users)
    assert core is not None
    assert registry.host_name(core) == f"{expected}.{DOMAIN}"


@pytest.mark.parametrize("key", [{}, {"authorization": "key of co1"}])
def test_a_name_server_needs_no_key_to_cores(key: dict[str, str]) -> None:
    content = copy.deepcopy(CONFIG)
    registry.prepare(content)
    content["net"] = {
        "aahostings": content["net"]["aahostings"],
        "aaservers": {"ch": [{"base_url": "https://co1.poc.pryv.test/", **key}]},
    }
    registry.prepare(content)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("net.aaservers", {"ch": [{"base_url": "https://co1", "authorization": "short"}]}, "net.aaservers must be"),
        ("net.aaservers", {"ch": {"co1": {}}}, "net.aaservers must be"),
        ("dns.domain_A", "none", "dns.domain_A must be an IPv4 address"),
        ("redis", {}, "redis.host is missing"),
        ("auth.coreSystemKey", None, "auth.coreSystemKey is missing"),
        ("dns.mail", [{"name": "mail", "priority": "10"}], "dns.mail: 'priority' must be a number"),
        ("net.providers", {"ch": {"url": "https://p.example/path"}}, "net.providers.ch.url"),
        ("net.hostings", {}, "at least one hosting"),
        ("net.hostings", {"ch": {}}, "net.hostings.ch has no core"),
        ("invitationTokens", ["1234"], "5 to 99 characters"),
    ],
)
def test_unusable_configuration_is_refused(path: str, value: Any, named: str) -> None:
    content = copy.deepcopy(CONFIG)
    *parents, last = path.split(".")
    place = content
    for part in parents:
        place = place[part]
    place[last] = value
    with pytest.raises(config.ConfigError, match=named):
        registry.prepare(content)
