"""The connections that the platform needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pryv_platform.ports import PORTS

EVERYBODY = ["0.0.0.0/0", "::/0"]
SSH, DNS, HTTPS = 22, 53, 443


def _flow(
    purpose: str, source: str, sources: Sequence[str], target: str, address: str, port: int, protocol: str = "tcp"
) -> dict[str, Any]:
    return {
        "purpose": purpose,
        "source": source,
        "sources": list(sources),
        "target": target,
        "address": address,
        "protocol": protocol,
        "port": port,
    }


def jump_flows(hosts: Mapping[str, Mapping[str, Any]], jumps: Iterable[tuple[str, str]]) -> Iterable[dict[str, Any]]:
    """Yield the connections from jump hosts to where they lead."""
    for jump, target in jumps:
        # From which of its addresses depends on routes.
        own = dict.fromkeys(
            (hosts[jump]["private_address"], hosts[jump]["public_address"], hosts[jump]["ansible_host"])
        )
        sources = [f"{address}/32" for address in own if re.fullmatch(r"[\d.]+", address)]
        purpose = f"administration over SSH, through {jump}"
        yield _flow(purpose, jump, sources, target, hosts[target]["ansible_host"], hosts[target]["ssh_port"])


def backup_flows(hosts: Mapping[str, Mapping[str, Any]], backups: Mapping[str, str | None]) -> Iterable[dict[str, Any]]:
    """Yield the connections from what is backed up to where."""
    for host, server in backups.items():
        if server is None:
            continue
        sources = [f"{hosts[host]['private_address']}/32"]
        yield _flow("backups, over TLS", host, sources, server, hosts[server]["private_address"], PORTS["backup"])


def monitoring_flows(
    hosts: Mapping[str, Mapping[str, Any]],
    networks: Sequence[str],
    *,
    monitoring: Iterable[str],
    logs: Mapping[str, str],
) -> Iterable[dict[str, Any]]:
    """Yield the connections from hosts that monitor to all, from administrators to them, and of journals to them."""
    for watcher in monitoring:
        sources = [f"{hosts[watcher]['private_address']}/32"]
        for host, entry in hosts.items():
            yield _flow("metrics, over TLS", watcher, sources, host, entry["private_address"], PORTS["metrics"])
        yield _flow("HTTPS: monitoring", "admin", networks, watcher, hosts[watcher]["public_address"], HTTPS)
    for host, keeper in logs.items():
        sources = [f"{hosts[host]['private_address']}/32"]
        yield _flow("journals, over TLS", host, sources, keeper, hosts[keeper]["private_address"], PORTS["logs"])


def platform_flows(
    hosts: Mapping[str, Mapping[str, Any]],
    leader: str,
    followers: Sequence[str],
    networks: Sequence[str],
    redirect: bool,
) -> Iterable[dict[str, Any]]:
    """Yield every connection that the platform needs to be let through to a host."""

    def flow(purpose: str, source: str, sources: Sequence[str], target: str, to: str, port: int) -> dict[str, Any]:
        protocol = "udp" if port == DNS else "tcp"
        return _flow(purpose, source, sources, target, hosts[target][to], port, protocol)

    what = {"web": "static pages", "registry": "registration of users", "core": "users' data"}
    for host, entry in hosts.items():
        served = [what[role] for role in entry["roles"] if role in what]
        if served:
            yield flow(f"HTTPS: {', '.join(served)}", "any", EVERYBODY, host, "public_address", HTTPS)
            if redirect:
                yield flow("HTTP, only sends to HTTPS", "any", EVERYBODY, host, "public_address", 80)
        if "registry" in entry["roles"]:
            yield flow("DNS of the platform's domain", "any", EVERYBODY, host, "public_address", DNS)
        yield flow("administration over SSH", "admin", networks, host, "ansible_host", entry["ssh_port"])
    for follower in followers:
        source = f"{hosts[follower]['private_address']}/32"
        yield flow(
            "replication of the registry, over TLS", follower, [source], leader, "private_address", PORTS["replication"]
        )
