"""What the role data_disk derives from the inventory: its problems, and the recovery keys of a host."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.parsing.vault import AnsibleVaultError, VaultLib, VaultSecret

#: 128 bits of letters and digits.
SHORTEST_KEY = 22


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
        AnsibleFilterError: When it is written otherwise, or names another disk of this host.
    """
    if not wanted:
        return False
    named, separator, disk = wanted.partition(":")
    if not separator or not disk.startswith("/dev/"):
        raise AnsibleFilterError(
            f"data_disk_destroy is {wanted!r}, and has to name one host and its disk, such as "
            f"{host}:{device or '/dev/disk/by-id/…'}"
        )
    if named == host and disk != device:
        raise AnsibleFilterError(
            f"data_disk_destroy names {disk}, and data_disk_device of {host} is {device or 'not set'}: "
            "both have to be the same"
        )
    return named == host


def disk_problems(settings: Mapping[str, Any], host: str) -> list[str]:
    """What is wrong with a host's settings; nothing is asked from the host.

    Args:
        settings: The role's `device`, `unlock`, `tang_servers`, `tang_threshold`, `tpm2_pcrs`, `recovery_keys` and
            `destroy`, the platform's `environment`, and the host's `groups`.
        host: Its inventory name.

    Returns:
        One sentence per problem, with what would be right.
    """
    device, problems = settings["device"], []
    try:
        destroy_wanted(settings["destroy"], host, device)
    except AnsibleFilterError as error:
        problems.append(str(error))
    if not device:
        if settings["environment"] == "production" and "core" in settings["groups"]:
            problems.append(
                f"data_disk_device of {host} is not set, and a core of a production platform needs an encrypted disk: "
                "set it to the disk's path in /dev/disk/by-id"
            )
        return problems
    if not re.fullmatch(r"/dev/[\w./:+@=-]+", device) or ".." in device:
        problems.append(f"data_disk_device of {host} is {device!r}, and has to be a path such as /dev/disk/by-id/…")
    keys = recovery_keys(settings["recovery_keys"], host)
    if not keys:
        problems.append(
            f"data_disk_recovery_keys has no key for {host}: run playbooks/secrets.yml, or put it into the vault"
        )
    if any(not isinstance(key, str) or len(key) < SHORTEST_KEY for key in keys):
        problems.append(f"a key of {host} in data_disk_recovery_keys is no text of at least {SHORTEST_KEY} characters")
    if settings["unlock"] == "tang":
        problems += _tang_problems(settings["tang_servers"], settings["tang_threshold"])
    pcrs = settings["tpm2_pcrs"]
    if settings["unlock"] == "tpm2" and (not pcrs or any(not 0 <= pcr <= 23 for pcr in pcrs)):
        problems.append(f"data_disk_tpm2_pcrs is {pcrs}, and has to be a list of registers from 0 to 23, such as [7]")
    return problems


def _tang_problems(servers: Sequence[Mapping[str, str]], threshold: int) -> list[str]:
    if not servers:
        return ["data_disk_tang_servers is empty, and data_disk_unlock is tang: name at least one server"]
    if not 1 <= threshold <= len(servers):
        return [
            f"data_disk_tang_threshold is {threshold}, and has to be from 1 to the number of servers, {len(servers)}"
        ]
    return []


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
            "data_disk_unstable_name": unstable_name,
            "data_disk_unseal": unseal,
        }
