"""The threads of gRPC that read connections: see docs/decisions/058-threads-of-grpc.md."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from sessiond_server.__main__ import EXPERIMENTS, TRIED_GRPC

PROGRAM = """
import os, sys, sessiond_server.cli
from sessiond_server.__main__ import main
def run(arguments):
    import grpc
    grpc.insecure_channel("127.0.0.1:1").close()
    print(os.environ.get("GRPC_EXPERIMENTS"))
    return 0
sessiond_server.cli.run = run
main()
"""


def printed(command: str, **environment: str) -> tuple[str, str]:
    """Return what a command of `sessiond` that uses gRPC prints to stdout and stderr."""
    inherited = {name: text for name, text in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, command],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip(), done.stderr


def test_a_server_reads_its_connections_without_the_event_engine() -> None:
    experiments, errors = printed("serve")
    is_tried = version("grpcio").startswith(TRIED_GRPC)
    assert experiments == (EXPERIMENTS if is_tried else "None")
    assert "Unknown experiment" not in errors


@pytest.mark.parametrize(
    ("command", "environment", "experiments"),
    [("sessions", {}, "None"), ("serve", {"GRPC_EXPERIMENTS": "tcp_rcv_lowat"}, "tcp_rcv_lowat")],
)
def test_other_commands_and_operators_decide_for_themselves(
    command: str, environment: dict[str, str], experiments: str
) -> None:
    assert printed(command, **environment)[0] == experiments


def test_the_pinned_version_of_grpc_was_tried() -> None:
    """Before raising TRIED_GRPC, run benchmarks/append_cpu.py and tests/acceptance/test_floods.py.

    If GRPC_EXPERIMENTS does not make the new version faster, do not set it any more.
    """
    pins = (Path(__file__).parents[2] / "constraints.txt").read_text()
    assert f"\ngrpcio=={TRIED_GRPC}" in pins
