"""Who is told of which alert, as Alertmanager is told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SEVERITIES = ("critical", "warning")
#: Where alerts go that nobody is told of.
NOBODY = "nobody"
WATCHDOG = "watchdog"
#: What of two alerts that have the named labels in common makes the other one needless. The watchdog always goes out.
INHIBITIONS: Sequence[tuple[str, str, Sequence[str]]] = (
    ('alertname="HostDown"', 'alertname!~"HostDown|Watchdog"', ("host",)),
    ('alertname="DiskAlmostFull"', 'alertname=~"DiskFills|DiskFillsToday"', ("host", "mountpoint")),
    ('alertname="DiskFillsToday"', 'alertname="DiskFills"', ("host", "mountpoint")),
    ('alertname="CertificateExpires"', 'alertname="CertificateNotRenewed"', ("host",)),
    ('alertname="ContainerCrashLoop"', 'alertname="ContainerDown"', ("host", "service")),
    ('alertname="BackupMissed"', 'alertname="BackupFailed"', ("host",)),
    # nginx answers in the name of the registry, which does not.
    ('alertname="RegistryDown"', 'alertname="HttpsDown",name=~"reg[.].+"', ("host",)),
    # What is critical says more than that something is not well.
    ('severity="critical"', 'alertname=~"VerifyFails|VerifyPlatformFails"', ("host",)),
)


def _route(receiver: Mapping[str, Any]) -> dict[str, Any]:
    """Return which alerts go to a receiver; one of some zones gets what concerns none, too: the registry is theirs."""
    severities = "|".join(receiver.get("severities") or SEVERITIES)
    matchers = [f'severity=~"{severities}"']
    if zones := receiver.get("zones"):
        matchers.append(f'zone=~"|{"|".join(zones)}"')
    return {"receiver": receiver["name"], "matchers": matchers, "continue": True}


def _receiver(receiver: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a receiver is reached."""
    ways: dict[str, Any] = {"name": receiver["name"]}
    if receiver.get("mail"):
        ways["email_configs"] = [{"to": ", ".join(receiver["mail"]), "send_resolved": True}]
    if receiver.get("webhook"):
        ways["webhook_configs"] = [{"url": receiver["webhook"], "send_resolved": True}]
    return ways


def _mail(server: Mapping[str, Any], domain: str) -> dict[str, Any]:
    """Return how mail is handed over."""
    found = {
        "smtp_smarthost": f"{server['host']}:{server.get('port', 587)}",
        "smtp_from": server.get("from") or f"alerts@{domain}",
        "smtp_require_tls": server.get("tls", True),
    }
    if server.get("user"):
        found |= {"smtp_auth_username": server["user"], "smtp_auth_password": server.get("password", "")}
    return found


def alertmanager_configuration(
    receivers: Iterable[Mapping[str, Any]], server: Mapping[str, Any], watchdog: str, domain: str
) -> dict[str, Any]:
    """Return who is told of which alert, as Alertmanager is told.

    Args:
        receivers: `monitoring_receivers`.
        server: `monitoring_mail_server`; empty when nobody gets mail.
        watchdog: `monitoring_watchdog_url`; empty when nobody outside watches.
        domain: The platform's.
    """
    told = list(receivers)
    always = {
        "receiver": WATCHDOG if watchdog else NOBODY,
        "matchers": ['alertname="Watchdog"'],
        # A minute apart.
        "group_wait": "0s",
        "group_interval": "30s",
        "repeat_interval": "1m",
    }
    outside = [{"name": WATCHDOG, "webhook_configs": [{"url": watchdog, "send_resolved": False}]}] if watchdog else []
    return {
        "global": _mail(server, domain) if server.get("host") else {},
        "route": {
            "receiver": NOBODY,
            # One message of ten cores that have the same.
            "group_by": ["alertname"],
            "group_wait": "15s",
            "group_interval": "1m",
            "repeat_interval": "8h",
            "routes": [always, *map(_route, told)],
        },
        "receivers": [{"name": NOBODY}, *outside, *map(_receiver, told)],
        "inhibit_rules": [
            {"source_matchers": [source], "target_matchers": [target], "equal": list(labels)}
            for source, target, labels in INHIBITIONS
        ],
    }


def alert_checks(said: Mapping[str, str | None]) -> list[dict[str, str]]:
    """Return what monitoring hosts know to be wrong as checks, for the report of verify.

    Args:
        said: By monitoring host, the alerts that fire and the targets that do not answer, as promtool prints series;
            None where it got no answer.

    Returns:
        Each with `where`, `what`, `found` (empty when all is well) and `remedy`.
    """
    return [
        {
            "where": host,
            "what": "monitoring: alerts, and hosts that tell nothing",
            "found": "no answer of Prometheus"
            if text is None
            else "; ".join(_finding(one) for one in json.loads(text)),
            "remedy": "See docs/operations/alerts.md",
        }
        for host, text in said.items()
    ]


def _finding(series: Mapping[str, Any]) -> str:
    """Say what a series means: an alert, or a target that does not answer."""
    labels = series["metric"]
    about = labels.get("host", "")
    return f"{labels['alertname']} {about}".strip() if "alertname" in labels else f"{about} tells no {labels['job']}"
