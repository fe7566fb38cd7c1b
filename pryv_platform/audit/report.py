"""The report of an audit: what the checks of all hosts come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pryv_platform.audit.bars import bar_results
from pryv_platform.audit.check import ACCEPTED, ADVICE, FAILED, PASSED, SCANNERS, SEVERITIES, STATUSES, UNKNOWN, Check
from pryv_platform.audit.docker import docker_checks
from pryv_platform.audit.host import host_checks
from pryv_platform.audit.monitoring import monitoring_checks
from pryv_platform.audit.scanners import is_seen_from_outside, openscap_score, scanner_checks, tls_grade
from pryv_platform.problems import InputError

#: What the report says of a host's system.
SYSTEM = ("point", "kernel", "architecture", "virtualization", "machine_id", "packages")


def accept(checks: Iterable[Check], deviations: Sequence[Mapping[str, str]]) -> list[Check]:
    """Return the checks, with those accepted that a deviation names."""
    reasons = {(one["scanner"], one["rule"]): one["reason"] for one in deviations}
    return [
        replace(check, status=ACCEPTED, reason=reasons[check.scanner, check.rule])
        if check.status in {FAILED, ADVICE, UNKNOWN} and (check.scanner, check.rule) in reasons
        else check
        for check in checks
    ]


def deviation_problems(deviations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with a table of accepted deviations."""
    problems, seen = [], set()
    for number, one in enumerate(deviations):
        known = isinstance(one, Mapping) and {"scanner", "rule", "reason"} == set(one) and all(one.values())
        if not known:
            problems.append(f"deviation {number} is {one!r}: it has to have scanner, rule and reason, and nothing else")
            continue
        if one["scanner"] not in SCANNERS:
            problems.append(f"deviation {number} has scanner {one['scanner']!r}: one of {', '.join(SCANNERS)}")
        if (one["scanner"], one["rule"]) in seen:
            problems.append(f"deviation {number} repeats {one['scanner']} {one['rule']}: leave one out")
        seen.add((one["scanner"], one["rule"]))
    return problems


def durations(raw: Mapping[str, Any]) -> dict[str, float]:
    """Return how long each scanner took, in seconds."""
    taken = {f"openscap_{name}": scan["seconds"] for name, scan in raw["openscap"].items()}
    if raw["lynis"]:
        taken["lynis"] = raw["lynis"]["seconds"]
    if raw["ports"]:
        taken["ports"] = max(scan["seconds"] for scan in raw["ports"].values())
    for name, delta in raw["durations"].items():  # as module command writes it: 0:02:03.456
        hours, minutes, seconds = str(delta).split(":")
        taken[name] = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return {name: round(seconds, 1) for name, seconds in taken.items()}


def host_report(
    host: str,
    raw: Mapping[str, Any],
    *,
    topology: Mapping[str, Any],
    deviations: Sequence[Mapping[str, str]],
    headers: Sequence[str],
    certificate_days: int,
) -> tuple[dict[str, Any], list[Check]]:
    """Return what a host is and its scores, and its checks.

    Args:
        host: Its inventory name.
        raw: What each scanner said: evidence, digests, openscap, lynis, ssh, ssh_policy, tls, nginx, ports; and
            data_disk, whether one is configured, watched, what a monitoring host knows (empty for others), and
            left_out, the scans that nobody asked for.
        topology: The C(topology) fact.
        deviations: Accepted deviations.
        headers: Paths of header backups on the controller.
        certificate_days: How many days a certificate must still be valid.
    """
    evidence, entry = raw["evidence"], topology["hosts"][host]
    unchanged = len(set(raw["digests"])) == 1
    found = [
        *host_checks(
            evidence,
            changed=not unchanged,
            data_disk=raw["data_disk"],
            core="core" in entry["roles"],
            registry=host == topology["leader"],
            production=topology["environment"] == "production",
            headers=headers,
            certificate_days=certificate_days,
        ),
        *docker_checks(evidence["docker"]),
        *monitoring_checks(raw["watched"], topology["hosts"]),
        *scanner_checks(host, raw, topology["flows"]),
    ]
    checks = accept(found, deviations)
    about = {
        "name": host,
        "roles": entry["roles"],
        "address": entry["public_address"],
        "addresses": evidence["addresses"],
        "system": evidence["system"]["name"],
        **{name: evidence["system"][name] for name in SYSTEM},
        "people": evidence["people"],
        "scores": scores(raw, checks),
        "left_out": raw["left_out"],
        "openscap": {
            name: {**openscap_score(scan), "profile": scan["profile"], "version": scan["version"]}
            for name, scan in raw["openscap"].items()
        },
        "digest": raw["digests"][0],
        "unchanged": unchanged,
        "seconds": durations(raw),
        "counts": {status: sum(check.status == status for check in checks) for status in STATUSES},
    }
    return about, checks


def scores(raw: Mapping[str, Any], checks: Sequence[Check]) -> dict[str, Any]:
    """Return what the bars are about.

    Args:
        raw: What each scanner said.
        checks: The host's checks.
    """
    found: dict[str, Any] = {name: openscap_score(scan)["value"] for name, scan in raw["openscap"].items()}
    if raw["lynis"]:
        found["lynis"] = raw["lynis"]["index"]
    if not is_seen_from_outside(raw):
        return found
    found["tls"] = tls_grade(raw["tls"])
    for score, scanner in (("ssh_failures", "ssh_audit"), ("nginx_findings", "nginx")):
        found[score] = sum(check.scanner == scanner and check.status == FAILED for check in checks)
    return found


def merge(checks_by_host: Mapping[str, Sequence[Check]]) -> list[dict[str, Any]]:
    """Return one finding per check and outcome, with the hosts that it is about, the worst first."""
    merged: dict[tuple[str, ...], dict[str, Any]] = {}
    for host, checks in checks_by_host.items():
        for check in checks:
            key = (check.scanner, check.rule, check.title, check.status, check.reason)
            finding = merged.setdefault(
                key,
                {
                    **{
                        name: getattr(check, name)
                        for name in ("scanner", "rule", "title", "status", "remedy", "severity", "reason")
                    },
                    "scanner_label": SCANNERS[check.scanner],
                    "found": {},
                },
            )
            before = finding["found"].get(host, "")
            said = [part for part in (before, check.found) if part]
            finding["found"][host] = "; ".join(dict.fromkeys(said))
    order = list(SCANNERS)
    return sorted(
        merged.values(),
        key=lambda one: (
            STATUSES.index(one["status"]),
            SEVERITIES.index(one["severity"]) if one["severity"] in SEVERITIES else len(SEVERITIES),
            order.index(one["scanner"]),
            one["title"],
        ),
    )


def audit_report(
    raw: Mapping[str, Mapping[str, Any]],
    *,
    topology: Mapping[str, Any],
    deviations: Sequence[Mapping[str, str]],
    bars: Sequence[Mapping[str, Any]],
    asked: Sequence[str],
    certificate_days: int,
    headers: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Filter: see audit_report.yml."""
    problems = deviation_problems(deviations)
    if problems:
        raise InputError("accepted deviations:\n- " + "\n- ".join(problems))
    reports, checks = {}, {}
    for host, results in raw.items():
        reports[host], checks[host] = host_report(
            host,
            results,
            topology=topology,
            deviations=deviations,
            headers=headers,
            certificate_days=certificate_days,
        )
    findings = merge(checks)
    reached = bar_results(reports.values(), bars)
    seen = {(one["scanner"], one["rule"]) for one in findings if one["status"] == ACCEPTED}
    missing = [host for host in asked if host not in raw]
    counts = {status: sum(one["status"] == status for one in findings) for status in STATUSES}
    return {
        **(about or {}),
        "domain": topology["domain"],
        "environment": topology["environment"],
        "passed": not counts[FAILED] and not counts[UNKNOWN] and not missing and all(bar["reached"] for bar in reached),
        "counts": counts,
        "bars": reached,
        "hosts": reports,
        "not_audited": missing,
        "left_out": [host for host in topology["hosts"] if host not in asked],
        "findings": findings,
        "stale_deviations": [dict(one) for one in deviations if (one["scanner"], one["rule"]) not in seen],
    }


def audit_summary(report: Mapping[str, Any]) -> list[str]:
    """Filter: see audit_summary.yml."""
    counts = report["counts"]
    lines = [
        f"{counts[FAILED]} failed, {counts[ACCEPTED]} accepted, {counts[ADVICE]} advised, {counts[UNKNOWN]} not known, "
        f"{counts[PASSED]} passed"
    ]
    for bar in report["bars"]:
        word = "ok     " if bar["reached"] else "MISSED "
        value = f"{bar['value']}{bar['unit']}" if bar["measured"] else "not measured"
        lines.append(
            f"{word} {bar['label']}: {value} on {bar['worst']}, wanted {bar['wanted']}"
            + (f"; left out on {', '.join(bar['left_out'])}" if bar["left_out"] else "")
        )
    lines += [f"MISSED  {host} was not audited" for host in report["not_audited"]]
    for finding in report["findings"]:
        if finding["status"] in {FAILED, UNKNOWN}:
            hosts = ", ".join(finding["found"])
            found = "; ".join(dict.fromkeys(filter(None, finding["found"].values())))
            lines.append(
                f"{finding['status'].upper():7} {hosts}: {finding['scanner']} {finding['rule']}: {finding['title']}"
                + (f" ({found})" if found else "")
            )
    # Many of the toolkit's are for hosts of another kind; the report has them.
    if stale := len(report["stale_deviations"]):
        lines.append(f"stale   {stale} accepted deviations that no scanner has reported")
    return lines
