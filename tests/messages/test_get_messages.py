"""GetMessages and GetMessage: order, windows, filters, tokens, batches."""

import grpc
import pytest

from sessiond.v1.message_pb2 import ROLE_ASSISTANT, ROLE_TOOL, ROLE_USER
from sessiond.v1.session_service_pb2 import (
    MESSAGE_ORDER_DESC,
    MESSAGE_VIEW_BASIC,
    GetMessagesRequest,
)
from sessiond_server.retention.store.purge import PurgeStore
from sessiond_server.server import Running

from ..support.wire import Wire, error_of, openai

DESC = MESSAGE_ORDER_DESC


@pytest.fixture
async def filled(wire: Wire) -> Wire:
    """A session `one` of 3,000 messages of varying size; every third is the assistant's."""
    await wire.create("one")
    messages = [
        openai("x" * 4 * (i % 700), "assistant" if i % 3 == 2 else "user") for i in range(3000)
    ]
    for start in range(0, 3000, 1000):
        await wire.store("one", *messages[start : start + 1000])
    return wire


async def test_an_empty_session_returns_one_empty_batch(wire: Wire) -> None:
    await wire.create("one")
    [batch] = await wire.batches("one")
    assert (len(batch.messages), batch.through_seq) == (0, 0)
    await wire.store("one", "x")
    assert await wire.read("one", resume_token=batch.resume_token) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, range(1, 3001)),
        ({"after_seq": 2990}, range(2991, 3001)),
        ({"after_seq": 10, "through_seq": 20}, range(11, 21)),
        ({"through_seq": 5}, range(1, 6)),
        ({"through_seq": 99_999}, range(1, 3001)),
        ({"after_seq": 3000}, range(0)),
        ({"after_seq": 9_999_999}, range(0)),
        ({"after_seq": 20, "through_seq": 10}, range(0)),
        ({"limit": 7}, range(1, 8)),
        ({"limit": 2000, "after_seq": 5}, range(6, 2006)),
        ({"order": DESC}, range(3000, 0, -1)),
        ({"order": DESC, "limit": 3}, range(3000, 2997, -1)),
        ({"order": DESC, "through_seq": 1500, "after_seq": 100}, range(1500, 100, -1)),
        ({"roles": [ROLE_ASSISTANT]}, range(3, 3001, 3)),
        ({"roles": [ROLE_ASSISTANT], "order": DESC, "limit": 4}, range(3000, 2988, -3)),
        ({"roles": [ROLE_ASSISTANT, ROLE_USER], "limit": 5}, range(1, 6)),
        ({"roles": [ROLE_TOOL]}, range(0)),
        ({"view": MESSAGE_VIEW_BASIC}, range(1, 3001)),
        ({"view": MESSAGE_VIEW_BASIC, "order": DESC, "limit": 10}, range(3000, 2990, -1)),
    ],
)
async def test_windows_orders_and_filters_select_the_messages(
    filled: Wire, fields: dict[str, object], expected: range
) -> None:
    batches = await filled.batches("one", **fields)
    assert [m.seq for batch in batches for m in batch.messages] == list(expected)
    through = min(int(str(fields.get("through_seq") or 3000)), 3000)
    assert {batch.through_seq for batch in batches} == {through}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"order": DESC},
        {"limit": 2500},
        {"limit": 2500, "order": DESC},
        {"roles": [ROLE_ASSISTANT]},
        {"roles": [ROLE_ASSISTANT], "limit": 900, "order": DESC},
        {"after_seq": 17, "through_seq": 2950},
        {"view": MESSAGE_VIEW_BASIC},
    ],
)
async def test_every_batch_can_be_resumed_from(filled: Wire, fields: dict[str, object]) -> None:
    whole = [m.seq for m in await filled.read("one", **fields)]
    batches = await filled.batches("one", **fields)
    assert len(batches) > 1
    seen: list[int] = []
    for batch in batches:
        seen += [m.seq for m in batch.messages]
        rest = {k: v for k, v in fields.items() if k != "after_seq"}
        again = await filled.batches("one", resume_token=batch.resume_token, **rest)
        assert seen + [m.seq for b in again for m in b.messages] == whole
        assert again[0].through_seq == batch.through_seq


async def test_later_messages_are_not_mixed_in(filled: Wire) -> None:
    call = filled.sessions.GetMessages(GetMessagesRequest(session_id="one"))
    batches = aiter(call)
    first = await anext(batches)
    await filled.store("one", "later")
    seqs = [m.seq for m in first.messages] + [
        m.seq async for batch in batches for m in batch.messages
    ]
    assert seqs == list(range(1, 3001))
    assert [m.seq for m in await filled.read("one", after_seq=first.through_seq)] == [3001]


async def test_basic_view_has_everything_but_the_content(filled: Wire) -> None:
    basic = await filled.read("one", view=MESSAGE_VIEW_BASIC)
    full = await filled.read("one")
    for message in full:
        message.ClearField("json")
    assert basic == full


async def test_batches_begin_small_and_stay_below_the_receive_limit(wire: Wire) -> None:
    await wire.create("one")
    for _ in range(6):
        await wire.store(
            "one", *["y" * 100] * 997, "x" * 1_000_000, "x" * 1_000_000, "x" * 1_000_000
        )
    batches = await wire.batches("one")
    assert len(batches[0].messages) <= 16
    assert max(batch.ByteSize() for batch in batches) < 4 * 1024 * 1024
    assert [m.seq for batch in batches for m in batch.messages] == list(range(1, 6001))


async def test_messages_of_similar_sizes_arrive_in_batches_of_a_mebibyte(wire: Wire) -> None:
    await wire.create("one")
    for _ in range(5):
        await wire.store("one", *(["y" * 300, "y" * 700] * 500))
    first, *others = await wire.batches("one")
    assert len(first.messages) == 16
    assert len(others) == 3
    assert all(0.9 < batch.ByteSize() / 2**20 < 1.2 for batch in others[:-1])


async def test_a_larger_message_makes_batches_smaller_instead_of_measuring_each_message(
    wire: Wire,
) -> None:
    await wire.create("one")
    await wire.store("one", *["y" * 500] * 998, "x" * 3_000)
    for _ in range(4):
        await wire.store("one", *["y" * 500] * 1000)
    sizes = [batch.ByteSize() for batch in (await wire.batches("one"))[1:-1]]
    assert all(0.5 < size / 2**20 < 0.9 for size in sizes)


async def test_a_cached_read_equals_the_first_one(filled: Wire) -> None:
    # The second read uses the page cache.
    first = await filled.batches("one")
    assert await filled.batches("one") == first
    await filled.store("one", "more")
    assert [m.seq for m in await filled.read("one")] == list(range(1, 3002))
    assert [m.seq for m in await filled.read("one", through_seq=40)] == list(range(1, 41))


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"after_seq": -1}, "INVALID_FIELD", "after_seq"),
        ({"through_seq": -1}, "INVALID_FIELD", "through_seq"),
        ({"limit": -1}, "INVALID_FIELD", "limit"),
        ({"order": 9}, "INVALID_FIELD", "order"),
        ({"view": 9}, "INVALID_FIELD", "view"),
        ({"roles": [0]}, "INVALID_FIELD", "roles[0]"),
        ({"roles": [1, 42]}, "INVALID_FIELD", "roles[1]"),
        ({"resume_token": "nonsense"}, "INVALID_RESUME_TOKEN", "resume_token"),
        ({"resume_token": "é"}, "INVALID_RESUME_TOKEN", "resume_token"),
        ({"resume_token": "WzEsMl0"}, "INVALID_RESUME_TOKEN", "resume_token"),
    ],
)
async def test_wrong_requests_name_the_field(
    wire: Wire, fields: dict[str, object], reason: str, field: str
) -> None:
    await wire.create("one")
    error = await error_of(wire.read("one", **fields))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert list(error.fields) == [field]


async def test_a_resume_token_belongs_to_its_request(filled: Wire) -> None:
    await filled.create("two")
    token = (await filled.batches("one"))[0].resume_token
    for session_id, fields in (
        ("one", {"order": DESC}),
        ("one", {"roles": [ROLE_USER]}),
        ("one", {"limit": 3}),
        ("two", {}),
    ):
        assert (
            await error_of(filled.read(session_id, resume_token=token, **fields))
        ).reason == "INVALID_RESUME_TOKEN"


async def test_get_message_returns_one_message(filled: Wire) -> None:
    assert (
        await filled.message("one", 1234) == (await filled.read("one", after_seq=1233, limit=1))[0]
    )
    error = await error_of(filled.message("one", 3001))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND")
    assert (error.metadata["seq"], error.metadata["last_seq"]) == ("3001", "3000")
    for seq in (0, -5):
        assert list((await error_of(filled.message("one", seq))).fields) == ["seq"]


async def test_a_slow_reader_holds_no_connection(filled: Wire) -> None:
    calls = [filled.sessions.GetMessages(GetMessagesRequest(session_id="one")) for _ in range(20)]
    for call in calls:
        await call.read()  # one batch, and no more
    # More streams are open than the server has database connections (8). Other calls still get one.
    for i in range(20):
        await filled.create(f"other-{i}")
    for call in calls:
        call.cancel()


@pytest.mark.parametrize("fields", [{}, {"order": DESC}, {"roles": [ROLE_USER]}])
async def test_a_session_that_is_purged_while_it_is_read_is_not_cut_short_silently(
    filled: Wire, server: Running, fields: dict[str, object]
) -> None:
    for _ in range(4):
        await filled.store("one", *["x" * 2000] * 1000)
    batches = aiter(filled.sessions.GetMessages(GetMessagesRequest(session_id="one", **fields)))
    await anext(batches)
    await filled.delete("one")
    store = PurgeStore(server.database)
    while any(await store.purge_logs(10, 5_000)):
        pass

    async def rest() -> None:
        async for _ in batches:
            pass

    assert (await error_of(rest())).reason == "SESSION_NOT_FOUND"
