"""What an operator relies on, on every host, whatever its role."""

from __future__ import annotations

import json
from typing import Any

from testinfra.host import Host

LOOPBACK = ("127.", "[::1]", "::1")
#: Programs that may listen where others can reach them.
OUTSIDE = {"sshd", "nginx", "systemd"}


def containers(machine: Host) -> list[dict[str, Any]]:
    found = machine.check_output("docker ps --all --quiet").split()
    return json.loads(machine.check_output(f"docker inspect {' '.join(found)}")) if found else []


def test_system_is_up_whole(machine: Host) -> None:
    assert machine.run("systemctl is-system-running").stdout.strip() == "running", machine.run(
        "systemctl --failed"
    ).stdout


def test_only_ssh_and_nginx_listen_outside(machine: Host) -> None:
    for line in machine.check_output("ss --tcp --udp --listening --numeric --processes --no-header").splitlines():
        address, process = line.split()[4], line.rpartition('(("')[2].partition('"')[0]
        assert address.startswith(LOOPBACK) or process in OUTSIDE, line


def test_containers_come_back_after_a_reboot_and_own_nothing_of_the_host(machine: Host) -> None:
    for container in containers(machine):
        settings, name = container["HostConfig"], container["Name"]
        assert settings["RestartPolicy"]["Name"] in {"always", "unless-stopped"}, name
        assert not settings["Privileged"], name
        assert settings["NetworkMode"] != "host", name
        assert not [mount for mount in container["Mounts"] if "docker.sock" in mount["Source"]], name


def test_containers_run_and_do_not_crash(machine: Host) -> None:
    states = {
        container["Name"]: (container["State"]["Status"], container["RestartCount"])
        for container in containers(machine)
    }
    assert states
    assert set(states.values()) == {("running", 0)}, states


def test_containers_publish_on_loopback_alone(machine: Host) -> None:
    for container in containers(machine):
        published = [
            binding for bindings in (container["HostConfig"]["PortBindings"] or {}).values() for binding in bindings
        ]
        assert all(binding["HostIp"].startswith(LOOPBACK) for binding in published), container["Name"]


def test_docker_keeps_its_data_beside_the_platforms(machine: Host) -> None:
    information = json.loads(machine.check_output("docker info --format '{{json .}}'"))
    assert information["DockerRootDir"] == "/srv/pryv/docker"
    assert information["Driver"] == "overlay2"
    assert information["LiveRestoreEnabled"]


def test_key_of_the_certificate_is_roots_alone(machine: Host) -> None:
    key = machine.file("/etc/pryv/tls/privkey.pem")
    assert (key.user, key.group, key.mode) == ("root", "root", 0o400)


def test_secrets_are_for_their_readers_only(machine: Host, secrets: dict[str, str]) -> None:
    search = machine.run(
        "umask 077; patterns=$(mktemp); printf %%s %s >$patterns; "
        "find /etc /srv/pryv /var/log /tmp /var/tmp /run -xdev -path /srv/pryv/docker -prune "
        "-o -type f -perm /o+r -exec grep -lFf $patterns {} +; rm $patterns",
        "\n".join(secrets.values()),
    )
    assert search.stdout == ""


def test_secrets_are_not_in_the_process_list(machine: Host, secrets: dict[str, str]) -> None:
    processes = machine.check_output("ps -eo args")
    assert [name for name, secret in secrets.items() if secret in processes] == []
