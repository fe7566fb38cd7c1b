"""Who may log in where a password alone is asked for."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping


def basic_auth_accounts(names: Iterable[str], passwords: Mapping[str, str]) -> str:
    """Return who may log in, in the format of Apache's htpasswd, with SHA-1.

    That hash suffices for random passwords of 43 characters, which nobody guesses however quick it is, and unlike
    bcrypt's it is the same in every run.

    Args:
        names: Who may.
        passwords: By name; others' are there, too.
    """
    digests = ((name, hashlib.sha1(passwords[name].encode()).digest()) for name in names)  # noqa: S324
    return "\n".join(f"{name}:{{SHA}}{base64.b64encode(digest).decode()}" for name, digest in digests)
