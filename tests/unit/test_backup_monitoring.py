"""The data of a host that monitors, backed up while its Prometheus runs, and what another Prometheus finds in it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
from pryv_backup import copies
from pryv_backup.problem import BackupError

from tests.page.monitoring_host import asked, free_port
from tests.unit.backup_host import Host, initialised, write

BLOCKS, SILENCES = "monitoring/prometheus", "monitoring/alertmanager"


@contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """Run a Prometheus that looks at itself, on a folder of samples; give its address once it answers."""
    process, address = started(folder)
    # Somebody may have taken the port meanwhile.
    while process is None:
        process, address = started(folder)
    try:
        yield address
    finally:
        process.terminate()
        process.wait(20)


def started(folder: Path) -> tuple[subprocess.Popen[bytes] | None, str]:
    """Start a Prometheus and wait until it answers; None where its port is another's."""
    address = f"127.0.0.1:{free_port()}"
    configuration, log = (folder.with_name(f"{folder.name}.{kind}") for kind in ("yml", "log"))
    jobs = f"[{{job_name: self, static_configs: [{{targets: ['{address}']}}]}}]"
    configuration.write_text(f"global: {{scrape_interval: 1s}}\nscrape_configs: {jobs}\n")
    options = [f"--config.file={configuration}", f"--storage.tsdb.path={folder}", f"--web.listen-address={address}"]
    command = ["prometheus", *options, "--storage.tsdb.retention.time=400d", "--log.level=error"]
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=errors)
    end = time.monotonic() + 60
    while not answers(address):
        if process.poll() is not None:
            assert "address already in use" in log.read_text(), log.read_text()
            return None, address
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    return process, address


def answers(address: str) -> bool:
    try:
        return asked(address, "/-/ready")[0] == 200
    except OSError:
        return False


def values(address: str, query: str) -> list[str]:
    result = json.loads(asked(address, f"/api/v1/query?{urlencode({'query': query})}")[1])["data"]["result"]
    return [series["value"][1] for series in result]


def monitoring(root: Path) -> Host:
    """A host with half a day of samples in blocks, of which its Alertmanager was silent."""
    nothing: dict[str, object] = {"project": None, "projects": [], "linked": [], "copied": [SILENCES]}
    kept = {"blocks": [BLOCKS], "required": [BLOCKS, SILENCES], "shrink_percent": 100}
    host = initialised(Host(root, **{**nothing, **kept, "host": "mon1"}))
    now = int(time.time()) // 3600 * 3600
    samples = [f'load{{host="co1"}} {at % 97} {at}\n' for at in range(now - 20 * 3600, now - 8 * 3600, 600)]
    (root / "samples").write_text("".join(["# TYPE load gauge\n", *samples, "# EOF\n"]))
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet"]
    subprocess.run([*command, root / "samples", host.data / BLOCKS], check=True, capture_output=True)
    write(host.data / SILENCES / "silences", "until the disk is here")
    return host


def test_samples_and_silences_are_there_again(tmp_path: Path) -> None:
    """All that are in blocks; what a Prometheus that runs still writes to is left out, and disturbs none."""
    host = monitoring(tmp_path)
    count = "count_over_time(load[1d])"
    with prometheus(host.data / BLOCKS) as address:
        before = values(address, count)
        end = time.monotonic() + 30
        while not values(address, "up"):
            assert time.monotonic() < end
            time.sleep(0.1)
        done = host.said("run")
    assert before == [str(12 * 6)]
    assert done["attachments"] == 0
    restored = host.data / "restored"
    host.said("restore", "--into", restored)
    assert host.said("check", restored)["problems"] == []
    assert (restored / SILENCES / "silences").read_text() == "until the disk is here"
    assert not [path.name for path in (restored / BLOCKS).iterdir() if len(path.name) != 26]
    with prometheus(restored / BLOCKS) as address:
        assert values(address, count) == before


def test_blocks_take_no_space_and_may_become_fewer(tmp_path: Path) -> None:
    """They are linked; Prometheus merges them, and a backup that has fewer is none that was emptied."""
    host = monitoring(tmp_path)
    first = host.said("run")["files"]
    *others, _ = sorted((host.data / BLOCKS).glob("01*"))
    assert others
    for block in others:
        block.rename(tmp_path / block.name)
    assert host.said("run")["files"] < first / 2
    (host.data / BLOCKS).rename(tmp_path / "elsewhere")
    assert "not there, so there is nothing to back up" in host.refusal("run")


def test_blocks_that_are_merged_meanwhile_are_no_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that lacks files would keep a Prometheus from starting."""
    host = monitoring(tmp_path)
    (tmp_path / "copy").mkdir()
    link = copies.Copy._link_folder

    def merging(copy: copies.Copy, source: int, target: int, path: str) -> None:
        link(copy, source, target, path)
        block = host.data / BLOCKS / path.rpartition("/")[2]
        if len(path.rpartition("/")[2]) == 26:
            block.rename(f"{block}.tmp-for-deletion")

    monkeypatch.setattr(copies.Copy, "_link_folder", merging)
    source, target = (os.open(folder, os.O_RDONLY) for folder in (host.data, tmp_path / "copy"))
    try:
        with pytest.raises(BackupError, match="has just merged its blocks"):
            copies.Copy(source, target, False).link_blocks(BLOCKS)
    finally:
        os.close(source)
        os.close(target)
