"""The server's output on stderr."""

import json
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


def test_the_level_of_loggers_in_use_can_change() -> None:
    program = """
import structlog
from sessiond_server import logs
logs.configure("json", "info")
log = structlog.get_logger()
for level in ("info", "debug", "error", "warning"):
    logs.set_level(level)
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)(f"{name}_at_{level}")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, check=True
    )
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == [
        *("info_at_info", "warning_at_info", "error_at_info"),
        *("debug_at_debug", "info_at_debug", "warning_at_debug", "error_at_debug"),
        "error_at_error",
        *("warning_at_warning", "error_at_warning"),
    ]
