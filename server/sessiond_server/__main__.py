"""The `sessiond` command."""

import os
import sys


def main() -> None:
    """Run the command with this process's arguments and exit."""
    # Child processes call exec immediately, so they do not need gRPC's fork support, which logs
    # warnings.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    if sys.argv[1:2] == ["console"]:
        # The console needs its own extra, but none of the server's dependencies.
        from sessiond_console.command import run as run_console

        sys.exit(run_console(sys.argv[2:]))
    try:
        # A plain install contains only the client, without the server's dependencies.
        from sessiond_server.cli import run
    except ModuleNotFoundError as e:
        if e.name and e.name.split(".")[0] in ("sessiond", "sessiond_server"):
            raise
        sys.exit(
            f"sessiond: the server is not installed ({e.name} is missing): "
            "pip install 'sessiond[server]'"
        )
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
