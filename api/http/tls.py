"""TLS for the HTTP server."""

import ssl
from pathlib import Path
from typing import Final

from callboard.jobs.errors import InvalidInput

#: How long a handshake may take, in seconds.
HANDSHAKE_SECONDS: Final = 10.0
#: How long a closed connection may take until its client has read everything, in seconds. uvloop does not
#: tell how much is unsent.
SHUTDOWN_SECONDS: Final = 60.0


def tls_context(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return a context for TLS 1.2 and later, or None if no certificate is set.

    cert: a PEM file with the certificate and its chain
    key:  a PEM file with the private key; None: it is in the first file

    Raises InvalidInput if a file cannot be used.
    """
    if cert is None:
        if key is not None:
            raise _unusable("CALLBOARD_TLS_KEY is set, but CALLBOARD_TLS_CERT is not")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password callback, OpenSSL would ask for the password of a key on the terminal.
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:
        files = " and ".join(str(path) for path in (cert, key) if path is not None)
        raise _unusable(
            f"{files} cannot be used for TLS: {getattr(error, 'strerror', None) or error}"
            " (CALLBOARD_TLS_CERT and CALLBOARD_TLS_KEY name PEM files without a password)"
        ) from None
    return context


def _no_password() -> str:
    raise ValueError("the private key has a password")


def _unusable(message: str) -> InvalidInput:
    return InvalidInput(message, fields={"CALLBOARD_TLS_CERT": "no usable certificate"})
