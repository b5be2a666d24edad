"""TLS of the connections to models."""

import os
import ssl
from functools import lru_cache


def context() -> ssl.SSLContext:
    """Return the TLS context that all clients of models share.

    It trusts the certificates of the system, or those that SSL_CERT_FILE or SSL_CERT_DIR name.
    Reading them takes 30 ms of CPU time, which a context for each client would repeat.
    """
    return _context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


def read_certificates_again() -> None:
    """Make clients that are created from now on trust the certificates that are there then."""
    _context.cache_clear()


@lru_cache(maxsize=1)
def _context(_file: str | None, _directory: str | None) -> ssl.SSLContext:
    import httpx2

    return httpx2.create_ssl_context()
