"""`sessiond sessions`: works with the sessions of a running server, through the client."""

import argparse
from collections.abc import Callable

from sessiond import Client
from sessiond_server.cli import client
from sessiond_server.cli.sessions import changes, options, reads, transfers

COMMANDS: dict[str, Callable[[Client, argparse.Namespace], int]] = {
    "list": reads.list_sessions,
    "show": reads.show,
    "tail": reads.tail,
    "copy": changes.copy,
    "rewind": changes.rewind,
    "delete": changes.delete,
    "export": transfers.export,
    "import": transfers.import_sessions,
}


def run(arguments: list[str]) -> int:
    """Run one of the subcommands.

    Args:
        arguments: the subcommand and its flags.

    Returns:
        The exit code.

    Raises:
        CommandError: if the subcommand fails.
    """
    given = options.parser().parse_args(arguments)
    return client.run(given, COMMANDS[given.command])
