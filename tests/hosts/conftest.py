"""Tests that look into the hosts of a platform that stands: pytest tests/hosts --inventory inventories/poc.

Those in a folder are for the inventory of that name alone.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import secrets as random
import shlex
import socket
import ssl
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml

from pryv_platform.backup import SECRETS as BACKUP_SECRETS
from pryv_platform.topology import derivation
from tests.fleet import fleet
from tests.vm.vm import MACHINES, Machines

#: How often is done what luck has a part in: once, or as often as `make soak` says.
REPEATS = int(os.environ.get("SOAK_REPEATS", "1"))
#: Tests that take minutes: only `make soak` has them.
SOAKED = ("test_lost", "test_power_cut")
HTTPS = 443
#: Tells a request of ours in what a stand-in received.
MARK = "x-test-mark"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--inventory", type=Path, required=True, help="the inventory whose test hosts to look into")


@functools.cache
def fleet_of(inventory: Path) -> fleet.Fleet:
    """The test hosts of an inventory, which is read once."""
    return fleet.Fleet(inventory)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves out the folders of other inventories, and what takes too long."""
    if collection_path.stem in SOAKED and REPEATS == 1:
        return True
    if collection_path.parent == Path(__file__).parent and collection_path.is_dir():
        return True if collection_path.name != fleet_of(config.getoption("--inventory")).name else None
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Takes machines away at last: all other tests look for hosts where the inventory has them."""
    items.sort(key=lambda item: item.path.stem == "test_lost")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test that takes `machine` once for each host."""
    if "machine" in metafunc.fixturenames:
        hosts = fleet_of(metafunc.config.getoption("--inventory"))
        machines = Machines(hosts.inventory)
        names = [host.name for host in (machines.all if machines.ssh_config.exists() else hosts.hosts)]
        metafunc.parametrize(
            "machine", [f"{name}.{hosts.name}" for name in names], ids=names, indirect=True, scope="session"
        )


def ssh_config(name: str) -> Path:
    """How SSH reaches a host, named `host.fleet`: of a fleet, or a virtual machine."""
    virtual = MACHINES / name.partition(".")[2] / "ssh_config"
    return virtual if virtual.exists() else fleet.SSH_CONFIG


def connect(name: str) -> testinfra.host.Host:
    """Opens a host, named `host.fleet`, as root."""
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(ssh_config(name)), sudo=True)


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest) -> testinfra.host.Host:
    """A host, as root."""
    return connect(request.param)


@pytest.fixture(scope="session")
def secrets(request: pytest.FixtureRequest) -> dict[str, str]:
    """All keys of the vault by their names."""
    vault = request.config.getoption("--inventory") / "group_vars/all/vault.yml"
    program = Path(sys.executable).with_name("ansible-vault")
    password = fleet.environment()["ANSIBLE_VAULT_PASSWORD_FILE"]
    opened = fleet.run([str(program), "view", "--vault-password-file", password, str(vault)])
    vault = yaml.safe_load(opened)
    names: tuple[str, ...] = ("pryv_secrets", "pryv_core_admin_keys", "pryv_core_register_keys", "pryv_retired_secrets")
    names += ("pryv_metrics_passwords", "pryv_monitoring_passwords", "pryv_log_passwords", *BACKUP_SECRETS)
    return {f"{name}.{key}": value for name in names for key, value in (vault.get(name) or {}).items()}


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: HTTP status code.
        headers: Values by lower-case name.
        body: The body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def process(self) -> str:
        """Which stand-in answered, as service/port; empty when nginx did by itself."""
        return self.headers.get("x-standin", "")


@dataclass(frozen=True)
class Platform:
    """A platform on test hosts, asked as a client on this machine would, and what its services saw of that.

    Attributes:
        inventory: The inventory's folder.
        topology: As docs/architecture.md describes it.
        variables: What the inventory says, by host. Not shown when a test fails: the vault's secrets are among them.
    """

    inventory: Path
    topology: Mapping[str, Any] = field(repr=False)
    variables: Mapping[str, Mapping[str, Any]] = field(repr=False)

    @property
    def domain(self) -> str:
        """The platform's domain."""
        return str(self.topology["domain"])

    def hosts(self, role: str) -> list[str]:
        """Names of the hosts that have a role."""
        return [name for name, host in self.topology["hosts"].items() if role in host["roles"]]

    def address(self, host: str) -> str:
        """Where clients reach a host."""
        return str(self.topology["hosts"][host]["public_address"])

    def machine(self, host: str) -> testinfra.host.Host:
        """A host, as root."""
        return connect(f"{host}.{fleet.Fleet(self.inventory).name}")

    def setting(self, role: str, variable: str, host: str) -> Any:
        """A variable of a role, or its default.

        Args:
            role: The role.
            variable: The variable.
            host: On which host.
        """
        defaults = yaml.safe_load((fleet.CHECKOUT / f"roles/{role}/defaults/main.yml").read_text())
        return self.variables[host].get(variable, defaults.get(variable))

    def tls(self, host: str, name: str | None) -> ssl.SSLSocket:
        """Connects to a host's port 443.

        Args:
            host: The host.
            name: The name to ask for; None for none, whoever answers then.
        """
        authority = self.inventory / "ca/ca.pem"
        if name and authority.exists():
            # Reading the world's authorities as well would take longer than asking.
            context = ssl.create_default_context(cafile=authority)
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection((self.address(host), HTTPS), timeout=20)
        try:
            return context.wrap_socket(plain, server_hostname=name)
        except OSError:
            plain.close()
            raise

    def ask(
        self,
        host: str,
        name: str,
        path: str = "/",
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Sends one request over a connection of its own.

        Args:
            host: Whom to ask.
            name: Host name in TLS and in the Host header.
            path: Path with query.
            method: HTTP method.
            headers: Further headers.
            body: The body.
        """
        with self.tls(host, name) as wrapped:
            connection = http.client.HTTPConnection(name)
            connection.sock = wrapped
            connection.request(method, path, body, dict(headers or {}))
            reply = connection.getresponse()
            return Answer(reply.status, {key.lower(): value for key, value in reply.getheaders()}, reply.read())

    def client(self, host: str) -> str:
        """Our own address, as a host sees it."""
        with socket.create_connection((self.address(host), HTTPS), timeout=20) as connection:
            return str(connection.getsockname()[0])

    def received(self, marks: Iterable[str]) -> dict[str, dict[str, Any]]:
        """What services received, on whichever host: the records by mark, with the host as `on`.

        Args:
            marks: Values of the header MARK.
        """
        patterns = " ".join(f"-e {shlex.quote(mark)}" for mark in marks)
        # The pages' containers write to their logs, all others to a file.
        command = (
            "{ find /var/log/pryv -name requests.jsonl -exec cat {} + ; "
            "for id in $(docker ps --quiet --filter name=pages --filter name=admin_panel); do docker logs $id; done; } "
            f"2>/dev/null | grep -F {patterns}"
        )
        found: dict[str, dict[str, Any]] = {}
        for host in self.topology["hosts"]:
            for line in self.machine(host).run(command).stdout.splitlines():
                record = json.loads(line)
                mark = record["headers"].get(MARK)
                assert mark not in found, f"{mark} was received twice: {record} {found[mark]}"
                found[mark] = {**record, "on": host}
        return found


def new_mark() -> str:
    """A value for the header MARK that no other request has."""
    return f"mark-{random.token_hex(8)}"


@pytest.fixture(scope="session")
def platform(request: pytest.FixtureRequest) -> Platform:
    """The platform of the inventory."""
    inventory: Path = request.config.getoption("--inventory")
    program = Path(sys.executable).with_name("ansible-inventory")
    os.environ.update(fleet.environment())
    listed = json.loads(fleet.run([str(program), "--inventory", str(inventory), "--list"]))
    variables: dict[str, dict[str, Any]] = listed["_meta"]["hostvars"]

    def members(group: str) -> list[str]:
        content = listed.get(group, {})
        return [*content.get("hosts", []), *(host for child in content.get("children", []) for host in members(child))]

    groups = {group: members(group) for group in listed if group != "_meta"}
    return Platform(inventory, derivation.derive({**groups, "all": list(variables)}, variables), variables)
