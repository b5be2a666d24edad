"""The process of a command ends with its exit code, whatever libraries' threads do meanwhile."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# A program that reads objects as `sessiond verify` does, and ends the command with the exit code 3.
# The threads of obstore release their references a little after a read has returned.
READS = """
import asyncio, sys
import obstore
import sessiond_server.cli
from obstore.store import LocalStore
from sessiond_server.__main__ import main

async def read():
    store = LocalStore(sys.argv[1])
    for _ in range(3):
        await obstore.get_range_async(store, "object", start=0, end=1_000_000)

def run(arguments):
    asyncio.run(read())
    sys.stdout.write("done")
    return 3

sessiond_server.cli.run = run
main()
"""
# The number of processes. Without the exit handler, about every third of them aborts.
PROCESSES = 12


def ended(program: str, *arguments: str) -> tuple[int, str]:
    """Run a program; return its exit code and its output."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    return done.returncode, done.stdout


def test_a_command_that_read_objects_is_not_aborted(tmp_path: Path) -> None:
    (tmp_path / "object").write_bytes(bytes(1_000_000))
    for _ in range(PROCESSES):
        assert ended(READS, str(tmp_path)) == (3, "done")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("return 0", 0),
        ("sys.exit(2)", 2),
        ("sys.exit()", 0),
        ("sys.exit('text')", 1),
        ("raise ValueError", 1),
        ("atexit.register(print, 'last'); return 4", 4),
    ],
)
def test_each_way_to_end_has_its_exit_code(body: str, code: int) -> None:
    program = (
        "import atexit, sys, sessiond_server.cli\n"
        "from sessiond_server.__main__ import main\n"
        f"def run(arguments):\n    print('text')\n    {body}\n"
        "sessiond_server.cli.run = run\n"
        "main()\n"
    )
    output = "text\nlast\n" if "last" in body else "text\n"
    assert ended(program) == (code, output)


def test_output_that_cannot_be_written_is_no_success() -> None:
    program = (
        "import os, sys, sessiond_server.cli\n"
        "from sessiond_server.__main__ import main\n"
        "def run(arguments):\n    sys.stdout.write('x')\n    os.close(1)\n    return 0\n"
        "sessiond_server.cli.run = run\n"
        "main()\n"
    )
    assert ended(program) == (120, "")
