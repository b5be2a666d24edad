"""Conversations on servers that are killed, with a model server that records its requests."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from sessiond.v1.conversation_service_pb2 import AbortRequest, GetTurnRequest, WatchRequest
from sessiond.v1.event_pb2 import Event
from sessiond.v1.message_pb2 import FORMAT_OPENAI, Message
from sessiond.v1.turn_pb2 import TURN_STATE_COMPLETED
from sessiond_server.formats.incomplete import NOTE

from ..support.model_server import ModelServer, Reply
from ..support.processes import ServerProcess
from ..support.turns import send, sending
from ..support.waiting import PATIENCE_S, until_async
from ..support.wire import Wire, taken_apart

Query = Callable[..., list[tuple[Any, ...]]]

LIVE_TEXT = ("assistant.message_partial", "assistant.message_delta")
HOLD = Reply("one two three four", after=2, then="hold")


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def start(
    start_server: Callable[..., ServerProcess], database_url: str, models: ModelServer
) -> Callable[[], ServerProcess]:
    """Start a server on the test's database and model server."""
    providers = {
        "fake": {
            "type": "openai",
            "base_url": models.openai_url,
            "models": ["gpt-*"],
            "retries": 0,
        },
        "other": {
            "type": "anthropic",
            "base_url": models.url,
            "models": ["claude-*"],
            "retries": 0,
            "api_key_env": "",
        },
    }
    environment = {
        "SESSIOND_DATABASE_URL": database_url,
        "SESSIOND_PROVIDERS": json.dumps(providers),
        "SESSIOND_DEFAULT_MODEL": "gpt-1",
        # Short, because tests wait until a lease runs out, but long enough for a busy machine to
        # renew each lease in time.
        "SESSIOND_TURN_LEASE_S": "5",
    }
    return lambda: start_server(**environment)


def channel(server: ServerProcess) -> grpc.aio.Channel:
    # Channels to one address would otherwise share a connection, which may be to a killed server.
    return grpc.aio.insecure_channel(server.target, options=[("grpc.use_local_subchannel_pool", 1)])


async def text_is_saved(query: Query) -> None:
    """Wait until the text that the model of HOLD has sent is in the database."""
    await until_async(
        lambda: query("SELECT content FROM turn_texts") == [(b"one ",)], "the text is saved"
    )


async def asked(models: ModelServer) -> None:
    """Wait until a model has been called and holds back the rest of its answer."""
    assert await asyncio.to_thread(models.wait_until_held)


class Watcher:
    """The events of a session from its beginning, as one server streams them."""

    def __init__(self, wire: Wire, session_id: str) -> None:
        self.call = wire.conversations.Watch(WatchRequest(session_id=session_id, after_seq=0))
        self.events: list[Event] = []

    async def until(self, condition: Callable[[Event], bool]) -> Event:
        """Wait for the first event for which the condition holds, and return it."""
        while not (found := [event for event in self.events if condition(event)]):
            async with asyncio.timeout(PATIENCE_S):
                self.events += (await self.call.read()).events
        return found[0]

    async def turn_end(self, turn_id: str) -> Event:
        return await self.until(
            lambda event: event.type == "assistant.turn_end" and event.data["turn_id"] == turn_id
        )


async def test_a_conversation_goes_on_after_the_servers_death(
    start: Callable[[], ServerProcess], models: ModelServer
) -> None:
    """The model's request of the fourth turn has the unchanged messages of the first three."""
    odd = (
        '{"role":"user",  "name":"ada",'
        '"content":[{"type":"text","text":"\\u00e9 \\u2028 caf\\u00e9 1.50"}]}'
    )
    call = Reply(tool_calls=[("c1", "look", '{ "at" : 1.50 }')])
    models.script(Reply("first answer"), call, Reply("It is three."))
    server = start()
    async with channel(server) as opened:
        wire = Wire(opened)
        await wire.create("talk", config={"system_prompt": "Be exact."})
        await send(wire, "talk", "first question")
        await send(wire, "talk", messages=[Message(format=FORMAT_OPENAI, json=odd)])
        await send(
            wire,
            "talk",
            messages=[
                Message(
                    format=FORMAT_OPENAI, json='{"role":"tool","tool_call_id":"c1","content":"3"}'
                )
            ],
        )
    server.kill()
    async with channel(start()) as opened:
        wire = Wire(opened)
        await wire.resume("talk")
        await send(wire, "talk", "fourth")
        stored = [json.loads(message.json) for message in await wire.read("talk")]
    assert len(stored) == 8
    assert models.requests[3].body["messages"] == [
        {"role": "system", "content": "Be exact."},
        *stored[:7],
    ]
    assert stored[2] == json.loads(odd)
    assert stored[3]["tool_calls"][0]["function"]["arguments"] == '{ "at" : 1.50 }'
    assert stored[6] == {"role": "user", "content": "fourth"}


async def test_turns_sent_at_one_server_are_watched_at_the_other(
    start: Callable[[], ServerProcess], models: ModelServer
) -> None:
    first, second = start(), start()
    async with channel(first) as here, channel(second) as there:
        wire, other = Wire(here), Wire(there)
        await wire.create("talk")
        watcher = Watcher(other, "talk")
        await watcher.call.read()
        for i in range(20):
            turn = await send(wire, "talk", f"question {i}")
            await watcher.turn_end(turn.turn_id)
        assert [event.seq for event in watcher.events if event.seq] == list(range(1, 41))
        for event in watcher.events:
            if event.type == "assistant.message_delta":
                assert event.data["delta_content"]
        kinds = [
            event.type
            for event in watcher.events
            if event.type in ("assistant.message", "assistant.turn_end")
        ]
        assert kinds == ["assistant.message", "assistant.turn_end"] * 20


async def test_the_turn_of_a_killed_server_fails_and_its_queue_runs_elsewhere(
    start: Callable[[], ServerProcess], models: ModelServer, query: Query
) -> None:
    models.script(HOLD)
    first, second = start(), start()
    async with channel(first) as here, channel(second) as there:
        wire, other = Wire(here), Wire(there)
        await wire.create("talk")
        watcher = Watcher(other, "talk")
        lost = await sending(wire, "talk", "never answered", request_id="r")
        await asked(models)
        waiting = await sending(wire, "talk", "answered elsewhere", request_id="s")
        # The text so far arrives at the other server.
        await watcher.until(lambda event: event.type in LIVE_TEXT)
        joined = await sending(other, "talk", "never answered", request_id="r")
        assert joined.turn.turn_id == lost.turn.turn_id
        await text_is_saved(query)
        first.kill()
        error = await joined.error()
        assert (error.code, error.reason, error.metadata["turn_id"]) == (
            grpc.StatusCode.ABORTED,
            "TURN_LOST",
            lost.turn.turn_id,
        )
        told = await watcher.until(lambda event: event.type == "session.error")
        assert (told.data["reason"], told.data["turn_id"]) == ("TURN_LOST", lost.turn.turn_id)
        assert (await watcher.turn_end(lost.turn.turn_id)).data["state"] == "failed"
        turn = await (await sending(other, "talk", "answered elsewhere", request_id="s")).end()
        assert turn.turn_id == waiting.turn.turn_id
        assert await other.texts("talk") == [
            "never answered",
            "one ",
            "answered elsewhere",
            "Hello from the model server.",
        ]
        assert [m["content"] for m in models.requests[1].body["messages"]] == [
            "never answered",
            f"one \n\n{NOTE}",
            "answered elsewhere",
        ]
        await watcher.turn_end(turn.turn_id)
        assert [event.seq for event in watcher.events if event.seq] == [1, 2, 3, 4]


async def test_a_restarted_server_ends_its_own_lost_turn(
    start: Callable[[], ServerProcess], models: ModelServer, query: Query
) -> None:
    models.script(HOLD)
    server = start()
    async with channel(server) as opened:
        wire = Wire(opened)
        await wire.create("talk")
        lost = await sending(wire, "talk", "never answered", request_id="r")
        await sending(wire, "talk", "later")
        await asked(models)
        await text_is_saved(query)
    server.kill()
    async with channel(start()) as opened:
        wire = Wire(opened)
        error = await (await sending(wire, "talk", "never answered", request_id="r")).error()
        assert (error.reason, error.metadata["turn_id"]) == ("TURN_LOST", lost.turn.turn_id)
        await send(wire, "talk", "last")
        hello = "Hello from the model server."
        assert await wire.texts("talk") == [
            "never answered",
            "one ",
            "later",
            hello,
            "last",
            hello,
        ]


async def test_copies_of_a_template_run_on_different_providers(
    start: Callable[[], ServerProcess], models: ModelServer
) -> None:
    async with channel(start()) as opened:
        wire = Wire(opened)
        await wire.create("template")
        await wire.store(
            "template",
            Message(format=FORMAT_OPENAI, json='{"role":"system","content":"Answer in one line."}'),
        )
        names = {"a": "gpt-5", "b": "claude-sonnet-4"}
        await asyncio.gather(*[wire.copy("template", name) for name in names])
        turns = await asyncio.gather(
            *[send(wire, name, "What is a qubit?", model=model) for name, model in names.items()]
        )
        assert [turn.model for turn in turns] == list(names.values())
        bodies = {request.body["model"]: request.body for request in models.requests}
        assert [m["role"] for m in bodies["gpt-5"]["messages"]] == ["system", "user"]
        assert "Answer in one line." in json.dumps(bodies["claude-sonnet-4"]["system"])
        await send(wire, "a", "Shorter.", model="gpt-5")
        assert [len(await wire.read(name)) for name in ("template", "a", "b")] == [1, 5, 3]


async def test_random_deaths_lose_no_acknowledged_turn(start: Callable[[], ServerProcess]) -> None:
    """Each accepted Send has one outcome, and each answer belongs to its question.

    There are two servers, one of which is killed and restarted under load.
    """
    servers = [start(), start()]
    accepted: dict[str, str] = {}

    async def ask(number: int) -> None:
        """Send under one request_id until the turn has an outcome."""
        while True:
            try:
                async with channel(servers[number % 2]) as opened:
                    sent = await sending(
                        Wire(opened),
                        "talk",
                        f"question {number}",
                        model="echo",
                        request_id=f"r{number}",
                    )
                    accepted[f"r{number}"] = sent.turn.turn_id
                    await sent.end()
                    return
            except grpc.aio.AioRpcError as e:
                error = taken_apart(e)
                if error.reason == "TURN_LOST":
                    accepted[f"r{number}"] = error.metadata["turn_id"]
                    return
                await asyncio.sleep(0.05)

    async with channel(servers[1]) as opened:
        wire = Wire(opened)
        await wire.create("talk")
        asking = [asyncio.create_task(ask(number)) for number in range(60)]
        for _ in range(3):
            goal = min(sum(task.done() for task in asking) + 10, 60)
            await until_async(
                lambda goal=goal: sum(task.done() for task in asking) >= goal,  # type: ignore[misc]
                "ten more turns ended",
            )
            servers[0].kill()
            servers[0] = await asyncio.to_thread(start)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*asking)
        messages = await wire.read("talk")
        texts = [
            (message.turn.turn_id, json.loads(message.json)["content"]) for message in messages
        ]
        for number in range(60):
            turn = await wire.conversations.GetTurn(
                GetTurnRequest(session_id="talk", turn_id=accepted[f"r{number}"])
            )
            of_turn = [text for turn_id, text in texts if turn_id == turn.turn_id]
            assert of_turn[0] == f"question {number}"
            if turn.state == TURN_STATE_COMPLETED:
                assert of_turn[1].endswith(f"question {number}")
            # A lost turn keeps its saved text, marked as incomplete. Servers save text twice a
            # second.
            is_answered = turn.state == TURN_STATE_COMPLETED or turn.partial_seq > 0
            assert len(of_turn) == (2 if is_answered else 1)
            incomplete = [
                message.seq
                for message in messages
                if message.turn.turn_id == turn.turn_id and message.incomplete
            ]
            assert incomplete == ([turn.partial_seq] if turn.partial_seq else [])
        assert len({turn_id for turn_id, _ in texts}) == 60
        assert not (
            await wire.conversations.Abort(AbortRequest(session_id="talk", include_queued=True))
        ).turns


async def test_aimock_sees_the_whole_conversation(
    aimock: Any, start_server: Callable[..., ServerProcess], database_url: str
) -> None:
    """A model server that is not ours receives all earlier messages, in both formats."""
    aimock.on_message("first", {"content": "one"})
    aimock.on_message("second", {"content": "two"})
    for kind, path in (("openai", "/v1"), ("anthropic", "")):
        providers = {
            "mock": {"type": kind, "base_url": aimock.url + path, "models": ["mock"], "retries": 0}
        }
        server = start_server(
            SESSIOND_DATABASE_URL=database_url,
            SESSIOND_PROVIDERS=json.dumps(providers),
            SESSIOND_DEFAULT_MODEL="mock",
        )
        async with channel(server) as opened:
            wire = Wire(opened)
            await wire.create(kind)
            await send(wire, kind, "first")
            await send(wire, kind, "second")
            assert [json.loads(m.json)["role"] for m in await wire.read(kind)] == [
                "user",
                "assistant",
            ] * 2
        requests = [entry["body"]["messages"] for entry in aimock.get_journal()]
        assert [len(messages) for messages in requests[-2:]] == [1, 3]
