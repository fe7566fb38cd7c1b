"""Commands that look at new files before these replace any."""

from __future__ import annotations

import ctypes
import json
import os
import stat
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.config_tree_changes import Change
from ansible.module_utils.config_tree_commands import run
from ansible.module_utils.config_tree_files import TreeError, ancestors, is_under, write

CLONE_NEWNS = 0x20000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MNT_DETACH = 2


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
