"""`python -m sessiond_console` is `sessiond console`."""

import sys

from sessiond_console.command import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
