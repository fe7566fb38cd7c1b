"""What tests of nginx beside Express need: both, running, nginx with what the roles render for a sample platform."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar

from pryv_platform.topology.derivation import derive
from tests.templates import trusted

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
DOMAIN = "sample.test"
GROUPS = {"all": ["co1", "reg1", "web1"], "core": ["co1"], "zone_ch": ["co1"], "registry": ["reg1"], "web": ["web1"]}
#: Of the loopback, and unlike other addresses of it one of administrators.
ADMINISTRATOR = "127.0.0.2"
#: Ports of the services in the rendered configuration, and what stands behind each in the test.
SERVICES = {3000: "core", 4000: "hfs", 7000: "mfa", 9000: "register", 9025: "mail", 9100: "preview"}


@functools.cache
def _renderer() -> Any:
    """The class by which config_tree renders on the controller."""
    init_plugin_loader()
    location = CHECKOUT / "plugins/action/config_tree.py"
    specification = importlib.util.spec_from_file_location("config_tree_action", location)
    assert specification
    assert specification.loader
    plugin = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = plugin
    specification.loader.exec_module(plugin)
    return plugin.Renderer


def render(role: str, host: str, **variables: Any) -> dict[str, str]:
    """What a role puts under /etc/nginx on a host of the sample platform: texts by path."""
    hosts = {
        "co1": {"ansible_host": "192.0.2.11", "privacy_zone": "ch"},
        "reg1": {"ansible_host": "192.0.2.21"},
        "web1": {"ansible_host": "192.0.2.31"},
    }
    shared = {"pryv_domain": DOMAIN, "pryv_environment": "production", "pryv_admin_networks": ["192.0.2.64/26"]}
    folder = CHECKOUT / "roles" / role
    merged: dict[str, Any] = {}
    for part in ("pryv/defaults", "pryv/vars", f"{role}/defaults", f"{role}/vars"):
        path = CHECKOUT / "roles" / part / "main.yml"
        merged |= yaml.safe_load(path.read_text()) if path.exists() else {}
    merged |= {
        **shared,
        **hosts[host],
        "inventory_hostname": host,
        "groups": GROUPS,
        "topology": derive(GROUPS, {name: {**shared, **own} for name, own in hosts.items()}),
        "pryv_system": "debian-12",
        "docker_container_network": "172.30.0.0/15",
        "core_processes": 1,
        "core_hfs_processes": 1,
        "ansible_search_path": [str(folder)],
        **variables,
    }
    loader = DataLoader()
    merged = trusted(merged)
    action = SimpleNamespace(_loader=loader, _templar=Templar(loader=loader, variables=merged))
    renderer = _renderer()(action, folder / "templates/root", [], {}, merged)
    return {
        target: renderer._render(target).decode() for target in renderer._sources if target.startswith("/etc/nginx/")
    }


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nothing listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def wait_for(port: int) -> None:
    """Waits until something listens.

    Raises:
        OSError: Nothing does within 10 seconds.
    """
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: HTTP status code; 0 for a connection that was closed without an answer.
        headers: Values by lower-case name.
        body: The body.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def service(self) -> str:
        """The service that the request arrived at; empty when at none."""
        return self.headers.get("x-service", "")

    @property
    def route(self) -> str:
        """The route that Express took it for."""
        return self.headers.get("x-route", "")

    @property
    def host(self) -> str:
        """The host name that arrived: that of a target with one, or else the Host header's."""
        return bytes.fromhex(self.headers.get("x-host", "")).decode("latin-1")


class Client:
    """Sends requests as they are given, byte by byte, over a connection that is kept while the other end does.

    Args:
        port: Of the loopback.
        address: What to connect from.
    """

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        """Opens nothing yet."""
        self._port = port
        self._address = address
        self._socket: socket.socket | None = None
        self._stream: Any = None

    def ask(self, method: str, target: bytes, host: str, body: bytes = b"", kind: str = "") -> Answer:
        """Sends a request.

        Args:
            method: HTTP method.
            target: The request target, which is not checked in any way.
            host: The Host header.
            body: The body.
            kind: Its Content-Type.
        """
        head = f" HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n" + (
            f"Content-Type: {kind}\r\n\r\n" if kind else "\r\n"
        )
        message = method.encode() + b" " + target + head.encode() + body
        kept = self._socket is not None
        try:
            answer = self._exchange(method, message)
        except OSError:
            answer = Answer(0)
        if answer.status == 0 and kept:
            # It was closed meanwhile.
            self.close()
            try:
                answer = self._exchange(method, message)
            except OSError:
                answer = Answer(0)
        if answer.status == 0 or answer.headers.get("connection", "").lower() == "close":
            self.close()
        return answer

    def _exchange(self, method: str, message: bytes) -> Answer:
        if self._socket is None:
            self._socket = socket.create_connection(
                ("127.0.0.1", self._port), timeout=10, source_address=(self._address, 0)
            )
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._stream = self._socket.makefile("rb")
        self._socket.sendall(message)
        first = self._stream.readline()
        if not first:
            return Answer(0)
        headers = {}
        for line in iter(self._stream.readline, b"\r\n"):
            if not line:
                return Answer(0)
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding") == "chunked":
            body = b"".join(self._stream.read(size + 2)[:-2] for size in self._chunks())
        else:
            body = b"" if method == "HEAD" else self._stream.read(int(headers.get("content-length", 0)))
        return Answer(int(first.split()[1]), headers, body)

    def _chunks(self) -> Iterator[int]:
        while size := int(self._stream.readline(), 16):
            yield size
        self._stream.readline()

    def close(self) -> None:
        """Closes the connection."""
        if self._socket is not None:
            self._stream.close()
            self._socket.close()
            self._socket = None


@dataclass(frozen=True)
class Doors:
    """The same services asked twice.

    Attributes:
        mfa_mode: The core's setting.
        through: Through nginx.
        administrator: The same from an address of administrators.
        straight: Each service by itself, by its name.
    """

    mfa_mode: str
    through: Client
    administrator: Client
    straight: Mapping[str, Client]


@pytest.fixture(scope="session")
def nginx() -> str:
    """The program, installed where there is none, as are Node.js and Express."""
    return subprocess.run([HERE / "install"], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="session")
def oracle(nginx: str) -> Iterator[dict[str, int]]:
    """Express with Pryv's routes: a port for each service."""
    assert nginx
    ports = dict(zip(SERVICES.values(), free_ports(len(SERVICES)), strict=True))
    with subprocess.Popen(
        ["node", "oracle.js", json.dumps(ports)], cwd=HERE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield ports
        process.terminate()


def unlimited() -> dict[str, dict[str, int]]:
    """Limits that a test does not meet."""
    defaults = yaml.safe_load((CHECKOUT / "roles/nginx/defaults/main.yml").read_text()).get("nginx_limits", {})
    return {name: {"per_minute": 6000000, "burst": 100000} for name in defaults}


def start(
    nginx: str, folder: Path, oracle: Mapping[str, int], mfa_mode: str, limits: Mapping[str, Any]
) -> Iterator[int]:
    """Runs nginx with what the roles render, on a port of the loopback, without TLS, and yields the port.

    What else differs from a host: where files are, and which ports the services have.
    """
    (port,) = free_ports(1)
    rendered = {
        **render("nginx", "co1", nginx_limits=limits),
        **render("core", "co1", core_mfa_mode=mfa_mode),
        **render("registry", "reg1", pryv_admin_networks=[ADMINISTRATOR]),
        **render("mail", "reg1"),
    }
    # Streams are not asked here.
    del rendered["/etc/nginx/streams.d/registry.conf"]
    for target, content in rendered.items():
        text = re.sub(r"listen \[::\][^;]*;", "", content)
        text = re.sub(r"listen (?:443|80)[^;]*?( default_server)?;", rf"listen 127.0.0.1:{port}\1;", text)
        text = re.sub(r"^ *(?:ssl_\w+|http2) [^;]*;", "", text, flags=re.MULTILINE)
        text = re.sub(r"127\.0\.0\.1:(\d+)", lambda found: _moved(found, oracle), text)
        text = text.replace("/etc/nginx/", f"{folder}/etc/nginx/").replace("/var/log/nginx/", f"{folder}/")
        if target == "/etc/nginx/nginx.conf":
            temporary = "".join(
                f"    {kind}_temp_path {folder}/{kind};\n"
                for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            text = text.replace("http {\n", f"http {{\n{temporary}").replace("/run/nginx.pid", f"{folder}/nginx.pid")
            text = re.sub(r"^user [^;]*;|^stream \{[^}]*\}", "", text, flags=re.MULTILINE)
        path = folder / target.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "etc/nginx/mime.types").write_text("")
    configuration = folder / "etc/nginx/nginx.conf"
    with subprocess.Popen([nginx, "-e", f"{folder}/error.log", "-c", configuration, "-g", "daemon off;"]) as process:
        try:
            wait_for(port)
            yield port
        finally:
            process.terminate()


def _moved(found: re.Match[str], oracle: Mapping[str, int]) -> str:
    service = SERVICES.get(int(found[1]))
    return f"127.0.0.1:{oracle[service]}" if service else found[0]


@pytest.fixture(scope="module", params=["disabled", "single"])
def doors(
    request: pytest.FixtureRequest, nginx: str, oracle: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Doors]:
    """A core, a registry and mail behind nginx, with and without a second factor."""
    for port in start(nginx, tmp_path_factory.mktemp("nginx"), oracle, request.param, unlimited()):
        straight = {service: Client(own) for service, own in oracle.items()}
        yield Doors(request.param, Client(port), Client(port, ADMINISTRATOR), straight)
