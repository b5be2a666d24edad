"""The server's TLS certificate, which can be replaced while connections are open."""

import ssl
from pathlib import Path

import grpc


class Certificate:
    """A certificate chain and its private key, from two PEM files.

    Args:
        certificate: the file with the chain.
        key: the file with the key.

    Raises:
        OSError: if a file cannot be read, or if the files do not hold a chain and its key.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._first = self._read()
        self._new: grpc.ServerCertificateConfiguration | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials that use the newest certificate for each new connection."""
        return grpc.dynamic_ssl_server_credentials(self._first, self._take_new)  # type: ignore[arg-type]

    def reload(self) -> None:
        """Read the files again. Open connections keep the former certificate.

        Raises:
            OSError: as for the constructor. The former certificate then stays in use.
        """
        self._new = self._read()

    def _take_new(self) -> grpc.ServerCertificateConfiguration | None:
        # Called by gRPC's threads. None = unchanged.
        new, self._new = self._new, None
        return new

    def _read(self) -> grpc.ServerCertificateConfiguration:
        # Check the pair here. gRPC accepts an unusable pair, and then only reports that it cannot
        # bind.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except (ssl.SSLError, ValueError) as e:
            raise OSError(
                f"--tls-cert {self._certificate} and --tls-key {self._key} are not a PEM "
                f"certificate chain and its private key: {e}"
            ) from e
        return grpc.ssl_server_certificate_configuration(
            [(self._key.read_bytes(), self._certificate.read_bytes())]
        )


def _no_password() -> str:
    # Without this function, OpenSSL would prompt for a password on the terminal, and the server
    # would wait.
    raise ValueError("the key is encrypted; decrypt it first")
