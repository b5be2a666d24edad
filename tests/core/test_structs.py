"""Structs of every request: integers that a double cannot hold are refused, with their path."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import (
    CopySessionRequest,
    ImportSessionRequest,
    ListSessionsRequest,
    SessionFilter,
    UpdateSessionRequest,
)
from sessiond.v1.task_pb2 import Task
from sessiond.v1.task_service_pb2 import CreateTaskRequest, UpdateTaskRequest
from sessiond_server.core.structs import to_dict

from ..support.wire import Wire, error_of, openai


def struct(value: dict[str, Any]) -> Struct:
    made = Struct()
    made.update(value)
    return made


# A client that has only doubles, such as grpcurl, sends the number like this.
BIG = struct({"a": {"b": [0, 9007199254740994]}})


async def imports(wire: Wire) -> Any:
    async def requests() -> Any:
        session = Session(session_id="two")
        yield ImportSessionRequest(session=session, tasks=[Task(task_id="t", data=BIG)])

    return await wire.sessions.ImportSession(requests())


async def stores(wire: Wire) -> Any:
    message = openai("x")
    message.metadata.CopyFrom(BIG)
    return await wire.store("one", message)


PLACES: dict[str, Callable[[Wire], Awaitable[Any]]] = {
    "messages[0].metadata": stores,
    "session.config": lambda wire: wire.create("two", config=BIG),
    "session.metadata": lambda wire: wire.create("two", metadata=BIG),
    "config_patch": lambda wire: wire.sessions.UpdateSession(
        UpdateSessionRequest(session=Session(session_id="one"), config_patch=BIG)
    ),
    "metadata_patch": lambda wire: wire.sessions.UpdateSession(
        UpdateSessionRequest(session=Session(session_id="one"), metadata_patch=BIG)
    ),
    "metadata": lambda wire: wire.sessions.CopySession(
        CopySessionRequest(session_id="one", new_session_id="two", metadata=BIG)
    ),
    "filter.metadata_contains": lambda wire: wire.sessions.ListSessions(
        ListSessionsRequest(filter=SessionFilter(metadata_contains=BIG))
    ),
    "task.data": lambda wire: wire.tasks.CreateTask(
        CreateTaskRequest(session_id="one", task=Task(task_id="t", data=BIG))
    ),
    "data_patch": lambda wire: wire.tasks.UpdateTask(
        UpdateTaskRequest(session_id="one", task=Task(task_id="t"), data_patch=BIG)
    ),
    "tasks[0].data": imports,
}


@pytest.mark.parametrize("field", PLACES)
async def test_a_number_that_was_rounded_on_the_way_is_refused(wire: Wire, field: str) -> None:
    await wire.create("one")
    error = await error_of(PLACES[field](wire))
    assert error.reason == "INVALID_FIELD"
    assert list(error.fields) == [f"{field}.a.b[1]"]
    assert "store it as a string" in error.text


@pytest.mark.parametrize("number", [1 - 2**53, 0.5, 2**53 - 1])
def test_numbers_that_a_double_holds_are_kept(number: float) -> None:
    kept = to_dict(struct({"n": number}), "config")["n"]
    assert (kept, type(kept)) == (number, type(number))


@pytest.mark.parametrize("number", [2**53, -(2**53), -(2**53) - 2, 1e17, 1e300])
def test_numbers_beyond_are_refused_whatever_their_sign(number: float) -> None:
    with pytest.raises(Exception, match="store it as a string"):
        to_dict(struct({"n": number}), "config")
