"""What preflight finds wrong, and what it lets pass."""

import base64
import dataclasses
import os
import re
import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleUndefinedVariable
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret

from filter_plugins import pryv as filter_plugin
from plugins.vars import unlocked_group_vars
from pryv_platform import preflight
from pryv_platform.checks import bounds, core, dns, files, machines, mail, production
from pryv_platform.checks import variables as variables_check
from pryv_platform.checks.secrets import secret_problems
from pryv_platform.ports import PORTS
from pryv_platform.problems import Problem, Severity
from pryv_platform.topology import reader
from tests.unit.inventories import fresh

ROOT = Path(__file__).parents[2]
inventory_values = filter_plugin.FilterModule().filters()["inventory_values"]
WANTED = {"pryv_secrets": ["mail_key", "redis_password"]}
STRONG = {"mail_key": "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7", "redis_password": "zY9xW8vU7tS6rQ5pO4nM3lK2jI1"}


def lines(problems: list[Problem]) -> list[str]:
    return [f"{problem['severity']} {problem['where']}: {problem['problem']}" for problem in problems]


# -- secrets ---------------------------------------------------------------------------------------------------


def test_strong_secrets_pass() -> None:
    gone = {"co9": "kL3mN5oP7qR9sT1uV3wX5yZ7"}  # a core that was removed
    given = {"pryv_secrets": STRONG, "pryv_core_admin_keys": gone}
    assert secret_problems(given, WANTED | {"pryv_core_admin_keys": []}) == []


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("core_system_key", "run playbooks/secrets.yml, which retires it"),
        ("register_system_key", "run playbooks/secrets.yml, which retires it"),
        ("one_more", "take it out, or give it a variable of its own"),
    ],
)
def test_a_secret_that_no_role_has(name: str, remedy: str) -> None:
    (found,) = secret_problems({"pryv_secrets": STRONG | {name: "hush"}}, WANTED, (), ["pryv_secrets"])
    assert lines([found]) == [f"error pryv_secrets.{name}: is no secret of this toolkit"]
    assert found["remedy"].startswith(remedy)
    assert "hush" not in str(found)
    few = {"pryv_secrets": ["mail_key"]}
    assert secret_problems({"pryv_secrets": STRONG}, few) == [], "verify asks for those that it needs"


@pytest.mark.parametrize(
    ("secrets", "expected"),
    [
        (None, ["pryv_secrets.mail_key: is missing", "pryv_secrets.redis_password: is missing"]),
        ("text", ["pryv_secrets: is not a mapping"]),
        ({**STRONG, "redis_password": ""}, ["pryv_secrets.redis_password: is missing"]),
        ({**STRONG, "redis_password": "Short"}, ["pryv_secrets.redis_password: has 5 characters, not 20 to 50"]),
        (
            {**STRONG, "redis_password": "aB3dE6gH9jK2" * 5},
            ["pryv_secrets.redis_password: has 60 characters, not 20 to 50"],
        ),
        ({**STRONG, "redis_password": "ab" * 15}, ["pryv_secrets.redis_password: repeats few characters"]),
        (
            {**STRONG, "redis_password": STRONG["redis_password"] + ' "'},
            ["pryv_secrets.redis_password: has other characters than letters and digits"],
        ),
        (
            {**STRONG, "redis_password": STRONG["mail_key"]},
            ["pryv_secrets.redis_password: is the same as pryv_secrets.mail_key"],
        ),
    ],
)
def test_secrets_that_are_missing_or_weak(secrets: Any, expected: list[str]) -> None:
    found = secret_problems({"pryv_secrets": secrets}, WANTED)
    assert lines(found) == [f"error {line}" for line in expected]
    for value in (secrets or {}).values() if isinstance(secrets, dict) else ():
        assert not value or value not in str(found)


def test_no_core_has_the_key_of_another() -> None:
    keys = {"co1": STRONG["mail_key"], "co2": "kL3mN5oP7qR9sT1uV3wX5yZ7", "co3": "kL3mN5oP7qR9sT1uV3wX5yZ7"}
    found = secret_problems(
        {"pryv_secrets": STRONG, "pryv_core_admin_keys": keys}, WANTED | {"pryv_core_admin_keys": [*keys, "co4"]}
    )
    assert lines(found) == [
        "error pryv_core_admin_keys.co1: is the same as pryv_secrets.mail_key",
        "error pryv_core_admin_keys.co3: is the same as pryv_core_admin_keys.co2",
        "error pryv_core_admin_keys.co4: is missing",
    ]


def test_locked_vault_is_reported_instead_of_what_is_in_it() -> None:
    (found,) = secret_problems({"pryv_secrets": None}, WANTED, ["group_vars/all/vault.yml"])
    assert (found["where"], found["problem"]) == ("group_vars/all/vault.yml", "is locked")
    assert "--ask-vault-pass or ANSIBLE_VAULT_PASSWORD_FILE" in found["remedy"]


def test_locked_vault_is_named_in_a_variable(tmp_path: Path) -> None:
    vault, plain = tmp_path / "vault.yml", tmp_path / "plain.yml"
    vault.write_bytes(VaultLib().encrypt("pryv_secrets: {}\n", secret=VaultSecret(b"open sesame")))
    plain.write_text("pryv_name: Clinic\n")
    loader = DataLoader()
    read = unlocked_group_vars.VarsModule().load_found_files
    assert read(loader, {}, [str(vault), str(plain)]) == {"pryv_name": "Clinic", "pryv_locked_vaults": [str(vault)]}
    assert read(loader, {}, [str(plain)]) == {"pryv_name": "Clinic"}
    loader.set_vault_secrets([("default", VaultSecret(b"open sesame"))])
    assert read(loader, {}, [str(vault)]) == {"pryv_secrets": {}}


# -- variables -------------------------------------------------------------------------------------------------


class HostVars(dict[str, dict[str, Any]]):
    """Stands in for Ansible's."""

    def raw_get(self, host: str) -> dict[str, Any]:
        return self[host]


def variable_problems(
    hostvars: Any, hosts: list[str], specifications: list[dict[str, Any]], others: list[str]
) -> list[Problem]:
    """What is wrong with the hosts' variables, beside what roles with these specifications document."""
    options: dict[str, Any] = {}
    for specification in specifications:
        options |= specification["argument_specs"]["main"]["options"]
    inventory = dataclasses.replace(filter_plugin.inventory(hostvars), options=options)
    return variables_check.variable_problems(inventory, hosts, others)


SPECIFICATIONS = [
    {
        "argument_specs": {
            "main": {
                "options": {
                    "nginx_log_days": {"type": "int", "description": ["How many days."]},
                    "disk_unlock": {
                        "type": "str",
                        "choices": ["tpm2", "tang"],
                        "description": "What unlocks it, C(tpm2) or I(tang).",
                    },
                    "pryv_secrets": {"type": "dict", "options": {"key": {"type": "int", "no_log": True}}},
                }
            }
        }
    }
]


def variables(**given: Any) -> list[str]:
    hostvars = HostVars(co1=dict(given), co2=dict(given))
    found = variable_problems(hostvars, ["co1", "co2"], SPECIFICATIONS, ["registry_role", "privacy_zones"])
    return [f"{line} -> {problem['remedy']}" for line, problem in zip(lines(found), found, strict=True)]


def test_documented_and_foreign_variables_pass() -> None:
    assert variables(nginx_log_days=30, disk_unlock="tang", own_thing=1, ansible_user="x", privacy_zones={}) == []


def test_a_value_that_its_role_would_refuse() -> None:
    (found,) = variables(disk_unlock="magic")
    assert found == (
        "error co1: disk_unlock: value of disk_unlock must be one of: tpm2, tang, got: magic -> "
        "What unlocks it, tpm2 or tang."
    )
    (found,) = variables(nginx_log_days="many")
    assert "'many'" in found or "<class 'str'>" in found
    assert found.endswith("-> How many days.")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"nginx_log_days": "30"}, "nginx_log_days: '30' is a text; right is a number"),
        ({"mail_share": "0.5"}, "mail_share: '0.5' is a text; right is a number"),
        ({"mail_open": "false"}, "mail_open: 'false' is a text; right is true or false"),
        ({"mail_ports": [25, "465"]}, "mail_ports: '465' is a text; right is a number"),
        ({"mail_relay": {"tls": "no"}}, "mail_relay: 'no' is a text; right is true or false"),
        ({"mail_relays": [{"tls": True}, {"tls": "yes"}]}, "mail_relays: 'yes' is a text; right is true or false"),
    ],
)
def test_a_text_for_a_number_or_a_boolean_is_refused(given: dict[str, Any], problem: str) -> None:
    """An INI inventory's `false` is a text, which templates find true."""
    relay = {"tls": {"type": "bool"}}
    options = {
        "nginx_log_days": {"type": "int"},
        "mail_share": {"type": "float"},
        "mail_open": {"type": "bool"},
        "mail_ports": {"type": "list", "elements": "int"},
        "mail_relay": {"type": "dict", "options": relay},
        "mail_relays": {"type": "list", "elements": "dict", "options": relay},
    }
    specifications = [{"argument_specs": {"main": {"options": options}}}]
    (found,) = variable_problems(HostVars(co1=given), ["co1"], specifications, [])
    assert f"{found['where']}: {found['problem']}".startswith(f"co1: {problem}")
    assert "in quotes" not in found["problem"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"core_audit_methods": "all"}, "core_audit_methods: is the text 'all', and has to be a list: [all]"),
        ({"core_trusted_apps": "*@https://x.example"}, "core_trusted_apps: is a text, and has to be a list:"),
        ({"registry_invitation_tokens": "*@https://x.example"}, "registry_invitation_tokens: is a text, and has to be"),
        ({"registry_invitation_tokens": 12345}, "registry_invitation_tokens: is a number, and has to be a list:"),
        ({"registry_dns_mx": [5]}, "registry_dns_mx[0]: is a number, and has to be a mapping:"),
        ({"nginx_limits": 7}, "nginx_limits: is a number, and has to be a mapping:"),
        ({"nginx_limits": {"login": 0}}, "nginx_limits.login: is a number, and has to be a mapping:"),
        ({"core_mfa_endpoints": [5]}, "core_mfa_endpoints: is a list, and has to be a mapping:"),
        ({"core_mfa_endpoints": {"single": 5}}, "core_mfa_endpoints.single: is a number, and has to be a mapping:"),
        ({"core_mfa_endpoints": {"single": True}}, "core_mfa_endpoints.single: is true or false, and has to be a"),
        ({"registry_invitation_tokens": None}, None),
        ({"core_trusted_apps": []}, None),
        ({"pryv_image_archive": "/srv/images.tar"}, None),
        ({"pryv_image_archive": ["/srv/images.tar"]}, None),
    ],
)
def test_one_value_for_a_list_or_a_mapping_is_refused(given: dict[str, Any], problem: str | None) -> None:
    """Ansible's check takes a text for a list of one, and templates go through its letters."""
    roles = ("core", "nginx", "pryv", "registry")
    specifications = [yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text()) for role in roles]
    found = lines(variable_problems(HostVars(co1=given), ["co1"], specifications, []))
    assert [line[: len(f"error co1: {problem}")] for line in found] == ([f"error co1: {problem}"] if problem else [])
    assert "x.example" not in str(found)


def test_a_name_that_is_nearly_right() -> None:
    (found,) = variables(registry_rol="leader")
    assert found == "error co1: registry_rol: is no variable of this toolkit -> did you mean registry_role?"


def test_secrets_are_not_repeated_in_messages() -> None:
    assert variables(pryv_secrets={"key": "hush"}) == []
    of_mail = yaml.safe_load((ROOT / "roles/mail/meta/argument_specs.yml").read_text())
    found = lines(variable_problems(HostVars(co1={"mail_smtp": {"port": "hush"}}), ["co1"], [of_mail], []))
    assert [line.partition(" -> ")[0] for line in found] == [
        "error co1: mail_smtp: does not fit what is documented of it"
    ]


def test_a_template_that_only_a_run_can_resolve_passes() -> None:
    class Templated(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            raise AnsibleUndefinedVariable("ansible_facts is undefined")

    hostvars = HostVars(co1=Templated(nginx_log_days="{{ ansible_facts.x }}"))
    assert variable_problems(hostvars, ["co1"], SPECIFICATIONS, []) == []


def test_a_list_of_something_that_is_not_defined_is_told() -> None:
    class Templated(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            raise AnsibleUndefinedVariable("'providers' is undefined")

    hostvars = HostVars(reg1=Templated(registry_providers="{{ providers }}"))
    options = {"registry_providers": {"type": "list", "elements": "dict"}}
    specification = {"argument_specs": {"main": {"options": options}}}
    (found,) = lines(variable_problems(hostvars, ["reg1"], [specification], []))
    assert "reg1: registry_providers: cannot be read: 'providers' is undefined" in found


def test_what_the_topology_reads_is_known_without_a_role() -> None:
    hostvars = HostVars(co1=dict.fromkeys(reader.PLATFORM_VARIABLES + reader.HOST_VARIABLES, "x"))
    inventory = filter_plugin.inventory(hostvars, {"all": ["co1"]})
    assert variables_check.problems(dataclasses.replace(inventory, options={"pryv_domains": {}})) == []


def test_an_inventory_has_one_report() -> None:
    """Each role's check among it, once it is known who is who; what stands in the way of that is told alone."""
    common = {"pryv_domain": "x.test", "pryv_environment": "development", "pryv_admin_networks": ["198.51.100.0/24"]}
    hostvars = HostVars(
        co1={**common, "ansible_host": "192.0.2.1", "privacy_zone": "ch", "core_log_days": 0},
        reg1={**common, "ansible_host": "192.0.2.2", "nginx_log_days": 0, "docker_address_pool": "192.0.2.0/24"},
        web1={**common, "ansible_host": "192.0.2.3", "firewall_egress": [], "hardening_journal_forward_to": "http://a"},
    )
    groups = {"all": ["co1", "reg1", "web1"], "core": ["co1"], "registry": ["reg1"], "web": ["web1"]}
    report = preflight.inventory_report(filter_plugin.inventory(hostvars, groups), [], [], {})
    wrong = {problem["where"] for problem in report["problems"]}
    assert {"co1: core_log_days", "reg1: nginx_log_days", "reg1: docker_address_pool"} <= wrong
    assert {"web1: hardening_journal_forward_to", "pryv_secrets.mail_key", "pryv_core_admin_keys.co1"} <= wrong
    assert (report["asks"], report["has_variables"], report["has_administrators"]) == (True, False, True)
    assert report["topology"]["leader"] == "reg1"
    hostvars["co1"]["privacy_zone"] = "CHANGE_ME"
    report = preflight.inventory_report(filter_plugin.inventory(hostvars, groups), [], [], {})
    assert (report["asks"], report["topology"]) == (False, {})
    wrong = {problem["where"] for problem in report["problems"]}
    assert "co1: privacy_zone" in wrong
    assert "co1: core_log_days" not in wrong


def test_files_on_the_controller() -> None:
    values = {"co1": {"archives": ["/a.tar", "/b.tar"], "key": ""}, "web1": {"archives": ["/a.tar"], "key": "/k.pem"}}
    found = files.controller_files(values | {"co2": {"archives": [], "key": None}})
    assert found == [
        {"where": "co1: archives", "path": "/a.tar"},
        {"where": "co1: archives", "path": "/b.tar"},
        {"where": "web1: key", "path": "/k.pem"},
    ]
    assert lines(files.missing_files(found[:1])) == ["error co1: archives: there is no /a.tar on this machine"]


def test_values_are_those_of_the_inventory_as_far_as_they_can_be_told() -> None:
    class Templated(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            if name == "later":
                raise AnsibleUndefinedVariable("ansible_facts is undefined")
            return super().__getitem__(name)

    hostvars = HostVars(co1=Templated(days=3, later="{{ x }}", server=Templated(host="a", later="{{ x }}")), co2={})
    assert inventory_values(hostvars, ["co1", "co2", "co1"], ["days", "later", "server"]) == {
        "co1": {"days": 3, "later": None, "server": {"host": "a", "later": None}},
        "co2": {},
    }


def test_images_of_an_archive_are_named_by_tag() -> None:
    pinned, tagged = {"image": "example.com/image@sha256:00"}, {"image": "example.com/image:1.9.2"}
    groups = {"core": ["co1", "co2", "co3"], "web": ["web1"]}
    archive = {"pryv_image_archive": ["/images.tar"], "core_images": pinned}
    values = {
        "co1": archive,
        "co2": archive | {"core_images": tagged},
        "co3": archive | {"pryv_image_archive": []},
        "web1": archive,
    }
    assert lines(files.archive_problems(values, groups)) == [
        "error co1: core_images.image: is pinned by digest, which an image from pryv_image_archive does not have"
    ]


BOUNDS = {"core_log_days": [1, 3650]}


@pytest.mark.parametrize(("value", "expected"), [(0, "is 0"), (3651, "is 3651"), ("30", "is the text '30'")])
def test_numbers_out_of_bounds(value: Any, expected: str) -> None:
    (found,) = bounds.bounds_problems({"co1": {"core_log_days": value}, "co2": {"core_log_days": 1}}, BOUNDS)
    assert lines([found]) == [f"error co1: core_log_days: {expected}"]
    assert found["remedy"] == "give a number from 1 to 3650"


@pytest.mark.parametrize("value", [None, "many"])
def test_what_is_no_number_is_left_to_the_check_of_types(value: Any) -> None:
    assert bounds.bounds_problems({"co1": {"core_log_days": value}}, BOUNDS) == []


def test_no_users_token_deletes_accounts() -> None:
    """By a batch of calls or a socket, it would delete anybody's."""
    specification = yaml.safe_load((ROOT / "roles/core/meta/argument_specs.yml").read_text())
    given = HostVars(co1={"core_account_deletion": ["adminToken", "personalToken"]})
    (found,) = variable_problems(given, ["co1"], [specification], [])
    assert (found["severity"], found["where"]) == ("error", "co1: core_account_deletion")
    assert "one or more of: adminToken. Got no match for: personalToken" in found["problem"]
    assert "Right is adminToken" in found["remedy"]
    assert "lets any user delete any account" in found["remedy"]
    right = HostVars(co1={"core_account_deletion": ["adminToken"]})
    assert variable_problems(right, ["co1"], [specification], []) == []


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        (None, False),
        ({"core": None}, False),
        ({"core": {"user-account": {"delete": ["adminToken"]}}}, False),
        ({"core": {"user-account": {"delete": ["personalToken"]}}}, True),
        ({"core": {"user-account": {"delete": "personalToken"}}}, True),
    ],
)
def test_no_users_token_deletes_accounts_by_other_settings(settings: Any, wrong: bool) -> None:
    found = core.deletion_problems({"co1": {"core_settings": settings}, "co2": {}})
    where = "error co1: core_settings.core.user-account.delete: is "
    assert [line[: len(where)] for line in lines(found)] == [where] * wrong
    assert all("adminToken" in problem["remedy"] for problem in found)


ENDPOINT = {"url": "https://sms.example.com/send?to={{ phone }}", "method": "POST", "headers": {}, "body": "{{ code }}"}
DISABLED = "is disabled, and core_mfa_endpoints has some: no user would be asked for a second factor"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, []),
        ({"core_mfa_mode": "disabled", "core_mfa_endpoints": {}}, []),
        ({"core_mfa_mode": "maybe"}, []),  # reported with all other values that are not among those allowed
        ({"core_mfa_mode": ["single"], "core_mfa_endpoints": {"single": ENDPOINT}}, []),  # as well
        ({"core_mfa_mode": "single", "core_mfa_endpoints": {"single": ENDPOINT}}, []),
        ({"core_mfa_mode": "single", "core_mfa_endpoints": {"single": ENDPOINT, "verify": {"url": ""}}}, []),
        ({"core_mfa_mode": "single", "pryv_locked_vaults": ["vault.yml"]}, []),
        ({"core_mfa_endpoints": {"single": ENDPOINT}}, [f"core_mfa_mode: {DISABLED}"]),
        ({"core_mfa_mode": "single"}, ["core_mfa_endpoints.single: is missing, and core_mfa_mode is single"]),
        (
            {"core_mfa_mode": "challenge-verify", "core_mfa_endpoints": {"challenge": ENDPOINT, "single": ENDPOINT}},
            ["core_mfa_endpoints.verify: is missing, and core_mfa_mode is challenge-verify"],
        ),
    ],
)
def test_the_second_factor_has_the_endpoints_of_its_mode(given: dict[str, Any], expected: list[str]) -> None:
    assert lines(core.mfa_problems({"co1": given})) == [f"error co1: {line}" for line in expected]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"url": "http://127.0.0.1:8000/"}, []),
        ({"url": ""}, ["url: is empty"]),
        ({"url": "sms.example.com/hush"}, ["url: has no scheme"]),
        ({"url": "ftp://sms.example.com/hush"}, ["url: has the scheme 'ftp'"]),
        ({"url": "https:///hush"}, ["url: names no host"]),
        ({"url": "https://[hush/"}, ["url: is no URL"]),
        ({"url": "https://a:hush/"}, ["url: is no URL"]),
        (
            {"url": "https://sms.example.com/{{code}}?hush"},
            ["url: has white space or braces that are no placeholder such as {{ code }}"],
        ),
        # What Ansible took for variables, and found none.
        ({"body": None}, ["body: is empty, or has something in {{ }} that is no variable"]),
        ({"headers": {"a": None}}, ["headers: is empty, or has something in {{ }} that is no variable"]),
    ],
)
def test_an_endpoint_of_the_second_factor(changed: dict[str, Any], expected: list[str]) -> None:
    given = {"core_mfa_mode": "single", "core_mfa_endpoints": {"single": ENDPOINT | changed}}
    found = core.mfa_problems({"co1": given})
    assert lines(found) == [f"error co1: core_mfa_endpoints.single.{line}" for line in expected]
    assert "hush" not in str(found)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (ENDPOINT, None),
        ({"url": "https://sms.example.com/", "method": "POST"}, "missing required arguments: body, headers"),
        (ENDPOINT | {"method": "PUT"}, "value of method must be one of: GET, POST, got: PUT"),
        (ENDPOINT | {"token": "hush"}, "core_mfa_endpoints.single.token. Supported parameters include: body, headers"),
    ],
)
def test_the_keys_of_an_endpoint(endpoint: dict[str, Any], expected: str | None) -> None:
    (found,) = [
        filter_plugin.validate(name, option, {"single": endpoint})
        for name, option in yaml.safe_load((ROOT / "roles/core/meta/argument_specs.yml").read_text())["argument_specs"][
            "main"
        ]["options"].items()
        if name == "core_mfa_endpoints"
    ]
    assert (found is None) if expected is None else (expected in str(found))
    assert "hush" not in str(found)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"pryv_mail_provider": "none"}, []),
        ({"pryv_mail_provider": "pryv"}, ["reg1: mail_smtp.host"]),
        ({"pryv_mail_provider": "pryv", "mail_smtp": {"host": "a"}}, []),
        ({"pryv_mail_provider": "pryv", "mail_smtp": {"host": "a", "user": "u"}}, ["reg1: mail_smtp.password"]),
        ({"pryv_mail_provider": "pryv", "mail_smtp": {"host": "a", "user": "u", "password": "hush"}}, []),
        ({"pryv_mail_provider": "pryv", "mail_smtp": {"password": "hush"}}, ["reg1: mail_smtp.host"]),
        ({"pryv_mail_provider": "pryv", "pryv_locked_vaults": ["vault.yml"]}, []),
        ({"pryv_mail_provider": "mandrill"}, ["co1: pryv_mail_mandrill_key"]),
        ({"pryv_mail_provider": "mandrill", "pryv_mail_mandrill_key": "hush"}, []),
    ],
)
def test_what_the_mail_provider_needs(given: dict[str, Any], expected: list[str]) -> None:
    found = mail.mail_problems({"reg1": given, "co1": given}, "reg1", ["co1"])
    provider = given["pryv_mail_provider"]
    assert lines(found) == [f"error {where}: is missing, and pryv_mail_provider is {provider}" for where in expected]
    assert "hush" not in str(found)


WRONG = {
    "pryv_secrets": dict.fromkeys(("mail_key",), "Password"),
    "ansible_ssh_common_args": "-J bastion.example.com",
    "core_account_deletion": ["personalToken"],
    "core_log_days": 0,
    "core_trusted_apps": "*@https://app.example.com",
    "core_mfa_mode": "maybe",
    "core_mfa_endpoints": {"single": {"url": "https://sms.example.com/"}},
    "core_images": {"core": "docker.io/pryvio/core@sha256:00"},
    "data_disk_device": "vdb",
    "data_disk_recovery_keys": {"co1": "Password"},
    "docker_address_pool": "10.77.0.0/16",
    "mail_smtp": {"user": "pryv", "password": ""},
    "nginx_limits": {"login": 5},
    "preflight_waivers": {"audit": 5},
    "mail_templates_directory": "/none/templates",
    "pryv_event_types_file": "/none/flat.json",
    "pryv_mail_provider": "pryv",
    "registry_invitation_tokens": ["hush"],
    "registry_providers": {"mars": {}},
}
#: What the report has to say of that.
REPORTED = (
    "pryv_secrets.mail_key: has 8 characters",
    "core_mfa_mode: value of core_mfa_mode must be one of",
    "core_mfa_endpoints: missing required arguments: body, headers, method found in core_mfa_endpoints -> single",
    "core_account_deletion: value of core_account_deletion must be one or more of: adminToken",
    "co1: core_log_days: is 0",
    "co1: core_images.core: is pinned by digest",
    "core_trusted_apps: is a text, and has to be a list",
    "nginx_limits.login: is a number, and has to be a mapping",
    "preflight_waivers.audit: is none of audit_trail, backup, journal_forwarding, audit_trail_forwarding, tpm2",
    "co1: data_disk_device",
    "data_disk_recovery_keys.co1: is no text of at least 22 characters",
    "is 10.77.0.0/16, which holds 10.77.20.11, the ansible_host of co1",
    "is 10.77.0.0/16, which overlaps 10.77.0.0/16 of pryv_admin_networks",
    "reg1: mail_smtp.host: is missing",
    "reg1: mail_smtp.password: is missing",
    "there is no /none/templates",
    "there is no /none/flat.json",
    "there is no /none/images.tar",
    "reg1: registry_invitation_tokens, number 1: has 4 characters",
    "reg1: registry_providers.mars: is no zone",
    "ansible_ssh_common_args: leads through bastion.example.com, which is no name or address of one host here",
)


def test_all_that_an_inventory_has_wrong_is_in_one_report(tmp_path: Path) -> None:
    """Of the whole inventory, also of hosts that the run is not limited to, and with no host that answers."""
    inventory, key = tmp_path / "inventory", tmp_path / "key"
    fresh("poc", inventory)
    key.with_suffix(".pub").write_text(
        "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes(32)).decode()
    )
    wrong = {**WRONG, "pryv_image_archive": ["/none/images.tar", str(tmp_path)]}
    (inventory / "group_vars/all/wrong.yml").write_text(yaml.safe_dump(wrong))
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("ansible-playbook"), "playbooks/preflight.yml", "--inventory", inventory),
            *("--check", "--limit", "web1", "--extra-vars", "ansible_ssh_executable=false"),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_PRIVATE_KEY_FILE": str(key)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    report = done.stdout.partition("must be put right (")[2].partition("\nTASK")[0]
    for expected in (*REPORTED, f"pryv_image_archive: {tmp_path}: cannot be read"):
        assert expected in report, report
    assert "is no variable of this toolkit" not in report, "the facts that preflight leaves are its own"
    assert not any(secret in done.stdout + done.stderr for secret in ("Password", "hush"))


# -- what production needs --------------------------------------------------------------------------------------


FORWARDED = {"hardening_journal_forward_to": "https://logs.example.com"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, []),
        ({"core_audit_methods": ["all"]}, []),
        ({"core_audit_methods": ["events.all", "accesses.all", "auth.login"]}, []),
        ({"core_audit_methods": list(production.AUDITED)}, []),
        (
            {"core_audit_methods": ["accesses.create"]},
            ["error co1: core_audit_methods: leaves out events.get, events.getOne, events.create, events.update"],
        ),
        (
            {"core_audit_methods": ["events.all", "accesses.all"]},
            ["error co1: core_audit_methods: leaves out auth.login:"],
        ),
        ({"core_settings": {"core": {"trustProxy": 1}, "hfs": None}}, []),
        (
            {"core_settings": {"core": {"audit": {"active": False}}}},
            ["error co1: core_settings.core.audit: replaces what core_audit_methods says"],
        ),
        ({"hardening_journal_forward_to": ""}, ["error co1: hardening_journal_forward_to: sends it nowhere"]),
        ({"data_disk_device": "/dev/vdb"}, ["warning co1: data_disk_unlock: is tpm2"]),
        ({"data_disk_device": "/dev/vdb", "data_disk_unlock": "tang"}, []),
    ],
)
def test_what_a_platform_for_peoples_data_needs(given: dict[str, Any], expected: list[str]) -> None:
    values = {"co1": FORWARDED | given}
    found = production.production_problems(values, "production", None, ["co1"])
    assert [line[: len(start)] for line, start in zip(lines(found), expected, strict=True)] == expected
    assert all("or say why not: `preflight_waivers: {" in problem["remedy"] for problem in found)
    assert production.production_problems(values, "integration", None, ["co1"]) == []
    less = {"error": "warning", "warning": "note"}
    reasons = dict.fromkeys(production.WAIVERS, "the contract ")
    waived = production.production_problems(values, "production", reasons, ["co1"])
    assert [problem["severity"] for problem in waived] == [less[problem["severity"]] for problem in found]
    assert all(problem["problem"].endswith("; waived: the contract") for problem in waived)
    others = lines(production.production_problems(values, "production", None, ["co2"]))
    assert others == [line for line in lines(found) if "core_" not in line], "the audit trail is the cores'"


@pytest.mark.parametrize(
    ("waivers", "expected"),
    [
        (None, []),
        ({}, []),
        ({"tpm2": "guarded room"}, []),
        ("audit_trail", ["preflight_waivers: is no mapping"]),
        ({"audit": "x"}, ["preflight_waivers.audit: is none of audit_trail, backup, journal_forwarding,"]),
        ({7: "x"}, ["preflight_waivers.7: is none of audit_trail, backup, journal_forwarding,"]),
        ({"audit_trail": " "}, ["preflight_waivers.audit_trail: gives no reason"]),
        ({"audit_trail": None}, ["preflight_waivers.audit_trail: gives no reason"]),
        (
            {"audit_trail": True, "tpm2": ["x"]},
            [f"preflight_waivers.{n}: gives no reason" for n in ("audit_trail", "tpm2")],
        ),
    ],
)
def test_what_waivers_have_to_be(waivers: object, expected: list[str]) -> None:
    for environment in ("production", "development"):
        found = lines(production.production_problems({"co1": FORWARDED}, environment, waivers, ["co1"]))
        assert [line[: len(f"error {start}")] for line, start in zip(found, expected, strict=True)] == [
            f"error {start}" for start in expected
        ]
    unaudited: dict[str, dict[str, Any]] = {"co1": FORWARDED | {"core_audit_methods": []}}
    last = production.production_problems(unaudited, "production", waivers, ["co1"])[-1]
    assert last["severity"] == "error", "what is wrong waives nothing"


@pytest.mark.parametrize(
    ("system", "environment", "receiver", "severity"),
    [
        (("debian", "12"), "production", "https://logs.example.com", "error"),
        (("ubuntu", "22.04"), "production", "https://logs.example.com", "error"),
        (("ubuntu", "22.04"), "integration", "https://logs.example.com", "warning"),
        (("debian", "12"), "production", "", None),
        (("debian", "13"), "production", "https://logs.example.com", None),
        (("ubuntu", "24.04"), "production", "https://logs.example.com", None),
    ],
)
def test_cores_that_cannot_send_the_audit_trail_on_are_told_of(
    system: tuple[str, str], environment: str, receiver: str, severity: Severity | None
) -> None:
    systems = yaml.safe_load((ROOT / "roles/hardening/vars/main.yml").read_text())
    answer = {"survey": {"system": dict(zip(("ID", "VERSION_ID"), system, strict=True))}}
    results: dict[str, dict[str, Any]] = {"co1": answer, "reg1": answer, "web1": {"unreachable": True}}
    values = {host: {"hardening_journal_forward_to": receiver} for host in results}

    def found(waivers: object) -> list[Problem]:
        known = systems["hardening_systems_that_upload_one_journal"]
        platform = PLATFORM | {"environment": environment}
        return production.audit_forwarding_problems(results, values, platform, known, waivers)

    told = found(None)
    assert [problem["severity"] for problem in told] == ([severity] if severity else []), "the core alone has one"
    for problem in told:
        assert problem["where"] == "co1: hardening_journal_forward_to"
        assert "-".join(system) in problem["problem"]
        assert "take Debian 13 or Ubuntu 24.04" in problem["remedy"]
        assert "`preflight_waivers: {audit_trail_forwarding: REASON}`" in problem["remedy"]
    less = found({"audit_trail_forwarding": "shipped by the backup"})
    assert [problem["severity"] for problem in less] == ([production.LESS[severity]] if severity else [])
    assert all(problem["problem"].endswith("waived: shipped by the backup") for problem in less)


def test_waivers_and_audited_methods_are_those_that_the_roles_document() -> None:
    def options(role: str) -> dict[str, Any]:
        content = yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())
        return dict(content["argument_specs"]["main"]["options"])

    documented = " ".join(options("preflight")["preflight_waivers"]["description"])
    assert re.findall(r"C\((\w+)\):", documented) == list(production.WAIVERS)
    assert set(production.AUDITED) < set(options("core")["core_audit_methods"]["choices"])
    specification = {"argument_specs": {"main": {"options": options("core")}}}
    (found,) = variable_problems(HostVars(co1={"core_audit_methods": ["event.get"]}), ["co1"], [specification], [])
    assert "got no match for: event.get" in found["problem"].lower()


# -- hosts -----------------------------------------------------------------------------------------------------

PLATFORM: dict[str, Any] = {
    "domain": "pryv.example.com",
    "environment": "production",
    "leader": "reg1",
    "hosts": {
        "web1": {"roles": ["web"], "ansible_host": "192.0.2.31"},
        "reg1": {"roles": ["registry"], "ansible_host": "192.0.2.21"},
        "reg2": {"roles": ["registry"], "ansible_host": "192.0.2.22"},
        "co1": {"roles": ["core"], "ansible_host": "192.0.2.11"},
        "mon1": {"roles": ["monitoring"], "ansible_host": "192.0.2.41"},
    },
    "monitoring": ["mon1"],
    "flows": [
        {"target": "web1", "protocol": "tcp", "port": 443},
        {"target": "web1", "protocol": "tcp", "port": 22},
        {"target": "reg1", "protocol": "udp", "port": 53},
    ],
    "names": {"reg.pryv.example.com": ["192.0.2.21"]},
    "service_names": {"register": "reg.pryv.example.com"},
    "name_servers": [{"name": "dns1", "host": "reg1", "address": "192.0.2.21"}],
}


ANY_ADDRESS = str(IPv4Address(0))


def listener(protocol: str, port: int, address: str = ANY_ADDRESS, process: str = "apache2") -> dict[str, Any]:
    return {"protocol": protocol, "port": port, "address": address, "process": process}


def survey(**changed: Any) -> dict[str, Any]:
    good = {
        "system": {"ID": "debian", "VERSION_ID": "13", "PRETTY_NAME": "Debian GNU/Linux 13 (trixie)"},
        "python": [3, 13],
        "os_free_gb": 12.0,
        "data_device_found": None,
        "clock_offset": 1.2,
        "asked_at": 0,
        "managed": False,
        "addresses": ["192.0.2.21"],
        "advertised": [],
        "listeners": [],
        "sudoers": [],
        "data_place": {
            "link": None,
            "leads_to": None,
            "is_file": False,
            "filesystem": "ext4",
            "options": ["rw", "nodev"],
        },
        "firewalls": [],
        "apt_lock": None,
    }
    return {"survey": good | changed}


def found(host: str, **changed: Any) -> list[str]:
    return lines(machines.survey_problems({host: survey(**changed)}, PLATFORM))


def test_a_fit_host_passes() -> None:
    assert found("reg1") == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"system": {"ID": "debian", "VERSION_ID": "11", "PRETTY_NAME": "Debian 11"}}, "runs Debian 11"),
        ({"system": {"ID": "", "VERSION_ID": "", "PRETTY_NAME": ""}}, "runs an unknown system"),
        ({"python": [3, 9]}, "Ansible uses Python 3.9 there"),
        ({"os_free_gb": 0.4}, "has 0.4 GB free on its OS disk"),
        ({"data_device_found": False}, "has no block device of the name that data_disk_device gives"),
        ({"clock_offset": 3600.4}, "its clock is 3600 s ahead of this machine's"),
        ({"clock_offset": -31}, "its clock is 31 s behind this machine's"),
    ],
)
def test_an_unfit_host(changed: dict[str, Any], expected: str) -> None:
    assert found("co1", **changed) == [f"error co1: {expected}"]


def test_a_route_that_hardening_takes_away_is_told_before() -> None:
    (line,) = found("co1", advertised=["eth0", "eth1"])
    assert line.startswith("warning co1: its kernel has the IPv6 route of eth0, eth1 from router advertisements")


def test_a_slow_answer_is_no_wrong_clock() -> None:
    results = {"co1": survey(clock_offset=50)}
    assert machines.survey_problems(results, PLATFORM, now=60) == []
    assert lines(machines.survey_problems(results, PLATFORM, now=10)) == [
        "error co1: its clock is 40 s ahead of this machine's"
    ]


@pytest.mark.parametrize(
    ("host", "listeners", "expected"),
    [
        ("web1", [listener("tcp", 443)], ["apache2 listens on tcp/443"]),
        ("co1", [listener("tcp", 80, "::")], ["apache2 listens on tcp/80"]),
        ("reg1", [listener("udp", 53, process="named")], ["named listens on udp/53"]),
        ("reg1", [listener("udp", 53, "192.0.2.21", "dnsmasq")], ["dnsmasq listens on udp/53"]),
        ("reg1", [listener("udp", 53, "172.17.0.1", "dnsmasq")], []),
        ("reg1", [listener("udp", 53, "127.0.0.53", "systemd-resolve"), listener("udp", 53, "::1", "unbound")], []),
        ("reg1", [listener("tcp", 6379, "127.0.0.1", "redis-server")], ["redis-server listens on tcp/6379"]),
        ("reg1", [listener("tcp", 6379, "::1", "redis-server")], []),
        ("reg1", [listener("udp", 5353, process="avahi-daemon")], ["avahi-daemon listens on udp/5353"]),
        ("reg1", [listener("tcp", 9080, "127.0.0.1")], ["apache2 listens on tcp/9080"]),
        ("reg2", [listener("tcp", 9080, "127.0.0.1")], []),
        ("co1", [listener("tcp", 443, "127.0.0.1")], ["apache2 listens on tcp/443"]),
        ("co1", [listener("tcp", 3000, "127.0.0.1", "grafana")], ["grafana listens on tcp/3000"]),
        ("co1", [listener("tcp", 9100, "::", "node_exporter")], ["node_exporter listens on tcp/9100"]),
        ("co1", [listener("tcp", 9100, "192.0.2.21", "node_exporter")], []),
        ("co1", [listener("tcp", 9000, "127.0.0.1", "php-fpm")], []),
        ("co1", [listener("udp", 53, process="named")], []),
        ("mon1", [listener("tcp", 443)], ["apache2 listens on tcp/443"]),
        ("mon1", [listener("tcp", 9090, "127.0.0.1", "cockpit")], ["cockpit listens on tcp/9090"]),
        ("web1", [listener("tcp", 9443, "192.0.2.21", "portainer")], ["portainer listens on tcp/9443"]),
        ("web1", [listener("tcp", 3903, process="mtail")], ["mtail listens on tcp/3903"]),
        ("web1", [listener("tcp", 9121, "127.0.0.1", "redis_exporter")], []),
        ("reg2", [listener("tcp", 9121, "127.0.0.1", "redis_exporter")], ["redis_exporter listens on tcp/9121"]),
        ("co1", [listener("tcp", 443), listener("tcp", 443, "::", "nginx")], ["apache2, nginx listens on tcp/443"]),
    ],
)
def test_ports_that_others_have_taken(host: str, listeners: list[dict[str, Any]], expected: list[str]) -> None:
    assert found(host, listeners=listeners) == [f"error {host}: {text}" for text in expected]


def test_ports_are_those_that_the_compose_files_publish() -> None:
    def published(role: str) -> set[tuple[str, int]]:
        text = (ROOT / f"roles/{role}/templates/root/etc/pryv/{role}/compose.yml.j2").read_text()
        found = re.findall(r"""127\.0\.0\.1:\{\{ (?:span\()?topology\.ports\.(\w+)[^\n"]*?(/udp)?["\n]""", text)
        return {("udp" if protocol else "tcp", PORTS[service]) for service, protocol in found}

    def inside(role: str) -> set[tuple[str, int]]:
        return {port for port, where in machines.TAKEN[role].items() if where == "inside"}

    assert published("web") == inside("web")
    assert published("core") == inside("core")
    assert published("registry") | published("mail") == inside("registry") | inside("leader")


def test_our_own_nginx_may_listen_where_we_have_been() -> None:
    ours = [listener("tcp", 443, process="nginx"), listener("udp", 53, process="nginx")]
    assert found("reg1", managed=True, listeners=ours) == []
    assert len(found("reg1", managed=False, listeners=ours)) == 2
    assert found("reg1", managed=True, listeners=[listener("tcp", 443)]) == ["error reg1: apache2 listens on tcp/443"]


def test_our_own_containers_may_publish_where_we_have_been() -> None:
    ours = [listener("tcp", 6379, "127.0.0.1", "dockerd"), listener("udp", 5353, "127.0.0.1", "docker-proxy")]
    assert found("reg1", managed=True, listeners=ours) == []
    assert len(found("reg1", managed=False, listeners=ours)) == 2
    assert len(found("reg1", managed=True, listeners=[listener("tcp", 443, process="docker-proxy")])) == 1


def test_hosts_that_do_not_answer_or_cannot_be_surveyed() -> None:
    results = {
        "co1": {"unreachable": True, "msg": "Failed to connect to the host via ssh: Connection timed out"},
        "reg1": {"failed": True, "msg": "MODULE FAILURE", "module_stderr": "sudo: a password is required\n"},
    }
    assert lines(machines.survey_problems(results, PLATFORM)) == [
        "error co1: does not answer on 192.0.2.11: Connection timed out",
        "error reg1: cannot be surveyed: sudo: a password is required",
    ]
    (dead, _) = machines.survey_problems(results, PLATFORM, unreachable="warning")
    assert dead["severity"] == "warning"
    assert "left out of this run" in dead["remedy"]


@pytest.mark.parametrize(
    ("changed", "where", "expected"),
    [
        (
            {"link": "/srv/pryv", "leads_to": "/big/pryv"},
            "leads through /srv/pryv, a symbolic link to /big/pryv",
            "itself",
        ),
        ({"is_file": True}, "is there, and no folder", "name a folder"),
        ({"filesystem": "nfs4"}, "lies on a file system of type nfs4", "local disk"),
        ({"filesystem": "fuse.sshfs"}, "lies on a file system of type fuse.sshfs", "local disk"),
        ({"filesystem": "tmpfs"}, "lies on a file system of type tmpfs", "local disk"),
        ({"options": ["ro", "relatime"]}, "lies on a file system that is mounted read-only", "read-write"),
    ],
)
def test_no_place_for_data(changed: dict[str, Any], where: str, expected: str) -> None:
    place = survey()["survey"]["data_place"] | changed
    (problem,) = machines.survey_problems({"co1": survey(data_place=place)}, PLATFORM)
    assert lines([problem])[0].startswith(f"error co1: pryv_data_directory: {where}")
    assert expected in problem["remedy"]


def test_mistakes_in_sudos_files_are_named() -> None:
    (line,) = found("co1", sudoers=["/etc/sudoers.d/ops: bad permissions, should be mode 0440"])
    assert line.startswith("warning co1: visudo --check finds a mistake: /etc/sudoers.d/ops: bad permissions")


@pytest.mark.parametrize(
    ("reason", "account", "problem", "remedy"),
    [
        (
            "Task failed: Missing sudo password",
            "uid=1000(ops) gid=1000(ops) groups=1000(ops)\r\n/usr/bin/sudo\r\n",
            "ops logs in there and cannot become root (Missing sudo password), and is in none of the groups",
            "if ops is no sudoer, as root there: usermod -aG sudo ops",
        ),
        (
            "Task failed: Incorrect sudo password",
            "uid=1000(ops) gid=1000(ops) groups=1000(ops),27(sudo)\r\n/usr/bin/sudo\r\n",
            "ops logs in there and cannot become root (Incorrect sudo password)",
            "give the password with which ops becomes root: --ask-become-pass",
        ),
        (
            "/bin/sh: 1: sudo: not found",
            "uid=1000(ops) gid=1000(ops) groups=1000(ops)\n",
            "ops logs in there and cannot become root (/bin/sh: 1: sudo: not found): there is no sudo",
            "as root there: apt-get install sudo; usermod -aG sudo ops",
        ),
        (
            "/bin/sh: 1: python3: not found",
            "uid=1000(ops) gid=1000(ops) groups=1000(ops)\n/usr/bin/sudo\n",
            "cannot be surveyed: /bin/sh: 1: python3: not found",
            "it needs python3",
        ),
    ],
)
def test_who_cannot_become_root_is_named(reason: str, account: str, problem: str, remedy: str) -> None:
    result = {"failed": True, "msg": reason, "account": account}
    (told,) = machines.survey_problems({"co1": result}, PLATFORM)
    assert told["problem"].startswith(problem)
    assert told["remedy"].startswith(remedy)


@pytest.mark.parametrize(
    ("firewall", "severity", "expected", "remedy"),
    [
        (("ufw", "input", ["tcp/22"]), "error", "(ufw), which drops tcp/443", "ufw disable"),
        (("firewalld", "input", []), "error", "(firewalld), which drops tcp/22, tcp/443", "disable --now firewalld"),
        (("table inet company", "input", []), "error", "which drops tcp/22, tcp/443", "nft delete table inet company"),
        (("table inet company", "forward", []), "error", "which drops from and to containers", "nft delete table"),
        (("table inet company", "forward", ["containers"]), "note", "seems to let", "see that it does so"),
        (("iptables", "input", ["tcp/23", "tcp/400-442"]), "error", "which drops tcp/22, tcp/443", "iptables -P INPUT"),
        (("iptables", "input", ["tcp/22", "tcp/400-443"]), "note", "seems to let", "see that it does so"),
    ],
)
def test_other_firewalls_are_named_with_what_to_do(
    firewall: tuple[str, str, list[str]], severity: str, expected: str, remedy: str
) -> None:
    told = dict(zip(("name", "hook", "open"), firewall, strict=True))
    (problem,) = machines.survey_problems({"web1": survey(firewalls=[told])}, PLATFORM)
    assert problem["severity"] == severity
    assert expected in problem["problem"]
    assert remedy in problem["remedy"]


def test_who_holds_the_lock_of_apt_is_named() -> None:
    assert found("co1", apt_lock="unattended-upgr") == [
        "note co1: unattended-upgr is installing packages; the run waits for it for some minutes"
    ]


def test_delegation() -> None:
    assert dns.delegation_problems(PLATFORM, ["192.0.2.21"]) == []
    (problem,) = dns.delegation_problems(PLATFORM, [])
    assert problem["severity"] == "warning"
    assert problem["problem"] == "is not found in DNS from here; the registry is 192.0.2.21"
    assert "dns1.pryv.example.com (192.0.2.21)" in problem["remedy"]
    (problem,) = dns.delegation_problems(PLATFORM, ["198.51.100.1"])
    assert problem["problem"].startswith("leads to 198.51.100.1 from here")


# -- the inventory to copy -------------------------------------------------------------------------------------

TO_FILL_IN = """
administrators[0].keys[0]
administrators[0].name
ansible_host
ansible_user
bk1, co1: data_disk_device
certificate_bundle_file
certificate_private_key_file
hardening_journal_forward_to
privacy_zones.ch.read.attachments_per_second
privacy_zones.ch.read.data_points_per_day
privacy_zones.ch.read.mb_per_day
privacy_zones.ch.read.points_per_request
privacy_zones.ch.read.previews_per_second
privacy_zones.ch.read.requests_per_second
privacy_zones.ch.users
privacy_zones.ch.write.attachments_mb_per_second
privacy_zones.ch.write.data_points_per_day
privacy_zones.ch.write.mb_per_day
privacy_zones.ch.write.requests_per_second
privacy_zones.ch.write.retention_years
pryv_admin_networks[0]
pryv_domain
pryv_name
pryv_support_url
pryv_terms_url
reg1, reg2, bk1, mon1: private_address
"""


def test_all_that_a_copied_inventory_leaves_to_fill_in_is_named_and_no_host_touched() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "playbooks/preflight.yml", "-i", "inventories/prod"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    _, _, after = done.stdout.partition("- is still CHANGE_ME:\n")
    named, _, _ = after.partition("->")
    assert sorted(line.strip() for line in named.strip().splitlines()) == TO_FILL_IN.strip().splitlines()
    assert "The hosts were not asked" in done.stdout
    assert "No host has been touched." in done.stdout


# -- the report ------------------------------------------------------------------------------------------------


def problem(severity: Severity, where: str) -> Problem:
    return {"severity": severity, "where": where, "problem": "is odd", "remedy": "make it even"}


def test_report_lists_all_worst_first() -> None:
    report = preflight.preflight_report([problem("note", "a"), problem("error", "b"), problem("warning", "c")], ["co1"])
    assert report == "\n".join(
        [
            "Preflight looked at the inventory and 1 host: 1 to put right.",
            "",
            "must be put right (1):",
            "- b: is odd",
            "  -> make it even",
            "",
            "should be looked at (1):",
            "- c: is odd",
            "  -> make it even",
            "",
            "for information (1):",
            "- a: is odd",
            "  -> make it even",
        ]
    )


def test_report_says_once_what_is_the_same_in_many_places() -> None:
    report = preflight.preflight_report([problem("error", "a"), problem("error", "b")], ["co1"])
    assert report.splitlines()[2:] == [
        "must be put right (2):",
        "- is odd:",
        "    a",
        "    b",
        "  -> make it even",
    ]


def test_report_says_when_nothing_is_wrong_and_when_hosts_were_not_asked() -> None:
    clean = preflight.preflight_report([], ["co1", "co2"])
    assert clean == "Preflight looked at the inventory and 2 hosts: nothing is in the way."
    report = preflight.preflight_report([problem("error", "b")], ["co1"], asked=False)
    assert "The hosts were not asked" in report


def test_only_errors_of_the_given_places_become_warnings() -> None:
    softened = preflight.as_warnings(
        [problem("error", "co1"), problem("error", "zone"), problem("note", "co1")], ["co1"]
    )
    assert [item["severity"] for item in softened] == ["warning", "error", "note"]
