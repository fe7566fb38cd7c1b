"""Stands in for mail, the static pages, Redis and InfluxDB."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

from . import config as c
from . import schemas
from .process import StartError, become_nginx, say
from .web import Request, Response, serve


def run_mail(conf: Path) -> None:
    """Starts mail, which says what it would send.

    Args:
        conf: Folder of its configuration.
    """
    config = c.load(conf / "mail.json")
    c.check(config, schemas.MAIL)
    templates = Path(config["templates"]["root"])

    def answer(request_: Request) -> Response:
        if request_.path == "/system/status":
            return Response(200, {"status": "ok"})
        parts = request_.path.strip("/").split("/")
        if request_.method != "POST" or len(parts) != 3 or parts[0] != "sendmail":
            return Response(404, {"error": "not found"})
        body = request_.json
        if body.get("key") != config["http"]["auth"]:
            return Response(403, {"error": "Authorization key is missing or invalid."})
        recipient: Any = body.get("to")
        if (
            not isinstance(body.get("substitutions"), dict)
            or not isinstance(recipient, dict)
            or not recipient.get("email")
        ):
            return Response(400, {"error": "Missing substitution variables or recipient."})
        template, language = parts[1:]
        found = [
            lang for lang in (language, config["templates"]["defaultLang"]) if (templates / template / lang).is_dir()
        ]
        if not found:
            return Response(404, {"error": f"No template {template} below {templates}"})
        say(f"Email sent: {template}/{found[0]} to {recipient['email']} through {config['smtp']['host']}")
        return Response(200, {"accepted": [recipient["email"]]})

    serve("mail", config["http"]["ip"], [int(config["http"]["port"])], answer)


def run_pages(name: str) -> None:
    """Starts a container of static pages.

    Args:
        name: What the page calls itself.
    """
    page = f"<!doctype html><html lang=en><title>{name}</title><h1>{name}</h1></html>\n".encode()

    def answer(request_: Request) -> Response:
        if request_.method not in ("GET", "HEAD"):
            return Response(405, "405 Not Allowed\n")
        return Response(200, page, {"Content-Type": "text/html"})

    serve(name, "", [80], answer)
    become_nginx()


def run_influxdb() -> NoReturn:
    """Becomes Debian's InfluxDB, with the folders of the real image."""
    folder = Path("/var/lib/influxdb")
    try:
        (folder / "meta").mkdir(exist_ok=True)
    except OSError as error:
        raise StartError(f"{folder} must be writable by uid {os.geteuid()}: {error}") from error
    settings = {
        "META_DIR": folder / "meta",
        "DATA_DIR": folder / "data",
        "DATA_WAL_DIR": folder / "wal",
        "DATA_QUERY_LOG_ENABLED": "false",
        "HTTP_LOG_ENABLED": "false",
        "REPORTING_DISABLED": "true",
    }
    environment = {f"INFLUXDB_{name}": str(value) for name, value in settings.items()}
    os.execve("/usr/bin/influxd", ["influxd"], environment)


def run_redis(conf: Path) -> NoReturn:
    """Becomes Debian's Redis.

    Args:
        conf: Folder of its configuration.
    """
    # The image has no locales, and Redis does not start in one that is missing.
    os.execve("/usr/bin/redis-server", ["redis-server", str(conf / "redis.conf")], {"LC_ALL": "C"})
