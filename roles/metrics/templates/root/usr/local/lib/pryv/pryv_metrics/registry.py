"""A registry: whether it answers and, of the leader, how many users each core has."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pryv_metrics.asking import ask
from pryv_metrics.problem import CollectorError
from pryv_metrics.samples import Sample

PATIENCE = 5.0
#: Asks whether a name is free, which the database has to say.
QUESTION = "/wactiv/check_username"


def collect(options: Mapping[str, Any]) -> Iterator[Sample]:
    """Tells of it.

    Args:
        options: `port` of the program; on the leader, its own `settings`, which have the administrators' key, the
            platform's `domain` and names of its `cores`.

    Raises:
        CollectorError: When the registry does not say what its cores have, or its settings cannot be read.
    """
    port = int(options["port"])
    answers = ask(port, QUESTION, PATIENCE).status == 200
    yield Sample("pryv_registry_answers", answers)
    if not answers or not options.get("settings"):
        return
    key = administrators_key(Path(options["settings"]))
    answer = ask(port, "/admin/servers", PATIENCE, {"Authorization": key})
    if answer.status != 200:
        raise CollectorError(f"the registry answers {answer.status} when asked for its cores")
    found = Counter(dict.fromkeys(options["cores"], 0))
    for server, count in answer.json()["servers"].items():
        # What the registry calls a core and the platform does not is not to become a label.
        core = server.removesuffix(f".{options['domain']}")
        found[core if core in options["cores"] else "unknown"] += int(count)
    for core, count in found.items():
        yield Sample("pryv_core_users", count, {"core": core})


def administrators_key(settings: Path) -> str:
    """A key that opens a registry to administrators, from its own settings.

    Raises:
        CollectorError: When there is none.
    """
    try:
        keys = json.loads(settings.read_text())["auth"]["authorizedKeys"]
        return next(str(key) for key, owner in keys.items() if "admin" in owner["roles"])
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise CollectorError(f"{settings.name} has no key of administrators") from error
