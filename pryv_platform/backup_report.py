"""How backups are: what hosts say of them, put together and judged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

HOUR, DAY = 3600, 86400
#: How old the last drill and the last forgetting may be: one is due weekly, one daily, and each lasts.
OLDEST_DRILL, OLDEST_RETENTION = 8 * DAY, 2 * DAY
COLUMNS = ("host", "newest backup", "kept", "size", "took", "pause", "last run", "next run", "last drill", "retention")
REMEDY = "See docs/backups.md, and on the host what journalctl --unit='pryv-*' says"


def overview(said: Mapping[str, str | None], servers: Mapping[str, str | None], now: float) -> list[dict[str, Any]]:
    """Put together what hosts say of their backups, and what is wrong with them.

    Args:
        said: By host, what program pryv-backup printed, as JSON; None where a host did not answer.
        servers: By host that is backed up, the host of group backup where its backups are; None for elsewhere.
        now: The time, in seconds since 1970.

    Returns:
        For each host that is backed up: `host`, `server` (None where it is elsewhere), `answers`, `newest` (time of the
        newest backup, ISO 8601; None for none), `snapshots` (their times; None where that was not asked), `last` (what
        the last run said; None before the first), `next` (when the next run begins), `drill` (what was found when the
        newest was restored for a look; None for not at all), `retain` (what came of forgetting old ones; None for not
        yet), `problems` (sentences). So for each host whose backups lie where they are not sent any more.
    """
    answers = {host: json.loads(text) if text else None for host, text in said.items()}
    found = [_entry(host, servers[host], answers, now) for host in answers if host in servers]
    for keeper in dict.fromkeys(filter(None, servers.values())):
        found += _left_behind(keeper, answers.get(keeper) or {}, now)
    return found


def _entry(host: str, server: str | None, answers: Mapping[str, Any], now: float) -> dict[str, Any]:
    answer, keeper = answers[host] or {}, answers.get(server or "") or {}
    arrived = keeper.get("arrived", {}).get(host) or []
    snapshots = answer.get("snapshots")
    times = [each["time"] for each in snapshots or [] if "data" in (each["tags"] or [])]
    last = answer.get("last") or {}
    entry = {
        "host": host,
        "server": server,
        "answers": answers[host] is not None,
        "newest": times[-1] if times else arrived[-1] if arrived else last.get("newest"),
        "snapshots": times if snapshots is not None else None,
        "last": answer.get("last"),
        "next": answer.get("next"),
        "drill": keeper.get("drill", {}).get(host),
        "retain": keeper.get("retain", {}).get(host),
    }
    problems = [*_own_problems(entry, answer, now)] if entry["answers"] else ["it does not say how its backups are"]
    if arrived:
        problems += _kept_problems(entry, arrived[0], now)
    return {**entry, "problems": problems}


def _own_problems(entry: Mapping[str, Any], answer: Mapping[str, Any], now: float) -> Iterator[str]:
    """Yield what is wrong with a host's runs."""
    if not answer["initialised"]:
        yield "there is no repository for its backups: run site.yml --tags backup"
    if answer.get("problem"):
        yield f"its repository cannot be read: {answer['problem']}"
    if entry["last"] and not entry["last"]["ok"]:
        yield f"the last run failed: {entry['last']['error']}"
    oldest = answer["oldest_seconds"]
    if entry["newest"]:
        if _seconds(entry["newest"], now) > oldest:
            yield f"the newest backup is of {_age(entry['newest'], now)}"
    elif answer["since"] and _seconds(answer["since"], now) > oldest:
        yield f"there is no backup, though its repository was made {_age(answer['since'], now)}"


def _kept_problems(entry: Mapping[str, Any], first: str, now: float) -> Iterator[str]:
    """Yield what is wrong with a host's backups where they are kept; what was before the first of them is the past."""
    for key, oldest, failed, missing in (
        ("drill", OLDEST_DRILL, "the last drill failed", "no backup was restored for a look since"),
        ("retain", OLDEST_RETENTION, "old backups are not forgotten", "old backups were not forgotten since"),
    ):
        done = entry[key]
        if not done or done["time"] < first:
            if _seconds(first, now) > oldest:
                yield f"{missing} the first came {_age(first, now)}"
        elif not done["ok"]:
            yield f"{failed}: {'; '.join(done['problems'])}"
        elif _seconds(done["time"], now) > oldest:
            yield f"{missing} {_age(done['time'], now)}"


def _left_behind(server: str, answer: Mapping[str, Any], now: float) -> Iterator[dict[str, Any]]:
    """Yield the hosts whose backups lie on a server where they are not sent any more: nobody forgets them."""
    for host, arrived in answer.get("arrived", {}).items():
        if host in answer["keeps"]:
            continue
        old = bool(arrived) and _seconds(arrived[0], now) > answer["keep_days"] * DAY
        stated = f"longer than the {answer['keep_days']} days that are stated: remove them there"
        yield {
            "host": host,
            "server": server,
            "answers": True,
            "newest": arrived[-1] if arrived else None,
            "snapshots": None,
            "last": None,
            "next": None,
            "drill": None,
            "retain": None,
            "problems": [f"{server} has backups of {_age(arrived[0], now)}, {stated}"] if old else [],
        }


def checks(found: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return an overview as checks, for the report of verify.

    Args:
        found: What `overview` returned.

    Returns:
        Each with `where`, `what`, `found` (empty when all is well) and `remedy`.
    """
    return [
        {"where": entry["host"], "what": "backups", "found": "; ".join(entry["problems"]), "remedy": REMEDY}
        for entry in found
    ]


def table(found: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    """Write an overview as lines for a terminal, and what is wrong below them.

    Args:
        found: What `overview` returned.
        now: The time, in seconds since 1970.
    """
    rows = [COLUMNS, *(_row(entry, now) for entry in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return lines + [f"{entry['host']}: {problem}" for entry in found for problem in entry["problems"]]


def _row(entry: Mapping[str, Any], now: float) -> Sequence[str]:
    last = entry["last"] or {}
    if not entry["answers"]:
        return [entry["host"], "no answer", *[""] * (len(COLUMNS) - 2)]
    return [
        entry["host"],
        _age(entry["newest"], now) if entry["newest"] else "none",
        "" if entry["snapshots"] is None else str(len(entry["snapshots"])),
        _size(last["bytes"]) if "bytes" in last else "",
        f"{last['seconds']:.0f} s" if "seconds" in last else "",
        f"{last['pause_seconds']:.1f} s" if "pause_seconds" in last else "",
        _result(last, now) if last else "not yet",
        _age(entry["next"], now) if entry["next"] else "",
        _result(entry["drill"], now) if entry["drill"] else "not yet",
        _result(entry["retain"], now) if entry["retain"] else "not yet",
    ]


def _result(done: Mapping[str, Any], now: float) -> str:
    return f"{'well' if done['ok'] else 'failed'}, {_age(done['time'], now)}"


def _seconds(time: str, now: float) -> float:
    """Return how long ago a time was."""
    # Python before 3.11 takes no Z, and none takes nanoseconds.
    return now - datetime.fromisoformat(f"{time[:19]}+00:00").timestamp()


def _age(time: str, now: float) -> str:
    seconds = _seconds(time, now)
    units = ((DAY, "days"), (HOUR, "hours"), (60, "minutes"))
    count = next((f"{abs(seconds) / size:.0f} {name}" for size, name in units if abs(seconds) >= 2 * size), None)
    if count is None:
        return "just now" if seconds >= 0 else "in a moment"
    return f"{count} ago" if seconds >= 0 else f"in {count}"


def _size(number: int) -> str:
    units = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
    return next((f"{number / size:.1f} {name}" for size, name in units if number >= size), f"{number} B")
