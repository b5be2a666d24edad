"""Compares the store with Pydantic AI's store in memory: equal results and equal exceptions.

Random sequences of calls are made on both. SESSIOND_TEST_EXAMPLES says how many.
"""

import asyncio
import itertools
import os
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("pydantic_ai", reason="needs the framework: `make adapters-test`")

from pydantic_ai import (
    Conversation,
    ConversationTypeAdapter,
    DeferredToolRequests,
    ModelRequest,
    ModelResponse,
    RunUsage,
    TextPart,
    ToolCallPart,
    _utils,
    conversation_store,
)
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationStore,
    InMemoryConversationStore,
)

from sessiond.adapters.pydantic_ai import SessiondConversationStore

EXAMPLES = int(os.environ.get("SESSIOND_TEST_EXAMPLES", "15"))
IDS = ("a", "b/ü ☕", "x" * 2000)
SCOPES = (None, None, None, None, None, "ann", "s" * 300)
TIME = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Held:
    """A conversation that a program holds, as returned by each store."""

    memory: Conversation
    ours: Conversation

    def __iter__(self) -> Any:
        return iter((self.memory, self.ours))


@dataclass
class Program:
    """Makes each call on both stores, and compares what they return and raise."""

    memory: ConversationStore
    ours: ConversationStore
    held: list[Held] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)
    calls: int = 0

    async def both(
        self, call: Callable[[ConversationStore, int], Awaitable[Any]]
    ) -> tuple[Any, Any]:
        """Return both results; (None, None) if both have raised the same error."""
        self.calls += 1
        results = []
        now = datetime.now(UTC)
        for side, store in enumerate((self.memory, self.ours)):
            # Both stores mint the same ids, and save at the same time.
            start = itertools.count(self.calls * 1000)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    conversation_store, "uuid7", lambda ids=start: uuid.UUID(int=next(ids))
                )
                patch.setattr(_utils, "datetime", SimpleNamespace(now=lambda tz: now))
                try:
                    results.append(("returned", await call(store, side)))
                except Exception as error:
                    results.append(("raised", error))
        (how, one), (how_too, other) = results
        assert how == how_too, results
        if how == "raised":
            assert (type(one), str(one)) == (type(other), str(other))
            if isinstance(one, ConversationConflict):
                assert one.conversation_id == other.conversation_id
            return None, None
        assert one == other
        return one, other

    def hold(self, one: Conversation | None, other: Conversation | None) -> None:
        if one is not None and other is not None:
            assert one.new_message_index == other.new_message_index
            self.held.append(Held(one, other))

    def chosen(self, n: int) -> Held | None:
        # Mostly choose the newest conversation, because its revision is not outdated.
        if n % 3 and self.held:
            return self.held[-1]
        return self.held[n // 3 % len(self.held)] if self.held else None


def message(n: int) -> ModelRequest | ModelResponse:
    if n % 3 == 0:
        return ModelRequest.user_text_prompt(f"question {n}")
    parts = [TextPart(f"answer {n}"), ToolCallPart("look", {"n": n}, tool_call_id=f"c{n}")]
    return ModelResponse(parts=parts[: n % 3], timestamp=TIME + timedelta(seconds=n))


def start(program: Program, a: int, b: int, c: int) -> None:
    id = IDS[a % 3]
    program.held.append(Held(Conversation(conversation_id=id), Conversation(conversation_id=id)))


async def load(program: Program, a: int, b: int, c: int) -> None:
    limit = (None, None, None, 0, 1, 2, 100, -1)[b % 8]
    scope = SCOPES[c % 7]
    program.hold(*await program.both(lambda s, _: s.load(IDS[a % 3], limit=limit, scope=scope)))


async def load_entries(program: Program, a: int, b: int, c: int) -> None:
    limit, scope = (None, None, 0, 1, 3, -2)[b % 6], SCOPES[c % 7]
    await program.both(lambda s, _: s.load_entries(IDS[a % 3], limit=limit, scope=scope))


def add(program: Program, a: int, b: int, c: int) -> None:
    if (held := program.chosen(a)) is not None:
        for n in range(b % 4):
            new = message(c + n)
            for side in held:
                side.messages.append(new)


def edit(program: Program, a: int, b: int, c: int) -> None:
    held = program.chosen(a)
    if held is None or not held.memory.messages:
        return
    place = b % len(held.memory.messages)
    for side in held:
        if c % 3 == 0:
            del side.messages[place]
        elif c % 3 == 1:
            side.messages.insert(place, message(c))
        else:
            side.messages[place] = message(c)


def carry(program: Program, a: int, b: int, c: int) -> None:
    if (held := program.chosen(a)) is None:
        return
    if b % 3 == 0:
        # A program may keep the conversation as JSON between two requests.
        adapter = ConversationTypeAdapter
        held.memory, held.ours = (adapter.validate_json(adapter.dump_json(s)) for s in held)
        return
    for side in held:
        if b % 3 == 1:
            side.usage = side.usage + RunUsage(requests=c, input_tokens=b, details={"k": a})
        else:
            call = ToolCallPart("ask", {"n": c}, tool_call_id=f"d{c}")
            side.deferred_tool_requests = DeferredToolRequests(approvals=[call]) if c % 2 else None


async def save(program: Program, a: int, b: int, c: int) -> None:
    if (held := program.chosen(a)) is None:
        return
    sides, scope = tuple(held), SCOPES[b % 7]
    saved, _ = await program.both(lambda s, side: s.save(sides[side], scope=scope))
    program.entries += [entry.id for entry in saved or ()]
    assert held.memory.revision == held.ours.revision
    assert held.memory.new_message_index == held.ours.new_message_index


def place_in(program: Program, b: int, c: int) -> dict[str, Any]:
    if b % 5 == 4:
        return {"at": c % 7, "from_entry": "nowhere"} if c % 2 else {}
    if b % 5 > 1 and program.entries:
        return {"from_entry": program.entries[c % len(program.entries)]}
    return {"at": c % 7 - 1}


async def branch(program: Program, a: int, b: int, c: int) -> None:
    held = program.chosen(a)
    id = held.memory.conversation_id if held else IDS[a % 3]
    revision = held.memory.revision if held else None
    where, scope = place_in(program, b, c), SCOPES[c % 7]
    program.hold(
        *await program.both(
            lambda s, _: s.branch(id, expected_revision=revision, scope=scope, **where)
        )
    )


async def fork(program: Program, a: int, b: int, c: int) -> None:
    where = place_in(program, b, c)
    target = None if c % 4 == 0 else IDS[(a + c) % 3]
    scopes = {"scope": SCOPES[b % 7], "source_scope": SCOPES[c % 7]}
    program.hold(
        *await program.both(
            lambda s, _: s.fork(IDS[a % 3], new_conversation_id=target, **scopes, **where)
        )
    )


async def list_all(program: Program, a: int, b: int, c: int) -> None:
    limit, scope = (None, 0, 1, 2, -1)[b % 5], SCOPES[c % 7]
    await program.both(lambda s, _: s.list_conversations(scope=scope, limit=limit))


async def delete(program: Program, a: int, b: int, c: int) -> None:
    await program.both(lambda s, _: s.delete(IDS[a % 3], scope=SCOPES[c % 7]))


async def delete_at(program: Program, a: int, b: int, c: int) -> None:
    if (held := program.chosen(a)) is not None:
        id, revision = held.memory.conversation_id, held.memory.revision
        await program.both(lambda s, _: s.delete_record(id, expected_revision=revision or "none"))


async def read_entry(program: Program, a: int, b: int, c: int) -> None:
    if not program.entries:
        return
    id = program.entries[a % len(program.entries)]
    try:
        expected = await program.memory.read_entry(id)
    except KeyError:
        return  # our store may still find it in a fork, as documented
    assert await program.ours.read_entry(id) == expected


# The calls that change something are made more often.
CALLS: list[Callable[[Program, int, int, int], Any]] = [
    *(start, load, load, load, load_entries, add, add, add, edit, carry) * 2,
    *(save, save, save, save, branch, branch, fork, fork, list_all, read_entry) * 2,
    *(delete, delete_at),
]
NUMBER = st.integers(0, 30)
STEPS = st.lists(
    st.tuples(st.integers(0, len(CALLS) - 1), NUMBER, NUMBER, NUMBER), min_size=20, max_size=40
)


@given(STEPS)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_random_calls_have_the_results_and_errors_of_the_store_in_memory(
    target: str, steps: list[tuple[int, int, int, int]]
) -> None:
    async def run() -> None:
        ours = SessiondConversationStore(target=target, namespace=uuid.uuid4().hex)
        program = Program(InMemoryConversationStore(), ours)
        start(program, 0, 0, 0)
        add(program, 0, 3, 1)
        await save(program, 0, 0, 0)
        for call, a, b, c in steps:
            outcome = CALLS[call](program, a, b, c)
            if outcome is not None:
                await outcome
        for id in IDS:
            await program.both(lambda s, _, id=id: s.load_entries(id))
        for id in program.entries:
            await read_entry(program, program.entries.index(id), 0, 0)
        await program.both(lambda s, _: s.list_conversations())

    asyncio.run(run())
