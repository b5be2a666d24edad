"""A test session leaves no process running, however it ends."""

import subprocess
import sys
from pathlib import Path

import pytest

from .embedded import is_alive
from .guardian import MARK, Guardian
from .waiting import until

ROOT = Path(__file__).parents[2]


def start_session(test: str) -> "subprocess.Popen[str]":
    """Start pytest with a test of left_running.py."""
    path = f"{Path(__file__).with_name('left_running.py')}::{test}"
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:xdist", path],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def started_by(session: "subprocess.Popen[str]") -> tuple[Path, list[int]]:
    """Wait until the test has started a server; return its directory and its processes."""
    assert session.stdout
    printed = ""
    while not (line := session.stdout.readline()).startswith("started "):
        assert line, printed
        printed += line
    _, directory, *pids = line.split()
    return Path(directory), list(map(int, pids))


def test_a_session_that_ends_leaves_no_process_whatever_the_order_of_fixtures() -> None:
    with start_session("test_ends") as session:
        directory, pids = started_by(session)
        printed = session.communicate()[0]
    assert session.returncode == 0, printed
    assert not [pid for pid in pids if is_alive(pid)]
    assert not directory.exists()


def test_a_killed_session_leaves_no_process() -> None:
    with start_session("test_hangs") as session:
        directory, pids = started_by(session)
        session.kill()
    until(lambda: not any(map(is_alive, pids)), "the processes of a killed session ended")
    until(lambda: not directory.exists(), "the directory was removed")


def test_processes_that_were_left_are_ended_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, "")
    guardian = Guardian(grace_s=0)
    with subprocess.Popen(["sleep", "3600"]) as left:
        assert guardian.finish() == f"{left.pid} ['sleep', '3600']\n"
        assert left.wait() < 0
