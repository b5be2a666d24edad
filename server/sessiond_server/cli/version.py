"""`sessiond version`."""

import sys

from sessiond import __version__


def run(arguments: list[str]) -> int:
    """Print the version of sessiond, and return the exit code."""
    sys.stdout.write(f"sessiond {__version__}\n")
    return 0
