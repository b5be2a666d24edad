"""Measures stores of Pydantic AI: ours, and the framework's own store in memory.

`pydantic_ai_store.py TARGET SAVES LONG READS`. Prints the figures as JSON.
"""

import asyncio
import json
import statistics
import sys
import time
import uuid
from typing import Any

from pydantic_ai import Conversation, ModelRequest, ModelResponse, TextPart
from pydantic_ai.conversation_store import InMemoryConversationStore
from pydantic_ai.messages import UserPromptPart

from sessiond.adapters.pydantic_ai import SessiondConversationStore

TEXT = "the session agent tool result message of and a to in is that file query model " * 6


def turn() -> list[Any]:
    """Return a question and its answer."""
    return [ModelRequest(parts=[UserPromptPart(TEXT)]), ModelResponse(parts=[TextPart(TEXT)])]


async def main(target: str, saves: int, long: int, reads: int) -> None:
    stores: dict[str, Any] = {
        "ours": SessiondConversationStore(target=target, namespace=uuid.uuid4().hex),
        "own": InMemoryConversationStore(),
    }
    saved: dict[str, list[float]] = {name: [] for name in stores}
    loaded: dict[str, list[float]] = {name: [] for name in stores}
    talks = {name: Conversation(conversation_id="short", messages=[]) for name in stores}
    messages = [message for _ in range(long // 2) for message in turn()]
    for store in stores.values():
        await store.save(Conversation(conversation_id="long", messages=messages))
        assert len((await store.load("long")).messages) == len(messages)
    for _ in range(saves):
        for name, store in stores.items():
            talks[name].messages.extend(turn())
            started = time.perf_counter()
            await store.save(talks[name])
            saved[name].append(time.perf_counter() - started)
    for _ in range(reads):
        for name, store in stores.items():
            started = time.perf_counter()
            await store.load("long")
            loaded[name].append(time.perf_counter() - started)
    figures = {
        name: {
            "append_p50_ms": statistics.median(saved[name]) * 1000,
            "read_messages_s": len(messages) / statistics.median(loaded[name]),
        }
        for name in stores
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
