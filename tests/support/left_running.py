"""Tests that test_guardian.py runs in a test session of its own."""

import time
from collections.abc import Callable
from pathlib import Path

from .embedded import postmaster
from .processes import ServerProcess


def test_ends(start_server: Callable[..., ServerProcess], data_dir: Path) -> None:
    server = start_server(SESSIOND_DATA_DIR=str(data_dir))
    print(f"\nstarted {data_dir} {server.process.pid} {postmaster(data_dir)}", flush=True)


def test_hangs(start_server: Callable[..., ServerProcess], data_dir: Path) -> None:
    test_ends(start_server, data_dir)
    time.sleep(3600)
