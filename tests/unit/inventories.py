"""The example inventories as they are in a fresh clone."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What a scenario that ran in this checkout has left.
LEFT = shutil.ignore_patterns("vault.yml", "runs", "ca", "backups", "audit", "plan.*")


def fresh(name: str, target: Path) -> Path:
    """Copies an inventory, without what runs have added to it."""
    return Path(shutil.copytree(ROOT / "inventories" / name, target, ignore=LEFT))
