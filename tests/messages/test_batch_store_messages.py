"""BatchStoreMessages: independence, order, conditions, idempotency, limits."""

import asyncio
import json
import random
from dataclasses import replace
from typing import Any

import grpc
import pytest

from sessiond.v1.message_pb2 import FORMAT_OPENAI, ROLE_USER, Message
from sessiond.v1.session_service_pb2 import (
    BatchStoreMessagesRequest,
    StoreMessagesRequest,
    StoreMessagesResponse,
)
from sessiond_server.core.ids import DEFAULT_PROJECT_ID, session_key
from sessiond_server.messages.store.append import Append, AppendStore
from sessiond_server.messages.store.batch_append import BatchAppendStore
from sessiond_server.messages.store.rows import Rows
from sessiond_server.projects.service import Keys
from sessiond_server.projects.store import KeyStore
from sessiond_server.server import Running
from sessiond_server.settings import Settings

from ..support.wire import Wire, WireError, error_of, openai, pictures
from .helpers import Query, ask, seqs
from .test_store_messages import BAD, ODD


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the number of messages of each append that was stored singly."""
    counts: list[int] = []
    store = AppendStore.append

    async def counted(self: AppendStore, append: Append, rows: Rows) -> Any:
        counts.append(len(rows))
        return await store(self, append, rows)

    monkeypatch.setattr(AppendStore, "append", counted)
    return counts


async def test_many_sessions_in_one_statement(wire: Wire, alone: list[int]) -> None:
    for i in range(20):
        await wire.create(f"s{i}")
    for n in range(3):
        ends = await wire.store_batch(
            *[ask(f"s{i}", *["x"] * (i % 3 + 1), request_id=f"{n}") for i in range(20)]
        )
        assert seqs(ends) == [(n * (i % 3 + 1) + 1, (n + 1) * (i % 3 + 1)) for i in range(20)]
    assert not alone
    for i in range(20):
        messages = await wire.read(f"s{i}")
        assert [m.seq for m in messages] == list(range(1, 3 * (i % 3 + 1) + 1))
        assert messages[-1].create_time == ends[i].create_time  # type: ignore[union-attr]


async def test_json_comes_back_byte_for_byte(wire: Wire, alone: list[int]) -> None:
    for i in range(len(ODD)):
        await wire.create(f"s{i}")
    await wire.store_batch(
        *[ask(f"s{i}", Message(format=FORMAT_OPENAI, json=text)) for i, text in enumerate(ODD)]
    )
    assert not alone
    for i, text in enumerate(ODD):
        [message] = await wire.read(f"s{i}")
        assert message.json == text


async def test_requests_for_one_session_are_stored_in_their_order(
    wire: Wire, alone: list[int]
) -> None:
    await wire.create("one")
    await wire.create("two")
    ends = await wire.store_batch(
        ask("one", "a", "b"),
        ask("two", "x"),
        ask("one", "c"),
        ask("one", "d", "e"),
        ask("two", "y"),
    )
    assert seqs(ends) == [(1, 2), (1, 1), (3, 3), (4, 5), (2, 2)]
    assert not alone
    assert [json.loads(m.json)["content"] for m in await wire.read("one")] == list("abcde")


SESSION_COLUMNS = (
    "session_id, last_seq, content_bytes, largest_bytes, first_words, first_words_seq, "
    "token_count, estimated_tokens, has_news,"
    " last_seq = 0 OR active_at > created_at, used_at >= active_at"
)
MESSAGE_COLUMNS = (
    "session_id, seq, role, format, m.content_bytes, body, tokens, total_bytes, total_tokens"
)
REQUEST_COLUMNS = "sessions.session_id, request_id, content_hash, first_seq, r.last_seq"


@pytest.mark.parametrize("seed", range(8))
async def test_a_batch_leaves_what_single_calls_leave(wire: Wire, query: Query, seed: int) -> None:
    """A batch creates the same rows and responses as single calls."""
    choose = random.Random(seed)

    def message(session_id: str) -> Message:
        role = choose.choice(["user", "assistant", "system"])
        made = openai(choose.choice(["", "hello  you", "wörds " * 40]), role)
        if choose.random() < 0.2:
            made.parent_seq = choose.randint(1, 6)
        if choose.random() < 0.1:
            made = Message(role=ROLE_USER)  # without content
        return made

    def plan() -> list[StoreMessagesRequest]:
        requests = []
        for _ in range(choose.randint(1, 12)):
            session_id = choose.choice(["a", "b", "c", "d", "destroyed", "none"])
            request = ask(session_id, *[message(session_id) for _ in range(choose.randint(1, 4))])
            if choose.random() < 0.5:
                request.request_id = (
                    choose.choice("xyz") if choose.random() < 0.3 else str(choose.random())
                )
            if choose.random() < 0.2:
                request.expected_last_seq = choose.randint(0, 6)
            requests.append(request)
        return requests

    async def start() -> None:
        for session_id in ("a", "b", "c", "d", "destroyed"):
            await wire.create(session_id)
        await wire.destroy("destroyed")

    async def single(request: StoreMessagesRequest) -> StoreMessagesResponse | WireError:
        try:
            return await wire.sessions.StoreMessages(request)
        except grpc.aio.AioRpcError:
            return await error_of(wire.sessions.StoreMessages(request))

    def rows() -> list[Any]:
        return [
            query(f"SELECT {SESSION_COLUMNS} FROM sessions ORDER BY 1"),
            query(
                f"SELECT {MESSAGE_COLUMNS} FROM messages AS m JOIN sessions USING (key, log) "
                f"ORDER BY 1, 2"
            ),
            query(
                f"SELECT {REQUEST_COLUMNS} FROM requests AS r JOIN sessions USING (key, log) "
                f"ORDER BY 1, 2"
            ),
        ]

    def comparable(ends: list[StoreMessagesResponse | WireError]) -> list[Any]:
        return [
            replace(end, metadata={k: v for k, v in end.metadata.items() if k != "call_id"})
            if isinstance(end, WireError)
            else (end.first_seq, end.last_seq)
            for end in ends
        ]

    batches = [plan() for _ in range(6)]
    await start()
    together = [comparable(await wire.store_batch(*batch)) for batch in batches]
    left = rows()
    for session_id in ("a", "b", "c", "d", "destroyed"):
        await wire.delete(session_id)
    query("DELETE FROM messages")
    await start()
    assert [
        comparable([await single(request) for request in batch]) for batch in batches
    ] == together
    assert rows() == left


async def test_a_bad_request_does_not_affect_the_others(wire: Wire) -> None:
    await wire.create("one")
    await wire.create("two")
    await wire.create("bad")
    bad = list(BAD)
    ends = await wire.store_batch(
        ask("one", "a"),
        *[ask("bad", "x", BAD[name][0]) for name in bad],
        ask("two", "b"),
        ask("one", "c"),
    )
    assert seqs([ends[0], *ends[-2:]]) == [(1, 1), (1, 1), (2, 2)]
    for name, end in zip(bad, ends[1:-2], strict=True):
        assert isinstance(end, WireError)
        alone = await error_of(wire.store("bad", "x", BAD[name][0]))
        assert end.metadata["call_id"]
        assert replace(end, metadata={}) == replace(alone, metadata={}), name
        assert {**alone.metadata, "call_id": end.metadata["call_id"]} == end.metadata
        assert end.reason == BAD[name][1]


async def test_sessions_that_refuse_appends_do_not_affect_the_others(wire: Wire) -> None:
    for session_id in ("one", "two", "destroyed"):
        await wire.create(session_id)
    await wire.destroy("destroyed")
    ends = await wire.store_batch(
        ask("one", "a"),
        ask("none", "a"),
        ask("destroyed", "a"),
        ask("", "a"),
        ask("two", "a"),
        ask("one"),
    )
    assert seqs(ends) == [
        (1, 1),
        "SESSION_NOT_FOUND",
        "SESSION_DESTROYED",
        "INVALID_FIELD",
        (1, 1),
        "INVALID_FIELD",
    ]
    [_, missing, _, unnamed, _, empty] = ends
    assert isinstance(missing, WireError)
    assert isinstance(unnamed, WireError)
    assert isinstance(empty, WireError)
    assert (missing.code, missing.metadata["session_id"]) == (grpc.StatusCode.NOT_FOUND, "none")
    assert list(unnamed.fields) == ["session_id"]
    assert list(empty.fields) == ["messages"]


async def test_expired_sessions_are_not_found(wire: Wire, query: Query) -> None:
    await wire.create("one")
    await wire.create("old", idle_ttl_s=60)
    query("UPDATE sessions SET used_at = now() - interval '1 h' WHERE session_id = 'old'")
    assert seqs(await wire.store_batch(ask("old", "a"), ask("one", "a"))) == [
        "SESSION_NOT_FOUND",
        (1, 1),
    ]


async def test_expected_last_seq_guards_each_request(wire: Wire) -> None:
    await wire.create("one")
    await wire.create("two")
    ends = await wire.store_batch(
        ask("one", "a", "b", expected_last_seq=0),
        ask("two", "a", expected_last_seq=7),
        ask("one", "c", expected_last_seq=2),
        ask("one", "d", expected_last_seq=2),
        ask("one", "e"),
    )
    assert seqs(ends) == [(1, 2), "SEQUENCE_CONFLICT", (3, 3), "SEQUENCE_CONFLICT", (4, 4)]
    conflict = ends[1]
    assert isinstance(conflict, WireError)
    assert (conflict.metadata["expected_last_seq"], conflict.metadata["last_seq"]) == ("7", "0")


async def test_expected_last_seq_loses_no_update(wire: Wire) -> None:
    await wire.create("one")
    await wire.create("two")
    batches = (
        wire.store_batch(ask("one", f"{i}", expected_last_seq=0), ask("two", f"{i}"))
        for i in range(16)
    )
    ends = await asyncio.gather(*batches)
    assert sum(isinstance(end, StoreMessagesResponse) for end, _ in ends) == 1
    assert (await wire.get("one")).last_seq == 1
    assert (await wire.get("two")).last_seq == 16


class TestRequestIds:
    async def test_a_request_id_twice_in_one_batch_is_one_append(self, wire: Wire) -> None:
        await wire.create("one")
        await wire.create("two")
        ends = await wire.store_batch(
            ask("one", "a", request_id="r"),
            ask("two", "x", request_id="r"),
            ask("one", "a", request_id="r"),
            ask("one", "other", request_id="r"),
            ask("one", "b"),
        )
        assert seqs(ends) == [(1, 1), (1, 1), (1, 1), "REQUEST_ID_REUSED", (2, 2)]
        assert ends[0] == ends[2]

    async def test_a_request_id_in_a_later_batch_is_one_append(self, wire: Wire) -> None:
        for session_id in ("one", "two", "three"):
            await wire.create(session_id)
        first = await wire.store_batch(
            ask("one", "a", "b", request_id="r"), ask("one", "c", request_id="s")
        )
        second = await wire.store_batch(
            ask("two", "x", request_id="r"),
            ask("one", "a", "b", request_id="r"),
            ask("one", "c", request_id="s"),
            ask("three", "y"),
        )
        assert seqs(second) == [(1, 1), (1, 2), (3, 3), (1, 1)]
        assert second[1:3] == first
        assert await wire.store("one", "a", "b", request_id="r") == first[0]
        await wire.destroy("one")
        assert (await wire.store_batch(ask("one", "a", "b", request_id="r")))[0] == first[0]
        assert [m.seq for m in await wire.read("one")] == [1, 2, 3]

    async def test_repetitions_at_once_leave_no_gap(self, wire: Wire) -> None:
        names = [f"s{i}" for i in range(8)]
        for name in names:
            await wire.create(name)

        async def repeat() -> list[StoreMessagesResponse | WireError]:
            return await wire.store_batch(
                *[ask(name, "a", request_id="r") for name in random.sample(names, 8)]
            )

        ends = await asyncio.gather(*(repeat() for _ in range(8)))
        assert {end for batch in map(seqs, ends) for end in batch} == {(1, 1)}
        for name in names:
            assert (await wire.store(name, "b")).first_seq == 2


class TestLimits:
    async def test_the_number_of_requests_is_limited(self, wire: Wire) -> None:
        await wire.create("one")
        for requests in ([], [ask("one", "x")] * 257):
            error = await error_of(
                wire.sessions.BatchStoreMessages(BatchStoreMessagesRequest(requests=requests))
            )
            assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["requests"])
        assert (await wire.get("one")).last_seq == 0
        assert len(await wire.store_batch(*[ask("one", "x")] * 256)) == 256
        assert (await wire.get("one")).last_seq == 256

    async def test_limits_hold_for_each_request_and_not_for_the_batch(self, wire: Wire) -> None:
        """The limits apply to each request; all requests together may exceed them."""
        await wire.create("one")
        await wire.create("two")
        await wire.create("three")
        full = ask("one", *["x"] * 600)
        ends = await wire.store_batch(
            full, ask("two", *["x"] * 600), ask("three", *["x"] * 1001), ask("one", *["x"] * 600)
        )
        assert seqs(ends) == [(1, 600), (1, 600), "BATCH_TOO_LARGE", (601, 1200)]
        large = openai("x" * 6_000_000)
        ends = await wire.store_batch(
            *[ask(name, large, large) for name in ("one", "two", "three")],
            ask("one", "x" * 2**24),
        )
        assert seqs(ends) == [(1201, 1202), (601, 602), (1, 2), "MESSAGE_TOO_LARGE"]

    class TestOperatorLimits:
        @pytest.fixture
        def settings(self, settings: Settings) -> Settings:
            return settings.model_copy(update={"max_batch_messages": 2})

        async def test_the_operators_limit_holds_for_each_request(self, wire: Wire) -> None:
            await wire.create("one")
            await wire.create("two")
            ends = await wire.store_batch(
                ask("one", "a", "b"),
                ask("two", "a", "b"),
                ask("one", "a"),
                ask("two", "a", "b", "c"),
            )
            assert seqs(ends) == [(1, 2), (1, 2), (3, 3), "BATCH_TOO_LARGE"]


async def test_a_missing_asset_fails_its_request_only(wire: Wire) -> None:
    await wire.create("one")
    await wire.create("two")
    missing = pictures("0" * 64)
    ends = await wire.store_batch(
        ask("one", "a"), ask("one", missing), ask("two", "x", missing), ask("one", "b")
    )
    assert seqs(ends) == [(1, 1), "ASSET_NOT_FOUND", "ASSET_NOT_FOUND", (2, 2)]
    assert list(ends[2].fields) == ["messages[1].json.content[0].image_url.url"]  # type: ignore[union-attr]


class TestProjects:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"require_keys": True, "key_cache_s": 0.0})

    async def test_another_projects_session_is_not_found(self, wire: Wire, server: Running) -> None:
        keys = Keys(KeyStore(server.database))
        headers = {
            name: {
                "metadata": (
                    (
                        "authorization",
                        f"Bearer {(await keys.create_key(name, create_project=True)).secret}",
                    ),
                )
            }
            for name in ("blue", "red")
        }
        for name, session_id in (("blue", "one"), ("blue", "two"), ("red", "two")):
            from sessiond.v1.session_pb2 import Session
            from sessiond.v1.session_service_pb2 import CreateSessionRequest

            await wire.sessions.CreateSession(
                CreateSessionRequest(session=Session(session_id=session_id)), **headers[name]
            )
        ends = await wire.store_batch(ask("one", "x"), ask("two", "x"), options=headers["red"])
        assert seqs(ends) == ["SESSION_NOT_FOUND", (1, 1)]
        ends = await wire.store_batch(ask("one", "x"), ask("two", "x"), options=headers["blue"])
        assert seqs(ends) == [(1, 1), (1, 1)]


async def test_an_internal_error_is_reported_for_each_request(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    for session_id in ("one", "two"):
        await wire.create(session_id)
    monkeypatch.setattr(BatchAppendStore, "append", broken)
    monkeypatch.setattr(AppendStore, "append", broken)
    *ends, bad = await wire.store_batch(ask("one", "a"), ask("two", "a"), ask("one"))
    for end in ends:
        assert isinstance(end, WireError)
        assert (end.reason, end.code) == ("INTERNAL", grpc.StatusCode.INTERNAL)
        assert "secret" not in end.text
    assert seqs([bad]) == ["INVALID_FIELD"]


async def test_appends_whose_statement_fails_are_stored_one_by_one(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    for session_id in ("one", "two"):
        await wire.create(session_id)
    monkeypatch.setattr(BatchAppendStore, "append", broken)
    ends = await wire.store_batch(ask("one", "a"), ask("two", "a"), ask("one", "b"))
    assert seqs(ends) == [(1, 1), (1, 1), (2, 2)]


async def test_watchers_are_notified_of_each_session(
    wire: Wire, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wire.create("one")
    await wire.create("two")
    told: list[Any] = []
    monkeypatch.setattr(type(server.watching), "messages_appended", lambda _, key: told.append(key))
    await wire.store_batch(ask("one", "a"), ask("two", "a"), ask("one", "b"), ask("none", "b"))
    assert set(told) == {session_key(DEFAULT_PROJECT_ID, name) for name in ("one", "two")}
