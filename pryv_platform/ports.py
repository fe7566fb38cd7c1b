"""At which ports the platform's services listen, besides those of HTTPS, HTTP and DNS that clients ask."""

from __future__ import annotations

from typing import Final

#: By service. Containers publish them on loopback alone; core and hfs have one for each process, from this one on.
PORTS: Final = {
    "core": 3000,
    "hfs": 4000,
    "mfa": 7000,
    "register": 9000,
    "mail": 9025,
    "admin_panel": 9080,
    "pages": 9081,
    "preview": 9100,
    "dns": 5353,
    "redis": 6379,
    "mongodb": 27017,
    "influxdb": 8086,
    # Of the host's nginx, for followers.
    "replication": 6380,
    # Of nginx on a host that keeps backups, and of rest-server behind it; hosts reach it at that port of their own.
    "backup": 8443,
    "rest_server": 8000,
    # Of nginx, for the hosts that monitor, and of what tells them behind it.
    "metrics": 9443,
    "node_exporter": 9101,
    "redis_exporter": 9121,
    "mtail": 3903,
    # Of nginx on a host that monitors, for the journals of others; and on these, loopback, on the way there.
    "logs": 9444,
    "log_sender": 9445,
    # On the hosts that monitor.
    "prometheus": 9090,
    "alertmanager": 9093,
    "blackbox_exporter": 9115,
    # Within its container, where a program has no port of its own.
    "program": 9000,
}
