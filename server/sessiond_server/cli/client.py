"""What the commands that work on a running server have in common: where it is, and what they say when it fails."""

import argparse
import math
import os
import sys
from collections.abc import Callable

from sessiond import Client
from sessiond.errors import SessiondError
from sessiond_server.cli.errors import CommandError


def add_flags(command: argparse.ArgumentParser) -> None:
    """Where the server is."""
    group = command.add_argument_group("the server")
    group.add_argument(
        "--target", metavar="HOST:PORT", help="default: SESSIOND_TARGET, or localhost:50051"
    )
    group.add_argument(
        "--api-key",
        metavar="KEY",
        help="default: SESSIOND_API_KEY, or none. Other users of this machine can see a flag",
    )
    group.add_argument(
        "--tls", action="store_true", help="ask over TLS, with the well-known authorities"
    )
    group.add_argument(
        "--tls-ca", metavar="FILE", help="ask over TLS, with the authority in this PEM file"
    )
    group.add_argument(
        "--timeout",
        type=seconds,
        default=30.0,
        metavar="SECONDS",
        help="of a call with its repetitions. Default: 30",
    )


def run(given: argparse.Namespace, work: Callable[[Client, argparse.Namespace], int]) -> int:
    """Connect, and do it. Answers its exit code. Raises: CommandError."""
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
            # Here, where a reader that has gone can still be told from a fault.
            sys.stdout.flush()
            return code
    except SessiondError as e:
        raise CommandError(" ".join(str(e).split())) from None
    except BrokenPipeError:
        # Whoever reads our output (`| head`) has enough. Python would write what is left of it at exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as e:
        raise CommandError(f"{e.filename}: {e.strerror}" if e.filename else str(e)) from None


def seconds(text: str) -> float:
    """The value of a flag."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


def count(text: str) -> int:
    """The value of a flag."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return int(text)
