"""How many clients of socket.io a core has."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pryv_metrics.samples import Sample

#: The kernel's table of connections by IPv4, and what it calls one that stands.
CONNECTIONS, ESTABLISHED = Path("/proc/net/tcp"), "01"


def collect(options: Mapping[str, Any]) -> Iterator[Sample]:
    """Tells how many connections nginx has open to `/socket.io/`.

    nginx writes a session into its log when that ends, an hour or a day later, and takes these connections from an
    address of their own. A websocket has one for as long as it is open; a client that polls has one while its request
    waits, which is nearly always.

    Args:
        options: `address`, from which nginx opens them.
    """
    # Addresses are written as the numbers that they are in memory.
    own = int.from_bytes(socket.inet_aton(options["address"]), sys.byteorder)
    rows = (line.split() for line in CONNECTIONS.read_text().splitlines()[1:])
    # While it is read in parts, a row may be seen twice.
    stand = {(row[1], row[2]) for row in rows if row[1].startswith(f"{own:08X}:") and row[3] == ESTABLISHED}
    yield Sample("pryv_core_sockets", len(stand))
