#!/usr/bin/python
"""Run OpenSCAP and Lynis on a host, without installing either."""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import time
import typing as t
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.parsers import expat

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: host_scan
short_description: Run OpenSCAP and Lynis on a host, without installing either
description:
  - Everything it needs, and everything it writes, is in O(directory), which the caller brings and removes.
  - The C(oscap) program comes from the host's own archive, so that it fits the host's libraries; apt's state for that
    lies in O(directory).
  - Raw results are put into C(results.tar.gz) there.
options:
  directory:
    description:
      - Folder with the packages that are asked for, Lynis and one with SCAP content.
      - It must be on a file system that lets programs run.
    type: path
    required: true
  content:
    description: File name of the SCAP data stream in its package.
    type: str
  profiles:
    description: SCAP scans.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the scan is called in the results.
        type: str
        required: true
      profile:
        description: The profile's identifier.
        type: str
        required: true
      tailoring:
        description: File in O(directory) with the profile, when it is not the content's own.
        type: str
  lynis:
    description: Whether Lynis runs.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: It changes nothing outside of O(directory).
author:
  - Pryv Ansible contributors
"""

EXAMPLES = r"""
- name: Scan
  host_scan:
    directory: /root/audit.4f2a
    content: ssg-debian13-ds.xml
    profiles:
      - {name: cis, profile: xccdf_org.ssgproject.content_profile_cis_level1_server}
"""

RETURN = r"""
openscap:
  description: >-
    By scan, its C(version), C(seconds) and C(rules), each with C(rule), C(title), C(severity), C(result) and C(text).
  type: dict
  returned: always
lynis:
  description: C(version), C(index), C(warnings), C(suggestions), C(tests) done, C(seconds); null if not asked for.
  type: dict
  returned: always
"""

RULE_PREFIX = "xccdf_org.ssgproject.content_rule_"
XCCDF = "http://checklists.nist.gov/xccdf/1.2"
#: Longest explanation of a rule that is kept, in characters.
TEXT = 600


class ScanError(Exception):
    """A scanner did not run; the message has its own words."""


# --- parsing -------------------------------------------------------------------------------------


class _Results:
    """Reads an XCCDF result file as a stream. Entities are refused: nothing honest has any."""

    def __init__(self) -> None:
        self.rules: dict[str, dict[str, str]] = {}
        self.results: dict[str, tuple[str, str]] = {}
        self._path: list[str] = []
        self._rule: dict[str, str] | None = None
        self._result = ("", "")
        self._field: str | None = None
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.EntityDeclHandler = self._refuse
        self.parser = parser

    def _refuse(self, *_: object) -> None:
        raise ScanError("the results declare an XML entity, which OpenSCAP never does")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.removeprefix(f"{XCCDF} ")
        self._path.append(name)
        if name == "Rule":
            self._rule = self.rules.setdefault(attributes["id"], {"title": "", "description": ""})
        elif self._rule is not None and self._path[-2] == "Rule" and name in {"title", "description"}:
            self._field = name
        elif name == "rule-result":
            self._result = (attributes["idref"], attributes.get("severity", "unknown"))
        elif name == "result" and self._path[-2] == "rule-result":
            self._field = "result"
            self._said = ""

    def _text(self, text: str) -> None:
        if self._field == "result":
            self._said += text
        elif self._field and self._rule is not None:
            self._rule[self._field] += text

    def _end(self, tag: str) -> None:
        name = tag.removeprefix(f"{XCCDF} ")
        if name == "Rule":
            self._rule = None
        elif name == "result" and self._field == "result":
            self.results[self._result[0]] = (self._result[1], self._said.strip())
        if name == self._field:
            self._field = None
        self._path.pop()


def parse_xccdf(content: bytes) -> list[dict[str, str]]:
    """Return the rules that an XCCDF result file has a result for.

    Args:
        content: The file.

    Returns:
        Mappings of rule (without SSG's prefix), title, severity, result, and text (how it should be) unless it passed.

    Raises:
        ScanError: It is no result file.
    """
    results = _Results()
    try:
        results.parser.Parse(content, True)
    except expat.ExpatError as error:
        raise ScanError(f"OpenSCAP wrote no XML: {error}") from error
    found = []
    for identifier, (severity, result) in results.results.items():
        if result == "notselected":
            continue
        said = results.rules.get(identifier, {"title": identifier, "description": ""})
        entry = {
            "rule": identifier.removeprefix(RULE_PREFIX),
            "title": " ".join(said["title"].split()),
            "severity": severity,
            "result": result,
        }
        if result not in {"pass", "notapplicable"}:
            text = " ".join(said["description"].split())
            entry["text"] = text if len(text) <= TEXT else text[:TEXT].rsplit(" ", 1)[0] + " …"
        found.append(entry)
    return found


def parse_lynis(text: str) -> dict[str, t.Any]:
    """Return what a Lynis report says.

    Args:
        text: The file lynis-report.dat.

    Returns:
        version, index, tests (how many), and lists warnings and suggestions of mappings rule, title, text.

    Raises:
        ScanError: Lynis did not come to its end.
    """
    single: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if not equals or line.startswith("#"):
            continue
        if name.endswith("[]"):
            lists.setdefault(name[:-2], []).append(value)
        else:
            single[name] = value

    if "hardening_index" not in single:
        raise ScanError("Lynis began a report and did not finish it")

    def findings(kind: str) -> list[dict[str, str]]:
        found = []
        for value in lists.get(kind, []):
            rule, title, *more = value.split("|")
            details = [part.removeprefix("text:") for part in more if part not in {"", "-"}]
            found.append({"rule": rule, "title": title.strip(), "text": " ".join(details)})
        return found

    return {
        "version": single.get("lynis_version", ""),
        "index": int(single["hardening_index"]),
        "tests": int(single.get("lynis_tests_done", 0)),
        "warnings": findings("warning"),
        "suggestions": findings("suggestion"),
    }


# --- running -------------------------------------------------------------------------------------


class Runner:
    """Runs commands.

    Args:
        run: As AnsibleModule.run_command: a command in, its code, output and errors out.
    """

    def __init__(self, run: t.Callable[..., tuple[int, str, str]]) -> None:
        """Keep how commands are run."""
        self._run = run

    def __call__(
        self,
        *command: str | Path,
        fine: Sequence[int] = (0,),
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run a command and return its output.

        Raises:
            ScanError: It ends with another code than the `fine` ones.
        """
        code, said, errors = self._run(
            [str(word) for word in command],
            cwd=str(cwd) if cwd else None,
            environ_update={"LC_ALL": "C.UTF-8", **(env or {})},
        )
        if code not in fine:
            raise ScanError(f"{command[0]} ended with {code}: {(errors or said).strip()[-2000:]}")
        return said


def unpack(run: Runner, packages: Path, root: Path) -> None:
    """Unpack all packages of a folder, without installing them."""
    for package in sorted(packages.glob("*.deb")):
        run("dpkg-deb", "-x", package, root)


def bring_oscap(run: Runner, directory: Path) -> tuple[Path, dict[str, str]]:
    """Return the program and what it needs in its environment, from the host or from its archive."""
    own = shutil.which("oscap")
    if own:
        return Path(own), {}
    state = directory / "apt"
    for folder in ("lists/partial", "archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    options = {
        "Dir::State::lists": state / "lists",
        "Dir::Cache": state,
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    run(*apt, "update")
    run(*apt, "install", "--download-only", "--yes", "--no-install-recommends", "openscap-scanner")
    root = directory / "root"
    unpack(run, state / "archives", root)
    # Debian 12 has packages that still put theirs beside /usr.
    libraries = sorted({str(library.parent) for library in root.glob("**/lib/**/*.so*")})
    share = root / "usr/share/openscap"
    return root / "usr/bin/oscap", {
        "LD_LIBRARY_PATH": ":".join(libraries),
        "OSCAP_SCHEMA_PATH": str(share / "schemas"),
        "OSCAP_XSLT_PATH": str(share / "xsl"),
        "OSCAP_CPE_PATH": str(share / "cpe"),
    }


class OpenSCAP:
    """The program, brought once for all scans.

    Args:
        run: What runs commands.
        directory: Where files may be written, and where the profiles' tailoring files are.
        content: The data stream.
    """

    def __init__(self, run: Runner, directory: Path, content: Path) -> None:
        """Bring the program."""
        self._run, self._directory, self._content = run, directory, content
        self._program, self._environment = bring_oscap(run, directory)
        version = re.search(r"[\d.]+", run(self._program, "--version", env=self._environment))
        self._version = version[0] if version else ""

    def scan(self, profile: Mapping[str, str]) -> dict[str, t.Any]:
        """Evaluate a profile of the data stream and return its results."""
        start = time.monotonic()
        results = self._directory / "results" / f"openscap-{profile['name']}.xml"
        tailoring: list[str | Path] = []
        if profile.get("tailoring"):
            tailoring = ["--tailoring-file", self._directory / profile["tailoring"]]
        evaluate = (self._program, "xccdf", "eval", "--profile", profile["profile"], *tailoring)
        self._run(
            *(*evaluate, "--results", results, self._content),
            env=self._environment,
            fine=(0, 2),  # 2: some rule failed
        )
        return {
            "version": self._version,
            "profile": profile["profile"],
            "rules": parse_xccdf(results.read_bytes()),
            "seconds": round(time.monotonic() - start, 1),
        }


def scan_lynis(run: Runner, directory: Path, unpacked: Path) -> dict[str, t.Any]:
    """Run Lynis as if from its source folder, which it recognises, and return what it found."""
    start = time.monotonic()
    folder = (unpacked / "usr/share/lynis").rename(directory / "lynis")
    (unpacked / "usr/sbin/lynis").rename(folder / "lynis")
    for name in ("default.prf", "plugins"):
        (unpacked / "etc/lynis" / name).rename(folder / name)
    with (folder / "default.prf").open("a") as profile:
        profile.write("\nrefresh-repositories=no\n")  # apt's lists are the host's
    report = directory / "results/lynis-report.dat"
    run(
        *("./lynis", "audit", "system", "--quick", "--quiet", "--no-colors", "--no-log", "--usecwd"),
        *("--profile", "default.prf", "--report-file", report),
        cwd=folder,
        fine=(0, 1, 78),  # 78: with warnings
    )
    return {**parse_lynis(report.read_text(errors="replace")), "seconds": round(time.monotonic() - start, 1)}


def main() -> None:
    """Scan."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "content": {"type": "str"},
            "profiles": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "profile": {"type": "str", "required": True},
                    "tailoring": {"type": "str"},
                },
            },
            "lynis": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    directory, run = Path(module.params["directory"]), Runner(module.run_command)
    (directory / "results").mkdir(exist_ok=True)
    os.nice(19)  # the platform's clients come first
    unpacked = directory / "unpacked"
    try:
        unpack(run, directory, unpacked)
        content = unpacked / "usr/share/xml/scap/ssg/content" / (module.params["content"] or "")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            lynis = pool.submit(scan_lynis, run, directory, unpacked) if module.params["lynis"] else None
            openscap = {}
            if profiles := module.params["profiles"]:
                program = OpenSCAP(run, directory, content)
                openscap = {profile["name"]: pool.submit(program.scan, profile) for profile in profiles}
        found = {
            "openscap": {name: scan.result() for name, scan in openscap.items()},
            "lynis": lynis.result() if lynis else None,
        }
    except ScanError as error:
        module.fail_json(msg=str(error))
    with tarfile.open(directory / "results.tar.gz", "w:gz") as archive:
        archive.add(directory / "results", "results")
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
