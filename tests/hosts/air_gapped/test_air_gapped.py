"""The platform of a host that reaches nothing but the controller's network: that this is so."""

from __future__ import annotations

from testinfra.host import Host

#: Tells how a TCP connection fails, by the error's name.
CONNECT = """
import errno, socket, sys
for family, address in ((socket.AF_INET, sys.argv[1]), (socket.AF_INET6, sys.argv[2])):
    with socket.socket(family) as connection:
        connection.settimeout(5)
        print(errno.errorcode.get(connection.connect_ex((address, 443)), "connected"))
"""
#: Addresses of the Internet that answer wherever there is a way to it.
OUTSIDE = ("1.1.1.1", "2606:4700:4700::1111")


def test_host_has_no_way_out(machine: Host) -> None:
    assert machine.check_output("ip -4 route show default; ip -6 route show default") == ""
    assert machine.check_output("python3 -c %s %s %s", CONNECT, *OUTSIDE).split() == ["ENETUNREACH", "ENETUNREACH"]
    assert machine.run("getent ahosts deb.debian.org").rc == 2


def test_probe_can_connect(machine: Host) -> None:
    """The control: the same probe gets through where something listens."""
    assert machine.check_output("python3 -c %s 127.0.0.1 ::1", CONNECT).split()[0] == "connected"


def test_containers_have_no_way_out(machine: Host) -> None:
    for name in machine.check_output("docker ps --format '{{.Names}}'").split():
        answer = machine.run("docker exec %s python3 -c %s %s %s", name, CONNECT, *OUTSIDE)
        assert answer.rc == 0, f"{name}: {answer.stderr}"
        assert "connected" not in answer.stdout.split(), name


def test_packages_cannot_be_fetched(machine: Host) -> None:
    update = machine.run("apt-get --option Acquire::Retries=0 --error-on=any update")
    assert update.rc != 0, update.stdout
