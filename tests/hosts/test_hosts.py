"""What an operator relies on, on every host, whatever its role."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pytest
from ansible.module_utils.config_tree_undo import UNDO_SERVICE
from testinfra.host import Host

from tests.hosts.conftest import Platform

CHECKOUT = Path(__file__).resolve().parents[2]
UNITS = CHECKOUT / "docs" / "units.md"

#: What a boot or a kernel of its own could change: looked at on virtual machines, too. All else there is the same files
#: and the same programs, and every look at an emulated machine takes seconds.
on_machines = pytest.mark.on_machines

#: Capabilities and their bits in the kernel's masks.
CAPABILITIES = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "KILL": 5, "SETGID": 6, "SETUID": 7, "NET_BIND_SERVICE": 10}
#: What Pryv's images take to give up being root, and what nginx's own take.
INIT = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"}
PAGES = {"CHOWN", "SETGID", "SETUID"}
#: Services that take less, by their names in compose; these have a read-only root as well.
TAKES_LESS: dict[str, set[str]] = {"redis": set(), "influxdb": set(), "admin_panel": PAGES, "pages": PAGES}

LOOPBACK = ("127.", "[::1]", "::1")
#: As logrotate, but waits while its timer has it run: it ends with 3 then.
ROTATE = 'rotate() { until logrotate "$@"; do [ $? = 3 ] || return 1; sleep 0.2; done; }; rotate'
#: Programs that may listen where others can reach them.
OUTSIDE = {"sshd", "nginx"}
#: What systemd may listen for, to start such a program: ssh.socket, which some distributions have.
AWAITED = {"22"}


@functools.cache
def containers(machine: Host) -> list[dict[str, Any]]:
    """All containers of a host, as `docker inspect` shows them; asked for once."""
    found = machine.check_output("docker ps --all --quiet").split()
    return json.loads(machine.check_output(f"docker inspect {' '.join(found)}")) if found else []


def service(container: dict[str, Any]) -> str:
    name: str = container["Config"]["Labels"]["com.docker.compose.service"]
    return name


def mask(names: set[str]) -> int:
    return sum(1 << CAPABILITIES[name] for name in names)


def statuses(machine: Host, processes: Sequence[int]) -> list[dict[str, str]]:
    """What the kernel says of processes, such as `CapBnd`."""
    shown = machine.check_output("cat " + " ".join(f"/proc/{process}/status" for process in processes))
    texts = re.split("^(?=Name:)", shown, flags=re.MULTILINE)[1:]
    return [dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE)) for text in texts]


def try_in_each(machine: Host, command: str) -> dict[str, str]:
    """Runs a shell command as root in each container, and returns what it printed by service."""
    names = [container["Name"].strip("/") for container in containers(machine)]
    each = f"for name in {' '.join(names)}; do docker exec --user 0 $name sh -c %s 2>&1 | tail -1; done"
    return dict(zip(map(service, containers(machine)), machine.check_output(each, command).splitlines(), strict=True))


@on_machines
def test_system_is_up_whole(machine: Host) -> None:
    assert machine.run("systemctl is-system-running").stdout.strip() == "running", machine.run(
        "systemctl --failed"
    ).stdout


@on_machines
def test_only_ssh_and_nginx_listen_outside(machine: Host) -> None:
    for line in machine.check_output("ss --tcp --udp --listening --numeric --processes --no-header").splitlines():
        address, process = line.split()[4], line.rpartition('(("')[2].partition('"')[0]
        awaited = process == "systemd" and address.rpartition(":")[2] in AWAITED
        assert address.startswith(LOOPBACK) or process in OUTSIDE or awaited, line


def test_containers_come_back_after_a_reboot_and_own_nothing_of_the_host(machine: Host) -> None:
    for container in containers(machine):
        settings, name = container["HostConfig"], container["Name"]
        assert settings["RestartPolicy"]["Name"] in {"always", "unless-stopped"}, name
        assert not settings["Privileged"], name
        assert settings["NetworkMode"] != "host", name
        assert not [mount for mount in container["Mounts"] if "docker.sock" in mount["Source"]], name


@on_machines
def test_containers_run_and_do_not_crash(machine: Host) -> None:
    states = {
        container["Name"]: (container["State"]["Status"], container["RestartCount"])
        for container in containers(machine)
    }
    # What keeps others' backups, or watches them, has none.
    has_none = machine.run("ls -d /etc/pryv/backup_server /etc/pryv/monitoring").stdout != ""
    assert set(states.values()) == (set() if has_none else {("running", 0)}), states


def test_containers_publish_on_loopback_alone(machine: Host) -> None:
    for container in containers(machine):
        published = [
            binding for bindings in (container["HostConfig"]["PortBindings"] or {}).values() for binding in bindings
        ]
        assert all(binding["HostIp"].startswith(LOOPBACK) for binding in published), container["Name"]


@on_machines
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
        "search() { find /etc /srv/pryv /var/log /tmp /var/tmp /run -xdev -path /srv/pryv/docker -prune "
        '-o -type f "$@" -exec grep -lFf $patterns {} +; }; '
        "ls /etc/pryv; echo --; search ! -perm /o+r -path '/etc/pryv/*'; echo --; search -perm /o+r; rm $patterns",
        "\n".join(secrets.values()),
    )
    services, kept, readable = search.stdout.split("--\n")
    # A core and a registry have secrets: a search that finds none of them has looked at nothing.
    assert kept or not {"core", "registry"} & set(services.split()), search.stderr
    assert readable == ""


@on_machines
def test_secrets_are_not_in_the_process_list(machine: Host, secrets: dict[str, str]) -> None:
    processes = machine.check_output("ps -eo args")
    assert [name for name, secret in secrets.items() if secret in processes] == []


@on_machines
def test_containers_can_do_what_they_need_and_no_more(machine: Host) -> None:
    kernels = statuses(machine, [container["State"]["Pid"] for container in containers(machine)])
    for name, kernel in zip(map(service, containers(machine)), kernels, strict=True):
        allowed = mask(TAKES_LESS.get(name, INIT))
        assert int(kernel["CapBnd"], 16) == allowed, f"{name}: {kernel['CapBnd']}"
        assert not int(kernel["CapEff"], 16) & ~allowed, name
        assert (kernel["NoNewPrivs"], kernel["Seccomp"]) == ("1", "2"), name


@on_machines
def test_root_in_a_container_cannot_forge_packets(machine: Host) -> None:
    packets = "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP); print()"
    for name, printed in try_in_each(machine, f"python3 -c '{packets}'").items():
        assert printed.startswith("PermissionError"), f"{name}: {printed}"


@on_machines
def test_containers_cannot_take_the_hosts_memory_or_processes(machine: Host) -> None:
    memory = int(machine.check_output("grep MemTotal: /proc/meminfo").split()[1]) * 1024
    for container in containers(machine):
        settings = container["HostConfig"]
        assert 0 < settings["Memory"] < max(memory * 0.95, 1 << 30), container["Name"]
        assert 0 < settings["PidsLimit"] <= 2048, container["Name"]


def test_containers_that_need_no_root_to_write_to_have_none(machine: Host) -> None:
    for name, printed in try_in_each(machine, "echo >/etc/written && echo written").items():
        assert ("Read-only file system" in printed) == (name in TAKES_LESS), f"{name}: {printed}"


def test_no_container_has_a_socket_of_the_host_but_one_of_a_journal_of_its_own(machine: Host) -> None:
    sources = {mount["Source"] for container in containers(machine) for mount in container["Mounts"]}
    sockets = machine.check_output(f"find {' '.join(sources)} -maxdepth 0 -type s").split() if sources else []
    # A core's audit trail goes there.
    assert set(sockets) <= {"/run/systemd/journal.pryv/dev-log"}


def test_docker_publishes_on_loopback_unless_told_otherwise(machine: Host) -> None:
    if not (running := containers(machine)):
        assert json.loads(machine.file("/etc/docker/daemon.json").content_string)["ip"] == "127.0.0.1"
        return
    image = running[0]["Config"]["Image"]
    machine.check_output("docker network create careless")
    try:
        for network in ("bridge", "careless"):
            options = f"--rm --detach --network {network} --publish 8080:80 --entrypoint python3 --label com.pryv.test"
            name = machine.check_output(f"docker run {options} {image} -m http.server 80")
            bound = machine.check_output(f"docker port {name}")
            machine.check_output(f"docker rm --force {name}")
            assert bound == "80/tcp -> 127.0.0.1:8080", network
    finally:
        machine.check_output("docker network rm careless")


@on_machines
def test_nginx_is_confined(machine: Host) -> None:
    process = int(machine.check_output("systemctl show --value --property MainPID nginx.service"))
    kernel = statuses(machine, [process])[0]
    assert int(kernel["CapBnd"], 16) == mask({*INIT, "NET_BIND_SERVICE"})
    assert kernel["NoNewPrivs"] == "1"


def test_nginx_goes_on_after_a_reload_and_a_rotation_of_its_logs(machine: Host) -> None:
    before = machine.check_output("systemctl show --value --property MainPID nginx.service")
    machine.check_output("systemctl reload nginx.service")
    machine.check_output(f"{ROTATE} --force /etc/logrotate.d/nginx")
    # Plain HTTP on the port of HTTPS gets an answer, and a line in the log.
    asks = r"printf 'GET / HTTP/1.1\r\n\r\n' >&3; head --lines 1 <&3"
    log = machine.file("/var/log/nginx/access.log")
    assert (log.user, log.mode) == ("www-data", 0o640)
    # Its workers open the new log a moment after they are told to.
    deadline = time.monotonic() + 10
    while not any(line.startswith("127.0.0.1 ") for line in log.content_string.splitlines()):
        assert time.monotonic() < deadline, "no line in the new log"
        machine.check_output("timeout 5 bash -c %s", f"exec 3<>/dev/tcp/127.0.0.1/443; {asks}")
    assert machine.check_output("systemctl show --value --property MainPID nginx.service") == before


def test_large_logs_of_nginx_are_rotated_within_minutes(machine: Host) -> None:
    timer = machine.check_output("systemctl show --property TimersCalendar logrotate.timer")
    assert re.findall(r"OnCalendar=(\S+ \S+)", timer) == ["*-*-* *:00/5:00"]
    try:
        machine.check_output(f"truncate --size 201M /var/log/nginx/large.log && {ROTATE} /etc/logrotate.d/nginx")
        assert machine.file("/var/log/nginx/large.log").size == 0
        assert machine.file("/var/log/nginx/large.log.1").size == 201 << 20
    finally:
        machine.check_output("rm -f /var/log/nginx/large.log*")


def check_exposure(machine: Host, unit: str, text: str = "") -> None:
    """Asserts that a unit is confined well enough, and as the docs say.

    Args:
        machine: The host.
        unit: The unit's name.
        text: What is in its file, where the host has none.
    """
    if text:
        machine.check_output(f"mkdir -p /run/units; printf %%s %s >/run/units/{unit}", text)
    target = f"--offline=true /run/units/{unit}" if text else unit
    verdict = machine.check_output(f"systemd-analyze security --no-pager {target}").splitlines()[-1]
    figure = re.findall(r": ([0-9.]+) ", verdict)[0]
    assert float(figure) <= 5.0, verdict
    rows = re.findall(rf"^\| `{unit}` \| ([^|]+) \|", UNITS.read_text(), re.MULTILINE)
    assert figure in rows[0].replace(",", "").split(), verdict


@on_machines
def test_units_are_as_confined_as_the_docs_say(machine: Host) -> None:
    listed = machine.check_output("systemctl list-unit-files --no-legend 'pryv-*.service' nginx.service").splitlines()
    assert len(listed) >= 2
    # Those of packages that a host may have for nothing: the ones that it knows of.
    theirs = "mtail.service 'prometheus*.service' restic-rest-server.service"
    listed += machine.check_output(f"systemctl list-units --all --plain --no-legend {theirs}").splitlines()
    for line in listed:
        check_exposure(machine, line.split()[0])


@pytest.mark.parametrize("unlock", ["tpm2", "tang", "keyfile", "operator"])
def test_units_of_data_disks_are_as_confined_as_the_docs_say(machine: Host, unlock: str) -> None:
    for template in (CHECKOUT / "roles/data_disk/templates/root/etc/systemd/system").glob("*.service.j2"):
        variables = {
            "data_disk_unlock": unlock,
            "data_disk_keyfile": "/etc/pryv/data_disk/key",
            "pryv_data_directory": "/srv/pryv",
            "data_disk_volume": {"uuid": "u"},
        }
        text = jinja2.Template(template.read_text(), trim_blocks=True, lstrip_blocks=True).render(variables)
        check_exposure(machine, template.stem, text)


def test_unit_that_undoes_changes_is_as_confined_as_the_docs_say(machine: Host) -> None:
    check_exposure(machine, "config_tree-undo.service", UNDO_SERVICE.format(script="script"))


def test_ssh_takes_keys_alone_and_forwards_to_hosts_behind_alone(machine: Host, platform: Platform) -> None:
    behind = platform.topology["hosts"][machine.check_output("hostname")]["leads_to"]
    settings = dict(line.split(" ", 1) for line in machine.check_output("sshd -T").splitlines() if " " in line)
    expected = {
        "authenticationmethods": "publickey",
        "passwordauthentication": "no",
        "kbdinteractiveauthentication": "no",
        "disableforwarding": "no" if behind else "yes",
        "allowtcpforwarding": "local" if behind else "no",
        "permitopen": " ".join(behind) or "any",
        "allowagentforwarding": "no",
        "allowstreamlocalforwarding": "no",
        "x11forwarding": "no",
    }
    assert {name: settings[name] for name in expected} == expected
    assert settings["permitrootlogin"] in {"no", "without-password"}
    assert machine.file("/etc/ssh/sshd_config").mode == 0o600


def test_only_security_updates_install_themselves_and_never_reboot(machine: Host) -> None:
    dumped = machine.check_output("apt-config dump Unattended-Upgrade").splitlines()
    origins = [line for line in dumped if re.match(r"Unattended-Upgrade::(Origins-Pattern|Allowed-Origins)::", line)]
    assert origins
    assert all("security" in origin for origin in origins), origins
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in dumped
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
        assert machine.service(timer).is_running, timer
    # An update of a library restarts neither Docker nor, with it, containers.
    script = (
        'our %nrconf; do "/etc/needrestart/conf.d/pryv.conf"; my $rules = $nrconf{override_rc}; '
        'print grep("docker.service" =~ $_ && !$rules->{$_}, keys %$rules) ? "kept" : "restarted"'
    )
    assert machine.check_output("perl -e %s", script) == "kept"


@on_machines
def test_nothing_keeps_an_image_of_memory(machine: Host) -> None:
    assert machine.check_output("systemctl show --property DefaultLimitCORE --value") == "0"
    assert machine.check_output("su --login ops --command 'ulimit -H -c'") == "0"


@on_machines
def test_the_journal_outlives_a_reboot_within_limits(machine: Host) -> None:
    assert machine.check_output("find /var/log/journal -name system.journal") != ""
    assert machine.file("/etc/systemd/journald.conf").contains("^SystemMaxUse=[0-9]*M$")


@on_machines
def test_the_kernel_takes_no_redirects_and_forwards_for_containers(machine: Host) -> None:
    expected = {
        "net.ipv4.conf.all.accept_redirects": 0,
        "net.ipv4.conf.all.send_redirects": 0,
        "net.ipv4.conf.all.rp_filter": 1,
        "net.ipv4.tcp_syncookies": 1,
        "net.ipv4.ip_forward": 1,
    }
    assert {name: machine.sysctl(name) for name in expected} == expected


@on_machines
def test_nothing_is_executed_where_everybody_may_write(machine: Host) -> None:
    places = machine.check_output("findmnt --noheadings --output TARGET /tmp; echo /dev/shm").split()
    # Elsewhere, /tmp may be a folder of the system's disk.
    assert len(places) == 2 or machine.system_info.codename != "trixie"
    for place in places:
        assert {"nosuid", "nodev", "noexec"} <= set(machine.mount_point(place).options), place


def test_an_account_is_shut_after_wrong_passwords(machine: Host) -> None:
    auth = machine.file("/etc/pam.d/common-auth").content_string
    assert "pam_faillock.so preauth" in auth
    assert "nullok" not in auth


def test_containers_were_made_for_the_authority_that_the_host_trusts(machine: Host) -> None:
    """They mount it as a file, which stays the old one for as long as they are there."""
    seen = machine.run(
        "docker ps --quiet --filter volume=/etc/pryv/tls/ca.pem | xargs --no-run-if-empty docker inspect "
        """--format '{{.Name}} {{index .Config.Labels "com.pryv.authority"}}'"""
    )
    authority = hashlib.sha256(machine.file("/etc/pryv/tls/ca.pem").content_string.strip().encode()).hexdigest()
    assert {digest for _, digest in map(str.split, seen.stdout.splitlines())} <= {authority}, seen.stdout
    assert seen.stdout or not machine.file("/etc/pryv/core").exists
