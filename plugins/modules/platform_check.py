"""See a platform as its clients do, and say what is not as it should be."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import re
import secrets
import socket
import ssl
import struct
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    import dns.exception
    import dns.flags
    import dns.message
    import dns.query
    import dns.rdatatype
    import dns.rrset
except ImportError:
    DNS_ERROR: str | None = traceback.format_exc()
else:
    DNS_ERROR = None

DOCUMENTATION = r"""
module: platform_check
author: The Pryv Ansible authors
version_added: "0.1.0"
short_description: See a platform as its clients do
description:
  - Runs on a machine that clients could be on, usually the controller, and asks every host by its public address; the
    system's resolver is not used, so the platform need not be delegated yet.
  - Looks at DNS on every registry host, at TLS, certificate, headers and closed ports of every host, and at the service
    information.
  - In each privacy zone it registers a throw-away user, finds it through every registry host, uses its core (API,
    socket.io, series) and removes it again, also when a step fails. A user left by a run that was killed is recognised
    and removed.
  - It never fails because of what it finds; look at RV(failed_checks).
options:
  topology:
    description: The C(topology) fact.
    type: dict
    required: true
  ca:
    description: PEM text of authorities to trust beside the system's.
    type: str
  core_admin_keys:
    description: By core, the key with which it lets users be deleted.
    type: dict
    required: true
  register_admin_key:
    description: Key with which the registry tells about users and forgets them.
    type: str
    required: true
  invitation_token:
    description: What new users need to register, when the platform asks for it.
    type: str
  users:
    description: Whether to register users. In check mode none are registered in any case.
    type: bool
    default: true
  ports_closed:
    description: TCP ports that no host may have open to clients.
    type: list
    elements: int
    default: [2375, 3000, 4000, 6379, 6380, 7000, 8086, 9000, 9025, 9080, 9081, 9100, 27017]
  minimum_days:
    description: For how many days the certificate must still be valid.
    type: int
    default: 14
  timeout:
    description: How long one answer may take, in seconds.
    type: int
    default: 10
requirements: [dnspython]
attributes:
  check_mode:
    description: Registers no users in check mode.
    support: partial
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Look at the platform from outside
  platform_check:
    topology: "{{ topology }}"
    ca: "{{ lookup('ansible.builtin.file', inventory_dir ~ '/ca/ca.pem') }}"
    core_admin_keys: "{{ pryv_core_admin_keys }}"
    register_admin_key: "{{ pryv_secrets.register_admin_key }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
checks:
  description: What was looked at, each with C(where), C(what), C(found) (empty when all is well) and C(remedy).
  returned: always
  type: list
  elements: dict
failed_checks:
  description: Number of checks that found something wrong.
  returned: always
  type: int
report:
  description: The checks as lines of text, what is wrong first.
  returned: always
  type: list
  elements: str
"""

HTTP = 80
HTTPS = 443
# For a port to take a connection; a packet that got lost is sent again after one second.
PORT_SECONDS = 2.0
# Mozilla's HSTS age is two years; what is below one is no protection.
LEAST_HSTS_SECONDS = 31536000
# How long a follower may lag behind.
REPLICATION_SECONDS = 15.0
APP_ID = "platform-check"
RENEW = (
    "See docs/operations/certificate.md: renew it, or name the root of an authority of your own, "
    "and run site.yml --tags certificate"
)


class CheckError(Exception):
    """Something is not as it should be; the message says what was found."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        where: Host or zone.
        what: What was looked at.
        found: What is wrong; empty when nothing is.
        remedy: What to do about it.
    """

    where: str
    what: str
    found: str
    remedy: str

    def __str__(self) -> str:
        """Return the check as a line of the report."""
        if not self.found:
            return f"ok      {self.where}: {self.what}"
        return f"FAILED  {self.where}: {self.what}: {self.found}. {self.remedy}"


@dataclass(frozen=True)
class Reply:
    """What came back over HTTP.

    Attributes:
        status: Status code.
        headers: Values by lower-case name.
        text: The body.
    """

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty when it is none."""
        try:
            content = json.loads(self.text)
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    def expect(self, status: int, what: str) -> dict[str, Any]:
        """Return the body as JSON.

        Raises:
            CheckError: The status is another one.
        """
        if self.status != status:
            raise CheckError(f"{what} answered {self.status}, not {status}: {self.text[:200]!r}")
        return self.json


class _Connection(http.client.HTTPSConnection):
    """HTTPS to an address, under a name that the system's resolver need not know."""

    def __init__(self, address: str, name: str, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(name, HTTPS, timeout=timeout, context=context)
        self._target, self._tls = (address, HTTPS), context

    def connect(self) -> None:
        plain = socket.create_connection(self._target, timeout=self.timeout)
        try:
            self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)
        except OSError:
            plain.close()
            raise


class Client:
    """Talks to hosts by address and name.

    Args:
        ca: PEM text of further authorities to trust; None or empty for none.
        timeout: For one answer, in seconds.
    """

    def __init__(self, ca: str | None, timeout: float) -> None:
        """Load what to trust."""
        self.timeout = timeout
        self.context = ssl.create_default_context()
        if ca:
            self.context.load_verify_locations(cadata=ca)

    def request(
        self,
        address: str,
        name: str,
        method: str,
        path: str,
        body: object = None,
        key: str | None = None,
    ) -> Reply:
        """Send one request.

        Args:
            address: Address of the host.
            name: Host name in TLS and in the Host header.
            method: HTTP method.
            path: Path with query.
            body: Sent as JSON, a text as it is; None for none.
            key: Value of the Authorization header.

        Raises:
            CheckError: There was no answer.
        """
        headers = {"Content-Type": "text/plain" if isinstance(body, str) else "application/json"}
        if key:
            headers["Authorization"] = key
        content = body if body is None or isinstance(body, str) else json.dumps(body)
        with closing(_Connection(address, name, self.context, self.timeout)) as connection:
            try:
                connection.request(method, path, content, headers)
                answer = connection.getresponse()
                text = answer.read().decode(errors="replace")
            except (OSError, http.client.HTTPException) as error:
                raise CheckError(
                    f"no answer from https://{name}{urlsplit(path).path} at {address} ({error})"
                ) from error
        return Reply(answer.status, {key.lower(): value for key, value in answer.getheaders()}, text)

    @contextmanager
    def tls(self, address: str, name: str, version: ssl.TLSVersion | None = None) -> Iterator[ssl.SSLSocket]:
        """Open a TLS connection, of one version when it is given.

        Raises:
            CheckError: It cannot be made.
        """
        context = self.context
        if version is not None:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.minimum_version = context.maximum_version = version
        try:
            with (
                socket.create_connection((address, HTTPS), timeout=self.timeout) as plain,
                context.wrap_socket(plain, server_hostname=name) as wrapped,
            ):
                yield wrapped
        except OSError as error:
            raise CheckError(f"no TLS connection to {address} as {name} ({error})") from error

    def refuses_old_tls(self, address: str, name: str) -> bool:
        """Tell whether a host refuses TLS 1.1, whatever this machine's own library can do.

        Raises:
            CheckError: The host cannot be reached.
        """
        try:
            with socket.create_connection((address, HTTPS), timeout=self.timeout) as plain:
                plain.sendall(client_hello(name))
                try:
                    first = plain.recv(1)
                except OSError:
                    first = b""
        except OSError as error:
            raise CheckError(f"no connection to {address}:{HTTPS} ({error})") from error
        return first != b"\x16"  # a handshake record: the host goes on with it

    def is_open(self, address: str, port: int) -> bool:
        """Tell whether a TCP port takes connections."""
        try:
            socket.create_connection((address, port), timeout=min(self.timeout, PORT_SECONDS)).close()
        except OSError:
            return False
        return True

    def ask(self, server: str, name: str, kind: str) -> dns.message.Message:
        """Ask a name server.

        Raises:
            CheckError: There was no answer, or it is not authoritative.
        """
        query = dns.message.make_query(name, kind)
        error: Exception | None = None
        for _ in range(2):  # a datagram may get lost
            try:
                answer = dns.query.udp(query, server, timeout=self.timeout / 2)
            except (dns.exception.DNSException, OSError) as failure:
                error = failure
                continue
            if not answer.flags & dns.flags.AA:
                raise CheckError(f"{name} {kind}: the answer is not authoritative")
            return answer
        raise CheckError(f"{name} {kind}: no answer from {server}:53/udp ({error})")

    def addresses(self, server: str, name: str) -> tuple[list[str], list[str]]:
        """Resolve a name at one name server, through aliases.

        Returns:
            The aliases on the way, and the addresses in order.
        """
        aliases: list[str] = []
        while True:
            records = list(records_of(self.ask(server, aliases[-1] if aliases else name, "A")))
            target = next((value for kind, value in records if kind == "CNAME"), None)
            if target is None or len(aliases) > 3:
                return aliases, sorted(value for kind, value in records if kind == "A")
            aliases.append(target.rstrip("."))


def records_of(message: dns.message.Message) -> Iterator[tuple[str, str]]:
    """Yield type and value of each record in a response's answer."""
    for rrset in message.answer:
        for item in rrset:
            yield dns.rdatatype.to_text(rrset.rdtype), item.to_text()


def client_hello(name: str) -> bytes:
    """Return the first message of a client that knows TLS 1.1 and nothing newer.

    Args:
        name: Host name it is for.
    """

    def sized(content: bytes, size: int) -> bytes:
        return len(content).to_bytes(size, "big") + content

    host = sized(sized(b"\0" + sized(name.encode(), 2), 2), 2)
    # With RSA and ECDSA keys alike: ECDHE and plain RSA, AES in CBC mode.
    ciphers = b"".join(struct.pack("!H", number) for number in (0xC013, 0xC014, 0xC009, 0xC00A, 0x002F, 0x0035))
    curves = sized(sized(struct.pack("!HH", 23, 29), 2), 2)
    points = sized(sized(b"\0", 1), 2)
    extensions = b"\0\0" + host + struct.pack("!H", 10) + curves + struct.pack("!H", 11) + points
    hello = b"\x03\x02" + secrets.token_bytes(32) + b"\0" + sized(ciphers, 2) + b"\x01\0" + sized(extensions, 2)
    return b"\x16\x03\x01" + sized(b"\x01" + sized(hello, 3), 2)


def covers(certificate: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return which of the names, wildcards taken literally, a certificate does not hold.

    Args:
        certificate: As `ssl` gives it.
        names: Names that it should hold.
    """
    held = {value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"}
    return [name for name in names if name not in held]


def frame(text: str) -> bytes:
    """Return a short text as a client's websocket frame."""
    data, mask = text.encode(), secrets.token_bytes(4)
    return bytes([0x81, 0x80 | len(data)]) + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


def identity(zone: str, domain: str, key: str) -> tuple[str, str]:
    """Return name and email of the throw-away user of a zone.

    Both follow from a secret: nobody else can take the name beforehand, and a user with that name and email is ours.

    Args:
        zone: The zone.
        domain: The platform's domain.
        key: A secret of the platform.
    """
    mark = hmac.new(key.encode(), f"platform-check {domain} {zone}".encode(), hashlib.sha256).hexdigest()
    label = re.sub(r"[^a-z0-9]+", "-", zone.lower())
    return f"zz-verify-{mark[:12]}-{label}"[:60].rstrip("-"), f"{mark[12:36]}@{domain}"


class Platform:
    """All checks of one platform.

    Args:
        parameters: The module's.
        client: Talks to the hosts.
    """

    def __init__(self, parameters: Mapping[str, Any], client: Client) -> None:
        """Keep what is given; nothing is looked at yet."""
        self.parameters, self.client = parameters, client
        self.topology: Mapping[str, Any] = parameters["topology"]
        self.domain: str = self.topology["domain"]
        self.hosts: Mapping[str, Mapping[str, Any]] = self.topology["hosts"]
        self.checks: list[Check] = []
        self.registry = [self.topology["leader"], *self.topology["followers"]]

    def run(self, with_users: bool) -> None:
        """Look at everything."""
        served = [host for host, entry in self.hosts.items() if {"web", "registry", "core"} & set(entry["roles"])]
        # What takes longest comes first.
        jobs = [partial(self._user, zone) for zone in self.topology["hostings"]] if with_users else []
        jobs += [
            *(partial(self._ports, host) for host in self.hosts),
            *(partial(self._https, host) for host in served),
            *(partial(self._dns, host) for host in self.registry),
            *(partial(self._service, host) for host in self.registry),
        ]
        with ThreadPoolExecutor(8) as pool:
            for job in [pool.submit(job) for job in jobs]:
                job.result()

    @contextmanager
    def check(self, where: str, what: str, remedy: str) -> Iterator[None]:
        """Note whether what is done within finds anything wrong."""
        found = ""
        try:
            yield
        except CheckError as error:
            found = str(error)
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):  # whatever was asked for
                remedy = RENEW
        self.checks.append(Check(where, what, found, remedy))

    def address(self, host: str) -> str:
        """Return where clients reach a host."""
        return str(self.hosts[host]["public_address"])

    # -- hosts -------------------------------------------------------------------------------------------------

    def _dns(self, host: str) -> None:
        server = self.address(host)
        missing = "Run site.yml for the registry; see if its name server runs and the firewall lets 53/udp through"
        for name, expected in self.topology["names"].items():
            with self.check(host, f"DNS knows {name}", missing):
                _, found = self.client.addresses(server, name)
                if found != sorted(expected):
                    raise CheckError(f"{found or 'no address'} instead of {sorted(expected)}")
        with self.check(host, f"DNS names the name servers of {self.domain}", missing):
            wanted = {f"{entry['name']}.{self.domain}." for entry in self.topology["name_servers"]}
            named = {value for kind, value in records_of(self.client.ask(server, self.domain, "NS")) if kind == "NS"}
            if named != wanted:
                raise CheckError(f"{sorted(named)} instead of {sorted(wanted)}")
        with self.check(host, f"DNS has the start of authority of {self.domain}", missing):
            if "SOA" not in dict(records_of(self.client.ask(server, self.domain, "SOA"))):
                raise CheckError("no SOA record")
        with self.check(host, "DNS finds nothing for a name that nobody has", missing):
            if any(self.client.addresses(server, f"zz-nobody-{secrets.token_hex(6)}.{self.domain}")):
                raise CheckError("an address or an alias")

    def _https(self, host: str) -> None:
        roles, address = self.hosts[host]["roles"], self.address(host)
        name = f"{'reg' if 'registry' in roles else host if 'core' in roles else 'sw'}.{self.domain}"
        with self.check(host, f"certificate for {name}", RENEW):
            with self.client.tls(address, name) as connection:
                certificate: Mapping[str, Any] = connection.getpeercert() or {}
            uncovered = covers(certificate, [self.domain, f"*.{self.domain}"])
            if uncovered:
                raise CheckError(f"it does not cover {' and '.join(uncovered)}")
            days = (ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) / 86400
            if days < self.parameters["minimum_days"]:
                raise CheckError(f"it expires in {days:.0f} days")
        tls = "Run site.yml --tags nginx"
        for version, text in ((ssl.TLSVersion.TLSv1_2, "1.2"), (ssl.TLSVersion.TLSv1_3, "1.3")):
            with self.check(host, f"TLS {text}", tls), self.client.tls(address, name, version):
                pass
        with self.check(host, "TLS 1.1 is refused", tls):
            if not self.client.refuses_old_tls(address, name):
                raise CheckError("it is accepted")
        with self.check(host, "an unknown host name gets nothing", tls):
            self._expect_no_tls(address)
        with self.check(host, "HTTP headers", tls):
            headers = self.client.request(address, name, "GET", "/").headers
            age = re.search(r"max-age=(\d+)", headers.get("strict-transport-security", ""))
            if age is None or int(age[1]) < LEAST_HSTS_SECONDS:
                raise CheckError("Strict-Transport-Security is missing or shorter than a year")
            if re.search(r"\d", headers.get("server", "")):
                raise CheckError(f"Server tells a version: {headers['server']}")
        with self.check(host, "HTTP only leads to HTTPS", "Run site.yml --tags firewall,nginx"):
            if any((flow["target"], flow["port"]) == (host, HTTP) for flow in self.topology["flows"]):
                self._expect_redirect(address, name)
            elif self.client.is_open(address, HTTP):
                raise CheckError("port 80 is open without pryv_http_redirect")

    def _expect_no_tls(self, address: str) -> None:
        try:
            with self.client.tls(address, "unknown.invalid", ssl.TLSVersion.TLSv1_2):
                pass
        except CheckError:
            return
        raise CheckError("a certificate")

    def _expect_redirect(self, address: str, name: str) -> None:
        with closing(http.client.HTTPConnection(address, HTTP, timeout=self.client.timeout)) as connection:
            try:
                connection.request("GET", "/", headers={"Host": name})
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise CheckError(f"port 80 gives no answer ({error})") from error
        target = answer.getheader("Location", "")
        if answer.status not in (301, 308) or not target.startswith("https://"):
            raise CheckError(f"port 80 answers {answer.status} {target}")

    def _service(self, host: str) -> None:
        remedy = "See the log of the registry's container register (dns on a follower)"
        with self.check(host, "service information", remedy):
            name = f"reg.{self.domain}"
            info = self.client.request(self.address(host), name, "GET", "/service/info").expect(200, "/service/info")
            for key in ("api", "register", "access"):
                if self.domain not in str(info.get(key)):
                    raise CheckError(f"{key} is {info.get(key)!r}, which is not below {self.domain}")

    def _ports(self, host: str) -> None:
        remedy = "Run site.yml --tags firewall, and look for what listens there with ss -tlnp"
        ports: list[int] = self.parameters["ports_closed"]
        with self.check(host, f"closed ports {', '.join(map(str, ports))}", remedy):
            with ThreadPoolExecutor(len(ports) or 1) as pool:
                states = pool.map(lambda port: self.client.is_open(self.address(host), port), ports)
                found = [str(port) for port, state in zip(ports, states, strict=True) if state]
            if found:
                raise CheckError(f"{', '.join(found)} open")

    # -- users -------------------------------------------------------------------------------------------------

    def _user(self, zone: str) -> None:
        """Register, find, use and remove the zone's throw-away user."""
        (name, email), password = self._identity(zone), secrets.token_urlsafe(18)
        where = f"zone {zone}"
        self._discard(where, name, email, "no user of an earlier run is left")
        if self.checks_failed(where):
            return
        core = token = ""
        try:
            with self.check(where, "a hosting offers a core of the zone", "Run site.yml for the registry"):
                core = self._offered(zone)
            if core:
                with self.check(
                    where, f"a user is registered on {core}", f"See the logs of core on {core} and register"
                ):
                    token = self._register(core, name, email, password)
            if token:
                self._find(where, name, core)
                self._use(where, name, core, token)
        finally:
            self._discard(where, name, email, "the user is removed again", core)

    def checks_failed(self, where: str) -> bool:
        """Tell whether anything was found wrong at a place."""
        return any(check.found for check in self.checks if check.where == where)

    def _ask_registry(
        self, method: str, path: str, host: str = "", key: str | None = None, body: object = None
    ) -> Reply:
        server = self.address(host or self.topology["leader"])
        return self.client.request(server, f"reg.{self.domain}", method, path, body, key)

    def _offered(self, zone: str) -> str:
        """Return the core that the registry offers to new users of a zone."""
        for _ in range(5):  # the first answer after register's start does not have it
            answer = self._ask_registry("GET", "/hostings").expect(200, "/hostings")
            hostings = [
                hosting
                for region in answer["regions"].values()
                for zones in region["zones"].values()
                for label, hosting in zones["hostings"].items()
                if label == zone
            ]
            if not hostings:
                raise CheckError(f"there is no hosting {zone}")
            url = hostings[0].get("availableCore")
            if url:
                core = str(urlsplit(url).hostname).removesuffix(f".{self.domain}")
                if core not in self.topology["hostings"][zone]:
                    raise CheckError(f"the hosting {zone} offers {url}, which is no core that takes users of the zone")
                return core
            time.sleep(1)
        raise CheckError(f"the hosting {zone} offers no core")

    def _register(self, core: str, name: str, email: str, password: str) -> str:
        """Register the user at a core and return their token."""
        user = {
            "username": name,
            "password": password,
            "email": email,
            "appId": APP_ID,
            "language": "en",
            "invitationToken": self.parameters["invitation_token"] or "no-token",
        }
        answer = self.client.request(self.address(core), f"{core}.{self.domain}", "POST", "/users", user)
        endpoint = urlsplit(str(answer.expect(201, "registration").get("apiEndpoint")))
        if not endpoint.username or endpoint.hostname != f"{name}.{self.domain}":
            raise CheckError(f"the answer names another endpoint: {endpoint.hostname}")
        return endpoint.username

    def _identity(self, zone: str) -> tuple[str, str]:
        return identity(zone, self.domain, self.parameters["register_admin_key"])

    def _find(self, where: str, name: str, core: str) -> None:
        home, full = f"{core}.{self.domain}", f"{name}.{self.domain}"
        remedy = "See if replication works: docs/operations"
        for host in self.registry:

            def dns_answer(host: str = host) -> None:
                aliases, found = self.client.addresses(self.address(host), full)
                if aliases[:1] != [home] or found != [self.address(core)]:
                    raise CheckError(f"{aliases} {found} instead of {home} {self.address(core)}")

            def https_answer(host: str = host) -> None:
                server = (
                    self._ask_registry("POST", f"/{name}/server", host, body={}).expect(200, "/server").get("server")
                )
                if server != home:
                    raise CheckError(f"{server} instead of {home}")

            for what, look in (("DNS", dns_answer), ("HTTPS", https_answer)):
                with self.check(where, f"{host} finds the user by {what}", remedy):
                    retry(look)

    def _use(self, where: str, name: str, core: str, token: str) -> None:
        address, full = self.address(core), f"{name}.{self.domain}"

        def call(method: str, path: str, status: int, body: object = None) -> dict[str, Any]:
            return self.client.request(address, full, method, path, body, token).expect(status, f"{method} {path}")

        with self.check(where, f"the user's core {core} knows the user", f"See the log of core on {core}"):
            user = call("GET", "/access-info", 200).get("user") or {}
            if user.get("username") not in (None, name):
                raise CheckError(f"it takes the token for one of {user['username']}")
        with self.check(
            where, f"a socket on {core}", f"See nginx's /socket.io/ on {core}: a client must stay on one process"
        ):
            self._socket(address, full, name, token)
        with self.check(
            where, f"a series on {core}", f"See nginx's routes to hfs on {core}, and the logs of hfs and influxdb"
        ):
            call("POST", "/streams", 201, {"id": "platform-check", "name": "Platform check"})
            event = call("POST", "/events", 201, {"streamIds": ["platform-check"], "type": "series:mass/kg"})["event"][
                "id"
            ]
            points = {"format": "flatJSON", "fields": ["deltaTime", "value"], "points": [[0, 81.5], [1, 82.25]]}
            call("POST", f"/events/{event}/series", 200, points)
            stored = call("GET", f"/events/{event}/series", 200).get("points", [])
            if [point[-1] for point in stored] != [81.5, 82.25]:
                raise CheckError(f"the points {stored} came back instead of those sent")

    def _socket(self, address: str, full: str, name: str, token: str) -> None:
        base = f"/socket.io/?EIO=4&auth={token}"

        def poll(method: str, sid: str = "", body: str | None = None) -> str:
            path = f"{base}&transport=polling" + (f"&sid={sid}" if sid else "")
            reply = self.client.request(address, full, method, path, body)
            reply.expect(200, "socket.io")
            return reply.text

        opened = poll("GET")
        sid = json.loads(opened[1:])["sid"] if opened.startswith("0{") else ""
        if not sid:
            raise CheckError(f"socket.io opened with {opened[:80]!r}")
        poll("POST", sid, f"40/{name},")
        joined = poll("GET", sid)
        if not joined.startswith(f"40/{name},"):
            raise CheckError(f"socket.io does not let the user in: {joined[:120]!r}")
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        with self.client.tls(address, full) as connection:
            connection.settimeout(self.client.timeout)
            connection.sendall(
                f"GET {base}&transport=websocket&sid={sid} HTTP/1.1\r\nHost: {full}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
            )
            stream = connection.makefile("rb")
            status = stream.readline().decode(errors="replace").strip()
            if " 101 " not in f"{status} ":
                raise CheckError(f"no websocket: {status}")
            while stream.readline().strip():
                pass
            connection.sendall(frame("2probe"))
            if stream.read(8)[2:] != b"3probe":
                raise CheckError("the websocket does not answer")

    def _discard(self, where: str, name: str, email: str, what: str, core: str = "") -> None:
        """Remove the user, if there is one and it is ours.

        Args:
            where: The zone, for the report.
            name: The user.
            email: By which the user is known to be ours.
            what: What that shows, for the report.
            core: Where the user should be, in case the registry does not know it.
        """
        remedy = f"See if the core and the registry answer; the next run removes {name}"
        with self.check(where, what, remedy):
            admin = self.parameters["register_admin_key"]
            found = self._ask_registry("GET", f"/admin/users/{name}", key=admin)
            if found.status == 200:
                user = found.json
                if not hmac.compare_digest(str(user.get("email", "")), email):
                    raise CheckError(f"{name} has another email address than ours and was left alone")
                core = str(user.get("server", "")).removesuffix(f".{self.domain}")
            elif found.status != 404:
                found.expect(404, "the registry, asked for the user,")
            if core in self.hosts:
                self._delete_at(core, name)
            if found.status == 200 and self._ask_registry("GET", f"/{name}/check_username").json.get("reserved"):
                # The core did not know the user, or did not tell the registry.
                self._ask_registry("DELETE", f"/users/{name}?onlyReg=true", key=admin).expect(200, "the registry")

            def gone() -> None:
                for host in self.registry:
                    if any(self.client.addresses(self.address(host), f"{name}.{self.domain}")):
                        raise CheckError(f"{host} still finds the user")

            retry(gone)

    def _delete_at(self, core: str, name: str) -> None:
        key = self.parameters["core_admin_keys"][core]
        reply = self.client.request(self.address(core), f"{core}.{self.domain}", "DELETE", f"/users/{name}", key=key)
        if reply.status != 404:
            reply.expect(200, f"deletion on {core}")


def retry(look: Callable[[], None]) -> None:
    """Try until nothing is found wrong, as long as a follower may lag behind.

    Args:
        look: Raises CheckError when something is.

    Raises:
        CheckError: Something still is.
    """
    end = time.monotonic() + REPLICATION_SECONDS
    while True:
        try:
            return look()
        except CheckError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "topology": {"type": "dict", "required": True},
            "ca": {"type": "str"},
            "core_admin_keys": {"type": "dict", "required": True, "no_log": True},
            "register_admin_key": {"type": "str", "required": True, "no_log": True},
            "invitation_token": {"type": "str", "no_log": True},
            "users": {"type": "bool", "default": True},
            "ports_closed": {
                "type": "list",
                "elements": "int",
                "default": [2375, 3000, 4000, 6379, 6380, 7000, 8086, 9000, 9025, 9080, 9081, 9100, 27017],
            },
            "minimum_days": {"type": "int", "default": 14},
            "timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    if DNS_ERROR:
        module.fail_json(msg=missing_required_lib("dnspython"), exception=DNS_ERROR)
    platform = Platform(module.params, Client(module.params["ca"], module.params["timeout"]))
    platform.run(with_users=module.params["users"] and not module.check_mode)
    checks = sorted(platform.checks, key=lambda check: (not check.found, check.where, check.what))
    failed = sum(bool(check.found) for check in checks)
    module.exit_json(
        changed=False,
        checks=[asdict(check) for check in checks],
        failed_checks=failed,
        report=[str(check) for check in checks],
    )


if __name__ == "__main__":
    main()
