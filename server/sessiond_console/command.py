"""`sessiond console`: the command line of the console."""

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

from sessiond.errors import InvalidField
from sessiond_console.flags import UsageError, parser
from sessiond_console.options import DEFAULT_LISTEN, Options, is_loopback

BESIDE_SERVER_NICENESS = 5


def run(arguments: Sequence[str]) -> int:
    """Serve pages until SIGTERM or SIGINT.

    Args:
        arguments: the flags.

    Returns:
        The exit code: 0 for success, 1 for a failure, 2 for incorrect usage.
    """
    given = parser().parse_args(arguments)
    # Imported here, so that --help works without the libraries of the extra.
    try:
        from sessiond_console.app import create_app
        from sessiond_console.serving import Failure, serve
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is missing: pip install 'sessiond[console]'", 1)

    try:
        host, port = address_of(given.listen)
        options = options_of(given)
        _check_exposure(given, host)
        app = create_app(options)
    except (UsageError, InvalidField) as error:
        return _fail(str(error), 2)
    except OSError as error:
        return _fail(f"--tls-ca: cannot read {given.tls_ca}: {error.strerror}", 2)
    try:
        listener = _bind(host, port)
    except OSError as error:
        return _fail(f"cannot listen on {given.listen}: {error.strerror or error}", 1)
    if given.until_eof:
        # On the machine of a server, appends have priority over pages.
        os.nice(BESIDE_SERVER_NICENESS)
    try:
        return serve(
            app,
            listener,
            host=given.listen.rpartition(":")[0],
            cert=given.cert,
            key=given.key,
            until_eof=given.until_eof,
        )
    except Failure as error:
        return _fail(str(error), 2)


def options_of(given: argparse.Namespace) -> Options:
    """Return the options of a parsed command line."""
    return Options(
        target=given.target,
        tls=given.tls_ca or given.tls,
        listen=given.listen,
        hosts=tuple(given.allow_host),
        read_only=given.read_only,
        is_secure=bool(given.cert) or given.behind_https,
        timeout_s=given.timeout,
    )


def address_of(listen: str) -> tuple[str, int]:
    """Return the host and the port of an address.

    Raises:
        UsageError: if the address is not HOST:PORT.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--listen: must be HOST:PORT, for example {DEFAULT_LISTEN}")
    return host.strip("[]"), int(port)


def _check_exposure(given: argparse.Namespace, host: str) -> None:
    if bool(given.cert) != bool(given.key):
        raise UsageError("--cert and --key: give both, or neither")
    if not (is_loopback(host) or given.cert or given.behind_https or given.insecure):
        raise UsageError(
            f"--listen {given.listen}: other machines can reach this address, so API keys and "
            "transcripts would cross the network unencrypted. Give --cert and --key, or "
            "--behind-https behind a proxy with TLS, or --insecure to allow it"
        )


def _bind(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            if host in ("::",):
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
        # From now on, browsers can connect. They wait until the server accepts the connections.
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _fail(text: str, code: int) -> int:
    sys.stderr.write(f"sessiond console: {text}\n")
    return code
