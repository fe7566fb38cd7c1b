"""What the inventory alone shows to be wrong with the variables of role `data_disk`."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pryv_platform.data_disk import destroy_wanted, recovery_keys
from pryv_platform.inventory import Inventory
from pryv_platform.problems import InputError, Problem, Severity, make_problem

#: 128 bits of letters and digits.
SHORTEST_KEY = 22
#: What the unlocking unit does not see (ProtectHome, PrivateTmp), or a boot begins without.
NO_PLACE_FOR_KEYS = ("/dev", "/home", "/root", "/run", "/tmp", "/var/run", "/var/tmp")  # noqa: S108


def disk_problems(
    values: Mapping[str, Mapping[str, Any]], cores: Collection[str], data_directory: str, command_line: Collection[str]
) -> list[Problem]:
    """What is wrong with the settings of hosts' disks; nothing is asked from the hosts, and no key is ever named.

    Args:
        values: By host, the variables that its inventory sets.
        cores: The hosts that must have such a disk in production: cores, and those that restore backups to look at
            them.
        data_directory: Where the disk is mounted on hosts for which the inventory names no other place.
        command_line: Names of the variables that were given for this run alone.
    """
    return [
        make_problem(severity, where, problem, remedy)
        for host, variables in values.items()
        for severity, where, problem, remedy in _disk_problems(
            host, {"pryv_data_directory": data_directory, **variables}, host in cores, command_line
        )
    ]


def _disk_problems(
    host: str, variables: Mapping[str, Any], is_core: bool, command_line: Collection[str]
) -> Iterator[tuple[Severity, str, str, str]]:
    """Yield severity, where, problem and remedy."""
    device = str(variables.get("data_disk_device") or "")
    where = f"{host}: data_disk_device"
    try:
        destroy_wanted(str(variables.get("data_disk_destroy") or ""), host, device, command_line)
    except InputError as error:
        yield "error", host, str(error), "name the host and its disk, or leave data_disk_destroy out"
    if not device:
        if is_core and variables.get("pryv_environment") == "production":
            remedy = "name the empty disk that its data goes to, by its path in /dev/disk/by-id"
            yield "error", where, "is not set, and this is production", remedy
        return
    yield from _name_problems(where, device)
    if not variables.get("pryv_locked_vaults"):  # reported with the secrets
        yield from _key_problems(host, variables.get("data_disk_recovery_keys"))
    yield from _unlock_problems(host, variables)


def _name_problems(where: str, device: str) -> Iterator[tuple[Severity, str, str, str]]:
    """Yield what is wrong with how a disk is named."""
    if not re.fullmatch(r"/dev/[\w./:+@=-]+", device) or ".." in device:
        yield "error", where, f"is {device!r}", "give a path such as /dev/disk/by-id/…"
    elif unstable_name(device):
        remedy = "use its path in /dev/disk/by-id; the volume itself is found by its UUID"
        yield "warning", where, f"is {device}, which may be another disk after the next boot", remedy


def _unlock_problems(host: str, variables: Mapping[str, Any]) -> Iterator[tuple[Severity, str, str, str]]:
    """Yield what is wrong with how a disk is unlocked at boot."""
    unlock = variables.get("data_disk_unlock", "tpm2")
    if unlock == "tang":
        yield from _tang_problems(host, variables)
    if unlock == "keyfile" and "data_disk_keyfile" in variables:
        yield from _keyfile_problems(host, str(variables["data_disk_keyfile"]), str(variables["pryv_data_directory"]))
    if unlock == "tpm2" and "data_disk_tpm2_pcrs" in variables:
        pcrs = variables["data_disk_tpm2_pcrs"]
        if not (isinstance(pcrs, list) and pcrs and all(pcr in range(24) for pcr in pcrs)):
            where = f"{host}: data_disk_tpm2_pcrs"
            yield "error", where, f"is {pcrs!r}", "give a list of registers from 0 to 23, such as [7]"


def _tang_problems(host: str, variables: Mapping[str, Any]) -> Iterator[tuple[Severity, str, str, str]]:
    """Yield what is wrong with the servers that unlock a disk."""
    servers, threshold = variables.get("data_disk_tang_servers"), variables.get("data_disk_tang_threshold")
    if not servers:
        where = f"{host}: data_disk_tang_servers"
        yield "error", where, "is empty, and data_disk_unlock is tang", "name at least one server"
    elif isinstance(threshold, int) and not 1 <= threshold <= len(servers):
        where = f"{host}: data_disk_tang_threshold"
        yield "error", where, f"is {threshold}", f"give 1 to the number of servers, {len(servers)}"


def _keyfile_problems(host: str, keyfile: str, data_directory: str) -> Iterator[tuple[Severity, str, str, str]]:
    """Yield what would let a run succeed, and leave the disk locked at the next boot."""
    where, remedy = f"{host}: data_disk_keyfile", "give a file on the system disk, or leave it out"
    path = posixpath.normpath(keyfile)
    if not re.fullmatch(r"/[\w./:+@=-]+", keyfile):
        yield "error", where, f"is {keyfile!r}, and has to be an absolute path without spaces", remedy
    elif _is_below(path, data_directory):
        yield "error", where, f"is {keyfile}, on the very disk that it unlocks", remedy
    elif any(_is_below(path, place) for place in NO_PLACE_FOR_KEYS):
        yield "error", where, f"is {keyfile}, which is hidden from the unlocking at boot, or gone by then", remedy


def _is_below(path: str, directory: str) -> bool:
    return f"{path}/".startswith(f"{posixpath.normpath(directory)}/")


def _key_problems(host: str, given: object) -> Iterator[tuple[Severity, str, str, str]]:
    where = f"data_disk_recovery_keys.{host}"
    keys = recovery_keys({str(name): key for name, key in given.items()} if isinstance(given, Mapping) else {}, host)
    if not keys:
        yield "error", where, "is missing", "run playbooks/secrets.yml, which makes it"
    elif any(not isinstance(key, str) or len(key) < SHORTEST_KEY for key in keys):
        problem, remedy = f"is no text of at least {SHORTEST_KEY} characters", "put such a key into the vault"
        yield "error", where, problem, remedy


def unstable_name(device: str) -> bool:
    """Whether a disk's name may be another disk's after the next boot.

    Args:
        device: A path in /dev.
    """
    return re.fullmatch(r"/dev/((s|h|v|xv)d[a-z]+\d*|nvme\d+n\d+(p\d+)?|dm-\d+|sr\d+)", device) is not None


VARIABLES = (
    "data_disk_destroy",
    "data_disk_device",
    "data_disk_keyfile",
    "data_disk_recovery_keys",
    "data_disk_tang_servers",
    "data_disk_tang_threshold",
    "data_disk_tpm2_pcrs",
    "data_disk_unlock",
    "pryv_data_directory",
    "pryv_environment",
    "pryv_locked_vaults",
)


def problems(inventory: Inventory, hosts: Sequence[str] | None = None) -> list[Problem]:
    """Check the variables of role `data_disk`.

    Args:
        inventory: What the operator wrote down.
        hosts: Whose disks are checked; all hosts' by default.
    """
    values = inventory.known(inventory.members("all") if hosts is None else hosts, VARIABLES)
    directory = str(inventory.default("pryv_data_directory"))
    encrypted = {*inventory.members("core"), *inventory.members("backup")}
    return disk_problems(values, encrypted, directory, inventory.command_line)
