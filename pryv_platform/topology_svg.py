"""A picture of a platform that stands alone: its hosts by role and privacy zone, and what clients use of them."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

from pryv_platform.picture import WIDTH, Box, Lane, draw

STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; fill: #1c2733 }
  .paper { fill: #ffffff }
  .title, .name { font-weight: 600 }
  .note { font-size: 12px; fill: #4a5866 }
  .lane { fill: #f1f4f7; stroke: #b9c4ce }
  .zone { fill: #e9f3ec; stroke: #4f8a63 }
  .host { fill: #ffffff; stroke: #5b6b7a }
  .elsewhere, .draining { stroke-dasharray: 5 3 }
  .flow { fill: none; stroke: #1f4e79; stroke-width: 1.5 }
  .head { fill: #1f4e79 }
"""
MARGIN = 16


def _host(topology: Mapping[str, Any], name: str, note: str = "") -> Box:
    address = topology["hosts"][name]["public_address"]
    return Box(name, f"{address}, {note}" if note else address, note, host=name)


def _ports(topology: Mapping[str, Any], hosts: Iterable[str]) -> list[str]:
    """Return the ports of hosts that are open to everybody."""
    targets = frozenset(hosts)
    names = {443: "HTTPS", 53: "DNS", 80: "HTTP"}
    found = {
        (flow["port"], flow["protocol"])
        for flow in topology["flows"]
        if flow["source"] == "any" and flow["target"] in targets
    }
    return [f"{names.get(port, '')} {protocol}/{port}".strip() for port, protocol in sorted(found, reverse=True)]


def _lanes(topology: Mapping[str, Any]) -> Iterable[Lane]:
    """Yield what stands one below the other."""
    web = topology["web"]
    if web["hosts"]:
        pages = [_host(topology, name) for name in web["hosts"]]
        yield Lane("Static pages", pages, _ports(topology, web["hosts"]))
    else:
        place = web["alias"] or web["url"].removeprefix("https://")
        yield Lane("Static pages", [Box("elsewhere", place, "elsewhere")], ["HTTPS tcp/443"])
    leader, followers = topology["leader"], topology["followers"]
    registry = [_host(topology, leader, "leader"), *(_host(topology, name, "follower") for name in followers)]
    note = f"copies over TLS, tcp/{topology['ports']['replication']}" if followers else ""
    ports = _ports(topology, [leader, *followers])
    yield Lane("Registry", registry, ports, note, replicates=bool(followers))
    for zone, cores in topology["zones"].items():
        boxes = [_host(topology, core, "draining" if core in topology["draining"] else "") for core in cores]
        count = f"{len(cores)} core{'s'[: len(cores) != 1]}"
        yield Lane(f"Privacy zone {zone}", boxes, _ports(topology, cores), count, "zone")
    keepers = [host for host, entry in topology["hosts"].items() if "backup" in entry["roles"]]
    if keepers:
        boxes = [
            _host(topology, name, f"zone {', '.join(topology['hosts'][name]['backup_zones'])}") for name in keepers
        ]
        yield Lane("Backups", boxes, [], f"sent over TLS, tcp/{topology['ports']['backup']}, by cores and registry")
    if topology["monitoring"]:
        boxes = [_host(topology, name, "") for name in topology["monitoring"]]
        note = f"asks every host over TLS, tcp/{topology['ports']['metrics']}"
        yield Lane("Monitoring", boxes, ["administrators:", "HTTPS tcp/443"], note)


def describe(topology: Mapping[str, Any]) -> str:
    """Say in words what the picture shows, for those who do not see it."""
    zones = "; ".join(f"privacy zone {zone} with {', '.join(cores)}" for zone, cores in topology["zones"].items())
    followers = ", ".join(topology["followers"])
    keepers = ", ".join(dict.fromkeys(filter(None, topology["backups"].values())))
    web = ", ".join(topology["web"]["hosts"]) or f"elsewhere ({topology['web']['alias'] or topology['web']['url']})"
    return (
        f"Clients reach the static pages ({web}) and the cores over HTTPS, and the registry over HTTPS and DNS. "
        f"The registry's leader is {topology['leader']}"
        + (f", copied by {followers}" if followers else "")
        + f". {zones[:1].upper()}{zones[1:]}."
        + (f" Backups of cores and registry go to {keepers}." if keepers else "")
        + (f" All are watched by {', '.join(topology['monitoring'])}." if topology["monitoring"] else "")
    )


def topology_svg(topology: Mapping[str, Any]) -> str:
    """Draw a platform.

    Args:
        topology: The structure of docs/architecture.md, "The topology fact".

    Returns:
        A whole SVG file.
    """
    networks = sorted({source for flow in topology["flows"] if flow["source"] == "admin" for source in flow["sources"]})
    foot = f"Administrators: SSH to every host, from {', '.join(networks)}. Everything else is closed."
    title = f"The platform {topology['domain']}"
    inner, body = draw(list(_lanes(topology)), [foot])
    width, height = WIDTH + 2 * MARGIN, inner + 2 * MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
            f'height="{height:g}" role="img" aria-labelledby="title description">',
            f'<title id="title">{html.escape(title)}</title>',
            f'<desc id="description">{html.escape(describe(topology))}</desc>',
            f"<style>{STYLE}</style>",
            f'<rect width="{width:g}" height="{height:g}" class="paper"/>',
            f'<g transform="translate({MARGIN} {MARGIN})">',
            *body,
            "</g>",
            "</svg>",
            "",
        ]
    )
