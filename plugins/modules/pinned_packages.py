#!/usr/bin/python
"""Have the files of pinned Debian packages in a folder, without installing them."""

from __future__ import annotations

import hashlib
import tempfile
import typing as t
from collections.abc import Callable, Sequence
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: pinned_packages
short_description: Have the files of pinned Debian packages in a folder
description:
  - Takes packages that fit every architecture, usually of a newer suite than the machine's own, from Debian's archive
    or from a folder, and keeps each that has the digest that was asked for. Nothing is installed, and apt's own lists
    stay as they are.
  - Needs C(apt-get) and Debian's keyring, so it runs on Debian and Ubuntu, as any user.
options:
  packages:
    description: Packages, each with C(name), C(version) and C(sha256).
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The package's name.
        type: str
        required: true
      version:
        description: Its version, as apt knows it.
        type: str
        required: true
      sha256:
        description: Digest of its file.
        type: str
        required: true
  sources:
    description:
      - Lines of a sources.list, tried in their order until every package is found. Put an archive that forgets nothing
        last.
    type: list
    elements: str
    default: []
  folder:
    description: Folder on this machine with the packages' files, in which case no archive is asked.
    type: path
  dest:
    description: Where they are kept, as C(<name>.deb).
    type: path
    required: true
attributes:
  check_mode:
    support: full
    description: In check mode it still brings them, since what follows needs them; only the controller's cache changes.
author:
  - Pryv Ansible contributors
"""

EXAMPLES = r"""
- name: Have Lynis here, not installed
  pinned_packages:
    dest: "{{ playbook_dir }}/../.cache/audit"
    sources: ["deb http://deb.debian.org/debian sid main"]
    packages:
      - {name: lynis, version: 3.1.7-1, sha256: 05c4390d8ff521773f6f9f4ae1813dc04f6cc2969ba35399086004062b69e6b9}
  delegate_to: localhost
"""

RETURN = r"""
brought:
  description: Names of the packages that were not there yet.
  type: list
  elements: str
  returned: always
"""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
Package = dict[str, str]
#: As AnsibleModule.run_command: a command in, its code, output and errors out.
Run = Callable[..., tuple[int, str, str]]


class PackageError(Exception):
    """A package cannot be had; the message says what to do."""


def digest(file: Path) -> str:
    """Return the SHA-256 of a file; empty when there is none."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""


def find_file(folder: Path, package: Package) -> Path | None:
    """Return a package's file in a folder, as apt or a browser names it."""
    version = package["version"].partition(":")[2] or package["version"]
    for spelled in (version, version.replace("+", "%2b"), version.replace("+", "%2B")):
        for file in folder.glob(f"{package['name']}_{spelled}_*.deb"):
            return file
    return None


def keep(file: Path, dest: Path, package: Package) -> None:
    """Copy a package's file, as a whole or not at all.

    Raises:
        PackageError: It is not the one that was pinned.
    """
    if digest(file) != package["sha256"]:
        raise PackageError(f"{file} has the SHA-256 {digest(file)}, and has to have {package['sha256']}: do not use it")
    dest.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=dest, prefix=".new-", delete=False) as fresh:
        fresh.write(file.read_bytes())
    Path(fresh.name).chmod(0o644)
    Path(fresh.name).rename(dest / f"{package['name']}.deb")


def download(packages: Sequence[Package], sources: Sequence[str], folder: Path, run: Run) -> None:
    """Bring packages to a folder, with apt but without its configuration of this machine's suites.

    Raises:
        PackageError: No source has them.
    """
    if not KEYRING.exists():
        raise PackageError(f"{KEYRING} is missing: apt-get install debian-archive-keyring")
    said = []
    for number, source in enumerate(sources):
        wanted = [package for package in packages if find_file(folder, package) is None]
        if not wanted:
            return
        state = folder / f"apt-{number}"
        (state / "lists/partial").mkdir(parents=True)
        (state / "archives/partial").mkdir(parents=True)
        kind, _, rest = source.partition(" ")
        signed = f"[signed-by={KEYRING} {rest[1:]}" if rest.startswith("[") else f"[signed-by={KEYRING}] {rest}"
        (state / "sources.list").write_text(f"{kind} {signed}\n")
        options = {
            "Dir::Etc::sourcelist": state / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State": state,
            "Dir::State::status": "/dev/null",
            "Dir::Cache": state,
            "APT::Architecture": "amd64",  # any: the packages are for all
            "APT::Sandbox::User": "",
        }
        apt = ["/usr/bin/apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
        for arguments in (["update"], *(["download", f"{one['name']}={one['version']}"] for one in wanted)):
            code, _, errors = run([*apt, *arguments], cwd=str(folder))
            if code != 0:
                said.append(f"{source}: {errors.strip()}")
    missing = [f"{package['name']} {package['version']}" for package in packages if not find_file(folder, package)]
    if missing:
        raise PackageError(
            f"cannot get {', '.join(missing)} from Debian's archive; bring the files here and name their folder\n"
            + "\n".join(said)
        )


def provide(packages: Sequence[Package], sources: Sequence[str], folder: str | None, dest: Path, run: Run) -> list[str]:
    """Bring what is not there yet, and return its names.

    Raises:
        PackageError: A package cannot be had.
    """
    wanted = [package for package in packages if digest(dest / f"{package['name']}.deb") != package["sha256"]]
    with tempfile.TemporaryDirectory() as temporary:
        found = Path(folder or temporary)
        if wanted and not folder:
            download(wanted, sources, found, run)
        for package in wanted:
            file = find_file(found, package)
            if file is None:
                raise PackageError(f"{found} has no {package['name']}_{package['version']}_all.deb: put it there")
            keep(file, dest, package)
    return [package["name"] for package in wanted]


def main() -> None:
    """Provide the packages."""
    strings: dict[str, t.Any] = {name: {"type": "str", "required": True} for name in ("name", "version", "sha256")}
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "dict", "required": True, "options": strings},
            "sources": {"type": "list", "elements": "str", "default": []},
            "folder": {"type": "path"},
            "dest": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    dest = Path(parameters["dest"])
    try:
        brought = provide(parameters["packages"], parameters["sources"], parameters["folder"], dest, module.run_command)
    except PackageError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(brought), brought=brought)


if __name__ == "__main__":
    main()
