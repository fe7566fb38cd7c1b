"""What a host has of Docker is named and refused, and replaced only when the operator says so for this one run."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from pryv_platform.checks import docker

ROOT = Path(__file__).parents[2]
POOL = "172.29.0.0/16"
OWN = dict.fromkeys(docker.DOCKERS_OWN, "5:28.1.1-1~debian.13~trixie")


def survey(system: str = "debian-13", routes: tuple[str, ...] = (), **changed: Any) -> dict[str, Any]:
    """A host's survey: nothing of Docker but what is given."""
    name, _, number = system.partition("-")
    docker = {
        **{"ours": False, "packages": {}, "snap": False, "settings": [], "flags": {}, "root": "/var/lib/docker"},
        **{"containers": [], "volumes": []},
        **changed,
    }
    return {"survey": {"docker": docker, "routes": list(routes), "system": {"ID": name, "VERSION_ID": number}}}


def found(result: dict[str, Any], command_line: Sequence[str] = ("docker_take_over",), **variables: Any) -> list[str]:
    """What is told of co1."""
    problems = docker.docker_host_problems({"co1": result}, {"co1": variables}, POOL, command_line)
    return [f"{one['severity']}: {one['problem']} -> {one['remedy']}" for one in problems]


def test_a_host_without_docker_and_one_with_ours_pass() -> None:
    ours = survey(ours=True, settings=["bip"], packages={"docker.io": "26.1.5+dfsg1-9"})
    assert found(survey()) == found(ours) == found({"unreachable": True}) == []


def test_dockers_own_packages_do_where_they_are_whole_and_recent() -> None:
    assert found(survey(packages=OWN)) == []
    assert found(survey("debian-12", packages=OWN)) == []
    (line,) = found(survey(packages=OWN | {"docker-compose-plugin": "2.23.3-1"}))
    assert (
        line == "error: has docker-compose-plugin 2.23.3-1, and 2.24 is the oldest that will do "
        "-> upgrade docker-compose-plugin"
    )
    (line,) = found(survey(packages=OWN | {"docker-ce": "5:24.0.9~3-0"}))
    assert line.startswith("error: has docker-ce 5:24.0.9~3-0, and 25.0 is the oldest")


@pytest.mark.parametrize(
    ("system", "packages", "in_the_way"),
    [
        ("debian-13", {"docker-ce": "5:28.1", "containerd.io": "1.7"}, "docker-ce, containerd.io"),
        ("debian-13", {"containerd.io": "1.7"}, "containerd.io"),
        ("ubuntu-24.04", {"docker-compose-plugin": "2.35"}, "docker-compose-plugin"),
        ("debian-13", {"podman-docker": "5.4"}, "podman-docker"),
        ("debian-12", {"docker.io": "20.10.24", "containerd": "1.6", "runc": "1.1"}, "containerd, docker.io, runc"),
    ],
)
def test_packages_that_would_be_removed_are_named(system: str, packages: dict[str, str], in_the_way: str) -> None:
    line, *_ = found(survey(system, packages=packages))
    assert line.startswith(f"error: has {in_the_way} installed, which apt would remove for the packages of role docker")


def test_a_distributions_docker_that_is_there_and_too_old_is_not_upgraded_by_the_way() -> None:
    (line,) = found(survey("ubuntu-22.04", packages={"docker.io": "20.10.12-0ubuntu4"}))
    assert line.startswith("error: has docker.io 20.10.12-0ubuntu4, and 25.0 is the oldest")


def test_docker_as_a_snap() -> None:
    (line,) = found(survey(snap=True))
    assert line.startswith("error: has Docker as a snap")


def test_the_oldest_versions_know_what_compose_files_use() -> None:
    """Older engines refuse start_interval, and older compose passes over it."""
    files = ROOT.glob("roles/*/templates/root/etc/pryv/*/compose.yml.j2")
    assert any("start_interval:" in path.read_text() for path in files)
    assert docker.OLDEST_ENGINE >= (25, 0)
    assert docker.OLDEST_COMPOSE >= (2, 24)
    told = "engine {}.{} and compose {}.{} or newer".format(*docker.OLDEST_ENGINE, *docker.OLDEST_COMPOSE)
    assert told in (ROOT / "docs/operations/docker.md").read_text()


IN_USE: dict[str, Any] = {
    "containers": [{"name": "legacy", "image": "legacy:1"}],
    "volumes": [f"v{number}" for number in range(10)],
    "settings": ["bip", "registry-mirrors"],
    "flags": {
        "/etc/default/docker": ["--dns"],
        "/etc/systemd/system/docker.service.d/a.conf": ["--host=fd://", "--host=tcp://0.0.0.0:2375", "--data-root"],
    },
}


def test_what_is_there_is_named_and_refused() -> None:
    (line,) = found(survey(**IN_USE))
    assert line.startswith(
        "error: has Docker in use: container legacy (legacy:1); volumes v0, v1, v2, v3, v4, v5, v6, v7, 2 more; "
        "/etc/docker/daemon.json with bip, registry-mirrors; /etc/systemd/system/docker.service.d/a.conf, "
        "which gives the daemon --host=tcp://0.0.0.0:2375, --data-root -> "
    )
    assert "-e docker_take_over=co1" in line


def test_options_that_conflict_are_refused_where_docker_is_ours_too() -> None:
    flags = {"/etc/default/docker": ["--log-driver"]}
    (line,) = found(survey(ours=True, flags=flags))
    assert "/etc/default/docker, which gives the daemon --log-driver" in line
    assert found(survey(flags={"/etc/default/docker": ["--dns", "--host=unix:///run/docker.sock"]})) == []


def test_unreadable_settings_are_somebodys() -> None:
    (line,) = found(survey(settings=None))
    assert "an unreadable /etc/docker/daemon.json" in line


def test_the_word_of_the_command_line_lets_a_named_host_be_taken_over() -> None:
    (line,) = found(survey(**IN_USE), docker_take_over="web1, co1")
    assert line.startswith("note: its Docker is taken over from container legacy (legacy:1); ")
    (line,) = found(survey(**IN_USE), docker_take_over="web1")
    assert line.startswith("error: has Docker in use")
    assert found(survey(), docker_take_over="co1") == []
    (line,) = found(survey(packages={"podman-docker": "5"}), docker_take_over="co1")
    assert line.startswith("error: has podman-docker installed"), (
        "the word is about what is in Docker, not about packages"
    )


def test_the_word_in_an_inventory_is_refused() -> None:
    (line,) = found(survey(**IN_USE), (), docker_take_over="co1")
    assert line.startswith("error: docker_take_over of co1 is in the inventory")


@pytest.mark.parametrize(
    ("route", "pool", "told"),
    [
        (POOL, None, True),
        ("172.16.0.0/12", None, True),
        ("172.29.7.0/24", None, True),
        ("172.28.0.0/16", None, False),
        (POOL, "192.168.240.0/20", False),
        (POOL, "no pool", False),
    ],
)
def test_a_route_into_the_pool_is_told_with_the_variable_to_set(route: str, pool: str | None, told: bool) -> None:
    lines = found(survey(routes=("10.0.0.0/24", route)), **({"docker_address_pool": pool} if pool else {}))
    assert len(lines) == told
    assert all(
        line.startswith(f"warning: has a route to {route}") and "set docker_address_pool" in line for line in lines
    )


def test_every_setting_of_ours_has_its_option_known() -> None:
    text = (ROOT / "roles/docker/templates/root/etc/docker/daemon.json.j2").read_text()
    keys = re.findall(r'^  "([a-z-]+)":', text, re.MULTILINE)
    assert len(keys) > 8
    assert {f"--{key}" for key in keys} <= {option + ending for option in docker.OURS for ending in ("", "s")}


def test_packages_are_those_of_the_role() -> None:
    needs = yaml.safe_load((ROOT / "roles/docker/meta/packages.yml").read_text())["docker"]
    own = {tuple(system.split("-")) for system, names in needs.items() if names == list(docker.DOCKERS_OWN)}
    assert own - {("alternative",)} == docker.WITH_DOCKERS_OWN


def test_the_copies_lie_where_they_are_said_to() -> None:
    assert yaml.safe_load((ROOT / "roles/docker/vars/main.yml").read_text())["docker_copies"] == docker.COPIES
    assert docker.COPIES in (ROOT / "docs/operations/docker.md").read_text()
