"""Where the platform's certificate is from."""

from __future__ import annotations

import contextlib
import re
import warnings
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs12

from pryv_platform.certificate.examination import Material, examine
from pryv_platform.inventory import Controller
from pryv_platform.problems import Problem, make_error

NAME_A_FILE = "give the path of a file on this machine, absolute or relative to the inventory"
BLOCK = re.compile(b"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
NOT_MADE_YET = "The first run that is not in check mode makes it.\n"


@dataclass(frozen=True)
class Settings:
    """What the inventory says of the certificate: the variables of role certificate, without its name in front."""

    domain: str
    environment: str
    source: str
    bundle: str = ""
    bundle_file: str = ""
    private_key: str = ""
    private_key_file: str = ""
    pkcs12_file: str = ""
    pkcs12_passphrase: str = ""
    root_file: str = ""
    ca_directory: str = ""
    minimum_days: int = 14


def material(settings: Settings, controller: Controller) -> Material:
    """Read the certificate, check it and put it in order.

    Args:
        settings: Where it is from, and what it is for.
        controller: Whose files these are.

    Returns:
        What hosts need, or all that is wrong; what to trust also with problems, if it can be told.
    """
    # The system's store has certificates that are not quite by the standard, which is nobody's concern here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _Reading(settings, controller).material()


class _Reading:
    """One reading of everything, with all that is wrong on the way."""

    def __init__(self, settings: Settings, controller: Controller) -> None:
        self.given, self.controller, self.problems = settings, controller, list[Problem]()

    def material(self) -> Material:
        given, domain = self.given, self.given.domain
        if given.source == "development":
            if given.environment != "production":
                return self.development()
            remedy = f"get a certificate for {domain} and *.{domain} from an authority, and set pem or pkcs12"
            what = "is development, and pryv_environment is production"
            return Material([make_error("certificate_source", what, remedy)])
        certificates, key = self.pem() if given.source == "pem" else self.pkcs12()
        if not certificates:
            return Material(self.problems)
        found = examine(domain, certificates, key, self.roots(), self.controller.now(), given.minimum_days)
        found.problems = self.problems + found.problems
        return found

    def development(self) -> Material:
        """What M(development_certificate) made; it needs no check, since every run makes what is missing or due."""
        names = (f"{self.given.ca_directory}/{name}" for name in ("platform.pem", "platform.key", "ca.pem"))
        with contextlib.suppress(FileNotFoundError):
            certificate, key, ca = (self.controller.read(name).decode() for name in names)
            return Material(fullchain=certificate, private_key=key, ca=ca)
        return Material(fullchain=NOT_MADE_YET, private_key=NOT_MADE_YET)

    def pem(self) -> tuple[list[x509.Certificate], PrivateKeyTypes | None]:
        """Certificates and key as texts, in variables or in files that these name."""
        variable, content = self.text("bundle", self.given.bundle, self.given.bundle_file)
        certificates = self.certificates(variable, content) if content is not None else []
        variable, content = self.text("private_key", self.given.private_key, self.given.private_key_file)
        return certificates, self.key(variable, content) if content is not None else None

    def text(self, name: str, text: str, file: str) -> tuple[str, bytes | None]:
        """Return the variable that gives one of them, and what it gives; None for nothing that can be read."""
        variable = f"certificate_{name}"
        if bool(text) == bool(file):
            state = "set" if text else "empty"
            self.wrong(f"{variable} and {variable}_file", f"are both {state}", "set one of them")
            return variable, None
        return (variable, text.encode()) if text else (f"{variable}_file", self.file(f"{variable}_file", file))

    def pkcs12(self) -> tuple[list[x509.Certificate], PrivateKeyTypes | None]:
        """What is in the file that has both."""
        variable, file = "certificate_pkcs12_file", self.given.pkcs12_file
        if not file:
            self.wrong(variable, "is empty", NAME_A_FILE)
            return [], None
        if (content := self.file(variable, file)) is None:
            return [], None
        try:
            key, leaf, others = pkcs12.load_key_and_certificates(content, self.given.pkcs12_passphrase.encode() or None)
        except ValueError:
            self.wrong(variable, f"{file} does not open", "check that it is PKCS#12, and certificate_pkcs12_passphrase")
            return [], None
        if key is None or leaf is None:
            what = "its private key" if leaf else "the certificate of its key"
            self.wrong(variable, f"{file} lacks {what}", "export both into it")
        return ([leaf] if leaf else []) + others, key

    def roots(self) -> list[x509.Certificate]:
        """Return what is trusted beside the roots in the bundle."""
        variable, file, roots = "certificate_root_file", self.given.root_file, list[x509.Certificate]()
        if file and (content := self.file(variable, file)) is not None:
            roots = self.certificates(variable, content)
        for block in BLOCK.findall(self.controller.trusted):
            with contextlib.suppress(ValueError):  # stores hold old roots that are not quite by the standard
                roots.append(x509.load_pem_x509_certificate(block))
        return roots

    def certificates(self, variable: str, content: bytes) -> list[x509.Certificate]:
        try:
            return x509.load_pem_x509_certificates(content)
        except ValueError:
            remedy = "give PEM text, -----BEGIN CERTIFICATE----- and so on"
            self.wrong(variable, "has no certificate that can be read", remedy)
            return []

    def key(self, variable: str, content: bytes) -> PrivateKeyTypes | None:
        try:
            return serialization.load_pem_private_key(content, password=None)
        except TypeError:
            remedy = "unlock it (openssl pkey) and encrypt it with ansible-vault instead"
            self.wrong(variable, "is locked with a passphrase", remedy)
        except ValueError:
            remedy = "give PEM text, -----BEGIN PRIVATE KEY----- and so on"
            self.wrong(variable, "is no private key that can be read", remedy)
        return None

    def file(self, variable: str, path: str) -> bytes | None:
        try:
            return self.controller.read(path)
        except OSError as error:
            self.wrong(variable, f"{path} cannot be read: {error}", NAME_A_FILE)
            return None

    def wrong(self, where: str, problem: str, remedy: str) -> None:
        self.problems.append(make_error(where, problem, remedy))
