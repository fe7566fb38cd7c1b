"""What the registry is told about the cores, and when it refuses to forget one."""

from __future__ import annotations

import datetime
import http.server
import json
import os
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from ansible.module_utils import named_https
from ansible.module_utils.testing import patch_module_args
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plugins.modules import registry_cores
from pryv_platform import registry
from pryv_platform.checks.registry import registry_problems

ROOT = Path(__file__).parents[2]
DOMAIN = "example.pryv.test"


def topology(**draining: str) -> dict[str, Any]:
    """Two zones; `co3` alone in `de`. Cores given by name are drained."""
    zones = {"ch": ["co1", "co2"], "de": ["co3"]}
    addresses = {"co1": "192.0.2.1", "co2": "192.0.2.2", "co3": "192.0.2.3"}
    hostings = {
        zone: {core: {"ip": addresses[core]} for core in cores if core not in draining}
        for zone, cores in zones.items()
        if set(cores) - set(draining)
    }
    return {
        "domain": DOMAIN,
        "zones": zones,
        "hostings": hostings,
        "draining": {core: {"ip": addresses[core]} for core in draining},
        "monitoring": [],
        "web": {"hosts": [], "alias": None},
        "service_names": {"pages": f"sw.{DOMAIN}"},
        "names": {f"{name}.{DOMAIN}": [address] for name, address in ({"reg": "192.0.2.9"} | addresses).items()},
    }


ALL = ["co1", "co2", "co3"]
KEYS = {core: f"key of {core}" for core in ALL}


def net(cores: list[str], **draining: str) -> dict[str, Any]:
    """The section for some cores."""
    return registry.registry_net(topology(**draining), cores, {"ch": {"name": "Switzerland"}}, KEYS)


def offered(section: dict[str, Any]) -> dict[str, Any]:
    """The hostings that clients see."""
    regions: dict[str, Any] = section["aahostings"]["regions"]
    [region] = regions.values()
    [zone] = region["zones"].values()
    hostings: dict[str, Any] = zone["hostings"]
    return hostings


def urls(section: dict[str, Any]) -> dict[str, list[str]]:
    """Addresses of the cores by hosting."""
    return {zone: [server["base_url"] for server in servers] for zone, servers in section["aaservers"].items()}


class TestNet:
    """The `net` section."""

    def test_one_hosting_for_each_zone(self) -> None:
        """With what people are shown."""
        section = net(ALL)
        assert urls(section) == {
            "ch": [f"https://co1.{DOMAIN}/", f"https://co2.{DOMAIN}/"],
            "de": [f"https://co3.{DOMAIN}/"],
        }
        assert offered(section)["ch"] == {"name": "Switzerland", "description": "", "url": f"https://{DOMAIN}"}

    def test_each_core_has_a_key_of_its_own(self) -> None:
        """And a registry that asks no core for anything has none."""
        servers = [server for zone in net(ALL, co2="drained")["aaservers"].values() for server in zone]
        assert {server["base_url"][8:11]: server["authorization"] for server in servers} == KEYS
        assert "key of" not in str(registry.registry_net(topology(), ALL, {}, {}))

    def test_a_core_that_does_not_answer_yet_is_not_there(self) -> None:
        """Nor is a zone without a core."""
        section = net(["co1"])
        assert urls(section) == {"ch": [f"https://co1.{DOMAIN}/"]}
        assert list(offered(section)) == ["ch"]

    def test_a_drained_core_is_known_but_not_offered(self) -> None:
        """Its users are still found there, and nobody can choose it."""
        section = net(ALL, co2="drained")
        assert urls(section)["ch"] == [f"https://co1.{DOMAIN}/"]
        [closed] = section["aaservers"].keys() - offered(section).keys()
        assert urls(section)[closed] == [f"https://co2.{DOMAIN}/"]
        assert not closed[0].isalnum(), "the registry lets nobody choose a hosting that starts like this"

    def test_a_drained_zone_is_shown_as_not_available(self) -> None:
        """The registry makes `available` of the number of servers, and fails when there is no list of them."""
        section = net(ALL, co3="drained")
        assert "de" in offered(section)
        assert section["aaservers"]["de"] == []

    @pytest.mark.parametrize("drained", [(), ("co2",), ("co3",), ("co1", "co2")])
    def test_what_is_written_is_read_back(self, drained: tuple[str, ...]) -> None:
        """Also the zone of a core that is drained."""
        section = net(ALL, **dict.fromkeys(drained, "drained"))
        assert registry_cores.known_cores(section) == {"co1": "ch", "co2": "ch", "co3": "de"}

    def test_platforms_that_were_configured_with_hostings_are_read(self) -> None:
        """Pryv's documented form, which was written while no core was drained."""
        section: dict[str, Any] = {"hostings": {"ch": {"co1": {}, "co2": {}}, "de": {"co3": {}}}}
        assert registry_cores.known_cores(section) == {"co1": "ch", "co2": "ch", "co3": "de"}


class TestKeys:
    """The keys that the registry accepts."""

    SECRETS: ClassVar[dict[str, str]] = {"register_admin_key": "admin"}

    def test_only_the_administrators_key_administers(self) -> None:
        """It does what a core does, too."""
        assert registry.registry_keys(self.SECRETS, ["co1", "co2"], {"co1": "one", "co2": "two"}, {}) == {
            "one": {"roles": ["system"]},
            "two": {"roles": ["system"]},
            "admin": {"roles": ["admin", "system"]},
        }

    def test_what_was_replaced_is_accepted_until_it_is_dropped(self) -> None:
        """Also the key that all cores shared once; not those of cores that are gone, nor other secrets."""
        retired = {
            "pryv_secrets.register_system_key": "shared",
            "pryv_secrets.core_system_key": "unused",
            "pryv_secrets.register_admin_key": "old admin",
            "pryv_core_register_keys.co1": "old one",
            "pryv_core_register_keys.co9": "gone",
        }
        accepted = registry.registry_keys(self.SECRETS, ["co1"], {"co1": "one"}, retired)
        assert {key: roles["roles"][0] for key, roles in accepted.items()} == {
            "shared": "system",
            "one": "system",
            "old one": "system",
            "admin": "admin",
            "old admin": "admin",
        }


class TestNames:
    """The names that the DNS answers besides users'."""

    def test_drained_cores_resolve_and_unknown_ones_do_not(self) -> None:
        """Users of a drained core still reach it."""
        names = registry.registry_names(topology(co2="drained"), ["co1", "co2"])
        assert names == {
            "reg": {"ip": ["192.0.2.9"]},
            "co1": {"ip": ["192.0.2.1"]},
            "co2": {"ip": ["192.0.2.2"]},
        }

    def test_pages_elsewhere_are_an_alias(self) -> None:
        """Of the name that the inventory gives."""
        platform = topology()
        platform["web"]["alias"] = "pages.cdn.test"
        assert registry.registry_names(platform, ALL)["sw"] == {"alias": {"name": "pages.cdn.test"}}


class TestProblems:
    """What keeps the registry from being changed."""

    INVENTORY: ClassVar[dict[str, Any]] = {"co1": {"zone": "ch"}, "co2": {"zone": "ch"}}

    def test_nothing_to_say(self) -> None:
        """The usual run."""
        assert registry_cores.problems({"co1": "ch"}, self.INVENTORY, {"co1": 3}) == []

    def test_a_core_with_users_is_missing(self) -> None:
        """Their data would be lost sight of."""
        [problem] = registry_cores.problems({"co9": "ch"}, self.INVENTORY, {"co9": 12})
        assert "co9" in problem
        assert "12 users" in problem
        assert "accepts_users: false" in problem

    def test_a_core_that_the_registry_does_not_know_either_is_no_core(self) -> None:
        """Anybody could have registered a user there, and have all runs refused by it."""
        assert registry_cores.problems({"co1": "ch"}, self.INVENTORY, {"nowhere": 12}) == []

    def test_a_core_without_users_may_go_and_move(self) -> None:
        """Nobody is stranded."""
        assert registry_cores.problems({"co9": "ch", "co1": "de"}, self.INVENTORY, {}) == []

    def test_a_core_with_users_changes_its_zone(self) -> None:
        """Their data would be elsewhere than they chose."""
        [problem] = registry_cores.problems({"co1": "de"}, self.INVENTORY, {"co1": 1})
        assert "1 user " in problem
        assert "zone de" in problem
        assert "zone ch" in problem

    def test_users_cannot_be_counted(self) -> None:
        """Then none is taken for none only where nothing changes."""
        assert registry_cores.problems({"co1": "ch"}, self.INVENTORY, None) == []
        [problem] = registry_cores.problems({"co9": "ch"}, self.INVENTORY, None)
        assert "unknown number" in problem


VERSION = "7.0.15"


class Database(socketserver.ThreadingTCPServer):
    """A database that understands AUTH, SCAN (three keys at a time) and MGET."""

    daemon_threads = True

    def __init__(self, password: str, keys: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.password, self.keys = password, keys


class Conversation(socketserver.StreamRequestHandler):
    server: Database
    known = False

    def read(self) -> list[str]:
        words = []
        for _ in range(int(self.rfile.readline()[1:] or 0)):
            words.append(self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2].decode())
        return words

    def handle(self) -> None:
        while words := self.read():
            self.wfile.write(self.reply(*words).encode())

    def reply(self, command: str, *words: str) -> str:
        if command == "AUTH":
            self.known = words[0] == self.server.password
            return "+OK\r\n" if self.known else "-WRONGPASS invalid\r\n"
        if not self.known:
            return "-NOAUTH Authentication required.\r\n"
        if command == "INFO":
            return self.bulk(f"# Server\r\nredis_version:{VERSION}\r\nredis_mode:standalone\r\n")
        return self.scan(int(words[0])) if command == "SCAN" else self.several(self.server.keys[word] for word in words)

    def scan(self, start: int) -> str:
        page = [key for key in list(self.server.keys)[start : start + 3] if key.endswith(":server")]
        cursor = str(start + 3 if start + 3 < len(self.server.keys) else 0)
        return f"*2\r\n{self.bulk(cursor)}{self.several(page)}"

    def several(self, texts: Iterable[str]) -> str:
        bulks = [self.bulk(text) for text in texts]
        return f"*{len(bulks)}\r\n{''.join(bulks)}"

    @staticmethod
    def bulk(text: str) -> str:
        return f"${len(text)}\r\n{text}\r\n"


@contextmanager
def redis(password: str, keys: dict[str, str]) -> Iterator[int]:
    """A database; gives its port."""
    with Database(password, keys) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


USERS = {
    "wactiv:server": DOMAIN,
    "alice:server": f"co1.{DOMAIN}",
    "alice:users": "",
    "bobby:server": f"co1.{DOMAIN}",
    "carol:server": f"co3.{DOMAIN}",
    "stray:server": "co1.elsewhere.test",
}


def test_finding_users() -> None:
    """Over several pages; the program's test user is on no core, and strangers keep their whole name."""
    with redis("secret", USERS) as port:
        users = registry_cores.find_users(registry_cores.Redis(port, "secret", 5), DOMAIN)
    assert users == {"co1": ["alice", "bobby"], "co3": ["carol"], "co1.elsewhere.test": ["stray"]}


def test_wrong_password() -> None:
    """Is said, and does not count as no users."""
    with redis("secret", USERS) as port, pytest.raises(registry_cores.RedisError, match="WRONGPASS"):
        registry_cores.Redis(port, "wrong", 5)


def certificate(folder: Path, name: str) -> None:
    """Make an authority as companies have them, `ca.pem`, and by it a certificate for a name: `host.pem`, `key.pem`."""
    root, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)

    def made(subject: str, public: ec.EllipticCurvePublicKey, extension: x509.ExtensionType) -> bytes:
        builder = x509.CertificateBuilder(
            issuer_name=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Root")]),
            subject_name=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]),
            public_key=public,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(days=1),
            not_valid_after=now + datetime.timedelta(days=1),
        )
        signed = builder.add_extension(extension, critical=False).sign(root, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    (folder / "ca.pem").write_bytes(made("Root", root.public_key(), x509.BasicConstraints(ca=True, path_length=None)))
    (folder / "host.pem").write_bytes(made(name, key.public_key(), x509.SubjectAlternativeName([x509.DNSName(name)])))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@contextmanager
def core(folder: Path, status: int) -> Iterator[int]:
    """A core that answers everything with one status; gives its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/status" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "host.pem", folder / "key.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(
    ("name", "status", "seen"),
    [
        (f"*.{DOMAIN}", 200, None),
        (f"*.{DOMAIN}", 502, "HTTP status 502"),
        ("co1.elsewhere.test", 200, "Hostname mismatch"),
    ],
)
def test_probing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, status: int, seen: str | None) -> None:
    """A core counts only when it answers well, with a certificate that is trusted and for its name."""
    certificate(tmp_path, name)
    with core(tmp_path, status) as port:
        monkeypatch.setattr(named_https, "HTTPS", port)
        silent = registry_cores.probe({"co1": {"address": "127.0.0.1"}}, DOMAIN, str(tmp_path / "ca.pem"), 5)
    assert seen is None if not silent else seen is not None and seen in silent["co1"]
    assert bool(silent) == (seen is not None)


def test_an_authority_that_only_newer_pythons_refuse_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Companies' own leave out what Python 3.13 asks for and no other client misses."""
    certificate(tmp_path, f"*.{DOMAIN}")
    given = ssl.create_default_context

    def strict(**options: Any) -> ssl.SSLContext:
        context = given(**options)
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    with core(tmp_path, 200) as port:
        monkeypatch.setattr(named_https, "HTTPS", port)
        assert registry_cores.probe({"co1": {"address": "127.0.0.1"}}, DOMAIN, str(tmp_path / "ca.pem"), 5) == {}


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is no reason to stop."""
    certificate(tmp_path, DOMAIN)
    monkeypatch.setattr(named_https, "HTTPS", 1)
    silent = registry_cores.probe({"co1": {"address": "127.0.0.1"}}, DOMAIN, str(tmp_path / "ca.pem"), 5)
    assert "refused" in silent["co1"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs the module as on a host whose registry knows `co1` in zone `ch`."""
    settings = tmp_path / "dns.json"
    certificate(tmp_path, f"*.{DOMAIN}")

    def run_it(zones: dict[str, str], users: dict[str, str], answers: bool = True, **arguments: Any) -> dict[str, Any]:
        cores = {name: {"zone": zone, "address": "127.0.0.1", "accepts_users": True} for name, zone in zones.items()}
        said: list[str] = []
        monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.warn", lambda _module, text: said.append(text))
        with redis("secret", users) as port:
            database = {"password": "secret", "port": port if answers else 1}
            settings.write_text(json.dumps({"domain": DOMAIN, "net": net(["co1"]), "redis": database}))
            given = {"domain": DOMAIN, "cores": cores, "settings": str(settings)} | arguments
            with patch_module_args(given | {"ca": str(tmp_path / "ca.pem")}), pytest.raises(SystemExit):
                registry_cores.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result | {"said": said}

    monkeypatch.setattr(named_https, "HTTPS", 1)
    return run_it


class TestModule:
    """The module as a whole."""

    def test_a_known_core_is_kept_while_it_is_down_and_a_new_one_left_out(self, run: Callable[..., Any]) -> None:
        """Loudly."""
        result = run({"co1": "ch", "co3": "de"}, {"alice:server": f"co1.{DOMAIN}"})
        assert result["cores"] == ["co1"]
        assert "refused" in result["left_out"]["co3"]
        assert any("CORE co3 IS LEFT OUT" in warning for warning in result["said"])
        assert any("ZONE de TAKES NO NEW USERS" in warning for warning in result["said"])

    def test_a_removed_core_with_users_is_refused(self, run: Callable[..., Any]) -> None:
        """Before anything is asked or changed."""
        result = run({"co3": "de"}, {"alice:server": f"co1.{DOMAIN}"})
        assert result["failed"]
        assert "core co1 is not in the inventory, but the registry has 1 user on it" in result["msg"]

    def test_users_on_cores_that_nobody_knows_are_told_of_and_stop_nothing(self, run: Callable[..., Any]) -> None:
        """Some names of each, and how many there are."""
        users = {f"ghost{number:02}:server": f"nowhere.{DOMAIN}" for number in range(12)}
        result = run({"co1": "ch"}, users | {"alice:server": f"co1.{DOMAIN}", "evil1:server": "evil.test"})
        assert result["cores"] == ["co1"]
        assert result["strays"] == {"evil.test": 1, "nowhere": 12}
        [warning] = [line for line in result["said"] if "NOBODY KNOWS" in line]
        assert "13 USERS ON CORES THAT NOBODY KNOWS (evil.test: evil1; nowhere: ghost00, " in warning
        assert "ghost09 …" in warning
        assert "alice" not in warning

    def test_another_domain_is_refused_when_there_are_users(self, run: Callable[..., Any]) -> None:
        """With what changed, what follows, and how to go on."""
        result = run({"co1": "ch"}, {"alice:server": f"co1.{DOMAIN}"}, domain="new.test")
        assert result["failed"]
        assert f"pryv_domain was {DOMAIN} when this registry was set up, and is new.test now" in result["msg"]
        assert "has 1 user there" in result["msg"]
        assert "Put pryv_domain back" in result["msg"]

    def test_another_domain_without_users_is_told_of(self, run: Callable[..., Any]) -> None:
        """The program's own test user, whose server is the old domain, is nobody."""
        result = run({"co1": "ch"}, {"wactiv:server": DOMAIN}, domain="new.test")
        assert result["cores"] == ["co1"]
        assert result["strays"] == {}
        assert any("nobody is registered" in line and "Delegate new.test" in line for line in result["said"])

    def test_another_domain_is_refused_when_nobody_knows_how_many_users_there_are(
        self, run: Callable[..., Any]
    ) -> None:
        """The database is down."""
        result = run({"co1": "ch"}, {}, answers=False, domain="new.test")
        assert "an unknown number of users" in result["msg"]

    def test_without_probing(self, run: Callable[..., Any]) -> None:
        """New cores are neither asked nor complained about."""
        result = run({"co1": "ch", "co3": "de"}, {}, probe=False)
        assert result["cores"] == ["co1"]
        assert result["said"] == []

    def test_a_new_host(self, run: Callable[..., Any], tmp_path: Path) -> None:
        """Nothing to read; and no core at all is no registry."""
        result = run({"co1": "ch"}, {}, settings=str(tmp_path / "nothing.json"))
        assert result["failed"]
        assert "No core answers" in result["msg"]

    def test_a_redis_that_cannot_keep_followers_from_writing_is_told(
        self, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Only where there are followers."""
        assert run({"co1": "ch"}, {}, replicated=True)["said"] == []
        monkeypatch.setattr(sys.modules[__name__], "VERSION", "5.0.14")
        result = run({"co1": "ch"}, {}, replicated=True)
        assert result["redis_version"] == "5.0.14"
        assert ["REDIS 5.0.14 KNOWS NO USERS" in line for line in result["said"]] == [True]
        assert run({"co1": "ch"}, {})["said"] == []

    def test_check_mode_on_a_new_host(self, run: Callable[..., Any], tmp_path: Path) -> None:
        """Cores that would have been set up count."""
        result = run({"co1": "ch"}, {}, settings=str(tmp_path / "nothing.json"), _ansible_check_mode=True)
        assert result["cores"] == ["co1"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("invitation_tokens", None, []),
        ("invitation_tokens", [], []),
        ("invitation_tokens", ["enjoy", "x" * 99], []),
        ("invitation_tokens", ["enjoy", "hush"], ["registry_invitation_tokens, number 2: has 4 characters"]),
        ("invitation_tokens", ["x" * 100], ["registry_invitation_tokens, number 1: has 100 characters"]),
        ("invitation_tokens", [987654], ["registry_invitation_tokens, number 1: is no text"]),
        ("providers", {"ch": {}, "de": {"url": "https://de.example.com"}}, []),
        ("providers", {"mars": {}}, ["registry_providers.mars: is no zone of the inventory"]),
        ("providers", {"ch": "Switzerland"}, ["registry_providers.ch: is not a mapping"]),
        ("providers", {"ch": {"url": "https://a.ch/b"}}, ["registry_providers.ch.url: is 'https://a.ch/b'"]),
    ],
)
def test_what_the_registry_would_refuse(name: str, value: Any, expected: list[str]) -> None:
    found = registry_problems({"reg1": {f"registry_{name}": value}}, ["ch", "de"])
    assert [f"{problem['where']}: {problem['problem']}" for problem in found] == [f"reg1: {line}" for line in expected]
    assert {problem["severity"] for problem in found} <= {"error"}
    assert not any(token in str(found) for token in ("hush", "987654"))


def test_a_leader_that_fails_later_leaves_no_stale_answer_to_its_followers(tmp_path: Path) -> None:
    """site.yml asks the registry before any host is changed, when no core has been asked yet."""
    cores: dict[str, dict[str, Any]] = {"co1": {}, "co2": {}}
    registries: dict[str, dict[str, Any]] = {"reg1": {"registry_role": "leader"}, "reg2": {"registry_role": "follower"}}
    hosts = {"core": {"hosts": cores, "vars": {"privacy_zone": "ch"}}, "registry": {"hosts": registries}}
    for number, host in enumerate([*cores.values(), *registries.values()], start=1):
        host |= {"ansible_host": f"192.0.2.{number}", "ansible_connection": "local"}
    everywhere = {
        "pryv_domain": DOMAIN,
        "pryv_environment": "development",
        "pryv_web_url": f"https://{DOMAIN}",
        "pryv_admin_networks": ["192.0.2.0/24"],
        "ansible_python_interpreter": sys.executable,
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": everywhere}, **hosts}))

    def role(hosts: str, tasks: str) -> dict[str, Any]:
        task = {"ansible.builtin.include_role": {"name": "registry", "tasks_from": tasks, "public": True}}
        return {"hosts": hosts, "gather_facts": False, "tasks": [task]}

    [early] = [play for play in yaml.safe_load((ROOT / "site.yml").read_text()) if "lost users" in play["name"]]
    fail = {"ansible.builtin.fail": {"msg": "later"}, "when": "inventory_hostname == 'reg1'"}
    failing = {"hosts": "registry", "gather_facts": False, "tasks": [fail]}
    later = role("reg2", "cores")
    later["tasks"].append({"ansible.builtin.debug": {"var": "registry_cores_known"}})
    inventory_play = {"ansible.builtin.import_playbook": str(ROOT / "playbooks/inventory.yml")}
    early["become"] = False
    (tmp_path / "play.yml").write_text(yaml.safe_dump([inventory_play, early, failing, later]))
    program = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        # In check mode cores count as answering.
        [program, tmp_path / "play.yml", "-i", tmp_path / "hosts.yml", "--check"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_ROLES_PATH": str(ROOT / "roles")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "msg: later" in done.stdout, done.stdout + done.stderr
    shown = done.stdout.partition("registry_cores_known:")[2].partition("PLAY RECAP")[0]
    assert shown.split() == ["-", "co1", "-", "co2"], done.stdout + done.stderr


@pytest.mark.parametrize(
    ("says", "configuration"),
    [
        ("Redis server v=5.0.14 sha=00000000:0 malloc=jemalloc-5.1.0 bits=64 build=1", "redis.conf"),
        ("Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64 build=1", "users.conf"),
        ("Redis server v=10.0.0 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64 build=1", "users.conf"),
    ],
)
def test_a_redis_that_knows_no_users_starts_without_them(says: str, configuration: str, tmp_path: Path) -> None:
    """It would not start with users in its configuration."""
    template = (ROOT / "roles/registry/templates/root/etc/pryv/registry/compose.yml.j2").read_text()
    script = " ".join(template.partition("- >-\n")[2].partition("    user:")[0].split()).replace("$$", "$")
    server = tmp_path / "redis-server"
    server.write_text(f'#!/bin/sh\ntest "$1" = --version && echo "{says}" || echo "started with $1"\n')
    server.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"started with /app/conf/{configuration}\n"
