"""The stand-in of Responses accepts and refuses the same requests as the real API."""

from typing import Any

import pytest

from ..support.strict_models.openai_responses import validate_openai_responses
from ..support.strict_models.refusal import JSON, Refusal
from ..support.strict_models.sdk_types import validate_against_sdk
from .refusals import PNG, Case, check, each, nested

U: JSON = {"role": "user", "content": "q"}
A: JSON = {"role": "assistant", "content": "a"}


def ask(*items: Any, **options: Any) -> JSON:
    return {"model": "m", "input": list(items), **options}


def call(call_id: Any = "c1", **fields: Any) -> JSON:
    item: JSON = {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"}
    return item | fields


def output(call_id: Any = "c1", value: Any = "r", **fields: Any) -> JSON:
    return {"type": "function_call_output", "call_id": call_id, "output": value, **fields}


def custom(call_id: str = "c1") -> JSON:
    return {"type": "custom_tool_call", "call_id": call_id, "name": "f", "input": "i"}


def custom_output(call_id: str = "c1") -> JSON:
    return {"type": "custom_tool_call_output", "call_id": call_id, "output": "r"}


def think(item_id: str = "rs_1", encrypted: str | None = "ours", **fields: Any) -> JSON:
    item: JSON = {"type": "reasoning", "id": item_id, "summary": [], "encrypted_content": encrypted}
    return item | fields


def answer(item_id: str = "msg_1", **fields: Any) -> JSON:
    part = {"type": "output_text", "text": "a", "annotations": []}
    item: JSON = {"type": "message", "id": item_id, "role": "assistant", "status": "completed"}
    return item | {"content": [part]} | fields


def user(*parts: JSON) -> JSON:
    return {"role": "user", "content": list(parts)}


def text(value: str = "t") -> JSON:
    return {"type": "input_text", "text": value}


def image(**fields: Any) -> JSON:
    return {"type": "input_image", "detail": "auto", **fields}


def file(**fields: Any) -> JSON:
    return {"type": "input_file", **fields}


def tool(name: str) -> JSON:
    return {"type": "function", "name": name, "parameters": {"type": "object"}, "strict": False}


PDF = "data:application/pdf;base64,JVBERg=="
LOOP = (U, call(), output())
SEARCH: JSON = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
SEARCH |= {"action": {"type": "search", "query": "q"}}

RULES = each(
    Case("no input", ask(U), ask(), 'One of "input"'),
    Case("an empty text", ask(U) | {"input": "q"}, ask() | {"input": ""}, 'One of "input"'),
    Case("an unknown option", ask(U), ask(U, n=1), "Unknown parameter: 'n'"),
    Case("messages", ask(U), ask(U, messages=[U]), "Unknown parameter: 'messages'"),
    Case("an item that is no object", ask(U), ask("q"), "expected an object"),
    Case("an unknown item", ask(U), ask({"type": "tool_result"}), "Invalid value: 'tool_result'"),
    Case("an item's type that is no string", ask(U), ask({"type": 1}), "but got an integer"),
    Case("a role", ask(U), ask(U | {"role": "tool"}), "'assistant', 'system', 'developer'"),
    Case("a name", ask(U), ask(U | {"name": "Ann"}), "Unknown parameter: 'input[0].name'"),
    Case("calls in a message", ask(U, A), ask(U, A | {"tool_calls": []}), "input[1].tool_calls"),
    Case("no content", ask(U), ask({"role": "user"}), "input[0].content"),
    Case("null content", ask(U), ask(U | {"content": None}), "but got null"),
    Case("an empty list", ask(user(text())), ask(user()), "empty array"),
    Case("a part of Chat Completions", ask(U), ask(user({"type": "text"})), "'input_text'"),
    Case(
        "input in an answer", ask(U, answer()), ask(U, A | {"content": [text()]}), "'output_text'"
    ),
    Case("output in a prompt", ask(user(text())), ask(answer(role="user")), "'input_text'"),
    Case(
        "a part's key",
        ask(user(text())),
        ask(user(text() | {"id": "1"})),
        "Unknown parameter: 'input[0].content[0].id'",
    ),
    Case("a message's id", ask(U, answer()), ask(U, answer("item_1")), "begins with 'msg'"),
    Case("an empty id", ask(U, answer()), ask(U, answer("")), "contains letters"),
    Case("an id's letters", ask(U, answer()), ask(U, answer("msg.1")), "contains letters"),
    Case("a long id", ask(U, answer("msg_" + "1" * 60)), ask(U, answer("msg_" + "1" * 61)), "64"),
    Case("an id twice", ask(answer(), U, answer("msg_2")), ask(answer(), U, answer()), "Duplicate"),
    Case("a call's item id", ask(U, call(id="fc_1"), output()), ask(U, call(id="c1")), "'fc'"),
    Case("a null item id", ask(*LOOP), ask(U, call(id=None), output()), "but got null"),
    Case("an unanswered call", ask(*LOOP, U), ask(*LOOP[:2], U), "found for function call c1."),
    Case("a result without call", ask(*LOOP), ask(U, output()), "No tool call found for function"),
    Case("a result before its call", ask(*LOOP), ask(U, output(), call()), "No tool call found"),
    Case("a second result", ask(*LOOP), ask(*LOOP, output()), "Duplicate tool output"),
    Case("a call twice", ask(*LOOP, call("c2"), output("c2")), ask(*LOOP, call()), "Duplicate"),
    Case("a long call id", ask(U, call("i" * 64), output("i" * 64)), ask(U, call("i" * 65)), "64"),
    Case("an empty call id", ask(*LOOP), ask(U, call(""), output("")), "empty string"),
    Case("a null call id", ask(*LOOP), ask(U, call(), output(None)), "but got null"),
    Case(
        "another kind's result",
        ask(U, custom(), custom_output()),
        ask(U, custom(), output()),
        "No tool call found for function call output",
    ),
    Case(
        "an unanswered custom call", ask(U, custom(), custom_output()), ask(U, custom()), "custom"
    ),
    Case("a call's name", ask(*LOOP), ask(U, call(name="a.b"), output()), "pattern"),
    Case("arguments as object", ask(*LOOP), ask(U, call(arguments={}), output()), "a string"),
    Case("a null result", ask(*LOOP), ask(*LOOP[:2], output(value=None)), "but got null"),
    Case(
        "a result's parts",
        ask(*LOOP[:2], output(value=[text(), image(image_url="https://x.test/a.png")])),
        ask(*LOOP[:2], output(value=[{"type": "text", "text": "r"}])),
        "Supported values are: 'input_text'",
    ),
    Case("a result's key", ask(*LOOP), ask(*LOOP[:2], output(is_error=True)), "is_error"),
    Case("no summary", ask(think(), answer()), ask({"type": "reasoning", "id": "rs_1"}), "summary"),
    Case("no id of reasoning", ask(think(), answer()), ask({"type": "reasoning"}), "input[0].id"),
    Case("null content of reasoning", ask(think(), A), ask(think(content=None), A), "got null"),
    Case("reasoning's id", ask(think(), answer()), ask(think("r_1"), answer()), "'rs'"),
    Case("reasoning at the end", ask(U, think(), answer()), ask(U, think()), "required following"),
    Case("reasoning before a prompt", ask(think(), *LOOP[1:]), ask(think(), U), "following item"),
    Case(
        "reasoning before reasoning",
        ask(think(), SEARCH, think("rs_2"), answer("msg_2")),
        ask(think(), think("rs_2"), answer("msg_2")),
        "'rs_1' of type 'reasoning' was provided without its required following",
    ),
    Case(
        "an answer without its reasoning",
        ask(U, think(), answer()),
        ask(U, answer("msg_of_1")),
        "without its required 'reasoning' item: 'rs_1'",
    ),
    Case(
        "reasoning without its answer",
        ask(U, think(), answer("msg_of_1")),
        ask(U, think("rs_2"), answer("msg_of_1")),
        "'rs_2' of type 'reasoning' was provided without",
    ),
    Case(
        "foreign reasoning", ask(think(), A), ask(think(encrypted="theirs"), A), "not be verified"
    ),
    Case("reasoning by reference", ask(think(), A), ask(think(encrypted=None), A), "not found"),
    Case("a reference", ask(U), ask(U, {"type": "item_reference", "id": "msg_1"}), "not found"),
    Case(
        "a foreign compaction",
        ask({"type": "compaction", "encrypted_content": "ours"}, U),
        ask({"type": "compaction", "encrypted_content": "theirs"}, U),
        "could not be verified",
    ),
    Case("a former response", ask(U), ask(U, previous_response_id="resp_1"), "not found"),
    Case(
        "a picture's type",
        ask(user(image(image_url=f"data:image/png;base64,{PNG}"))),
        ask(user(image(image_url="data:image/bmp;base64,Qk0="))),
        "unsupported image",
    ),
    Case(
        "a picture's URL",
        ask(user(image(file_id="file-1"))),
        ask(user(image(image_url={"url": "https://x.test"}))),
        "expected a string",
    ),
    Case(
        "a file",
        ask(user(file(filename="a", file_data=PDF))),
        ask(user(file(filename="a", file_data="JVBERg=="))),
        "base64-encoded data URL",
    ),
    Case(
        "a file's name", ask(user(file(file_id="file-1"))), ask(user(file(file_data=PDF))), "name"
    ),
    Case(
        "a file's URL", ask(user(file(file_url="https://x"))), ask(user(file(file_url="x"))), "URL"
    ),
    Case("a tool's name", ask(U, tools=[tool("f")]), ask(U, tools=[tool("a b")]), "pattern"),
    Case(
        "too many tools",
        ask(U, tools=[tool(f"f{i}") for i in range(128)]),
        ask(U, tools=[tool(f"f{i}") for i in range(129)]),
        "maximum length 128",
    ),
    Case("few tokens", ask(U, max_output_tokens=16), ask(U, max_output_tokens=15), "minimum value"),
    Case(
        "stream options",
        ask(U, stream=True, stream_options={"include_obfuscation": False}),
        ask(U, stream_options={"include_obfuscation": False}),
        "only allowed when 'stream'",
    ),
    Case("instructions", ask(U, instructions="i"), ask(U, instructions=["i"]), "a string"),
    Case(
        "nesting",
        ask(U, metadata={"a": nested(250)}),
        ask(U, metadata={"a": nested(256)}),
        "nesting too deep",
    ),
    Case("a surrogate", ask(U), ask(U | {"content": "\ud83d"}), "could not parse the JSON body"),
)


@RULES
def test_responses_refuses(case: Case) -> None:
    refusal = check(
        validate_openai_responses,
        case,
        signatures=lambda encrypted, _: encrypted == "ours",
        reasoning_of={"msg_of_1": "rs_1"},
    )
    assert refusal.status == 400
    assert refusal.body()["error"]["type"] == "invalid_request_error"


def test_encrypted_content_belongs_to_its_item() -> None:
    with pytest.raises(Refusal, match="for item rs_2 could not be verified"):
        validate_openai_responses(
            ask(think("rs_2"), A), signatures=lambda *signed: signed == ("ours", "rs_1")
        )


def test_the_sdk_has_a_type_for_each_item() -> None:
    body = ask(
        user(text(), image(image_url="https://x.test/a.png"), file(filename="a", file_data=PDF)),
        think(),
        answer(),
        A,
        *LOOP,
        custom("c2"),
        custom_output("c2"),
        SEARCH,
        {"type": "compaction", "encrypted_content": "ours"},
        tools=[tool("f")],
        stream=True,
    )
    validate_openai_responses(body)
    assert validate_against_sdk("responses", body) == []
    assert any(
        line.endswith(".is_error: Extra inputs are not permitted")
        for line in validate_against_sdk("responses", ask(*LOOP[:2], output(is_error=True)))
    )
