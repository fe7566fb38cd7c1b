#!/usr/bin/python
"""Make part of a host's file system what a tree of files says it is."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import functools
import grp
import json
import os
import pwd
import re
import shlex
import stat
import tarfile
import typing as t
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: config_tree
short_description: Make part of a host's file system what a tree of templates says it is
description:
  - A folder of templates mirrors the target's file system. The controller renders it and ships it in one module call.
  - The new files are validated together before any of them replaces an old one, each is replaced atomically, files that
    the tree no longer makes are pruned from what it owns, and services are told of the changes, all in the same call.
  - A run that is killed leaves a marker, so that the next run does what was still to be done.
options:
  src:
    description:
      - The folder, in the role's C(templates), whose paths are the target's paths. Used on the controller.
      - Files ending in C(.j2) are templates and lose the suffix; C(trim_blocks) and C(lstrip_blocks) are on. All others
        are copied as they are.
      - In templates, C(tree_digest(path)) is the SHA-256 of everything the tree puts at or under a path, and
        C(ansible_managed) a line for the head of a file.
    type: str
    default: root
  exclude:
    description:
      - Paths on the target that the tree leaves out on this host; a folder stands for everything in it.
      - Used on the controller.
    type: list
    elements: str
    default: []
  graft:
    description:
      - Folders on the controller that take the place of what the tree has at a path, by that path.
      - Used on the controller.
    type: dict
    default: {}
  owns:
    description:
      - Paths that belong to the tree alone, folders with everything in them. A file that the tree does not make is
        removed, and so is a folder that is left empty.
      - Symbolic links are removed, never followed; what is mounted below is left alone.
    type: list
    elements: str
    default: []
  attributes:
    description:
      - Owner, group and mode by path; later entries win. What none of them says is C(root), C(root) and C(0644), or
        C(0755) for folders.
      - A pattern ending in C(/) is for folders, and others are for files. A folder that existed keeps its attributes if
        no pattern matches it. A folder's pattern without wildcards also makes that folder.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: A pattern; C(*) and C(?) stay within a folder, C(**) does not.
        type: str
        required: true
      owner:
        description: User name or numeric id.
        type: str
      group:
        description: Group name or numeric id.
        type: str
      mode:
        description: Mode in octal digits, quoted.
        type: str
  validate:
    description:
      - Commands that must succeed before anything is replaced, each run if a path it stands for changes.
      - They run without a shell in a private mount namespace in which the new tree lies over the real one.
      - In check mode, a missing command or a failure is a warning, since an earlier task may only have pretended to
        make what the command needs.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: A pattern, as in O(attributes).
        type: str
        required: true
      command:
        description: The command.
        type: str
        required: true
  on_change:
    description:
      - Commands to run, without a shell, once each and in this order, after a path that they stand for has changed.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: A pattern, as in O(attributes).
        type: str
        required: true
      command:
        description: The command.
        type: str
        required: true
      undo:
        description:
          - For O(confirm_within), what to run instead when the command fails on the old files, because there were none.
          - With C(keep), what brings back what that one has printed, which it gets as its input.
        type: str
      keep:
        description:
          - For O(confirm_within), a command that prints the state that the command is about to change, where the old
            files do not say it all. C(undo) brings it back, and the command is not run on the old files.
        type: str
      unless:
        description:
          - A command that succeeds while what the command made is still there. Where it fails, the command is run
            although nothing has changed, and has to be confirmed like a change. It is run in check mode, too, and must
            change nothing.
        type: str
  confirm_within:
    description:
      - For changes that could lock the operator out. After the commands of O(on_change), the controller connects anew.
        If it has not succeeded within so many seconds, the host puts the old files back and runs the commands again.
      - The new connection shares nothing with an older one, not even on its way through jump hosts.
      - V(0) for changes that need no confirmation.
    type: int
    default: 0
  confirm_through:
    description:
      - Where this host leads to as a jump host, each as C(address:port) of an SSH server. What could be reached through
        it before the change has to be reached afterwards, or the change is not confirmed. Used on the controller.
    type: list
    elements: str
    default: []
  confirm:
    description: Confirms the changes that wait for it; made by the action plugin, over the new connection.
    type: bool
    default: false
  state_directory:
    description: Where the marker of an unfinished run is kept, and what undoes an unconfirmed one.
    type: path
    default: /var/lib/pryv/config_tree
  name:
    description: Names the marker; the controller derives it from the role and O(src).
    type: str
  payload:
    description: The rendered tree; made by the controller.
    type: str
notes:
  - A symbolic link where the tree has a file is replaced, not followed. One where the tree has a folder is followed,
    except below a path in O(owns), where it is refused.
  - A file that not everybody on the host may read, before or after the change, shows no content in a diff, and what it
    contains is masked in the output of commands.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author:
  - Pryv Ansible authors
"""

EXAMPLES = r"""
- name: Configure the services and their proxy
  config_tree:
    owns: [/etc/pryv/core]
    attributes:
      - {path: "/etc/pryv/core/*/*", owner: "9999", group: "9999", mode: "0400"}
      - {path: /var/log/pryv/core/hfs/, owner: "9999", group: "9999", mode: "0750"}
    validate:
      - {path: "/etc/nginx/**", command: nginx -t -q}
    on_change:
      - {path: "/etc/nginx/**", command: systemctl reload nginx.service}
"""

RETURN = r"""
changed_paths:
  description: Files and folders that were made, changed or removed; folders end in C(/).
  returned: always
  type: list
  elements: str
  sample: [/etc/nginx/conf.d/core.conf]
validated:
  description: Validators that accepted the new tree.
  returned: always
  type: list
  elements: str
actions:
  description: Commands that ran after the change, or would have in check mode.
  returned: always
  type: list
  elements: dict
  contains:
    command:
      description: The command.
      type: str
    rc:
      description: Its exit code; none in check mode.
      type: int
resumed:
  description: Whether an earlier run was interrupted, so that this one took its changes up.
  returned: always
  type: bool
unconfirmed:
  description: Whether the changes undo themselves unless they are confirmed.
  returned: always
  type: bool
"""


ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
}
TEMPORARY_SUFFIX = ".config_tree"
#: Where units are that outlive a reboot.
UNITS = "/etc/systemd/system"
#: Ends what was kept, in the script that brings it back.
KEPT = "--- what was kept ends here ---"
#: Undoes unconfirmed changes. It must be able to put back any file, set-user-ID ones too, and to run actions: talk to
#: systemd, load firewall rules, check a configuration.
UNDO_SERVICE = """\
[Unit]
Description=Put old files back, whose successors no connection has confirmed
CollectMode=inactive-or-failed

[Service]
Type=oneshot
ExecStart=/bin/sh "{script}"
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_NET_ADMIN
NoNewPrivileges=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
"""
#: When it does so; where the host is booted meanwhile, so long after its boot.
UNDO_TIMER = """\
[Unit]
Description=Wait for a connection that confirms new files
CollectMode=inactive-or-failed

[Timer]
OnActiveSec={seconds}s
AccuracySec=1s
RemainAfterElapse=no

[Install]
WantedBy=timers.target
"""
LARGEST_DIFF = 256 * 1024  # bytes
SHORTEST_SECRET = 6  # characters; anything shorter would mask ordinary words
CLONE_NEWNS = 0x20000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MNT_DETACH = 2


class TreeError(Exception):
    """The tree cannot be placed; the message is for the operator."""


@functools.cache
def pattern_regex(pattern: str) -> re.Pattern[str]:
    """Translate a path pattern: ``*`` and ``?`` stay within a folder, ``**`` does not."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(parts.get(part) or re.escape(part) for part in re.split(r"(\*\*/|\*\*|\*|\?)", pattern)))


def matches(pattern: str, path: str) -> bool:
    """Whether the whole of a path matches a pattern."""
    return pattern_regex(pattern).fullmatch(path) is not None


def is_under(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies somewhere in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def ancestors(path: str) -> list[str]:
    """All folders above a path, the outermost first, without ``/``."""
    parts = path.split("/")[1:-1]
    return ["/" + "/".join(parts[: i + 1]) for i in range(len(parts))]


def lstat(path: str) -> os.stat_result | None:
    """State of a path without following a link at its end, or None if there is nothing."""
    try:
        return Path(path).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def mount_points() -> set[str]:
    """Every path at which something is mounted."""
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def read(path: str) -> bytes:
    """Content of a regular file."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
        return stream.read()


def sync_folder(path: str) -> None:
    """Make renames and removals in a folder survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: str, content: bytes, owner: int, group: int, mode: int) -> None:
    """Write a new file durably; it is never readable by more than its mode says, not even for a moment."""
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as stream:
        stream.write(content)
        os.fchown(stream.fileno(), owner, group)
        os.fchmod(stream.fileno(), mode)
        stream.flush()
        os.fsync(stream.fileno())


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


@dataclass(frozen=True)
class Rule:
    """A command and the paths it stands for."""

    path: str
    command: str
    undo: str | None = None
    keep: str | None = None
    unless: str | None = None


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
            for name in list(folders):
                path = f"{current}/{name}"
                if Path(path).is_symlink():
                    folders.remove(name)
                    files.append(name)
                elif path in mounts:
                    folders.remove(name)
                elif path not in self.folders and not any(is_under(mount, path) for mount in mounts):
                    yield path + "/"
            for path in (f"{current}/{name}" for name in files):
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


# --- Validation ----------------------------------------------------------------------------------------------------


def system_call(name: str, *arguments: t.Any) -> None:
    """Call a function of the C library that sets errno."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def bind(source: str, target: str) -> None:
    """Show one path at another, with everything mounted below it."""
    system_call("mount", source.encode(), target.encode(), None, ctypes.c_ulong(MS_BIND | MS_REC), None)


def shadow(real: str | None, staged: str, changes: dict[str, Change], prefix: str) -> None:
    """Build a folder that is the real one with changes: what changes is written, all else is the real thing.

    Args:
        real: The folder on the host, or None if it is new.
        staged: Where to build; an empty folder.
        changes: Every change by path, files only.
        prefix: The folder's path on the target, without a slash at the end.
    """
    below = {path[len(prefix) + 1 :].split("/")[0] for path in changes if path.startswith(prefix + "/")}
    for entry in os.scandir(real) if real else ():
        same = Path(staged, entry.name)
        if entry.name in below:
            continue
        if entry.is_symlink():
            same.symlink_to(Path(entry.path).readlink())
        else:
            if entry.is_dir():
                same.mkdir()
            else:
                same.touch()
            bind(entry.path, str(same))
    for name in sorted(below):
        path, target = f"{prefix}/{name}", f"{staged}/{name}"
        change = changes.get(path)
        if change is None:
            Path(target).mkdir()
            source = path if Path(path).is_dir() else None
            if source:
                state = Path(source).stat()
                os.chown(target, state.st_uid, state.st_gid)
                Path(target).chmod(stat.S_IMODE(state.st_mode))
            shadow(source, target, changes, path)
        elif change.attributes:
            write(
                target,
                change.new or b"",
                change.attributes.owner or 0,
                change.attributes.group or 0,
                change.attributes.mode,
            )


def lay_over(changes: dict[str, Change]) -> None:
    """In a mount namespace of this process alone, make the host look as if the changes had been made.

    Nothing of it outlives the process, however it ends.
    """
    system_call("unshare", CLONE_NEWNS)
    system_call("mount", None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
    deepest = {next(folder for folder in ["/", *ancestors(path)][::-1] if Path(folder).is_dir()) for path in changes}
    roots = [folder for folder in deepest if not any(folder != other and is_under(folder, other) for other in deepest)]
    if "/" in roots:
        new = next(folder for path in changes for folder in ancestors(path) if not Path(folder).is_dir())
        raise TreeError(f"a new folder right below the root cannot be shown to a validator: make {new} before")
    # The scratch space hides a folder of the real system only until what was built there is bound to its place.
    scratch = "/mnt"
    system_call("mount", b"tmpfs", scratch.encode(), b"tmpfs", ctypes.c_ulong(0), b"mode=0700")
    built = []
    for number, root in enumerate(sorted(roots)):
        staged = f"{scratch}/{number}"
        Path(staged).mkdir()
        state = Path(root).stat()
        os.chown(staged, state.st_uid, state.st_gid)
        Path(staged).chmod(stat.S_IMODE(state.st_mode))
        shadow(root, staged, changes, root.rstrip("/"))
        built.append((staged, root))
    for staged, root in built:
        bind(staged, root)
    system_call("umount2", scratch.encode(), MNT_DETACH)


def run(module: AnsibleModule, command: str) -> tuple[int, str]:
    """Run a command without a shell and give its exit code and output; 127 when there is no such command."""
    words = shlex.split(command)
    try:
        code, out, err = module.run_command(words, environ_update=ENVIRONMENT, handle_exceptions=False)
    except FileNotFoundError:
        return 127, f"{words[0]}: no such command on this host"
    return code, out + err


def validate(module: AnsibleModule, commands: list[str], changes: list[Change]) -> list[tuple[str, int, str]]:
    """Run validators where the new tree lies over the real one.

    Returns:
        Each command with its exit code and output.

    Raises:
        TreeError: The host allows no private mount namespace.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        # The child must end here and nowhere else, or it would go on as a second module.
        answer: dict[str, t.Any]
        try:
            lay_over({change.path: change for change in changes if not change.is_folder})
            answer = {"results": [(command, *run(module, command)) for command in commands]}
        except BaseException as error:
            answer = {"error": str(error)}
        with os.fdopen(writer, "w") as stream:
            json.dump(answer, stream)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    answer = json.loads(text or '{"error": "it was killed"}')
    if "error" in answer:
        raise TreeError(f"the new files cannot be validated, so nothing was replaced: {answer['error']}")
    return [(command, code, output) for command, code, output in answer["results"]]


# --- Placement ----------------------------------------------------------------------------------------------------


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

    def write(self, paths: Iterable[str], temporaries: list[str]) -> None:
        """Record what is about to be done, beside what an interrupted run has not finished."""
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


class Provision:
    """What puts the old files back unless the changes are confirmed in time."""

    def __init__(self, module: AnsibleModule, folder: str, name: str) -> None:
        """Name the files and the timer.

        Args:
            module: The module, to run commands.
            folder: The state directory.
            name: The tree's name.
        """
        self.module = module
        self.unit = f"config_tree-{name}-undo"
        self.service, self.timer = f"{UNITS}/{self.unit}.service", f"{UNITS}/{self.unit}.timer"
        self.archive, self.script = f"{folder}/{name}.undo.tar", f"{folder}/{name}.undo"
        #: In the order in which they may go: what begins the undoing first.
        self.files = (
            f"{UNITS}/timers.target.wants/{self.unit}.timer",
            *(self.timer, self.service, self.archive, self.script),
        )

    @property
    def pending(self) -> bool:
        """Whether changes wait for their confirmation."""
        return Path(self.script).exists()

    @property
    def armed(self) -> bool:
        """Whether the changes will undo themselves, or are just doing it."""
        return run(self.module, f"systemctl --quiet is-active {self.unit}.timer {self.unit}.service")[0] == 0

    def arm(self, changes: list[Change], rules: list[Rule], commands: list[str], marker: str, seconds: int) -> None:
        """Keep the old files and start the timer, before anything is replaced.

        Args:
            changes: What is about to be made.
            rules: All actions, for what undoes them.
            commands: The actions that are due.
            marker: File of the marker, to be removed with the changes.
            seconds: Time until the changes undo themselves.
        """
        Path(self.archive).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tarfile.open(self.archive, "w") as archive:
            Path(self.archive).chmod(0o600)
            for change in changes:
                if change.before is not None:
                    archive.add(change.path.rstrip("/"), recursive=False)
        made = [change.path for change in changes if change.before is None]
        by_command = {rule.command: rule for rule in rules}
        lines = [
            "#!/bin/sh",
            f"tar --extract --preserve-permissions --numeric-owner --file {shlex.quote(self.archive)} --directory /",
            *(f"rm -f {shlex.quote(path)}" for path in made if not path.endswith("/")),
            *(self._undo(by_command[command]) for command in commands),
            f"rm -f {' '.join(map(shlex.quote, (marker, *self.files)))}",
        ]
        for path, text, mode in (
            (self.script, "\n".join([*lines, ""]), 0o700),
            (self.service, UNDO_SERVICE.format(script=self.script), 0o644),
            (self.timer, UNDO_TIMER.format(seconds=seconds), 0o644),
        ):
            write(path, text.encode(), os.geteuid(), os.getegid(), mode)
        code, output = run(self.module, f"systemctl enable --now --quiet {self.unit}.timer")
        if code != 0:
            self.forget()
            raise TreeError(f"nothing can undo the change if it goes wrong, so nothing was replaced: {output.strip()}")

    def _undo(self, rule: Rule) -> str:
        """Lines of a shell script that undo an action, after the old files are back."""
        if not rule.keep:
            return f"{rule.command} || {rule.undo or 'true'}"
        # Where there was nothing to keep, the command fails and prints nothing.
        _, kept, _ = self.module.run_command(shlex.split(rule.keep), environ_update=ENVIRONMENT)
        return "\n".join([f"{rule.undo or 'true'} <<'{KEPT}'", *kept.splitlines(), KEPT])

    def confirm(self) -> None:
        """Keep the changes.

        Raises:
            TreeError: They have been undone already.
        """
        code, output = run(self.module, f"systemctl disable --now --quiet {self.unit}.timer")
        if not self.pending:
            raise TreeError("the changes were not confirmed in time, and the old files are back")
        if self.armed:
            raise TreeError(f"the timer that undoes the changes cannot be stopped: {output.strip() or code}")
        self.forget()

    def forget(self) -> None:
        """Drop what would undo the changes."""
        for path in self.files:
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()


def temporary(path: str) -> str:
    """Name of a file's successor until it is renamed: hidden, and with a suffix that no service reads."""
    return str(Path(path).with_name(f".{Path(path).name}{TEMPORARY_SUFFIX}"))


def place(changes: list[Change]) -> None:
    """Make the changes: write all new files beside the old ones, then put them into place in one go."""
    replaced = [change for change in changes if change.attributes and change.replaces and not change.is_folder]
    try:
        for change in changes:
            if change.is_folder and change.attributes:
                if change.before is None:
                    Path(change.path).mkdir(mode=0o700)
                os.chown(change.path, *change.attributes.ids())
                Path(change.path).chmod(change.attributes.mode)
        for change in replaced:
            if change.attributes:
                write(temporary(change.path), change.new or b"", *change.attributes.ids(), change.attributes.mode)
        for change in replaced:
            Path(temporary(change.path)).rename(change.path)
    except OSError:
        for change in replaced:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary(change.path)).unlink()
        raise
    for change in changes:
        if change.attributes is None:
            if change.is_folder:
                Path(change.path).rmdir()
            else:
                Path(change.path).unlink()
        elif not change.replaces and not change.is_folder:
            os.chown(change.path, *change.attributes.ids(), follow_symlinks=False)
            Path(change.path).chmod(change.attributes.mode)
    for folder in {str(Path(change.path).parent) for change in changes}:
        if Path(folder).is_dir():
            sync_folder(folder)


# --- Diff ----------------------------------------------------------------------------------------------------


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


def due(module: AnsibleModule, rules: list[Rule], paths: Iterable[str]) -> list[str]:
    """Commands that stand for any of the paths, or for what is gone, once each, in their order."""
    return list(
        dict.fromkeys(
            rule.command
            for rule in rules
            if any(matches(rule.path, path) for path in paths) or (rule.unless and run(module, rule.unless)[0] != 0)
        )
    )


def make(module: AnsibleModule) -> dict[str, t.Any]:
    """Do all of it and give the result."""
    parameters = module.params
    if not parameters["payload"] or not parameters["name"]:
        raise TreeError("config_tree needs its action plugin, to render the tree: set action_plugins in ansible.cfg")
    files = {
        path: base64.b64decode(content)
        for path, content in json.loads(zlib.decompress(base64.b64decode(parameters["payload"]))).items()
    }
    validators, actions = ([Rule(**rule) for rule in parameters[key]] for key in ("validate", "on_change"))
    marker = Marker(parameters["state_directory"], parameters["name"])
    provision = Provision(module, parameters["state_directory"], parameters["name"])
    if parameters["confirm"]:
        provision.confirm()
        marker.remove()
        return {"changed": True}
    # An earlier run ended before its timer stood, and so before it replaced anything, or after its confirmation.
    if provision.pending and not provision.armed and not module.check_mode:
        provision.forget()
    tree = Tree(files, parameters["owns"], parameters["attributes"], module.check_mode, set(marker.temporaries))
    tree.compare()
    paths = [change.path for change in tree.changes]
    resumed = bool(marker.paths)
    commands = due(module, actions, {*paths, *marker.paths})
    result: dict[str, t.Any] = {
        "changed": bool(paths or commands),
        "changed_paths": paths,
        "validated": [],
        "actions": [{"command": command} for command in commands],
        "resumed": resumed,
        "unconfirmed": False,
    }
    if module._diff:
        result["diff"] = [describe(change) for change in tree.changes]

    checks = due(module, validators, paths)
    for command, code, output in validate(module, checks, tree.changes) if checks else ():
        if code == 0:
            result["validated"].append(command)
            continue
        message = f"{command!r} refuses the new files (exit code {code}): {tree.mask(output)}"
        if not module.check_mode:
            raise TreeError(f"{message}\nNothing was replaced.")
        module.warn(message)
    if module.check_mode:
        return result

    for path in marker.temporaries:
        with contextlib.suppress(FileNotFoundError):
            Path(path).unlink()
    if paths:
        marker.write(
            paths,
            [
                temporary(change.path)
                for change in tree.changes
                if not change.is_folder and change.attributes and change.replaces
            ],
        )
    if result["changed"] and parameters["confirm_within"] and not provision.pending:
        provision.arm(tree.changes, actions, commands, marker.file, parameters["confirm_within"])
    if paths:
        place(tree.changes)
    for action in result["actions"]:
        action["rc"], output = run(module, action["command"])
        if action["rc"] != 0:
            raise TreeError(
                f"the files are in place, but {action['command']!r} failed "
                f"(exit code {action['rc']}): {tree.mask(output)}\n"
                "The next run tries it again."
            )
    result["unconfirmed"] = provision.pending
    if not provision.pending:
        marker.remove()
    return result


def main() -> None:
    """Run as a module."""
    rule = {"path": {"type": "str", "required": True}, "command": {"type": "str", "required": True}}
    attributes = {
        "path": {"type": "str", "required": True},
        "owner": {"type": "str"},
        "group": {"type": "str"},
        "mode": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "src": {"type": "str", "default": "root"},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "graft": {"type": "dict", "default": {}},
            "owns": {"type": "list", "elements": "str", "default": []},
            "attributes": {"type": "list", "elements": "dict", "default": [], "options": attributes},
            "validate": {"type": "list", "elements": "dict", "default": [], "options": rule},
            "on_change": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {**rule, **{key: {"type": "str"} for key in ("undo", "keep", "unless")}},
            },
            "confirm_within": {"type": "int", "default": 0},
            "confirm_through": {"type": "list", "elements": "str", "default": []},
            "confirm": {"type": "bool", "default": False},
            "state_directory": {"type": "path", "default": "/var/lib/pryv/config_tree"},
            "name": {"type": "str"},
            "payload": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**make(module))
    except (TreeError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
