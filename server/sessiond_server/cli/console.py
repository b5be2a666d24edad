"""`sessiond console`. The console is a package of its own, which knows nothing of the server."""

from sessiond_server.cli.errors import CommandError


def run(arguments: list[str]) -> int:
    """Serve the web console until SIGTERM or SIGINT.

    Args:
        arguments: the flags.

    Returns:
        The exit code.

    Raises:
        CommandError: if the extra "console" is not installed.
    """
    try:
        from sessiond_console.command import run as run_console
    except ModuleNotFoundError as error:
        raise CommandError(
            f"the console is not installed ({error.name} is missing): "
            "pip install 'sessiond[console]'"
        ) from None
    return run_console(arguments)
