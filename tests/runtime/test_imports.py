"""What a command imports before it runs, and how."""

import subprocess
import sys

import pytest

# Finds no package of the server's dependencies, as after an install of the client alone.
PLAIN_INSTALL = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("alembic", "psycopg", "pydantic", "sqlalchemy", "structlog", "uvloop"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from sessiond_server.__main__ import main
main()
"""

COLLECTIONS = """
import gc, sys
import sessiond_server.cli
from sessiond_server.__main__ import main

before = gc.get_stats()[2]["collections"]

def run(arguments):
    full = gc.get_stats()[2]["collections"] - before
    print("sessiond_server.server" in sys.modules, gc.isenabled(), full)
    print(gc.get_freeze_count() > 100_000)
    return 0

sessiond_server.cli.run = run
main()
"""


@pytest.mark.parametrize("command", ["serve", "migrate", "keys", "backup", "verify"])
def test_a_command_of_the_server_names_the_package_that_a_plain_install_lacks(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_INSTALL, command, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("sessiond: the server is not installed (")
    assert done.stderr.endswith(" is missing): pip install 'sessiond[server]'\n")


@pytest.mark.parametrize("command", ["version", "sessions", "chat", "health"])
def test_a_plain_install_runs_the_commands_of_the_client(command: str) -> None:
    subprocess.run([sys.executable, "-c", PLAIN_INSTALL, command, "--help"], check=True)


def test_the_garbage_collector_does_not_look_at_imported_modules() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COLLECTIONS, "serve"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "True", "0", "True"]
