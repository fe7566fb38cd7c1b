"""What the test with Pryv's JavaScript client is made of."""

from __future__ import annotations

import json
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "client" / "package-lock.json"


def test_packages_are_pinned_by_their_content_and_come_from_any_registry() -> None:
    packages = json.loads(LOCK.read_text())["packages"]
    assert {name.removeprefix("node_modules/") for name in packages} >= {"pryv", "@pryv/monitor", "@pryv/socket.io"}
    for name, package in packages.items():
        assert "resolved" not in package, name
        assert package["integrity"].startswith("sha512-") if name else package["dependencies"], name
