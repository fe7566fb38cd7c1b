"""A certificate that is replaced while clients are connected."""

from __future__ import annotations

import os
import ssl
import sys
import threading
from pathlib import Path

from cryptography import x509

from tests.fleet import fleet
from tests.hosts.conftest import MARK, Platform, new_mark


def serial(connection: ssl.SSLSocket) -> int:
    """The number of the certificate that a host showed."""
    shown = connection.getpeercert(binary_form=True)
    assert shown
    return x509.load_der_x509_certificate(shown).serial_number


def replace_certificate(platform: Platform, core: str) -> None:
    """Has the development CA sign another certificate, and places it as an operator does."""
    (platform.inventory / "ca/platform.pem").unlink()
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [str(program), "site.yml", "--tags", "certificate", "--limit", core]
    os.environ.update(fleet.environment(), ANSIBLE_CONFIG=str(fleet.CHECKOUT / "ansible.cfg"))
    fleet.run([*command, "--inventory", str(platform.inventory)])


def test_new_certificate_cuts_no_connection(platform: Platform) -> None:
    core, mark, piece = platform.hosts("core")[0], new_mark(), bytes(1024)
    name, replaced = f"somebody.{platform.domain}", threading.Event()
    with platform.tls(core, name) as upload, platform.tls(core, name) as websocket:
        old = serial(upload)
        websocket.sendall(
            f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {name}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        talk = websocket.makefile("rb")
        assert talk.readline().startswith(b"HTTP/1.1 101 ")
        while talk.readline().strip():
            pass
        greeting = talk.read(2)
        talk.read(greeting[1])

        upload.sendall(
            f"POST /events HTTP/1.1\r\nHost: {name}\r\nTransfer-Encoding: chunked\r\n{MARK}: {mark}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        sent = 0

        def trickle() -> None:
            nonlocal sent
            while not replaced.wait(1):
                upload.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                sent += len(piece)

        client = threading.Thread(target=trickle)
        client.start()
        try:
            replace_certificate(platform, core)
        finally:
            replaced.set()
            client.join()
        with platform.tls(core, name) as later:
            assert serial(later) != old

        upload.sendall(b"0\r\n\r\n")
        assert upload.recv(1024).startswith(b"HTTP/1.1 404 "), "there is no such user"
        websocket.sendall(b"\x81\x86\0\0\0\0" + b"2probe")
        frame = talk.read(3)
        while frame == b"\x81\x01" + b"2":  # the server asks, too, every 25 seconds
            frame = talk.read(3)
        assert frame + talk.read(5) == b"\x81\x06" + b"3probe"
    record = platform.received([mark])[mark]
    assert record["size"] == sent > 0
    assert record["seconds"] > 2
