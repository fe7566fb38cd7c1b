"""What the inventory alone shows to be wrong with the variables of role ``core``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from pryv_platform.checks.bounds import bounds_problems
from pryv_platform.inventory import Inventory
from pryv_platform.problems import Problem, make_error

# What Pryv's mfa replaces, in this form only.
PLACEHOLDER = re.compile(r"\{\{ \w+ \}\}")
ENDPOINTS = {"single": ("single",), "challenge-verify": ("challenge", "verify")}
ENDPOINT_KEYS = ("url", "method", "headers", "body")


def deletion_problems(values: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """Check that no user's token deletes accounts: by a batch of calls or a socket, it would delete anybody's.

    Args:
        values: By host, `core_settings`; `core_account_deletion` is checked with all others' choices.
    """
    problems = []
    for host, variables in values.items():
        value: Any = variables.get("core_settings")
        for key in ("core", "user-account", "delete"):
            value = value.get(key) if isinstance(value, Mapping) else None
        if "personalToken" in str(value):
            problems.append(
                make_error(
                    f"{host}: core_settings.core.user-account.delete",
                    f"is {value!r}: with a personalToken, any user could delete any account",
                    "take it out, and leave core_account_deletion at [adminToken]",
                )
            )
    return problems


def mfa_problems(values: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """Check that the second factor has the endpoints that its mode needs: without them mfa does not start.

    Args:
        values: By host, `core_mfa_mode`, `core_mfa_endpoints` and `pryv_locked_vaults`, as far as they are set.

    Returns:
        Problems. Values may hold secrets: only modes and schemes are named.
        Types, methods and keys that are missing or too many are checked with all others'.
    """
    return [
        make_error(f"{host}: {where}", problem, remedy)
        for host, variables in values.items()
        for where, problem, remedy in _mfa_problems(variables)
    ]


def _mfa_problems(variables: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    mode = variables.get("core_mfa_mode", "disabled")
    endpoints = variables.get("core_mfa_endpoints") or {}
    if not isinstance(endpoints, Mapping):
        return
    if mode == "disabled" and endpoints:
        yield (
            "core_mfa_mode",
            "is disabled, and core_mfa_endpoints has some: no user would be asked for a second factor",
            f"set it to {' or '.join(ENDPOINTS)}, or take the endpoints out",
        )
    for name in ENDPOINTS.get(str(mode), ()):
        where, endpoint = f"core_mfa_endpoints.{name}", endpoints.get(name)
        if isinstance(endpoint, Mapping):
            yield from _endpoint_problems(where, endpoint)
        elif not variables.get("pryv_locked_vaults"):  # it may be in there; reported with the secrets
            yield (
                where,
                f"is missing, and core_mfa_mode is {mode}",
                f"give it {', '.join(ENDPOINT_KEYS)}, or set core_mfa_mode to disabled",
            )


def _endpoint_problems(where: str, endpoint: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for key in ENDPOINT_KEYS:
        value = endpoint.get(key)
        texts = value.values() if isinstance(value, Mapping) else [value]
        if key in endpoint and None in texts:
            yield (
                f"{where}.{key}",
                "is empty, or has something in {{ }} that is no variable",
                "begin a text with Pryv's placeholders with !unsafe",
            )
        elif key == "url" and isinstance(value, str) and (wrong := _url_problem(value)):
            yield f"{where}.url", wrong, "give a URL that begins with https:// or http://"


def _url_problem(url: str) -> str:
    """Return what is wrong with a URL that may have placeholders; it is not quoted beyond its host."""
    plain = PLACEHOLDER.sub("x", url)
    if not url:
        return "is empty"
    if re.search(r"[\s{}]", plain):
        return "has white space or braces that are no placeholder such as {{ code }}"
    try:
        parts = urlsplit(plain)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no URL"
    if parts.scheme not in ("http", "https"):
        return f"has the scheme {parts.scheme!r}" if parts.scheme else "has no scheme"
    return "" if host else "names no host"


#: The least and the greatest value of numbers.
BOUNDS = {
    "core_upload_max_mb": (1, 10000),
    "core_session_hours": (1, 8760),
    "core_password_reset_minutes": (1, 10080),
    "core_password_min_length": (1, 100),
    "core_password_max_age_days": (0, 3650),
    "core_password_min_age_days": (0, 3650),
    "core_password_history": (0, 24),
    "core_log_days": (1, 3650),
    "core_audit_journal_megabytes": (50, 1000000),
    "core_audit_journal_days": (1, 3650),
}


def problems(inventory: Inventory) -> list[Problem]:
    """Check the variables of role `core`: bounds of numbers, who deletes accounts, and the second factor."""
    cores = inventory.members("core")
    return [
        *bounds_problems(inventory.known(cores, BOUNDS), BOUNDS),
        *deletion_problems(inventory.known(cores, ["core_settings"])),
        *mfa_problems(inventory.known(cores, ["core_mfa_mode", "core_mfa_endpoints", "pryv_locked_vaults"])),
    ]
