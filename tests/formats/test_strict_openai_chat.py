"""The stand-in of Chat Completions accepts and refuses the same requests as the real APIs."""

import math
from typing import Any

import pytest

from ..support.strict_models.openai_chat import (
    validate_deepseek,
    validate_groq,
    validate_openai_chat,
)
from ..support.strict_models.refusal import JSON, Refusal
from ..support.strict_models.sdk_types import validate_against_sdk
from .refusals import JPEG, PNG, Case, check, each, nested

U: JSON = {"role": "user", "content": "q"}
A: JSON = {"role": "assistant", "content": "a"}


def chat(*messages: Any, **options: Any) -> JSON:
    return {"model": "m", "messages": list(messages), **options}


def call(call_id: Any = "c1", name: Any = "f", arguments: Any = "{}") -> JSON:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def calls(*made: JSON, **fields: Any) -> JSON:
    return {"role": "assistant", "content": None, "tool_calls": list(made), **fields}


def tool(call_id: str = "c1", content: Any = "r", **fields: Any) -> JSON:
    return {"role": "tool", "tool_call_id": call_id, "content": content, **fields}


def user(*parts: JSON) -> JSON:
    return {"role": "user", "content": list(parts)}


def image(url: str) -> JSON:
    return user({"type": "image_url", "image_url": {"url": url}})


def file(**fields: str) -> JSON:
    return user({"type": "file", "file": fields})


def audio(audio_format: str, data: str = "AAAA") -> JSON:
    return user({"type": "input_audio", "input_audio": {"data": data, "format": audio_format}})


def function(name: str, **fields: Any) -> JSON:
    return {"type": "function", "function": {"name": name, **fields}}


PDF = "data:application/pdf;base64,JVBERg=="
LOOP = (U, calls(call()), tool())

OPENAI = each(
    Case("no messages", chat(U), chat(), "empty array"),
    Case("too many messages", chat(*[U] * 2048), chat(*[U] * 2049), "maximum length 2048"),
    Case("a message that is no object", chat(U), chat("q"), "expected an object"),
    Case("no model", chat(U), {"messages": [U]}, "Missing required parameter: 'model'"),
    Case("an unknown option", chat(U, n=1), chat(U, top_k=1), "Unrecognized request argument"),
    Case("no role", chat(U), chat({"content": "q"}), "'messages[0].role'"),
    Case("a null role", chat(U), chat({"role": None, "content": "q"}), "but got null"),
    Case("an unknown role", chat(U), chat({"role": "human", "content": "q"}), "'human'"),
    Case("an unknown key", chat(U), chat(U | {"id": "1"}), "Unknown parameter: 'messages[0].id'"),
    Case(
        "reasoning in a message",
        chat(U, A | {"annotations": []}, U),
        chat(U, A | {"reasoning_content": "r"}, U),
        "'messages[1].reasoning_content'",
    ),
    Case("no content", chat(U), chat({"role": "user"}), "'messages[0].content'"),
    Case("a null prompt", chat(U), chat({"role": "user", "content": None}), "got null"),
    Case("an empty list", chat(user({"type": "text", "text": ""})), chat(user()), "empty array"),
    Case(
        "an answer of nothing",
        chat(U, {"role": "assistant", "content": None, "refusal": "no"}, U),
        chat(U, {"role": "assistant", "content": None}, U),
        "got null",
    ),
    Case(
        "an assistant's picture",
        chat(U, {"role": "assistant", "content": [{"type": "text", "text": "a"}]}),
        chat(U, image("https://x.test/a.png") | {"role": "assistant"}),
        "Supported values are: 'text', 'refusal'",
    ),
    Case("a part without type", chat(user({"type": "text", "text": "q"})), chat(user({})), "type"),
    Case("an unknown part", chat(U), chat(user({"type": "tool_use"})), "'tool_use'"),
    Case("a part's type that is no string", chat(U), chat(user({"type": 1})), "an integer"),
    Case("empty calls", chat(*LOOP), chat(U, calls(content="a"), U), "empty array"),
    Case("null calls", chat(U, A, U), chat(U, A | {"tool_calls": None}, U), "got null"),
    Case("a null legacy call", chat(U, A), chat(U, A | {"function_call": None}), "got null"),
    Case("null audio", chat(U, A), chat(U, A | {"audio": None}), "got null"),
    Case(
        "too many calls",
        chat(U, calls(*[call(f"c{i}") for i in range(128)]), *[tool(f"c{i}") for i in range(128)]),
        chat(U, calls(*[call(f"c{i}") for i in range(129)]), *[tool(f"c{i}") for i in range(129)]),
        "maximum length 128",
    ),
    Case("a call without id", chat(*LOOP), chat(U, calls(call("")), tool("")), "empty string"),
    Case(
        "a long id",
        chat(U, calls(call("i" * 40)), tool("i" * 40)),
        chat(U, calls(call("i" * 41)), tool("i" * 41)),
        "maximum length 40",
    ),
    Case(
        "a call without type",
        chat(*LOOP),
        chat(U, calls({"id": "c1", "function": {"name": "f", "arguments": "{}"}}), tool()),
        "tool_calls[0].type",
    ),
    Case(
        "a call's index",
        chat(*LOOP),
        chat(U, calls(call() | {"index": 0}), tool()),
        "'messages[1].tool_calls[0].index'",
    ),
    Case("no function name", chat(*LOOP), chat(U, calls(call(name="")), tool()), "empty string"),
    Case("a dot in a name", chat(*LOOP), chat(U, calls(call(name="a.b")), tool()), "pattern"),
    Case("a long name", chat(*LOOP), chat(U, calls(call(name="n" * 65)), tool()), "length 64"),
    Case("arguments as object", chat(*LOOP), chat(U, calls(call(arguments={})), tool()), "string"),
    Case("an unanswered call", chat(*LOOP, U), chat(*LOOP[:2], U), "did not have response"),
    Case("a call at the end", chat(*LOOP), chat(*LOOP[:2]), "did not have response messages: c1"),
    Case(
        "one of two unanswered",
        chat(U, calls(call(), call("c2")), tool("c2"), tool()),
        chat(U, calls(call(), call("c2")), tool("c2"), U),
        "response messages: c1",
    ),
    Case("a result without call", chat(*LOOP), chat(U, tool()), "must be a response to a prec"),
    Case("a late result", chat(*LOOP, U), chat(*LOOP, U, tool()), "must be a response to a prec"),
    Case("another call's result", chat(*LOOP), chat(U, calls(call()), tool("c2")), "not found in"),
    Case("a second result", chat(*LOOP), chat(*LOOP, tool()), "Duplicate value"),
    Case(
        "a call id twice",
        chat(*LOOP, calls(call("c2")), tool("c2")),
        chat(*LOOP, calls(call()), tool()),
        "Duplicate value for 'tool_call_id' of 'c1'",
    ),
    Case("a null result", chat(*LOOP), chat(*LOOP[:2], tool(content=None)), "got null"),
    Case("a result's object", chat(*LOOP), chat(*LOOP[:2], tool(content={"t": 1})), "an array"),
    Case(
        "a result's picture",
        chat(*LOOP[:2], tool(content=[{"type": "text", "text": "r"}])),
        chat(*LOOP[:2], tool(content=image("https://x.test/a.png")["content"])),
        "Supported values are: 'text'",
    ),
    Case(
        "a result's key", chat(*LOOP[:2], tool(name="f")), chat(*LOOP[:2], tool(id="1")), "[2].id"
    ),
    Case("a blank in a name", chat(U | {"name": "Ann"}), chat(U | {"name": "An n"}), "pattern"),
    Case(
        "a picture's media type",
        chat(image(f"data:image/png;base64,{PNG}")),
        chat(image("data:image/bmp;base64,Qk0=")),
        "unsupported image",
    ),
    Case(
        "a picture's base64",
        chat(image(f"data:image/jpeg;base64,{JPEG}")),
        chat(image("data:image/jpeg;base64,%%%")),
        "base64-encoded data URL",
    ),
    Case("a picture's URL", chat(image("https://x.test/a.png")), chat(image("asset:1")), "URL"),
    Case("sound", chat(audio("wav")), chat(audio("flac")), "'flac'"),
    Case("sound's base64", chat(audio("mp3")), chat(audio("mp3", "%")), "base64"),
    Case(
        "a file's type",
        chat(file(filename="a", file_data=PDF)),
        chat(file(filename="a", file_data="data:text/csv;base64,YQ==")),
        "unsupported MIME type 'text/csv'",
    ),
    Case("a file's name", chat(file(file_id="file-1")), chat(file(file_data=PDF)), "file_id"),
    Case("a file's id", chat(file(file_id="file-1")), chat(file(file_id="a")), "begins with"),
    Case("no tools", chat(U, tools=[function("f")]), chat(U, tools=[]), "empty array"),
    Case(
        "too many tools",
        chat(U, tools=[function(f"f{i}") for i in range(128)]),
        chat(U, tools=[function(f"f{i}") for i in range(129)]),
        "maximum length 128",
    ),
    Case("a tool's name", chat(U, tools=[function("f")]), chat(U, tools=[function("a b")]), "patt"),
    Case(
        "a tool's description",
        chat(U, tools=[function("f", description="d" * 1024)]),
        chat(U, tools=[function("f", description="d" * 1025)]),
        "maximum length 1024",
    ),
    Case(
        "a tool's schema",
        chat(U, tools=[function("f", parameters={"type": "object"})]),
        chat(U, tools=[function("f", parameters={"type": "array"})]),
        "Invalid schema",
    ),
    Case(
        "a choice among no tools",
        chat(U, tools=[function("f")], tool_choice="auto"),
        chat(U, tool_choice="auto"),
        "only allowed when 'tools'",
    ),
    Case(
        "stream options",
        chat(U, stream=True, stream_options={"include_usage": True}),
        chat(U, stream_options={"include_usage": True}),
        "only allowed when 'stream'",
    ),
    Case("a surrogate", chat(A | {"content": "😀"}), chat(A | {"content": "\ud83d"}), "surrogate"),
    Case("an infinity", chat(U, top_p=0.5), chat(U, top_p=math.inf), "unexpected character"),
    Case(
        "nesting",
        chat(U, metadata={"a": nested(250)}),
        chat(U, metadata={"a": nested(256)}),
        "nesting too deep",
    ),
)


@OPENAI
def test_openai_refuses(case: Case) -> None:
    refusal = check(validate_openai_chat, case)
    assert refusal.status == 400
    assert refusal.body()["error"].keys() == {"message", "type", "param", "code"}


UNDOCUMENTED: JSON = {
    "reasoning_content": "r",
    "reasoning_details": [],
    "annotations": [],
    "provider_specific_fields": {},
    "parsed": None,
    "refusal": None,
    "audio": None,
}


@each(
    *[
        Case(key, chat(U, A, U), chat(U, A | {key: value}, U), f"property '{key}' is unsupported")
        for key, value in UNDOCUMENTED.items()
    ],
    Case(
        "developer", chat(U), chat({"role": "developer", "content": "d"}, U), "'role' has invalid"
    ),
    Case("a body's key", chat(U), chat(U, foo=1), "property 'foo' is unsupported"),
    Case("an unanswered call", chat(*LOOP), chat(*LOOP[:2]), "did not have response messages"),
)
def test_groq_refuses(case: Case) -> None:
    refusal = check(validate_groq, case)
    assert refusal.body()["error"].keys() == {"message", "type"}


@each(
    Case(
        "calls without reasoning",
        chat(U, calls(call(), reasoning_content=""), tool()),
        chat(*LOOP),
        "must be passed back",
    ),
    Case(
        "old calls without reasoning",
        chat(*LOOP, A, U, thinking={"type": "disabled"}),
        chat(*LOOP, A, U),
        "must be passed back",
    ),
    Case("developer", chat(U), chat({"role": "developer", "content": "d"}, U), "unknown variant"),
    Case("pictures", chat(U), chat(image("https://x.test/a.png")), "unknown variant `image_url`"),
    Case("a prefill", chat(U, A | {"prefix": True}), chat(U, A), "The last message must be"),
    Case("an unanswered call", chat(U), chat(U, calls(call(), reasoning_content="r"), U), "insuf"),
)
def test_deepseek_refuses(case: Case) -> None:
    check(validate_deepseek, case)


def test_deepseek_ignores_keys_that_it_does_not_know() -> None:
    validate_deepseek(chat(U, A | {"annotations": [], "foo": 1}, U, foo=1))


def test_a_chat_model_does_not_think() -> None:
    validate_deepseek(chat(*LOOP) | {"model": "deepseek-chat"})


@pytest.mark.parametrize("api", ["openai", "groq", "deepseek"])
def test_the_sdk_has_a_type_for_each_message(api: Any) -> None:
    messages = (
        {"role": "developer", "content": "d"},
        image(f"data:image/png;base64,{PNG}"),
        file(filename="a", file_data=PDF),
        *LOOP,
        calls(call("c2")),
        tool("c2", name="f"),
        A | {"annotations": []},
    )
    body = chat(*messages, stream=True, tools=[function("f")])
    assert validate_against_sdk(api, body) == []
    (line,) = validate_against_sdk(api, chat(U, A | {"foo": 1}))
    assert line.endswith("ChatCompletionAssistantMessageParam.foo: Extra inputs are not permitted")


def test_the_sdk_knows_reasoning_of_deepseek_alone() -> None:
    body = chat(*LOOP[:1], calls(call(), reasoning_content="r"), tool())
    assert validate_against_sdk("deepseek", body) == []
    assert validate_against_sdk("openai", body)


def test_a_refusal_names_the_path() -> None:
    with pytest.raises(Refusal) as caught:
        validate_openai_chat(chat(U, calls(call("i" * 41)), tool("i" * 41)))
    assert caught.value.body() == {
        "error": {
            "message": "Invalid 'messages[1].tool_calls[0].id': string too long. Expected a string "
            "with maximum length 40, but got a string with length 41 instead.",
            "type": "invalid_request_error",
            "param": "messages[1].tool_calls[0].id",
            "code": "string_above_max_length",
        }
    }
