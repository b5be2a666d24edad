"""Token counts of stored messages, and their sums."""

import json
from importlib.util import find_spec
from typing import Any

import pytest

from sessiond.v1.message_pb2 import (
    FORMAT_OPENAI,
    ROLE_ASSISTANT,
    ROLE_USER,
    Message,
    Part,
    Parts,
)
from sessiond.v1.session_service_pb2 import GetTokenCountsRequest
from sessiond_server.formats.token_counts import (
    Estimate,
    Vocabulary,
    texts_of_json,
)
from sessiond_server.settings import Settings

from ..support.wire import Wire, openai

needs_vocabulary = pytest.mark.skipif(
    not find_spec("bpe_openai"), reason="the extra `tokens` is not installed"
)


async def counts(wire: Wire, session_id: str) -> tuple[int, int, str, int]:
    answer = await wire.sessions.GetTokenCounts(GetTokenCountsRequest(session_id=session_id))
    return answer.total_tokens, answer.estimated_tokens, answer.encoding, answer.message_count


async def test_estimates_are_marked_and_sums_agree(wire: Wire) -> None:
    await wire.create("one")
    assert await counts(wire, "one") == (0, 0, "o200k_base", 0)
    await wire.store("one", openai("x" * 10))
    await wire.store(
        "one",
        openai("y" * 20, "assistant"),
        Message(role=ROLE_USER, parts=Parts(parts=[Part(text="z" * 8)])),
    )
    await wire.import_(
        "one",
        [[openai("é" * 6)], [Message(format=FORMAT_OPENAI, json='{"role":"user","content":""}')]],
    )
    read = await wire.read("one")
    assert [(m.token_count, m.tokens_estimated) for m in read] == [
        (3, True),
        (5, True),
        (2, True),
        (3, True),
        (0, False),
    ]
    assert await counts(wire, "one") == (13, 13, "o200k_base", 5)
    session = await wire.get("one")
    assert (session.token_count, session.estimated_token_count) == (13, 13)


async def test_token_counts_of_the_caller_are_ignored(wire: Wire) -> None:
    await wire.create("one")
    message = openai("x" * 10, "assistant")
    message.token_count, message.tokens_estimated = 999, False
    await wire.store("one", message)
    (read,) = await wire.read("one")
    assert (read.token_count, read.tokens_estimated, read.role) == (3, True, ROLE_ASSISTANT)


@needs_vocabulary
class TestVocabulary:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"tokenizer": "o200k_base"})

    async def test_counts_are_exact(self, wire: Wire, conversations: list[dict[str, Any]]) -> None:
        await wire.create("one")
        messages = [
            Message(format=FORMAT_OPENAI, json=json.dumps(m)) for m in conversations[0]["messages"]
        ]
        await wire.store("one", *messages)
        read = await wire.read("one")
        expected = [
            Vocabulary().count(texts_of_json(json.loads(m.json), FORMAT_OPENAI)) for m in read
        ]
        assert [m.token_count for m in read] == expected
        assert not any(m.tokens_estimated for m in read)
        assert await counts(wire, "one") == (sum(expected), 0, "o200k_base", len(read))

    async def test_estimated_and_exact_counts_are_summed_apart(
        self, wire: Wire, query: Any
    ) -> None:
        """The sums of a partial copy include its exact and its estimated counts."""
        await wire.create("one")
        await wire.store("one", "hello world")
        query("UPDATE messages SET tokens = -tokens")
        query("UPDATE sessions SET estimated_tokens = token_count")
        await wire.store("one", "hello world", "hello world")
        assert await counts(wire, "one") == (6, 2, "o200k_base", 3)
        await wire.copy("one", "two", up_to_seq=2)
        assert await counts(wire, "two") == (4, 2, "o200k_base", 2)

    async def test_a_request_is_the_same_under_another_tokenizer(self, wire: Wire) -> None:
        from sessiond_server.core.limits import Limits
        from sessiond_server.messages.validation import MessageValidator

        hashes = []
        for counter in (Estimate(), Vocabulary()):
            validator = MessageValidator(Limits(), counter)
            validator.encode([openai("hello world, at length")])
            hashes.append(validator.content_hash)
        assert hashes[0] == hashes[1]
