"""All invalid fields of a request are reported at once."""

import copy
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1.message_pb2 import FORMAT_OPENAI, Message
from sessiond.v1.session_pb2 import Session

from ..support.wire import Wire, end_of, error_in, error_of
from .calls import ADMIN_CALLS, CALLS, call

LONG = "x" * 2000
# A value that is invalid in every request, by the name of the field.
BAD: dict[str, Any] = {
    "session_id": "a\0b",
    "new_session_id": "a\0b",
    "task_id": " x",
    "turn_id": "no uuid",
    "asset_id": "no hash",
    "lease_id": "",
    "key_id": "a\0b",
    "request_id": LONG,
    "queue": "no queue",
    "name": "a\0b",
    "new_name": "a\0b",
    "model": LONG,
    "user": LONG,
    "title": LONG,
    "label": LONG,
    "worker": LONG,
    "media_type": LONG,
    "description": LONG,
    "project": "no project",
    "session_id_prefix": LONG,
    "options_json": "[]",
    "seq": 0,
    "page_size": -1,
    "expected_last_seq": -1,
    "after_seq": -1,
    "through_seq": -1,
    "limit": -1,
    "offset": -1,
    "length": -1,
    "max_sessions": -1,
    "max_messages": -1,
}
# Exceptions: fields that callers do not set, or that have another meaning in this message.
FREE = {
    ("SessionOrigin", "session_id"),
    ("Bookmark", "seq"),
    ("Task", "session_id"),
    # The valid range of this seq depends on the lease.
    ("AcknowledgeMessagesRequest", "through_seq"),
}
# RPCs whose requests have no field that can be invalid by itself.
WITHOUT_FIELDS = {"ListQueues", "BatchStoreMessages"}
NESTED = {"session", "task", "bookmark", "filter", "project"}


def bad_fields(message: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return the path of each field that can be made invalid, and an invalid value."""
    found: list[tuple[str, Any]] = []
    kind = message.DESCRIPTOR.name
    for field in message.DESCRIPTOR.fields:
        path = f"{prefix}{field.name}"
        type_name = field.message_type.full_name if field.message_type else ""
        if field.is_repeated or (kind, field.name) in FREE:
            continue
        if type_name and field.name in NESTED:
            found += bad_fields(getattr(message, field.name), f"{path}.")
        elif type_name == "google.protobuf.Struct":
            found.append((path, {"x": "y" * 70_000}))
        elif type_name == "google.protobuf.Timestamp" and kind == "SessionFilter":
            found.append((path, Timestamp(seconds=10**12)))
        elif field.enum_type and kind not in ("Session", "Task"):
            found.append((path, 77))
        elif field.name in BAD and not type_name:
            found.append((path, BAD[field.name]))
    return found


def spoil(message: Any, path: str, value: Any) -> None:
    """Set the field at a path to a value."""
    *parents, name = path.split(".")
    for parent in parents:
        message = getattr(message, parent)
    match value:
        case dict():
            getattr(message, name).update(value)
        case Timestamp():
            getattr(message, name).CopyFrom(value)
        case _:
            setattr(message, name, value)


def request_for(name: str) -> Any:
    return CALLS[name]("one") if name in CALLS else copy.deepcopy(ADMIN_CALLS[name])


@pytest.mark.parametrize("name", [*CALLS, *ADMIN_CALLS])
async def test_every_invalid_field_is_reported(shared: Wire, name: str) -> None:
    await shared.create("one", get_or_create=True)
    expected: set[str] = set()
    together = request_for(name)
    for path, value in bad_fields(request_for(name)):
        alone = request_for(name)
        spoil(alone, path, value)
        error = await end_of(call(shared, name, alone, timeout=10))
        if error and error.reason in ("INVALID_FIELD", "INVALID_JSON"):
            assert set(error.fields) == {path}, error
            expected.add(path)
            spoil(together, path, value)
    assert expected or name in WITHOUT_FIELDS
    if not expected:
        return
    error = await error_of(call(shared, name, together))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    # A request contains only the last field of a oneof that was set.
    chosen = {field.name for group in together.DESCRIPTOR.oneofs for field in group.fields} - {
        field.name for field, _ in together.ListFields()
    }
    assert set(error.fields) == expected - chosen


async def test_a_required_field_that_is_missing_is_reported_with_the_others(shared: Wire) -> None:
    request = ss.UpdateSessionRequest(session=Session(title=LONG), request_id=LONG)
    error = await error_of(shared.sessions.UpdateSession(request))
    assert set(error.fields) == {"session.session_id", "session.title", "request_id"}
    assert "also " in error.text
    assert all(description in error.text for description in error.fields.values())


def messages() -> list[Message]:
    return [
        Message(format=FORMAT_OPENAI, json='{"role": "user", "content": "fine"}'),
        Message(format=FORMAT_OPENAI, json='{"role": "wizard"}'),
        Message(format=FORMAT_OPENAI, json="{"),
        Message(json="{}"),
    ]


PATHS = {"messages[1].json.role", "messages[2].json", "messages[3].format"}


async def test_every_invalid_message_is_reported(shared: Wire) -> None:
    await shared.create("one", get_or_create=True)
    error = await error_of(shared.store("one", *messages()))
    assert (error.reason, set(error.fields)) == ("UNKNOWN_ROLE", PATHS)
    request = ss.StoreMessagesRequest(session_id="one", messages=messages(), request_id=LONG)
    error = await error_of(shared.sessions.StoreMessages(request))
    assert (error.reason, set(error.fields)) == ("INVALID_FIELD", {"request_id", *PATHS})
    piece = ss.ImportMessagesRequest(session_id="one", messages=messages())
    error = await error_of(shared.sessions.ImportMessages(iter([piece])))
    assert set(error.fields) == PATHS


async def test_every_part_of_a_batch_reports_its_own(shared: Wire) -> None:
    await shared.create("one", get_or_create=True)
    parts = [
        ss.StoreMessagesRequest(session_id="one", messages=messages()),
        ss.StoreMessagesRequest(session_id="one", messages=messages()[:1], request_id=LONG),
    ]
    stream = shared.sessions.BatchStoreMessages(ss.BatchStoreMessagesRequest(requests=parts))
    results = {result.index: result async for answer in stream for result in answer.results}
    assert set(error_in(results[0]).fields) == PATHS
    assert set(error_in(results[1]).fields) == {"request_id"}


async def test_at_most_twenty_fields_are_reported(shared: Wire) -> None:
    await shared.create("one", get_or_create=True)
    bad = [Message(format=FORMAT_OPENAI, json="{") for _ in range(100)]
    error = await error_of(shared.store("one", *bad))
    assert len(error.fields) == 20


async def test_what_depends_on_stored_data_is_reported_alone(shared: Wire) -> None:
    await shared.create("one", get_or_create=True)
    request = ss.CopySessionRequest(session_id="one", up_to_seq=7)
    error = await error_of(shared.sessions.CopySession(request))
    assert error.reason == "MESSAGE_NOT_FOUND"
    assert set(error.fields) <= {"up_to_seq"}
