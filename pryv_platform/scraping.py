"""What a monitoring host asks whom, and the rules that follow from the inventory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pryv_platform.capacity.guide import SCRAPE_SECONDS

#: How old the newest line of a host's journal may be where it is sent to, in seconds.
LOGS_SECONDS = 600
RUNBOOK = "docs/operations/alerts.md#"
#: What nobody looks at of what hosts tell: what exporters say of themselves, and Redis of each command.
UNWANTED = (
    "(go|process|mtail|node_scrape)_.*|redis_(latency_percentiles|commands_(rejected_calls|failed_calls))_.*"
    "|redis_db_keys_expiring|node_(time_clocksource|timex_pps|filesystem_mount)_.*"
)
#: Of what is asked through the prober and of its own programs, what rules and pages use.
PROBES = "probe_success|probe_duration_seconds"
OWN = (
    "prometheus_(rule_evaluation_failures_total|tsdb_head_series|tsdb_storage_blocks_bytes)"
    "|alertmanager_(alerts|notifications_total|notifications_failed_total)|process_(cpu_seconds_total|resident_memory_bytes)"
)


def _labels(topology: Mapping[str, Any], host: str) -> dict[str, str]:
    """Return who a host is, as all that it tells is labelled."""
    entry = topology["hosts"][host]
    return {"host": host, "zone": str(entry.get("privacy_zone") or ""), "role": entry["roles"][0]}


def _asked(topology: Mapping[str, Any], hosts: Iterable[str], port: str) -> list[dict[str, Any]]:
    """Return hosts as targets, by their own names rather than their addresses."""
    return [
        {
            "targets": [f"{topology['hosts'][host]['private_address']}:{topology['ports'][port]}"],
            "labels": {**_labels(topology, host), "instance": host},
        }
        for host in hosts
    ]


def _names(topology: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    """Yield each host that serves a public name, the name, and a path that answers without a key."""
    names = topology["service_names"]
    for host, entry in topology["hosts"].items():
        if "registry" in entry["roles"]:
            yield host, names["register"], "/service/info"
        if "core" in entry["roles"]:
            yield host, f"{host}.{topology['domain']}", "/status"
        if "web" in entry["roles"]:
            yield host, names["pages"], "/access/index.html"


def _probes(topology: Mapping[str, Any]) -> Iterable[dict[str, str]]:
    """Yield the labels of each probe; those that begin with `__param_` say what is asked."""
    hosts = topology["hosts"]
    for host, entry in hosts.items():
        yield {"probe": "ping", "__param_target": entry["private_address"], **_labels(topology, host)}
    for server in topology["name_servers"]:
        known = {"name": topology["service_names"]["register"], **_labels(topology, server["host"])}
        yield {"probe": "dns", "__param_target": f"{server['address']}:53", **known}
    for host, name, path in _names(topology):
        target = f"https://{hosts[host]['public_address']}{path}"
        known = {"name": name, **_labels(topology, host)}
        yield {"probe": "https", "__param_target": target, "__param_hostname": name, **known}


def _relabel(names: str, action: str = "keep") -> list[dict[str, Any]]:
    """Return what becomes of series: those that are wanted stay, and no label says twice whose they are.

    Args:
        names: Names of series, as a regular expression for the whole name.
        action: What becomes of these: `keep` alone, or `drop`.
    """
    chosen = {"source_labels": ["__name__"], "regex": names, "action": action}
    return [chosen, {"regex": "instance", "action": "labeldrop"}]


def _hosts_jobs(topology: Mapping[str, Any], host: str, files: Mapping[str, str]) -> Iterable[dict[str, Any]]:
    """Yield what hosts are asked of themselves."""
    everybody, registry = list(topology["hosts"]), [topology["leader"], *topology["followers"]]
    jobs = {"node": ("/node", everybody), "requests": ("/mtail", everybody), "redis": ("/redis", registry)}
    for job, (path, hosts) in jobs.items():
        yield {
            "job_name": job,
            "scheme": "https",
            "metrics_path": path,
            # The platform's certificate is for all names below its domain, and hosts are asked by their addresses.
            "tls_config": {"ca_file": files["authority"], "server_name": topology["service_names"]["monitoring"]},
            "basic_auth": {"username": host, "password_file": files["password"]},
            "static_configs": _asked(topology, hosts, "metrics"),
            "metric_relabel_configs": _relabel(UNWANTED, "drop"),
        }


def _own_jobs(topology: Mapping[str, Any], host: str) -> Iterable[dict[str, Any]]:
    """Yield what the monitoring host's own programs are asked, the prober for what it sees among them."""
    ports = topology["ports"]
    prober = f"127.0.0.1:{ports['blackbox_exporter']}"
    probes = [
        {"targets": [prober], "labels": {**labels, "__param_module": labels["probe"], "instance": labels["host"]}}
        for labels in _probes(topology)
    ]
    yield {
        "job_name": "probe",
        "metrics_path": "/probe",
        "static_configs": probes,
        "metric_relabel_configs": _relabel(PROBES),
    }
    labels = {**_labels(topology, host), "instance": host}
    for job, port in {
        "prometheus": "prometheus",
        "alertmanager": "alertmanager",
        "blackbox": "blackbox_exporter",
    }.items():
        yield {
            "job_name": job,
            "static_configs": [{"targets": [f"127.0.0.1:{ports[port]}"], "labels": labels}],
            "metric_relabel_configs": _relabel(OWN),
        }


def prometheus_configuration(topology: Mapping[str, Any], host: str, files: Mapping[str, str]) -> dict[str, Any]:
    """Return what a monitoring host asks, as Prometheus is told.

    Args:
        topology: The structure of docs/architecture.md, "The topology fact".
        host: The monitoring host.
        files: On that host, `authority` (whom to trust), `password` (what opens others' metrics) and `rules`.
    """
    alertmanager = f"127.0.0.1:{topology['ports']['alertmanager']}"
    interval = f"{SCRAPE_SECONDS}s"
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": "10s", "evaluation_interval": interval},
        "rule_files": [files["rules"]],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [*_hosts_jobs(topology, host, files), *_own_jobs(topology, host)],
    }


def blackbox_configuration(topology: Mapping[str, Any], authority: str) -> dict[str, Any]:
    """Return how names and hosts are asked, as the blackbox exporter is told.

    Args:
        topology: The structure of docs/architecture.md, "The topology fact".
        authority: File with what to trust.
    """
    name = topology["service_names"]["register"]
    address = topology["names"][name][0]
    right = rf".*\sA\s+{address.replace('.', '[.]')}"
    return {
        "modules": {
            "ping": {"prober": "icmp", "timeout": "4s", "icmp": {"preferred_ip_protocol": "ip4"}},
            "dns": {
                "prober": "dns",
                "timeout": "4s",
                "dns": {
                    "query_name": name,
                    "query_type": "A",
                    "preferred_ip_protocol": "ip4",
                    "validate_answer_rrs": {"fail_if_none_matches_regexp": [right]},
                },
            },
            "https": {
                "prober": "http",
                "timeout": "9s",
                "http": {
                    "preferred_ip_protocol": "ip4",
                    "follow_redirects": False,
                    "fail_if_not_ssl": True,
                    "tls_config": {"ca_file": authority},
                },
            },
        }
    }


def _rule(topology: Mapping[str, Any], host: str, alert: str, severity: str, wait: str, **texts: str) -> dict[str, Any]:
    """Return a rule of its own for a host: one for all would not miss a host that nobody asks any more."""
    expression = texts.pop("expression")
    return {
        "alert": alert,
        "expr": expression,
        "for": wait,
        "labels": {**_labels(topology, host), "severity": severity},
        "annotations": {**texts, "runbook": f"{RUNBOOK}{alert.lower()}"},
    }


def _lacks(series: str) -> str:
    """Return the expression for a series that is 0, or not there at all."""
    return f"({series} == 0 or absent({series}))"


def _silences(topology: Mapping[str, Any], host: str) -> Iterable[dict[str, Any]]:
    """Yield the rules by which a host that says nothing is noticed."""
    silent = _lacks(f'up{{job="node",host="{host}"}}')
    gone = _lacks(f'probe_success{{probe="ping",host="{host}"}}')
    jobs = ["requests", *(["redis"] if host in (topology["leader"], *topology["followers"]) else [])]
    yield _rule(
        topology,
        host,
        "HostDown",
        "critical",
        # mixin TargetDown waits ten minutes; three scrapes that fail are no chance.
        "45s",
        expression=f"{silent} and on (host) {gone}",
        summary=f"{host} is gone",
        description="It answers neither a ping nor what it is asked: it is down, or cut off.",
    )
    yield _rule(
        topology,
        host,
        "HostSilent",
        "critical",
        "1m",
        expression=f"{silent} unless on (host) {gone}",
        summary=f"{host} says nothing of itself",
        description="It is there, but its nginx or what tells of the host is not.",
    )
    looks = ["metrics", "verify", *(["verify_platform"] if host in topology["monitoring"] else [])]
    missing = [f'absent(pryv_{look}_time_seconds{{host="{host}"}})' for look in looks]
    missing += [_lacks(f'up{{job="{job}",host="{host}"}}') for job in jobs]
    yield _rule(
        topology,
        host,
        "MetricsMissing",
        "warning",
        "5m",
        expression=f'({" or ".join(missing)}) and on (host) up{{job="node",host="{host}"}} == 1',
        summary=f"{host} says only part of what it should",
        description="What it does not tell cannot raise an alert.",
    )
    if host in topology["backups"]:
        own = f'{{host="{host}"}}'
        due = f"time() - pryv_backup_since_seconds{own} > pryv_backup_oldest_seconds{own}"
        never = f"({due} unless on (host) pryv_backup_time_seconds{own})"
        yield _rule(
            topology,
            host,
            "BackupMissing",
            "critical",
            # A run of site.yml has them told of a while before it has them made.
            "15m",
            expression=f"(absent(pryv_backup_oldest_seconds{own}) or {never})"
            f' and on (host) up{{job="node",host="{host}"}} == 1',
            summary=f"{host} has never been backed up",
            description="By its schedule it should have been; or it does not tell when it should.",
        )


def _unheard(topology: Mapping[str, Any], host: str) -> Iterable[dict[str, Any]]:
    """Yield the rule by which a host is noticed whose journal does not arrive."""
    if host in topology["logs"]:
        arrived = f'pryv_logs_time_seconds{{of="{host}"}}'
        yield _rule(
            topology,
            host,
            "LogsMissing",
            "warning",
            # A host writes a line each half minute, at the least of this kind of look.
            "5m",
            expression=f"(time() - {arrived} > {LOGS_SECONDS}) or absent({arrived})",
            summary=f"The journal of {host} does not arrive",
            description="What is written there now, only the host itself keeps: who becomes root can change it.",
        )


def _plan(topology: Mapping[str, Any], plan: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Yield the plan's figures as series, and which cores take new users."""
    for zone, cores in topology["zones"].items():
        planned = plan.get("zones", {}).get(zone)
        if planned:
            yield {"record": "pryv_plan_users", "expr": f"vector({planned['users']})", "labels": {"zone": zone}}
        for core in cores:
            labels = {"core": core, "zone": zone}
            if planned:
                most = f"vector({planned['users_per_core_at_most']})"
                yield {"record": "pryv_plan_core_users", "expr": most, "labels": labels}
            accepts = f"vector({int(core not in topology['draining'])})"
            yield {"record": "pryv_core_accepts_users", "expr": accepts, "labels": labels}


def inventory_rules(topology: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return Prometheus' rules that follow from the inventory.

    Args:
        topology: The structure of docs/architecture.md, "The topology fact".
        plan: What `capacity_plan` returned; empty where nothing is planned.
    """
    looks = (_silences, _unheard)
    silences = [rule for host in topology["hosts"] for look in looks for rule in look(topology, host)]
    return {"groups": [{"name": "silence", "rules": silences}, {"name": "plan", "rules": list(_plan(topology, plan))}]}
