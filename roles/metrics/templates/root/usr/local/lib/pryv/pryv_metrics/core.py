"""A core: how many users it has, and whether its database answers it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pryv_metrics.asking import ask
from pryv_metrics.problem import CollectorError
from pryv_metrics.samples import Sample

#: How long the core's answer is waited for, in seconds: one without its database gives none for half a minute.
PATIENCE = 5.0


def collect(options: Mapping[str, Any]) -> Iterator[Sample]:
    """Tells how many users it has and, where there is one, whether its database answers.

    `/status` does not look at the database, and a user's own routes write each refused request into that user's audit
    trail. What an administrator is told about a user comes from the database, and is in nobody's trail.

    Args:
        options: `index`, the file that knows the users; `port` of the core; its own `settings`, which have its key.

    Raises:
        CollectorError: When a file cannot be read, or the core does not know the key.
    """
    path = Path(options["index"])
    if not path.exists():
        # A core that has never run.
        return
    count, user = users(path)
    yield Sample("pryv_core_users_local", count)
    if user is not None:
        key = {"Authorization": administrators_key(Path(options["settings"]))}
        answer = ask(int(options["port"]), f"/system/user-info/{quote(user, safe='')}", PATIENCE, key)
        if answer.status in (401, 403, 404):
            raise CollectorError(f"the core answers {answer.status}: it has another key, or another index of users")
        yield Sample("pryv_core_database_answers", answer.status == 200)
        yield Sample("pryv_core_database_answer_seconds", answer.seconds)


def administrators_key(settings: Path) -> str:
    """The key that opens a core to its administrators, from the core's own settings: it is nowhere else on the host.

    Raises:
        CollectorError: When there is none.
    """
    found = re.search(r"^ +adminAccessKey: ['\"]?([^'\"\s]+)", settings.read_text(), re.M)
    if found is None:
        raise CollectorError(f"{settings.name} has no key of administrators")
    return found[1]


def users(path: Path) -> tuple[int, str | None]:
    """How many users a core's index has, and the name of one of them.

    Raises:
        CollectorError: When it cannot be read.
    """
    # Nothing is written; what SQLite keeps beside a file that nobody has open may be missing.
    kind = "mode=ro" if path.with_name(f"{path.name}-shm").exists() else "immutable=1"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?{kind}", uri=True, timeout=PATIENCE)) as index:
            index.execute("PRAGMA trusted_schema = OFF")
            (count,) = index.execute("SELECT count(*) FROM id4name").fetchone()
            row = index.execute("SELECT username FROM id4name LIMIT 1").fetchone()
    except sqlite3.Error as error:
        raise CollectorError(f"{path.name}: {error}") from error
    return int(count), str(row[0]) if row else None
