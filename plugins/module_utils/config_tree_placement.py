"""Changes put into place, and the marker of those that a killed run has begun."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from ansible.module_utils.config_tree_changes import Change
from ansible.module_utils.config_tree_files import read, remove, sync_folder, write

TEMPORARY_SUFFIX = ".config_tree"


class Marker:
    """Says which changes a run has begun, until the last action for them is done."""

    def __init__(self, folder: str, name: str) -> None:
        """Read the marker that an interrupted run left, if any."""
        self.file = f"{folder}/{name}.pending"
        self.paths: set[str] = set()
        self.temporaries: list[str] = []
        if Path(self.file).exists():
            content = json.loads(read(self.file))
            self.paths, self.temporaries = set(content["paths"]), content["temporaries"]

    def begin(self, changes: list[Change]) -> None:
        """Drop what an interrupted run left half written, and record what is about to be done."""
        remove(self.temporaries)
        if changes:
            self._write([change.path for change in changes], [temporary(change.path) for change in replacing(changes)])

    def _write(self, paths: Iterable[str], temporaries: list[str]) -> None:
        self.paths |= set(paths)
        self.temporaries = temporaries
        folder = str(Path(self.file).parent)
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        content = json.dumps({"paths": sorted(self.paths), "temporaries": temporaries}).encode()
        write(self.file + TEMPORARY_SUFFIX, content, os.geteuid(), os.getegid(), 0o600)
        Path(self.file + TEMPORARY_SUFFIX).rename(self.file)
        sync_folder(folder)

    def remove(self) -> None:
        """Everything is done."""
        if Path(self.file).exists():
            Path(self.file).unlink()
            sync_folder(str(Path(self.file).parent))


def temporary(path: str) -> str:
    """Name of a file's successor until it is renamed: hidden, and with a suffix that no service reads."""
    return str(Path(path).with_name(f".{Path(path).name}{TEMPORARY_SUFFIX}"))


def replacing(changes: list[Change]) -> list[Change]:
    """Changes that put a new file into place."""
    return [change for change in changes if change.attributes and change.replaces and not change.is_folder]


def place(changes: list[Change]) -> None:
    """Make the changes: write all new files beside the old ones, then put them into place in one go."""
    try:
        for change in changes:
            if change.is_folder:
                make_folder(change)
        for change in replacing(changes):
            if change.attributes:
                write(temporary(change.path), change.new or b"", *change.attributes.ids(), change.attributes.mode)
        for change in replacing(changes):
            Path(temporary(change.path)).rename(change.path)
    except OSError:
        remove(temporary(change.path) for change in replacing(changes))
        raise
    for change in changes:
        finish(change)
    for folder in {str(Path(change.path).parent) for change in changes}:
        if Path(folder).is_dir():
            sync_folder(folder)


def make_folder(change: Change) -> None:
    """Make a folder, unless it is to be removed, and give it its attributes."""
    if change.attributes:
        if change.before is None:
            Path(change.path).mkdir(mode=0o700)
        os.chown(change.path, *change.attributes.ids())
        Path(change.path).chmod(change.attributes.mode)


def finish(change: Change) -> None:
    """Remove what the tree does not make, and give a file that stays its attributes."""
    if change.attributes is None:
        if change.is_folder:
            Path(change.path).rmdir()
        else:
            Path(change.path).unlink()
    elif not change.replaces and not change.is_folder:
        os.chown(change.path, *change.attributes.ids(), follow_symlinks=False)
        Path(change.path).chmod(change.attributes.mode)
