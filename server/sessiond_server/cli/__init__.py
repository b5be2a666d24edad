"""The command line, with one module per command."""

import io
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from sessiond_server.cli.errors import CommandError

# A command's module is imported when the command runs. The import of all modules takes more than a
# second of CPU time, which would delay every command.
COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("serve:run", "serve sessions over gRPC"),
    "migrate": ("migrate:run", "migrate the database's schema to this version"),
    "keys": ("keys:run", "create, list and revoke API keys"),
    "projects": ("projects:run", "list and delete projects"),
    "sessions": (
        "sessions:run",
        "list, show, copy, export, import and delete the sessions of a server",
    ),
    "chat": ("chat:run", "talk to a model in a session of a server"),
    "console": ("console:run", "serve the web console: pages to read and change sessions"),
    "health": ("health:run", "check whether a server is serving (exit code 0 or 1)"),
    "backup": ("backup:run", "back up the database and the assets into a directory"),
    "restore": ("backup:restore", "restore a backup into an empty database"),
    "config": ("config:run", "check the settings"),
    "verify": ("verify:run", "check that everything stored is whole"),
    "version": ("version:run", "print the version"),
}

USAGE = "usage: sessiond COMMAND [OPTIONS]\n\n" + "".join(
    f"  {name:10} {what}\n" for name, (_, what) in COMMANDS.items()
)
USAGE += (
    "\n`sessiond COMMAND --help` describes a command. "
    "Every setting is a flag, a SESSIOND_* variable and a key of --config FILE.\n"
)


def load(arguments: Sequence[str]) -> None:
    """Import the module of the command that the arguments name, if there is one.

    Raises:
        ModuleNotFoundError: if a dependency of the command is not installed.
    """
    if arguments and arguments[0] in COMMANDS:
        _function(COMMANDS[arguments[0]][0])


def run(arguments: Sequence[str]) -> int:
    """Run a command.

    Args:
        arguments: the command's name, followed by its arguments.

    Returns:
        The exit code: 0 for success, 1 for a failure, 2 for incorrect usage.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # The encoding of the locale may lack characters of the sessions' texts.
            stream.reconfigure(errors="backslashreplace")
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        return _function("version:run")([])
    if arguments[0] not in COMMANDS:
        sys.stderr.write(f"sessiond: there is no command {arguments[0]!r}\n\n{USAGE}")
        return 2
    address, _ = COMMANDS[arguments[0]]
    try:
        return _function(address)(list(arguments[1:]))
    except KeyboardInterrupt:
        return 130
    except Exception as e:
        if (exit_code := _exit_code(e)) is None:
            raise
        sys.stderr.write(f"sessiond {arguments[0]}: {e}\n")
        return exit_code


def _function(address: str) -> Callable[[list[str]], int]:
    """Import the function of a command.

    Args:
        address: the name of a module of this package and the name of its function, with a colon
            between them.

    Returns:
        The function. It takes the command's arguments and returns the exit code.
    """
    module, function = address.split(":")
    found: Callable[[list[str]], int] = getattr(
        import_module(f"sessiond_server.cli.{module}"), function
    )
    return found


def _exit_code(error: Exception) -> int | None:
    """Return the exit code of an error that a command reports in one line, None for a bug."""
    if isinstance(error, CommandError):
        return error.exit_code
    # Imported here because a command without a database does not need the package.
    from sessiond_server.embedded import EmbeddedError

    return 1 if isinstance(error, EmbeddedError) else None
