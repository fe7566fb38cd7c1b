"""What nginx lets through to which service, seen from both sides: as a client, and in what the stand-ins received."""

from __future__ import annotations

import http.client
import json
import re
import shlex
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.hosts.conftest import MARK, Answer, Platform, new_mark

USER = "somebody"
FORGED = "203.0.113.66"
#: What a client may claim about where it comes from and goes to.
CLAIMS = {
    "X-Forwarded-For": FORGED,
    "X-Real-IP": FORGED,
    "Forwarded": f"for={FORGED};host={FORGED}",
    "X-Forwarded-Host": FORGED,
    "X-Forwarded-Proto": FORGED,
}
MEBIBYTE = 1 << 20
HANDSHAKE = "/socket.io/?EIO=4&transport=polling"


@dataclass(frozen=True)
class Route:
    """A request, and where it must arrive.

    Attributes:
        host: Whom to ask.
        name: Under which name.
        method: HTTP method.
        path: Path with query.
        service: The stand-in that must get it.
        on: The host that it must get it on.
        arrives: The path that it must get.
    """

    host: str
    name: str
    method: str
    path: str
    service: str
    on: str
    arrives: str


def routes(platform: Platform) -> Iterator[Route]:
    """What the services of a platform have to be asked for."""
    for core in platform.hosts("core"):
        yield from routes_to_core(platform, core)
    yield from routes_to_registry(platform)
    domain, leader = platform.domain, platform.topology["leader"]
    yield Route(leader, f"adm.{domain}", "GET", "/", "admin-panel", leader, "/")
    for web in platform.hosts("web"):
        for name in (f"sw.{domain}", f"mfa.{domain}"):
            yield Route(web, name, "GET", "/access/access.html", "auth-pages", web, "/access/index.html")
            yield Route(web, name, "GET", "/access/static/app.js", "auth-pages", web, "/access/static/app.js")


def routes_to_core(platform: Platform, core: str) -> Iterator[Route]:
    """What a core's services have to be asked for."""
    domain = platform.domain
    mfa = platform.setting("core", "core_mfa_mode", core) != "disabled"
    # A user's name is in the host name, or a path's first segment.
    for name, user in ((f"{USER}.{domain}", ""), (f"{core}.{domain}", f"/{USER}")):
        for method, path, service, arrives in (
            ("GET", "/", "core", f"{user}/"),
            ("GET", "/events", "core", f"{user}/events"),
            ("POST", "/", "core", f"{user}/"),
            ("GET", "/events/series", "core", f"{user}/events/series"),
            ("POST", "/auth/logout", "core", f"{user}/auth/logout"),
            ("GET", "/events/abc/series", "hfs", f"{user}/events/abc/series"),
            ("POST", "/events/abc/series", "hfs", f"{user}/events/abc/series"),
            ("POST", "/series/batch", "hfs", f"{user}/series/batch"),
        ):
            yield Route(core, name, method, f"{user}{path}", service, core, arrives)
        preview = f"{user}/events/abc"
        yield Route(core, name, "GET", f"/previews{preview}?w=5", "preview", core, preview)
        yield Route(core, name, "GET", HANDSHAKE, "core", core, "/socket.io/")
    for path in ("/auth/login", "/auth/login/"):
        service, arrives = ("mfa", "/login") if mfa else ("core", path)
        yield Route(core, f"{USER}.{domain}", "POST", path, service, core, arrives)
    if mfa:
        yield Route(core, f"{USER}.{domain}", "POST", "/mfa/activate", "mfa", core, "/mfa/activate")
    for method, path in (("GET", "/"), ("POST", "/users")):
        yield Route(core, f"{core}.{domain}", method, path, "core", core, path)


def routes_to_registry(platform: Platform) -> Iterator[Route]:
    """What the registry's leader, and each follower in its place, has to be asked for."""
    domain, leader = platform.domain, platform.topology["leader"]
    for name in (f"{label}.{domain}" for label in ("reg", "reg2", "access", "service")):
        for method, path in (
            ("GET", "/service/info"),
            ("POST", "/users/validate"),
            ("GET", "/access/abc"),
            ("POST", f"/{USER}/server"),
        ):
            yield Route(leader, name, method, path, "register", leader, path)
        for follower in platform.topology["followers"]:
            yield Route(follower, name, "GET", "/service/info", "dns", follower, "/service/info")
            yield Route(follower, name, "POST", f"/{USER}/server", "dns", follower, f"/{USER}/server")
            for method, path in (("POST", "/users/validate"), ("GET", "/access/abc")):
                yield Route(follower, name, method, path, "register", leader, path)


def test_requests_arrive_where_they_belong_with_their_host_name_and_address(platform: Platform) -> None:
    marks = {new_mark(): route for route in routes(platform)}
    answers = {
        mark: platform.ask(route.host, route.name, route.path, route.method, {MARK: mark, **CLAIMS})
        for mark, route in marks.items()
    }
    received = platform.received(marks)
    clients = {host: platform.client(host) for host in {route.host for route in marks.values()}}
    wrong = {}
    for mark, route in marks.items():
        record = received.get(mark, {})
        headers = record.get("headers", {})
        expected = {
            "service": route.service,
            "on": route.on,
            "path": route.arrives,
            "host": route.name,
            "x-real-ip": clients[route.host],
            "x-forwarded-for": clients[route.host],
            "x-forwarded-host": route.name,
            "x-forwarded-proto": "https",
        }
        found = {key: headers.get(key) if key.startswith("x-") else record.get(key) for key in expected}
        claimed = [name for name, value in headers.items() if FORGED in value]
        if found != expected or claimed or answers[mark].process.partition("/")[0] != route.service:
            wrong[route] = (found, claimed, answers[mark].status, answers[mark].process)
    assert wrong == {}


def test_what_is_closed_is_closed_in_every_form(platform: Platform) -> None:
    """A few forms of many: tests/express has the others."""
    for core in platform.hosts("core"):
        own, user = f"{core}.{platform.domain}", f"{USER}.{platform.domain}"
        mfa = platform.setting("core", "core_mfa_mode", core) != "disabled"
        refused = [
            # Creating a user without a key is for the registry.
            (403, own, "/register/create-user"),
            (404, own, "/Register/create-user/"),
            (400, own, "//register//create-user"),
            (403, own, "/%72egister/create-user"),
            (400, user, "/register\\create-user#"),
            (404, user, "/users"),
            (404, user, "/system/create-user"),
            *(
                (status, name, path)
                for name in (own, user)
                for status, path in (
                    (404, f"/{USER}/auth/login"),
                    (404, f"/{USER}/Auth/Login/"),
                    (400, f"//{USER}//auth/login"),
                    (400, f"/{USER}/auth/login\\#"),
                )
            ),
            *([(400, user, "/auth/login\\#"), (404, user, "/AUTH/login")] if mfa else []),
        ]
        for status, name, path in refused:
            answer = platform.ask(core, name, path, "POST")
            assert (answer.status, answer.process) == (status, ""), (name, path)


def test_a_core_creates_users_under_its_own_name_alone(platform: Platform) -> None:
    for core in platform.hosts("core"):
        for other in (f"nowhere.{platform.domain}", f"co99.{platform.domain}", f"users.{platform.domain}"):
            with platform.tls(core, f"{core}.{platform.domain}") as connection:
                connection.sendall(
                    f"POST /users HTTP/1.1\r\nHost: {other}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
                )
                assert b"X-Standin" not in connection.recv(4096), other


# --- Uploads ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def core(platform: Platform) -> str:
    """One core; their proxies are made alike."""
    return platform.hosts("core")[0]


def upload(platform: Platform, core: str, size: int) -> tuple[Answer, int]:
    """Uploads a file of a size, in bytes; returns the answer and how much of it arrived."""
    mark = new_mark()
    answer = platform.ask(core, f"{USER}.{platform.domain}", "/events", "POST", {MARK: mark}, bytes(size))
    return answer, platform.received([mark]).get(mark, {}).get("size", 0)


def test_uploads_may_be_as_large_as_set_and_no_larger(platform: Platform, core: str) -> None:
    # The megabyte on top is for what surrounds a file in its request. A core looks at the size of JSON alone.
    most = (platform.setting("core", "core_upload_max_mb", core) + 1) * MEBIBYTE
    answer, arrived = upload(platform, core, most)
    assert answer.status != 413
    assert (bool(answer.process), arrived) == (True, most)
    mark = new_mark()
    with platform.tls(core, f"{USER}.{platform.domain}") as connection:
        connection.sendall(begin_upload(platform, mark, most + 1))
        assert b" 413 " in connection.recv(1024).split(b"\r\n")[0]
    assert platform.received([mark]) == {}


def begin_upload(platform: Platform, mark: str, size: int, path: str = "/events") -> bytes:
    """The head of an upload's request."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: {USER}.{platform.domain}\r\nContent-Length: {size}\r\n"
        f"Content-Type: application/octet-stream\r\n{MARK}: {mark}\r\nConnection: close\r\n\r\n"
    ).encode()


@pytest.mark.parametrize(("path", "service"), [("/events", "core"), ("/events/abc/series", "hfs")])
def test_uploads_are_streamed(platform: Platform, core: str, path: str, service: str) -> None:
    mark, half, pause = new_mark(), bytes(256 << 10), 1.5
    with platform.tls(core, f"{USER}.{platform.domain}") as connection:
        connection.sendall(begin_upload(platform, mark, 2 * len(half), path) + half)
        time.sleep(pause)
        connection.sendall(half)
        assert connection.recv(1024).startswith(b"HTTP/1.1 ")
    record = platform.received([mark])[mark]
    assert (record["service"], record["size"]) == (service, 2 * len(half))
    # A proxy that waits for the whole body sends it on in no time.
    assert record["seconds"] > pause - 0.3


# --- socket.io -------------------------------------------------------------------------------------------------------


def test_socket_stays_on_one_process(platform: Platform, core: str) -> None:
    name = f"{USER}.{platform.domain}"
    opened = platform.ask(core, name, HANDSHAKE)
    session = json.loads(opened.body[1:])["sid"]
    polls = [platform.ask(core, name, f"{HANDSHAKE}&sid={session}") for _ in range(8)]
    assert {(poll.status, poll.process) for poll in polls} == {(200, opened.process)}
    with platform.tls(core, name) as connection:
        connection.sendall(
            f"GET {HANDSHAKE.replace('polling', 'websocket')}&sid={session} HTTP/1.1\r\nHost: {name}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        stream = connection.makefile("rb")
        head = b"".join(iter(stream.readline, b"\r\n"))
        assert head.startswith(b"HTTP/1.1 101 ")
        assert f"X-Standin: {opened.process}".encode() in head
        # A masked text frame, with a mask of zeros.
        connection.sendall(b"\x81\x86\0\0\0\0" + b"2probe")
        assert stream.read(8) == b"\x81\x06" + b"3probe"


def test_sockets_of_many_clients_are_spread_over_all_processes(platform: Platform, core: str) -> None:
    name, machine = f"{core}.{platform.domain}", platform.machine(core)
    # A host has a whole network of addresses of its own to ask from. Each asks twice.
    urls = f"https://{name}{shlex.quote(HANDSHAKE)} " * 2
    asked = machine.check_output(
        "for number in $(seq 40); do echo $number $(curl --silent --insecure --interface 127.0.1.$number "
        f"--resolve {name}:443:127.0.0.1 --dump-header - {urls} | tr -d '\\r' | sed -n 's/^x-standin: //p'); done"
    )
    processes = {}
    for line in asked.splitlines():
        client, *answered = line.split()
        assert len(answered) == 2, line
        assert len(set(answered)) == 1, f"{client} is sent from one process to another"
        processes[client] = answered[0]
    running = set(re.findall(r"127\.0\.0\.1:(3\d\d\d)", machine.check_output("cat /etc/nginx/conf.d/core.conf")))
    assert {process.partition("/")[2] for process in processes.values()} == running


# --- What anybody sees -----------------------------------------------------------------------------------------------


def serving(platform: Platform) -> list[tuple[str, str]]:
    """A name of each host that serves anything."""
    labels = {"core": "", "registry": "reg", "web": "sw"}
    return [(host, labels[role] or host) for role in labels for host in platform.hosts(role)]


def test_unknown_host_name_gets_nothing(platform: Platform) -> None:
    for host, label in serving(platform):
        name = f"{label}.{platform.domain}"
        for unknown in ("unknown.invalid", f"nobody.{platform.domain}.invalid", None):
            with pytest.raises(ssl.SSLError):
                platform.tls(host, unknown)
        for requested in ("unknown.invalid", platform.address(host)):
            with platform.tls(host, name) as connection:
                connection.sendall(f"GET / HTTP/1.1\r\nHost: {requested}\r\n\r\n".encode())
                assert connection.recv(1024) == b"", f"{host} answers to {requested}"


def test_every_answer_asks_for_https_and_none_tells_a_version(platform: Platform) -> None:
    asked = {
        (host, path): platform.ask(host, f"{label}.{platform.domain}", path, method)
        for host, label in serving(platform)
        for path, method in (
            ("/", "GET"),
            ("/nothing-is-here", "GET"),
            ("/register/create-user", "POST"),
            ("/a", "TRACE"),
        )
    }
    assert {answer.process for answer in asked.values()} >= {""}, "nginx itself answers none of them"
    for where, answer in asked.items():
        assert answer.headers.get("strict-transport-security") == "max-age=63072000; includeSubDomains", where
        assert answer.headers.get("x-content-type-options") == "nosniff", where
        assert answer.headers.get("referrer-policy") == "strict-origin", where
        assert not re.search(r"\d", answer.headers.get("server", "")), where
        assert not re.search(rb"nginx/\d", answer.body), where
        assert "x-powered-by" not in answer.headers, where


def test_pages_on_which_people_decide_are_shown_in_no_frame(platform: Platform) -> None:
    pages = [(host, f"{label}.{platform.domain}") for label in ("sw", "mfa") for host in platform.hosts("web")]
    pages += [(platform.topology["leader"], f"{label}.{platform.domain}") for label in ("access", "adm")]
    for host, name in pages:
        answer = platform.ask(host, name, "/access/access.html")
        assert answer.headers.get("content-security-policy") == "frame-ancestors 'none'", name
        assert answer.headers.get("x-frame-options") == "DENY", name


def test_no_log_holds_an_e_mail_address(platform: Platform) -> None:
    leader, somebody = platform.topology["leader"], new_mark()
    for path in (f"/{somebody}@example.org/uid", f"/{somebody}%40example.org/check_email?a=b@c"):
        platform.ask(leader, f"reg.{platform.domain}", path)
    platform.ask(leader, f"reg.{platform.domain}", f"/{somebody}/check_username")
    wanted = {f"GET /{somebody}/check_username ", "GET /(email)/uid ", "GET /(email)/check_email "}
    # Each of nginx's processes writes its lines once a second.
    deadline, logged = time.monotonic() + 10, ""
    while missing := {line for line in wanted if line not in logged}:
        assert time.monotonic() < deadline, f"not in the log: {missing}"
        time.sleep(0.5)
        logged = platform.machine(leader).check_output("cat /var/log/nginx/access.log")
    assert f"{somebody}@" not in logged
    assert f"{somebody}%40" not in logged


def test_port_80_leads_to_https_or_is_closed(platform: Platform) -> None:
    def look(host: str, label: str, unknown: str) -> None:
        name, redirects = f"{label}.{platform.domain}", platform.setting("pryv", "pryv_http_redirect", host)
        requested = unknown or name
        connection = http.client.HTTPConnection(platform.address(host), 80, timeout=5)
        try:
            connection.request("GET", "/a?b=c", headers={"Host": requested})
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException):
            assert not redirects or requested != name, f"{host} does not answer on port 80"
        else:
            assert redirects, f"{host} answers on port 80"
            assert requested == name
            assert (answer.status, answer.getheader("Location")) == (301, f"https://{name}/a?b=c")
        finally:
            connection.close()

    asked = [(*where, unknown) for where in serving(platform) for unknown in ("", "unknown.invalid")]
    # Where it is closed, nobody says so: all are waited for at once.
    with ThreadPoolExecutor(len(asked)) as pool:
        list(pool.map(look, *zip(*asked, strict=True)))
