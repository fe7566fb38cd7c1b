"""Tests that look into the hosts of a platform that stands: pytest tests/hosts --inventory inventories/poc."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import testinfra
import yaml

from tests.fleet import fleet


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--inventory", type=Path, required=True, help="the inventory whose test hosts to look into")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test that takes `machine` once for each host."""
    if "machine" in metafunc.fixturenames:
        hosts = fleet.Fleet(metafunc.config.getoption("--inventory"))
        names = [host.name for host in hosts.hosts]
        metafunc.parametrize(
            "machine", [f"{name}.{hosts.name}" for name in names], ids=names, indirect=True, scope="session"
        )


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest) -> testinfra.host.Host:
    """A host, as root."""
    return testinfra.get_host(f"ssh://{request.param}", ssh_config=str(fleet.SSH_CONFIG), sudo=True)


@pytest.fixture(scope="session")
def secrets(request: pytest.FixtureRequest) -> dict[str, str]:
    """The vault's secrets by their names."""
    vault = request.config.getoption("--inventory") / "group_vars/all/vault.yml"
    program = Path(sys.executable).with_name("ansible-vault")
    password = fleet.environment()["ANSIBLE_VAULT_PASSWORD_FILE"]
    opened = fleet.run([str(program), "view", "--vault-password-file", password, str(vault)])
    found: dict[str, str] = yaml.safe_load(opened)["pryv_secrets"]
    return found
