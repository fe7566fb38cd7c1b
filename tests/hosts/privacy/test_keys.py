"""A core's keys open that core, and nothing in other zones."""

from __future__ import annotations

import json
from http import HTTPStatus

from tests.hosts.conftest import Platform

NAME = "keys-of-others"


def test_the_keys_of_a_core_open_no_other(platform: Platform, secrets: dict[str, str]) -> None:
    victim, thief = (platform.topology["zones"][zone][0] for zone in ("ch", "us"))
    core, registry = f"{victim}.{platform.domain}", f"reg.{platform.domain}"
    user = {"username": NAME, "password": "Nobody-knows-1t", "email": f"{NAME}@{platform.domain}", "appId": "pryv-test"}
    body = json.dumps({**user, "language": "en", "invitationToken": "no-token"}).encode()
    made = platform.ask(victim, core, "/users", "POST", {"Content-Type": "application/json"}, body)
    assert made.status == HTTPStatus.CREATED, made.body

    def delete(key: str) -> int:
        return platform.ask(victim, core, f"/users/{NAME}", "DELETE", {"Authorization": key}).status

    def look(host: str, path: str, key: str) -> int:
        return platform.ask(host, registry, path, headers={"Authorization": key}).status

    hosts = platform.hosts("registry")
    for name in ("pryv_core_admin_keys", "pryv_core_register_keys"):
        stolen = secrets[f"{name}.{thief}"]
        assert delete(stolen) != HTTPStatus.OK
        for path in (f"/admin/users/{NAME}", f"/ADMIN/users/{NAME}", "/admin/users", "/admin/servers"):
            assert {look(host, path, stolen) for host in hosts} <= {HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND}
        assert look(hosts[0], f"/admin/users/{NAME}?auth={stolen}", "") == HTTPStatus.UNAUTHORIZED
    administrator = secrets["pryv_secrets.register_admin_key"]
    assert {look(host, f"/admin/users/{NAME}", administrator) for host in hosts} == {HTTPStatus.OK}

    assert delete(secrets[f"pryv_core_admin_keys.{victim}"]) == HTTPStatus.OK
