"""Several attempts at the same task, each in a copy of its own. The best one is kept.

Start a server (`make run`), then: python examples/async_copies.py.
SESSIOND_TARGET names a server elsewhere.
"""

import asyncio

from sessiond import AsyncClient, AsyncSession

SESSION_ID = "example-attempts"
STYLES = {
    "plain": "It rains.",
    "polite": "I am afraid that it rains.",
    "poetic": "The sky is letting go of its silver, drop by drop.",
}


async def attempt(original: AsyncSession, style: str) -> tuple[AsyncSession, int]:
    """Make an attempt. Return its session and tokens. A real program calls a model here."""
    copy = await original.copy(f"{SESSION_ID}-{style}", metadata={"style": style})
    await copy.store_message({"role": "assistant", "content": STYLES[style]})
    counts = await copy.get_token_counts()
    return copy, counts.total_tokens


async def main() -> None:
    """Try all styles concurrently, and keep the shortest answer."""
    async with AsyncClient() as client:
        await client.sessions.delete_many(session_id_prefix=SESSION_ID)
        original = await client.create_session(SESSION_ID, model="gpt-5")
        await original.store_message({"role": "user", "content": "How is the weather?"})

        attempts = await asyncio.gather(*(attempt(original, style) for style in STYLES))
        for session, tokens in attempts:
            print(f"{session.session_id}: {tokens} tokens")
        best, _ = min(attempts, key=lambda found: found[1])
        for session, _ in attempts:
            if session is not best:
                await session.delete()

        # The best attempt is a session like any other. The original is unchanged.
        async for message in best.get_messages():
            print(f"{message.seq} {message.role:10} {message.content}")
        print(
            "left:",
            [copy.session_id async for copy in original.copies()],
            "and",
            (await original.refresh()).message_count,
            "message",
        )
        await client.sessions.delete_many(session_id_prefix=SESSION_ID)


if __name__ == "__main__":
    asyncio.run(main())
