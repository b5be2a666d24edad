"""Strands' own tests of a session manager, run with our repository."""

from pathlib import Path

import pytest

from .. import suites

pytest.importorskip("strands", reason="needs the framework: `make adapters-test`")

FILE = "tests/strands/session/test_repository_session_manager.py"
# The number of tests in the file. All pass.
TESTS = 51
# Tests that call no repository: they repair a list of messages, or use another store.
WITHOUT_REPOSITORY = {"test_restore_after_redacting_alias_records_returns_redacted_conversation"}


def test_the_session_managers_own_tests_pass_on_our_repository(target: str, tmp_path: Path) -> None:
    outcome = suites.run(
        "sessiond_strands", [FILE], target, tmp_path / "report.xml", "-o", "addopts="
    )
    assert not outcome.failed, outcome.output
    assert not outcome.skipped
    assert {name.rpartition("::")[2] for name in outcome.unused} <= WITHOUT_REPOSITORY
    assert len(outcome.passed) + len(outcome.unused) == TESTS
