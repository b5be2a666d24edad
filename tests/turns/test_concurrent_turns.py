"""Many turns at once, and many events in a row."""

import asyncio

from sessiond.v1 import conversation_service_pb2 as cs

from ..support.model_server import ModelServer
from ..support.turns import sending
from ..support.wire import Wire


async def test_a_hundred_sessions_run_turns_at_once(wire: Wire, models: ModelServer) -> None:
    names = [f"s{i}" for i in range(100)]
    await asyncio.gather(*[wire.create(name) for name in names])
    sents = await asyncio.gather(
        *[sending(wire, name, f"I am {name}", model="echo") for name in names]
    )
    await asyncio.gather(*[sent.end() for sent in sents])
    for name, sent in zip(names, sents, strict=True):
        assert sent.delta_text.endswith(f"I am {name}")
        assert len(await wire.read(name)) == 2


async def test_events_keep_their_order_at_every_watcher(wire: Wire) -> None:
    await wire.create("one")
    watchers = [
        wire.conversations.Watch(cs.WatchRequest(session_id="one", after_seq=0)) for _ in range(3)
    ]
    for watcher in watchers:
        await watcher.read()
    sents = [await sending(wire, "one", f"word {i}", model="echo") for i in range(20)]
    for sent in sents:
        await sent.end()
        assert sent.types[:5] == [
            "user.message",
            "assistant.turn_start",
            "assistant.message_delta",
            "assistant.message",
            "assistant.turn_end",
        ]
    for watcher in watchers:
        types: list[str] = []
        while types.count("assistant.turn_end") < 20:
            for event in (await watcher.read()).events:
                if not (types and types[-1] == event.type and event.type.endswith("_delta")):
                    types.append(event.type)
        types = [type_ for type_ in types if type_ not in ("session.idle", "session.created")]
        assert types == sents[0].types[:5] * 20
