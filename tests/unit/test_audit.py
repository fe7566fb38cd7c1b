"""What an audit makes of what scanners say; the samples are theirs, shortened."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pryv_platform.audit.bars import bar_results
from pryv_platform.audit.check import FAILED, UNKNOWN
from pryv_platform.audit.docker import docker_checks
from pryv_platform.audit.host import host_checks
from pryv_platform.audit.monitoring import monitoring_checks
from pryv_platform.audit.report import audit_report, audit_summary
from pryv_platform.audit.scanners import OUTSIDE, openscap_checks, port_checks
from pryv_platform.problems import InputError

TOPOLOGY: dict[str, Any] = {
    "domain": "clinic.pryv.test",
    "environment": "production",
    "leader": "reg1",
    "hosts": {"co1": {"roles": ["core"], "public_address": "192.0.2.11"}},
    "flows": [
        {
            "purpose": "HTTPS: users' data",
            "source": "any",
            "target": "co1",
            "address": "192.0.2.11",
            "protocol": "tcp",
            "port": 443,
        },
        {
            "purpose": "administration over SSH",
            "source": "admin",
            "target": "co1",
            "address": "192.0.2.11",
            "protocol": "tcp",
            "port": 22,
        },
        {
            "purpose": "replication",
            "source": "reg2",
            "target": "co1",
            "address": "192.0.2.11",
            "protocol": "tcp",
            "port": 6380,
        },
    ],
}
CONTAINER: dict[str, Any] = {
    "name": "pryv-core-core-1",
    "user": "app",
    "privileged": False,
    "capabilities_added": ["CHOWN"],
    "capabilities_dropped": ["ALL"],
    "security": ["no-new-privileges:true"],
    "read_only": True,
    "memory": 536870912,
    "pids": 512,
    "namespaces": {"Network": "pryv-core_default", "Pid": "", "Ipc": "private", "UTS": "", "Userns": ""},
    "devices": [],
    "log_driver": "local",
    "log_options": {},
    "mounts": [{"source": "/srv/pryv/core/data", "writable": True}],
    "published": ["127.0.0.1|3000"],
}
DOCKER: dict[str, Any] = {
    "live_restore": True,
    "log_driver": "local",
    "security": ["name=apparmor", "name=seccomp,profile=builtin", "name=userns"],
    "experimental": False,
    "registries": ["127.0.0.0/8"],
    "swarm": "inactive",
    "storage": "overlay2",
    "settings": {"icc": False, "userland-proxy": False, "no-new-privileges": True},
    "command": "{ path=/usr/sbin/dockerd ; argv[]=/usr/sbin/dockerd -H fd:// }",
    "socket_mode": "0660",
    "socket_owner": "root",
    "group": [],
    "containers": [CONTAINER],
}
EVIDENCE: dict[str, Any] = {
    "system": {
        "name": "Debian GNU/Linux 13 (trixie)",
        "id": "debian",
        "version": "13",
        "point": "13.5",
        "kernel": "6.12.57",
        "architecture": "x86_64",
        "virtualization": "kvm",
        "container": False,
        "packages": {"nginx": "1.26.3-3"},
        "machine_id": "0123456789ab",
    },
    "addresses": ["192.0.2.11", "2001:db8::11"],
    "updates": {"security": [], "others": 2, "lists_age_hours": 3.0, "reboot_required": False, "automatic": True},
    "clock": {"synchronized": True, "service": "chrony.service"},
    "units": {"failed": [], "backups": {"pryv-backup.service": {"result": "success", "age_hours": 5.0}}},
    "disk": {
        "source": "/dev/mapper/pryv_data",
        "mount_point": "/srv/pryv",
        "filesystem": "xfs",
        "swap": [],
        "luks": {
            "device": "/dev/vdb",
            "uuid": "6a0f8f7e-0000-4000-8000-000000000001",
            "epoch": 3,
            "version": 2,
            "ciphers": ["aes-xts-plain64"],
            "key_bits": [512, 512],
            "passphrase_kdfs": ["argon2id"],
        },
    },
    "docker": DOCKER,
    "certificate": {"days_left": 60, "not_after": "2027-01-23 12:00:00Z", "key_mode": "0400", "key_owner": "root"},
    "people": [{"name": "alice", "groups": ["pryv-admins"], "keys": 1, "root": True, "password": False}],
    "firewall": {"policies": {"input": "drop", "forward": "drop"}, "as_it_should_be": True, "others": []},
    "nginx": "",
}
HEADERS = ["backups/luks/co1-6a0f8f7e-0000-4000-8000-000000000001-000003.vault"]
SSH: dict[str, Any] = {
    "kex": [
        {"algorithm": "mlkem768x25519-sha256", "notes": {"info": ["default key exchange since OpenSSH 10.0"]}},
        {
            "algorithm": "ecdh-sha2-nistp256",
            "notes": {"fail": ["suspected as being backdoored"], "warn": ["not post-quantum"]},
        },
    ],
    "key": [],
    "enc": [],
    "mac": [{"algorithm": "umac-128@openssh.com", "notes": {"warn": ["using encrypt-and-MAC mode"]}}],
    "cves": [],
}
POLICY: dict[str, Any] = {"passed": True, "policy": "Hardened Debian 13 (version 1)", "errors": []}
TLS = [
    {"id": "TLS1_3", "severity": "OK", "finding": "offered with final"},
    {"id": "cert_chain_of_trust", "severity": "OK", "finding": "passed."},
    {"id": "cert_commonName", "severity": "INFO", "finding": "clinic.pryv.test"},
    {"id": "security_headers", "severity": "MEDIUM", "finding": "--"},
    {"id": "engine_problem", "severity": "WARN", "finding": "No engine or GOST support"},
    {"id": "overall_grade", "severity": "OK", "finding": "A+"},
]
OPENSCAP: dict[str, Any] = {
    "cis": {
        "version": "1.4.2",
        "profile": "xccdf_org.ssgproject.content_profile_cis_level1_server",
        "seconds": 7.3,
        "rules": [
            {
                "rule": "sshd_disable_root_login",
                "title": "Disable SSH Root Login",
                "severity": "medium",
                "result": "pass",
            },
            {
                "rule": "package_nginx_removed",
                "title": "Uninstall nginx",
                "severity": "unknown",
                "result": "fail",
                "text": "Remove it.",
            },
            {"rule": "file_owner_x", "title": "Owner", "severity": "medium", "result": "error"},
            {"rule": "grub2_password", "title": "Boot Loader Password", "severity": "high", "result": "notapplicable"},
            {"rule": "ask_a_person", "title": "Ask", "severity": "low", "result": "notchecked"},
        ],
    },
    "cis_tailored": {
        "version": "1.4.2",
        "profile": "xccdf_pryv_profile_cis",
        "seconds": 7.1,
        "rules": [
            {
                "rule": "sshd_disable_root_login",
                "title": "Disable SSH Root Login",
                "severity": "medium",
                "result": "pass",
            }
        ],
    },
}
LYNIS: dict[str, Any] = {
    "version": "3.1.7",
    "index": 88,
    "seconds": 40.0,
    "warnings": [],
    "suggestions": [{"rule": "BOOT-5122", "title": "Set a password on GRUB boot loader", "text": ""}],
}
PORTS = {
    "192.0.2.11": {"tcp": [22, 443], "udp": [], "reached": True, "seconds": 80.0},
    "2001:db8::11": {"tcp": [443], "udp": [], "reached": True, "seconds": 81.0},
}
RAW: dict[str, Any] = {
    "evidence": EVIDENCE,
    "digests": ["aa", "aa"],
    "openscap": OPENSCAP,
    "lynis": LYNIS,
    "ports": PORTS,
    "ssh": {**SSH, "kex": SSH["kex"][:1]},
    "ssh_policy": POLICY,
    "tls": [finding for finding in TLS if finding["severity"] != "MEDIUM"],
    "nginx": [],
    "data_disk": True,
    "watched": {},
    "left_out": [],
    "durations": {"ssh_audit": "0:00:01.330000", "tls": "0:02:03.500000"},
}
BARS: list[dict[str, Any]] = [
    {"score": "cis_tailored", "label": "CIS, tailored", "unit": " %", "least": 100},
    {"score": "tls", "label": "TLS", "unit": "", "grade": "A+"},
    {"score": "ssh_failures", "label": "SSH", "unit": "", "most": 0},
]
DEVIATIONS = [
    {"scanner": "openscap", "rule": "package_nginx_removed", "reason": "It serves the platform."},
    {"scanner": "openscap", "rule": "file_owner_x", "reason": "The scanner cannot tell."},
    {"scanner": "openscap", "rule": "ask_a_person", "reason": "Asked."},
    {"scanner": "tls", "rule": "engine_problem", "reason": "The controller's."},
]


def failed(checks: Any) -> dict[str, str]:
    """Return what was found, by rule, of the checks that failed."""
    return {check.rule: check.found for check in checks if check.status == FAILED}


def report(raw: dict[str, Any] | None = None, **given: Any) -> dict[str, Any]:
    """Return a report about one host."""
    arguments = {
        "topology": TOPOLOGY,
        "deviations": DEVIATIONS,
        "bars": BARS,
        "headers": HEADERS,
        "certificate_days": 14,
        "asked": ["co1"],
        **given,
    }
    return audit_report({"co1": RAW if raw is None else {**RAW, **raw}}, **arguments)


def evidence(**changed: Any) -> dict[str, str]:
    """Return what fails of our own checks when something is otherwise."""
    arguments: dict[str, Any] = {
        "changed": False,
        "data_disk": True,
        "core": True,
        "registry": False,
        "production": True,
        "headers": HEADERS,
        "certificate_days": 14,
    }
    own = {name: changed.pop(name) for name in tuple(changed) if name in arguments}
    found = {
        **EVIDENCE,
        **{name: {**EVIDENCE[name], **value} if isinstance(value, dict) else value for name, value in changed.items()},
    }
    return failed(host_checks(found, **{**arguments, **own}))


def test_a_good_host_passes_and_says_what_is_accepted() -> None:
    """With every failure accepted and every bar reached, the audit passes."""
    made = report()
    assert made["passed"], made["findings"][:3]
    assert made["counts"]["failed"] == 0
    assert made["counts"]["accepted"] == 4
    assert made["stale_deviations"] == []
    assert made["hosts"]["co1"]["scores"] == {
        "cis": 33.3, "cis_tailored": 100.0, "lynis": 88, "tls": "A+", "ssh_failures": 0, "nginx_findings": 0,
    }  # fmt: skip
    assert made["hosts"]["co1"]["seconds"]["tls"] == 123.5


def test_a_host_may_be_looked_at_without_scanners_inside() -> None:
    scanned = report({"openscap": {}, "lynis": None})["hosts"]["co1"]
    assert set(scanned["scores"]) == {"tls", "ssh_failures", "nginx_findings"}
    assert "lynis" not in scanned["seconds"]


def test_an_accepted_finding_does_not_count_against_its_bar() -> None:
    """The bar for the proxy's configuration is about what nobody has accepted."""
    finding = {"plugin": "ssrf", "summary": "SSRF", "severity": "HIGH", "config": "proxy_pass $x;"}
    accepted = {"scanner": "nginx", "rule": "ssrf", "reason": "The variable is ours."}
    for deviations, findings in ((DEVIATIONS, 1), ([*DEVIATIONS, accepted], 0)):
        made = report({"nginx": [finding]}, deviations=deviations)
        assert made["hosts"]["co1"]["scores"]["nginx_findings"] == findings


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        ({"ssh": SSH}, "kex_ecdh-sha2-nistp256"),
        ({"ssh_policy": {**POLICY, "passed": False}}, "policy"),
        ({"tls": TLS}, "security_headers"),
        ({"tls": [*RAW["tls"], {"id": "scanProblem", "severity": "FATAL", "finding": "x"}]}, "scanProblem"),
        ({"digests": ["aa", "ab"]}, "unchanged"),
        ({"nginx": [{"plugin": "ssrf", "summary": "SSRF", "severity": "HIGH", "config": "proxy_pass $x;"}]}, "ssrf"),
        (
            {"lynis": {**LYNIS, "warnings": [{"rule": "NETW-2705", "title": "No name servers", "text": ""}]}},
            "NETW-2705",
        ),
        ({"ports": {**PORTS, "192.0.2.11": {**PORTS["192.0.2.11"], "tcp": [22, 443, 6380]}}}, "tcp/6380"),
        ({"ports": {**PORTS, "192.0.2.11": {**PORTS["192.0.2.11"], "tcp": [22]}}}, "tcp/443"),
        ({"ports": {**PORTS, "2001:db8::11": {**PORTS["2001:db8::11"], "udp": [5353]}}}, "udp/5353"),
    ],
)
def test_one_finding_fails_the_audit(raw: dict[str, Any], rule: str) -> None:
    """What any scanner finds and nobody accepts is named, on its host, and the audit does not pass."""
    made = report(raw)
    assert not made["passed"]
    found = [finding for finding in made["findings"] if finding["status"] == "failed"]
    assert [finding["rule"] for finding in found] == [rule]
    assert list(found[0]["found"]) == ["co1"]
    assert any(rule in line for line in audit_summary(made) if line.startswith("FAILED"))


def test_a_missed_bar_fails_the_audit() -> None:
    """A grade below the bar, a score below the bar, or nothing measured at all."""
    for bar in (
        {"score": "tls", "label": "TLS", "unit": "", "grade": "A+"},
        {"score": "lynis", "label": "Lynis", "unit": "", "least": 89},
        {"score": "anssi", "label": "ANSSI", "unit": " %", "least": 85},
    ):
        tls = [{"id": "overall_grade", "severity": "OK", "finding": "A"}]
        made = report({"tls": tls}, bars=[bar])
        assert not made["passed"], bar
        assert made["counts"]["failed"] == 0


def bars(first: Any, second: Any, score: str = "lynis", left_out: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Return how two hosts reach the role's bar for a score, with scans that are left out on the second."""
    hosts = [
        {"name": "co1", "scores": {score: first}, "left_out": []},
        {"name": "co2", "scores": {score: second}, "left_out": left_out},
    ]
    wanted: dict[str, dict[str, Any]] = {
        "lynis": {"least": 85},
        "tls": {"grade": "A+"},
        "ssh_failures": {"most": 0},
    }
    return bar_results(hosts, [{"score": score, "label": score, "unit": "", **wanted[score]}])


def test_the_worst_host_decides_a_bar() -> None:
    """A bar is for every host."""
    (bar,) = bars(90, 70)
    assert (bar["worst"], bar["value"], bar["reached"]) == ("co2", 70, False)


@pytest.mark.parametrize(("score", "good"), [("lynis", 93), ("tls", "A+"), ("ssh_failures", 0)])
@pytest.mark.parametrize("missing", [None, ""])
def test_a_host_that_was_not_measured_misses_the_bar(score: str, good: Any, missing: Any) -> None:
    """However good the others are."""
    assert bars(good, good, score)[0]["reached"]
    for values in ((good, missing), (missing, good)):
        (bar,) = bars(*values, score)
        assert (bar["measured"], bar["reached"]) == (False, False)
        assert bar["values"][bar["worst"]] == missing


def test_a_bar_is_not_for_hosts_whose_scan_was_left_out() -> None:
    """It is held against the others, and not claimed where there are none."""
    (bar,) = bars(93, None, left_out=("lynis",))
    assert (bar["worst"], bar["reached"], bar["left_out"]) == ("co1", True, ["co2"])
    scores: dict[str, Any] = {"name": "co1", "scores": {}, "left_out": ["lynis"]}
    assert bar_results([scores], [{"score": "lynis", "label": "Lynis", "unit": "", "least": 85}]) == []


def test_what_was_not_looked_at_from_outside_is_not_claimed() -> None:
    """Neither as passed nor as failed."""
    nothing: dict[str, Any] = {"ports": {}, "ssh": {}, "ssh_policy": {}, "tls": [], "nginx": [], "durations": {}}
    made = report({**nothing, "left_out": sorted(OUTSIDE)})
    assert made["passed"]
    assert [bar["score"] for bar in made["bars"]] == ["cis_tailored"]
    assert {one["scanner"] for one in made["findings"]} == {"openscap", "lynis", "docker_bench", "host"}


def test_the_summary_names_the_host_that_was_not_measured() -> None:
    """As a bar that is missed."""
    made = report({"tls": []})
    assert not made["passed"]
    assert "MISSED  TLS: not measured on co1, wanted A+" in audit_summary(made)


def test_a_host_that_was_not_audited_fails_the_audit() -> None:
    """A host that did not answer is not passed over in silence."""
    made = report(asked=["co1", "co2"])
    assert not made["passed"]
    assert made["not_audited"] == ["co2"]


def test_a_host_that_was_not_asked_is_said_to_be_left_out() -> None:
    """A run with --limit can pass, and the report says what it is not about."""
    hosts = {**TOPOLOGY["hosts"], "co2": {"roles": ["core"], "public_address": "192.0.2.12"}}
    made = report(topology={**TOPOLOGY, "hosts": hosts})
    assert made["passed"]
    assert made["left_out"] == ["co2"]


def test_a_deviation_that_nobody_reports_is_stale() -> None:
    """So that the table stays true."""
    stale = {"scanner": "lynis", "rule": "SSH-7408", "reason": "It was so once."}
    made = report(deviations=[*DEVIATIONS, stale])
    assert made["stale_deviations"] == [stale]
    assert "stale   1 accepted deviations that no scanner has reported" in audit_summary(made)


@pytest.mark.parametrize(
    ("deviation", "problem"),
    [
        ({"scanner": "openscap", "rule": "x", "reason": ""}, "has to have scanner, rule and reason"),
        ({"scanner": "nessus", "rule": "x", "reason": "y"}, "scanner 'nessus': one of openscap"),
        (DEVIATIONS[0], "repeats openscap package_nginx_removed"),
    ],
)
def test_a_bad_deviation_is_refused(deviation: dict[str, str], problem: str) -> None:
    """Nothing is accepted without a reason."""
    with pytest.raises(InputError, match=problem):
        report(deviations=[*DEVIATIONS, deviation])


def test_what_could_not_be_told_fails_until_somebody_answers_for_it() -> None:
    """A rule for a person, and an address that cannot be reached."""
    ports = {**PORTS, "2001:db8::11": {"tcp": [], "udp": [], "reached": False, "seconds": 0.1}}
    made = report({"ports": ports}, deviations=DEVIATIONS[:2])
    unknown = {finding["rule"] for finding in made["findings"] if finding["status"] == "unknown"}
    assert unknown == {"ask_a_person", "engine_problem", "reachable"}
    assert not any("IPv6" in finding["title"] for finding in made["findings"])
    assert not made["passed"]
    assert any(line.startswith("UNKNOWN co1: ports reachable") for line in audit_summary(made))
    answered = {"scanner": "ports", "rule": "reachable", "reason": "Looked at from elsewhere."}
    accepted = report({"ports": ports}, deviations=[*DEVIATIONS, answered])
    assert accepted["counts"]["unknown"] == 0


def test_a_forwarded_port_says_nothing_about_others() -> None:
    """At 127.x, the controller's own services answer."""
    checks = list(port_checks("co1", {"127.77.0.11": {**PORTS["192.0.2.11"], "tcp": [631]}}, TOPOLOGY["flows"]))
    assert [check.status for check in checks] == [UNKNOWN]


def test_a_rule_of_several_profiles_is_one_check_the_worse() -> None:
    """What one profile accepts and another does not is a failure."""
    rule = {"rule": "r", "title": "R", "severity": "low"}
    scans = {
        name: {"rules": [{**rule, "result": result}]}
        for name, result in (("cis", "pass"), ("anssi", "fail"), ("cis_tailored", "pass"))
    }
    assert [check.status for check in openscap_checks(scans)] == [FAILED]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"changed": True}, "unchanged"),
        ({"disk": {"luks": None}, "data_disk": False}, "luks"),
        ({"disk": {"luks": {**EVIDENCE["disk"]["luks"], "version": 1}}}, "luks_version"),
        ({"disk": {"luks": {**EVIDENCE["disk"]["luks"], "key_bits": [256]}}}, "luks_cipher"),
        ({"disk": {"luks": {**EVIDENCE["disk"]["luks"], "passphrase_kdfs": ["argon2id", "pbkdf2"]}}}, "luks_kdf"),
        ({"headers": []}, "luks_header"),
        ({"headers": [HEADERS[0].replace("000003", "000002")]}, "luks_header"),
        ({"headers": [HEADERS[0].replace("000003", "000013")]}, "luks_header"),
        ({"headers": [HEADERS[0].replace("6a0f8f7e", "6a0f8f7f")]}, "luks_header"),
        ({"disk": {"swap": [{"name": "/dev/vda2", "encrypted": False}]}}, "swap"),
        ({"clock": {"synchronized": False}}, "clock"),
        ({"updates": {"security": ["openssl"]}}, "updates"),
        ({"updates": {"lists_age_hours": None}}, "updates"),
        ({"updates": {"lists_age_hours": 49.0}}, "updates"),
        ({"updates": {"reboot_required": True}}, "reboot"),
        ({"updates": {"automatic": False}}, "automatic_updates"),
        ({"units": {"failed": ["nginx.service"]}}, "units"),
        ({"firewall": None}, "firewall"),
        ({"firewall": {"policies": {"input": "drop", "forward": "accept"}}}, "firewall"),
        ({"firewall": {"as_it_should_be": False}}, "firewall"),
        ({"firewall": {"others": ["inet filter input"]}}, "other_firewall"),
        ({"certificate": None}, "certificate"),
        ({"certificate": {"days_left": 13}}, "certificate"),
        ({"certificate_days": 61}, "certificate"),
        ({"certificate": {"key_mode": "0644"}}, "certificate_key"),
        ({"people": [{"name": "bob", "groups": [], "keys": 0, "root": False, "password": True}]}, "passwords"),
        ({"units": {"backups": {}}}, "backup"),
        ({"units": {"backups": {"b": {"result": "success", "age_hours": 27.0}}}}, "backup_b"),
        ({"units": {"backups": {"b": {"result": "success", "age_hours": 8.0, "oldest_seconds": 25200}}}}, "backup_b"),
        ({"units": {"backups": {"b": {"result": "exit-code", "age_hours": 1.0}}}}, "backup_b"),
        ({"units": {"backups": {"b": {"result": "success", "age_hours": None}}}}, "backup_b"),
    ],
)
def test_own_checks_find_what_is_wrong(change: dict[str, Any], rule: str) -> None:
    """Each alone."""
    assert evidence() == {}
    assert list(evidence(**change)) == [rule]


@pytest.mark.parametrize(("core", "production"), [(True, True), (True, False), (False, True)])
def test_a_disk_that_is_locked_is_found(core: bool, production: bool) -> None:
    """Whatever the host is; no unit fails while tang's servers are asked again and again."""
    locked = {"source": "/dev/vda1", "mount_point": "/", "luks": None}
    encrypted_system = {**EVIDENCE["disk"], "source": "/dev/mapper/system", "mount_point": "/"}
    for found in (locked, encrypted_system):
        assert list(evidence(disk=found, core=core, production=production)) == ["data_disk"]


def test_only_cores_of_real_platforms_need_an_encrypted_disk() -> None:
    """Nobody's data is on the others."""
    assert evidence(disk={"luks": None}, core=False) == {}
    assert evidence(disk={"luks": None}, production=False) == {}


@pytest.mark.parametrize(("environment", "wanted"), [("production", True), ("integration", False)])
def test_only_production_needs_an_encrypted_disk(environment: str, wanted: bool) -> None:
    """As preflight has it, which would otherwise let pass what the audit refuses."""
    bare = {**EVIDENCE, "disk": {**EVIDENCE["disk"], "luks": None}}
    made = report({"evidence": bare}, topology={**TOPOLOGY, "environment": environment})
    assert ("luks" in {finding["rule"] for finding in made["findings"] if finding["status"] == "failed"}) is wanted


def test_a_container_is_not_blamed_for_its_machine() -> None:
    """The clock and the swap are the machine's."""
    system = {**EVIDENCE["system"], "container": True}
    assert (
        evidence(system=system, clock={"synchronized": False}, disk={"swap": [{"name": "x", "encrypted": False}]}) == {}
    )


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"live_restore": False}, "live_restore"),
        ({"settings": {**DOCKER["settings"], "icc": True}}, "icc"),
        ({"settings": {"icc": False, "no-new-privileges": True}}, "userland_proxy"),
        ({"settings": {**DOCKER["settings"], "hosts": ["tcp://0.0.0.0:2375"]}}, "tcp_socket"),
        ({"command": "argv[]=/usr/sbin/dockerd -H tcp://0.0.0.0"}, "tcp_socket"),
        ({"socket_mode": "0666"}, "socket"),
        ({"group": ["alice"]}, "group"),
        ({"security": ["name=apparmor", "name=userns"]}, "sandbox"),
        ({"security": ["name=apparmor", "name=seccomp"]}, "userns"),
        ({"log_driver": "json-file"}, "daemon_log_limit"),
        ({"registries": ["10.0.0.0/8"]}, "registries"),
        ({"storage": "vfs"}, "storage"),
        ({"swarm": "active"}, "swarm"),
    ],
)
def test_docker_bench_looks_at_the_daemon(change: dict[str, Any], rule: str) -> None:
    """Each alone."""
    assert failed(docker_checks(DOCKER)) == {}
    assert list(failed(docker_checks({**DOCKER, **change}))) == [rule]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"privileged": True}, "privileged"),
        ({"mounts": [{"source": "/run/docker.sock", "writable": False}]}, "docker_socket"),
        ({"mounts": [{"source": "/etc", "writable": False}]}, "system_mounts"),
        ({"mounts": [{"source": "/", "writable": False}]}, "system_mounts"),
        ({"capabilities_dropped": []}, "capabilities_dropped"),
        ({"capabilities_added": ["CAP_SYS_ADMIN"]}, "capabilities_added"),
        ({"namespaces": {"Network": "host"}}, "host_namespaces"),
        ({"memory": 0}, "memory"),
        ({"pids": 0}, "pids"),
        ({"published": ["0.0.0.0|27017", "::|27017"]}, "published"),
        ({"published": ["|27017"]}, "published"),
        ({"devices": ["/dev/sda"]}, "devices"),
        ({"security": ["no-new-privileges", "seccomp=unconfined"]}, "confinement"),
        ({"log_driver": "json-file"}, "log_limit"),
        ({"read_only": False}, "read_only"),
        ({"user": "0:0"}, "user"),
    ],
)
def test_docker_bench_looks_at_containers(change: dict[str, Any], rule: str) -> None:
    """Each alone, naming the container."""
    found = failed(docker_checks({**DOCKER, "containers": [{**CONTAINER, **change}, {**CONTAINER, "name": "other"}]}))
    assert list(found) == [rule]
    assert found[rule].startswith("pryv-core-core-1: ")


def test_processes_that_may_gain_privileges_are_found() -> None:
    """When neither the container nor the daemon forbids it."""
    docker = {
        **DOCKER,
        "containers": [{**CONTAINER, "security": []}],
        "settings": {**DOCKER["settings"], "no-new-privileges": False},
    }
    assert set(failed(docker_checks(docker))) == {"new_privileges", "daemon_new_privileges"}


def test_without_docker_nothing_is_claimed() -> None:
    """A daemon that does not answer is no pass."""
    assert [check.status for check in docker_checks(None)] == [UNKNOWN]


UP = [{"metric": {"host": host, "job": "node"}, "value": [1, "1"]} for host in ("co1", "mon1")]
DISK: dict[str, Any] = {"metric": {"alertname": "DiskAlmostFull", "host": "co1", "job": "node"}, "value": [1, "1"]}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, {}),
        ({"monitoring": json.dumps(UP)}, {}),
        ({"monitoring": None}, {"monitoring": "Prometheus does not answer"}),
        ({"monitoring": json.dumps([DISK, *UP])}, {"alerts": "DiskAlmostFull co1"}),
        # One that was not heard of, and one that nobody asks.
        ({"monitoring": json.dumps([{**UP[0], "value": [1, "0"]}])}, {"silent_hosts": "co1, mon1"}),
    ],
)
def test_a_monitoring_host_is_asked_what_it_knows(said: dict[str, str | None], expected: dict[str, str]) -> None:
    assert failed(monitoring_checks(said, ["co1", "mon1"])) == expected
    if said:
        assert "monitoring" in {finding["rule"] for finding in report({"watched": said})["findings"]}
