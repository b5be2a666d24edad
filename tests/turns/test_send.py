"""Send: a turn's requests, streams and stored messages, and refused calls."""

import json
from typing import Any

import grpc
import pytest

from sessiond.v1 import conversation_service_pb2 as cs
from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC, FORMAT_OPENAI, Message, Part, Parts
from sessiond.v1.turn_pb2 import (
    TURN_STATE_COMPLETED,
    TURN_STATE_RUNNING,
)

from ..support.model_server import ModelServer, Reply
from ..support.turns import send, sending
from ..support.wire import Wire, error_of, openai
from .calls import IMMEDIATE, send_held, turn_of, turns_of


async def test_a_turn_from_its_beginning_to_its_end(one: Wire, models: ModelServer) -> None:
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


async def test_the_model_gets_the_whole_history(one: Wire, models: ModelServer) -> None:
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


async def test_tool_calls_and_their_results_reach_the_model(one: Wire, models: ModelServer) -> None:
    models.script(Reply(tool_calls=[("c1", "look", '{"at":  1}')]), Reply("It is one."))
    turn = await send(
        one,
        "one",
        "look",
        options={"tools": [{"type": "function", "function": {"name": "look"}}]},
    )
    assert turn.stop_reason == "tool_calls"
    assert models.requests[0].body["tools"] == [{"type": "function", "function": {"name": "look"}}]
    result = '{"role":"tool","tool_call_id":"c1","content":"1"}'
    turn = await send(one, "one", messages=[Message(format=FORMAT_OPENAI, json=result)])
    assert (turn.first_seq, turn.last_seq) == (3, 4)
    assert (
        models.requests[1].body["messages"][1]["tool_calls"][0]["function"]["arguments"]
        == '{"at":  1}'
    )
    assert models.requests[1].body["messages"][2] == json.loads(result)


async def test_without_a_prompt_the_model_answers_the_history(
    one: Wire, models: ModelServer
) -> None:
    await one.store("one", "a question")
    sent = await sending(one, "one")
    turn = await sent.end()
    assert (sent.message_id, turn.first_seq, turn.last_seq) == ("", 2, 2)
    assert sent.types[0] == "assistant.turn_start"
    error = await error_of(
        one.conversations.Send(cs.SendRequest(session_id=(await one.create("empty")).session_id))
    )
    assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["prompt"])


async def test_the_last_of_several_messages_has_the_message_id(
    one: Wire, models: ModelServer
) -> None:
    sent = await sending(one, "one", messages=[openai("a"), openai("b")])
    await sent.end()
    first, second, _ = await one.read("one")
    assert (first.turn.message_id, second.turn.message_id) == ("", sent.message_id)
    assert first.turn.turn_id == second.turn.turn_id == sent.turn.turn_id


async def test_typed_parts_are_converted(one: Wire, models: ModelServer) -> None:
    await send(one, "one", messages=[Message(role=3, parts=Parts(parts=[Part(text="in parts")]))])
    assert "in parts" in json.dumps(models.requests[0].body["messages"])


async def test_the_sessions_config_reaches_the_model(wire: Wire, models: ModelServer) -> None:
    config = {
        "system_prompt": "Be kind.",
        "model_options": '{"temperature": 0.5, "max_tokens": 7}',
        "context": {"max_messages": 2, "keep_fraction": 1},
    }
    await wire.create("one", config=config, model="fake-2")
    await wire.store("one", openai("rules", "system"), "old", openai("older", "assistant"), "new")
    await send(wire, "one", "newest", options={"max_tokens": 9})
    body = models.requests[0].body
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("fake-2", 0.5, 9)
    assert [message["content"] for message in body["messages"]] == [
        "Be kind.",
        "rules",
        "new",
        "newest",
    ]


@pytest.mark.parametrize(
    "config",
    [
        {"system_prompt": 1},
        {"context": "x"},
        {"context": {"max_messages": -1}},
        {"context": {"max_tokens": 1.5}},
        {"context": {"keep_fraction": 0}},
        {"context": {"keep_fraction": 1.5}},
        {"context": {"keep_fraction": True}},
    ],
)
async def test_a_malformed_config_is_refused_with_its_field(
    wire: Wire, config: dict[str, Any]
) -> None:
    await wire.create("one", config=config)
    error = await error_of(wire.conversations.Send(cs.SendRequest(session_id="one", prompt="x")))
    assert error.reason == "INVALID_FIELD"
    assert next(iter(error.fields)).startswith("session.config.")
    assert await wire.read("one") == []


async def test_the_turns_model_chooses_the_provider(one: Wire, models: ModelServer) -> None:
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
        ({"prompt": "x" * 2**24}, "MESSAGE_TOO_LARGE", "prompt"),
        ({"prompt": "x", "mode": 7}, "INVALID_FIELD", "mode"),
        ({"prompt": "x", "model": "x" * 257}, "INVALID_FIELD", "model"),
        ({"prompt": "x", "model": "a\0"}, "INVALID_FIELD", "model"),
        ({"prompt": "x", "after_seq": -1}, "INVALID_FIELD", "after_seq"),
        ({"mode": IMMEDIATE}, "INVALID_FIELD", "prompt"),
        ({"prompt": "x", "turn_timeout": {"nanos": 1000}}, "INVALID_FIELD", "turn_timeout"),
    ],
)
async def test_an_invalid_send_is_refused_with_its_field_and_stores_nothing(
    one: Wire, fields: dict[str, Any], reason: str, field: str
) -> None:
    error = await error_of(one.conversations.Send(cs.SendRequest(session_id="one", **fields)))
    assert (error.reason, list(error.fields)) == (reason, [field])
    assert (await one.read("one"), await turns_of(one)) == ([], [])


@pytest.mark.parametrize(
    ("model", "setting"), [("gpt-5", "OPENAI_API_KEY"), ("nobodys", "providers")]
)
async def test_a_model_without_a_provider_is_refused(
    one: Wire, monkeypatch: pytest.MonkeyPatch, model: str, setting: str
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


async def test_a_send_to_a_destroyed_session_is_refused(one: Wire) -> None:
    await one.destroy("one")
    error = await error_of(one.conversations.Send(cs.SendRequest(session_id="one", prompt="x")))
    assert (error.code, error.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "SESSION_DESTROYED",
    )


async def test_messages_that_others_store_meanwhile_are_not_streamed(
    one: Wire, models: ModelServer
) -> None:
    sent = await send_held(one, models, "one", "hi")
    await one.store("one", "by the way")
    models.release()
    turn = await sent.end()
    assert [event.seq for event in sent.events if event.seq] == [1, 3]
    assert (turn.first_seq, turn.last_seq) == (1, 3)


async def test_clients_cannot_set_the_turn_of_a_message(one: Wire) -> None:
    message = openai("x")
    message.turn.turn_id = "mine"
    message.metadata.update({"a": 1})
    await one.store("one", message, openai("y"))
    assert not any(stored.HasField("turn") for stored in await one.read("one"))


async def test_a_prompt_may_have_a_message_id(one: Wire) -> None:
    prompt = openai("hi")
    prompt.message_id = "m"
    sent = await sending(one, "one", messages=[prompt], request_id="r")
    await sent.end()
    stored = await one.message("one", message_id="m")
    assert (stored.seq, stored.turn.message_id, sent.message_id) == (1, "m", "m")
    again = await sending(one, "one", messages=[prompt], request_id="r")
    assert again.message_id == "m"
    error = await error_of(send(one, "one", messages=[openai("ho"), prompt]))
    assert (error.reason, list(error.fields)) == (
        "MESSAGE_ALREADY_EXISTS",
        ["messages[1].message_id"],
    )
    assert (await one.get("one")).last_seq == 2


async def test_a_prompt_without_a_message_id_is_found_by_the_id_that_send_returns(
    one: Wire, models: ModelServer
) -> None:
    first = await send_held(one, models, "one", "a")
    queued = await sending(one, "one", messages=[openai("b"), openai("c")])
    models.release()
    await queued.end()
    for sent, text, seq in ((first, "a", 1), (queued, "c", 4)):
        stored = await one.message("one", message_id=sent.message_id)
        assert (stored.seq, json.loads(stored.json)["content"]) == (seq, text)
        assert stored.message_id == stored.turn.message_id == sent.message_id
    assert not (await one.message("one", 3)).message_id
    await one.rewind("one", before_message_id=queued.message_id)
    assert await one.texts("one") == ["a", "held back", "b"]


async def test_a_queued_prompt_whose_message_id_is_taken_meanwhile_fails(
    one: Wire, models: ModelServer
) -> None:
    await send_held(one, models)
    prompt = openai("hi")
    prompt.message_id = "m"
    queued = await sending(one, "one", messages=[prompt])
    await one.store("one", prompt)
    models.release()
    error = await queued.error()
    assert (error.reason, error.metadata["seq"]) == ("MESSAGE_ALREADY_EXISTS", "2")
