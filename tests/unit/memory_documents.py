"""Documents in memory, for tests of what keeps them in MongoDB."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from tests.standins.standin.store import ExistsError

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$in": lambda value, wanted: value in wanted,
    "$ne": lambda value, wanted: value != wanted,
    "$gt": lambda value, wanted: value is not None and value > wanted,
    "$gte": lambda value, wanted: value is not None and value >= wanted,
    "$lt": lambda value, wanted: value is not None and value < wanted,
    "$lte": lambda value, wanted: value is not None and value <= wanted,
    "$exists": lambda value, wanted: (value is not None) == wanted,
}


class MemoryDocuments:
    """What a store needs of MongoDB."""

    def __init__(self) -> None:
        self.collections: dict[str, list[dict[str, Any]]] = {}

    def insert(self, collection: str, doc: Mapping[str, Any]) -> None:
        items = self.collections.setdefault(collection, [])
        if any((item["id"], item.get("userId")) == (doc["id"], doc.get("userId")) for item in items):
            raise ExistsError(doc["id"])
        items.append(copy.deepcopy(dict(doc)))

    def find(self, collection: str, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [copy.deepcopy(doc) for doc in self._matching(collection, query)]

    def update(self, collection: str, query: Mapping[str, Any], fields: Mapping[str, Any]) -> int:
        found = self._matching(collection, query)
        for doc in found:
            doc.update(copy.deepcopy(dict(fields)))
        return len(found)

    def delete(self, collection: str, query: Mapping[str, Any]) -> int:
        found = self._matching(collection, query)
        self.collections[collection] = [doc for doc in self.collections.get(collection, []) if doc not in found]
        return len(found)

    def _matching(self, collection: str, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [
            doc
            for doc in self.collections.get(collection, [])
            if all(_matches(doc.get(name), wanted) for name, wanted in query.items())
        ]


def _matches(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict) and wanted and all(name in OPERATORS for name in wanted):
        return all(OPERATORS[name](value, operand) for name, operand in wanted.items())
    if isinstance(value, list) and not isinstance(wanted, list):
        return wanted in value
    return bool(value == wanted)
