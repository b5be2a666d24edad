"""Message ids: the caller's names of messages, unique within a session."""

import asyncio
import itertools
import json
import random
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from sessiond import AsyncClient, MessageAlreadyExists, NewMessage
from sessiond.v1.message_pb2 import ROLE_USER, Message, Part, Parts
from sessiond.v1.rewind_pb2 import RewindSessionRequest
from sessiond.v1.session_service_pb2 import ON_DUPLICATE_SKIP, ImportMessagesRequest
from sessiond_server.messages.store import append_statements, message_ids
from sessiond_server.server import Running

from ..support.wire import Wire, error_of, openai
from .helpers import ask

SKIP = {"on_duplicate": ON_DUPLICATE_SKIP}


def named(*ids: str) -> list[Message]:
    """Return a message for each id, with the id as its text; for "", one without id."""
    messages = [openai(message_id or "anonymous") for message_id in ids]
    for message, message_id in zip(messages, ids, strict=True):
        message.message_id = message_id
    return messages


def ids_of(messages: list[Message]) -> list[str]:
    return [message.message_id for message in messages]


async def test_a_message_is_found_by_its_id(wire: Wire) -> None:
    await wire.create("one")
    typed = Message(role=ROLE_USER, parts=Parts(parts=[Part(text="x")]), message_id="b/ü ☕")
    await wire.store("one", *named("a"), typed, *named("", "c"))
    messages = await wire.read("one")
    assert ids_of(messages) == ["a", "b/ü ☕", "", "c"]
    for message in (messages[0], messages[1], messages[3]):
        assert await wire.message("one", message_id=message.message_id) == message
    assert [m.seq for m in await wire.read("one", after_message_id="b/ü ☕")] == [3, 4]
    assert [m.seq for m in await wire.read("one", after_message_id="c")] == []
    descending = await wire.read("one", after_message_id="a", order=2, limit=2)
    assert [m.seq for m in descending] == [4, 3]
    for call in (
        wire.message("one", message_id="no"),
        wire.read("one", after_message_id="no"),
    ):
        error = await error_of(call)
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND")
        assert (error.metadata["message_id"], error.metadata["last_seq"]) == ("no", "4")
    assert list((await error_of(wire.message("one", 1, message_id="a"))).fields) == ["message_id"]
    assert list((await error_of(wire.read("one", after_message_id=""))).fields) == [
        "after_message_id"
    ]


@pytest.mark.parametrize("message_id", ["x" * 257, "a\nb", "\0"])
async def test_an_invalid_id_is_named(wire: Wire, message_id: str) -> None:
    await wire.create("one")
    error = await error_of(wire.store("one", *named("a", message_id)))
    assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["messages[1].message_id"])
    await wire.store("one", *named("x" * 256))


async def test_an_id_is_used_once(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", *named("a", "b"))
    for storing in (
        wire.store("one", *named("c", "", "b", "a")),
        wire.import_("one", [named("c", ""), named("b", "a")]),
    ):
        error = await error_of(storing)
        assert (error.code, error.reason) == (
            grpc.StatusCode.ALREADY_EXISTS,
            "MESSAGE_ALREADY_EXISTS",
        )
        assert list(error.fields) == ["messages[2].message_id"]
        assert (error.metadata["message_id"], error.metadata["seq"]) == ("b", "2")
    for storing in (
        wire.store("one", *named("c", "", "c")),
        wire.import_("one", [named("c"), named("", "c")]),
    ):
        error = await error_of(storing)
        assert error.reason == "MESSAGE_ALREADY_EXISTS"
        assert error.fields == {"messages[2].message_id": "is also the message_id of messages[0]"}
    assert ids_of(await wire.read("one")) == ["a", "b"]
    # Ids are separate for each session, also for a new session with the id of a deleted one.
    await wire.create("two")
    await wire.store("two", *named("a"))
    await wire.delete("one")
    await wire.create("one")
    await wire.store("one", *named("a"))


async def test_what_is_stored_is_skipped_and_counted(wire: Wire) -> None:
    await wire.create("one")
    first = await wire.store("one", *named("a", "b"), **SKIP)
    assert (first.first_seq, first.last_seq, first.skipped_count) == (1, 2, 0)
    second = await wire.store("one", *named("b", "c", "c", "", "a"), **SKIP)
    assert (second.first_seq, second.last_seq, second.skipped_count) == (3, 4, 3)
    third = await wire.import_("one", [named("d", "a"), named("d", "e"), named("b")], **SKIP)
    assert (third.first_seq, third.last_seq, third.skipped_count) == (5, 6, 3)
    before = await wire.get("one")
    for storing in (
        wire.store("one", *named("c", "a"), **SKIP),
        wire.import_("one", [named("c"), named("a")], **SKIP),
    ):
        nothing = await storing
        assert (nothing.first_seq, nothing.last_seq, nothing.skipped_count) == (0, 6, 2)
        assert not nothing.HasField("create_time")
    assert await wire.get("one") == before
    assert ids_of(await wire.read("one")) == ["a", "b", "c", "", "d", "e"]
    assert before.content_bytes == sum(m.content_bytes for m in await wire.read("one"))
    assert before.token_count == sum(m.token_count for m in await wire.read("one"))


async def test_paths_count_the_messages_that_are_left_out(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", *named("a"))
    broken = Message(json="{", message_id="c")
    for storing in (
        wire.store("one", *named("a"), broken, **SKIP),
        wire.store("one", *named("b", "b"), broken, **SKIP),
        wire.import_("one", [named("a"), [broken]], **SKIP),
    ):
        [field] = (await error_of(storing)).fields
        assert field in ("messages[1].format", "messages[2].format")
    [other] = named("a")
    other.json = openai("something else").json
    assert (await wire.store("one", other, *named("b"), **SKIP)).skipped_count == 1
    assert await wire.texts("one") == ["a", "b"]


async def test_summary_and_parents_are_of_what_is_stored(wire: Wire) -> None:
    await wire.create("one")
    [answer] = named("a")
    answer.json = json.dumps({"role": "assistant", "content": "hello"})
    await wire.store("one", answer)
    await wire.store("one", *named("a", "b"), **SKIP)
    assert (await wire.get("one")).summary == "b"
    [child] = named("c")
    child.parent_seq = 1
    assert (await wire.store("one", *named("b"), child, **SKIP)).last_seq == 3
    assert (await wire.read("one"))[2].parent_seq == 1
    # If messages are skipped, the seqs of the others are unknown before they are stored, so they
    # cannot be parents.
    [orphan] = named("d")
    orphan.parent_seq = 4
    error = await error_of(wire.store("one", *named("b", ""), orphan, **SKIP))
    assert error.reason == "PARENT_NOT_FOUND"
    assert (await wire.get("one")).last_seq == 3


async def test_conditions_hold_when_messages_are_skipped(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", *named("a", "b"))
    stored = await wire.store("one", *named("b", "c"), expected_last_seq=2, **SKIP)
    assert (stored.first_seq, stored.skipped_count) == (3, 1)
    for ids in (["b", "d"], ["a", "b"]):
        error = await error_of(wire.store("one", *named(*ids), expected_last_seq=2, **SKIP))
        assert (error.reason, error.metadata["last_seq"]) == ("SEQUENCE_CONFLICT", "3")
    assert (await wire.store("one", *named("a"), expected_last_seq=3, **SKIP)).skipped_count == 1
    await wire.destroy("one")
    assert (await error_of(wire.store("one", *named("a"), **SKIP))).reason == "SESSION_DESTROYED"
    missing = await error_of(wire.store("two", *named("a"), **SKIP))
    assert missing.reason == "SESSION_NOT_FOUND"
    assert list((await error_of(wire.store("one", "x", on_duplicate=7))).fields) == ["on_duplicate"]


async def test_a_repeated_request_answers_what_the_first_did(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", *named("a"))
    for storing in (
        lambda: wire.store("one", *named("a", "b", "b"), request_id="r", **SKIP),
        lambda: wire.import_("one", [named("a"), named("c", "c")], request_id="s", **SKIP),
    ):
        first, again = await storing(), await storing()
        assert first == again
        assert (first.skipped_count, first.last_seq - first.first_seq) == (2, 0)
    for other in (
        wire.store("one", *named("a", "b"), request_id="r", **SKIP),
        wire.store("one", *named("a", "b", "c"), request_id="r"),
    ):
        assert (await error_of(other)).reason in ("REQUEST_ID_REUSED", "MESSAGE_ALREADY_EXISTS")
    # A repetition without SKIP succeeds as well, because the server checks the request_id first.
    stored = await wire.store("one", *named("x"), request_id="t")
    assert await wire.store("one", *named("x"), request_id="t") == stored
    assert ids_of(await wire.read("one")) == ["a", "b", "c", "x"]


async def test_requests_of_a_batch_have_ids(wire: Wire) -> None:
    await wire.create("one")
    await wire.create("two")
    outcomes = await wire.store_batch(
        ask("one", *named("a")),
        ask("one", *named("a", "b"), **SKIP),
        ask("one", *named("b")),
        ask("two", "x"),
        ask("two", *named("a")),
    )
    assert [getattr(end, "reason", "") for end in outcomes] == [
        "",
        "",
        "MESSAGE_ALREADY_EXISTS",
        "",
        "",
    ]
    assert outcomes[1].skipped_count == 1  # type: ignore[union-attr]
    assert ids_of(await wire.read("one")) == ["a", "b"]


async def test_copies_have_the_ids_of_what_they_share(
    wire: Wire, purger: Any, query: Callable[..., Any]
) -> None:
    await wire.create("0")
    for i in range(20):
        await wire.store(str(i), *named(f"m{i}", f"only {i}"))
        await wire.copy(str(i), str(i + 1), up_to_seq=i + 1)
    for flattened in (False, True):
        if flattened:
            await purger.round()
            assert query("SELECT max(short_segments) FROM sessions") == [(16,)]
        for i in range(20):
            assert (await wire.message("20", message_id=f"m{i}")).seq == i + 1
            error = await error_of(wire.store("20", *named("new", f"m{i}")))
            assert (error.reason, error.metadata["seq"]) == ("MESSAGE_ALREADY_EXISTS", str(i + 1))
            error = await error_of(wire.import_("20", [named("new"), named(f"m{i}")]))
            assert (error.reason, error.metadata["seq"]) == ("MESSAGE_ALREADY_EXISTS", str(i + 1))
            error = await error_of(wire.message("20", message_id=f"only {i}"))
            assert error.reason == "MESSAGE_NOT_FOUND"
    stored = await wire.store("20", *named("only 3", "m3", "m4"), **SKIP)
    assert (stored.first_seq, stored.skipped_count) == (21, 2)
    for i in range(21):
        await wire.delete(str(i))
    while query("SELECT count(*) FROM dead_logs") != [(0,)]:
        await purger.round()
    assert query("SELECT count(*) FROM message_ids") == [(0,)]


async def test_overlapping_writers_store_each_message_once(wire: Wire) -> None:
    await wire.create("one")
    batches = [[f"m{i}" for i in range(start, start + 10)] for start in range(0, 400, 9)]
    counts = {"stored": 0, "skipped": 0}

    async def write(order: int) -> None:
        for ids in batches[::order]:
            stored = await wire.store("one", *named(*ids), **SKIP)
            counts["skipped"] += stored.skipped_count
            counts["stored"] += stored.last_seq - stored.first_seq + 1 if stored.first_seq else 0

    async def stream() -> None:
        for pair in itertools.batched(batches, 2) if hasattr(itertools, "batched") else [batches]:
            stored = await wire.import_("one", [named(*ids) for ids in pair], **SKIP)
            counts["skipped"] += stored.skipped_count
            counts["stored"] += stored.last_seq - stored.first_seq + 1 if stored.first_seq else 0

    await asyncio.gather(write(1), write(-1), write(1), stream())
    messages = await wire.read("one")
    assert sorted(ids_of(messages)) == sorted({i for ids in batches for i in ids})
    assert counts["stored"] == len(messages) == (await wire.get("one")).last_seq
    assert counts["skipped"] == 4 * sum(map(len, batches)) - len(messages)


async def test_an_import_that_others_overtake_leaves_out_what_they_stored(wire: Wire) -> None:
    await wire.create("one")
    sent, overtaken = asyncio.Event(), asyncio.Event()

    async def requests() -> Any:

        pieces = [named("a", "b"), [*named("c"), openai("last")]]
        yield ImportMessagesRequest(session_id="one", messages=pieces[0], **SKIP)
        sent.set()
        await overtaken.wait()
        yield ImportMessagesRequest(messages=pieces[1])

    importing = asyncio.ensure_future(wire.sessions.ImportMessages(requests()))
    await sent.wait()
    await wire.store("one", *named("b"))
    overtaken.set()
    stored = await importing
    assert (stored.first_seq, stored.last_seq, stored.skipped_count) == (2, 4, 1)
    assert await wire.texts("one") == ["b", "a", "c", "last"]


async def test_appends_without_ids_write_no_ids(wire: Wire, query: Callable[..., Any]) -> None:
    await wire.create("one")
    await wire.store("one", "a", "b")
    await wire.import_("one", [[openai("c")]])
    assert query("SELECT count(*) FROM message_ids") == [(0,)]


async def test_the_client_stores_and_reads_them(server: Running) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        await check_client(client)


async def check_client(client: AsyncClient) -> None:
    session = await client.create_session("one")
    with_id = NewMessage({"role": "user", "content": "hi"}, message_id="a")
    assert (await session.store_messages([with_id])).skipped == 0
    stored = await session.store_messages(
        [with_id, NewMessage({"role": "user", "content": "ho"}, message_id="b")],
        on_duplicate="skip",
    )
    assert (list(stored), stored.skipped) == ([2], 1)
    none = await session.import_messages([with_id], on_duplicate="skip")
    assert (list(none), len(none), none.last_seq, none.skipped) == ([], 0, 2, 1)
    assert (1 in none, none.create_time) == (False, None)
    await session.store_message({"role": "user", "content": "hu"}, message_id="c")
    with pytest.raises(MessageAlreadyExists) as caught:
        await session.store_messages([with_id])
    assert (caught.value.metadata["seq"], caught.value.field_violations[0].field) == (
        "1",
        "messages[0].message_id",
    )
    assert (await session.get_message(message_id="b")).content == "ho"
    messages = [m async for m in session.get_messages(after_message_id="a")]
    assert [m.message_id for m in messages] == ["b", "c"]
    assert messages[0]["messageId"] == "b"
    # An export keeps the ids, and so does a message that is stored in another session.
    exported = await client.sessions.export("one")
    assert exported["messages"][1]["message_id"] == "b"
    again = await client.sessions.import_session(exported, "two")
    assert again.last_seq == 3
    assert (await client.sessions.get_message("two", message_id="c")).seq == 3
    third = await client.create_session("three")
    await third.store_messages(messages)
    assert (await third.get_message(message_id="c")).seq == 2


async def test_a_rewind_frees_the_ids_that_it_removes(
    wire: Wire, purger: Any, query: Callable[..., Any]
) -> None:
    await wire.create("one")
    await wire.store("one", *named("a", "b", "c", "d"))
    rewound = await wire.sessions.RewindSession(
        RewindSessionRequest(session_id="one", before_message_id="c", messages=named("d", "e"))
    )
    assert (rewound.last_seq, rewound.removed_count) == (4, 2)
    assert ids_of(await wire.read("one")) == ["a", "b", "d", "e"]
    assert (await wire.message("one", message_id="d")).seq == 3
    # Ids of kept messages are still in use, for appends, imports and rewinds.
    for storing in (
        wire.store("one", *named("x", "b")),
        wire.import_("one", [named("x", "b")]),
        wire.sessions.RewindSession(
            RewindSessionRequest(session_id="one", drop_last=1, messages=named("x", "b"))
        ),
    ):
        error = await error_of(storing)
        assert (error.reason, error.metadata["seq"]) == ("MESSAGE_ALREADY_EXISTS", "2")
    stored = await wire.store("one", *named("a", "c", "e"), **SKIP)
    assert (stored.first_seq, stored.skipped_count) == (5, 2)
    error = await error_of(
        wire.sessions.RewindSession(RewindSessionRequest(session_id="one", before_message_id="no"))
    )
    assert (error.reason, list(error.fields)) == ("MESSAGE_NOT_FOUND", ["before_message_id"])
    await purger.round()
    assert sorted(query("SELECT message_id FROM message_ids")) == [
        ("a",),
        ("b",),
        ("c",),
        ("d",),
        ("e",),
    ]


async def test_rewinds_beside_named_appends_store_no_id_twice(wire: Wire) -> None:
    await wire.create("one")

    async def write(writer: int) -> None:
        rng = random.Random(writer)
        for _ in range(40):
            start = rng.randint(0, 60)
            await wire.store("one", *named(*(f"m{i}" for i in range(start, start + 5))), **SKIP)

    async def rewind() -> None:
        for _ in range(40):
            await wire.rewind("one", drop_last=3)

    await asyncio.gather(*map(write, range(4)), rewind())
    ids = ids_of(await wire.read("one"))
    assert len(ids) == len(set(ids))
    for seq, message_id in enumerate(ids, 1):
        assert (await wire.message("one", message_id=message_id)).seq == seq


@pytest.mark.every_postgres
@pytest.mark.parametrize("is_analysed", [False, True])
async def test_ids_are_looked_up_in_their_index(
    wire: Wire, query: Callable[..., Any], is_analysed: bool
) -> None:
    await wire.create("one")
    await wire.import_("one", [named(*(f"m{i}" for i in range(3_000)))])
    await wire.copy("one", "two")
    if is_analysed:
        query("VACUUM ANALYZE")
    [(key, project_id)] = query("SELECT key, project_id FROM sessions WHERE session_id = 'two'")
    statement = message_ids.STORED.replace("%(ids)b", "%(ids)s")
    parameters = {"key": key, "project_id": project_id, "ids": ["m7", "m2000", "no"]}
    plan = "\n".join(line for (line,) in query(f"EXPLAIN ANALYZE {statement}", parameters))
    assert message_ids.CONSTRAINT in plan
    assert "message_ids_pkey" not in plan


def test_appends_without_ids_and_states_are_the_statement_that_they_were() -> None:
    for (single, recorded, is_named, is_stated), text in append_statements.STATEMENTS.items():
        assert ("message_ids" in text) == is_named, (single, recorded)
        assert ("session_state" in text) == is_stated, (single, recorded)
