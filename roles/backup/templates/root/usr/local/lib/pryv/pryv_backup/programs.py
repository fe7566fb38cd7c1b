"""Other programs: started without a secret in their arguments, and quoted without one."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pryv_backup.problem import BackupError

#: How much of what a program said about a failure is said again.
SAID = 2000


@dataclass(frozen=True)
class Done:
    """What became of a program; `errors` is what it says of a failure, wherever it says it."""

    code: int
    output: str
    errors: str


def run(
    command: Sequence[str],
    *,
    feed: str = "",
    good: Collection[int] | None = (0,),
    environment: Mapping[str, str] | None = None,
    secrets: Collection[str] = (),
    folder: Path | None = None,
    inherited: Collection[int] = (),
    user: tuple[int, int] | None = None,
    patience: float | None = None,
) -> Done:
    """Runs a program until it ends; it dies with this one.

    Args:
        command: The program and its arguments.
        feed: Its standard input.
        good: Exit codes that are no failure; None takes all.
        environment: What is added to this program's environment.
        secrets: What its messages may quote and this program must not.
        folder: Where it runs.
        inherited: Descriptors that it gets.
        user: User and group as whom it runs; None is this program's.
        patience: For how many seconds it may run; None is for ever.

    Raises:
        BackupError: When it cannot be started, fails, or takes too long.
    """
    try:
        # Were it to go on when this program is killed, it would read, or pause, beneath the next run.
        done = subprocess.run(
            ["setpriv", "--pdeathsig", "KILL", *command],
            input=feed,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
            pass_fds=tuple(inherited),
            user=user[0] if user else None,
            group=user[1] if user else None,
            extra_groups=[] if user else None,
            timeout=patience,
        )
    except subprocess.TimeoutExpired as error:
        raise BackupError(f"{command[0]} did not end within {patience:.0f} s") from error
    except OSError as error:
        raise BackupError(f"{command[0]}: {error.strerror}") from error
    errors = hide(plain(done.stderr).strip() or (done.stdout.strip() if done.returncode else ""), secrets)
    result = Done(done.returncode, done.stdout, errors)
    return result if good is None else expect(result, command[0], good)


def expect(done: Done, program: str, good: Collection[int] = (0,)) -> Done:
    """What became of a program that was to end well.

    Raises:
        BackupError: When it failed.
    """
    if done.code not in good:
        raise BackupError(f"{program} failed ({done.code}): {done.errors[-SAID:]}")
    return done


def plain(text: str) -> str:
    """What a program said of a failure, as text, where it said it in JSON, one message a line."""
    lines = []
    for line in text.splitlines():
        try:
            lines.append(str(json.loads(line)["message"]))
        except (ValueError, KeyError, TypeError):
            lines.append(line)
    return "\n".join(lines)


def hide(text: str, secrets: Collection[str]) -> str:
    """A text with no secret in it."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
