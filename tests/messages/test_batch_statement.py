"""BatchStoreMessages in the database: locks and query plans."""

import asyncio
import random
import re
from typing import Any

import grpc
import psycopg
import pytest

from sessiond.v1.session_service_pb2 import (
    BatchStoreMessagesRequest,
    StoreMessagesResponse,
)
from sessiond_server.core.ids import DEFAULT_PROJECT_ID, session_key
from sessiond_server.messages.store.append import Append
from sessiond_server.messages.store.batch_append import STATEMENTS, parameters_of
from sessiond_server.messages.store.rows import Rows, Totals
from sessiond_server.server import serving
from sessiond_server.settings import Settings

from ..support.waiting import until_waiting
from ..support.wire import Wire
from .helpers import Query, ask, seqs


class TestLocks:
    async def test_a_locked_session_does_not_delay_the_others(
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
        rest = [result async for response in stream for result in response.results]
        assert [(result.index, result.response.last_seq) for result in rest] == [(1, 1), (3, 2)]

    async def test_a_deadline_ends_the_wait_for_a_locked_session(
        self, wire: Wire, database_url: str
    ) -> None:
        await wire.create("one")
        await wire.create("held")
        with psycopg.connect(database_url) as blocker:
            blocker.execute("SELECT * FROM sessions WHERE session_id = 'held' FOR UPDATE")
            ends = await wire.store_batch(
                ask("one", "a"), ask("held", "a"), options={"timeout": 5.0}
            )
            assert seqs(ends) == [(1, 1), "SESSION_BUSY"]
            await until_waiting(database_url, 0)
        assert (await wire.get("held")).last_seq == 0

    async def test_overlapping_batches_of_two_servers_do_not_deadlock(
        self, settings: Settings, database_url: str, query: Query
    ) -> None:
        """Batches in any order, with single appends in between: no deadlock, and no lost seq."""
        choose = random.Random(7)
        settings = settings.model_copy(update={"lock_timeout_s": 0})  # a limit could hide deadlocks
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
                    chosen = choose.choices(names, k=choose.randint(2, 8))
                    requests = [
                        ask(name, *["x"] * choose.randint(1, 3), request_id=f"{choose.random()}")
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
                    name = choose.choice(names)
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


def _prepared(connection: psycopg.Connection[Any], recorded: bool) -> int:
    """Prepare the statement as p. Returns how many parameters it has."""
    names: list[str] = []

    def numbered(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    text = re.sub(r"%\((\w+)\)[sb]", numbered, STATEMENTS[recorded])
    types = ", ".join({"limit": "bigint"}.get(name, "unknown") for name in names)
    connection.execute(f"PREPARE p ({types}) AS {text}".encode())
    return len(names)


@pytest.mark.every_postgres
@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("analysed", [0, 1, 300, 5000])
def test_sessions_are_looked_up_by_key(database_url: str, analysed: int, recorded: bool) -> None:
    """The plan is the same for any number of sessions, and without statistics."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO sessions (key, project_id, session_id, log, state, created_at, "
            "active_at, used_at)"
            " SELECT gen_random_uuid(), %s, i::text, gen_random_uuid(), 1, now(), now(), now() "
            "FROM generate_series(1, %s) AS i",
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
    # The planner may scan a table of a single page sequentially, so no index is required there.
    if analysed != 1:
        assert sum("Index Scan using sessions_pkey on sessions" in line for line in plan) == 2
    assert not any("sessions_user_idx" in line or "sessions_activity_idx" in line for line in plan)


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
                    expected_epoch=None,
                    request_id="",
                    content_hash=b"",
                ),
                rows,
            )
        ]
        for name in names
    ]
    with psycopg.connect(database_url) as connection:
        from sessiond_server.db.int8s import Int8s, Int8sDumper

        connection.adapters.register_dumper(Int8s, Int8sDumper)
        for _ in range(10):
            cursor = connection.execute(STATEMENTS[False].encode(), parameters_of(many))
            assert len(cursor.fetchall()) == 5
        [counts] = connection.execute(
            "SELECT pg_stat_get_xact_tuples_updated('sessions'::regclass), "
            "pg_stat_get_xact_tuples_hot_updated('sessions'::regclass)"
        ).fetchall()
    assert counts[0] == 50
    assert counts[1] >= 45
