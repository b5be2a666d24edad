"""The lines that calls leave in the log."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from sessiond_server.rpc import handlers
from sessiond_server.server import Running

from ..support.wire import Wire, end_of
from .calls import CALLS, call

# RPCs whose requests name no session, or several.
OF_NO_SESSION = {
    name
    for name in CALLS
    if not {"session_id", "session"} & set(CALLS[name]("x").DESCRIPTOR.fields_by_name)
}


@pytest.fixture
def logged(server: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The events of calls, as they are logged at debug."""
    wrapper = structlog.make_filtering_bound_logger(logging.DEBUG)
    log = structlog.get_logger("sessiond.calls", wrapper_class=wrapper)
    monkeypatch.setattr(handlers, "log", log)
    with capture_logs() as lines:
        yield lines


@pytest.mark.parametrize("name", [name for name in CALLS if name != "Watch"])
async def test_lines_of_a_call_name_its_session(wire: Wire, logged: list[Any], name: str) -> None:
    await end_of(call(wire, name, CALLS[name]("one")))
    lines = [line for line in logged if line.get("method") == name]
    assert lines
    for line in lines:
        is_of_a_part = name == "BatchStoreMessages" and line["event"] == "call_refused"
        expected = None if name in OF_NO_SESSION and not is_of_a_part else "one"
        assert line["session_id"] == expected, line
