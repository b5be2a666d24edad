"""An agent's loop that can be stopped anywhere, continues where it was, and never answers twice.

The loop reads the next step from the history, so a new process needs only the session's id. Each
append has expected_last_seq, the end of the history on which the step was decided. If two processes
run the same session, the server refuses the append of one, and that process reads again.

Start a server (`make run`), then: python examples/async_agent.py.
SESSIOND_TARGET names a server elsewhere.
"""

import asyncio
import json
from typing import Any

from sessiond import AsyncClient, AsyncSession, Message, SequenceConflict

SESSION_ID = "example-agent"
QUESTION = {"role": "user", "content": "How warm is it in Paris?"}


async def next_message(history: list[Message]) -> dict[str, Any] | None:
    """Return the next message, or None after the answer. A real agent calls a model and tools."""
    last = history[-1].blob
    match last["role"]:
        case "user":
            arguments = json.dumps({"city": "Paris"})
            call = {
                "id": "call_1",
                "type": "function",
                "function": {"name": "weather", "arguments": arguments},
            }
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        case "assistant" if last.get("tool_calls"):
            return {
                "role": "tool",
                "tool_call_id": last["tool_calls"][0]["id"],
                "content": '{"celsius": 21}',
            }
        case "tool":
            return {
                "role": "assistant",
                "content": f"It is {json.loads(last['content'])['celsius']} °C in Paris.",
            }
        case _:
            return None


async def run(session: AsyncSession, name: str) -> None:
    """Continue until the agent has answered."""
    history: list[Message] = []
    while True:
        # Read only what is new: `history` has the earlier messages.
        async for message in session.get_messages(after_seq=len(history)):
            history.append(message)
        message_blob = await next_message(history)
        if message_blob is None:
            return
        try:
            stored = await session.store_message(message_blob, expected_last_seq=len(history))
        except SequenceConflict as error:
            print(f"{name}: another process was faster, the session is at {error.last_seq}")
        else:
            print(f"{name}: stored {message_blob['role']} as {stored.last_seq}")


async def main() -> None:
    """Ask a question, and let two agents compete for the answer."""
    async with AsyncClient() as client:
        await client.delete_session(SESSION_ID, allow_missing=True)
        session = await client.create_session(SESSION_ID, model="gpt-5")
        await session.store_message(QUESTION, expected_last_seq=0)

        # Two processes would behave like these two tasks. The history has each step once.
        other = await client.resume_session(SESSION_ID)
        await asyncio.gather(run(session, "first"), run(other, "second"))

        async for message in session.get_messages():
            print(f"{message.seq} {message.role:10} {message.content or message.json}")


if __name__ == "__main__":
    asyncio.run(main())
