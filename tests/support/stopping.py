"""Stops the processes of a PostgreSQL for a while, as if its machine or disk hung."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from .embedded import postmaster


@contextmanager
def stopped(data_dir: Path) -> Iterator[None]:
    """Stop the embedded PostgreSQL in a directory, with all its backends, during the block."""
    # Stop the postmaster first, so that it starts no further backend.
    main = psutil.Process(postmaster(data_dir))
    os.kill(main.pid, signal.SIGSTOP)
    backends = main.children()
    try:
        for backend in backends:
            with suppress(ProcessLookupError):
                os.kill(backend.pid, signal.SIGSTOP)
        yield
    finally:
        for process in (*backends, main):
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
