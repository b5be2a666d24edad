"""How long a call may wait."""

import pytest

from sessiond_server.core.deadlines import begin_call, waits_until
from sessiond_server.core.errors import Fault


@pytest.mark.parametrize("remaining_s", [0.0, -1.0])
async def test_a_call_without_time_left_is_refused(remaining_s: float) -> None:
    with pytest.raises(Fault) as refused:
        begin_call(remaining_s)
    assert refused.value.reason == "DEADLINE_EXCEEDED"
    assert waits_until() is None
