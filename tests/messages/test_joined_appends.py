"""Concurrent StoreMessages calls, which the server stores together."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import psycopg
import pytest

from sessiond.v1.message_pb2 import Message
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import (
    ON_DUPLICATE_SKIP,
    StoreMessagesRequest,
    StoreMessagesResponse,
)
from sessiond.v1.session_state_pb2 import StatePatch
from sessiond_server.messages import joined_append
from sessiond_server.messages.joined_append import JoinedAppends
from sessiond_server.messages.store.append import AppendStore
from sessiond_server.messages.store.batch_append import BatchAppendStore

from ..support.locks import LOCKS_LAST
from ..support.waiting import until_async
from ..support.wire import Wire, WireError, error_of, openai, pictures, taken_apart
from .helpers import ask, seqs


@contextmanager
def held(database_url: str, session_id: str) -> Iterator[None]:
    """Hold a session's row in another connection for the duration of the block."""
    with psycopg.connect(database_url) as blocker:
        blocker.execute("SELECT 1 FROM sessions WHERE session_id = %s FOR UPDATE", [session_id])
        yield


class Counts:
    """Counts the work of the server.

    Attributes:
        submitted: number of appends that were put into a queue.
        withdrawn: number of queued appends whose callers have given up.
        locked: how often appends began to wait in memory until their session is free.
        shared: the number of appends of each shared statement.
        alone: the number of messages of each append that was stored alone.
    """

    def __init__(self) -> None:
        self.submitted = self.withdrawn = self.locked = 0
        self.shared: list[int] = []
        self.alone: list[int] = []


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    counted = Counts()
    submit, withdraw = JoinedAppends.submit, JoinedAppends.withdraw
    wait_until_free = JoinedAppends._wait_until_free
    together, alone = BatchAppendStore.append, AppendStore.append

    def submitted(self: Any, prepared: Any) -> Any:
        counted.submitted += 1
        return submit(self, prepared)

    def withdrawn(self: Any, waiting: Any) -> None:
        counted.withdrawn += 1
        withdraw(self, waiting)

    def locked(self: Any, *series: Any) -> None:
        counted.locked += 1
        wait_until_free(self, *series)

    async def shared(self: Any, many: Any) -> Any:
        counted.shared.append(sum(map(len, many)))
        return await together(self, many)

    async def single(self: Any, append: Any, rows: Any) -> Any:
        counted.alone.append(len(rows))
        return await alone(self, append, rows)

    monkeypatch.setattr(JoinedAppends, "submit", submitted)
    monkeypatch.setattr(JoinedAppends, "withdraw", withdrawn)
    monkeypatch.setattr(JoinedAppends, "_wait_until_free", locked)
    monkeypatch.setattr(BatchAppendStore, "append", shared)
    monkeypatch.setattr(AppendStore, "append", single)
    return counted


def _named(message_id: str) -> Message:
    message = openai(message_id)
    message.message_id = message_id
    return message


async def outcome_of(
    call: "asyncio.Task[StoreMessagesResponse]",
) -> StoreMessagesResponse | WireError:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        return taken_apart(error)


class Waiting:
    """Calls that were made, one after another, while a session's row was held."""

    def __init__(self, wire: Wire, counts: Counts) -> None:
        self._wire, self._counts = wire, counts
        self._calls: list[asyncio.Task[StoreMessagesResponse]] = []

    async def call(self, *requests: StoreMessagesRequest) -> None:
        """Make calls, and return when the server stores the first, and the others wait for it."""
        for request in requests:
            self._calls.append(asyncio.ensure_future(self._wire.sessions.StoreMessages(request)))
            if len(self._calls) == 1:
                await until_async(lambda: bool(self._counts.alone), "it is being stored")
            else:
                queued = len(self._calls) - 1
                await until_async(lambda n=queued: self._counts.submitted == n, "it is queued")  # type: ignore[misc]

    async def in_memory(self) -> None:
        """Return when the first call waits in memory, too, and occupies no connection."""
        await until_async(lambda: self._counts.locked > 0, "the lock timeout is over")

    async def ends(self) -> list[StoreMessagesResponse | WireError]:
        return [await outcome_of(call) for call in self._calls]


@pytest.fixture
def waiting(wire: Wire, counts: Counts) -> Waiting:
    return Waiting(wire, counts)


async def test_an_append_alone_is_one_statement_at_once(wire: Wire, counts: Counts) -> None:
    await wire.create("one")
    for i in range(3):
        assert (await wire.store("one", "a")).first_seq == i + 1
    assert (counts.submitted, counts.shared, counts.alone) == (0, [], [1, 1, 1])


@LOCKS_LAST
async def test_appends_that_arrive_meanwhile_share_a_statement(
    wire: Wire, database_url: str, waiting: Waiting, counts: Counts
) -> None:
    await wire.create("one")
    with held(database_url, "one"):
        await waiting.call(*[ask("one", f"{i}", request_id=f"r{i}") for i in range(12)])
    assert seqs(await waiting.ends()) == [(i, i) for i in range(1, 13)]
    assert (counts.shared, counts.alone) == ([11], [1])
    assert await wire.texts("one") == [f"{i}" for i in range(12)]
    assert (await wire.store("one", "5", request_id="r5")).first_seq == 6


async def test_30_appenders_of_a_held_session_use_at_most_one_connection(
    wire: Wire, database_url: str, waiting: Waiting
) -> None:
    await wire.create("one")
    await wire.create("two")
    with held(database_url, "one"):
        await waiting.call(*[ask("one", "x") for _ in range(30)])
        await waiting.in_memory()
        for i in range(40):
            assert (await wire.store("two", "x")).first_seq == i + 1
            assert (await wire.get("one")).last_seq == 0
    assert seqs(await waiting.ends()) == [(i, i) for i in range(1, 31)]


async def test_a_deadline_ends_the_wait_with_a_typed_error_and_stores_nothing(
    wire: Wire, database_url: str, waiting: Waiting
) -> None:
    await wire.create("one")
    with held(database_url, "one"):
        await waiting.call(ask("one", "a"))
        await waiting.in_memory()
        late = await error_of(wire.sessions.StoreMessages(ask("one", "late"), timeout=5.0))
    assert (late.code, late.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SESSION_BUSY")
    assert late.retry_s
    assert late.metadata["session_id"] == "one"
    assert seqs(await waiting.ends()) == [(1, 1)]
    assert await wire.texts("one") == ["a"]


async def test_appends_wait_for_a_session_that_is_held_for_long(
    wire: Wire, database_url: str, waiting: Waiting, counts: Counts
) -> None:
    """Once the session is free, few statements store the appends in their order."""
    await wire.create("one")
    with held(database_url, "one"):
        await waiting.call(ask("one", "0"))
        await waiting.in_memory()
        await waiting.call(*[ask("one", f"{i}") for i in range(1, 20)])
    assert seqs(await waiting.ends()) == [(i, i) for i in range(1, 21)]
    assert counts.shared == [20]
    assert await wire.texts("one") == [f"{i}" for i in range(20)]


async def test_too_many_appends_that_wait_are_refused_at_once(
    wire: Wire, database_url: str, waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joined_append, "MAX_WAITING", 3)
    await wire.create("one")
    with held(database_url, "one"):
        await waiting.call(ask("one", "a"))
        await waiting.in_memory()
        await waiting.call(ask("one", "b"), ask("one", "c"))
        assert (await error_of(wire.store("one", "d"))).reason == "SESSION_BUSY"
    assert seqs(await waiting.ends()) == [(1, 1), (2, 2), (3, 3)]


async def test_each_call_has_its_own_outcome(
    wire: Wire, database_url: str, waiting: Waiting
) -> None:
    """Conditions, repetitions, message ids, states and errors are those of single appends."""
    await wire.create("one")
    await wire.store("one", "first", request_id="used")
    await wire.store("one", _named("m"))
    with held(database_url, "one"):
        await waiting.call(
            ask("one", "a"),
            ask("one", "b", expected_last_seq=3),
            ask("one", "c", expected_last_seq=3),
            ask("one", "first", request_id="used"),
            ask("one", "other", request_id="used"),
            ask("one", "d", expected_epoch=0),
            ask("one", "e", expected_epoch=7),
            ask("one", _named("m")),
            ask(
                "one",
                _named("m"),
                _named("n"),
                on_duplicate=ON_DUPLICATE_SKIP,
            ),
            ask("one", "f", state_patch=StatePatch(set={"k": "1"})),
            ask("one", pictures("0" * 64)),
            ask("one", "g", "h"),
            ask("one", "g", request_id="twice"),
            ask("one", "g", request_id="twice"),
        )
    ends = await waiting.ends()
    assert seqs(ends) == [
        (3, 3),
        (4, 4),
        "SEQUENCE_CONFLICT",
        (1, 1),
        "REQUEST_ID_REUSED",
        (5, 5),
        "HISTORY_REWOUND",
        "MESSAGE_ALREADY_EXISTS",
        (6, 6),
        (7, 7),
        "ASSET_NOT_FOUND",
        (8, 9),
        (10, 10),
        (10, 10),
    ]
    assert (await wire.get("one")).last_seq == 10
    messages = await wire.read("one")
    assert [message.seq for message in messages] == list(range(1, 11))


async def test_sessions_of_many_callers_are_made_and_appended_to(
    wire: Wire, database_url: str, waiting: Waiting, counts: Counts
) -> None:
    """One statement serves first appends of new sessions, refused appends, and other appends."""
    await wire.create("one")
    await wire.create("old")
    with held(database_url, "one"):
        await waiting.call(
            ask("one", "a"),
            ask("one", "b"),
            ask("one", "c"),
        )
        ends = await asyncio.gather(
            *(
                outcome_of(asyncio.ensure_future(wire.sessions.StoreMessages(request)))
                for request in [
                    ask("new", "a", create=Session()),
                    ask("old", "a"),
                    ask("none", "a"),
                    ask("newer", "a", create=Session()),
                    ask("old", "b"),
                ]
            )
        )
    assert seqs(ends) == [(1, 1), (1, 1), "SESSION_NOT_FOUND", (1, 1), (2, 2)]
    assert seqs(await waiting.ends()) == [(1, 1), (2, 2), (3, 3)]


async def test_an_append_whose_caller_left_is_not_stored(
    wire: Wire, database_url: str, waiting: Waiting, counts: Counts
) -> None:
    await wire.create("one")
    with held(database_url, "one"):
        await waiting.call(ask("one", "a"), ask("one", "b"))
        late = wire.sessions.StoreMessages(ask("one", "late"))
        await until_async(lambda: counts.submitted == 2, "it is queued")
        late.cancel()
        await until_async(lambda: counts.withdrawn == 1, "the server has withdrawn it")
    assert seqs(await waiting.ends()) == [(1, 1), (2, 2)]
    assert await wire.texts("one") == ["a", "b"]


@LOCKS_LAST
async def test_the_limits_of_one_request_hold_for_a_statement(
    wire: Wire, database_url: str, waiting: Waiting, counts: Counts
) -> None:
    await wire.create("one")
    with held(database_url, "one"):
        await waiting.call(*[ask("one", *["x"] * 600) for _ in range(4)])
    assert seqs(await waiting.ends()) == [(600 * i + 1, 600 * i + 600) for i in range(4)]
    assert counts.shared == []
    assert counts.alone == [600] * 4


@LOCKS_LAST
async def test_a_callers_disconnection_does_not_affect_the_others(
    wire: Wire, database_url: str, counts: Counts
) -> None:
    await wire.create("one")
    with held(database_url, "one"):
        first = wire.sessions.StoreMessages(ask("one", "first"))
        await until_async(lambda: bool(counts.alone), "the first append is being stored")
        second = asyncio.ensure_future(wire.store("one", openai("second")))
        await until_async(lambda: counts.submitted == 1, "the second append is queued")
        first.cancel()
        await until_async(lambda: counts.alone == [1, 1], "the second append has its turn")
    assert (await second).first_seq == 1
    assert await wire.texts("one") == ["second"]
