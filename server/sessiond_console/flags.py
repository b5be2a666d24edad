"""The flags of `sessiond console`."""

import argparse
import math
from pathlib import Path

from sessiond_console.options import DEFAULT_LISTEN


class UsageError(Exception):
    """A flag has an unusable value. The text names the flag and says what to do."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="sessiond console",
        description="Serve the web console: pages to read, follow and change sessions.",
        allow_abbrev=False,
    )
    server = made.add_argument_group("the server")
    server.add_argument(
        "--target",
        metavar="HOST:PORT",
        help="address of the server. Default: SESSIOND_TARGET, or localhost:50051",
    )
    server.add_argument(
        "--tls", action="store_true", help="use TLS, and trust the system's authorities"
    )
    server.add_argument(
        "--tls-ca",
        type=Path,
        metavar="FILE",
        help="use TLS, and trust the authority in this PEM file",
    )
    server.add_argument(
        "--timeout",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="timeout of a call, including its retries. Default: 30",
    )
    pages = made.add_argument_group("the pages")
    pages.add_argument(
        "--listen",
        default=DEFAULT_LISTEN,
        metavar="HOST:PORT",
        help=f"address to serve pages on; port 0 picks a free port. Default: {DEFAULT_LISTEN}",
    )
    pages.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another host name under which browsers reach the console, besides localhost and "
        "the host of --listen; requests for any other host are refused. May be repeated",
    )
    pages.add_argument("--read-only", action="store_true", help="refuse all changes")
    pages.add_argument("--cert", type=Path, metavar="FILE", help="PEM file: serve HTTPS with it")
    pages.add_argument("--key", type=Path, metavar="FILE", help="PEM file with the private key")
    pages.add_argument(
        "--behind-https",
        action="store_true",
        help="set this behind a proxy with TLS; cookies are then sent over HTTPS only",
    )
    pages.add_argument(
        "--insecure",
        action="store_true",
        help="allow an address that other machines can reach without TLS",
    )
    pages.add_argument("--until-eof", action="store_true", help=argparse.SUPPRESS)
    return made


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value
