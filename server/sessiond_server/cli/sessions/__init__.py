"""`sessiond sessions list|show|copy|export|import|delete|tail`: works on a running server, through the client."""

import argparse
import os
import sys
from collections.abc import Callable

from sessiond import Client
from sessiond.errors import SessiondError
from sessiond_server.cli.faults import CommandError
from sessiond_server.cli.sessions import changes, options, reads, transfers

COMMANDS: dict[str, Callable[[Client, argparse.Namespace], int]] = {
    "list": reads.list_sessions,
    "show": reads.show,
    "tail": reads.tail,
    "copy": changes.copy,
    "delete": changes.delete,
    "export": transfers.export,
    "import": transfers.import_session,
}


def run(arguments: list[str]) -> int:
    """Run one of the commands. Raises: CommandError."""
    given = options.parser().parse_args(arguments)
    try:
        client = Client(given.target, api_key=given.api_key, tls=given.tls_ca or given.tls, timeout=given.timeout)
    except ValueError as e:
        raise CommandError(str(e), exit_code=2) from None
    except OSError as e:
        raise CommandError(f"--tls-ca: cannot read {given.tls_ca}: {e.strerror}", exit_code=2) from None
    try:
        with client:
            code = COMMANDS[given.command](client, given)
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
