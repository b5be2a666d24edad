"""JSON text of callers: its limit of nesting, which is the same everywhere, and its numbers."""

import json

import pytest

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_OPENAI,
    ROLE_ASSISTANT,
    Message,
    Part,
    Parts,
    ToolCall,
)
from sessiond.v1.session_service_pb2 import CreateSessionRequest
from sessiond_server.core.errors import Fault
from sessiond_server.core.limits import MAX_JSON_LEVELS, Limits
from sessiond_server.formats.read import read
from sessiond_server.formats.token_counts import Estimate
from sessiond_server.messages.validation import MessageValidator

from ..support.wire import Wire, error_of, openai


def nested(levels: int, inner: str = "1") -> str:
    """Return JSON with `levels` levels, alternately objects and arrays."""
    half, odd = divmod(levels, 2)
    return '{"x":[' * half + "[" * odd + inner + "]" * odd + "]}" * half


def content(levels: int) -> Message:
    # The message, its content and the call are three levels around the input.
    value = f'[{{"type":"tool_use","id":"1","name":"f","input":{nested(levels - 3)}}}]'
    return Message(format=FORMAT_ANTHROPIC, json=f'{{"role":"assistant","content":{value}}}')


def unread(levels: int) -> Message:
    return Message(
        format=FORMAT_OPENAI, json=f'{{"role":"user","content":"x","odd":{nested(levels - 1)}}}'
    )


def data(levels: int) -> Message:
    return Message(role=ROLE_ASSISTANT, parts=Parts(parts=[Part(data=nested(levels))]))


def arguments(levels: int) -> Message:
    call = ToolCall(call_id="1", name="f", arguments_json=nested(levels))
    return Message(role=ROLE_ASSISTANT, parts=Parts(parts=[Part(tool_call=call)]))


PLACES = {
    "messages[1].json": (content, unread),
    "messages[1].parts.parts[0].data": (data,),
    "messages[1].parts.parts[0].tool_call.arguments_json": (arguments,),
}


def encode(*messages: Message) -> None:
    MessageValidator(Limits(), Estimate()).encode(messages)


@pytest.mark.parametrize("levels", [MAX_JSON_LEVELS + 1, 1000, 1005, 5000])
@pytest.mark.parametrize(
    ("path", "message_of"), [(path, one) for path, some in PLACES.items() for one in some]
)
def test_json_nested_too_deep_is_refused_with_its_path_and_the_limit(
    path: str, message_of: type[Message], levels: int
) -> None:
    with pytest.raises(Fault) as caught:
        encode(openai("fine"), message_of(levels))  # type: ignore[call-arg]
    assert caught.value.reason == "INVALID_JSON"
    assert caught.value.fields == {path: "is nested deeper than 200 levels"}


@pytest.mark.parametrize("message_of", [content, unread, data, arguments])
async def test_json_of_200_levels_is_stored_counted_and_read(
    wire: Wire, message_of: type[Message]
) -> None:
    message = message_of(MAX_JSON_LEVELS)  # type: ignore[call-arg]
    await wire.create("one")
    await wire.store("one", message)
    [stored] = await wire.read("one")
    assert (stored.json, stored.parts) == (message.json, message.parts)
    assert stored.token_count > 0
    assert read(stored).pieces


def test_many_flat_objects_are_not_taken_for_nested_ones() -> None:
    flat = json.dumps([{"a": [1]}] * 1000)
    encode(Message(format=FORMAT_OPENAI, json=f'{{"role":"user","content":"x","odd":{flat}}}'))


def test_brackets_in_text_do_not_count() -> None:
    encode(
        openai("[{" * 1000),
        Message(
            format=FORMAT_OPENAI,
            json=json.dumps({"role": "user", "content": [{"type": "text", "text": "[{" * 1000}]}),
        ),
    )


@pytest.mark.parametrize("number", ["1e400", "-1e999", "1" + "0" * 400 + ".5", "Infinity", "NaN"])
def test_a_number_that_is_none_for_others_is_refused(number: str) -> None:
    text = f'{{"role":"user","content":[{{"type":"text","text":"x","n":{number}}}]}}'
    with pytest.raises(Fault) as caught:
        encode(Message(format=FORMAT_OPENAI, json=text))
    assert caught.value.reason == "INVALID_JSON"
    assert list(caught.value.fields) == ["messages[0].json"]


@pytest.mark.parametrize(("levels", "reason"), [(31, "INVALID_FIELD"), (60, "MALFORMED_REQUEST")])
async def test_a_struct_nested_too_deep_is_refused_with_the_limit(
    wire: Wire, levels: int, reason: str
) -> None:
    request = CreateSessionRequest()
    struct = request.session.config
    for _ in range(levels):
        struct = struct.fields["x"].struct_value
    struct.SetInParent()
    error = await error_of(wire.sessions.CreateSession(request))
    assert error.reason == reason
    assert "deeper than 30 levels" in error.text
    assert [field[:20] for field in error.fields] == ["session.config.x.x.x"][: reason[0] == "I"]
