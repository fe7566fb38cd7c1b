"""Takes the pictures of the monitoring's page that the documentation shows.

Usage: .venv/bin/python -m tests.page.screenshots
"""

from __future__ import annotations

import itertools
import json
import subprocess
import tempfile
import time
from pathlib import Path

from tests.page import chromium, monitoring_host
from tests.page.test_monitoring import FLAGS, SHOWN, files

IMAGES = monitoring_host.ROOT / "docs/images"
#: By name: the view, the size, the colour scheme.
PICTURES = {
    "monitoring": ("", 1100, 1150, "light"),
    "monitoring-host": ("#host=co1&period=week", 1100, 1150, "light"),
    "monitoring-telephone": ("#host=co1&period=year", 360, 780, "dark"),
}
ALERTS = [
    monitoring_host.WATCHDOG,
    monitoring_host.rule(
        "RebootWaits", "warning", "node_reboot_required == 1", "{{ $labels.host }} waits for a reboot"
    ),
]


def main() -> None:
    """Take them all."""
    rendered, now = files(), int(time.time()) // 300 * 300
    platform = json.loads(rendered["platform.json"])
    samples = itertools.chain(
        (line for line in monitoring_host.history(["co1"], now) if "onerror" not in line),
        monitoring_host.present(platform, now, {"reg2": {"node_reboot_required": 1}}),
    )
    program = subprocess.run(
        [monitoring_host.ROOT / "tests/page/install"], capture_output=True, text=True, check=True
    ).stdout.strip()
    with (
        tempfile.TemporaryDirectory() as folder,
        monitoring_host.prometheus(Path(folder) / "prometheus", samples, ALERTS) as ask,
        monitoring_host.serving(rendered, ask) as host,
        chromium.running(program, [*FLAGS, f"--user-data-dir={folder}/profile"]) as browser,
    ):
        for name, (view, width, height, scheme) in PICTURES.items():
            page = chromium.Page(browser, width, height, scheme)
            page.open(host.address + view)
            page.wait(f"document.readyState === 'complete' && {SHOWN}")
            page.picture(IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
