"""Many conversations at once.

The same prompt to two models, events of several sessions, and a pool for independent requests.

Start a server (`make run`), then: python examples/async_chats.py.
SESSIOND_TARGET names a server elsewhere. The default models are built in and echo what they are
given; MODELS=gpt-5,claude-sonnet-4 uses others, for which the server needs keys.
"""

import asyncio
import os

from sessiond import AsyncClient, AsyncSessionPool, Event

PREFIX = "example-async-chats-"
MODELS = os.environ.get("MODELS", "echo-one,echo-two").split(",")


async def compare(client: AsyncClient) -> None:
    """Send the same prompt to each model, concurrently."""
    sessions = [await client.create_session(f"{PREFIX}{model}", model=model) for model in MODELS]
    answers = await asyncio.gather(
        *(session.send_and_wait("What is a session?") for session in sessions)
    )
    for answer in answers:
        print(answer.turn.model if answer.turn else "?", "->", answer.content)


async def listen(client: AsyncClient) -> None:
    """Collect answers with handlers. When send_and_wait returns, they have been called."""
    results: dict[str, str] = {}

    async def collect(event: Event) -> None:
        results[event.session_id.removeprefix(PREFIX)] = event.data.content

    sessions = [
        await client.create_session(f"{PREFIX}{topic}", model=MODELS[0])
        for topic in ("rain", "snow", "hail")
    ]
    for session in sessions:
        session.on("assistant.message", collect)
    await asyncio.gather(*(session.send_and_wait("One sentence about it.") for session in sessions))
    print("received:", sorted(results))


async def serve(client: AsyncClient) -> None:
    """Serve more requests than the pool has sessions. No request sees messages of another one."""
    system = {"role": "system", "content": "You answer in one sentence."}
    async with AsyncSessionPool(
        client, 2, model=MODELS[0], messages=[system], session_id_prefix=f"{PREFIX}pool-"
    ) as pool:

        async def request(i: int) -> str:
            async with pool.lease() as session:
                return (await session.send_and_wait(f"Question {i}")).content

        for answer in await asyncio.gather(*(request(i) for i in range(4))):
            print(answer)


async def steer(client: AsyncClient) -> None:
    """Steer a running turn. The model reads the message before its final answer."""
    session = await client.create_session(
        f"{PREFIX}steered", model="echo", config={"model_options": {"echo_delay_ms": 100}}
    )
    async for event in session.stream("Plan a day in Paris."):
        if event.type == "assistant.turn_start":
            await session.send("Make it a day in Rome.", mode="immediate")
        if event.message:
            print(event.type, event.message.content)


async def main() -> None:
    """Run all four examples, and clean up."""
    async with AsyncClient() as client:
        await client.sessions.delete_many(session_id_prefix=PREFIX)
        await compare(client)
        await listen(client)
        await serve(client)
        await steer(client)
        await client.sessions.delete_many(session_id_prefix=PREFIX)


if __name__ == "__main__":
    asyncio.run(main())
