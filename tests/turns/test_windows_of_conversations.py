"""Windows of whole conversations: every dialect accepts them, at every size and length."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from sessiond.v1.message_pb2 import FORMAT_OPENAI, ROLE_ASSISTANT, Message
from sessiond_server.messages.store.history import LogHead, PageQuery
from sessiond_server.messages.store.segments import Segment
from sessiond_server.turns.requests.context import ContextRequest, Contexts
from sessiond_server.turns.requests.window import WindowLimits, is_instruction
from sessiond_server.turns.store.marks import Mark

from ..formats.dialects import DIALECTS
from ..formats.histories import as_message

KEY = uuid4()
REQUEST = ContextRequest(KEY, KEY, "one", KEY, 0)


class Memory:
    """A history and a mark in memory, in place of the two database stores."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.messages = [as_message(value, FORMAT_OPENAI) for value in messages]
        for message in self.messages:
            message.token_count = len(message.json) // 4
        self.length = len(messages)
        self.mark: tuple[WindowLimits, Mark] | None = None
        self.crossings = 0

    @property
    def contexts(self) -> Contexts:
        stores: Any = self
        return Contexts(stores, stores, max_bytes=10**9)

    async def head(self, *_: UUID) -> LogHead:
        segment = Segment(KEY, KEY, 1, self.length)
        return LogHead(KEY, KEY, 0, self.length, 0, 0, False, False, (segment,))

    async def page(self, query: PageQuery) -> list[tuple[int, int, bytes]]:
        seqs = [s for part in query.segments for s in range(part.first_seq, part.last_seq + 1)]
        rows = [
            (seq, 0, self.messages[seq - 1].SerializeToString())
            for seq in (reversed(seqs) if query.descending else seqs)
            if not query.roles or self.messages[seq - 1].role in query.roles
        ]
        return rows[: query.max_rows]

    async def get(self, key: UUID, log: UUID, limits: WindowLimits) -> Mark | None:
        return self.mark[1] if self.mark and self.mark[0] == limits else None

    async def put(self, key: UUID, log: UUID, limits: WindowLimits, mark: Mark) -> None:
        self.mark = limits, mark
        self.crossings += 1


def ends_with_a_prompt(messages: list[Message]) -> bool:
    return messages[-1].role != ROLE_ASSISTANT and not is_instruction(messages[-1])


@pytest.mark.parametrize("name", DIALECTS)
async def test_windows_of_all_sizes_are_accepted(
    conversations: list[dict[str, Any]], name: str
) -> None:
    for number, conversation in enumerate(conversations):
        memory = Memory(conversation["messages"])
        while not ends_with_a_prompt(memory.messages[: memory.length]):
            memory.length -= 1
        # The conversations together cover every size from 1 to 20.
        for size in range(1 + number % 5, 21, 5):
            limits = WindowLimits(size, 0, 1)
            context = await memory.contexts.read(REQUEST, limits)
            DIALECTS[name].send(context.messages)


@pytest.mark.parametrize(
    "limits", [WindowLimits(1, 0, 0.5), WindowLimits(8, 0, 0.5), WindowLimits(0, 400, 0.3)]
)
async def test_growing_conversations_begin_alike_between_crossings(
    conversations: list[dict[str, Any]], limits: WindowLimits
) -> None:
    for conversation in conversations[:20]:
        memory = Memory(conversation["messages"])
        before: list[Message] = []
        for length in range(1, len(memory.messages) + 1):
            memory.length = length
            if not ends_with_a_prompt(memory.messages[:length]):
                continue
            crossings = memory.crossings
            messages = list((await memory.contexts.read(REQUEST, limits)).messages)
            calls = [
                call["id"]
                for message in messages
                for call in json.loads(message.json).get("tool_calls") or ()
            ]
            results = [json.loads(message.json).get("tool_call_id") for message in messages]
            assert set(calls) >= {result for result in results if result}
            if memory.crossings == crossings:
                assert messages[: len(before)] == before
            seqs = [message.seq for message in messages]
            assert seqs == sorted(set(seqs))
            stored = enumerate(memory.messages[:length], 1)
            assert {seq for seq, message in stored if is_instruction(message)} <= set(seqs)
            before = messages
        assert before
