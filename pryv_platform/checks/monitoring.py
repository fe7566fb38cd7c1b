"""What the inventory alone shows to be wrong with who is told of alerts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pryv_platform.alerting import NOBODY, SEVERITIES, WATCHDOG
from pryv_platform.checks.bounds import bounds_problems
from pryv_platform.inventory import Inventory
from pryv_platform.problems import Problem, make_error, make_problem

#: The least and the greatest value of numbers.
BOUNDS: Mapping[str, Sequence[int]] = {
    "monitoring_retention_days": (1, 3660),
    "monitoring_retention_gb": (1, 100_000),
    "monitoring_log_days": (7, 3660),
    "monitoring_log_gb_per_host": (1, 100_000),
}
VARIABLES = (
    "monitoring_receivers",
    "monitoring_mail_server",
    "monitoring_watchdog_url",
    "pryv_environment",
    "pryv_locked_vaults",
)
ADDRESS = re.compile(r"[^\s@,<>]+@[^\s@,<>]+")
URL = re.compile(r"https?://[^\s/?#]+\S*")
# A name is a label of Alertmanager's metrics, by which a test tells receivers apart.
NAME = re.compile(r"[\w.-]+")


def _receiver_problems(receiver: Mapping[str, Any], zones: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with a receiver: the option, the problem, what to do. Types are checked with all others'."""
    name = receiver.get("name")
    if isinstance(name, str) and (not NAME.fullmatch(name) or name in (NOBODY, WATCHDOG)):
        yield "name", f"is {name!r}", f"give letters, digits, dots and dashes, other than {NOBODY} and {WATCHDOG}"
    mails, url = receiver.get("mail") or [], receiver.get("webhook")
    if not mails and not url:
        yield "mail", "is missing, and so is webhook: nobody is told", "give addresses, a webhook, or both"
    # Some webhooks are secrets by themselves: none is named.
    if url and not (isinstance(url, str) and URL.fullmatch(url)):
        yield "webhook", "is no URL", "begin it with https://"
    for mail in mails if isinstance(mails, list) else ():
        if not (isinstance(mail, str) and ADDRESS.fullmatch(mail)):
            yield "mail", f"has {mail!r}", "give addresses alone, such as ops@example.com"
    for option, known in (("severities", SEVERITIES), ("zones", sorted(zones))):
        given = receiver.get(option)
        for value in given if isinstance(given, list) else ():
            if value not in known:
                yield option, f"has {value!r}", f"take of {', '.join(known)}"


def receiver_problems(host: str, variables: Mapping[str, Any], zones: Collection[str]) -> list[Problem]:
    """Check who is told of alerts.

    Args:
        host: The monitoring host.
        variables: Those of `VARIABLES` that its inventory sets.
        zones: The platform's privacy zones.
    """
    where = f"{host}: monitoring_receivers"
    given = variables.get("monitoring_receivers")
    receivers = [one for one in given if isinstance(one, Mapping)] if isinstance(given, list) else []
    found = [
        make_error(f"{where}[{number}].{option}", problem, remedy)
        for number, receiver in enumerate(receivers)
        for option, problem, remedy in _receiver_problems(receiver, zones)
    ]
    names = [str(receiver.get("name")) for receiver in receivers]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        found.append(make_error(where, f"has {name} twice", "give each a name of its own"))
    server = variables.get("monitoring_mail_server")
    server = server if isinstance(server, Mapping) else {}
    locked = bool(variables.get("pryv_locked_vaults"))  # reported with the secrets
    if any(receiver.get("mail") for receiver in receivers) and not server.get("host") and not locked:
        found.append(
            make_error(
                f"{host}: monitoring_mail_server.host", "is missing, and receivers get mail", "name the mail server"
            )
        )
    if server.get("user") and not server.get("password") and not locked:
        found.append(make_error(f"{host}: monitoring_mail_server.password", "is missing", "put it into the vault"))
    url = variables.get("monitoring_watchdog_url")
    if url and not (isinstance(url, str) and URL.fullmatch(url)):
        found.append(make_error(f"{host}: monitoring_watchdog_url", "is no URL", "begin it with https://"))
    if variables.get("pryv_environment") == "production" and not receivers:
        text = "is empty: alerts are seen by who looks at the page, and by nobody else"
        found.append(make_problem("warning", where, text, "say who is told (docs/operations/alerts.md)"))
    return found


def problems(inventory: Inventory) -> list[Problem]:
    """Check the variables of role `monitoring`."""
    watchers = inventory.members("monitoring")
    values = inventory.known(watchers or inventory.members("all")[:1], VARIABLES)
    # Where nobody watches, hosts themselves send mail, if they are told to whom; all have been told the same.
    hosts = watchers or [host for host, own in values.items() if own.get("monitoring_receivers")]
    zones = inventory.topology["zones"]
    return [
        *bounds_problems(inventory.known(hosts, BOUNDS), BOUNDS),
        *(problem for host in hosts for problem in receiver_problems(host, values[host], zones)),
    ]
