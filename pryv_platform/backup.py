"""Who is backed up, and who may send to where backups go."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pryv_platform.inventory import Inventory

#: Variables that hold a secret by host that is backed up.
SECRETS = ("pryv_backup_passwords", "pryv_backup_operator_passwords", "pryv_backup_server_passwords")


def backed_up(inventory: Inventory) -> list[str]:
    """Return the hosts that need secrets for backups: those with a state, followers of the registry too.

    A follower needs them only when it has become the leader, but then at once.

    Args:
        inventory: What the operator wrote down.

    Returns:
        Names of hosts; none where no backups are asked for.
    """
    stateful = dict.fromkeys([*inventory.members("core"), *inventory.members("registry")])
    elsewhere = inventory.known(stateful, ["backup_repository"])
    if inventory.members("backup"):
        return list(stateful)
    return [host for host in stateful if elsewhere[host].get("backup_repository")]


def backup_accounts(hosts: Iterable[str], passwords: Mapping[str, str]) -> str:
    """Return who may send backups, in the format of Apache's htpasswd, with SHA-1.

    That hash suffices for random passwords of 43 characters, which nobody guesses however quick it is, and unlike
    bcrypt's it is the same in every run.

    Args:
        hosts: Who may.
        passwords: By host; others' are there, too.
    """
    digests = ((host, hashlib.sha1(passwords[host].encode()).digest()) for host in hosts)  # noqa: S324
    return "\n".join(f"{host}:{{SHA}}{base64.b64encode(digest).decode()}" for host, digest in digests)


def overview(said: Mapping[str, Any], servers: Mapping[str, str]) -> list[dict[str, Any]]:
    """Put together what hosts say of their backups.

    Args:
        said: By host, what program pryv-backup printed, as JSON; None where a host did not answer.
        servers: By host that is backed up, the host of group backup where its backups are; for others, none.

    Returns:
        For each host that is backed up: `host`, `server` (None where it is elsewhere), `answers`, `newest` (time of the
        newest backup, ISO 8601; None for none), `snapshots` (their times), `last` (what the last run said; None before
        the first), `drill` (what was found when the newest was restored for a look; None for not at all).
    """
    answers = {host: json.loads(text) if text else None for host, text in said.items()}
    keepers = set(servers.values())
    found = []
    for host, answer in answers.items():
        if host in keepers:
            continue
        server = servers.get(host)
        kept = (answers.get(server or "") or {}).get("drill") or {}
        times = [each["time"] for each in (answer or {}).get("snapshots") or [] if "data" in (each["tags"] or [])]
        found.append(
            {
                "host": host,
                "server": server,
                "answers": answer is not None,
                "newest": times[-1] if times else None,
                "snapshots": times,
                "last": (answer or {}).get("last"),
                "drill": kept.get(host),
            }
        )
    return found


def table(found: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    """Write an overview as lines for a terminal.

    Args:
        found: What `overview` returned.
        now: The time, in seconds since 1970.
    """
    rows = [["host", "newest backup", "kept", "size", "took", "pause", "last run", "last drill"]]
    rows += [_row(entry, now) for entry in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(entry: Mapping[str, Any], now: float) -> list[str]:
    last, drill = entry["last"] or {}, entry["drill"]
    if not entry["answers"]:
        return [entry["host"], "no answer", *[""] * 6]
    return [
        entry["host"],
        _age(entry["newest"], now) if entry["newest"] else "none",
        str(len(entry["snapshots"])),
        _size(last["bytes"]) if "bytes" in last else "",
        f"{last['seconds']:.0f} s" if "seconds" in last else "",
        f"{last['pause_seconds']:.1f} s" if "pause_seconds" in last else "",
        ("well" if last["ok"] else str(last["error"])) if last else "not yet",
        _drill(drill, now) if drill else "not yet",
    ]


def _drill(drill: Mapping[str, Any], now: float) -> str:
    return f"{'well' if drill['ok'] else '; '.join(drill['problems'])}, {_age(drill['time'], now)}"


def _age(time: str, now: float) -> str:
    # Python before 3.11 takes no Z, and none takes nanoseconds.
    seconds = now - datetime.fromisoformat(f"{time[:19]}+00:00").timestamp()
    units = ((86400, "days"), (3600, "hours"), (60, "minutes"))
    return next((f"{seconds / size:.0f} {name} ago" for size, name in units if seconds >= 2 * size), "just now")


def _size(number: int) -> str:
    units = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
    return next((f"{number / size:.1f} {name}" for size, name in units if number >= size), f"{number} B")
