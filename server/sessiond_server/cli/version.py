"""`sessiond version`."""

import sys
from importlib.metadata import version


def run(arguments: list[str]) -> int:
    """Print the version of sessiond."""
    sys.stdout.write(f"sessiond {version('sessiond')}\n")
    return 0
