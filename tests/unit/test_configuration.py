"""What ansible.cfg promises to those who keep an inventory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
INVENTORY = Path(sys.executable).with_name("ansible-inventory")


@pytest.mark.parametrize(
    "kept",
    ["certificate/bundle.pem", "certificate/key", "root.crt", "platform.p12", "ca/ca.pem", "backups/luks/co1.vault"],
)
def test_what_lies_beside_the_hosts_is_no_inventory(kept: str, tmp_path: Path) -> None:
    """Read as one it would give warnings that quote it, keys among it."""
    (tmp_path / "hosts.yml").write_text("core: {hosts: {co1: {}}}\n")
    (tmp_path / kept).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / kept).write_text("-----BEGIN EC PRIVATE KEY-----\nsecret\n")
    done = subprocess.run(
        [INVENTORY, "--inventory", tmp_path, "--graph"],
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "WARNING" not in done.stderr
    assert "co1" in done.stdout
