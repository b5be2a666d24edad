"""The `sessiond` command."""

import os
import sys


def main() -> None:
    """Run the command with this process's arguments, and exit."""
    # Our children only exec; gRPC need not prepare for more, nor complain that it cannot.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        # The plain install is the client; the server's dependencies may not be there.
        from sessiond_server.cli import run
    except ModuleNotFoundError as e:
        if e.name and e.name.split(".")[0] in ("sessiond", "sessiond_server"):
            raise
        sys.exit(
            f"sessiond: the server is not installed ({e.name} is missing): pip install 'sessiond[server]'"
        )
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
