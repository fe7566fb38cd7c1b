"""What one certificate says, and what is wrong with it by itself."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from pryv_platform.problems import Problem, make_error

PUBLIC_CURVES = ("secp256r1", "secp384r1", "secp521r1")
SMALLEST_RSA = 2048  # bits

Extension = TypeVar("Extension", bound=x509.ExtensionType)


def name_of(certificate: x509.Certificate) -> str:
    """A certificate's subject as a person knows it."""
    return certificate.subject.rfc4514_string() or f"serial number {certificate.serial_number:x}"


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether one certificate signed another."""
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether a certificate is its own issuer, as roots are."""
    return is_issued_by(certificate, certificate)


def public_bytes(key: PublicKeyTypes) -> bytes:
    """A public key in a form that can be compared."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_weakness(key: PublicKeyTypes) -> str | None:
    """Why browsers refuse a key, or None if they do not."""
    if isinstance(key, rsa.RSAPublicKey):
        return None if key.key_size >= SMALLEST_RSA else f"an RSA key of {key.key_size} bits"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return None if key.curve.name in PUBLIC_CURVES else f"a key on the curve {key.curve.name}"
    return f"a key of the kind {type(key).__name__.removesuffix('PublicKey')}"


def extension_of(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    """The value of one of a certificate's extensions, or None."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def covered_names(certificate: x509.Certificate) -> set[str]:
    """DNS names that a certificate is for."""
    names = extension_of(certificate, x509.SubjectAlternativeName)
    return {name.lower() for name in names.get_values_for_type(x509.DNSName)} if names else set()


def is_for_servers(certificate: x509.Certificate) -> bool:
    """Whether a certificate may be a server's, or may vouch for one."""
    usage = extension_of(certificate, x509.ExtendedKeyUsage)
    return usage is None or ExtendedKeyUsageOID.SERVER_AUTH in usage


def issuer_address(certificate: x509.Certificate) -> str:
    """Where a certificate says that its issuer's can be had, as the end of a sentence; empty if it does not say."""
    for entry in extension_of(certificate, x509.AuthorityInformationAccess) or ():
        if entry.access_method == AuthorityInformationAccessOID.CA_ISSUERS:
            return f"; it can be had at {entry.access_location.value}"
    return ""


def weaknesses(certificate: x509.Certificate, now: datetime.datetime, minimum_days: int) -> list[Problem]:
    """What is wrong with a certificate by itself."""
    found, name = [], name_of(certificate)
    if weakness := key_weakness(certificate.public_key()):
        found.append(
            make_error(
                name,
                f"has {weakness}, which browsers refuse",
                f"use RSA with at least {SMALLEST_RSA} bits, or the curve P-256 or P-384",
            )
        )
    algorithm = certificate.signature_hash_algorithm
    if isinstance(algorithm, (hashes.MD5, hashes.SHA1)):
        found.append(
            make_error(name, f"is signed with {algorithm.name}, which can be forged", "request one signed with SHA-256")
        )
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if first > now:
        found.append(make_error(name, f"is valid from {first:%Y-%m-%d} only", "check this machine's clock, or wait"))
    elif last <= now:
        found.append(make_error(name, f"expired on {last:%Y-%m-%d}", "renew it"))
    elif last - now < datetime.timedelta(days=minimum_days):
        days = f"in {(last - now).days} days, fewer than the {minimum_days} of certificate_minimum_days"
        found.append(make_error(name, f"expires on {last:%Y-%m-%d}, {days}", "renew it"))
    return found


def pem(certificates: Iterable[x509.Certificate]) -> str:
    """PEM text of certificates, one after the other."""
    texts = (certificate.public_bytes(serialization.Encoding.PEM).decode() for certificate in certificates)
    return "".join(dict.fromkeys(texts))
