"""Hosts as operators have them: what is there is named, untouched, and taken over only by their word."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fleet import fleet
from tests.hosts.conftest import fleet_of

INSTALL = "apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends"

#: What an administrator has done on each host before we come, as root.
DONE = {
    # A firewall of the company's own that drops by default, and its network over a gateway.
    "web1": f"""
{INSTALL} nftables
nft 'table inet company {{ chain input {{ type filter hook input priority 0; policy drop; iif lo accept;
ct state established,related accept; tcp dport 22 accept; }}; }}'
ip route add 172.29.0.0/16 via 10.77.53.1
""",
    # ufw, and some of Docker's own packages, as an image of a cloud has them; empty ones do.
    "reg1": f"{INSTALL} ufw\nufw allow 22/tcp; ufw allow 443/tcp; ufw --force enable\n"
    r"""
for name in docker-ce docker-ce-cli containerd.io; do
    mkdir -p /root/$name/DEBIAN
    printf 'Package: %s\nVersion: 5:28.1\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n' $name \
        >/root/$name/DEBIAN/control
    dpkg-deb --build /root/$name
done
dpkg --install /root/*.deb
""",
    # The folder for data is a link to the big disk, a file of sudo's has another mode, and the user is no sudoer, as
    # Debian's installer leaves a machine when root has a password.
    "co1": """
mkdir -p /srv/big; ln -s /srv/big /srv/disk
echo root:Herbst-2026 | chpasswd; chmod 0644 /etc/sudoers.d/ops; sed -i s/^ops/other/ /etc/sudoers.d/ops
""",
    # Another application, with settings and options of its own.
    "docker": f"""
{INSTALL} docker.io docker-cli busybox-static
echo '{{"registry-mirrors": ["https://mirror.example.com"], "log-driver": "json-file"}}' >/etc/docker/daemon.json
systemctl restart docker.service
mkdir -p /root/image/bin; cp /bin/busybox /root/image/bin; tar -C /root/image -c . | docker import - legacy:1
docker run --detach --name legacy --restart always --stop-timeout 1 legacy:1 /bin/busybox sleep 1000000
mkdir -p /etc/systemd/system/docker.service.d
printf '[Service]\\nExecStart=\\nExecStart=/usr/sbin/dockerd -H fd:// --data-root=/var/lib/docker\\n' \
    >/etc/systemd/system/docker.service.d/company.conf
printf '[Service]\\nEnvironment=NO_PROXY=example.com\\n' >/etc/systemd/system/docker.service.d/proxy.conf
""",
    "nobody": "rm /etc/sudoers.d/ops",
}

#: What is on a host, in a few lines: everything below /etc, the rules of packet filters, and what runs in Docker.
STATE = (
    "find /etc -xdev -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum; "
    "find /etc -xdev -printf '%p %M %u %g %l\n' | sort | sha256sum; "
    "if command -v nft; then nft --stateless list ruleset; fi 2>&1; "
    "if command -v docker; then docker ps --no-trunc --format '{{.ID}} {{.Names}}'; fi"
)


@dataclass(frozen=True)
class Hosts:
    """The test hosts.

    Attributes:
        inventory: Their inventory.
    """

    inventory: Path

    def run(self, host: str, script: str) -> str:
        """Runs a script on a host as root and returns what it said."""
        hosts = fleet_of(self.inventory)
        container = hosts.container(next(one for one in hosts.hosts if one.name == host))
        return fleet.docker("exec", "--interactive", container, "sh", "-e", stdin=script.encode())

    def play(self, playbook: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a playbook."""
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        environment = {**os.environ, **fleet.environment(), "ANSIBLE_NOCOLOR": "true", "ANSIBLE_FORCE_COLOR": "false"}
        command = [program, playbook, "--inventory", str(self.inventory.absolute()), *arguments]
        return subprocess.run(command, cwd=fleet.CHECKOUT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def hosts(request: pytest.FixtureRequest) -> Hosts:
    """The hosts, with what administrators have done there."""
    found = Hosts(request.config.getoption("--inventory"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda host: found.run(host, DONE[host]), DONE))
    return found


@pytest.fixture(scope="module")
def report(hosts: Hosts) -> str:
    """What preflight says of all of them in one run; nothing on them is another afterwards."""
    before = {host: hosts.run(host, STATE) for host in DONE}
    done = hosts.play("playbooks/preflight.yml")
    assert done.returncode == 2, done.stdout + done.stderr
    assert {host: hosts.run(host, STATE) for host in DONE} == before
    assert "Herbst" not in done.stdout + done.stderr
    return done.stdout.partition("Preflight looked at")[2].partition("\nTASK")[0]


@pytest.mark.parametrize(
    ("severity", "line"),
    [
        ("error", "web1: has a firewall of its own (table inet company), which drops tcp/443"),
        ("error", "reg1: has a firewall of its own (ufw), which drops udp/53"),
        ("error", "co1: pryv_data_directory: leads through /srv/disk, a symbolic link to /srv/big"),
        (
            "error",
            "docker: has Docker in use: container legacy (legacy:1); /etc/docker/daemon.json with log-driver, "
            "registry-mirrors; /etc/systemd/system/docker.service.d/company.conf, which gives the daemon --data-root",
        ),
        ("error", "reg1: has docker-ce, docker-ce-cli, containerd.io installed, which apt would remove"),
        ("error", "co1: Ansible logs in as ops and becomes root with su"),
        (
            "error",
            "nobody: ops logs in there and cannot become root (Missing sudo password), and is in none of the groups",
        ),
        ("warning", "web1: has a route to 172.29.0.0/16, which overlaps its docker_address_pool (172.29.0.0/16)"),
        ("warning", "co1: visudo --check finds a mistake: /etc/sudoers.d/ops: bad permissions"),
    ],
)
def test_what_is_there_is_named(report: str, severity: str, line: str) -> None:
    errors, _, warnings = report.partition("should be looked at")
    assert f"- {line}" in (errors if severity == "error" else warnings)


def test_nothing_else_is_in_the_way(report: str) -> None:
    errors, _, warnings = report.partition("should be looked at")
    found = [re.findall(r"^ *- (\w+): (?!runs|has \d)", part, re.MULTILINE) for part in (errors, warnings)]
    assert sorted(found[0]) == ["co1", "co1", "docker", "nobody", "reg1", "reg1", "web1"]
    assert sorted(found[1]) == ["co1", "web1"]


def test_docker_is_taken_over_by_the_word_of_one_run_and_nothing_is_lost(hosts: Hosts, report: str) -> None:
    assert "docker_take_over=docker" in report
    arguments = ("site.yml", "--limit", "docker", "--tags", "docker")
    done = hosts.play(*arguments, "--extra-vars", "docker_take_over=docker")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "its Docker is taken over from container legacy (legacy:1)" in done.stdout
    assert hosts.run("docker", "systemctl is-active docker.service; docker ps --all --quiet").split() == ["active"]
    assert hosts.run("docker", "ls /etc/systemd/system/docker.service.d").split() == ["proxy.conf", "pryv.conf"]
    kept = hosts.run(
        "docker", "cd /var/backups/pryv/docker/*; find . -type f -exec grep -lE 'mirror|company|data-root' {} +"
    )
    assert sorted(kept.split()) == [
        "./etc/docker/daemon.json",
        "./etc/systemd/system/docker.service.d/company.conf",
    ]
    assert "legacy" in hosts.run("docker", "cat /var/lib/docker/containers/*/config.v2.json")
    again = hosts.play(*arguments)
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.search(r"^docker +: .*changed=0 ", again.stdout, re.MULTILINE), again.stdout
