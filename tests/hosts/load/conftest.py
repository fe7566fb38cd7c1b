"""Who uses the platform of inventories/load, and who watches it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus

import pytest

from tests.hosts.conftest import Platform

USER, PASSWORD = "metricsuser", "Nobody-knows-1t"


@pytest.fixture(scope="session")
def reader(platform: Platform, secrets: Mapping[str, str]) -> dict[str, str]:
    """The header by which a monitoring host's page knows an administrator."""
    host = platform.topology["monitoring"][0]
    (name,) = (entry["name"] for entry in platform.variables[host]["administrators"])
    word = base64.b64encode(f"{name}:{secrets[f'pryv_monitoring_passwords.{name}']}".encode()).decode()
    return {"Authorization": f"Basic {word}"}


@pytest.fixture(scope="module")
def user(platform: Platform, secrets: Mapping[str, str]) -> Iterator[str]:
    """A core that has a user, whom the registry knows."""
    core = platform.hosts("core")[0]
    name = f"{core}.{platform.domain}"
    fields = {"username": USER, "password": PASSWORD, "email": f"{USER}@{platform.domain}", "appId": "pryv-test"}
    body = json.dumps({**fields, "language": "en", "invitationToken": "no-token"}).encode()
    made = platform.ask(core, name, "/users", "POST", {"Content-Type": "application/json"}, body)
    assert made.status == HTTPStatus.CREATED, made.body
    yield core
    key = {"Authorization": secrets[f"pryv_core_admin_keys.{core}"]}
    assert platform.ask(core, name, f"/users/{USER}", "DELETE", key).status == HTTPStatus.OK
