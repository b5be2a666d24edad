"""BatchStoreMessages: each request as StoreMessages would do it, whatever becomes of the others."""

import asyncio
import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc
import psycopg
import pytest

from sessiond import AsyncClient
from sessiond.errors import SessiondError
from sessiond.v1.message_pb2 import FORMAT_OPENAI, ROLE_USER, Message
from sessiond.v1.session_service_pb2 import (
    BatchStoreMessagesRequest,
    StoreMessagesRequest,
    StoreMessagesResponse,
)
from sessiond_server.core.ids import DEFAULT_PROJECT_ID, session_key
from sessiond_server.messages.batch_append import BatchAppender
from sessiond_server.messages.store.append import Append, AppendStore
from sessiond_server.messages.store.batch_append import STATEMENTS, BatchAppendStore, parameters_of
from sessiond_server.messages.store.rows import Rows, Totals
from sessiond_server.projects.service import Keys
from sessiond_server.projects.store import KeyStore
from sessiond_server.server import Running, serving
from sessiond_server.settings import Settings

from ..support.processes import ServerProcess
from ..support.wire import Wire, WireError, error_of, openai
from .test_store_messages import BAD, ODD

Query = Callable[..., list[tuple[Any, ...]]]


def ask(session_id: str, *messages: Message | str, **fields: Any) -> StoreMessagesRequest:
    encoded = [openai(message) if isinstance(message, str) else message for message in messages]
    return StoreMessagesRequest(session_id=session_id, messages=encoded, **fields)


def seqs(outcomes: list[StoreMessagesResponse | WireError]) -> list[tuple[int, int] | str]:
    """Where each was stored, or the reason why it was not."""
    return [
        end.reason if isinstance(end, WireError) else (end.first_seq, end.last_seq)
        for end in outcomes
    ]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the appends of the single way, by their messages."""
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


async def test_requests_for_one_session_are_done_in_their_order(
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
    "session_id, last_seq, content_bytes, largest_bytes, first_words, first_words_seq, token_count, estimated_tokens, has_news,"
    " last_seq = 0 OR active_at > created_at, used_at >= active_at"
)
MESSAGE_COLUMNS = (
    "session_id, seq, role, format, m.content_bytes, body, tokens, total_bytes, total_tokens"
)
REQUEST_COLUMNS = "sessions.session_id, request_id, content_hash, first_seq, r.last_seq"


@pytest.mark.parametrize("seed", range(8))
async def test_a_batch_leaves_what_single_calls_leave(wire: Wire, query: Query, seed: int) -> None:
    """Row for row, and answer for answer."""
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
                f"SELECT {MESSAGE_COLUMNS} FROM messages AS m JOIN sessions USING (key, log) ORDER BY 1, 2"
            ),
            query(
                f"SELECT {REQUEST_COLUMNS} FROM requests AS r JOIN sessions USING (key, log) ORDER BY 1, 2"
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


async def test_one_bad_request_among_good_ones(wire: Wire) -> None:
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


async def test_sessions_that_take_nothing_among_others(wire: Wire) -> None:
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


async def test_expected_last_seq(wire: Wire) -> None:
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
    async def test_twice_in_one_batch(self, wire: Wire) -> None:
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

    async def test_across_batches(self, wire: Wire) -> None:
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
    async def test_of_requests(self, wire: Wire) -> None:
        await wire.create("one")
        for requests in ([], [ask("one", "x")] * 257):
            error = await error_of(
                wire.sessions.BatchStoreMessages(BatchStoreMessagesRequest(requests=requests))
            )
            assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["requests"])
        assert (await wire.get("one")).last_seq == 0
        assert len(await wire.store_batch(*[ask("one", "x")] * 256)) == 256
        assert (await wire.get("one")).last_seq == 256

    async def test_of_each_request(self, wire: Wire) -> None:
        """And of each alone: together they may have more."""
        await wire.create("one")
        await wire.create("two")
        await wire.create("three")
        full = ask("one", *["x"] * 600)
        ends = await wire.store_batch(
            full, ask("two", *["x"] * 600), ask("three", *["x"] * 1001), ask("one", *["x"] * 600)
        )
        assert seqs(ends) == [(1, 600), (1, 600), "BATCH_TOO_LARGE", (601, 1200)]
        large = openai("x" * 1_000_000)
        ends = await wire.store_batch(
            *[ask(name, large, large) for name in ("one", "two", "three")],
            ask("one", "x" * 2_000_000),
        )
        assert seqs(ends) == [(1201, 1202), (601, 602), (1, 2), "MESSAGE_TOO_LARGE"]

    class TestAnOperators:
        @pytest.fixture
        def settings(self, settings: Settings) -> Settings:
            return settings.model_copy(update={"max_batch_messages": 2})

        async def test_holds_for_each(self, wire: Wire) -> None:
            await wire.create("one")
            await wire.create("two")
            ends = await wire.store_batch(
                ask("one", "a", "b"),
                ask("two", "a", "b"),
                ask("one", "a"),
                ask("two", "a", "b", "c"),
            )
            assert seqs(ends) == [(1, 2), (1, 2), (3, 3), "BATCH_TOO_LARGE"]


async def test_assets_are_looked_for(wire: Wire) -> None:
    await wire.create("one")
    await wire.create("two")
    missing = Message(
        format=FORMAT_OPENAI,
        json=json.dumps({"role": "user", "content": "sessiond-asset:" + "0" * 64}),
    )
    ends = await wire.store_batch(
        ask("one", "a"), ask("one", missing), ask("two", "x", missing), ask("one", "b")
    )
    assert seqs(ends) == [(1, 1), "ASSET_NOT_FOUND", "ASSET_NOT_FOUND", (2, 2)]
    assert list(ends[2].fields) == ["messages[1].json"]  # type: ignore[union-attr]


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


class TestLocks:
    async def test_a_session_that_is_held_does_not_hold_up_the_others(
        self, wire: Wire, database_url: str
    ) -> None:
        for session_id in ("one", "held", "two"):
            await wire.create(session_id)
        with psycopg.connect(database_url) as blocker:
            blocker.execute("SELECT * FROM sessions WHERE session_id = 'held' FOR UPDATE")
            request = BatchStoreMessagesRequest(
                requests=[ask("one", "a"), ask("held", "a"), ask("two", "a"), ask("held", "b")]
            )
            stream = aiter(wire.sessions.BatchStoreMessages(request))
            first = await anext(stream)
            assert sorted(result.index for result in first.results) == [0, 2]
            assert (await wire.get("two")).last_seq == 1
            assert (await wire.get("held")).last_seq == 0
        second = await anext(stream)
        assert [(result.index, result.response.last_seq) for result in second.results] == [
            (1, 1),
            (3, 2),
        ]
        assert [response async for response in stream] == []

    async def test_a_deadline_ends_what_waits(
        self, wire: Wire, database_url: str, query: Query
    ) -> None:
        await wire.create("one")
        await wire.create("held")
        request = BatchStoreMessagesRequest(requests=[ask("one", "a"), ask("held", "a")])
        with psycopg.connect(database_url) as blocker:
            blocker.execute("SELECT * FROM sessions WHERE session_id = 'held' FOR UPDATE")
            error = await error_of(wire.sessions.BatchStoreMessages(request, timeout=0.5))
            assert error.code == grpc.StatusCode.DEADLINE_EXCEEDED
            async with asyncio.timeout(10):
                # The statement is cancelled in the database, not only forgotten by us.
                while query(
                    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
                ):
                    await asyncio.sleep(0.02)
        assert ((await wire.get("one")).last_seq, (await wire.get("held")).last_seq) == (1, 0)

    async def test_two_servers_and_hot_sessions(
        self, settings: Settings, database_url: str, query: Query
    ) -> None:
        """Overlapping batches in any order, with single appends and changes between: nobody ends in a deadlock, and no seq is lost."""
        names = [f"s{i}" for i in range(6)]
        stored: dict[str, list[int]] = {name: [] for name in names}
        async with (
            serving(settings, database_url) as first,
            serving(settings, database_url) as second,
            grpc.aio.insecure_channel(f"127.0.0.1:{first.port}") as one,
            grpc.aio.insecure_channel(f"127.0.0.1:{second.port}") as two,
        ):
            wires = [Wire(one), Wire(two)]
            for name in names:
                await wires[0].create(name)

            async def batches(wire: Wire) -> None:
                for i in range(25):
                    chosen = random.choices(names, k=random.randint(2, 8))
                    requests = [
                        ask(name, *["x"] * random.randint(1, 3), request_id=f"{random.random()}")
                        for name in chosen
                    ]
                    if i % 5 == 0:
                        requests += requests[:1]  # a repetition
                    for request, end in zip(
                        requests[: len(chosen)], await wire.store_batch(*requests), strict=False
                    ):
                        assert isinstance(end, StoreMessagesResponse), end
                        stored[request.session_id] += range(end.first_seq, end.last_seq + 1)

            async def singles(wire: Wire) -> None:
                for _ in range(25):
                    name = random.choice(names)
                    end = await wire.store(name, "y", "y")
                    stored[name] += range(end.first_seq, end.last_seq + 1)

            await asyncio.gather(
                *(batches(wire) for wire in wires * 4), *(singles(wire) for wire in wires * 2)
            )
            for name in names:
                messages = await wires[0].read(name)
                assert [m.seq for m in messages] == list(range(1, len(messages) + 1))
                assert sorted(stored[name]) == [m.seq for m in messages]
                times = [m.create_time.ToNanoseconds() for m in messages]
                assert times == sorted(times)
        assert query(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ) == [(0,)]


async def test_a_fault_of_our_own_is_told_of_each(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    await wire.create("one")
    monkeypatch.setattr(BatchAppendStore, "append", broken)
    [end, bad] = await wire.store_batch(ask("one", "a"), ask("one"))
    assert isinstance(end, WireError)
    assert (end.reason, end.code) == ("INTERNAL", grpc.StatusCode.INTERNAL)
    assert "secret" not in end.text
    assert seqs([bad]) == ["INVALID_FIELD"]


async def test_watchers_are_told_at_once(
    wire: Wire, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wire.create("one")
    await wire.create("two")
    told: list[Any] = []
    monkeypatch.setattr(type(server.watching), "messages_appended", lambda _, key: told.append(key))
    await wire.store_batch(ask("one", "a"), ask("two", "a"), ask("one", "b"), ask("none", "b"))
    assert set(told) == {session_key(DEFAULT_PROJECT_ID, name) for name in ("one", "two")}


def _prepared(connection: psycopg.Connection[Any], recorded: bool) -> int:
    """Prepare the statement as p. Answers how many parameters it has."""
    names: list[str] = []

    def numbered(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    text = re.sub(r"%\((\w+)\)[sb]", numbered, STATEMENTS[recorded])
    types = ", ".join(
        {"project_id": "uuid", "limit": "bigint"}.get(name, "unknown") for name in names
    )
    connection.execute(f"PREPARE p ({types}) AS {text}".encode())
    return len(names)


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("analysed", [0, 1, 300, 5000])
def test_sessions_are_looked_up_by_key(database_url: str, analysed: int, recorded: bool) -> None:
    """Also where the planner's statistics are of a time when there were none, or few, or of no time."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO sessions (key, project_id, session_id, log, state, created_at, active_at, used_at)"
            " SELECT gen_random_uuid(), %s, i::text, gen_random_uuid(), 1, now(), now(), now() FROM generate_series(1, %s) AS i",
            [DEFAULT_PROJECT_ID, analysed],
        )
        if analysed:
            connection.execute("ANALYZE sessions")
        connection.execute("SET plan_cache_mode = force_generic_plan")
        parameters = ", ".join(["NULL"] * _prepared(connection, recorded))
        plan = [
            line
            for (line,) in connection.execute(
                f"EXPLAIN EXECUTE p ({parameters})".encode()
            ).fetchall()
        ]
    assert sum("Index Scan using sessions_pkey on sessions" in line for line in plan) == (
        2 if analysed != 1 else plan_of_one(plan)
    )
    assert not any("sessions_user_idx" in line or "sessions_activity_idx" in line for line in plan)


def plan_of_one(plan: list[str]) -> int:
    """A table that is known to have a single page may be read through, as by any statement."""
    return sum("Index Scan using sessions_pkey on sessions" in line for line in plan)


async def test_appends_are_heap_only_updates(wire: Wire, database_url: str) -> None:
    names = [f"s{i}" for i in range(5)]
    for name in names:
        await wire.create(name, idle_ttl_s=3600, metadata={"a": 1})
    rows = Rows(roles=[1], formats=[1], sizes=[1], tokens=[1], bodies=[b"x"])
    many = [
        [
            (
                Append(
                    key=session_key(DEFAULT_PROJECT_ID, name),
                    project_id=DEFAULT_PROJECT_ID,
                    totals=Totals(count=1, content_bytes=1, largest_bytes=1, tokens=1),
                    expected_last_seq=None,
                    request_id="",
                    content_hash=b"",
                ),
                rows,
            )
        ]
        for name in names
    ]
    with psycopg.connect(database_url) as connection:
        from sessiond_server.db.pool import Int8s, _Int8sDumper

        connection.adapters.register_dumper(Int8s, _Int8sDumper)
        for _ in range(10):
            cursor = connection.execute(
                STATEMENTS[False].encode(), parameters_of(DEFAULT_PROJECT_ID, many)
            )
            assert len(cursor.fetchall()) == 5
        [counts] = connection.execute(
            "SELECT pg_stat_get_xact_tuples_updated('sessions'::regclass), pg_stat_get_xact_tuples_hot_updated('sessions'::regclass)"
        ).fetchall()
    assert counts[0] == 50
    assert counts[1] >= 45


class TestClient:
    """Through the client, whose calls travel together by themselves."""

    @pytest.fixture
    def batches(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """How many requests each batch had."""
        counts: list[int] = []
        store = BatchAppender.store

        def counted(self: BatchAppender, project_id: Any, requests: Any) -> Any:
            counts.append(len(requests))
            return store(self, project_id, requests)

        monkeypatch.setattr(BatchAppender, "store", counted)
        return counts

    @pytest.mark.parametrize("sessions", [32, 1])
    async def test_32_writers(
        self, server: Running, wire: Wire, batches: list[int], sessions: int
    ) -> None:
        async with AsyncClient(f"127.0.0.1:{server.port}") as client:
            for i in range(sessions):
                await client.create_session(f"s{i}")

            async def write(writer: int) -> list[int]:
                own = []
                for i in range(20):
                    content = [{"role": "user", "content": f"{writer}:{i}"}] * (1 + i % 3)
                    stored = await client.sessions.store_messages(f"s{writer % sessions}", content)
                    own += range(stored.first_seq, stored.last_seq + 1)
                return own

            written = await asyncio.gather(*(write(writer) for writer in range(32)))
        assert sum(batches) > 500
        for i in range(sessions):
            messages = await wire.read(f"s{i}")
            own = [
                seq
                for writer, seqs_of in enumerate(written)
                if writer % sessions == i
                for seq in seqs_of
            ]
            assert sorted(own) == [m.seq for m in messages] == list(range(1, len(messages) + 1))
            said = [json.loads(m.json)["content"] for m in messages]
            for writer in range(i, 32, sessions):
                assert written[writer] == sorted(written[writer])
                numbers = [
                    int(text.split(":")[1]) for text in said if text.startswith(f"{writer}:")
                ]
                assert numbers == sorted(numbers)
                assert [said[seq - 1] for seq in written[writer]] == [
                    f"{writer}:{n}" for n in numbers
                ]

    async def test_what_is_acknowledged_is_there_once_after_a_crash(
        self, start_server: Callable[..., ServerProcess], database_url: str, query: Query
    ) -> None:
        server = start_server(SESSIOND_DATABASE_URL=database_url)
        acknowledged: list[tuple[str, int, str]] = []
        async with AsyncClient(server.target, timeout=5) as client:
            for i in range(16):
                await client.create_session(f"s{i}")

            async def write(writer: int) -> None:
                for i in range(100_000):
                    content = f"{writer}:{i}"
                    stored = await client.sessions.store_message(
                        f"s{writer}", {"role": "user", "content": content}
                    )
                    acknowledged.append((f"s{writer}", stored.last_seq, content))

            tasks = [asyncio.create_task(write(writer)) for writer in range(16)]
            while len(acknowledged) < 300:
                await asyncio.sleep(0.01)
            server.kill()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(end, SessiondError) for end in ends)
        rows = query(
            "SELECT session_id, seq, body FROM messages JOIN sessions USING (key, log) ORDER BY 1, 2"
        )
        stored = {
            (session_id, seq): Message.FromString(bytes(body)).json
            for session_id, seq, body in rows
        }
        assert len(stored) == len(rows)
        for session_id, seq, content in acknowledged:
            assert json.loads(stored[session_id, seq])["content"] == content
        contents = [(session_id, text) for (session_id, _), text in stored.items()]
        assert len(set(contents)) == len(contents)
        assert all(
            last == count
            for last, count in query(
                "SELECT last_seq, (SELECT count(*) FROM messages AS m WHERE m.key = s.key) FROM sessions AS s"
            )
        )
