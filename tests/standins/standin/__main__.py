"""`python3 -m standin SERVICE` is what the images run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from . import core, dns, mfa, mongodb, others, process, register
from .config import ConfigError

CONF = Path("/app/conf")
SERVICES: dict[str, Callable[[], None]] = {
    "core": lambda: core.run_core(CONF),
    "hfs": lambda: core.run_hfs(CONF),
    "preview": lambda: core.run_preview(CONF),
    "webhooks": lambda: core.run_webhooks(CONF),
    "mfa": lambda: mfa.run(CONF),
    "mongodb": lambda: mongodb.run(CONF),
    "register": lambda: register.run(CONF),
    "dns": lambda: dns.run(CONF),
    "redis": lambda: others.run_redis(CONF),
    "mail": lambda: others.run_mail(CONF),
    "influxdb": others.run_influxdb,
    "admin-panel": lambda: others.run_pages("admin-panel"),
    "auth-pages": lambda: others.run_pages("auth-pages"),
}
# Images of others than Pryv, or with nothing but a web server: no init, no user app, no configuration.
PLAIN = {"influxdb", "admin-panel", "auth-pages"}


def main() -> None:
    """Starts the service that the command line names and stays until a signal ends it."""
    service = sys.argv[1]
    process.stop_on_signals()
    try:
        if service not in PLAIN:
            process.boot(service)
            process.become_app()
            process.check_log()
        SERVICES[service]()
    except (ConfigError, process.StartError) as error:
        process.die(f"{service} cannot start:\n{error}")
    process.wait_forever()


main()
