"""In front of Express: what nginx closes never arrives, in whatever form it is asked for, and what is documented does.

What a request is, Express says by itself: it has Pryv's routes and is asked the same directly, byte by byte.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.express.conftest import DOMAIN, Answer, Client, Doors, render, start

USER, CORE = f"somebody.{DOMAIN}", f"co1.{DOMAIN}"
#: `make soak` asks for ten times as much.
BATCH, BATCHES = 40, 100 * int(os.environ.get("SOAK_REPEATS", "1"))
#: In each of the two modes, so that there are 8'000 in all.
TARGETS = BATCH * BATCHES
SEEDS = {"disabled": 1, "single": 2}
#: For cores and administrators.
REGISTRY_WRITES = ("POST /users", "PUT /users", "DELETE /users/:username", "POST /users/validate", "POST /records")
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Request:
    """A request as it is sent; the target is not text, since clients may send any byte."""

    method: str
    host: str
    target: bytes
    body: bytes = b""

    def by(self, client: Client) -> Answer:
        """Sends it."""
        return client.ask(self.method, self.target, self.host, self.body, FORM if self.body else "")


def closed(answer: Answer, mfa_mode: str) -> bool:
    """Whether a request arrived where no client from outside may."""
    route, own_name = answer.route, answer.host.lower().partition(":")[0].rstrip(".") == CORE
    return {
        "core": route in ("DELETE /users/:username", "ALL /system/*", "POST /register/create-user", "ERROR")
        or (route == "POST /:username/auth/login" and mfa_mode != "disabled")
        or (route == "POST /users" and not own_name),
        "hfs": route == "GET /system/status",
        "preview": "clean-up-cache" in route,
        "register": route in REGISTRY_WRITES or route.startswith("GET /admin/"),
    }.get(answer.service, False)


# --- What is closed --------------------------------------------------------------------------------------------------

SEGMENTS = st.sampled_from(
    [
        *("somebody", "events", "event", "users", "system", "register", "auth", "login", "mfa", "series", "previews"),
        *(
            "create-user",
            "account",
            "streams",
            "abc",
            "reg",
            "www",
            "socket.io",
            "clean-up-cache",
            "batch",
            "",
            ".",
            "..",
        ),
    ]
)
PATHS = st.one_of(
    st.sampled_from(
        [f"/{user}auth/login" for user in ("", "somebody/", "events/", "event/", "users/", "abcde/", "auth/")]
        + ["/register/create-user", "/create-user", "/system/create-user", "/system/user-info/somebody"]
        + ["/system/users/somebody/mfa", "/system/check-platform-integrity", "/user-info/somebody"]
        + [
            "/users",
            "/users/somebody",
            "/users/validate",
            "/records",
            "/admin/users",
            "/user",
            "/",
            "/somebody",
            "/previews/clean-up-cache",
        ]
        + ["/previews/somebody/clean-up-cache", "/previews/events/abc.jpg", "/system/status", "/events/abc/series"]
        + ["/events/auth/login", "/events/users/somebody", "/series/batch", "/streams/abc", "/mfa/activate", "/login"]
    ),
    st.lists(SEGMENTS, max_size=4).map(lambda parts: "/" + "/".join(parts)),
)
#: What readers of a path have been seen to disagree on.
ODD = st.sampled_from(
    [
        *rb"\ # / // /./ /../ /x/../ /. .. ; ;x=y ? ?? & * : @ ' < { | ^ ` #/ \# ?# /#x \\ /\ /% http:".split(),
        *b"%2f %2F %5c %5C %2e %2E%2e %23 %3f %3b %00 %0a %0d%0a %09 %20 %7f %25 %252f".split(),
        *b"%c0%af %ef%bc%8f %u002f % %zz".split(),
        *(b"\t", b" ", b"\x0b", b"\x0c", b"\x00", b"\x7f", b"\xa0", b"\xc2\xa0", b"\xef\xbb\xbf", b"\xc3\xa9", b"\xff"),
        *(b"\xe2\x88\x95", b'"', b"http://co1." + DOMAIN.encode()),
    ]
)


def encode(text: bytes, at: int) -> bytes:
    """A byte of a text as percent and hexadecimal."""
    return text[:at] + b"%%%02x" % text[at] + text[at + 1 :] if at < len(text) else text


def swap_case(text: bytes, at: int) -> bytes:
    """The text with the other case from a place on."""
    return text[:at] + text[at:].swapcase()


@st.composite
def targets(draw: st.DrawFn) -> bytes:
    """A path that may be closed, in an odd form more often than not."""
    target = draw(PATHS).encode()
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(target)))
        change: Callable[[bytes, int], bytes] = draw(
            st.sampled_from([encode, swap_case, lambda text, at: text[:at] + draw(ODD) + text[at:]] * 2)
            | st.just(lambda text, at: text[:at] + draw(ODD) + text[at + 1 :])
        )
        target = change(target, at)
    return target + draw(st.sampled_from([b"", b"", b"/", b"//", b"?a=b", b"?/../x", b"#", b"\\#", b"/#a", b"/?#"]))


HOSTS = st.sampled_from(
    [
        *[USER] * 4,
        *[CORE] * 4,
        f"SomeBody.{DOMAIN}",
        f"CO1.{DOMAIN}",
        f"{CORE}.",
        f"{CORE}:443",
        f"co2.{DOMAIN}",
        "127.0.0.1",
    ]
    + [f"{name}.{DOMAIN}" for name in ("users", "system", "register", "event", "events", "auth-", "login", "nowhere")]
    + [
        f"{name}.{DOMAIN}"
        for name in ("reg", "mail", "access", "regis", "syste", "previews", "accou", "socket", "a.users")
    ]
)
REQUESTS = st.builds(
    Request,
    st.sampled_from(["POST"] * 6 + ["DELETE", "DELETE", "GET", "PUT", "OPTIONS", "HEAD", "PATCH"]),
    HOSTS,
    targets(),
    st.sampled_from([b"", b"", b"_method=DELETE", b"_method=POST"]),
)


def requests(number: int) -> list[Request]:
    """The requests of a seed, always the same ones: nothing that takes its time runs while they are made."""
    made: list[Request] = []

    @seed(number)
    @settings(
        max_examples=BATCHES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(REQUESTS, min_size=BATCH, max_size=BATCH))
    def make(batch: list[Request]) -> None:
        made.extend(batch)

    make()
    return made


def test_what_is_closed_never_arrives(doors: Doors) -> None:
    count = Counter[str]()
    arrived = {}
    for request in requests(SEEDS[doors.mfa_mode]):
        answer = request.by(doors.through)
        straight = request.by(doors.straight["core"])
        count.update(
            ["asked"]
            + ["closed" for found in [straight] if closed(found, doors.mfa_mode)]
            + [answer.service or f"answered {answer.status}"]
        )
        if closed(answer, doors.mfa_mode):
            arrived[request] = (answer.service, answer.route)
    assert arrived == {}
    assert count["asked"] >= TARGETS, count
    # Express by itself takes many of them for what is closed, and nginx lets others through: else nothing was asked.
    assert count["closed"] >= TARGETS // 20, count
    assert count["core"] >= TARGETS // 50, count
    assert count["register"] >= TARGETS // 200, count
    assert count["answered 400"] >= TARGETS // 20, count


@pytest.mark.parametrize(
    "target",
    [
        *rb"/auth/login\# /somebody/auth/login\# /register\create-user# \register\create-user# /events?a=\b".split(),
        *b"//auth/login /auth/login# /auth/./login /auth%2flogin /auth/login%00 /a%0ab /%2e%2e/users".split(),
        *(b"/caf\xe9", b"/\x7f", b"/events?a=\xe9"),
    ],
)
@pytest.mark.parametrize("host", [USER, CORE, f"reg.{DOMAIN}", f"mail.{DOMAIN}"])
def test_what_could_be_read_in_two_ways_is_refused(doors: Doors, host: str, target: bytes) -> None:
    for method in ("GET", "POST"):
        answer = doors.through.ask(method, target, host)
        assert (answer.status, answer.service) == (400, "")
        # Where nginx could not even read the line, it does not know whose form an answer should have.
        assert b'"error":{"id":"invalid-request-structure"' in answer.body or b"400 Bad Request" in answer.body


@pytest.mark.parametrize(
    ("method", "host", "target", "body"),
    [
        ("POST", f"users.{DOMAIN}", b"/", b""),
        ("POST", f"users.{DOMAIN}", b"/users", b""),
        ("POST", f"register.{DOMAIN}", b"/create-user", b""),
        ("DELETE", f"users.{DOMAIN}", b"/somebody", b""),
        ("POST", f"events.{DOMAIN}", b"/events/auth/login", b""),
        ("POST", f"event.{DOMAIN}", b"/events/auth/login", b""),
        ("POST", CORE, b"/events/auth/login", b""),
        ("POST", CORE, b"/somebody/Auth/Login/", b""),
        ("POST", CORE, b"/users/somebody", b"_method=DELETE"),
        ("POST", CORE, b"/users/somebody?a", b"_method=DELETE"),
        ("DELETE", CORE, b"/Users/somebody", b""),
        ("POST", CORE, b"/Register/create-user", b""),
        ("POST", CORE, b"/SYSTEM/create-user", b""),
    ],
)
def test_names_and_forms_that_core_takes_for_what_is_closed(
    doors: Doors, method: str, host: str, target: bytes, body: bytes
) -> None:
    request = Request(method, host, target, body)
    if doors.mfa_mode != "disabled" or not target.lower().endswith((b"auth/login", b"auth/login/")):
        assert closed(request.by(doors.straight["core"]), doors.mfa_mode), "core would not have taken it"
    assert request.by(doors.through).service == ""


@pytest.mark.parametrize(
    "host", [f"nowhere.{DOMAIN}", f"users.{DOMAIN}", f"co2.{DOMAIN}", f"co1.{DOMAIN}.example", "192.0.2.11"]
)
@pytest.mark.parametrize("target", [b"/users", b"/users/", b"/USERS", b"/users?a=b"])
def test_a_core_creates_users_by_its_own_name_alone(doors: Doors, host: str, target: bytes) -> None:
    assert doors.through.ask("POST", target, host).service == ""


def test_a_core_creates_users_by_its_own_name(doors: Doors) -> None:
    for host in (CORE, CORE.upper(), f"{CORE}:443"):
        answer = doors.through.ask("POST", b"/users", host)
        assert (answer.service, answer.route) == ("core", "POST /users")
    # A host name in the target counts, and no other arrives.
    answer = doors.through.ask("POST", f"http://{CORE}/users".encode(), f"users.{DOMAIN}")
    assert (answer.service, answer.host) == ("core", CORE)


# --- What is open ----------------------------------------------------------------------------------------------------

ORACLE = (Path(__file__).with_name("oracle.js")).read_text()
#: What may stand in place of a parameter: what people name files and things, as clients encode it.
VALUES = [
    "ckz9x0000001",
    "a",
    "A-b_c~d",
    "photo.jpg",
    "a%20b",
    "%C3%A9t%C3%A9",
    "a%3Ab",
    "a:b",
    "a@b",
    "a+b",
    "a%2Bb",
    "%28a%29",
    "login",
]


def documented(service: str) -> Iterator[tuple[str, str]]:
    """Methods and paths of a program's routes for users, whose name is in the host name then; no closed ones."""
    block = re.search({"core": r"CORE = `(.*?)`"}.get(service, rf"  {service}: `(.*?)`"), ORACLE, re.DOTALL)
    assert block
    for line in block[1].split("\n"):
        method, _, path = line.strip().partition(" ")
        if not path.startswith("/:username") or "clean-up" in path:
            continue
        path = path.removeprefix("/:username") or "/"
        path = path.replace(":id:extension(.jpg|.jpeg|)", ":id")
        for form in [path.replace("/:fileName?", ""), path.replace("?", "")] if "?" in path else [path]:
            yield method, form


def calls(doors: Doors) -> Iterator[tuple[str, str, str, str]]:
    """Service, method, path, and the path that arrives."""
    for service in ("core", "hfs", "preview", "mfa"):
        for method, path in documented(service):
            for value in VALUES if ":" in path else [""]:
                filled = re.sub(r":\w+", value, path)
                if service == "mfa" and doors.mfa_mode == "disabled":
                    continue
                if (service, path) in {("mfa", "/login"), ("core", "/auth/login")}:
                    if (service == "mfa") == (doors.mfa_mode != "disabled"):
                        yield service, method, "/auth/login", "/login" if service == "mfa" else "/auth/login"
                elif service == "preview":
                    yield service, method, f"/previews{filled}", filled
                else:
                    yield service, method, filled, filled


@pytest.mark.parametrize(
    "query", ["", "?auth=ckz", "?streams=%7B%22any%22%3A%5B%22a%22%5D%7D&x=/../#".removesuffix("#"), "?w=5&h=//"]
)
def test_every_documented_call_arrives_as_it_was_written(doors: Doors, query: str) -> None:
    missing, count = {}, 0
    for service, method, path, arrives in calls(doors):
        for host in (USER, f"a1-b2.{DOMAIN}"):
            answer = doors.through.ask(method, f"{path}{query}".encode(), host)
            found = (answer.service, bytes.fromhex(answer.headers.get("x-target", "")).decode(), answer.route)
            count += 1
            if found[:2] != (service, arrives + query) or found[2] in ("NONE", "ERROR"):
                missing[method, host, path] = (answer.status, *found)
    assert missing == {}
    assert count > 400


def test_a_core_takes_the_users_name_as_first_segment(doors: Doors) -> None:
    missing = {}
    for service, method, path, arrives in calls(doors):
        if service == "mfa" or path == "/auth/login" or "password-reset" in path or path.endswith("reset-password"):
            continue
        below = "/previews" if service == "preview" else ""
        answer = doors.through.ask(method, f"{below}/somebody{path.removeprefix(below)}".encode(), CORE)
        target = bytes.fromhex(answer.headers.get("x-target", "")).decode()
        if (answer.service, target) != (service, f"/somebody{arrives}") or answer.route == "NONE":
            missing[method, path] = (answer.status, answer.service, target, answer.route)
    assert missing == {}


def assert_readable(answer: Answer, error: str, method: str = "GET") -> None:
    """What nginx says by itself has the form of the programs' errors, and pages of any origin may read it."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert method == "HEAD" or f'"error":{{"id":"{error}"'.encode() in answer.body


@pytest.mark.parametrize(
    "path", ["/favicon.ico", "/reg/service/info", "/system", "/EVENTS", "/nothing/is/here", "/www", "/server-status/of"]
)
@pytest.mark.parametrize("host", [USER, CORE])
def test_what_is_in_no_list_is_not_asked_for(doors: Doors, host: str, path: str) -> None:
    answer = doors.through.ask("GET", path.encode(), host)
    assert (answer.status, answer.service) == (404, "")
    assert_readable(answer, "unknown-resource")


def test_the_registry_gets_what_both_read_alike(doors: Doors) -> None:
    for path in ("/service/info", "/access/abc", "/a%40b.ch/uid", "/", "/hostings?a=b", "/user"):
        answer = doors.through.ask("POST", path.encode(), f"reg.{DOMAIN}")
        assert (answer.service, bytes.fromhex(answer.headers["x-target"]).decode()) == ("register", path)


@pytest.mark.parametrize("path", ["{}", "{}/", "{}?a=b"])
def test_what_writes_at_the_registry_takes_an_address_of_the_platform(doors: Doors, path: str) -> None:
    """Or of administrators; in any case, since Express does not care for it."""
    for route in REGISTRY_WRITES:
        method, _, documented = route.partition(" ")
        for written in (documented, documented.upper()):
            target = path.format(written.replace(":USERNAME", "server").replace(":username", "server")).encode()
            straight, outside, inside = (
                client.ask(method, target, f"reg.{DOMAIN}")
                for client in (doors.straight["register"], doors.through, doors.administrator)
            )
            assert (straight.route, inside.route) == (route, route), target
            assert (outside.status, outside.service) == (403, ""), target
            assert_readable(outside, "forbidden")


def test_a_page_of_administrators_may_ask_what_it_may_send(doors: Doors) -> None:
    for path in (b"/admin/users", b"/ADMIN/users/somebody", b"/users/somebody"):
        assert doors.through.ask("OPTIONS", path, f"reg.{DOMAIN}").route == "OPTIONS"
    for method in ("GET", "HEAD", "POST"):
        answer = doors.administrator.ask(method, b"/admin/users", f"reg.{DOMAIN}")
        assert (answer.status, answer.service) == (401, "")
        assert_readable(answer, "invalid-access-token", method)


def test_anybody_may_ask_whether_a_path_is_somebodys_name(doors: Doors) -> None:
    answer = doors.through.ask("GET", b"/users/check_username", f"reg.{DOMAIN}")
    assert (answer.service, answer.route) == ("register", "GET /:username/check_username")


# --- How often -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def limited(nginx: str, oracle: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of an nginx with limits that a test meets."""
    limits = {
        "login": {"per_minute": 1, "burst": 9},
        "login_of_user": {"per_minute": 1, "burst": 4},
        "registration": {"per_minute": 1, "burst": 4},
        "lookup": {"per_minute": 1, "burst": 9},
        "password_reset": {"per_minute": 1, "burst": 9},
        "password_reset_of_user": {"per_minute": 1, "burst": 4},
    }
    for port in start(nginx, tmp_path_factory.mktemp("limited"), oracle, "disabled", limits):
        yield Client(port)


def passed(client: Client, method: str, host: str, path: str) -> int:
    """How many of 20 requests arrive."""
    answers = [client.ask(method, path.encode(), host) for _ in range(20)]
    for answer in answers:
        if not answer.service:
            assert answer.status == 429
            assert int(answer.headers["retry-after"]) > 0
            assert answer.headers["access-control-allow-origin"] == "*"
            assert b'"error":{"id":"too-many-requests"' in answer.body
    return sum(bool(answer.service) for answer in answers)


@pytest.mark.parametrize(
    ("method", "label", "path", "one", "all_of_them"),
    [
        ("POST", "user{}", "/auth/login", 5, 10),
        ("POST", "user{}", "/account/request-password-reset", 5, 10),
        ("POST", "co1", "/users", 5, 5),
        ("POST", "reg", "/user", 5, None),
        ("GET", "reg", "/name{}/check_username", 10, 10),
    ],
)
def test_too_many_are_told_so(
    limited: Client, method: str, label: str, path: str, one: int, all_of_them: int | None
) -> None:
    if all_of_them is None:
        # The same count as at a core: whoever is over the limit there is over it here.
        assert passed(limited, method, f"{label}.{DOMAIN}", path) == 0
        return
    first = passed(limited, method, f"{label.format('00')}.{DOMAIN}", path.format("00"))
    assert first == one
    others = sum(
        passed(limited, method, f"{label.format(f'0{n}')}.{DOMAIN}", path.format(f"0{n}")) for n in range(1, 5)
    )
    assert first + others == all_of_them


def test_what_is_not_limited_is_answered(limited: Client) -> None:
    assert passed(limited, "OPTIONS", f"user00.{DOMAIN}", "/auth/login") == 20
    assert passed(limited, "GET", f"user00.{DOMAIN}", "/events") == 20


@pytest.mark.parametrize("ipv6", [True, False])
def test_a_host_without_ipv6_has_no_listener_on_it(ipv6: bool) -> None:
    files = render("nginx", "co1", preflight_survey={"survey": {"ipv6": ipv6}}, pryv_http_redirect=True)
    listeners = re.findall(r"listen (\S*?)(\d+) ?[^;]*;", "".join(files.values()))
    assert {port for address, port in listeners if not address} == {"80", "443"}
    assert {port for address, port in listeners if address == "[::]:"} == ({"80", "443"} if ipv6 else set())


def test_a_hundred_people_behind_one_address_sign_in_at_once() -> None:
    rendered = render("nginx", "co1")
    bursts = {
        zone: int(burst)
        for path, text in rendered.items()
        for zone, burst in re.findall(r"limit_req zone=pryv_(\w+) burst=(\d+) nodelay;", text)
        if "limit" in path
    }
    assert min(bursts[zone] for zone in ("login", "registration", "lookup", "password_reset")) >= 100
    assert max(bursts[zone] for zone in ("login_of_user", "password_reset_of_user")) <= 20
