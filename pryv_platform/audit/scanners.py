"""What others' scanners said, as checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pryv_platform.audit.check import ADVICE, FAILED, PASSED, SEVERITIES, STATUSES, UNKNOWN, Check, judge

#: The scores of what is looked at from outside.
OUTSIDE = frozenset({"ssh_failures", "tls", "nginx_findings"})


def _openscap_status(result: str) -> str | None:
    """Return our word for a result of OpenSCAP; None for a rule that does not apply."""
    known = {"pass": PASSED, "fixed": PASSED, "fail": FAILED, "error": FAILED, "unknown": FAILED}
    return known.get(result) or (None if result == "notapplicable" else UNKNOWN)


def openscap_checks(scans: Mapping[str, Mapping[str, Any]]) -> Iterator[Check]:
    """Yield one check per rule: where profiles differ about it, the worse.

    Args:
        scans: What module host_scan returned as C(openscap); tailored scans are left out.
    """
    by_rule: dict[str, Check] = {}
    for name, scan in scans.items():
        if name.endswith("_tailored"):
            continue
        for rule in scan["rules"]:
            status = _openscap_status(rule["result"])
            if status is None:
                continue
            found = {"error": "the scanner could not tell", "unknown": "the scanner could not tell"}.get(
                rule["result"], ""
            )
            check = Check(
                *("openscap", rule["rule"], rule["title"], status, found),
                remedy="" if status == PASSED else rule.get("text", ""),
                severity=rule["severity"] if rule["severity"] in SEVERITIES else "",
            )
            known = by_rule.get(rule["rule"])
            if known is None or STATUSES.index(status) < STATUSES.index(known.status):
                by_rule[rule["rule"]] = check
    yield from by_rule.values()


def openscap_score(scan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the share of the automated, applicable rules that passed, in percent.

    Args:
        scan: One scan of module host_scan.
    """
    counts = dict.fromkeys(STATUSES, 0)
    for rule in scan["rules"]:
        status = _openscap_status(rule["result"])
        if status:
            counts[status] += 1
    judged = counts[PASSED] + counts[FAILED]
    return {
        "value": round(100 * counts[PASSED] / judged, 1) if judged else 0.0,
        "passed": counts[PASSED],
        "judged": judged,
    }


def lynis_checks(report: Mapping[str, Any] | None) -> Iterator[Check]:
    """Yield warnings as failures and suggestions as advice; Lynis does not say what passed.

    Args:
        report: What module host_scan returned as C(lynis); None when it did not run.
    """
    if report is None:
        return
    for kind, status, severity in (("warnings", FAILED, "high"), ("suggestions", ADVICE, "low")):
        for finding in report[kind]:
            yield Check("lynis", finding["rule"], finding["title"], status, finding["text"], severity=severity)


def ssh_checks(scan: Mapping[str, Any], policy: Mapping[str, Any]) -> Iterator[Check]:
    """Yield one check per algorithm that the server offers, and one for the policy of its system.

    Args:
        scan: JSON of ssh-audit.
        policy: JSON of ssh-audit with a policy.
    """
    kinds = {"kex": "key exchange", "key": "host key", "enc": "cipher", "mac": "message authentication"}
    for kind, label in kinds.items():
        for entry in scan.get(kind, []):
            notes = entry.get("notes", {})
            status = FAILED if "fail" in notes else ADVICE if "warn" in notes else PASSED
            said = "; ".join(notes.get("fail", []) + notes.get("warn", []))
            rule = f"{kind}_{entry['algorithm']}"
            remedy = "leave it out of sshd's configuration" if said else ""
            severity = {FAILED: "high", ADVICE: "low"}.get(status, "")
            yield Check("ssh_audit", rule, f"SSH {label} {entry['algorithm']}", status, said, remedy, severity)
    for cve in scan.get("cves", []):
        yield Check(
            "ssh_audit", cve["name"], f"SSH: {cve['name']}", FAILED, cve.get("description", ""), "update", "high"
        )
    errors = "; ".join(
        f"{error['mismatched_field']}: {', '.join(error['actual'])}" for error in policy.get("errors", [])
    )
    yield judge(
        *("ssh_audit", "policy", f"SSH follows the policy “{policy.get('policy', '')}”"),
        "" if policy.get("passed") else errors or "the policy could not be tried",
        "offer exactly what the policy lists",
    )


def tls_checks(findings: Sequence[Mapping[str, str]]) -> Iterator[Check]:
    """Yield one check per finding of testssl.sh that judges something.

    Args:
        findings: Its flat JSON.
    """
    # After a fatal error nothing more was looked at.
    bad = {"LOW": "low", "MEDIUM": "medium", "HIGH": "high", "FATAL": "high", "CRITICAL": "critical"}
    for finding in findings:
        severity = finding["severity"]
        if severity == "OK":
            yield Check("tls", finding["id"], f"TLS: {finding['id']}", PASSED)
        elif severity in bad:
            yield Check("tls", finding["id"], f"TLS: {finding['id']}", FAILED, finding["finding"], "", bad[severity])
        elif severity == "WARN":
            yield Check("tls", finding["id"], f"TLS: {finding['id']}", UNKNOWN, finding["finding"])


def tls_grade(findings: Sequence[Mapping[str, str]]) -> str:
    """Return the grade that testssl.sh gives; empty when it gave none."""
    return next((finding["finding"] for finding in findings if finding["id"] == "overall_grade"), "")


def nginx_checks(findings: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    """Yield a check per finding of gixy, or one that says there is none.

    Args:
        findings: Its JSON.
    """
    for finding in findings:
        yield Check(
            *("nginx", finding["plugin"], f"nginx: {finding['summary']}", FAILED),
            " ".join(str(finding.get("config", "")).split())[:300],
            finding.get("description", ""),
            str(finding["severity"]).lower(),
        )
    if not findings:
        yield Check("nginx", "configuration", "nginx: the whole configuration", PASSED)


def port_checks(
    host: str, scans: Mapping[str, Mapping[str, Any]], flows: Iterable[Mapping[str, Any]]
) -> Iterator[Check]:
    """Yield a check per port that is open or should be, and one per address for all others.

    Args:
        host: Its inventory name.
        scans: What module port_scan returned, by address.
        flows: The topology's flows. Those from anywhere and from administrators must be open to the controller.
    """
    wanted = {
        (flow["protocol"], flow["port"]): flow
        for flow in flows
        if flow["target"] == host and flow["source"] in {"any", "admin"}
    }
    for address, scan in scans.items():
        if not scan["reached"] or address.startswith("127."):
            yield Check(
                *("ports", "reachable", "Ports as a neighbour sees them", UNKNOWN),
                f"{address} cannot be reached from the controller, but perhaps through a gateway",
                "run the audit from where the address can be reached",
            )
            continue
        found = {(protocol, port) for protocol in ("tcp", "udp") for port in scan[protocol]}
        version = "IPv6" if ":" in address else "IPv4"
        for protocol, port in sorted(found - set(wanted)):
            yield Check(
                *("ports", f"{protocol}/{port}", f"Port {protocol}/{port} over {version}", FAILED),
                f"open at {address}, and no flow of the platform needs it",
                "stop what listens there, or close it in the firewall",
                "high",
            )
        for (protocol, port), flow in sorted(wanted.items()):
            # Flows are told by IPv4 addresses; whether a service listens on IPv6 too is its own choice.
            if address == flow["address"] and (protocol, port) not in found:
                yield Check(
                    *(
                        "ports",
                        f"{protocol}/{port}",
                        f"Port {protocol}/{port} over {version}: {flow['purpose']}",
                        FAILED,
                    ),
                    f"does not answer at {address}",
                    "see whether the service runs and the firewall lets it through",
                    "medium",
                )
            elif (protocol, port) in found:
                yield Check(
                    "ports", f"{protocol}/{port}", f"Port {protocol}/{port} over {version}: {flow['purpose']}", PASSED
                )
        yield Check("ports", "others", f"All other ports that were tried over {version} are closed", PASSED)


def scanner_checks(host: str, raw: Mapping[str, Any], flows: Iterable[Mapping[str, Any]]) -> Iterator[Check]:
    """Yield what all scanners have found of a host.

    Args:
        host: Its inventory name.
        raw: What each of them said, and left_out, the scores of those that nobody asked for.
        flows: The topology's flows.
    """
    if is_seen_from_outside(raw):
        yield from port_checks(host, raw["ports"], flows)
        yield from ssh_checks(raw["ssh"], raw["ssh_policy"])
        yield from tls_checks(raw["tls"])
        yield from nginx_checks(raw["nginx"])
    yield from openscap_checks(raw["openscap"])
    yield from lynis_checks(raw["lynis"])


def is_seen_from_outside(raw: Mapping[str, Any]) -> bool:
    """Whether a host was looked at from outside."""
    return not OUTSIDE.intersection(raw["left_out"])
