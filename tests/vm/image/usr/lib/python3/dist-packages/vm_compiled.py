"""Keeps what Python compiles from archives, and would compile anew each time: Ansible's modules come as such.

That is a third of the time that a module takes, which counts on an emulated machine.
"""

from __future__ import annotations

import contextlib
import zipimport
import zlib
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

FOLDER = Path("/var/cache/vm-compiled")

#: What archives' modules are compiled by.
COMPILER = "_compile_source"
compiler = vars(zipimport)[COMPILER]


def compile_once(path: str, source: bytes) -> CodeType:
    """The code of a module, which Python itself keeps beside a copy of the source."""
    copy = FOLDER / f"m{zlib.crc32(source):08x}_{len(source)}.py"
    # Not everybody may write there, and a power cut may have cut short what lies there.
    with contextlib.suppress(OSError, EOFError, TypeError, ValueError):
        if not copy.exists():
            FOLDER.mkdir(mode=0o700, exist_ok=True)
            copy.write_bytes(source)
        if copy.read_bytes() == source and (code := SourceFileLoader(copy.stem, str(copy)).get_code(copy.stem)):
            return code
    made: CodeType = compiler(path, source)
    return made


vars(zipimport)[COMPILER] = compile_once
