"""The stand-ins take what the roles write, and refuse what the real programs could not use."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from pryv_platform.ports import PORTS
from tests.standins.standin import config, mongodb, schemas
from tests.templates import trusted
from tests.unit.test_core_settings import rendered

ROLES = Path(__file__).resolve().parents[2] / "roles"

SERVICES = {
    "core": schemas.CORE,
    "hfs": schemas.HFS,
    "metadata": schemas.METADATA,
    "preview": schemas.PREVIEW,
    "webhooks": schemas.WEBHOOKS,
    "mongodb": schemas.MONGODB,
}
ENDPOINT = {"url": "https://sms.example/send", "method": "POST", "body": "", "headers": {}}


def mail(**variables: Any) -> dict[str, Any]:
    """The configuration of mail as its role writes it."""
    values = {part: yaml.safe_load((ROLES / f"mail/{part}/main.yml").read_text()) for part in ("defaults", "vars")}
    shared: dict[str, Any] = {
        "pryv_domain": "poc.pryv.test",
        "pryv_mail_provider": "pryv",
        "pryv_secrets": {"mail_key": "mail's key"},
    }
    shared["topology"] = {"ports": PORTS}
    templar = Templar(DataLoader(), trusted(shared | values["defaults"] | values["vars"]) | variables)
    return dict(templar.template(trust_as_template("{{ mail_program }}")))


def with_value(content: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A configuration in which the value at a path is another one; None removes it."""
    changed = copy.deepcopy(content)
    *parents, last = path.split(".")
    place = changed
    for part in parents:
        place = place[part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return changed


@pytest.mark.parametrize("service", SERVICES)
def test_what_the_role_writes_is_taken(service: str) -> None:
    config.check(rendered(service), SERVICES[service])


@pytest.mark.parametrize("service", SERVICES)
def test_each_key_is_named_when_it_is_wrong(service: str) -> None:
    content = rendered(service)
    for path, kind in SERVICES[service].items():
        if config.lookup(content, path) is None:
            assert not kind.required, path
            continue
        found = config.problems(with_value(content, path, 1.5j), SERVICES[service])
        assert [problem for problem in found if problem.startswith(f"{path} must be")], path
        if kind.required:
            assert config.problems(with_value(content, path, None), SERVICES[service]) == [
                f"{path} is missing; it must be {kind.name}"
            ]


@pytest.mark.parametrize("user", [{}, {"user": "pryv", "password": "for tests"}])
def test_what_role_mail_writes_is_taken(user: dict[str, str]) -> None:
    content = mail(mail_smtp={"host": "smtp.example", **user}, mail_from={"name": "Pryv", "address": "no@example.org"})
    config.check(content, schemas.MAIL)
    found = config.problems(with_value(content, "smtp.host", None), schemas.MAIL)
    assert found == ["smtp.host is missing; it must be a text"]


def test_mongod_starts_with_no_section_that_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "mongodb.yml").write_text(yaml.safe_dump({"storage": {"dbPath": "data"}, "sharing": {}, "net": {}}))
    with pytest.raises(config.ConfigError) as caught:
        mongodb.run(tmp_path)
    assert {line.split()[0] for line in str(caught.value).splitlines()} == {
        *("net.bindIp", "storage.dbPath", "systemLog.destination", "systemLog.path", "sharing")
    }


def test_all_problems_are_named_at_once() -> None:
    content = with_value(with_value(rendered("core"), "domain", None), "auth.sessionMaxAge", "1 day")
    with pytest.raises(config.ConfigError) as caught:
        config.check(content, schemas.CORE)
    assert sorted(line.split()[0] for line in str(caught.value).splitlines()) == ["auth.sessionMaxAge", "domain"]


@pytest.mark.parametrize(
    ("mode", "endpoints", "missing"),
    [
        ("single", {"single": ENDPOINT}, []),
        ("challenge-verify", {"challenge": ENDPOINT, "verify": ENDPOINT}, []),
        ("single", {}, ["single.url", "single.method", "single.body", "single.headers"]),
        ("single", {"single": {**ENDPOINT, "method": "PUT"}}, ["single.method"]),
        ("challenge-verify", {"challenge": ENDPOINT, "verify": {**ENDPOINT, "headers": None}}, ["verify.headers"]),
        ("challenge-verify", {"challenge": ENDPOINT, "verify": {**ENDPOINT, "url": 1}}, ["verify.url"]),
    ],
)
def test_a_second_factor_has_the_endpoints_of_its_mode(
    mode: str, endpoints: dict[str, Any], missing: list[str]
) -> None:
    content = rendered("mfa", core_mfa_mode=mode, core_mfa_endpoints=endpoints)
    found = config.problems(content, schemas.mfa(content))
    assert [problem.split()[0] for problem in found] == [f"sms.endpoints.{key}" for key in missing]


def test_a_mode_that_is_none_is_refused() -> None:
    content = rendered("mfa", core_mfa_mode="disabled")
    assert [problem.split()[0] for problem in config.problems(content, schemas.mfa(content))] == ["sms.mode"]


STREAM = {"id": "insurance", "type": "number/text"}


@pytest.mark.parametrize(
    ("kind", "streams", "taken"),
    [
        ("account", [{**STREAM, "isUnique": True, "isIndexed": True}], True),
        ("account", [{**STREAM, "isUnique": True}], False),
        ("account", [{"id": "x", "type": "number/text"}], False),
        ("account", [{"id": "insurance", "type": "number"}], False),
        ("account", [{**STREAM, "children": [{"id": "below"}]}], False),
        ("account", [{**STREAM, "isShown": "yes"}], False),
        ("other", [STREAM], True),
        ("other", [{**STREAM, "isIndexed": True}], False),
        ("other", [{**STREAM, "isEditable": False}], False),
    ],
)
def test_custom_streams(kind: str, streams: list[Any], taken: bool) -> None:
    content = with_value(rendered("core"), f"custom.systemStreams.{kind}", streams)
    assert (config.problems(content, schemas.CORE) == []) == taken


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("audit.storage.filter", {"methods": {"include": ["all"]}}),
        ("audit.storage.filter", {"methods": {"include": ["all"], "exclude": []}, "more": 1}),
        ("user-account.delete", ["anybody"]),
        ("versioning.deletionMode", "keep-some"),
        ("logs.file.path", "core.log"),
        ("uploads.maxSizeMb", "20"),
        ("services.email.enabled", {"welcome": "yes"}),
        ("database.port", True),
        ("dnsLess.isActive", True),
        ("integrity.algorithm", "crc32"),
    ],
)
def test_wrong_values_are_refused(path: str, value: Any) -> None:
    found = config.problems(with_value(rendered("core"), path, value), schemas.CORE)
    assert [problem.split()[0] for problem in found] == [path]
