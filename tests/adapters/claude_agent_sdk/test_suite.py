"""The SDK's own tests of the code that uses a session store, run with our store."""

from pathlib import Path

import pytest

from .. import suites

pytest.importorskip("claude_agent_sdk", reason="needs the SDK: `make adapters-test`")

FILES = (
    "tests/test_session_helpers_store.py",
    "tests/test_session_mutations.py",
    "tests/test_session_resume.py",
    "tests/test_session_import.py",
)

# The tests that only the SDK's own class can pass, with the reason.
_FEW_TICKS = (
    "waits for five or fifty turns of the event loop, in which the store must have listed its "
    "sessions: no store that is reached over a network can"
)
FAILURES = {
    f"{test}[{library}]": reason
    for test, reason in {
        "tests/test_session_helpers_store.py::TestListSessionsFromStore::"
        "test_load_concurrency_is_bounded": _FEW_TICKS,
        "tests/test_session_resume.py::TestTimeoutsAndErrors::"
        "test_cancelled_after_mkdtemp_cleans_temp_dir": _FEW_TICKS,
    }.items()
    for library in ("asyncio", "trio")
}


def test_the_sdks_tests_pass_on_our_store(target: str, tmp_path: Path) -> None:
    outcome = suites.run("sessiond_claude", FILES, target, tmp_path / "report.xml")
    print(f"{len(outcome.passed)} passed on ours, {len(outcome.unused)} without a store")
    assert outcome.failed == FAILURES.keys(), outcome.output[-20_000:]
    assert len(outcome.passed) >= 100
