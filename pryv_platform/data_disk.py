"""What an encrypted disk's settings mean: the recovery keys of a host, and whether a disk is to be overwritten."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from pryv_platform.command_line import refuse_lasting
from pryv_platform.problems import InputError


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


def destroy_wanted(wanted: str, host: str, device: str, command_line: Collection[str]) -> bool:
    """Whether the operator wants what is on this host's disk destroyed.

    Args:
        wanted: `HOST:DEVICE`, or nothing.
        host: This host.
        device: Its disk.
        command_line: Names of the variables that were given for this run alone.

    Raises:
        InputError: When it is not from the command line, is written otherwise, or names another disk of this
            host.
    """
    if not wanted:
        return False
    refuse_lasting("data_disk_destroy", host, command_line, "docs/operations/data-disk.md")
    named, separator, disk = wanted.partition(":")
    if not separator or not disk.startswith("/dev/"):
        raise InputError(
            f"data_disk_destroy is {wanted!r}, and has to name one host and its disk, such as co1:/dev/disk/by-id/…"
        )
    if named == host and disk != device:
        raise InputError(
            f"data_disk_destroy names {disk}, and data_disk_device of {host} is {device or 'not set'}: "
            "both have to be the same"
        )
    return named == host
