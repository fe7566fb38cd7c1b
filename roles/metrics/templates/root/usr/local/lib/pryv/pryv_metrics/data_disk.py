"""The encrypted disk for all data: whether it is open, and what opens it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pryv_metrics.problem import CollectorError
from pryv_metrics.samples import Sample

#: Beginning of a header of LUKS2, and where what it says about keys begins and ends (LUKS2 on-disk format, 2.1).
MAGIC, JSON_AREA, SIZE_FIELD = b"LUKS\xba\xbe\0\2", 4096, slice(8, 16)
LARGEST = 4 << 20
#: What the tokens of unlocking programs are called here; keys without a token are those for recovery.
METHODS = {"systemd-tpm2": "tpm2", "clevis": "tang", "pryv-unlock": "note"}
RECOVERY = "recovery"


def collect(options: Mapping[str, Any]) -> Iterator[Sample]:
    """Tells of the disk.

    Args:
        options: `device` and the `folder` where its file system belongs.

    Raises:
        CollectorError: When the device cannot be read.
    """
    yield Sample("pryv_data_disk_open", Path(options["folder"]).is_mount())
    header = metadata(Path(options["device"]))
    yield Sample("pryv_data_disk_encrypted", header is not None)
    for method, count in keys(header or {}).items():
        yield Sample("pryv_data_disk_keys", count, {"method": method})


def metadata(device: Path) -> dict[str, Any] | None:
    """What a disk's header says; None when it has none of LUKS2.

    Raises:
        CollectorError: When it cannot be read.
    """
    try:
        with device.open("rb") as file:
            start = file.read(JSON_AREA)
            if not start.startswith(MAGIC):
                return None
            size = int.from_bytes(start[SIZE_FIELD], "big")
            text = file.read(min(size, LARGEST) - JSON_AREA).split(b"\0", 1)[0]
        found: dict[str, Any] = json.loads(text)
    except (OSError, ValueError) as error:
        raise CollectorError(f"the disk's header cannot be read: {error}") from error
    return found


def keys(header: Mapping[str, Any]) -> Counter[str]:
    """How many keys open a disk, by method."""
    methods: dict[str, str] = {}
    for token in header.get("tokens", {}).values():
        method = METHODS.get(token["type"], "other")
        for slot in token["keyslots"]:
            # The toolkit's note says of what another token may say more.
            if method != "note" or slot not in methods:
                methods[slot] = method
    return Counter(methods.get(slot, RECOVERY) for slot in header.get("keyslots", {}))
