"""Searches the journals of the platform's hosts. Who asked for what is written into this host's own journal first."""

from __future__ import annotations

import argparse
import os
import pwd
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

#: What the kernel says where nobody logged in, such as in a timer's program.
NOBODY = 2**32 - 1
#: Options of journalctl that only choose lines and how they look; each takes a value.
CHOICES = ("unit", "identifier", "since", "until", "grep", "priority", "lines", "output", "namespace")


def asker(login: str, environment: Mapping[str, str]) -> str:
    """Who asks: whoever logged in, whom the kernel knows also after sudo.

    Args:
        login: What is in /proc/self/loginuid.
        environment: The program's, where sudo says who called it.

    Returns:
        Name of an account, or its number where it has none.
    """
    number = int(login or NOBODY)
    if number == NOBODY:
        return environment.get("SUDO_USER", "root")
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def files(folder: Path, hosts: Sequence[str]) -> list[str]:
    """Patterns of the files to search.

    Args:
        folder: Has a folder for each host.
        hosts: Whose; empty for all.

    Raises:
        ValueError: A host has sent nothing here.
    """
    there = sorted(path.name for path in folder.iterdir() if any(path.glob("*.journal*"))) if folder.is_dir() else []
    if unknown := [host for host in hosts if host not in there]:
        raise ValueError(f"{', '.join(unknown)}: no journal is here; there is {', '.join(there) or 'none'}")
    return [f"{folder / host}/*.journal*" for host in hosts or there]


def question(options: argparse.Namespace) -> list[str]:
    """Arguments of journalctl that choose lines.

    Args:
        options: Those of `CHOICES`, and `follow`.
    """
    given = {name: getattr(options, name) for name in CHOICES}
    chosen = [f"--{name}={value}" for name, value in given.items() if value is not None and name != "namespace"]
    if given["namespace"] is not None:
        chosen.append(f"_NAMESPACE={given['namespace']}")
    return [*chosen, *(["--follow"] if options.follow else [])]


def joined(arguments: Sequence[str]) -> Iterator[str]:
    """Arguments with each value at its option, as in --since -1h, which would be an option otherwise."""
    words = iter(arguments)
    for word in words:
        value = next(words, None) if word.removeprefix("--") in (*CHOICES, "host", "folder") else None
        yield word if value is None else f"{word}={value}"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="pryv-logs", description=__doc__, allow_abbrev=False)
    parser.add_argument("--folder", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument(
        "--host", action="append", default=[], help="a host; several times for several, without for all"
    )
    parser.add_argument("--unit", help="of one systemd unit, such as nginx.service")
    parser.add_argument("--identifier", help="of one program, such as sudo")
    parser.add_argument("--since", help="from a time on, such as yesterday, -1h or 2026-11-28 10:00")
    parser.add_argument("--until", help="up to a time")
    parser.add_argument("--grep", help="whose message matches a regular expression")
    parser.add_argument("--priority", help="of a severity or a graver one, such as err")
    parser.add_argument("--namespace", help="of a journal of its own: pryv is the audit trail of cores")
    parser.add_argument("--lines", help="the newest ones, so many")
    parser.add_argument("--output", help="how lines look, such as json; see journalctl(1)")
    parser.add_argument("--follow", action="store_true", help="and what arrives from now on")
    return parser.parse_args(list(joined(arguments)))


def search(arguments: Sequence[str]) -> NoReturn:
    """Becomes journalctl."""
    os.execvp("journalctl", ["journalctl", "--quiet", *arguments])  # noqa: S606


def main() -> int:
    """Writes down who asks, then searches."""
    options = parse(sys.argv[1:])
    if os.geteuid():
        print("pryv-logs: only root may read them: sudo pryv-logs", file=sys.stderr)
        return 1
    try:
        chosen = files(options.folder, options.host)
    except ValueError as error:
        print(f"pryv-logs: {error}", file=sys.stderr)
        return 1
    who = asker(Path("/proc/self/loginuid").read_text().strip(), os.environ)
    what = shlex.join([*(f"--host={host}" for host in options.host), *question(options)])
    look = f"{who} looks at: {what or 'everything'}"
    # Nobody looks whose look cannot be written down, and all of it: logger leaves out what is beyond 1 KiB.
    size = f"--size={len(os.fsencode(look))}"
    subprocess.run(["logger", "--tag=pryv-logs", "--priority=authpriv.notice", size, "--", look], check=True)
    if chosen:
        search([*(f"--file={pattern}" for pattern in chosen), *question(options)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
