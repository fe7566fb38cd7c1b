"""How a service's process starts: the steps that the init of Pryv's images takes, and their demands."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

APP_UID = 9999
NGINX_UID = 101
LOG = Path("/app/log")


class StartError(Exception):
    """The surroundings do not let the service start."""


def boot(service: str) -> None:
    """Does what the images' init does as root.

    Args:
        service: Name of the service.

    Raises:
        StartError: The container was not started as root, or its root file system is read-only: the real init, runit on
            phusion/baseimage, could not start either.
    """
    if os.geteuid() != 0:
        raise StartError(
            "the image's init must start as root (it switches to user app itself): remove 'user' from the compose file"
        )
    try:
        Path("/etc/container_environment.json").write_text("{}\n", encoding="ascii")
    except OSError as error:
        raise StartError(f"the image's init writes below /etc: {error}") from error
    if service == "mail":
        _attempt("look into /app/log, which is user app's (needs DAC_OVERRIDE)", lambda: list(LOG.iterdir()))
        _attempt("give /app/log to user app (needs CHOWN)", lambda: os.chown(LOG, APP_UID, APP_UID))


def become_app() -> None:
    """Goes on as user app.

    Raises:
        StartError: The capabilities SETUID and SETGID were taken from the container.
    """
    _attempt("drop root's groups (needs SETGID)", lambda: os.setgroups([APP_UID]))
    _attempt("switch to group app (needs SETGID)", lambda: os.setgid(APP_UID))
    _attempt("switch to user app (needs SETUID)", lambda: os.setuid(APP_UID))


def become_nginx() -> None:
    """Does what nginx's own image does as root, and goes on as a worker of it.

    Raises:
        StartError: Its caches or /run cannot be written, or CHOWN, SETGID or SETUID was taken from the container.
    """
    cache = Path("/var/cache/nginx/client_temp")
    _attempt("make nginx's caches", lambda: cache.mkdir(parents=True, exist_ok=True))
    _attempt("give them to user nginx (needs CHOWN)", lambda: os.chown(cache, NGINX_UID, NGINX_UID))
    _attempt("write nginx's process ID", lambda: Path("/run/nginx.pid").write_text("1\n", encoding="ascii"))
    _attempt("drop root's groups (needs SETGID)", lambda: os.setgroups([NGINX_UID]))
    _attempt("switch to group nginx (needs SETGID)", lambda: os.setgid(NGINX_UID))
    _attempt("switch to user nginx (needs SETUID)", lambda: os.setuid(NGINX_UID))


def check_log() -> None:
    """Sees that the log directory can be written to.

    Raises:
        StartError: It cannot.
    """
    if not os.access(LOG, os.W_OK):
        raise StartError(f"{LOG} must be writable by uid {os.geteuid()}")


def stop_on_signals() -> None:
    """Ends the process at once on SIGTERM, which a container's first process otherwise ignores."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def wait_forever() -> None:
    """Lets the service's threads work."""
    threading.Event().wait()


def say(text: str) -> None:
    """Writes a line to the container's log."""
    print(text, flush=True)  # one write, so that threads' lines do not mix


def die(text: str) -> NoReturn:
    """Ends the process, from any thread, with exit code 1."""
    print(text, file=sys.stderr, flush=True)
    os._exit(1)


def _attempt(what: str, action: Callable[[], object]) -> None:
    try:
        action()
    except OSError as error:
        raise StartError(f"cannot {what}: {error}") from error
