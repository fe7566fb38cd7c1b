"""What mtail makes of nginx' access log: the very program, with lines as nginx writes them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from pryv_platform.topology.names import service_names

CHECKOUT = Path(__file__).resolve().parents[2]
ROLE = CHECKOUT / "roles/metrics"
DOMAIN = "poc.pryv.test"
USER, TOKEN, MAIL = "alicesmith", "ckd0br28e00fo1iqi8xp0y3vb", "alice@example.com"
METHODS = {"GET", "POST", "PUT", "DELETE", "OPTIONS", "other"}
ROUTES = {
    *("events", "streams", "accesses", "auth", "attachments", "previews", "series", "sockets", "system"),
    *("register", "pages", "other"),
}
#: Routes of a core that are not told apart.
OTHERS = ("/", "/audit/logs", "/followed-slices", "/profile", "/service", "/webhooks")


@cache
def rendered() -> str:
    """The program as the role writes it."""
    variables = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    wanted = {name: variables[name] for name in ("metrics_user", "metrics_routes")}
    routes = {name: trust_as_template(text) for name, text in wanted["metrics_routes"].items()}
    names = {"metrics_user": wanted["metrics_user"], "metrics_routes": routes}
    templar = Templar(DataLoader(), {**names, "topology": {"service_names": service_names(DOMAIN)}})
    template = (ROLE / "templates/root/etc/mtail/pryv.mtail.j2").read_text()
    return str(templar.template(trust_as_template(template)))


def line(host: str, request: str, status: int = 200, seconds: str = "0.012", agent: str = "curl/8") -> str:
    """A line of the log, as the log_format of role nginx has it."""
    upstream = "127.0.0.1:3000, 127.0.0.1:3001 502, 200 0.001, 0.010"
    return (
        f'192.0.2.7 [2026-11-28T01:00:00+00:00] {host} "{request}" {status} '
        f'312 1024 {seconds} {upstream} "https://{USER}.{DOMAIN}/" "{agent}" TLSv1.3'
    )


def told(folder: Path, lines: Sequence[str]) -> dict[str, float]:
    """What mtail tells of a log: values by name and labels."""
    (folder / "programs").mkdir(exist_ok=True)
    (folder / "programs/pryv.mtail").write_text(rendered())
    (folder / "access.log").write_text("".join(f"{one}\n" for one in lines))
    command = ["mtail", "--one_shot", "--one_shot_format=prometheus", "--emit_prog_label=false", "--logtostderr"]
    command += [f"--progs={folder / 'programs'}", f"--logs={folder / 'access.log'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "error" not in done.stderr.lower(), done.stderr
    found = re.findall(r"^(pryv_\w+(?:\{[^}]*\})?) (\S+)$", done.stdout, re.M)
    return {name: float(value) for name, value in found}


def routes(folder: Path, lines: Sequence[str]) -> dict[str, float]:
    """How many requests mtail counts by route."""
    counted: dict[str, float] = {}
    for name, value in told(folder, lines).items():
        if name.startswith("pryv_requests_total"):
            route = re.findall(r'route="([^"]*)"', name)[0]
            counted[route] = counted.get(route, 0) + value
    return counted


def test_requests_are_counted_with_their_time_and_sizes(tmp_path: Path) -> None:
    user = f"{USER}.{DOMAIN}"
    lines = [line(user, "GET /events HTTP/2.0"), line(user, "GET /events HTTP/2.0", 401, "2.5")]
    found = told(tmp_path, lines)
    assert found['pryv_requests_total{code="2xx",method="GET",route="events"}'] == 1
    assert found['pryv_requests_total{code="4xx",method="GET",route="events"}'] == 1
    assert found["pryv_request_bytes_total"] == 624
    assert found["pryv_response_bytes_total"] == 2048
    assert found['pryv_request_seconds_count{route="events"}'] == 2
    assert found['pryv_request_seconds_sum{route="events"}'] == pytest.approx(2.512)
    assert found['pryv_request_seconds_bucket{route="events",le="0.01"}'] == 0
    assert found['pryv_request_seconds_bucket{route="events",le="0.025"}'] == 1


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/events", "events"),
        ("/events/c1", "events"),
        ("/events/c1/f1", "attachments"),
        ("/events/c1/f1/scan.png", "attachments"),
        ("/events/c1/series", "series"),
        ("/series/batch", "series"),
        ("/streams/work", "streams"),
        ("/accesses/check-app", "accesses"),
        ("/access-info", "accesses"),
        ("/auth/login", "auth"),
        ("/account/reset-password", "auth"),
        ("/mfa/verify", "auth"),
        ("/profile/private", "other"),
    ],
)
def test_a_users_paths_are_the_same_by_both_host_names(tmp_path: Path, path: str, route: str) -> None:
    lines = [line(f"{USER}.{DOMAIN}", f"GET {path} HTTP/1.1"), line(f"co1.{DOMAIN}", f"GET /{USER}{path} HTTP/1.1")]
    assert routes(tmp_path, lines) == {route: 2}


@pytest.mark.parametrize(
    ("host", "path", "route"),
    [
        ("co1", "/users", "register"),
        ("co1", "/register/create-user", "register"),
        ("co1", f"/system/user-info/{USER}", "system"),
        ("co1", f"/users/{USER}", "system"),
        ("co1", f"/previews/{USER}/events/c1", "previews"),
        ("co1", "/socket.io/", "sockets"),
        ("reg", f"/{USER}/server", "register"),
        ("reg2", "/events", "register"),
        ("access", "/access", "register"),
        ("sw", "/access/static/app.js", "pages"),
        ("adm", "/", "pages"),
        ("mail", "/sendmail/welcome", "other"),
        # Not a name of the platform's, though it begins like one.
        ("regina", "/streams", "streams"),
    ],
)
def test_hosts_of_the_platform_have_routes_of_their_own(tmp_path: Path, host: str, path: str, route: str) -> None:
    assert routes(tmp_path, [line(f"{host}.{DOMAIN}", f"POST {path} HTTP/1.1")]) == {route: 1}


def test_every_route_of_a_core_is_one_that_is_told_apart_or_known_as_none(tmp_path: Path) -> None:
    """A new release of Pryv's has others: then the role's expressions are to know them."""
    known = yaml.safe_load((CHECKOUT / "roles/core/files/routes.yml").read_text())
    paths = [path for name in ("core", "hfs", "password_reset", "mfa") for path in known[name]] + [known["login"]]
    apart = [re.sub(r":\w+", "c1", path) for path in paths if not path.startswith(OTHERS[1:]) and path != OTHERS[0]]
    found = routes(tmp_path, [line(f"{USER}.{DOMAIN}", f"GET {path} HTTP/1.1") for path in apart])
    assert sum(found.values()) == len(apart)
    assert "other" not in found


def test_nothing_that_a_client_writes_becomes_a_label(tmp_path: Path) -> None:
    strange = [
        line(f"{USER}.{DOMAIN}", f"GET /{TOKEN} HTTP/1.1"),
        line(f"{USER}.{DOMAIN}", f"{TOKEN.upper()} /events HTTP/1.1"),
        line(f"{TOKEN}@{USER}.{DOMAIN}", "GET /events HTTP/1.1"),
        line(f"reg.{DOMAIN}", f"GET /{MAIL}/uid HTTP/1.1", 404),
        line(f"co1.{DOMAIN}", f"GET /{USER}/{TOKEN}/{MAIL} HTTP/1.1", 503),
        line(f"{USER}.{DOMAIN}", f"GET /events HTTP/{TOKEN}", 400),
        line(f"{USER}.{DOMAIN}", r"GET /\x22} 1\x0apryv_requests_total{route=\x22x HTTP/1.1", 400),
        line(f"{USER}.{DOMAIN}", "GET /events HTTP/1.1", agent=rf"\x22 {TOKEN} {MAIL}"),
        line("", "  ", 400),
        line(f"{USER}.{DOMAIN}", "GET /events HTTP/1.1", 499),
        f"{USER} {TOKEN} {MAIL}",
        "",
    ]
    found = told(tmp_path, strange)
    assert sum(value for name, value in found.items() if name.startswith("pryv_requests_total")) == 10
    labels = {pair for name in found for pair in re.findall(r'(\w+)="([^"]*)"', name)}
    assert {value for name, value in labels if name == "method"} <= METHODS
    assert {value for name, value in labels if name == "route"} <= ROUTES
    assert {value for name, value in labels if name == "code"} <= {f"{digit}xx" for digit in range(1, 6)}
    assert {name for name, _ in labels} == {"method", "route", "code", "le"}


def test_the_log_has_the_form_that_is_read() -> None:
    """The lines above are only as good as this."""
    text = (CHECKOUT / "roles/nginx/templates/root/etc/nginx/nginx.conf.j2").read_text()
    form = "".join(re.findall(r"'([^']*)'", text.partition("log_format pryv")[2].partition(";")[0]))
    values = {
        "remote_addr": "192.0.2.7",
        "time_iso8601": "2026-11-28T01:00:00+00:00",
        "host": "h",
        "request_method": "GET",
        "pryv_logged_path": "/",
        "server_protocol": "HTTP/1.1",
        "status": "200",
        "request_length": "312",
        "body_bytes_sent": "1024",
        "request_time": "0.012",
        "upstream_addr": "127.0.0.1:3000, 127.0.0.1:3001",
        "upstream_status": "502, 200",
        "upstream_response_time": "0.001, 0.010",
        "pryv_logged_referer": f"https://{USER}.{DOMAIN}/",
        "http_user_agent": "curl/8",
        "ssl_protocol": "TLSv1.3",
    }
    assert re.sub(r"\$(\w+)", lambda match: values[match[1]], form) == line("h", "GET / HTTP/1.1")
