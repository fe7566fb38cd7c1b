"""The survey reads what the kernel says, on this machine and in the forms that other machines have."""

import json
import socket
import subprocess
import sys
import time
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from plugins.modules import machine_survey

ANY_ADDRESS = str(IPv4Address(0))
MODULE = Path(machine_survey.__file__)


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
            [sys.executable, MODULE],
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
    assert 0 < found["os_free_gb"] < found["os_disk_gb"]


def test_a_mounted_data_directory_is_the_data_disk() -> None:
    size, device = machine_survey.data_disk("/proc", None)
    assert (size, device) == (0, None)
