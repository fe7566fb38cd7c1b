"""What OpenSCAP says of a host, answered by a container as far as it can and by a virtual machine for the rest.

A machine is emulated here, and takes half an hour of a processor for what a container does in seconds. So openscap.yml
lists the rules about what a container shares with its host or lacks: kernel, mounts, boot, a few services.
Those, and no others, are put to the machine. `make soak` puts all to the machine.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from testinfra.host import Host

from plugins.modules.host_scan import RULE_PREFIX
from pryv_platform.audit.check import FAILED, UNKNOWN
from pryv_platform.audit.report import accept
from pryv_platform.audit.scanners import openscap_checks, openscap_score
from tests.fleet.fleet import CACHE, CHECKOUT
from tests.hosts.conftest import Platform, ssh_config

#: What role audit brings.
PACKAGE = CACHE / "audit/ssg-debian.deb"
CONTENT = "usr/share/xml/scap/ssg/content/ssg-debian13-ds.xml"
#: Where the content lies on a host.
PLACE = "/root/openscap.xml"

KNOWN = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text())
#: The rules of each profile that the machine answers.
MACHINES: Mapping[str, frozenset[str]] = {name: frozenset(rules) for name, rules in KNOWN["machine"].items()}
PROFILES: Mapping[str, str] = {
    name: scan["profile"]
    for name, scan in yaml.safe_load((CHECKOUT / "roles/audit/vars/main.yml").read_text())["audit_all_profiles"].items()
    if "tailoring" not in scan
}

Answers = Mapping[str, Mapping[str, str]]


def bring(machine: Host) -> None:
    """Puts the content on a host."""
    name = machine.backend.get_pytest_id().removeprefix("ssh://")
    take = f"dpkg-deb --fsys-tarfile {PACKAGE} | tar --extract --to-stdout ./{CONTENT} | gzip"
    put = f"ssh -F {ssh_config(name)} {name} 'gunzip | sudo tee {PLACE} >/dev/null'"
    subprocess.run(["bash", "-o", "pipefail", "-c", f"{take} | {put}"], check=True)


def scan(machine: Host, rules: Mapping[str, Iterable[str]] = MappingProxyType({})) -> Answers:
    """What rules say of a host, by profile and rule.

    Args:
        machine: The host; it has OpenSCAP.
        rules: Which, by profile; all of a profile that is not there.
    """
    bring(machine)
    chosen = {name: " ".join(f"--rule {RULE_PREFIX}{rule}" for rule in rules.get(name, ())) for name in PROFILES}
    # Side by side, and without what takes as long as the rules: validation, and a report in XML.
    evaluate = "oscap xccdf eval --skip-validation --progress"
    each = " & ".join(
        f"{evaluate} {chosen[name]} --profile {profile} {PLACE} >/root/{name}" for name, profile in PROFILES.items()
    )
    machine.check_output(f"cd /root; {{ {each} & wait; }} 2>/root/openscap.log")
    said = {name: machine.file(f"/root/{name}").content_string.splitlines() for name in PROFILES}
    machine.check_output("rm " + " ".join([PLACE, "/root/openscap.log", *(f"/root/{name}" for name in PROFILES)]))
    pairs = {name: (line.removeprefix(RULE_PREFIX).split(":") for line in lines) for name, lines in said.items()}
    return {name: dict(answers) for name, answers in pairs.items()}


def rows(answers: Mapping[str, str]) -> dict[str, Any]:
    """Answers as role audit has them."""
    return {"rules": [{"rule": rule, "title": rule, "severity": "", "result": said} for rule, said in answers.items()]}


def unaccepted(answers: Answers, platform: Platform) -> list[tuple[str, str]]:
    """The rules that fail or cannot tell, and are no accepted deviation, each with its profile."""
    deviations = yaml.safe_load((CHECKOUT / "roles/hardening/vars/deviations.yml").read_text())["hardening_deviations"]
    for variables in platform.variables.values():
        deviations = deviations + variables.get("audit_deviations", [])
    return [
        (name, check.rule)
        for name, said in answers.items()
        for check in accept(openscap_checks({name: rows(said)}), deviations)
        if check.status in {FAILED, UNKNOWN}
    ]


def score(answers: Mapping[str, str]) -> dict[str, int]:
    """How many rules passed, of how many that passed or failed."""
    found = openscap_score(rows(answers))
    return {kind: found[kind] for kind in ("passed", "judged")}
