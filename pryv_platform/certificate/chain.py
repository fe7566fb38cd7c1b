"""The ways from a certificate up to a root, and why clients refuse them."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator, Sequence

from cryptography import x509
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from pryv_platform.certificate.single import (
    covered_names,
    extension_of,
    is_for_servers,
    is_issued_by,
    is_self_signed,
    issuer_address,
    name_of,
    public_bytes,
    weaknesses,
)
from pryv_platform.problems import Problem, make_error
from pryv_platform.topology.names import NAMES

# Ways from a certificate to a root; authorities that sign each other make many.
MOST_CHAINS = 100


def chains(leaf: x509.Certificate, others: Sequence[x509.Certificate]) -> Iterator[list[x509.Certificate]]:
    """Every way up from a leaf, each one's issuer next: to a self-signed certificate, or as far as the others go."""

    def climb(chain: list[x509.Certificate]) -> Iterator[list[x509.Certificate]]:
        if is_self_signed(chain[-1]):
            yield chain
            return
        # Authorities that sign each other make a circle.
        taken = {(member.subject, public_bytes(member.public_key())) for member in chain}
        issuers = [
            other
            for other in others
            if is_issued_by(chain[-1], other) and (other.subject, public_bytes(other.public_key())) not in taken
        ]
        if not issuers:
            yield chain
        for issuer in issuers:
            yield from climb([*chain, issuer])

    return itertools.islice(climb([leaf]), MOST_CHAINS)


def authority_problems(chain: Sequence[x509.Certificate]) -> Iterator[Problem]:
    """Why clients refuse members of a chain as issuers of those before them."""
    for below, member in enumerate(chain[1:]):
        name, remedy = name_of(member), "get the chain from the authority that issued the certificate"
        constraints = extension_of(member, x509.BasicConstraints)
        if constraints is None or not constraints.ca:
            yield make_error(name, "is no authority's: its basic constraints do not say CA", remedy)
        elif constraints.path_length is not None and constraints.path_length < below:
            limit = f"at most {constraints.path_length} authorities below itself, and there are {below}"
            yield make_error(name, f"allows {limit}", remedy)
        usage = extension_of(member, x509.KeyUsage)
        if usage is not None and not usage.key_cert_sign:
            yield make_error(name, "may not sign certificates: its key usage does not say so", remedy)
        if not is_for_servers(member):
            yield make_error(
                name, "may not sign certificates of servers: its extended key usage does not say so", remedy
            )


def refusal(chain: Sequence[x509.Certificate], now: datetime.datetime) -> Problem | None:
    """Why a client that trusts the last of a chain refuses it, or None if it does not.

    Args:
        chain: The leaf, its intermediates in their order, and the root.
        now: The time, with its zone.
    """
    names = covered_names(chain[0])
    if not names:
        return None  # said already, and there is nothing to ask for
    # Not what browsers' programme asks of public authorities: those of companies leave out identifiers.
    authority = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    server = ExtensionPolicy.permit_all().require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    verifier = (
        PolicyBuilder()
        .store(Store([chain[-1]]))
        .time(now)
        .extension_policies(ca_policy=authority, ee_policy=server)
        .build_server_verifier(x509.DNSName(min(names).replace("*", NAMES["register"])))
    )
    try:
        verifier.verify(chain[0], list(chain[1:-1]))
    except VerificationError as error:
        reason = str(error).rpartition("candidates exhausted: ")[2]
        if "name constraint" in reason:
            owner = next(member for member in chain[1:] if extension_of(member, x509.NameConstraints))
            return make_error(
                name_of(owner),
                f"may not vouch for {', '.join(sorted(names))}: its name constraints exclude that",
                "have the certificate issued by another authority",
            )
        return make_error(
            name_of(chain[0]), f"is refused by clients: {reason}", "get one, with its chain, that they accept"
        )
    return None


def chain_problems(
    chain: Sequence[x509.Certificate], now: datetime.datetime, minimum_days: int, *, is_complete: bool
) -> list[Problem]:
    """What is wrong with a chain, from its leaf's issuer on."""
    if is_self_signed(chain[0]):
        return [
            make_error(
                name_of(chain[0]),
                "is self-signed, so that nobody trusts it",
                "have it signed by an authority, or use certificate_source: development",
            )
        ]
    problems = [] if is_complete else [missing_issuer(chain[-1])]
    intermediates = chain[1:-1] if is_complete else chain[1:]
    for member in intermediates:
        problems += weaknesses(member, now, minimum_days)
    problems += authority_problems(chain)
    if is_complete and not (chain[-1].not_valid_before_utc <= now < chain[-1].not_valid_after_utc):
        first, last = chain[-1].not_valid_before_utc, chain[-1].not_valid_after_utc
        problems.append(
            make_error(
                name_of(chain[-1]),
                f"is a root that is valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}",
                "add the root that clients trust today to the bundle, or set certificate_root_file to it",
            )
        )
    return problems


def missing_issuer(certificate: x509.Certificate) -> Problem:
    """The problem of a chain that ends before a root."""
    return make_error(
        name_of(certificate),
        f"ends the chain: its issuer {certificate.issuer.rfc4514_string()} is missing",
        "add that certificate to the bundle, or set certificate_root_file if it is the root of an "
        f"authority of your own{issuer_address(certificate)}",
    )
