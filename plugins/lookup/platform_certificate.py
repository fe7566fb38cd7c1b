"""The platform's wildcard certificate, checked on the controller and put in order."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import re
import ssl
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

DOCUMENTATION = r"""
name: platform_certificate
short_description: The platform's wildcard certificate, checked and put in order
description:
  - Reads the certificate on the controller, checks it, and gives what hosts need of it. No host is asked.
  - Paths that are not absolute are relative to the inventory. Files may be encrypted with Ansible Vault.
options:
  _terms:
    description: The platform's domain.
    required: true
  source:
    description: Where the certificate is from.
    type: str
    choices: [pem, pkcs12, development]
    required: true
  environment:
    description: What the platform is for; C(production) refuses the source C(development).
    type: str
    choices: [development, integration, production]
    required: true
  bundle:
    description: PEM text of the certificate and its intermediates, in any order, whatever else is among them.
    type: str
    default: ""
  bundle_file:
    description: A file with that text.
    type: str
    default: ""
  private_key:
    description: PEM text of the private key.
    type: str
    default: ""
  private_key_file:
    description: A file with that text.
    type: str
    default: ""
  pkcs12_file:
    description: A PKCS#12 file with the certificate, its intermediates and the private key.
    type: str
    default: ""
  pkcs12_passphrase:
    description: What opens it.
    type: str
    default: ""
  root_file:
    description:
      - A PEM file with the root that the chain ends at, when it is neither in the bundle nor among those that the
        controller trusts. Intermediates in it are served like those of the bundle.
    type: str
    default: ""
  ca_directory:
    description: Where the module M(development_certificate) keeps its files.
    type: str
    default: ""
  minimum_days:
    description: A certificate that expires in fewer days is refused.
    type: int
    default: 14
"""

EXAMPLES = r"""
- name: Refuse a certificate that will not do
  ansible.builtin.assert:
    that: certificate.problems == []
  vars:
    certificate: "{{ lookup('platform_certificate', 'pryv.example', source='pem', environment='production',
      bundle_file='tls/bundle.pem', private_key_file='tls/key.pem') }}"
"""

RETURN = r"""
_raw:
  description: One entry. Unless C(problems) is empty, C(fullchain) and C(private_key) are.
  type: list
  elements: dict
  contains:
    problems:
      description: Everything that is wrong, each with C(severity), C(where), C(problem) and C(remedy).
      type: list
      elements: dict
    fullchain:
      description: PEM text of the certificate, followed by its intermediates.
      type: str
    private_key:
      description: PEM text of the private key.
      type: str
    ca:
      description:
        - PEM text of the roots to trust when talking to the platform; also with problems, if they can be told.
        - Empty before M(development_certificate) has made its own.
      type: str
"""

PUBLIC_CURVES = ("secp256r1", "secp384r1", "secp521r1")
SMALLEST_RSA = 2048  # bits
TRUST_STORES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
# Ways from a certificate to a root; authorities that sign each other make many.
MOST_CHAINS = 100
NAME_A_FILE = "give the path of a file on this machine, absolute or relative to the inventory"
NOT_MADE_YET = "The first run that is not in check mode makes it.\n"

Extension = TypeVar("Extension", bound=x509.ExtensionType)
Problem = dict[str, str]


def wrong(where: str, problem: str, remedy: str) -> Problem:
    """One thing that must be put right, in the form that preflight reports.

    Args:
        where: The variable, or the certificate's name.
        problem: What is wrong, as the rest of a sentence that begins with where.
        remedy: What to do.
    """
    return {"severity": "error", "where": where, "problem": problem, "remedy": remedy}


@dataclass
class Material:
    """What a platform's hosts need of its certificate, and what is wrong with it."""

    problems: list[Problem] = field(default_factory=list)
    fullchain: str = ""
    private_key: str = ""
    ca: str = ""


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
            yield wrong(name, "is no authority's: its basic constraints do not say CA", remedy)
        elif constraints.path_length is not None and constraints.path_length < below:
            limit = f"at most {constraints.path_length} authorities below itself, and there are {below}"
            yield wrong(name, f"allows {limit}", remedy)
        usage = extension_of(member, x509.KeyUsage)
        if usage is not None and not usage.key_cert_sign:
            yield wrong(name, "may not sign certificates: its key usage does not say so", remedy)
        if not is_for_servers(member):
            yield wrong(name, "may not sign certificates of servers: its extended key usage does not say so", remedy)


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
        .build_server_verifier(x509.DNSName(min(names).replace("*", "reg")))
    )
    try:
        verifier.verify(chain[0], list(chain[1:-1]))
    except VerificationError as error:
        reason = str(error).rpartition("candidates exhausted: ")[2]
        if "name constraint" in reason:
            owner = next(member for member in chain[1:] if extension_of(member, x509.NameConstraints))
            return wrong(
                name_of(owner),
                f"may not vouch for {', '.join(sorted(names))}: its name constraints exclude that",
                "have the certificate issued by another authority",
            )
        return wrong(name_of(chain[0]), f"is refused by clients: {reason}", "get one, with its chain, that they accept")
    return None


def chain_problems(
    chain: Sequence[x509.Certificate], now: datetime.datetime, minimum_days: int, *, is_complete: bool
) -> list[Problem]:
    """What is wrong with a chain, from its leaf's issuer on."""
    if is_self_signed(chain[0]):
        return [
            wrong(
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
            wrong(
                name_of(chain[-1]),
                f"is a root that is valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}",
                "add the root that clients trust today to the bundle, or set certificate_root_file to it",
            )
        )
    return problems


def missing_issuer(certificate: x509.Certificate) -> Problem:
    """The problem of a chain that ends before a root."""
    return wrong(
        name_of(certificate),
        f"ends the chain: its issuer {certificate.issuer.rfc4514_string()} is missing",
        "add that certificate to the bundle, or set certificate_root_file if it is the root of an "
        f"authority of your own{issuer_address(certificate)}",
    )


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
        problems.append(wrong(name, "does not belong to the private key", "give the key that it was requested with"))
    if missing := sorted({domain.lower(), f"*.{domain.lower()}"} - covered_names(leaf)):
        covered = ", ".join(sorted(covered_names(leaf))) or "no name at all"
        found = f"is for {covered} and not for {' and '.join(missing)}"
        problems.append(wrong(name, found, f"request one for {domain} and *.{domain}"))
    if not is_for_servers(leaf):
        problems.append(wrong(name, "is not for servers", "request one with the extended key usage serverAuth"))
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


def weaknesses(certificate: x509.Certificate, now: datetime.datetime, minimum_days: int) -> list[Problem]:
    """What is wrong with a certificate by itself."""
    found, name = [], name_of(certificate)
    if weakness := key_weakness(certificate.public_key()):
        found.append(
            wrong(
                name,
                f"has {weakness}, which browsers refuse",
                f"use RSA with at least {SMALLEST_RSA} bits, or the curve P-256 or P-384",
            )
        )
    algorithm = certificate.signature_hash_algorithm
    if isinstance(algorithm, (hashes.MD5, hashes.SHA1)):
        found.append(
            wrong(name, f"is signed with {algorithm.name}, which can be forged", "request one signed with SHA-256")
        )
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if first > now:
        found.append(wrong(name, f"is valid from {first:%Y-%m-%d} only", "check this machine's clock, or wait"))
    elif last <= now:
        found.append(wrong(name, f"expired on {last:%Y-%m-%d}", "renew it"))
    elif last - now < datetime.timedelta(days=minimum_days):
        days = f"in {(last - now).days} days, fewer than the {minimum_days} of certificate_minimum_days"
        found.append(wrong(name, f"expires on {last:%Y-%m-%d}, {days}", "renew it"))
    return found


def pem(certificates: Iterable[x509.Certificate]) -> str:
    """PEM text of certificates, one after the other."""
    texts = (certificate.public_bytes(serialization.Encoding.PEM).decode() for certificate in certificates)
    return "".join(dict.fromkeys(texts))


def trusted_roots() -> list[x509.Certificate]:
    """Roots that the controller's system trusts."""
    stores = [ssl.get_default_verify_paths().cafile, *TRUST_STORES]
    text = next((Path(store).read_bytes() for store in stores if store and Path(store).is_file()), b"")
    roots = []
    for block in re.findall(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", text, re.DOTALL):
        with contextlib.suppress(ValueError):  # stores hold old roots that are not quite by the standard
            roots.append(x509.load_pem_x509_certificate(block))
    return roots


def read_certificates(variable: str, content: bytes, problems: list[Problem]) -> list[x509.Certificate]:
    """Certificates in a PEM text; what is wrong with it is added to the problems."""
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        problems.append(
            wrong(
                variable, "has no certificate that can be read", "give PEM text, -----BEGIN CERTIFICATE----- and so on"
            )
        )
        return []


def read_key(variable: str, content: bytes, problems: list[Problem]) -> PrivateKeyTypes | None:
    """The private key in a PEM text; what is wrong with it is added to the problems."""
    try:
        return serialization.load_pem_private_key(content, password=None)
    except TypeError:
        problems.append(
            wrong(
                variable,
                "is locked with a passphrase",
                "unlock it (openssl pkey) and encrypt it with ansible-vault instead",
            )
        )
    except ValueError:
        problems.append(
            wrong(
                variable, "is no private key that can be read", "give PEM text, -----BEGIN PRIVATE KEY----- and so on"
            )
        )
    return None


class UnreadableError(AnsibleError):  # type: ignore[misc]
    """A file that a variable names cannot be read."""

    def __init__(self, problem: Problem) -> None:
        """Keep the problem for the report."""
        super().__init__(f"{problem['where']}: {problem['problem']}")
        self.problem = problem


class LookupModule(LookupBase):  # type: ignore[misc]
    """Reads the files and has them examined."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        """Give the certificate's material."""
        self.set_options(var_options=variables, direct=kwargs)
        self._folder = Path((variables or {}).get("inventory_dir") or ".")
        # The system's store has certificates that are not quite by the standard, which is nobody's concern here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [vars(self._material(terms[0]))]

    def _material(self, domain: str) -> Material:
        problems: list[Problem] = []
        certificates: list[x509.Certificate] = []
        key: PrivateKeyTypes | None = None
        match self.get_option("source"):
            case "development":
                if self.get_option("environment") == "production":
                    problem = wrong(
                        "certificate_source",
                        "is development, and pryv_environment is production",
                        f"get a certificate for {domain} and *.{domain} from an authority, and set pem or pkcs12",
                    )
                    return Material([problem])
                return self._development()
            case "pem":
                certificates = self._given("bundle", read_certificates, problems) or []
                key = self._given("private_key", read_key, problems)
            case "pkcs12":
                certificates, key = self._open_pkcs12(problems)
        if not certificates:
            return Material(problems)
        found = examine(
            domain,
            certificates,
            key,
            self._roots(problems),
            datetime.datetime.now(datetime.timezone.utc),
            self.get_option("minimum_days"),
        )
        found.problems = problems + found.problems
        return found

    def _development(self) -> Material:
        """What M(development_certificate) made; it needs no check, since every run makes what is missing or due."""
        folder = Path(self.get_option("ca_directory"))
        if not (self._folder / folder / "platform.pem").is_file():
            return Material(fullchain=NOT_MADE_YET, private_key=NOT_MADE_YET)
        certificate, key, ca = (
            self._read("certificate_ca_directory", folder / name).decode()
            for name in ("platform.pem", "platform.key", "ca.pem")
        )
        return Material(fullchain=certificate, private_key=key, ca=ca)

    def _read(self, variable: str, path: Path) -> bytes:
        try:
            return Path(self._loader.get_real_file(str((self._folder / path).absolute()))).read_bytes()
        except (AnsibleError, OSError) as error:
            raise UnreadableError(wrong(variable, f"{path} cannot be read: {error}", NAME_A_FILE)) from error

    def _given(self, name: str, parse: Callable[[str, bytes, list[Problem]], Any], problems: list[Problem]) -> Any:
        """What is in a variable or in the file that another names."""
        text, file, variable = self.get_option(name), self.get_option(f"{name}_file"), f"certificate_{name}"
        if bool(text) == bool(file):
            state = "set" if text else "empty"
            problems.append(wrong(f"{variable} and {variable}_file", f"are both {state}", "set one of them"))
            return None
        if text:
            return parse(variable, text.encode(), problems)
        try:
            return parse(f"{variable}_file", self._read(f"{variable}_file", Path(file)), problems)
        except UnreadableError as error:
            problems.append(error.problem)
            return None

    def _open_pkcs12(self, problems: list[Problem]) -> tuple[list[x509.Certificate], PrivateKeyTypes | None]:
        variable = "certificate_pkcs12_file"
        file, passphrase = self.get_option("pkcs12_file"), self.get_option("pkcs12_passphrase")
        if not file:
            problems.append(wrong(variable, "is empty", NAME_A_FILE))
            return [], None
        try:
            content = self._read(variable, Path(file))
            key, leaf, others = pkcs12.load_key_and_certificates(content, passphrase.encode() or None)
        except UnreadableError as error:
            problems.append(error.problem)
            return [], None
        except ValueError:
            remedy = "check that it is PKCS#12, and certificate_pkcs12_passphrase"
            problems.append(wrong(variable, f"{file} does not open", remedy))
            return [], None
        if key is None or leaf is None:
            what = "its private key" if leaf else "the certificate of its key"
            problems.append(wrong(variable, f"{file} lacks {what}", "export both into it"))
        return ([leaf] if leaf else []) + others, key

    def _roots(self, problems: list[Problem]) -> list[x509.Certificate]:
        roots = trusted_roots()
        if file := self.get_option("root_file"):
            try:
                content = self._read("certificate_root_file", Path(file))
                roots = read_certificates("certificate_root_file", content, problems) + roots
            except UnreadableError as error:
                problems.append(error.problem)
        return roots
