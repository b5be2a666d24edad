"""Free space on disks."""

import shutil
from pathlib import Path

# PostgreSQL writes its log in files of 16 MiB, and stops if it cannot begin the next one.
FULL_BELOW_BYTES = 16 * 1024 * 1024


def is_full(directory: Path) -> bool:
    """Return whether the disk of a directory is too full for a database to keep running."""
    try:
        return shutil.disk_usage(directory).free < FULL_BELOW_BYTES
    except OSError:
        return False
