"""Connects commands to a running server: flags, and errors as one line."""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable
from typing import Any

from sessiond import Client
from sessiond.errors import SessiondError
from sessiond_server.cli.errors import CommandError


def add_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of the connection to the server."""
    group = command.add_argument_group("the server")
    group.add_argument(
        "--target",
        metavar="HOST:PORT",
        help="address of the server. Default: SESSIOND_TARGET, or localhost:50051",
    )
    group.add_argument(
        "--api-key",
        metavar="KEY",
        help="API key. Default: SESSIOND_API_KEY, or none. Other users of this machine can see "
        "command-line flags",
    )
    group.add_argument(
        "--tls", action="store_true", help="use TLS, and trust the system's authorities"
    )
    group.add_argument(
        "--tls-ca", metavar="FILE", help="use TLS, and trust the authority in this PEM file"
    )
    group.add_argument(
        "--timeout",
        type=seconds,
        default=30.0,
        metavar="SECONDS",
        help="timeout of a call, including its retries. Default: 30",
    )


def run(given: argparse.Namespace, work: Callable[[Client, argparse.Namespace], int]) -> int:
    """Connect to the server and run a command.

    Args:
        given: the parsed command line.
        work: the command, which returns the exit code.

    Returns:
        The exit code.

    Raises:
        CommandError: if a flag is invalid or the command fails.
    """
    try:
        client = Client(
            given.target,
            api_key=given.api_key,
            tls=given.tls_ca or given.tls,
            timeout=given.timeout,
        )
    except ValueError as e:
        raise CommandError(str(e), exit_code=2) from None
    except OSError as e:
        raise CommandError(
            f"--tls-ca: cannot read {given.tls_ca}: {e.strerror}", exit_code=2
        ) from None
    try:
        with client:
            code = work(client, given)
            # Flush inside this block, which handles output that was closed by its reader.
            sys.stdout.flush()
            return code
    except SessiondError as e:
        # The notes name the error behind a timeout.
        told = "; ".join((str(e), *getattr(e, "__notes__", ())))
        raise CommandError(" ".join(told.split())) from None
    except BrokenPipeError:
        # The reader of the output (e.g. `| head`) has stopped reading. Discard the rest; otherwise
        # Python would try to write it at exit, and report an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as e:
        raise CommandError(f"{e.filename}: {e.strerror}" if e.filename else str(e)) from None


def seconds(text: str) -> float:
    """Parse the value of a flag as a number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def json_object(text: str) -> dict[str, Any]:
    """Parse the value of a flag as a JSON object."""
    try:
        value = json.loads(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"is not JSON: {e}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("is not a JSON object")
    return value


def count(text: str) -> int:
    """Parse the value of a flag as a count."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)
