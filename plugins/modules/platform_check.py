"""See a platform as its clients do, and say what is not as it should be."""

from __future__ import annotations

import http.client
import re
import secrets
import ssl
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.platform_client import DNS_ERROR, RENEW, Check, CheckError, Client, Record, records_of
from ansible.module_utils.platform_user import Place, Visitor

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
  - On each core it registers a throw-away user, finds it through every registry host, uses the core as an app does
    (login, streams, events, attachments, previews, series, socket.io) and removes the user again, also when a step
    fails. A user left by a run that was killed is recognised and removed.
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
  cores:
    description: By core, what the inventory says of C(core_mfa_mode) and C(core_trusted_apps).
    type: dict
  services:
    description: By host, the result of M(service_check), which becomes part of the report.
    type: dict
  checks:
    description: What was looked at besides, as in RV(checks), which becomes part of the report.
    type: list
    elements: dict
    default: []
  invitation_token:
    description: What new users need to register, when the platform asks for it.
    type: str
  users:
    description: Whether to register users. In check mode none are registered in any case.
    type: bool
    default: true
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
        self.registry_name: str = self.topology["service_names"]["register"]
        self.hosts: Mapping[str, Mapping[str, Any]] = self.topology["hosts"]
        self.record = Record()
        self.check = self.record.check
        self.registry = [self.topology["leader"], *self.topology["followers"]]

    def run(self, with_users: bool) -> None:
        """Look at everything."""
        served = [host for host, entry in self.hosts.items() if {"web", "registry", "core"} & set(entry["roles"])]
        # What takes longest comes first.
        cores = [host for host, entry in self.hosts.items() if "core" in entry["roles"]]
        jobs = [partial(self._user, core) for core in cores] if with_users else []
        jobs += [
            *(partial(self._zone, zone) for zone in self.topology["hostings"]),
            *(partial(self._ports, host) for host in self.hosts),
            *(partial(self._https, host) for host in served),
            *(partial(self._dns, host) for host in self.registry),
            *(partial(self._service, host) for host in self.registry),
        ]
        with ThreadPoolExecutor(16) as pool:
            for job in [pool.submit(job) for job in jobs]:
                job.result()

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
        service = self.registry_name if "registry" in roles else self.topology["service_names"]["pages"]
        name = f"{host}.{self.domain}" if "core" in roles and "registry" not in roles else service
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
            name = self.registry_name
            info = self.client.request(self.address(host), name, "GET", "/service/info").expect(200, "/service/info")
            for key in ("api", "register", "access"):
                if self.domain not in str(info.get(key)):
                    raise CheckError(f"{key} is {info.get(key)!r}, which is not below {self.domain}")

    def _ports(self, host: str) -> None:
        remedy = "Run site.yml --tags firewall, and look for what listens there with ss -tlnp"
        ports = sorted({DOCKER, *self.topology["ports"].values()})
        with self.check(host, f"closed ports {', '.join(map(str, ports))}", remedy):
            with ThreadPoolExecutor(len(ports) or 1) as pool:
                states = pool.map(lambda port: self.client.is_open(self.address(host), port), ports)
                found = [str(port) for port, state in zip(ports, states, strict=True) if state]
            if found:
                raise CheckError(f"{', '.join(found)} open")

    # -- users -------------------------------------------------------------------------------------------------

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

    def _place(self, core: str) -> Place:
        settings = (self.parameters["cores"] or {}).get(core, {})
        return Place(
            core,
            self.domain,
            self.registry_name,
            {host: self.address(host) for host in self.hosts},
            self.registry,
            self.parameters["core_admin_keys"][core],
            self.parameters["register_admin_key"],
            self.parameters["invitation_token"] or "no-token",
            settings.get("core_mfa_mode", "disabled") != "disabled",
            settings.get("core_trusted_apps") or (),
        )

    def _user(self, core: str) -> None:
        """Use a core, also one that is drained: its users are still there."""
        Visitor(self.client, self.record, self._place(core)).visit()


def services_of(results: Mapping[str, Mapping[str, Any]]) -> list[Check]:
    """Return what hosts have said of their services.

    Args:
        results: Results of the module `service_check` by host.
    """
    checks = []
    for host, result in results.items():
        if "checks" in result:
            checks += [Check(host, one["what"], one["found"], one["remedy"]) for one in result["checks"]]
        elif not result.get("skipped"):
            found = " ".join(str(result.get("module_stderr") or result.get("msg", "")).split())[:300]
            checks.append(Check(host, "services", f"it cannot be asked: {found}", "See if it can be reached by SSH"))
    return checks


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "topology": {"type": "dict", "required": True},
            "ca": {"type": "str"},
            "core_admin_keys": {"type": "dict", "required": True, "no_log": True},
            "register_admin_key": {"type": "str", "required": True, "no_log": True},
            "cores": {"type": "dict"},
            "services": {"type": "dict"},
            "checks": {"type": "list", "elements": "dict", "default": []},
            "invitation_token": {"type": "str", "no_log": True},
            "users": {"type": "bool", "default": True},
            "minimum_days": {"type": "int", "default": 14},
            "timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    if DNS_ERROR:
        module.fail_json(msg=missing_required_lib("dnspython"), exception=DNS_ERROR)
    platform = Platform(module.params, Client(module.params["ca"], module.params["timeout"]))
    platform.run(with_users=module.params["users"] and not module.check_mode)
    checks = sorted(
        platform.record.checks
        + services_of(module.params["services"] or {})
        + [Check(**check) for check in module.params["checks"]],
        key=lambda check: (not check.found, check.where, check.what),
    )
    failed = sum(bool(check.found) for check in checks)
    module.exit_json(
        changed=False,
        checks=[asdict(check) for check in checks],
        failed_checks=failed,
        report=[str(check) for check in checks],
    )


if __name__ == "__main__":
    main()
