"""The SDK's own tests of the code that uses a session, run with our session."""

from pathlib import Path

import pytest

from .. import suites
from .failures import FAILURES

pytest.importorskip("agents", reason="needs the SDK: `make adapters-test`")

FILES = (
    "tests/memory/test_session.py",
    "tests/memory/test_session_limit.py",
    "tests/memory/test_openai_responses_compaction_session.py",
    "tests/memory/test_compaction_model_visibility.py",
    "tests/extensions/memory/test_encrypt_session.py",
    "tests/extensions/memory/test_sqlalchemy_session.py",
    "tests/deferred_session_writes",
    "tests/test_agent_runner.py",
    "tests/test_agent_runner_streamed.py",
    "tests/test_run_impl_resume_paths.py",
    "tests/test_tool_batch_failure_history.py",
    "tests/test_max_turns.py",
    "tests/test_soft_cancel.py",
    "tests/test_native_tool_failure_history.py",
    "tests/test_tool_failure_boundaries.py",
    "tests/test_run_state_pending_input.py",
    "tests/test_hitl_session_scenario.py",
)
# This number of tests passes on a class that keeps items in memory and has the four public methods.
LEAST = 842


@pytest.mark.timeout(1_800)
def test_the_sdks_tests_pass_on_our_session(target: str, tmp_path: Path) -> None:
    outcome = suites.run("sessiond_openai", FILES, target, tmp_path / "report.xml")
    print(f"{len(outcome.passed)} passed on ours, {len(outcome.unused)} without a session")
    expected = {
        f"{file}::{test}"
        for by_file in FAILURES.values()
        for file, tests in by_file.items()
        for test in tests
    }
    assert outcome.failed == expected, outcome.output[-20_000:]
    assert len(outcome.passed) >= LEAST
