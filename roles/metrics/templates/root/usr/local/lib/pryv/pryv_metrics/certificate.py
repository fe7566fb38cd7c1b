"""The platform's certificate: as it lies on the host, and as nginx shows it to clients."""

from __future__ import annotations

import base64
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pryv_metrics.problem import CollectorError
from pryv_metrics.samples import Sample

PATIENCE = 5.0


@dataclass(frozen=True)
class Validity:
    """From when and until when a certificate is valid, in seconds since 1970."""

    begin: float
    end: float


def collect(options: Mapping[str, Any]) -> Iterator[Sample]:
    """Tells when the certificate ends, and whether nginx shows the one that lies there.

    Args:
        options: `file`, the chain with the leaf first; `address`, `port` and `name` of a listener that shows it, where
            there is one.

    Raises:
        CollectorError: When there is none, or no certificate can be made of it.
    """
    own = first(Path(options["file"]))
    dates = validity(own)
    yield Sample("pryv_certificate_not_before_seconds", dates.begin, {"source": "file"})
    yield Sample("pryv_certificate_not_after_seconds", dates.end, {"source": "file"})
    if options.get("address"):
        shown = served(options["address"], options["port"], options["name"])
        end = dates.end if shown == own else validity(shown).end
        yield Sample("pryv_certificate_not_after_seconds", end, {"source": "served"})
        yield Sample("pryv_certificate_served_is_file", shown == own)


def first(path: Path) -> bytes:
    """The first certificate in a file.

    Raises:
        CollectorError: When there is none.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise CollectorError(f"{path}: {error.strerror}") from error
    found = re.search(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", text, re.S)
    if found is None:
        raise CollectorError(f"{path} has no certificate")
    return base64.b64decode(found[1])


def served(address: str, port: int, name: str) -> bytes:
    """The certificate that a listener shows.

    Raises:
        CollectorError: When it shows none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Whatever it is, it is to be looked at.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address, port), timeout=PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=name) as connection,
        ):
            shown = connection.getpeercert(binary_form=True)
    except OSError as error:
        raise CollectorError(f"nginx shows no certificate: {error}") from error
    if not shown:
        raise CollectorError("nginx shows no certificate")
    return shown


def validity(certificate: bytes) -> Validity:
    """The dates in a certificate.

    Raises:
        CollectorError: When it has none.
    """
    command = ["openssl", "x509", "-inform", "DER", "-noout", "-startdate", "-enddate"]
    try:
        done = subprocess.run(command, input=certificate, capture_output=True, check=True, timeout=PATIENCE)
        begin, end = (line.partition("=")[2] for line in done.stdout.decode().splitlines())
        return Validity(ssl.cert_time_to_seconds(begin), ssl.cert_time_to_seconds(end))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise CollectorError("a certificate has no dates that can be read") from error
