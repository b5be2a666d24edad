"""Send, Abort, GetTurn, ListTurns: what a turn stores, in which order turns run, how they end."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import psycopg
import pytest

from sessiond.v1 import conversation_service_pb2 as cs
from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC, FORMAT_OPENAI, Message, Part, Parts
from sessiond.v1.turn_pb2 import (
    TURN_STATE_ABORTED,
    TURN_STATE_COMPLETED,
    TURN_STATE_FAILED,
    TURN_STATE_QUEUED,
    TURN_STATE_RUNNING,
    Turn,
)
from sessiond_server.core.limits import MAX_OPEN_TURNS
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PooledConnection, PoolExhausted
from sessiond_server.messages.store.history import HistoryStore
from sessiond_server.providers.settings import ProviderSettings
from sessiond_server.server import Running, drain, serving
from sessiond_server.settings import Settings
from sessiond_server.watch.store import APPLICATION_NAME as NAME

from ..support.model_server import ModelServer, Reply, fails
from ..support.turns import send, sending
from ..support.waiting import until_async, until_waiting
from ..support.wire import Wire, error_of, openai

IMMEDIATE = cs.SEND_MODE_IMMEDIATE


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def settings(settings: Settings, models: ModelServer) -> Settings:
    own = {"silence_timeout_s": 30, "retries": 0}
    providers = {
        "fake": ProviderSettings(
            type="openai", base_url=models.openai_url, models=("fake-*",), **own
        ),
        "other": ProviderSettings(
            type="anthropic", base_url=models.url, api_key_env="", models=("other-*",), **own
        ),
    }
    return settings.model_copy(
        update={"providers": providers, "default_model": "fake-1", "turn_lease_s": 600}
    )


@pytest.fixture
async def one(wire: Wire) -> Wire:
    """A server with a session "one"."""
    await wire.create("one")
    return wire


async def held(models: ModelServer) -> None:
    """Wait until the model was asked, and holds its answer back."""
    assert await asyncio.to_thread(models.wait_until_held)


async def turn_of(wire: Wire, turn_id: str, session_id: str = "one") -> Turn:
    return await wire.conversations.GetTurn(
        cs.GetTurnRequest(session_id=session_id, turn_id=turn_id)
    )


async def turns_of(wire: Wire, session_id: str = "one", **fields: Any) -> list[Turn]:
    return list(
        (
            await wire.conversations.ListTurns(cs.ListTurnsRequest(session_id=session_id, **fields))
        ).turns
    )


async def abort(wire: Wire, session_id: str = "one", **fields: Any) -> list[str]:
    answer = await wire.conversations.Abort(cs.AbortRequest(session_id=session_id, **fields))
    return [turn.turn_id for turn in answer.turns]


HOLD = Reply("held back", after=1, then="hold")


class TestSend:
    async def test_a_turn_from_its_beginning_to_its_end(
        self, one: Wire, models: ModelServer
    ) -> None:
        models.script(Reply("Hello, Ada.", usage=(12, 5)))
        sent = await sending(one, "one", "hi")
        assert (sent.turn.state, sent.turn.session_id, sent.turn.model, sent.turn.first_seq) == (
            TURN_STATE_RUNNING,
            "one",
            "fake-1",
            1,
        )
        turn = await sent.end()
        assert sent.types == [
            "user.message",
            "assistant.turn_start",
            "assistant.message_delta",
            "assistant.message",
            "assistant.turn_end",
            "session.idle",
        ]
        assert sent.delta_text == "Hello, Ada."
        assert [event.seq for event in sent.events if event.seq] == [1, 2]
        assert {event.data["turn_id"] for event in sent.events if not event.seq} == {turn.turn_id}
        assert (turn.turn_id, turn.state, turn.first_seq, turn.last_seq, turn.stop_reason) == (
            sent.turn.turn_id,
            TURN_STATE_COMPLETED,
            1,
            2,
            "stop",
        )
        assert (turn.usage.input_tokens, turn.usage.output_tokens) == (12, 5)
        assert (
            turn.create_time.ToNanoseconds()
            <= turn.start_time.ToNanoseconds()
            <= turn.end_time.ToNanoseconds()
        )
        assert await turn_of(one, turn.turn_id) == turn
        asked, answer = await one.read("one")
        assert asked.json == '{"role":"user","content":"hi"}'
        assert (asked.turn.turn_id, asked.turn.message_id, asked.turn.model) == (
            turn.turn_id,
            sent.message_id,
            "",
        )
        assert json.loads(answer.json) == {"role": "assistant", "content": "Hello, Ada."}
        assert (answer.turn.turn_id, answer.turn.message_id, answer.turn.provider) == (
            turn.turn_id,
            "",
            "fake",
        )
        assert (answer.turn.stop_reason, answer.turn.usage) == ("stop", turn.usage)

    async def test_the_model_is_given_all_that_was_said_before(
        self, one: Wire, models: ModelServer
    ) -> None:
        texts = [
            '{"role": "system","content":"Be short."}',
            '{"content":"é\\u00e9  ", "role":"user", "name":"ada"}',
        ]
        await one.store("one", *[Message(format=FORMAT_OPENAI, json=text) for text in texts])
        await send(one, "one", "first")
        await send(one, "one", "second")
        history = [json.loads(message.json) for message in await one.read("one")]
        assert [request.body["messages"] for request in models.requests] == [
            history[:3],
            history[:5],
        ]
        assert history[:2] == [json.loads(text) for text in texts]

    async def test_tool_calls_are_kept_and_answered(self, one: Wire, models: ModelServer) -> None:
        models.script(Reply(tool_calls=[("c1", "look", '{"at":  1}')]), Reply("It is one."))
        turn = await send(
            one,
            "one",
            "look",
            options={"tools": [{"type": "function", "function": {"name": "look"}}]},
        )
        assert turn.stop_reason == "tool_calls"
        assert models.requests[0].body["tools"] == [
            {"type": "function", "function": {"name": "look"}}
        ]
        result = '{"role":"tool","tool_call_id":"c1","content":"1"}'
        turn = await send(one, "one", messages=[Message(format=FORMAT_OPENAI, json=result)])
        assert (turn.first_seq, turn.last_seq) == (3, 4)
        assert (
            models.requests[1].body["messages"][1]["tool_calls"][0]["function"]["arguments"]
            == '{"at":  1}'
        )
        assert models.requests[1].body["messages"][2] == json.loads(result)

    async def test_without_anything_sent_the_model_goes_on(
        self, one: Wire, models: ModelServer
    ) -> None:
        await one.store("one", "a question")
        sent = await sending(one, "one")
        turn = await sent.end()
        assert (sent.message_id, turn.first_seq, turn.last_seq) == ("", 2, 2)
        assert sent.types[0] == "assistant.turn_start"
        error = await error_of(
            one.conversations.Send(
                cs.SendRequest(session_id=(await one.create("empty")).session_id)
            )
        )
        assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["prompt"])

    async def test_messages_are_one_batch_and_the_last_one_has_the_id(
        self, one: Wire, models: ModelServer
    ) -> None:
        sent = await sending(one, "one", messages=[openai("a"), openai("b")])
        await sent.end()
        first, second, _ = await one.read("one")
        assert (first.turn.message_id, second.turn.message_id) == ("", sent.message_id)
        assert first.turn.turn_id == second.turn.turn_id == sent.turn.turn_id

    async def test_typed_parts_are_converted(self, one: Wire, models: ModelServer) -> None:
        await send(
            one, "one", messages=[Message(role=3, parts=Parts(parts=[Part(text="in parts")]))]
        )
        assert "in parts" in json.dumps(models.requests[0].body["messages"])

    async def test_the_sessions_config_reaches_the_model(
        self, wire: Wire, models: ModelServer
    ) -> None:
        config = {
            "system_prompt": "Be kind.",
            "model_options": {"temperature": 0.5, "max_tokens": 7},
            "context": {"max_messages": 2},
        }
        await wire.create("one", config=config, model="fake-2")
        await wire.store(
            "one", openai("rules", "system"), "old", openai("older", "assistant"), "new"
        )
        await send(wire, "one", "newest", options={"max_tokens": 9})
        body = models.requests[0].body
        assert (body["model"], body["temperature"], body["max_tokens"]) == ("fake-2", 0.5, 9)
        assert [message["content"] for message in body["messages"]] == [
            "Be kind.",
            "rules",
            "new",
            "newest",
        ]

    async def test_a_context_has_the_calls_of_its_results(
        self, wire: Wire, models: ModelServer
    ) -> None:
        calls = [
            {"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}}
            for name in "abc"
        ]
        called = {"role": "assistant", "content": None, "tool_calls": calls}
        results = [{"role": "tool", "tool_call_id": name, "content": name} for name in "abc"]
        used = [{"type": "tool_result", "tool_use_id": "a", "content": "1"}]
        use = {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}],
        }
        await wire.create("one", config={"context": {"max_messages": 2}})
        await wire.store(
            "one",
            "x",
            *[
                Message(format=FORMAT_OPENAI, json=json.dumps(value))
                for value in (called, *results)
            ],
        )
        await send(wire, "one")
        assert models.requests[0].body["messages"] == [called, *results]
        await wire.create("two", config={"context": {"max_messages": 2}})
        both = (use, {"role": "user", "content": used})
        await wire.store(
            "two",
            "x",
            *[Message(format=FORMAT_ANTHROPIC, json=json.dumps(value)) for value in both],
        )
        await send(wire, "two", "y", model="other-1")
        assert models.requests[1].body["messages"][1:] == [*both, {"role": "user", "content": "y"}]

    @pytest.mark.parametrize(
        "config",
        [
            {"system_prompt": 1},
            {"model_options": []},
            {"context": "x"},
            {"context": {"max_messages": -1}},
            {"context": {"max_tokens": 1.5}},
        ],
    )
    async def test_a_config_that_means_nothing_is_named(
        self, wire: Wire, config: dict[str, Any]
    ) -> None:
        await wire.create("one", config=config)
        error = await error_of(
            wire.conversations.Send(cs.SendRequest(session_id="one", prompt="x"))
        )
        assert error.reason == "INVALID_FIELD"
        assert next(iter(error.fields)).startswith("session.config.")
        assert await wire.read("one") == []

    async def test_another_provider_by_the_turns_model(
        self, one: Wire, models: ModelServer
    ) -> None:
        await send(one, "one", "for openai")
        turn = await send(one, "one", "for anthropic", model="other-1")
        assert (turn.model, turn.stop_reason) == ("other-1", "end_turn")
        assert models.requests[1].path.endswith("/messages")
        assert [message.format for message in await one.read("one")] == [
            FORMAT_OPENAI,
            FORMAT_OPENAI,
            FORMAT_ANTHROPIC,
            FORMAT_ANTHROPIC,
        ]

    @pytest.mark.parametrize(
        ("fields", "reason", "field"),
        [
            ({"prompt": "x", "messages": [openai("y")]}, "INVALID_FIELD", "messages"),
            ({"messages": [openai("y")] * 101}, "INVALID_FIELD", "messages"),
            (
                {"messages": [Message(format=FORMAT_OPENAI, json="{")]},
                "INVALID_JSON",
                "messages[0].json",
            ),
            (
                {"messages": [Message(format=FORMAT_OPENAI, json='{"role":"x"}')]},
                "UNKNOWN_ROLE",
                "messages[0].json.role",
            ),
            ({"prompt": "x" * 1_100_000}, "MESSAGE_TOO_LARGE", "prompt"),
            ({"prompt": "x", "mode": 7}, "INVALID_FIELD", "mode"),
            ({"prompt": "x", "model": "x" * 257}, "INVALID_FIELD", "model"),
            ({"prompt": "x", "model": "a\0"}, "INVALID_FIELD", "model"),
            ({"prompt": "x", "after_seq": -1}, "INVALID_FIELD", "after_seq"),
            ({"mode": IMMEDIATE}, "INVALID_FIELD", "prompt"),
            ({"prompt": "x", "turn_timeout": {"nanos": 1000}}, "INVALID_FIELD", "turn_timeout"),
        ],
    )
    async def test_what_cannot_be_sent_is_named_and_nothing_is_stored(
        self, one: Wire, fields: dict[str, Any], reason: str, field: str
    ) -> None:
        error = await error_of(one.conversations.Send(cs.SendRequest(session_id="one", **fields)))
        assert (error.reason, list(error.fields)) == (reason, [field])
        assert (await one.read("one"), await turns_of(one)) == ([], [])

    @pytest.mark.parametrize(
        ("model", "setting"), [("gpt-5", "OPENAI_API_KEY"), ("nobodys", "providers")]
    )
    async def test_a_model_that_nobody_serves(
        self, one: Wire, monkeypatch: pytest.MonkeyPatch, model: str, setting: str
    ) -> None:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        error = await error_of(
            one.conversations.Send(cs.SendRequest(session_id="one", prompt="x", model=model))
        )
        assert (error.code, error.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "MODEL_NOT_CONFIGURED",
        )
        assert (error.metadata["model"], error.metadata["setting"]) == (model, setting)
        assert model in error.text
        assert await one.read("one") == []

    async def test_a_destroyed_session_takes_no_turn(self, one: Wire) -> None:
        await one.destroy("one")
        error = await error_of(one.conversations.Send(cs.SendRequest(session_id="one", prompt="x")))
        assert (error.code, error.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "SESSION_DESTROYED",
        )

    async def test_what_others_store_meanwhile_is_not_the_turns(
        self, one: Wire, models: ModelServer
    ) -> None:
        models.script(HOLD)
        sent = await sending(one, "one", "hi")
        await held(models)
        await one.store("one", "by the way")
        models.release()
        turn = await sent.end()
        assert [event.seq for event in sent.events if event.seq] == [1, 3]
        assert (turn.first_seq, turn.last_seq) == (1, 3)

    async def test_messages_of_callers_have_no_turn(self, one: Wire) -> None:
        message = openai("x")
        message.turn.turn_id = "mine"
        message.metadata.update({"a": 1})
        await one.store("one", message, openai("y"))
        assert not any(stored.HasField("turn") for stored in await one.read("one"))


class TestRepetitions:
    async def test_a_turn_that_runs_is_joined(self, one: Wire, models: ModelServer) -> None:
        models.script(HOLD)
        first = await sending(one, "one", "hi", request_id="r")
        await held(models)
        first.call.cancel()
        second = await sending(one, "one", "hi", request_id="r")
        assert (second.turn, second.message_id) == (first.turn, first.message_id)
        models.release()
        turn = await second.end()
        assert second.types[0] == "user.message"
        assert second.types[-3:] == ["assistant.message", "assistant.turn_end", "session.idle"]
        third = await sending(one, "one", "hi", request_id="r", after_seq=1)
        assert (third.turn, await third.end()) == (turn, turn)
        assert third.types == ["assistant.message"]
        fourth = await sending(one, "one", "hi", request_id="r", after_seq=2)
        await fourth.end()
        assert (fourth.types, len(models.requests), await one.texts("one")) == (
            [],
            1,
            ["hi", "held back"],
        )

    async def test_a_turn_that_waits_is_joined(self, one: Wire, models: ModelServer) -> None:
        models.script(HOLD)
        await sending(one, "one", "a")
        await held(models)
        first = await sending(one, "one", "b", request_id="r")
        second = await sending(one, "one", "b", request_id="r")
        assert second.turn == first.turn
        models.release()
        assert await first.end() == await second.end()
        assert first.types == second.types

    async def test_a_failed_turn_fails_again(self, one: Wire, models: ModelServer) -> None:
        models.script(fails(500))
        first = await (await sending(one, "one", "hi", request_id="r")).error()
        second = await (await sending(one, "one", "hi", request_id="r")).error()
        assert (first.reason, second.reason, len(models.requests)) == (
            "MODEL_UNAVAILABLE",
            "MODEL_UNAVAILABLE",
            1,
        )
        assert first.metadata["turn_id"] == second.metadata["turn_id"]

    async def test_other_content_is_refused(self, one: Wire) -> None:
        await send(one, "one", "hi", request_id="r")
        for fields in (
            {"prompt": "ho"},
            {"prompt": "hi", "model": "fake-2"},
            {"prompt": "hi", "mode": IMMEDIATE},
        ):
            error = await error_of(
                one.conversations.Send(cs.SendRequest(session_id="one", request_id="r", **fields))
            )
            assert (error.reason, list(error.fields)) == ("REQUEST_ID_REUSED", ["request_id"])

    async def test_many_at_once_are_one_turn(self, one: Wire, models: ModelServer) -> None:
        ends = await asyncio.gather(*[send(one, "one", "hi", request_id="r") for _ in range(20)])
        assert len({turn.turn_id for turn in ends}) == len(models.requests) == 1
        assert len(await one.read("one")) == 2

    async def test_a_repetition_after_the_sessions_end(self, one: Wire) -> None:
        turn = await send(one, "one", "hi", request_id="r")
        await one.destroy("one")
        assert await send(one, "one", "hi", request_id="r") == turn


class TestQueue:
    async def test_turns_run_one_after_the_other(self, one: Wire, models: ModelServer) -> None:
        models.script(HOLD)
        first = await sending(one, "one", "a")
        await held(models)
        others = [await sending(one, "one", text) for text in "bcd"]
        assert [sent.turn.state for sent in others] == [TURN_STATE_QUEUED] * 3
        assert await one.texts("one") == ["a"]
        assert [turn.state for turn in await turns_of(one)] == [TURN_STATE_QUEUED] * 3 + [
            TURN_STATE_RUNNING
        ]
        models.release()
        await first.end()
        assert first.types[-1] == "assistant.turn_end"  # not idle: others wait
        for sent in others:
            await sent.end()
            assert sent.types[:2] == ["user.message", "assistant.turn_start"]
        assert others[-1].types[-1] == "session.idle"
        hello = "Hello from the model server."
        assert await one.texts("one") == ["a", "held back", "b", hello, "c", hello, "d", hello]

    async def test_a_queue_goes_on_after_a_failure(self, one: Wire, models: ModelServer) -> None:
        models.script(Reply(after=1, then="hold", status=200, text="x y"), fails(500))
        await sending(one, "one", "a")
        await held(models)
        second, third = await sending(one, "one", "b"), await sending(one, "one", "c")
        models.release()
        assert (await second.error()).reason == "MODEL_UNAVAILABLE"
        assert (await third.end()).state == TURN_STATE_COMPLETED

    async def test_as_many_as_may_wait(self, one: Wire, models: ModelServer) -> None:
        models.script(HOLD)
        await sending(one, "one", "a")
        await held(models)
        await asyncio.gather(*[sending(one, "one", "b") for _ in range(MAX_OPEN_TURNS - 1)])
        error = await error_of(one.conversations.Send(cs.SendRequest(session_id="one", prompt="c")))
        assert (error.reason, error.metadata["what"], error.metadata["limit"]) == (
            "LIMIT_EXCEEDED",
            "turns",
            str(MAX_OPEN_TURNS),
        )
        assert len(await abort(one, include_queued=True)) == MAX_OPEN_TURNS

    async def test_what_steers_becomes_a_part_of_the_turn(
        self, one: Wire, models: ModelServer
    ) -> None:
        models.script(HOLD, Reply("steered", usage=(20, 1)))
        first = await sending(one, "one", "a")
        await held(models)
        queued = await sending(one, "one", "q")
        steer = await sending(one, "one", "b", mode=IMMEDIATE, request_id="s")
        assert (steer.turn.turn_id, steer.turn.state) == (first.turn.turn_id, TURN_STATE_RUNNING)
        assert steer.message_id not in ("", first.message_id)
        models.release()
        turn = await first.end()
        assert await steer.end() == turn
        await queued.end()
        assert (await one.texts("one"))[:5] == ["a", "held back", "b", "steered", "q"]
        assert {message.turn.turn_id for message in (await one.read("one"))[:4]} == {turn.turn_id}
        assert [message.turn.message_id for message in await one.read("one")][2] == steer.message_id
        assert (turn.first_seq, turn.last_seq, turn.usage.input_tokens) == (1, 4, 32)
        assert [m["content"] for m in models.requests[1].body["messages"]] == [
            "a",
            "held back",
            "b",
        ]
        assert [event.seq for event in steer.events if event.seq][-2:] == [3, 4]
        again = await sending(one, "one", "b", mode=IMMEDIATE, request_id="s")
        assert (again.turn.turn_id, await again.end()) == (turn.turn_id, turn)
        assert len(await turns_of(one)) == 2

    async def test_what_steers_a_turn_that_fails_has_its_own(
        self, one: Wire, models: ModelServer
    ) -> None:
        models.script(
            Reply("x y", after=1, then="hold", error={"type": "server_error", "message": "no"}),
            Reply("its own"),
        )
        first = await sending(one, "one", "a")
        await held(models)
        queued = await sending(one, "one", "q")
        steer = await sending(one, "one", "b", mode=IMMEDIATE)
        await abort(one, turn_id=first.turn.turn_id)
        assert (await first.error()).reason == "TURN_ABORTED"
        turn = await steer.end()
        assert turn.turn_id not in (first.turn.turn_id, queued.turn.turn_id)
        await queued.end()
        assert (await one.texts("one"))[:4] == ["a", "b", "its own", "q"]

    async def test_immediate_with_nothing_to_steer_is_a_turn(self, one: Wire) -> None:
        assert (await send(one, "one", "a", mode=IMMEDIATE)).last_seq == 2


class TestAbort:
    async def test_a_turn_that_runs(self, one: Wire, models: ModelServer) -> None:
        models.script(HOLD)
        sent = await sending(one, "one", "a")
        await held(models)
        assert await abort(one) == [sent.turn.turn_id]
        error = await sent.error()
        assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "TURN_ABORTED")
        assert (error.metadata["session_id"], error.metadata["turn_id"]) == (
            "one",
            sent.turn.turn_id,
        )
        assert sent.types[-2:] == ["assistant.turn_end", "session.idle"]
        assert sent.events[-2].data["state"] == "aborted"
        assert await asyncio.to_thread(models.wait_until_left)
        turn = await turn_of(one, sent.turn.turn_id)
        assert (turn.state, turn.error.reason, turn.last_seq) == (
            TURN_STATE_ABORTED,
            "TURN_ABORTED",
            0,
        )
        assert await one.texts("one") == ["a"]
        await send(one, "one", "b")
        assert len(await one.read("one")) == 3

    async def test_a_turn_that_waits(self, one: Wire, models: ModelServer) -> None:
        models.script(HOLD)
        first = await sending(one, "one", "a")
        await held(models)
        second, third = await sending(one, "one", "b"), await sending(one, "one", "c")
        assert await abort(one, turn_id=second.turn.turn_id) == [second.turn.turn_id]
        assert (await second.error()).reason == "TURN_ABORTED"
        models.release()
        await first.end()
        await third.end()
        assert (await one.texts("one"))[2] == "c"

    async def test_all(self, one: Wire, models: ModelServer) -> None:
        models.script(HOLD)
        sents = [await sending(one, "one", text) for text in "abc"]
        assert sorted(await abort(one, include_queued=True)) == sorted(
            sent.turn.turn_id for sent in sents
        )
        assert {(await sent.error()).reason for sent in sents} == {"TURN_ABORTED"}
        assert await one.texts("one") == ["a"]

    async def test_nothing(self, one: Wire) -> None:
        assert await abort(one) == []
        turn = await send(one, "one", "a")
        assert await abort(one, turn_id=turn.turn_id) == await abort(one, include_queued=True) == []
        assert await turn_of(one, turn.turn_id) == turn

    async def test_a_repetition_ends_no_other_turn(self, one: Wire, models: ModelServer) -> None:
        models.script(HOLD, HOLD)
        first = await sending(one, "one", "a")
        await held(models)
        second = await sending(one, "one", "b")
        assert await abort(one, request_id="r") == [first.turn.turn_id]
        await held(models)
        assert await abort(one, request_id="r") == [first.turn.turn_id]
        assert (await turn_of(one, second.turn.turn_id)).state == TURN_STATE_RUNNING
        error = await error_of(
            one.conversations.Abort(
                cs.AbortRequest(session_id="one", include_queued=True, request_id="r")
            )
        )
        assert error.reason == "REQUEST_ID_REUSED"

    async def test_what_is_no_turn(self, one: Wire) -> None:
        unknown = "01a1fdd5-3184-795a-b9ea-f0446f57ac47"
        for made in (
            one.conversations.Abort(cs.AbortRequest(session_id="one", turn_id=unknown)),
            one.conversations.GetTurn(cs.GetTurnRequest(session_id="one", turn_id=unknown)),
        ):
            error = await error_of(made)
            assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "TURN_NOT_FOUND")
            assert (error.metadata["session_id"], error.metadata["turn_id"]) == ("one", unknown)
        for request in (
            cs.AbortRequest(session_id="one", turn_id="x"),
            cs.AbortRequest(session_id="one", turn_id=unknown, include_queued=True),
        ):
            assert (await error_of(one.conversations.Abort(request))).reason == "INVALID_FIELD"
        for turn_id in ("", "x"):
            error = await error_of(
                one.conversations.GetTurn(cs.GetTurnRequest(session_id="one", turn_id=turn_id))
            )
            assert list(error.fields) == ["turn_id"]

    async def test_a_client_that_leaves_may_end_its_turn(
        self, one: Wire, models: ModelServer
    ) -> None:
        models.script(HOLD)
        sent = await sending(one, "one", "a", abort_on_disconnect=True)
        await held(models)
        sent.call.cancel()
        assert await asyncio.to_thread(models.wait_until_left)
        async with asyncio.timeout(60):
            while (await turn_of(one, sent.turn.turn_id)).state == TURN_STATE_RUNNING:
                await asyncio.sleep(0.01)
        assert (await turn_of(one, sent.turn.turn_id)).state == TURN_STATE_ABORTED

    @pytest.mark.parametrize("is_cancelled", [True, False])
    async def test_or_leave_it_running(
        self, one: Wire, models: ModelServer, is_cancelled: bool
    ) -> None:
        models.script(HOLD)
        sent = await sending(one, "one", "a", timeout_s=None if is_cancelled else 1.0)
        await held(models)
        if is_cancelled:
            sent.call.cancel()
        else:
            assert (await sent.error()).code == grpc.StatusCode.DEADLINE_EXCEEDED
        second = await sending(one, "one", "b")
        models.release()
        await second.end()
        assert (await turn_of(one, sent.turn.turn_id)).state == TURN_STATE_COMPLETED


class TestFaults:
    @pytest.mark.parametrize(
        ("reply", "reason", "code", "metadata"),
        [
            (
                fails(401),
                "MODEL_ACCESS_DENIED",
                grpc.StatusCode.FAILED_PRECONDITION,
                {"http_status": "401"},
            ),
            (
                fails(400, "too long"),
                "MODEL_REQUEST_REJECTED",
                grpc.StatusCode.FAILED_PRECONDITION,
                {"http_status": "400"},
            ),
            (
                fails(429, headers={"retry-after": "17"}),
                "MODEL_RATE_LIMITED",
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                {"http_status": "429", "retry_after_s": "17"},
            ),
            (fails(500), "MODEL_UNAVAILABLE", grpc.StatusCode.ABORTED, {"http_status": "500"}),
            (Reply("a b c", after=2, then="cut"), "MODEL_UNAVAILABLE", grpc.StatusCode.ABORTED, {}),
            (
                Reply("a b c", after=2, then="garbage"),
                "MODEL_ANSWER_INVALID",
                grpc.StatusCode.ABORTED,
                {},
            ),
            (Reply("x" * 1_100_000), "MODEL_ANSWER_INVALID", grpc.StatusCode.ABORTED, {}),
        ],
    )
    async def test_each_is_told_and_the_next_turn_works(
        self,
        one: Wire,
        models: ModelServer,
        reply: Reply,
        reason: str,
        code: grpc.StatusCode,
        metadata: dict[str, str],
    ) -> None:
        models.script(reply)
        sent = await sending(one, "one", "hi")
        error = await sent.error()
        assert (error.code, error.reason) == (code, reason)
        expected = {
            "session_id": "one",
            "turn_id": sent.turn.turn_id,
            "model": "fake-1",
            "provider": "fake",
            **metadata,
        }
        assert {name: error.metadata.get(name) for name in expected} == expected
        assert error.retry_s == (17 if reason == "MODEL_RATE_LIMITED" else None)
        assert sent.types[-3:] == ["session.error", "assistant.turn_end", "session.idle"]
        told = sent.events[-3].data
        assert (told["reason"], told["message"], told["turn_id"]) == (
            reason,
            error.text,
            sent.turn.turn_id,
        )
        turn = await turn_of(one, sent.turn.turn_id)
        assert (turn.state, turn.error.reason, turn.error.message) == (
            TURN_STATE_FAILED,
            reason,
            error.text,
        )
        assert await one.texts("one") == ["hi"]
        assert (await send(one, "one", "again")).state == TURN_STATE_COMPLETED
        assert [m["content"] for m in models.requests[-1].body["messages"]] == ["hi", "again"]

    async def test_a_turn_that_takes_too_long(self, one: Wire, models: ModelServer) -> None:
        models.script(HOLD)
        sent = await sending(one, "one", "hi", turn_timeout={"seconds": 1})
        error = await sent.error()
        assert (error.code, error.reason, error.metadata["timeout_s"]) == (
            grpc.StatusCode.ABORTED,
            "TURN_TIMED_OUT",
            "1",
        )
        assert await asyncio.to_thread(models.wait_until_left)

    @pytest.mark.parametrize("after", [-1, 2])
    async def test_a_model_that_falls_silent(
        self, settings: Settings, database_url: str, models: ModelServer, after: int
    ) -> None:
        """Before its first byte, or in mid-answer."""
        providers = {
            "fake": settings.providers["fake"].model_copy(update={"silence_timeout_s": 0.5})
        }
        impatient = settings.model_copy(update={"providers": providers})
        async with (
            serving(impatient, database_url) as running,
            grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
        ):
            wire = Wire(channel)
            await wire.create("one")
            models.script(Reply("one two", after=after, then="hold"))
            sent = await sending(wire, "one", "hi")
            error = await sent.error()
            assert (error.code, error.reason, error.metadata["timeout_s"]) == (
                grpc.StatusCode.ABORTED,
                "MODEL_TIMED_OUT",
                "0.5",
            )
            assert (sent.types[-3], sent.events[-3].data["reason"]) == (
                "session.error",
                "MODEL_TIMED_OUT",
            )
            assert await asyncio.to_thread(models.wait_until_left)
            assert await wire.texts("one") == ["hi"]
            models.release()
            assert (await send(wire, "one", "again")).state == TURN_STATE_COMPLETED

    async def test_a_history_that_is_too_large(
        self, settings: Settings, database_url: str, models: ModelServer
    ) -> None:
        small = settings.model_copy(update={"max_context_bytes": 2000})
        async with (
            serving(small, database_url) as running,
            grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
        ):
            wire = Wire(channel)
            await wire.create("one")
            await wire.store("one", "x" * 2000)
            error = await (await sending(wire, "one", "y")).error()
            assert (error.reason, error.metadata["max_bytes"]) == ("CONTEXT_TOO_LARGE", "2000")
            assert int(error.metadata["context_bytes"]) > 2000

    async def test_an_asset_that_went_while_the_turn_waited(
        self, one: Wire, models: ModelServer, query: Callable[..., Any]
    ) -> None:
        """What is sent is checked at once, and again when its time comes."""
        models.script(HOLD)
        first = await sending(one, "one", "a")
        await held(models)
        second = await sending(one, "one", messages=[openai("sessiond-asset:" + "0" * 64)])
        third = await sending(one, "one", "c")
        models.release()
        await first.end()
        assert (await second.error()).reason == "ASSET_NOT_FOUND"
        await third.end()
        assert (await one.texts("one"))[2] == "c"


class TestLife:
    async def test_destroying_ends_what_runs_and_what_waits(
        self, one: Wire, models: ModelServer
    ) -> None:
        models.script(HOLD)
        sents = [await sending(one, "one", text) for text in "ab"]
        await held(models)
        await one.destroy("one")
        assert [(await sent.error()).reason for sent in sents] == ["TURN_ABORTED"] * 2
        await one.resume("one")
        await send(one, "one", "c")
        assert (await one.texts("one"))[:2] == ["a", "c"]

    async def test_a_session_that_is_deleted(
        self, one: Wire, models: ModelServer, purger: Any, query: Callable[..., Any]
    ) -> None:
        models.script(HOLD)
        sents = [await sending(one, "one", text) for text in "ab"]
        await held(models)
        await one.delete("one")
        assert [(await sent.error()).reason for sent in sents] == ["SESSION_NOT_FOUND"] * 2
        assert await asyncio.to_thread(models.wait_until_left)
        await one.create("one")
        assert await turns_of(one) == []
        await send(one, "one", "anew")
        await one.delete("one")
        await purger.round()
        assert query("SELECT count(*) FROM turns") == [(0,)]

    async def test_a_copy_has_the_messages_and_not_the_turns(
        self, one: Wire, models: ModelServer
    ) -> None:
        models.script(HOLD)
        await sending(one, "one", "a")
        await held(models)
        await one.copy("one", "two")
        await send(one, "two", "b")
        assert await one.texts("two") == ["a", "b", "Hello from the model server."]
        assert len(await turns_of(one, "two")) == 1

    async def test_a_turn_keeps_its_session_from_expiring(
        self, wire: Wire, models: ModelServer, purger: Any, query: Callable[..., Any]
    ) -> None:
        await wire.create("one", idle_ttl_s=1)
        models.script(HOLD)
        sent = await sending(wire, "one", "a")
        await held(models)
        query(
            "UPDATE sessions SET used_at = used_at - interval '20 seconds', expiry_check_at = now() - interval '20 seconds'"
        )
        await purger.round()
        assert (await wire.get("one")).last_seq == 1
        models.release()
        assert (await sent.end()).last_seq == 2
        query("UPDATE sessions SET used_at = used_at - interval '20 seconds'")
        assert (
            await error_of(wire.sessions.GetSession(ss.GetSessionRequest(session_id="one")))
        ).reason == "SESSION_NOT_FOUND"

    async def test_pages_of_turns(self, one: Wire) -> None:
        ids = [(await send(one, "one", text)).turn_id for text in "abcde"]
        request = cs.ListTurnsRequest(session_id="one", page_size=2)
        found = []
        while True:
            page = await one.conversations.ListTurns(request)
            found += [turn.turn_id for turn in page.turns]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert found == ids[::-1]
        assert [turn.turn_id for turn in await turns_of(one, state=TURN_STATE_COMPLETED)] == ids[
            ::-1
        ]
        assert await turns_of(one, state=TURN_STATE_FAILED) == []
        error = await error_of(turns_of(one, state=9))
        assert list(error.fields) == ["state"]


class TestServers:
    @pytest.fixture
    async def other(self, settings: Settings, database_url: str) -> AsyncIterator[Wire]:
        """Another server of the same database."""
        async with (
            serving(settings, database_url) as running,
            grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
        ):
            yield Wire(channel)

    async def test_a_turn_is_joined_from_another_server(
        self, one: Wire, other: Wire, models: ModelServer
    ) -> None:
        models.script(HOLD)
        await sending(one, "one", "hi", request_id="r")
        await held(models)
        joined = await sending(other, "one", "hi", request_id="r")
        waiting = await sending(other, "one", "ho")
        models.release()
        turn = await joined.end()
        assert turn.last_seq == 2
        # Deltas come while they are news: not behind the message, should that be found before the notice comes.
        assert joined.delta_text.strip() in ("", "back", "held back")
        assert joined.types[-2:] == ["assistant.message", "assistant.turn_end"]
        assert (await waiting.end()).last_seq == 4

    async def test_a_turn_is_aborted_at_another_server(
        self, one: Wire, other: Wire, models: ModelServer
    ) -> None:
        models.script(HOLD)
        sent, waiting = await sending(one, "one", "a"), await sending(one, "one", "b")
        await held(models)
        assert await abort(other) == [sent.turn.turn_id]
        assert (await sent.error()).reason == "TURN_ABORTED"
        assert await asyncio.to_thread(models.wait_until_left)
        assert (await waiting.end()).state == TURN_STATE_COMPLETED
        assert len(await one.read("one")) == 3

    async def test_a_server_that_only_slept_cannot_write(
        self,
        one: Wire,
        settings: Settings,
        database_url: str,
        models: ModelServer,
        query: Callable[..., Any],
    ) -> None:
        models.script(Reply("too late", after=1, then="hold"), Reply("in time"))
        slept = await sending(one, "one", "a")
        await held(models)
        waiting = await sending(one, "one", "b")
        query("UPDATE turns SET lease_until = now() - interval '1 second' WHERE state = 2")
        # Nothing tells the first server: it hears no notices, and its own look at its leases is far away.
        query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s",
            [NAME],
        )
        async with (
            serving(settings, database_url) as running,
            grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
        ):
            turn = await waiting.end()
            assert (turn.state, turn.first_seq) == (TURN_STATE_COMPLETED, 2)
            models.release()
            error = await slept.error()
            assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "TURN_LOST")
            assert await Wire(channel).texts("one") == ["a", "b", "in time"]
            await send(Wire(channel), "one", "c")
        assert "too late" not in await one.texts("one")

    async def test_what_waits_is_left_to_others_when_a_server_drains(
        self, settings: Settings, database_url: str, models: ModelServer
    ) -> None:
        quick = settings.model_copy(update={"turn_lease_s": 0.5})
        models.script(HOLD)
        async with (
            serving(settings, database_url) as first,
            grpc.aio.insecure_channel(f"127.0.0.1:{first.port}") as channel,
        ):
            wire = Wire(channel)
            await wire.create("one")
            running, waiting = (
                await sending(wire, "one", "a", request_id="r"),
                await sending(wire, "one", "b", request_id="s"),
            )
            await held(models)
            draining = asyncio.ensure_future(drain(first, delay_s=0, timeout_s=60))
            assert (
                (await running.error()).reason
                == (await waiting.error()).reason
                == "SERVER_DRAINING"
            )
            async with (
                serving(quick, database_url) as second,
                grpc.aio.insecure_channel(f"127.0.0.1:{second.port}") as other,
            ):
                joined = (
                    await sending(Wire(other), "one", "a", request_id="r"),
                    await sending(Wire(other), "one", "b", request_id="s"),
                )
                models.release()
                await draining
                assert [(await sent.end()).last_seq for sent in joined] == [2, 4]

    async def test_a_server_that_is_stopped_gives_its_turn_up(
        self, settings: Settings, database_url: str, models: ModelServer
    ) -> None:
        models.script(HOLD)
        async with (
            serving(settings, database_url) as first,
            grpc.aio.insecure_channel(f"127.0.0.1:{first.port}") as channel,
        ):
            wire = Wire(channel)
            await wire.create("one")
            sent = await sending(wire, "one", "a")
            await held(models)
        async with (
            serving(settings, database_url) as second,
            grpc.aio.insecure_channel(f"127.0.0.1:{second.port}") as channel,
        ):
            turn = await turn_of(Wire(channel), sent.turn.turn_id)
            assert (turn.state, turn.error.reason) == (TURN_STATE_FAILED, "TURN_LOST")


class TestCrowd:
    async def test_a_hundred_sessions_at_once(self, wire: Wire, models: ModelServer) -> None:
        names = [f"s{i}" for i in range(100)]
        await asyncio.gather(*[wire.create(name) for name in names])
        sents = await asyncio.gather(
            *[sending(wire, name, f"I am {name}", model="echo") for name in names]
        )
        await asyncio.gather(*[sent.end() for sent in sents])
        for name, sent in zip(names, sents, strict=True):
            assert sent.delta_text.endswith(f"I am {name}")
            assert len(await wire.read(name)) == 2

    async def test_events_keep_their_order_however_fast_they_come(self, wire: Wire) -> None:
        """Deltas before the message that they make, and that before the turn's end, at every watcher."""
        await wire.create("one")
        watchers = [
            wire.conversations.Watch(cs.WatchRequest(session_id="one", after_seq=0))
            for _ in range(3)
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


class TestCallersThatLeave:
    """A caller that is gone at the very moment of the commit: what was committed is gone on with."""

    @pytest.fixture
    def committed(self, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
        """Set at the end of each transaction, which then takes a while longer."""
        committed, leave = asyncio.Event(), PooledConnection.__aexit__

        async def linger(lease: PooledConnection, *exc: Any) -> None:
            in_transaction = sys._getframe(1).f_code.co_name == "transaction"
            await leave(lease, *exc)
            if in_transaction:
                committed.set()
                await asyncio.sleep(0.2)

        monkeypatch.setattr(PooledConnection, "__aexit__", linger)
        return committed

    async def test_of_send(self, one: Wire, committed: asyncio.Event) -> None:
        committed.clear()
        call = one.conversations.Send(cs.SendRequest(session_id="one", prompt="hi"))
        await committed.wait()
        call.cancel()
        await newest(one, TURN_STATE_COMPLETED)

    async def test_of_abort(self, one: Wire, models: ModelServer, committed: asyncio.Event) -> None:
        models.script(HOLD)
        await sending(one, "one", "first")
        await held(models)
        await sending(one, "one", "second")
        committed.clear()
        call = one.conversations.Abort(cs.AbortRequest(session_id="one"))
        await committed.wait()
        call.cancel()
        await newest(one, TURN_STATE_COMPLETED)


async def newest(wire: Wire, state: int) -> None:
    """Return when the session's newest turn is in a state."""
    async with asyncio.timeout(20):
        while (await turns_of(wire))[0].state != state:
            await asyncio.sleep(0.02)


def chunk(**choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, **choice}]}


class TestOddWords:
    """What a provider may say, and PostgreSQL, UTF-8 or protobuf cannot."""

    @pytest.mark.parametrize("word", ["st\0op", "\ud83d", 7, {"a": 1}, "x" * 10_000])
    async def test_reasons_and_names(self, one: Wire, models: ModelServer, word: Any) -> None:
        models.script(
            Reply(
                events=[
                    {"model": word, **chunk(delta={"content": "x"})},
                    chunk(delta={}, finish_reason=word),
                ]
            )
        )
        turn = await send(one, "one", "hi")
        assert (turn.state, turn.last_seq) == (TURN_STATE_COMPLETED, 2)
        assert len(turn.stop_reason) <= 256

    async def test_a_character_in_halves(self, one: Wire, models: ModelServer) -> None:
        models.script(
            Reply(
                events=[
                    chunk(delta={"content": "a\ud83d"}),
                    chunk(delta={"content": "\ude00b\ud83d"}),
                    chunk(delta={}, finish_reason="stop"),
                ]
            )
        )
        sent = await sending(one, "one", "hi")
        await sent.end()
        assert sent.delta_text == "a\U0001f600b"
        assert json.loads((await one.read("one"))[1].json)["content"] == "a\U0001f600b\ud83d"
        # And half a character in the history.
        assert (await send(one, "one", "again")).state == TURN_STATE_COMPLETED
        assert (await send(one, "one", "again", model="echo")).state == TURN_STATE_COMPLETED

    @pytest.mark.parametrize("calls", ["x", {"a": 1}, [1]])
    async def test_calls_that_are_none(self, one: Wire, models: ModelServer, calls: Any) -> None:
        models.script(
            Reply(
                events=[
                    chunk(delta={"tool_calls": calls}),
                    chunk(delta={}, finish_reason="tool_calls"),
                ]
            )
        )
        assert (await (await sending(one, "one", "hi")).error()).reason == "MODEL_ANSWER_INVALID"

    @pytest.mark.parametrize("message", ["\ud83d half", "with \0"])
    async def test_errors(self, one: Wire, models: ModelServer, message: str) -> None:
        models.script(
            fails(400, message),
            fails(429, headers={"retry-after-ms": "inf"}),
            fails(429, headers={"retry-after": "9" * 40}),
        )
        assert (await (await sending(one, "one", "hi")).error()).reason == "MODEL_REQUEST_REJECTED"
        assert (await (await sending(one, "one", "hi")).error()).retry_s is None
        assert (await (await sending(one, "one", "hi")).error()).retry_s == 30 * 86_400

    async def test_what_looks_like_an_asset(self, one: Wire, models: ModelServer) -> None:
        models.script(Reply("sessiond-asset:" + "0" * 64))
        assert (await send(one, "one", "hi")).state == TURN_STATE_COMPLETED

    async def test_as_large_as_a_message_may_be(self, one: Wire) -> None:
        sent = await sending(
            one, "one", "x" * 1_048_000, options={"echo_text": "short"}, model="echo"
        )
        await sent.end()
        assert sent.types[0] == "user.message"


class TestLostAcknowledgements:
    """The database commits, and its answer is lost."""

    @pytest.fixture
    def lose(self, server: Running, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
        """Lose the acknowledgement of the next transaction."""
        transaction = server.database.transaction
        losing = asyncio.Event()

        @asynccontextmanager
        async def lossy() -> AsyncIterator[Any]:
            async with transaction() as connection:
                yield connection
            if losing.is_set():
                losing.clear()
                raise DatabaseUnavailable("lost")

        monkeypatch.setattr(server.database, "transaction", lossy)
        return losing.set

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        # What is lost is found at the next look.
        return settings.model_copy(update={"turn_lease_s": 1.5})

    async def test_of_an_answer_that_goes_on(
        self, one: Wire, models: ModelServer, lose: Callable[[], None]
    ) -> None:
        models.script(HOLD, Reply("steered"))
        first = await sending(one, "one", "a")
        await held(models)
        steer = await sending(one, "one", "b", mode=IMMEDIATE)
        lose()
        models.release()
        turn = await first.end()
        assert await steer.end() == turn
        assert await one.texts("one") == ["a", "held back", "b", "steered"]
        assert turn.usage.input_tokens == 24
        assert len(models.requests) == 2

    async def test_of_a_turns_end(
        self, one: Wire, models: ModelServer, lose: Callable[[], None]
    ) -> None:
        models.script(HOLD)
        first = await sending(one, "one", "a")
        await held(models)
        others = [await sending(one, "one", text) for text in "bc"]
        lose()
        models.release()
        assert [(await sent.end()).state for sent in (first, *others)] == [TURN_STATE_COMPLETED] * 3
        assert first.types[-2:] == ["assistant.message", "assistant.turn_end"]
        assert (await one.texts("one"))[::2] == ["a", "b", "c"]
        assert len(models.requests) == 3

    async def test_of_a_send(self, one: Wire, lose: Callable[[], None]) -> None:
        lose()
        error = await error_of(
            one.conversations.Send(cs.SendRequest(session_id="one", prompt="hi", request_id="r"))
        )
        assert error.reason == "DATABASE_UNAVAILABLE"
        assert (await send(one, "one", "hi", request_id="r")).state == TURN_STATE_COMPLETED
        assert len(await one.read("one")) == 2

    async def test_of_an_abort(
        self, one: Wire, models: ModelServer, lose: Callable[[], None]
    ) -> None:
        models.script(HOLD)
        first, second = await sending(one, "one", "a"), await sending(one, "one", "b")
        await held(models)
        lose()
        error = await error_of(
            one.conversations.Abort(cs.AbortRequest(session_id="one", request_id="r"))
        )
        assert error.reason == "DATABASE_UNAVAILABLE"
        assert await abort(one, request_id="r") == [first.turn.turn_id]
        assert (await second.end()).state == TURN_STATE_COMPLETED


class TestHardTimes:
    async def test_a_database_that_is_away_when_the_history_is_read(
        self, one: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        head, failures = (
            HistoryStore.head,
            iter((DatabaseUnavailable("away"), PoolExhausted("busy"), Contention("locked"))),
        )

        async def failing(self: HistoryStore, *args: Any) -> Any:
            caller = sys._getframe(1).f_code.co_name
            if caller == "history_of" and (failure := next(failures, None)):
                raise failure
            return await head(self, *args)

        monkeypatch.setattr(HistoryStore, "head", failing)
        assert (await send(one, "one", "hi")).state == TURN_STATE_COMPLETED
        assert next(failures, None) is None

    async def test_a_row_that_is_locked_holds_up_no_renewal(
        self, settings: Settings, database_url: str, models: ModelServer, query: Callable[..., Any]
    ) -> None:
        quick = settings.model_copy(update={"turn_lease_s": 0.5})
        models.script(HOLD, HOLD)
        async with (
            serving(quick, database_url) as running,
            grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
        ):
            wire = Wire(channel)
            for name in ("locked", "live"):
                await wire.create(name)
                await sending(wire, name, "a")
                await held(models)
            with psycopg.connect(database_url) as blocker:
                blocker.execute("SELECT FROM sessions WHERE session_id = 'locked' FOR UPDATE")
                # Nobody's any more, for all that this server can see.
                locked = "key = (SELECT key FROM sessions WHERE session_id = 'locked')"
                query(
                    f"UPDATE turns SET holder = gen_random_uuid(), lease_until = now() - interval '1 second' WHERE {locked}"
                )
                await until_waiting(database_url)
                leases = set(query(f"SELECT lease_until FROM turns WHERE NOT {locked}"))
                async with asyncio.timeout(60):
                    while len(leases) < 4:
                        await asyncio.sleep(0.01)
                        leases |= set(query(f"SELECT lease_until FROM turns WHERE NOT {locked}"))
            models.release()
            await until_async(
                lambda: query(f"SELECT state FROM turns WHERE {locked}") == [(4,)],
                "the lost one is ended",
            )

    async def test_what_steered_a_turn_is_that_turn(self, one: Wire, models: ModelServer) -> None:
        models.script(HOLD)
        first = await sending(one, "one", "a")
        await held(models)
        await sending(one, "one", "b", mode=IMMEDIATE)
        [waiting] = await turns_of(one, state=TURN_STATE_QUEUED)
        models.release()
        turn = await first.end()
        assert await turn_of(one, waiting.turn_id) == turn
