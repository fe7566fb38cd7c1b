"""What there is of Docker on a machine that this toolkit may never have seen."""

from __future__ import annotations

import json
import re
import shlex
import typing as t
from pathlib import Path

#: All that brings a daemon or client of Docker's, or stands in its way.
DOCKER_PACKAGES = (
    *(
        "containerd",
        "containerd.io",
        "docker-ce",
        "docker-ce-cli",
        "docker-cli",
        "docker-compose",
        "docker-compose-plugin",
    ),
    *("docker-compose-v2", "docker-engine", "docker.io", "moby-cli", "moby-compose", "moby-containerd", "moby-engine"),
    *("moby-runc", "podman-docker", "runc"),
)
UNIT_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
)

Run = t.Callable[[list[str]], tuple[int, str, str]]


def daemon_options(command: str) -> list[str]:
    """Return the options in a command or in DOCKER_OPTS; values, which may be anything, are left out but for hosts'."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    found = []
    for word, following in zip(words, [*words, ""][1:], strict=True):
        name, _, value = word.partition("=")
        if name.startswith("-"):
            name = {"-H": "--host", "-g": "--data-root", "--graph": "--data-root", "-l": "--log-level"}.get(name, name)
            found.append(f"{name}={value or following}" if name == "--host" else name)
    return found


def daemon_flags(root: Path = Path("/")) -> dict[str, list[str]]:
    """Return options of Docker's daemon that an administrator's files set, by file.

    Args:
        root: Where the system is.
    """
    found: dict[str, list[str]] = {}
    units = [root / "etc/systemd/system/docker.service"]
    for folder in UNIT_FOLDERS:
        units += sorted((root / folder[1:] / "docker.service.d").glob("*.conf"))
    for file in units:
        if file.is_file():
            text = file.read_text(errors="replace").replace("\\\n", " ")
            commands = re.findall(r"^\s*ExecStart\s*=(.+)$", text, re.MULTILINE)
            commands += re.findall(r"^\s*Environment\s*=.*?DOCKER_OPTS=([^\n\"']*)", text, re.MULTILINE)
            found[f"/{file.relative_to(root)}"] = [option for one in commands for option in daemon_options(one)]
    defaults = root / "etc/default/docker"
    if defaults.is_file():
        set_there = re.findall(
            r"^\s*(?:export\s+)?DOCKER_OPTS=(.*)$", defaults.read_text(errors="replace"), re.MULTILINE
        )
        words = " ".join(text.strip("\"' ") for text in set_there)
        found["/etc/default/docker"] = daemon_options(words)
    return {file: options for file, options in found.items() if options}


def daemon_settings(file: Path) -> dict[str, t.Any] | None:
    """Return what a daemon.json has; none when it cannot be read."""
    try:
        content = json.loads(file.read_text() or "{}")
    except FileNotFoundError:
        return {}
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def containers(root: Path) -> list[dict[str, str]]:
    """Return the containers that Docker has noted; whether it runs does not matter, and asking would start it.

    Args:
        root: Where Docker keeps its data.
    """
    found = []
    for file in sorted(root.glob("containers/*/config.v2.json")):
        try:
            content = json.loads(file.read_text())
            found.append({"name": content["Name"].lstrip("/"), "image": content["Config"]["Image"]})
        except (OSError, ValueError, KeyError):
            found.append({"name": file.parent.name[:12], "image": "?"})
    return found


def docker(data_directory: str, run: Run) -> dict[str, t.Any]:
    """Return what there is of Docker.

    Args:
        data_directory: Where data will lie; this toolkit's Docker keeps its own there.
        run: Runs a command.
    """
    settings = daemon_settings(Path("/etc/docker/daemon.json"))
    drop_in = Path("/etc/systemd/system/docker.service.d/pryv.conf")
    root = str((settings or {}).get("data-root") or (settings or {}).get("graph") or "/var/lib/docker")
    ours = drop_in.exists() or root == f"{data_directory}/docker"
    form = "--showformat=${db:Status-Status} ${Package} ${Version}\\n"
    _, listed, _ = run(["/usr/bin/dpkg-query", "--show", form, *DOCKER_PACKAGES])
    fields = (line.split() for line in listed.splitlines())
    return {
        "ours": ours,
        "packages": {entry[1]: entry[2] for entry in fields if len(entry) == 3 and entry[0] == "installed"},
        "snap": Path("/snap/bin/docker").exists(),
        "settings": None if settings is None else sorted(settings),
        "flags": daemon_flags(),
        "root": root,
        "containers": [] if ours else containers(Path(root)),
        "volumes": [] if ours else sorted(path.name for path in Path(root, "volumes").glob("*") if path.is_dir()),
    }
