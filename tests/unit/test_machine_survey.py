"""The survey reads what the kernel says, on this machine and in the forms that other machines have."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import machine_survey_docker, machine_survey_firewalls

from plugins.modules import machine_survey

ANY_ADDRESS = str(IPv4Address(0))
ROOT = Path(__file__).parents[2]
#: Runs it where what it imports is found, as on a host.
AS_MODULE = "import tests.conftest; from plugins.modules import machine_survey; machine_survey.main()"


def test_os_release() -> None:
    text = "PRETTY_NAME=\"Ubuntu 24.04.3 LTS\"\nID=ubuntu\n# comment=x\nVERSION_ID='24.04'\n\n"
    assert machine_survey.os_release(text) == {
        "PRETTY_NAME": "Ubuntu 24.04.3 LTS",
        "ID": "ubuntu",
        "VERSION_ID": "24.04",
    }


@pytest.mark.skipif(sys.byteorder != "little", reason="the texts are a little-endian kernel's")
@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F", "127.0.0.1"),
        ("00000000", ANY_ADDRESS),
        ("00000000000000000000000000000000", "::"),
        ("00000000000000000000000001000000", "::1"),
        ("0000000000000000FFFF00000100007F", "127.0.0.1"),
        ("B80D0120000000000000000001000000", "2001:db8::1"),
    ],
)
def test_addresses_of_the_kernel(text: str, address: str) -> None:
    assert machine_survey.address_of(text) == address


def test_own_addresses() -> None:
    text = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.77.10.0
        /24 link UNICAST
     |-- 10.77.10.11
        /32 host LOCAL
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 10.77.10.255
        /32 link BROADCAST
"""
    assert machine_survey.own_addresses(text) == ["10.77.10.11"]


@pytest.mark.parametrize(
    ("flags", "interface", "found"),
    [("00450003", "eth0", ["eth0"]), ("00000003", "eth0", []), ("00200200", "lo", [])],
    ids=["advertised", "static", "none"],
)
def test_default_routes_that_the_kernel_has_from_advertisements(flags: str, interface: str, found: list[str]) -> None:
    zero, router = "0" * 32, "fe80".ljust(31, "0") + "1"
    lines = [f"{zero} 00 {zero} 00 {router} 00000400 00000001 00000000 {flags}     {interface}"]
    # A network that an advertisement names is no route out of it.
    lines.append(f"20010db8{'0' * 24} 40 {zero} 00 {zero} 00000100 00000001 00000000 00040001     eth1")
    assert machine_survey.advertised("\n".join(lines)) == found


def processes(root: Path, *chain: tuple[str, int, int]) -> int:
    """Write processes, each the child of the one before, with name, user and effective user; the id of the last."""
    for number, (name, user, effective) in enumerate(chain, 1):
        (root / str(number)).mkdir()
        text = f"Name:\t{name}\nPPid:\t{number - 1}\nUid:\t{user}\t{effective}\t{effective}\t{effective}\n"
        (root / str(number) / "status").write_text(text)
    return len(chain)


LOGIN = (("systemd", 0, 0), ("sshd", 0, 0), ("sshd-session", 1000, 1000), ("sh", 1000, 1000))


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ((*LOGIN, ("sudo", 0, 0), ("sh", 0, 0), ("python3", 0, 0)), (1000, "sudo")),
        ((*LOGIN, ("sudo", 1000, 0), ("sudo", 0, 0), ("python3", 0, 0)), (1000, "sudo")),
        ((*LOGIN, ("su", 1000, 0), ("sh", 0, 0), ("python3", 0, 0)), (1000, "su")),
        ((*LOGIN, ("python3", 1000, 1000)), (1000, None)),
        ((*LOGIN[:2], ("sshd-session", 0, 0), ("sudo", 0, 0), ("python3", 0, 0)), (0, None)),
    ],
)
def test_who_logged_in_and_what_made_them_root(
    tmp_path: Path, chain: tuple[tuple[str, int, int], ...], expected: tuple[int, str | None]
) -> None:
    assert machine_survey.origin(processes(tmp_path, *chain), tmp_path) == expected


MOUNTS = r"""21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 8:2 / /srv rw,nodev - xfs /dev/sda2 rw
23 22 0:9 / /srv/with\040space ro - nfs4 files:/ rw
24 21 0:7 / /srvother rw - tmpfs tmpfs rw
25 22 8:3 / /srv rw,noatime - ext4 /dev/sda3 rw
"""


@pytest.mark.parametrize(
    ("directory", "device", "filesystem", "options"),
    [
        ("/srv/nowhere", None, "ext4", ["rw", "noatime"]),
        ("/srv/with space/pryv", None, "nfs4", ["ro"]),
        ("/opt/pryv", None, "ext4", ["rw", "relatime"]),
        ("/srv/nowhere", "/dev/sdb", None, []),
        ("/srvother", "/dev/sdb", "tmpfs", ["rw"]),
    ],
)
def test_the_file_system_that_data_will_lie_on(
    directory: str, device: str | None, filesystem: str | None, options: list[str]
) -> None:
    place = machine_survey.data_place(directory, MOUNTS, device)
    assert (place["filesystem"], place["options"], place["link"]) == (filesystem, options, None)


def test_links_and_files_where_data_should_lie(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    look = [machine_survey.data_place(str(tmp_path / name), MOUNTS, None) for name in ("link/pryv", "link", "file")]
    assert [place["link"] for place in look] == [str(tmp_path / "link"), str(tmp_path / "link"), None]
    assert [place["leads_to"] for place in look] == [str(tmp_path / "real"), str(tmp_path / "real"), None]
    assert [place["is_file"] for place in look] == [False, False, True]


TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
        /1 universe UNICAST
     |-- 10.77.10.0
        /24 link UNICAST
     |-- 10.77.10.11
        /32 host LOCAL
     |-- 172.16.0.0
        /12 universe UNICAST
     |-- 172.29.128.0
        /26 link UNICAST
     |-- 198.51.100.0
        /24 universe BLACKHOLE
"""
INTERFACES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t000A4D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
br-0123456789ab\t00801DAC\t00000000\t0001\t0\t0\t0\tC0FFFFFF\t0\t0\t0
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the texts are a little-endian kernel's")
def test_routes_are_all_but_the_default_ones_and_dockers() -> None:
    assert machine_survey.routes(TRIE, INTERFACES) == ["10.77.10.0/24", "172.16.0.0/12"]


def nft(*content: dict[str, Any]) -> list[dict[str, Any]]:
    """What others' firewalls come to, of entries of the ruleset."""
    return machine_survey_firewalls.firewalls(machine_survey_firewalls.nft_tables([{"metainfo": {}}, *content]))


def chain(
    table: str, name: str, hook: str | None = None, policy: str = "accept", family: str = "inet"
) -> dict[str, Any]:
    hooked = {"type": "filter", "hook": hook, "prio": 0, "policy": policy} if hook else {}
    return {"chain": {"family": family, "table": table, "name": name, **hooked}}


def rule(table: str, name: str, *expressions: dict[str, Any], family: str = "inet") -> dict[str, Any]:
    return {"rule": {"family": family, "table": table, "chain": name, "expr": list(expressions)}}


def dport(right: Any, protocol: str = "tcp") -> dict[str, Any]:
    return {"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": "dport"}}, "right": right}}


ACCEPT, DROP = {"accept": None}, {"drop": None}


def test_a_chain_that_drops_by_its_policy_and_what_it_opens() -> None:
    table = [chain("company", "input", "input", "drop"), chain("company", "forward", "forward", "drop")]
    table += [
        {
            "set": {
                "family": "inet",
                "table": "company",
                "name": "ports",
                "type": "inet_service",
                "elem": [25, {"elem": {"val": 26}}],
            }
        }
    ]
    rules = [
        rule("company", "input", dport(22), {"counter": {}}, ACCEPT),
        rule("company", "input", dport({"set": [80, {"range": [443, 444]}]}), ACCEPT),
        rule("company", "input", dport("@ports"), ACCEPT),
        rule("company", "input", dport(53, "th"), ACCEPT),
        rule("company", "input", dport(23), DROP),
        rule(
            "company",
            "input",
            {
                "vmap": {
                    "key": {"payload": {"protocol": "tcp", "field": "dport"}},
                    "data": {"set": [[993, ACCEPT], [994, DROP]]},
                }
            },
        ),
    ]
    opened = ["tcp/22", "tcp/25", "tcp/26", "tcp/443-444", "tcp/53", "tcp/80", "tcp/993", "udp/53"]
    assert nft(*table, *rules) == [
        {"name": "table inet company", "hook": "input", "open": opened},
        {"name": "table inet company", "hook": "forward", "open": opened},
    ]


def test_a_chain_that_drops_by_a_rule_its_own_or_of_another_chain() -> None:
    assert nft(chain("a", "in", "input"), rule("a", "in", {"counter": {}}, {"reject": {"type": "icmpx"}}))
    assert nft(chain("a", "in", "input"), rule("a", "in", {"xt": {"type": "target", "name": "REJECT"}}))
    jumps = [rule("a", "in", {"jump": {"target": "end"}}), rule("a", "end", {"log": None}, DROP)]
    assert nft(chain("a", "in", "input"), chain("a", "end"), *jumps)
    loop = [rule("a", "in", {"jump": {"target": "end"}}), rule("a", "end", {"jump": {"target": "in"}})]
    assert nft(chain("a", "in", "input"), chain("a", "end"), *loop) == []


def test_chains_that_drop_some_packets_or_see_others_are_nobodys_firewall() -> None:
    state = {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "invalid"}}
    assert nft(chain("a", "in", "input"), rule("a", "in", state, DROP)) == []
    assert nft(chain("a", "in", "input"), rule("a", "in", {"limit": {"rate": 1}}, DROP)) == []
    assert nft(chain("a", "in", "input"), rule("a", "in", {"xt": None}, DROP)) == []
    assert nft(chain("a", "out", "output", "drop"), chain("a", "named"), rule("a", "named", DROP)) == []


def test_our_own_table_and_dockers_are_not_foreign() -> None:
    ours = [chain("pryv", "input", "input", "drop"), chain("pryv", "forward", "forward", "drop")]
    dockers = [chain("filter", "FORWARD", "forward", "drop", family) for family in ("ip", "ip6")]
    newer = [chain("docker-bridges", "filter-FORWARD", "forward", "drop", "ip")]
    assert nft(*ours, *dockers, *newer) == []


UFW = """# Generated by iptables-save
*nat
:PREROUTING ACCEPT [0:0]
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-user-input - [0:0]
-A INPUT -j ufw-user-input
-A ufw-user-input -p tcp -m tcp --dport 22 -m comment --comment "what's open" -j ACCEPT
-A ufw-user-input -p udp -m multiport --dports 53,60000:60001 -j ACCEPT
-A ufw-user-input -p tcp -m tcp --dport 23 -j DROP
COMMIT
"""


def test_iptables_and_who_has_written_its_rules() -> None:
    tables = machine_survey_firewalls.iptables_tables(UFW, "ip")
    opened = ["tcp/22", "udp/53", "udp/60000-60001"]
    assert machine_survey_firewalls.firewalls(tables) == [{"name": "ufw", "hook": "input", "open": opened}]


@pytest.mark.parametrize(
    ("rule", "drops"),
    [
        ("-A INPUT -j DROP", True),
        ("-A INPUT -m comment --comment end -j REJECT --reject-with icmp-host-prohibited", True),
        ("-A INPUT -s 192.0.2.0/24 -j DROP", False),
        ("-A INPUT -j LOG --log-prefix drop", False),
    ],
)
def test_a_last_rule_of_iptables_that_drops(rule: str, drops: bool) -> None:
    tables = machine_survey_firewalls.iptables_tables(f"*filter\n:INPUT ACCEPT [0:0]\n{rule}\nCOMMIT\n", "ip")
    assert bool(machine_survey_firewalls.firewalls(tables)) is drops


def test_options_of_dockers_daemon_by_the_file_that_sets_them(tmp_path: Path) -> None:
    folder = tmp_path / "etc/systemd/system/docker.service.d"
    folder.mkdir(parents=True)
    (folder / "proxy.conf").write_text("[Service]\nEnvironment=HTTPS_PROXY=http://user:secret@proxy:3128\n")
    (folder / "flags.conf").write_text(
        "[Service]\nExecStart=\nExecStart=dockerd -H fd:// \\\n  -H tcp://0.0.0.0:2375 --log-opt=s=1 -g /x\n"
    )
    (tmp_path / "etc/default").mkdir()
    (tmp_path / "etc/default/docker").write_text(
        '#DOCKER_OPTS="--dns 8.8.8.8"\nDOCKER_OPTS="--bip=192.168.1.1/24 --icc=false"\n'
    )
    assert machine_survey_docker.daemon_flags(tmp_path) == {
        "/etc/systemd/system/docker.service.d/flags.conf": [
            *("--host=fd://", "--host=tcp://0.0.0.0:2375", "--log-opt", "--data-root")
        ],
        "/etc/default/docker": ["--bip", "--icc"],
    }


def test_containers_are_known_without_asking_docker(tmp_path: Path) -> None:
    for name, text in (("0" * 64, json.dumps({"Name": "/app", "Config": {"Image": "legacy:1"}})), ("1" * 64, "{")):
        (tmp_path / "containers" / name).mkdir(parents=True)
        (tmp_path / "containers" / name / "config.v2.json").write_text(text)
    assert machine_survey_docker.containers(tmp_path) == [
        {"name": "app", "image": "legacy:1"},
        {"name": "1" * 12, "image": "?"},
    ]


@pytest.mark.parametrize(
    ("text", "keys"), [('{"bip": 1}', {"bip": 1}), ("", {}), ("{", None), ("[]", None), (None, {})]
)
def test_settings_of_dockers_daemon(tmp_path: Path, text: str | None, keys: dict[str, Any] | None) -> None:
    file = tmp_path / "daemon.json"
    if text is not None:
        file.write_text(text)
    assert machine_survey_docker.daemon_settings(file) == keys


def test_who_holds_a_lock_of_apts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    monkeypatch.setattr(machine_survey, "APT_LOCKS", (str(lock), str(tmp_path / "none")))
    held = f"1: POSIX  ADVISORY  WRITE {os.getpid()} 08:01:{lock.stat().st_ino} 0 EOF\n"
    assert machine_survey.apt_lock(held) == Path("/proc/self/comm").read_text().strip()
    assert machine_survey.apt_lock(held.replace(f":{lock.stat().st_ino} ", ":1 ")) is None


def test_this_machine() -> None:
    arguments = {"data_directory": "/nowhere", "data_device": "/dev/nothing", "controller_time": time.time() - 100}
    with (
        socket.socket() as open_to_all,
        socket.socket() as local,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        open_to_all.bind((ANY_ADDRESS, 0))
        open_to_all.listen()
        local.bind(("127.0.0.1", 0))
        local.listen()
        datagrams.bind((ANY_ADDRESS, 0))
        result = subprocess.run(
            [sys.executable, "-c", AS_MODULE],
            cwd=ROOT,
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            capture_output=True,
            text=True,
            check=True,
        )
        sockets = (("tcp", open_to_all), ("tcp", local), ("udp", datagrams))
        ports = [(kind, *sock.getsockname()) for kind, sock in sockets]
    answer = json.loads(result.stdout)
    found = answer["survey"]
    listening = {(one["protocol"], one["address"], one["port"]): one["process"] for one in found["listeners"]}
    assert answer["changed"] is False
    assert all("python" in listening[port] or "pytest" in listening[port] for port in ports)
    assert found["data_disk_gb"] is None
    assert found["data_device_found"] is False
    assert 99 < found["clock_offset"] < 160
    assert found["cpus"] >= 1
    assert found["ram_mb"] > 100
    facts = answer["ansible_facts"]
    assert (facts["processor_nproc"], facts["memtotal_mb"]) == (found["cpus"], found["ram_mb"])
    assert facts["distribution"].lower() == found["system"]["ID"]
    assert 0 < found["os_free_gb"] < found["os_disk_gb"]


def test_a_mounted_data_directory_is_the_data_disk() -> None:
    size, device = machine_survey.data_disk("/proc", None)
    assert (size, device) == (0, None)


def test_it_tells_each_fact_that_roles_read() -> None:
    """Where preflight has asked a host, nobody else does."""
    roles = Path(__file__).parents[2] / "roles"
    files = [file for kind in ("yml", "j2") for file in roles.rglob(f"*.{kind}")]
    read = {name for file in files for name in re.findall(r"\bansible_facts\.(\w+)", file.read_text())}
    assert read
    assert read <= set(machine_survey.facts({"ID": "debian", "VERSION_ID": "13"}))


@pytest.mark.parametrize(
    ("now", "later", "closed"),
    [
        ("rw,nosuid,nodev,noexec", "nosuid,nodev,noexec", True),
        ("rw,nosuid,nodev,noexec", None, False),
        ("rw,nosuid,nodev", "nosuid,nodev,noexec", False),
        ("rw,nosuid,nodev,noexec", "defaults", False),
    ],
)
def test_shared_memory_is_closed_now_and_after_the_next_boot(now: str, later: str | None, *, closed: bool) -> None:
    mounts = f"31 25 0:26 / /dev rw - tmpfs udev rw\n32 31 0:27 / /dev/shm {now} shared:3 - tmpfs tmpfs rw\n"
    table = "# <file system>\n\nUUID=1 / ext4 defaults 0 1\n" + (f"tmpfs /dev/shm tmpfs {later} 0 0\n" if later else "")
    assert machine_survey.shared_memory_is_closed(mounts, table) is closed


def test_packages_that_are_installed_alone() -> None:
    said = "installed adduser\nconfig-files mail\ninstalled zlib1g\n"
    assert machine_survey.packages(lambda _: (0, said, "")) == ["adduser", "zlib1g"]
