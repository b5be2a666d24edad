"""The `sessiond` command."""

import atexit
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

from sessiond_server.core.imports import without_collections

# Python's exit codes after an uncaught exception, and if the output could not be written.
FAILED, OUTPUT_LOST = 1, 120

# By default, gRPC polls the connections that it accepts in threads of its "event engine". Three of
# these threads wake each other for each request, before a fourth one wakes the event loop. This
# setting turns the three off, so that the fourth thread does all the work
# (docs/decisions/058-threads-of-grpc.md).
EXPERIMENTS = "-event_engine_listener"
# The setting was tried only with the versions of gRPC whose numbers begin with this text. With
# other versions, gRPC keeps its default.
TRIED_GRPC = "1.85."


class _Exit:
    """Ends the process in its last exit handler, before Python takes the interpreter apart.

    The threads of obstore and gRPC may still be releasing Python objects at that moment. If they do
    so while the interpreter is taken apart, Python before 3.14 aborts the process.

    Attributes:
        code: the exit code.
    """

    def __init__(self) -> None:
        # Handlers run in the reverse order of their registration, after all other threads of
        # Python have been joined.
        atexit.register(self._leave)
        self.code = FAILED

    def _leave(self) -> NoReturn:
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream:
                    stream.flush()
            except (OSError, ValueError):
                self.code = self.code or OUTPUT_LOST
        os._exit(self.code)


def main() -> None:
    """Run the command with this process's arguments and exit."""
    # Child processes call exec immediately, so they do not need gRPC's fork support, which logs
    # warnings.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    if sys.argv[1:2] == ["console"]:
        # The console needs its own extra, but none of the server's dependencies.
        from sessiond_console.command import run as run_console

        sys.exit(run_console(sys.argv[2:]))
    if sys.argv[1:2] == ["serve"] and _grpc_version().startswith(TRIED_GRPC):
        os.environ.setdefault("GRPC_EXPERIMENTS", EXPERIMENTS)
    ending = _Exit()
    try:
        # A plain install contains only the client, without the server's dependencies.
        with without_collections():
            from sessiond_server import cli

            cli.load(sys.argv[1:])
    except ModuleNotFoundError as e:
        if e.name and e.name.split(".")[0] in ("sessiond", "sessiond_server"):
            raise
        sys.exit(
            f"sessiond: the server is not installed ({e.name} is missing): "
            "pip install 'sessiond[server]'"
        )
    try:
        ending.code = cli.run(sys.argv[1:])
    except SystemExit as e:
        ending.code = e.code if isinstance(e.code, int) else FAILED if e.code else 0
        raise
    sys.exit(ending.code)


def _grpc_version() -> str:
    try:
        return version("grpcio")
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main()
