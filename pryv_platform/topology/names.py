"""Names under the platform's domain that are its own, besides those of cores and name servers."""

from __future__ import annotations

from typing import Final

#: By what answers there.
NAMES: Final = {
    "register": "reg",
    "access": "access",
    "service": "service",
    "mail": "mail",
    "admin_panel": "adm",
    "configuration_leader": "lead",
    "register_copy": "reg2",
    "pages": "sw",
    "mfa": "mfa",
    "monitoring": "mon",
}
#: Begins the name of a name server, with its number.
NAME_SERVER: Final = "dns"


def service_names(domain: str) -> dict[str, str]:
    """Return the full names, as in `NAMES`."""
    return {service: f"{name}.{domain}" for service, name in NAMES.items()}
