"""What the role data_disk derives from the inventory: its problems, and the recovery keys of a host."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import AnsibleVaultError, VaultLib, VaultSecret
from ansible.utils.vars import load_extra_vars

#: 128 bits of letters and digits.
SHORTEST_KEY = 22
#: What the unlocking unit does not see (ProtectHome, PrivateTmp), or a boot begins without.
NO_PLACE_FOR_KEYS = ("/dev", "/home", "/root", "/run", "/tmp", "/var/run", "/var/tmp")  # noqa: S108


def recovery_keys(keys: Mapping[str, str], host: str) -> list[str]:
    """A host's recovery keys, the current one first.

    A rotation adds a key named `HOST@2`, then `HOST@3`: the highest number is current, and `HOST` is number 1.

    Args:
        keys: All hosts' keys by name.
        host: An inventory name.
    """
    numbered = {_number(name, host): key for name, key in keys.items()}
    return [numbered[number] for number in sorted(numbered, reverse=True) if number]


def next_recovery_key(host: str, keys: Mapping[str, str]) -> str:
    """The name that a host's next recovery key gets.

    Args:
        host: An inventory name.
        keys: All hosts' keys by name.
    """
    last = max((_number(name, host) for name in keys), default=0)
    return f"{host}@{last + 1}" if last else host


def _number(name: str, host: str) -> int:
    """Which of a host's keys a name means; 0 for another host's."""
    found = re.fullmatch(re.escape(host) + r"(?:@([1-9]\d*))?", name)
    return int(found.group(1) or 1) if found else 0


def destroy_wanted(wanted: str, host: str, device: str) -> bool:
    """Whether the operator wants what is on this host's disk destroyed.

    Args:
        wanted: `HOST:DEVICE`, or nothing.
        host: This host.
        device: Its disk.

    Raises:
        AnsibleFilterError: When it is not from the command line, is written otherwise, or names another disk of this
            host.
    """
    if not wanted:
        return False
    # From anywhere else it would be there in the next run too.
    if "data_disk_destroy" not in load_extra_vars(DataLoader()):
        raise AnsibleFilterError(
            f"data_disk_destroy of {host} is in the inventory, and may only be given on the command line of one run: "
            "take it out, and see docs/operations/data-disk.md"
        )
    named, separator, disk = wanted.partition(":")
    if not separator or not disk.startswith("/dev/"):
        raise AnsibleFilterError(
            f"data_disk_destroy is {wanted!r}, and has to name one host and its disk, such as co1:/dev/disk/by-id/…"
        )
    if named == host and disk != device:
        raise AnsibleFilterError(
            f"data_disk_destroy names {disk}, and data_disk_device of {host} is {device or 'not set'}: "
            "both have to be the same"
        )
    return named == host


def disk_problems(
    values: Mapping[str, Mapping[str, Any]], cores: Collection[str], data_directory: str
) -> list[dict[str, str]]:
    """What is wrong with the settings of hosts' disks; nothing is asked from the hosts, and no key is ever named.

    Args:
        values: By host, the variables that its inventory sets.
        cores: The cores, which must have such a disk in production.
        data_directory: Where the disk is mounted on hosts for which the inventory names no other place.

    Returns:
        Mappings of severity, where, problem and remedy.
    """
    return [
        {"severity": severity, "where": where, "problem": problem, "remedy": remedy}
        for host, variables in values.items()
        for severity, where, problem, remedy in _disk_problems(
            host, {"pryv_data_directory": data_directory, **variables}, host in cores
        )
    ]


def _disk_problems(host: str, variables: Mapping[str, Any], is_core: bool) -> Iterator[tuple[str, str, str, str]]:
    """Yield severity, where, problem and remedy."""
    device = str(variables.get("data_disk_device") or "")
    where = f"{host}: data_disk_device"
    try:
        destroy_wanted(str(variables.get("data_disk_destroy") or ""), host, device)
    except AnsibleFilterError as error:
        yield "error", host, str(error), "name the host and its disk, or leave data_disk_destroy out"
    if not device:
        if is_core and variables.get("pryv_environment") == "production":
            remedy = "name the empty disk that its data goes to, by its path in /dev/disk/by-id"
            yield "error", where, "is not set, and this is production", remedy
        return
    if not re.fullmatch(r"/dev/[\w./:+@=-]+", device) or ".." in device:
        yield "error", where, f"is {device!r}", "give a path such as /dev/disk/by-id/…"
    elif unstable_name(device):
        remedy = "use its path in /dev/disk/by-id; the volume itself is found by its UUID"
        yield "warning", where, f"is {device}, which may be another disk after the next boot", remedy
    if not variables.get("pryv_locked_vaults"):  # reported with the secrets
        yield from _key_problems(host, variables.get("data_disk_recovery_keys"))
    unlock = variables.get("data_disk_unlock", "tpm2")
    if unlock == "tang":
        servers, threshold = variables.get("data_disk_tang_servers"), variables.get("data_disk_tang_threshold")
        if not servers:
            where = f"{host}: data_disk_tang_servers"
            yield "error", where, "is empty, and data_disk_unlock is tang", "name at least one server"
        elif isinstance(threshold, int) and not 1 <= threshold <= len(servers):
            where = f"{host}: data_disk_tang_threshold"
            yield "error", where, f"is {threshold}", f"give 1 to the number of servers, {len(servers)}"
    if unlock == "keyfile" and "data_disk_keyfile" in variables:
        yield from _keyfile_problems(host, str(variables["data_disk_keyfile"]), str(variables["pryv_data_directory"]))
    if unlock == "tpm2" and "data_disk_tpm2_pcrs" in variables:
        pcrs = variables["data_disk_tpm2_pcrs"]
        if not (isinstance(pcrs, list) and pcrs and all(pcr in range(24) for pcr in pcrs)):
            where = f"{host}: data_disk_tpm2_pcrs"
            yield "error", where, f"is {pcrs!r}", "give a list of registers from 0 to 23, such as [7]"


def _keyfile_problems(host: str, keyfile: str, data_directory: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield what would let a run succeed, and leave the disk locked at the next boot."""
    where, remedy = f"{host}: data_disk_keyfile", "give a file on the system disk, such as /etc/pryv/data_disk/key"
    path = posixpath.normpath(keyfile)
    if not re.fullmatch(r"/[\w./:+@=-]+", keyfile):
        yield "error", where, f"is {keyfile!r}, and has to be an absolute path without spaces", remedy
    elif _is_below(path, data_directory):
        yield "error", where, f"is {keyfile}, on the very disk that it unlocks", remedy
    elif any(_is_below(path, place) for place in NO_PLACE_FOR_KEYS):
        yield "error", where, f"is {keyfile}, which is hidden from the unlocking at boot, or gone by then", remedy


def _is_below(path: str, directory: str) -> bool:
    return f"{path}/".startswith(f"{posixpath.normpath(directory)}/")


def _key_problems(host: str, given: object) -> Iterator[tuple[str, str, str, str]]:
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


def unseal(path: str, keys: Sequence[str]) -> str:
    """Decrypts a file that was encrypted, as ansible-vault does, with one of a host's recovery keys.

    Ansible's own ways to read a file would try the vault's password on it, and fail.

    Args:
        path: The encrypted file.
        keys: The keys to try.

    Raises:
        AnsibleFilterError: When none of them fits.
    """
    sealed = Path(path).read_bytes()
    for key in keys:
        try:
            plain: bytes = VaultLib([("default", VaultSecret(key.encode()))]).decrypt(sealed)
        except AnsibleVaultError:
            continue
        return plain.decode()
    raise AnsibleFilterError("no recovery key in the vault opens this backup: put the one of its time into the vault")


class FilterModule:
    """Ansible's way to find them."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {
            "data_disk_recovery_keys": recovery_keys,
            "data_disk_next_key": next_recovery_key,
            "data_disk_destroy_wanted": destroy_wanted,
            "data_disk_problems": disk_problems,
            "data_disk_unseal": unseal,
        }
