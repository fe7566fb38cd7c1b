"""What a monitoring host knows of the others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from pryv_platform.audit.check import Check, judge, unless

REMEDY = "docs/operations/alerts.md"


def monitoring_checks(said: Mapping[str, str | None], hosts: Iterable[str]) -> Iterator[Check]:
    """Yield what is known where the platform is watched: alerts that fire, and hosts that nobody hears of.

    Args:
        said: What module service_check was told, by the name of the question: as `monitoring`, the critical alerts that
            fire and which hosts answered within the last hour, as promtool prints series; None where Prometheus did not
            answer. Empty for a host that does not watch.
        hosts: All hosts of the platform.
    """
    if not said:
        return
    text = said["monitoring"]
    dead = unless(text is not None, "Prometheus does not answer")
    yield judge("host", "monitoring", "Monitoring answers", dead, f"{REMEDY}#monitoringpartdown", "high")
    if text is None:
        return
    series = [(one["metric"], float(one["value"][1])) for one in json.loads(text)]
    firing = sorted(f"{each['alertname']} {each.get('host', '')}".strip() for each, _ in series if "alertname" in each)
    yield judge("host", "alerts", "No critical alert fires", ", ".join(firing), REMEDY, "high")
    heard = {each["host"] for each, value in series if "alertname" not in each and value > 0}
    silent = [host for host in hosts if host not in heard]
    title = "Every host has told something of itself within an hour"
    yield judge("host", "silent_hosts", title, ", ".join(silent), f"{REMEDY}#hostsilent; site.yml", "high")
