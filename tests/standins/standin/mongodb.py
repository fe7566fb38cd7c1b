"""Stands in for mongodb: a server that speaks MongoDB's protocol and keeps WiredTiger's files."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import types
from pathlib import Path
from types import FrameType
from typing import Any

from . import config as c
from .process import StartError, say
from .schemas import MONGODB, MONGODB_SECTIONS

PORT = 27017
CACHE = "64M"  # the smallest that mongod takes is 256 MB; a host of tests has less to spare
# What the server needs for questions about places, which nobody asks here; they would be the larger half of its image.
GEOMETRY = ("shapely", "shapely.wkt", "shapely.errors", "shapely.geometry", "shapely.geometry.base", "s2sphere")


class _Unused(types.ModuleType):
    """A module in which every name stands for a class that nothing is an instance of."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []  # makes it a package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Exception,), {})


def run(conf: Path) -> None:
    """Starts the server, which a signal ends after it has written all to its files.

    Args:
        conf: Folder of its configuration.

    Raises:
        StartError: The files cannot be opened.
    """
    config = c.load(conf / "mongodb.yml")
    found = c.problems(config, MONGODB)
    found += [f"{name} is no section that mongod knows" for name in sorted(config.keys() - MONGODB_SECTIONS)]
    if found:
        raise c.ConfigError("\n".join(found))
    for name in GEOMETRY:
        sys.modules[name] = _Unused(name)
    commands: Any = importlib.import_module("secantus.commands")
    commands._HANDLERS["setFeatureCompatibilityVersion"] = lambda _doc, _context: {"ok": 1.0}
    commands._NO_PRIVILEGE_COMMANDS |= {"setFeatureCompatibilityVersion"}
    try:
        server = importlib.import_module("secantus.server").SecantusDBServer(
            config["net"]["bindIp"],
            PORT,
            config["storage"]["dbPath"],
            replica_set_name=None,
            enable_test_commands=False,
            cache_size=CACHE,
        )
    except Exception as error:  # its engine has errors of its own
        raise StartError(f"{config['storage']['dbPath']} cannot be opened by uid {os.geteuid()}: {error!r}") from error

    def stop(_signal: int, _frame: FrameType | None) -> None:
        server.stop()
        os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    server.start()
    say(f"mongodb listens on {config['net']['bindIp']}:{PORT}")
