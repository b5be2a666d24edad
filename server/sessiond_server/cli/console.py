"""`sessiond console`. The console is a separate package that does not import the server."""

from sessiond_console import command


def run(arguments: list[str]) -> int:
    """Serve the web console until SIGTERM or SIGINT.

    Args:
        arguments: the flags.

    Returns:
        The exit code.
    """
    return command.run(arguments)
