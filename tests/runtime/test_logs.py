"""What the server writes to stderr."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys, structlog
from sessiond_server import logs
logs.configure(sys.argv[1], "info")
structlog.get_logger().warning("purge_retrying", error="lost")
"""


@pytest.mark.parametrize("log_format", ["auto", "console", "json"])
def test_a_log_that_is_redirected_has_no_colours(log_format: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, log_format], stderr=subprocess.PIPE, text=True, check=True
    )
    assert "purge_retrying" in done.stderr
    assert "\x1b" not in done.stderr
