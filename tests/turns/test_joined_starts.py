"""Sends of many sessions at once share statements, and each succeeds or fails on its own."""

import asyncio
import random
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import grpc
import psycopg
import pytest

from sessiond.v1.turn_pb2 import TURN_STATE_COMPLETED, TURN_STATE_QUEUED
from sessiond_server.turns.store.joined_starts import JoinedStartStore, StatementRefused
from sessiond_server.turns.store.openings import OpeningStore
from sessiond_server.turns.store.starts import Start
from sessiond_server.turns.waiting.joining import MAX_TOGETHER, Joiner
from sessiond_server.turns.waiting.lanes import TurnLanes

from ..support.model_server import ModelServer
from ..support.statements import statements
from ..support.turns import Sent, send, sending
from ..support.waiting import PATIENCE_S
from ..support.wire import Wire, openai, taken_apart
from .calls import send_held

ECHO: dict[str, Any] = {"model": "echo", "options": {"echo_text": "yes"}}
PROJECT, OTHER = uuid4(), uuid4()


class Answers:
    """Answers each request with itself once `go` is set. Notes which requests came together."""

    def __init__(self) -> None:
        self.asked: list[list[Any]] = []
        self.go = asyncio.Event()

    async def answer(self, asked: Any) -> list[Any]:
        self.asked.append(list(asked))
        await self.go.wait()
        if any(isinstance(one, Exception) for one in asked):
            raise next(one for one in asked if isinstance(one, Exception))
        return list(asked)


async def begun(joiner: Joiner[Any, Any], *asked: Any, project: Any = PROJECT) -> list[Any]:
    """Ask; return the tasks once all have begun."""
    tasks = [asyncio.create_task(joiner.ask(project, one)) for one in asked]
    await asyncio.sleep(0)
    return tasks


async def ends(tasks: list[Any]) -> list[Any]:
    async with asyncio.timeout(PATIENCE_S):
        return await asyncio.gather(*tasks, return_exceptions=True)


async def test_requests_that_wait_are_answered_together_one_of_each_project_in_turn() -> None:
    answers = Answers()
    joiner = Joiner(answers.answer, TurnLanes(8, 1))
    tasks = await begun(joiner, *range(2 + MAX_TOGETHER))
    tasks += await begun(joiner, "late", project=OTHER)
    answers.go.set()
    assert await ends(tasks) == [*range(2 + MAX_TOGETHER), "late"]
    assert answers.asked[:2] == [[0], [1]]
    assert answers.asked[2][:3] == [2, "late", 3]
    assert len(answers.asked[2]) == MAX_TOGETHER


async def test_an_error_is_raised_to_all_that_were_answered_together_and_to_no_others() -> None:
    answers, error = Answers(), ValueError()
    joiner = Joiner(answers.answer, TurnLanes(8, 1))
    tasks = await begun(joiner, 0, 1, error, 3)
    answers.go.set()
    assert await ends(tasks) == [0, 1, error, error]
    assert await joiner.ask(PROJECT, 4) == 4


async def test_a_cancelled_request_is_not_answered() -> None:
    answers = Answers()
    joiner = Joiner(answers.answer, TurnLanes(8, 1))
    tasks = await begun(joiner, 0, 1, 2, 3)
    tasks[2].cancel()
    answers.go.set()
    await ends(tasks)
    assert answers.asked == [[0], [1], [3]]


async def test_waiting_requests_are_cancelled_at_the_end() -> None:
    answers = Answers()
    joiner = Joiner(answers.answer, TurnLanes(8, 1))
    tasks = await begun(joiner, 0, 1, 2)
    await joiner.close()
    assert isinstance((await ends(tasks[2:]))[0], asyncio.CancelledError)
    answers.go.set()
    assert await ends(tasks[:2]) == [0, 1]


def gather(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Make each joiner hold its first requests back until there are `count`, as in a burst."""
    ask, arrived = Joiner.ask, Counter[Any]()
    gates = defaultdict[Any, asyncio.Event](asyncio.Event)

    async def held(self: Joiner[Any, Any], project_id: UUID, asked: Any) -> Any:
        arrived[self] += 1
        if arrived[self] == count:
            gates[self].set()
        await gates[self].wait()
        return await ask(self, project_id, asked)

    monkeypatch.setattr(Joiner, "ask", held)


async def test_sends_at_once_share_statements_and_are_stored_once_each(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"s{number}" for number in range(60)]
    await asyncio.gather(*[wire.create(name) for name in names])
    gather(monkeypatch, len(names))
    with statements() as texts:
        sents = await asyncio.gather(
            *[sending(wire, name, f"I am {name}", request_id="r", **ECHO) for name in names]
        )
    begun = [text for text in texts if "INSERT INTO turns" in text]
    assert any("INSERT INTO messages" in text and "unnest" in text for text in begun)
    assert len(begun) < 10
    for name, sent in zip(names, sents, strict=True):
        assert (await sent.end()).state == TURN_STATE_COMPLETED
        assert await wire.texts(name) == [f"I am {name}", "yes"]
        first = (await wire.read(name))[0]
        assert (first.message_id, first.turn.turn_id) == (sent.message_id, sent.turn.turn_id)
        again = await sending(wire, name, f"I am {name}", request_id="r", **ECHO)
        assert again.turn.turn_id == sent.turn.turn_id


async def test_each_send_keeps_its_own_refusal(wire: Wire, models: ModelServer) -> None:
    fine = [f"s{number}" for number in range(20)]
    await asyncio.gather(*[wire.create(name) for name in (*fine, "gone", "rewound", "used", "new")])
    await wire.destroy("gone")
    await send(wire, "used", "a", request_id="r", **ECHO)
    await wire.create("busy")
    running = await send_held(wire, models, "busy")

    async def end(name: str, **fields: Any) -> Any:
        sent = Sent(wire, name, {"prompt": "hi", **ECHO, **fields})
        try:
            await sent.read()
        except grpc.aio.AioRpcError as e:
            return taken_apart(e).reason
        return sent

    special = {
        "SESSION_DESTROYED": end("gone"),
        "HISTORY_REWOUND": end("rewound", expected_epoch=7),
        "REQUEST_ID_REUSED": end("used", request_id="r"),
        "SESSION_NOT_FOUND": end("nowhere"),
        "PARENT_NOT_FOUND": end("new", parent_seq=3),
    }
    calls = [*special.values(), end("busy"), *(end(name) for name in fine)]
    random.Random(1).shuffle(calls)
    found = await asyncio.gather(*calls)
    reasons = {one for one in found if isinstance(one, str)}
    sents = [one for one in found if not isinstance(one, str)]
    assert reasons == set(special)
    queued = [sent for sent in sents if sent.turn.state == TURN_STATE_QUEUED]
    assert (len(sents), len(queued)) == (21, 1)
    models.release()
    for sent in (running, *sents):
        assert (await sent.end()).state == TURN_STATE_COMPLETED
    assert await wire.texts("rewound") == await wire.texts("new") == []


async def test_a_refused_statement_is_divided_among_its_sends(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole statement is refused if a request_id is recorded meanwhile."""
    refused = []

    async def starts(_self: JoinedStartStore, many: list[Start], *_: Any) -> Any:
        refused.append(len(many))
        raise StatementRefused

    monkeypatch.setattr(JoinedStartStore, "starts", starts)
    names = [f"s{number}" for number in range(20)]
    await asyncio.gather(*[wire.create(name) for name in names])
    gather(monkeypatch, len(names))
    turns = await asyncio.gather(*[send(wire, name, "hi", **ECHO) for name in names])
    assert {turn.state for turn in turns} == {TURN_STATE_COMPLETED}
    assert max(refused) > 1
    assert await wire.texts("s7") == ["hi", "yes"]


async def test_a_request_id_that_is_recorded_meanwhile_is_found(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test stores the Send as another server would, after this one has read the session."""
    names = [f"s{number}" for number in range(20)]
    await asyncio.gather(*[wire.create(name) for name in names])
    fields = {"request_id": "r", **ECHO}
    first = await send(wire, "s7", "hi", **fields)
    openings = OpeningStore.read

    async def outdated(self: OpeningStore, asked: Any) -> Any:
        found = await openings(self, asked)
        return [one and replace(one, first=None) for one in found]

    monkeypatch.setattr(OpeningStore, "read", outdated)
    turns = await asyncio.gather(*[send(wire, name, "hi", **fields) for name in names])
    assert turns[7].turn_id == first.turn_id
    for name in names:
        assert await wire.texts(name) == ["hi", "yes"]


async def test_a_locked_session_does_not_delay_the_sends_of_others(
    wire: Wire, database_url: str
) -> None:
    names = [f"s{number}" for number in range(20)]
    await asyncio.gather(*[wire.create(name) for name in (*names, "held")])
    with psycopg.connect(database_url) as blocker:
        blocker.execute("SELECT FROM sessions WHERE session_id = 'held' FOR UPDATE")
        waiting = asyncio.create_task(send(wire, "held", "hi", **ECHO))
        turns = await asyncio.gather(*[send(wire, name, "hi", **ECHO) for name in names])
        assert {turn.state for turn in turns} == {TURN_STATE_COMPLETED}
        assert not waiting.done()
    assert (await waiting).state == TURN_STATE_COMPLETED


async def test_messages_with_names_and_several_messages_are_stored(wire: Wire) -> None:
    names = [f"s{number}" for number in range(20)]
    await asyncio.gather(*[wire.create(name) for name in names])
    calls = []
    for number, name in enumerate(names):
        messages = [openai(f"m{place}") for place in range(number % 4)]
        if number % 2 and messages:
            messages[0].message_id = "mine"
        if not messages:
            await wire.store(name, "stored")
        calls.append(send(wire, name, messages=messages, **ECHO))
    await asyncio.gather(*calls)
    for number, name in enumerate(names):
        sent = [f"m{place}" for place in range(number % 4)] or ["stored"]
        assert await wire.texts(name) == [*sent, "yes"]
