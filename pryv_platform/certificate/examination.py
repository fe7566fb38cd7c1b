"""Which of the certificates given is the platform's own, and what hosts need of it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from pryv_platform.certificate.chain import chain_problems, chains, refusal
from pryv_platform.certificate.single import (
    covered_names,
    is_for_servers,
    is_issued_by,
    is_self_signed,
    name_of,
    pem,
    public_bytes,
    weaknesses,
)
from pryv_platform.problems import Problem, make_error


@dataclass
class Material:
    """What a platform's hosts need of its certificate, and what is wrong with it."""

    problems: list[Problem] = field(default_factory=list)
    fullchain: str = ""
    private_key: str = ""
    ca: str = ""


def find_leaves(
    certificates: list[x509.Certificate], key: PrivateKeyTypes | None
) -> tuple[list[x509.Certificate], bool]:
    """What may be the platform's own certificate among those given, and whether the key is its key."""
    if key is not None:
        wanted = public_bytes(key.public_key())
        if fitting := [found for found in certificates if public_bytes(found.public_key()) == wanted]:
            return fitting, True
    last = [
        found
        for found in certificates
        if not any(other is not found and is_issued_by(other, found) for other in certificates)
    ]
    return last or certificates, False


@dataclass
class Candidate:
    """A way from a leaf up, and what is wrong with it; those that hosts can have are the least.

    Attributes:
        chain: The leaf and its issuers, with the root when it is complete.
        is_complete: Whether it ends at a root.
        is_trusted: Whether that root is trusted by others than the bundle.
        problems: What is wrong.
    """

    chain: list[x509.Certificate]
    is_complete: bool
    is_trusted: bool
    problems: list[Problem]

    @property
    def rank(self) -> tuple[int, bool, bool, int, float]:
        """Fewer problems first, then what clients trust by themselves, shorter chains, and certificates for longer."""
        lasting = self.chain[0].not_valid_after_utc.timestamp()
        return len(self.problems), not self.is_complete, not self.is_trusted, len(self.chain), -lasting


def leaf_problems(
    domain: str, leaf: x509.Certificate, fits: bool | None, now: datetime.datetime, minimum_days: int
) -> list[Problem]:
    """What is wrong with the platform's own certificate.

    Args:
        domain: The platform's domain.
        leaf: The certificate.
        fits: Whether the key is its key; None if there is none to compare.
        now: The time, with its zone.
        minimum_days: A certificate that expires in fewer days is refused.
    """
    problems, name = list[Problem](), name_of(leaf)
    if fits is False:
        problems.append(
            make_error(name, "does not belong to the private key", "give the key that it was requested with")
        )
    if missing := sorted({domain.lower(), f"*.{domain.lower()}"} - covered_names(leaf)):
        covered = ", ".join(sorted(covered_names(leaf))) or "no name at all"
        found = f"is for {covered} and not for {' and '.join(missing)}"
        problems.append(make_error(name, found, f"request one for {domain} and *.{domain}"))
    if not is_for_servers(leaf):
        problems.append(make_error(name, "is not for servers", "request one with the extended key usage serverAuth"))
    return problems + weaknesses(leaf, now, minimum_days)


def examine(
    domain: str,
    certificates: list[x509.Certificate],
    key: PrivateKeyTypes | None,
    roots: Iterable[x509.Certificate],
    now: datetime.datetime,
    minimum_days: int,
) -> Material:
    """Check a platform's certificate and find the chain that clients accept.

    Order, duplicates, expired twins and certificates that do not belong do not matter.

    Args:
        domain: The platform's domain.
        certificates: The certificate with its intermediates; at least one.
        key: The private key, or None if it could not be read, which the caller reports.
        roots: What is trusted beside the roots among the certificates; intermediates among them are used as well.
        now: The time, with its zone.
        minimum_days: A certificate that expires in fewer days is refused.

    Returns:
        What hosts need, or all that is wrong.
    """
    trusted = list(dict.fromkeys(roots))
    pool = list(dict.fromkeys([*trusted, *certificates]))
    leaves, fits = find_leaves(list(dict.fromkeys(certificates)), key)
    candidates = []
    for leaf in leaves:
        own = leaf_problems(domain, leaf, None if key is None else fits, now, minimum_days)
        for chain in chains(leaf, pool):
            is_complete = len(chain) > 1 and is_self_signed(chain[-1])
            problems = own + chain_problems(chain, now, minimum_days, is_complete=is_complete)
            if is_complete and not problems and (refused := refusal(chain, now)):
                problems = [refused]
            candidates.append(Candidate(chain, is_complete, chain[-1] in trusted, problems))
    best = min(candidates, key=lambda candidate: candidate.rank)
    ca = pem(best.chain[-1:]) if best.is_complete else ""
    if best.problems or key is None:
        return Material(best.problems, ca=ca)
    return Material(
        fullchain=pem(best.chain[:-1]),
        private_key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        ca=ca,
    )
