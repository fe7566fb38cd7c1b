"""HTTPS to an address, under a name that the system's resolver need not know."""

from __future__ import annotations

import http.client
import socket
import ssl

HTTPS = 443


def trust(authority: str | None = None) -> ssl.SSLContext:
    """Return what a client trusts.

    Args:
        authority: File of the certificates to trust; None for those of the system.

    Raises:
        OSError: The file cannot be read.
    """
    context = ssl.create_default_context(cafile=authority)
    # Python 3.13 refuses authorities that all other clients accept, such as one without the key usage extension.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


class Connection(http.client.HTTPSConnection):
    """A connection to one host.

    Args:
        address: Where it is.
        name: Its name in TLS and in the Host header, which its certificate must carry.
        context: What to trust.
        timeout: For connecting and for each answer, in seconds.
    """

    def __init__(self, address: str, name: str, context: ssl.SSLContext, timeout: float) -> None:
        """Note where to connect once there is a request."""
        super().__init__(name, HTTPS, timeout=timeout, context=context)
        self._target, self._tls = (address, HTTPS), context

    def connect(self) -> None:
        """Connect to the address, whatever the name resolves to."""
        plain = socket.create_connection(self._target, timeout=self.timeout)
        try:
            self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)
        except OSError:
            plain.close()
            raise

    def status(self, path: str) -> int:
        """Return the status of a GET request, and close the connection.

        Raises:
            OSError: There is no connection, or no answer in time.
            http.client.HTTPException: The answer is not HTTP.
        """
        try:
            self.request("GET", path)
            return self.getresponse().status
        finally:
            self.close()
