"""What anybody can see of a platform, without being one of its users."""

from __future__ import annotations

import http.client
import re
import secrets
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from .platform_client import RENEW, CheckError, Client, Record, records_of

HTTP = 80
# Of its API, which Docker itself does not open.
DOCKER = 2375
# Mozilla's HSTS age is two years; what is below one is no protection.
LEAST_HSTS_SECONDS = 31536000


def covers(certificate: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return which of the names, wildcards taken literally, a certificate does not hold.

    Args:
        certificate: As `ssl` gives it.
        names: Names that it should hold.
    """
    held = {value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"}
    return [name for name in names if name not in held]


def do_all(jobs: Iterable[Callable[[], None]]) -> None:
    """Do jobs, several at a time, in their order."""
    with ThreadPoolExecutor(16) as pool:
        for job in [pool.submit(job) for job in jobs]:
            job.result()


class Surface:
    """All that is looked at.

    Args:
        topology: The C(topology) fact.
        client: Talks to the hosts.
        record: Where what is found is noted.
        minimum_days: For how many days certificates must still be valid.
        source: The host that looks, when it is one of the platform's: to it, ports may be open that nobody else sees.
    """

    def __init__(
        self, topology: Mapping[str, Any], client: Client, record: Record, minimum_days: float, source: str = ""
    ) -> None:
        """Keep what is given; nothing is looked at yet."""
        self.topology, self.client, self.record, self.check = topology, client, record, record.check
        self.minimum_days, self.source = minimum_days, source
        self.domain: str = topology["domain"]
        self.registry_name: str = topology["service_names"]["register"]
        self.hosts: Mapping[str, Mapping[str, Any]] = topology["hosts"]
        self.registry = [topology["leader"], *topology["followers"]]

    def jobs(self) -> Iterator[Callable[[], None]]:
        """Yield each look; they may be done in any order, and at once."""
        served = [host for host, entry in self.hosts.items() if {"web", "registry", "core"} & set(entry["roles"])]
        yield from (partial(self._zone, zone) for zone in self.topology["hostings"])
        # From inside, a host shows itself what its firewall shows nobody.
        yield from (partial(self._ports, host) for host in self.hosts if host != self.source)
        yield from (partial(self._https, host) for host in served)
        yield from (partial(self._dns, host) for host in self.registry)
        yield from (partial(self._service, host) for host in self.registry)

    def address(self, host: str) -> str:
        """Return where clients reach a host."""
        return str(self.hosts[host]["public_address"])

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
        service = self.registry_name if "registry" in roles else self.topology["service_names"]["pages"]
        name = f"{host}.{self.domain}" if "core" in roles and "registry" not in roles else service
        with self.check(host, f"certificate for {name}", RENEW):
            with self.client.tls(address, name) as connection:
                certificate: Mapping[str, Any] = connection.getpeercert() or {}
            uncovered = covers(certificate, [self.domain, f"*.{self.domain}"])
            if uncovered:
                raise CheckError(f"it does not cover {' and '.join(uncovered)}")
            days = (ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) / 86400
            if days < self.minimum_days:
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
            name = self.registry_name
            info = self.client.request(self.address(host), name, "GET", "/service/info").expect(200, "/service/info")
            for key in ("api", "register", "access"):
                if self.domain not in str(info.get(key)):
                    raise CheckError(f"{key} is {info.get(key)!r}, which is not below {self.domain}")

    def _ports(self, host: str) -> None:
        remedy = "Run site.yml --tags firewall, and look for what listens there with ss -tlnp"
        flows = self.topology["flows"]
        own = {flow["port"] for flow in flows if (flow["source"], flow["target"]) == (self.source, host)}
        ports = sorted({DOCKER, *self.topology["ports"].values()} - own)
        with self.check(host, f"closed ports {', '.join(map(str, ports))}", remedy):
            with ThreadPoolExecutor(len(ports) or 1) as pool:
                states = pool.map(lambda port: self.client.is_open(self.address(host), port), ports)
                found = [str(port) for port, state in zip(ports, states, strict=True) if state]
            if found:
                raise CheckError(f"{', '.join(found)} open")

    def _zone(self, zone: str) -> None:
        with self.check(f"zone {zone}", "a hosting offers a core of the zone", "Run site.yml for the registry"):
            self._offered(zone)

    def _offered(self, zone: str) -> None:
        """See that the registry offers a core of the zone to its new users."""
        server = self.address(self.topology["leader"])
        for _ in range(5):  # the first answer after register's start does not have it
            answer = self.client.request(server, self.registry_name, "GET", "/hostings").expect(200, "/hostings")
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
                return
            time.sleep(1)
        raise CheckError(f"the hosting {zone} offers no core")
