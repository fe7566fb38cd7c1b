"""Answers a monitoring host's questions for many hosts: what one of them told, with values that go on as they began.

Usage: bench_targets.py FOLDER

Run on a test host that has all their addresses. The folder has `settings.json` (`port` of metrics; `first` and
`second`, when the two recordings were made, in seconds since 1970), the certificate `fullchain.pem` with `privkey.pem`,
and by path the recordings `node.first`, `node.second`, and so on. At port 443, whatever is asked is there.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import ssl
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

DAY = 86400
#: How long after a scrape the next one is thought to come when it is the first, in seconds.
INTERVAL = 15


@dataclass(frozen=True)
class Series:
    """One line of what a host tells.

    Attributes:
        name: Name and labels.
        kind: `counter`, which grows; `clock`, which follows the time; `gauge`, which varies; `still`, which does not.
        value: The newer value.
        change: How much it changed in a second, or of a gauge at all.
        whole: Whether its values are whole numbers.
    """

    name: str
    kind: str
    value: float
    change: float
    whole: bool


@dataclass
class Told:
    """What a target has told at one path: the values of its counters, and when that was."""

    counters: list[float]
    at: float


def samples(text: str) -> dict[str, str]:
    """Values by name and labels."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in lines}


def read(first: str, second: str, seconds: float, end: float) -> list[Series]:
    """Makes series of two recordings of a host.

    Args:
        first: The older one, as the host told it.
        second: The newer one.
        seconds: The time between them.
        end: When the newer one was made, in seconds since 1970.
    """
    kinds = dict(re.findall(r"^# TYPE (\S+) (\w+)$", second, re.M))
    before, found = samples(first), []
    for name, text in samples(second).items():
        value, older = float(text), float(before.get(name, text))
        bare = name.partition("{")[0]
        family = kinds.get(bare) or kinds.get(re.sub(r"_(bucket|sum|count)$", "", bare), "gauge")
        change, whole = value - older, value.is_integer() and older.is_integer()
        # What a host does now and then, it has done lately.
        if abs(value - end) < DAY and (change or re.fullmatch(r"pryv_\w+_time_seconds", bare)):
            found.append(Series(name, "clock", value, change, whole))
        elif not change:
            found.append(Series(name, "still", value, 0, whole))
        elif family != "gauge":
            found.append(Series(name, "counter", value, change / seconds, whole))
        else:
            found.append(Series(name, "gauge", value, change, whole))
    return found


class Targets:
    """All hosts that are answered for."""

    def __init__(self, folder: Path) -> None:
        """Reads the recordings of a folder."""
        settings = json.loads((folder / "settings.json").read_text())
        self.port, self._end = int(settings["port"]), float(settings["second"])
        seconds = self._end - float(settings["first"])
        self._series = {
            f"/{path.stem}": read(path.read_text(), path.with_suffix(".second").read_text(), seconds, self._end)
            for path in folder.glob("*.first")
        }
        self._told: dict[tuple[str, str], Told] = {}

    def tell(self, address: str, path: str) -> str | None:
        """What the host at an address tells at a path; None where there is nothing."""
        series, now = self._series.get(path), time.time()
        if series is None:
            return None
        told = self._told.setdefault((address, path), Told([one.value for one in series], now - INTERVAL))
        # Each host is more or less busy than the one that was recorded, always and just now.
        busy = (0.5 + zlib.crc32(address.encode()) / 2**32) * (1 + math.sin(now) / 2)
        passed, told.at = now - told.at, now
        lines = []
        for number, one in enumerate(series):
            value = one.value
            if one.kind == "counter":
                told.counters[number] += one.change * passed * busy
                value = told.counters[number]
            elif one.kind == "clock":
                value += now - self._end
            elif one.kind == "gauge":
                value += one.change * math.sin(now + number * busy)
            lines.append(f"{one.name} {int(value) if one.whole else value}\n")
        return "".join(lines)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers a connection's requests until it ends."""
        address, port = writer.get_extra_info("sockname")[:2]
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                told = self.tell(address, head.split()[1].decode()) if port == self.port else "{}"
                body = (told or "").encode()
                status = "404 Not Found" if told is None else "200 OK"
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            writer.close()


async def serve(folder: Path) -> None:
    """Answers until it is ended."""
    targets = Targets(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "fullchain.pem", folder / "privkey.pem")
    servers = [await asyncio.start_server(targets.answer, None, port, ssl=context) for port in (targets.port, 443)]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
