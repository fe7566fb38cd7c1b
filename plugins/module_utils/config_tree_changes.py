"""What a host shall have, how that differs from what it has, and how a person is told."""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
import typing as t
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ansible.module_utils.config_tree_files import (
    TreeError,
    ancestors,
    is_under,
    lstat,
    matches,
    mount_points,
    read,
)

LARGEST_DIFF = 256 * 1024  # bytes
SHORTEST_SECRET = 6  # characters; anything shorter would mask ordinary words


@dataclass(frozen=True)
class Attributes:
    """Owner, group and mode that a path shall have; an id is None where its name is not known yet."""

    owner: int | None
    group: int | None
    mode: int

    def differs(self, state: os.stat_result) -> bool:
        """Whether a path's state is not this."""
        return (state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode)) != (self.owner, self.group, self.mode)

    def ids(self) -> tuple[int, int]:
        """Both ids, where they must exist."""
        if self.owner is None or self.group is None:
            raise TreeError("an owner or group does not exist")
        return self.owner, self.group


@dataclass
class Change:
    """One path that is not as the tree says."""

    path: str
    before: os.stat_result | None
    attributes: Attributes | None  # None: the path is removed
    old: bytes | None = None
    new: bytes | None = None
    replaces: bool = True  # False: only the attributes differ
    hidden: bool = False  # not everybody may read it

    @property
    def is_folder(self) -> bool:
        """Whether it is about a folder."""
        return self.path.endswith("/")


@dataclass
class Tree:
    """What the host shall have, and how it differs from what it has."""

    files: dict[str, bytes]
    owns: list[str]
    rules: list[dict[str, t.Any]]
    check_mode: bool
    strays: set[str] = field(default_factory=set)  # temporary files of an interrupted run
    changes: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check the input as a whole and find the folders."""
        for rule in self.rules:
            if rule["mode"] is not None and not re.fullmatch("[0-7]{3,4}", rule["mode"]):
                raise TreeError(
                    f"attributes: mode {rule['mode']!r} of {rule['path']} is not octal digits in quotes, like '0640'"
                )
        for path in [*self.owns, *(rule["path"] for rule in self.rules)]:
            if not path.startswith("/") or {".", "..", ""} & set(path.rstrip("/").split("/")[1:]):
                raise TreeError(f"{path!r} is not an absolute path without '.', '..' and '//'")
        self.owns = [path.rstrip("/") for path in self.owns]
        for path in self.owns:
            if path.count("/") < 2:
                raise TreeError(f"owns: {path or '/'} is too much to own: everything else in it would be removed")
        made = [
            rule["path"] for rule in self.rules if rule["path"].endswith("/") and not re.search("[*?]", rule["path"])
        ]
        self.folders = sorted({folder for path in [*self.files, *made] for folder in ancestors(path)})
        if collision := sorted(set(self.folders) & set(self.files)):
            raise TreeError(f"{collision[0]} would be both a file and a folder")

    @property
    def paths(self) -> list[str]:
        """Paths that change."""
        return [change.path for change in self.changes]

    def attributes_of(self, path: str) -> Attributes:
        """What a file, or a folder (its path ends in ``/``), shall have."""
        found = {"owner": "root", "group": "root", "mode": "0755" if path.endswith("/") else "0644"}
        for rule in self._rules_for(path):
            found.update({key: rule[key] for key in found if rule[key] is not None})
        return Attributes(
            self._identity(path, "user", found["owner"], lambda name: pwd.getpwnam(name).pw_uid),
            self._identity(path, "group", found["group"], lambda name: grp.getgrnam(name).gr_gid),
            int(found["mode"], 8),
        )

    def _rules_for(self, path: str) -> list[dict[str, t.Any]]:
        kind = path.endswith("/")
        return [rule for rule in self.rules if rule["path"].endswith("/") == kind and matches(rule["path"], path)]

    def _identity(self, path: str, kind: str, name: str, look_up: Callable[[str], int]) -> int | None:
        if name.isdecimal():
            return int(name)
        try:
            return look_up(name)
        except KeyError:
            if self.check_mode:
                return None
            raise TreeError(f"{path}: {kind} {name} does not exist on this host") from None

    def compare(self) -> None:
        """Find the changes that make the host what the tree says."""
        for path in self.owns:
            self._refuse_links(path)
        for folder in self.folders:
            self._compare_folder(folder)
        for path in sorted(self.files):
            self._compare_file(path)
        for path in sorted({path for owned in self.owns for path in self._unwanted(owned)}, reverse=True):
            before = Path(path.rstrip("/")).lstat()
            old = read(path) if stat.S_ISREG(before.st_mode) else None
            self.changes.append(Change(path, before, None, old, hidden=not self._is_public(path, before)))

    def _compare_folder(self, folder: str) -> None:
        state = lstat(folder)
        if state and stat.S_ISLNK(state.st_mode):
            if any(is_under(folder, owned) for owned in self.owns):
                raise TreeError(f"{folder} is a symbolic link, and the tree has a folder there: remove it")
            state = Path(folder).stat() if Path(folder).exists() else state
        if state and not stat.S_ISDIR(state.st_mode):
            raise TreeError(f"{folder} is not a folder, and the tree has one there: remove it")
        wanted = self.attributes_of(folder + "/")
        if state is None or (self._rules_for(folder + "/") and wanted.differs(state)):
            self.changes.append(Change(folder + "/", state, wanted, replaces=state is None))

    def _compare_file(self, path: str) -> None:
        new, before, wanted = self.files[path], lstat(path), self.attributes_of(path)
        if before and stat.S_ISDIR(before.st_mode):
            raise TreeError(f"{path} is a folder, and the tree has a file there: remove it")
        old = read(path) if before and stat.S_ISREG(before.st_mode) else None
        if before is None or old != new or wanted.differs(before):
            hidden = not (
                wanted.mode & 0o004 and (before is None or self._is_public(path, before)) and self._is_reachable(path)
            )
            self.changes.append(Change(path, before, wanted, old, new, replaces=old != new, hidden=hidden))

    def _refuse_links(self, path: str) -> None:
        if Path(path).is_symlink() and any(is_under(file, path) for file in self.files):
            raise TreeError(f"{path} is a symbolic link, and the tree has a folder there: remove it")

    def _unwanted(self, owned: str) -> Iterator[str]:
        """Paths at or below an owned one that the tree does not make; folders end in ``/``."""
        state = lstat(owned)
        if state is None:
            return
        if not stat.S_ISDIR(state.st_mode):
            if owned not in self.files:
                yield owned
            return
        mounts = mount_points()
        for current, folders, files in os.walk(owned):
            links = [name for name in folders if Path(current, name).is_symlink()]
            folders[:] = [name for name in folders if name not in links and f"{current}/{name}" not in mounts]
            for path in (f"{current}/{name}" for name in folders):
                if path not in self.folders and not any(is_under(mount, path) for mount in mounts):
                    yield path + "/"
            for path in (f"{current}/{name}" for name in [*files, *links]):
                if path not in self.files and path not in self.strays and path not in mounts:
                    yield path

    def _is_public(self, path: str, state: os.stat_result) -> bool:
        return bool(state.st_mode & 0o004) and self._is_reachable(path)

    def _is_reachable(self, path: str) -> bool:
        """Whether everybody may pass through every folder above a path, now and afterwards."""
        for folder in ancestors(path.rstrip("/")):
            state = lstat(folder)
            if state and not state.st_mode & 0o001:
                return False
            if (state is None or self._rules_for(folder + "/")) and not self.attributes_of(folder + "/").mode & 0o001:
                return False
        return True

    def mask(self, text: str) -> str:
        """What a command printed, without what only some may read: lines and words of private files."""
        private = [content for change in self.changes if change.hidden for content in (change.old, change.new)]
        private += [content for path, content in self.files.items() if not self.attributes_of(path).mode & 0o004]
        secrets: set[str] = set()
        for line in (line for content in private for line in (content or b"").decode(errors="replace").splitlines()):
            secrets |= {line.strip(), *line.split(), *re.split(r"[\s\"'`=:,;(){}\[\]<>]+", line)}
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) >= SHORTEST_SECRET:
                text = text.replace(secret, "********")
        return text.strip()


def describe(change: Change) -> dict[str, str]:
    """One entry of the diff; a hidden or binary file shows only what happens to it."""
    label = change.path
    if change.attributes is None:
        event = "removed"
    elif change.before is None:
        event = f"made, {readable(change.attributes)}"
    elif stat.S_ISLNK(change.before.st_mode):
        event = f"was a symbolic link, made, {readable(change.attributes)}"
    else:
        old = Attributes(change.before.st_uid, change.before.st_gid, stat.S_IMODE(change.before.st_mode))
        event = "content changes" if change.replaces else ""
        if change.attributes != old:
            event += f"{', ' if event else ''}{readable(old)} becomes {readable(change.attributes)}"
    texts = [content if content is not None else b"" for content in (change.old, change.new)]
    shows = (
        change.replaces
        and not change.is_folder
        and not change.hidden
        and (change.old is not None or change.new is not None)
    )
    if not shows or any(b"\0" in text or len(text) > LARGEST_DIFF for text in texts):
        return {"prepared": f"{label}: {event}\n"}
    before, after = (text.decode(errors="replace") for text in texts)
    return {"before": before, "after": after, "before_header": label, "after_header": f"{label} ({event})"}


def readable(attributes: Attributes) -> str:
    """Attributes as a person reads them."""
    owner = "new user" if attributes.owner is None else attributes.owner
    group = "new group" if attributes.group is None else attributes.group
    return f"{owner}:{group} {attributes.mode:04o}"
