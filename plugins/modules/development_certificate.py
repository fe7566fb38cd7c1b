#!/usr/bin/python
"""Make a certificate for a platform under development, and the authority that signs it."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

DOCUMENTATION = r"""
---
module: development_certificate
short_description: A certificate for a platform under development, from an authority of its own
description:
  - Makes an authority that can vouch for one domain only, once, and a certificate by it, which is renewed in time.
  - Runs on the controller. The files are C(ca.pem), C(ca.key), C(platform.pem) and C(platform.key).
options:
  directory:
    description: Where the files are kept. It is made, for its owner alone.
    type: path
    required: true
  domain:
    description: The platform's domain; the certificate is for it and all names right under it.
    type: str
    required: true
  days:
    description: How long a certificate is valid.
    type: int
    default: 90
  renew_days:
    description: A certificate that expires in fewer days is replaced.
    type: int
    default: 30
attributes:
  check_mode:
    support: full
author:
  - Pryv Ansible authors
"""

EXAMPLES = r"""
- name: Make the certificate
  development_certificate:
    directory: "{{ inventory_dir }}/ca"
    domain: pryv.test
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
made:
  description: Which were made, in this order.
  returned: always
  type: list
  elements: str
  sample: [ca, platform]
"""

CA_DAYS = 3650


class CertificateError(Exception):
    """The certificate cannot be made; the message is for the operator."""


def write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file atomically; it is never readable by more than its mode says."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(path)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PEM text of a private key."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def builder(
    name: str, issuer: str, key: ec.EllipticCurvePublicKey, ca_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    """What an authority's certificate and a platform's have in common.

    Args:
        name: Common name.
        issuer: The authority's common name.
        key: The certificate's key.
        ca_key: The authority's key.
        days: How long it is valid; it starts an hour ago, for hosts whose clocks are late.
    """
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key), critical=False)
    )


def usage(signs_certificates: bool) -> x509.KeyUsage:
    """What a key is for: to sign certificates, or to sign handshakes."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def make_ca(directory: Path, domain: str) -> None:
    """Make the authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = f"{domain} development CA"[:64]
    certificate = (
        builder(name, name, key.public_key(), key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs_certificates=True), critical=True)
        # Whoever trusts it trusts it for this domain, and for no other, whatever becomes of its key.
        .add_extension(x509.NameConstraints(permitted_subtrees=[x509.DNSName(domain)], excluded_subtrees=None), True)
        .sign(key, hashes.SHA256())
    )
    write(directory / "ca.key", key_pem(key), 0o600)
    write(directory / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def make_platform(directory: Path, domain: str, days: int) -> None:
    """Make the platform's certificate."""
    ca = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
    ca_key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{directory}/ca.key is not a key that this module made")
    key = ec.generate_private_key(ec.SECP256R1())
    ca_name = str(ca.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
    certificate = (
        builder(f"*.{domain}"[:64], ca_name, key.public_key(), ca_key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain), x509.DNSName(f"*.{domain}")]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    write(directory / "platform.key", key_pem(key), 0o600)
    write(directory / "platform.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def ca_is_missing(directory: Path, domain: str) -> bool:
    """Whether the authority has to be made."""
    if not (directory / "ca.pem").exists():
        return True
    ca = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
    permitted = ca.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees
    if permitted != [x509.DNSName(domain)]:
        raise CertificateError(
            f"{directory} holds the authority of another domain ({ca.subject.rfc4514_string()}), not of {domain}: "
            "move that folder away, or set certificate_ca_directory to another"
        )
    return False


def platform_is_due(directory: Path, renew_days: int) -> bool:
    """Whether the platform's certificate is missing, broken, or due for renewal."""
    try:
        ca = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
        certificate = x509.load_pem_x509_certificate((directory / "platform.pem").read_bytes())
        key = serialization.load_pem_private_key((directory / "platform.key").read_bytes(), None)
    except (FileNotFoundError, ValueError):
        return True
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.timezone.utc)
    return (
        left < datetime.timedelta(days=renew_days)
        or certificate.public_key() != key.public_key()
        or certificate.issuer != ca.subject
        or certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        != ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    )


def make(parameters: dict[str, Any], check_mode: bool) -> list[str]:
    """Make what is missing or due, and say what that was."""
    directory, domain = Path(parameters["directory"]), parameters["domain"].lower()
    ca = ca_is_missing(directory, domain)
    platform = ca or platform_is_due(directory, parameters["renew_days"])
    if not check_mode:
        if ca:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            make_ca(directory, domain)
        if platform:
            make_platform(directory, domain, parameters["days"])
    return ["ca"] * ca + ["platform"] * platform


def main() -> None:
    """Run as a module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "domain": {"type": "str", "required": True},
            "days": {"type": "int", "default": 90},
            "renew_days": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        made = make(module.params, module.check_mode)
    except (CertificateError, OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(changed=bool(made), made=made)


if __name__ == "__main__":
    main()
