"""Settings of tests that act while a statement waits for a lock."""

import pytest

# For tests that act while a statement waits for a lock. By default, a statement gives up after half
# a second. On a busy machine, even a short action may take longer.
LOCKS_LAST = pytest.mark.parametrize(
    "settings", [{"lock_timeout_s": 0.0}], ids=["locks_last"], indirect=True
)
