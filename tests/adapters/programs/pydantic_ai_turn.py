"""One turn of an agent of Pydantic AI: python pydantic_ai_turn.py NAMESPACE CONVERSATION PROMPT.

Prints the number of messages with which the agent begins, and its answer.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterable
from typing import Any

from pydantic_ai import Agent, Conversation
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from sessiond.adapters.pydantic_ai import SessiondConversationStore

provider = OpenAIProvider(base_url=os.environ["OPENAI_BASE_URL"], api_key="none")
agent = Agent(OpenAIChatModel("fake-1", provider=provider))


@agent.tool_plain
def weather(city: str) -> str:
    """Return the weather."""
    return f"21 degrees in {city}"


async def watch(_: Any, events: AsyncIterable[Any]) -> None:
    """Take the events, so that the model's answer is streamed."""
    async for _event in events:
        pass


async def main(namespace: str, conversation_id: str, prompt: str) -> None:
    store = SessiondConversationStore(namespace=namespace)
    conversation = await store.load(conversation_id)
    if conversation is None:
        conversation = Conversation(conversation_id=conversation_id)
    print(len(conversation.messages))
    result = await agent.run(prompt, conversation=conversation, event_stream_handler=watch)
    await store.save(result)
    print(result.output)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
