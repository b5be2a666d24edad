"""Create, get, destroy, resume, delete."""

import asyncio
import re
import uuid

import grpc
import pytest

from sessiond.v1.session_pb2 import SESSION_STATUS_ACTIVE, SESSION_STATUS_DESTROYED, Session
from sessiond.v1.session_service_pb2 import CreateSessionRequest

from ..support.wire import Wire, error_of


async def test_a_new_session_has_what_its_creator_chose(wire: Wire) -> None:
    created = await wire.create(
        "support-42",
        model="gpt-5",
        user="ada",
        title="Refund",
        config={"temperature": 0.5},
        metadata={"team": "blue", "n": 3},
    )
    assert created == await wire.get("support-42")
    assert created.status == SESSION_STATUS_ACTIVE
    assert (created.model, created.user, created.title, created.summary) == (
        "gpt-5",
        "ada",
        "Refund",
        "Refund",
    )
    assert created.config["temperature"] == 0.5
    assert created.metadata["team"] == "blue"
    assert created.metadata["n"] == 3
    assert created.last_seq == created.message_count == created.content_bytes == 0
    assert created.never_expires
    assert created.create_time == created.active_time


async def test_the_server_makes_ids_that_sort_by_time(wire: Wire) -> None:
    first = await wire.create()
    await asyncio.sleep(0.002)  # ids begin with the time in milliseconds
    second = await wire.create()
    assert uuid.UUID(first.session_id).version == 7
    assert first.session_id < second.session_id


async def test_an_id_is_used_once(wire: Wire) -> None:
    await wire.create("one")
    error = await error_of(wire.create("one"))
    assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "SESSION_ALREADY_EXISTS")
    assert error.metadata["session_id"] == "one"


async def test_get_or_create_returns_an_existing_session_unchanged(wire: Wire) -> None:
    first = await wire.create("one", model="a", get_or_create=True)
    again = await wire.create("one", model="b", get_or_create=True)
    assert again == first
    assert again.model == "a"


async def test_concurrent_get_or_create_makes_one_session(wire: Wire) -> None:
    sessions = await asyncio.gather(*(wire.create("one", get_or_create=True) for _ in range(20)))
    assert len({session.etag for session in sessions}) == 1


@pytest.mark.parametrize(
    "session_id", ["a/b", "naïve ☕", "x" * 256, "with space", "--", "%s", "'; DROP TABLE sessions"]
)
async def test_ids_are_the_callers_own_strings(wire: Wire, session_id: str) -> None:
    assert (await wire.create(session_id)).session_id == session_id
    assert (await wire.get(session_id)).session_id == session_id
    await wire.delete(session_id)


@pytest.mark.parametrize(
    "session_id", ["x" * 1025, "a\0b", "a\nb", " a", "a ", "\x7f", "a\x85b", "\u00a0a"]
)
async def test_malformed_ids_are_refused(wire: Wire, session_id: str) -> None:
    error = await error_of(wire.create(session_id))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert list(error.fields) == ["session.session_id"]


async def test_destroyed_sessions_are_kept_and_refuse_appends(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", "kept")
    destroyed = await wire.destroy("one")
    assert destroyed.status == SESSION_STATUS_DESTROYED
    assert [s.session_id for s in await wire.list(status=SESSION_STATUS_DESTROYED)] == ["one"]
    assert len(await wire.read("one")) == 1
    error = await error_of(wire.store("one", "refused"))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SESSION_DESTROYED")
    assert "ResumeSession" in error.text
    error = await error_of(wire.import_("one", [[]]))
    assert error.reason == "SESSION_DESTROYED"
    assert (await wire.get("one")).last_seq == 1


async def test_a_resumed_session_is_active_and_unchanged(wire: Wire) -> None:
    await wire.create("one", metadata={"a": 1})
    await wire.store("one", "before")
    await wire.destroy("one")
    resumed = await wire.resume("one")
    assert resumed.status == SESSION_STATUS_ACTIVE
    assert (await wire.store("one", "after")).first_seq == 2
    assert len(await wire.read("one")) == 2


async def test_destroying_or_resuming_twice_is_the_same_as_once(wire: Wire) -> None:
    created = await wire.create("one")
    assert (await wire.resume("one")).etag == created.etag
    once = await wire.destroy("one")
    assert (await wire.destroy("one")).etag == once.etag != created.etag


async def test_deleted_is_gone_for_every_call(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", "gone")
    await wire.delete("one")
    for call in (
        wire.get("one"),
        wire.read("one"),
        wire.store("one", "x"),
        wire.resume("one"),
        wire.destroy("one"),
        wire.delete("one"),
        wire.message("one", 1),
    ):
        error = await error_of(call)
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    assert await wire.list() == []
    await wire.delete("one", allow_missing=True)


async def test_a_recreated_id_has_nothing_of_its_predecessor(wire: Wire) -> None:
    old = await wire.create("one")
    await wire.store("one", "old", "old")
    [*_, last] = await wire.batches("one", limit=1)
    await wire.delete("one")
    new = await wire.create("one")
    assert new.last_seq == 0
    assert new.etag != old.etag
    await wire.store("one", "new")
    assert [m.seq for m in await wire.read("one")] == [1]
    error = await error_of(wire.read("one", limit=1, resume_token=last.resume_token))
    assert error.reason == "INVALID_RESUME_TOKEN"


async def test_delete_with_an_etag_spares_a_changed_session(wire: Wire) -> None:
    created = await wire.create("one")
    await wire.destroy("one")
    error = await error_of(wire.delete("one", etag=created.etag))
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert error.metadata["etag"] == (await wire.get("one")).etag
    await wire.delete("one", etag=error.metadata["etag"])


@pytest.mark.parametrize("field", ["model", "user", "title"])
async def test_long_or_unprintable_texts_are_refused(wire: Wire, field: str) -> None:
    for text in ("x" * 600, "a\0b"):
        error = await error_of(wire.create("one", **{field: text}))
        assert list(error.fields) == [f"session.{field}"]


async def test_summary_is_the_first_words_of_the_user(wire: Wire) -> None:
    from ..support.wire import openai

    await wire.create("one")
    await wire.store(
        "one",
        openai("You are helpful.", "system"),
        openai("  Where is\n my   parcel? " + "x" * 500),
    )
    await wire.store("one", "later words")
    summary = (await wire.get("one")).summary
    assert re.fullmatch(r"Where is my parcel\? x+", summary)
    assert len(summary) == 120


async def test_a_repeated_creation_creates_one_session(wire: Wire) -> None:
    first = await wire.create("", request_id="r", model="m")
    assert (await wire.create("", request_id="r", model="m")) == first
    assert len(await wire.list()) == 1
    error = await error_of(wire.create("", request_id="r", model="other"))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")


async def test_a_repeated_deletion_spares_a_recreated_session(wire: Wire) -> None:
    await wire.create("one")
    await wire.delete("one", request_id="r")
    await wire.delete("one", request_id="r")
    await wire.create("one")
    await wire.delete("one", request_id="r")
    assert (await wire.get("one")).session_id == "one"


async def test_output_only_fields_are_ignored(wire: Wire) -> None:
    session = Session(
        session_id="one",
        last_seq=99,
        message_count=99,
        status=SESSION_STATUS_DESTROYED,
        summary="no",
        etag="x",
    )
    created = await wire.sessions.CreateSession(CreateSessionRequest(session=session))
    assert (created.last_seq, created.message_count, created.status, created.summary) == (
        0,
        0,
        SESSION_STATUS_ACTIVE,
        "",
    )
