"""The stand-in of generateContent accepts and refuses the same requests as the real API."""

import base64
from typing import Any

import pytest

from ..support.strict_models.gemini import DUMMY_SIGNATURES, validate_gemini
from ..support.strict_models.refusal import JSON
from ..support.strict_models.sdk_types import sdk_is_installed, validate_against_sdk
from .refusals import PNG, Case, check, each, nested

OURS = base64.b64encode(b"ours").decode()
THEIRS = base64.b64encode(b"theirs").decode()
DUMMY = DUMMY_SIGNATURES[0]


def ask(*contents: Any, **fields: Any) -> JSON:
    return {"contents": list(contents), **fields}


def text(value: Any = "t", **fields: Any) -> JSON:
    return {"text": value, **fields}


def user(*parts: Any) -> JSON:
    return {"role": "user", "parts": list(parts or [text()])}


def model(*parts: Any) -> JSON:
    return {"role": "model", "parts": list(parts or [text()])}


def call(name: Any = "f", args: Any = None, signature: str = OURS, **fields: Any) -> JSON:
    made = {"name": name, "args": {} if args is None else args, **fields}
    return {"functionCall": made} | ({"thoughtSignature": signature} if signature else {})


def result(name: str = "f", response: Any = None, **fields: Any) -> JSON:
    made = {"name": name, "response": {"r": 1} if response is None else response, **fields}
    return {"functionResponse": made}


def blob(media_type: str = "image/png", data: str = PNG) -> JSON:
    return {"inlineData": {"mimeType": media_type, "data": data}}


def declared(*names: str) -> list[JSON]:
    return [{"functionDeclarations": [{"name": name} for name in names]}]


LOOP = (user(), model(call()), user(result()))

RULES = each(
    Case("no contents", ask(user()), ask(), "contents is not specified"),
    Case("a body's key", ask(user()), ask(user(), foo=1), 'Unknown name "foo": Cannot find'),
    Case("a content's key", ask(user()), ask(user() | {"id": 1}), "\"id\" at 'contents[0]'"),
    Case("a part's key", ask(user()), ask(user({"type": "text"})), '"type" at \'contents[0].par'),
    Case("another API's content", ask(user()), ask({"role": "user", "content": "q"}), '"content"'),
    Case("a role", ask(user()), ask(user() | {"role": "assistant"}), "a valid role"),
    Case("no role", ask(user()), ask({"parts": [text()]}), "a valid role"),
    Case("no parts", ask(user()), ask({"role": "user", "parts": []}), "must not be empty"),
    Case("parts that are no list", ask(user()), ask(user() | {"parts": "q"}), "a list is"),
    Case("an empty part", ask(user()), ask(user({})), "required oneof field 'data'"),
    Case("an empty text", ask(user()), ask(user(text(""))), "required oneof field 'data'"),
    Case("a blank text", ask(user()), ask(user(text(" \n"))), "must have a text parameter"),
    Case(
        "an empty text with a signature",
        ask(user(), model(text(), text("", thoughtSignature=OURS)), user()),
        ask(user(), model(text(), text("")), user()),
        "contents[1].parts[1].data",
    ),
    Case("two kinds of data", ask(user(blob())), ask(user(blob() | text())), "already set"),
    Case("a text's type", ask(user()), ask(user(text(1))), "TYPE_STRING"),
    Case("two users", ask(user(text(), text())), ask(user(), user()), "alternate"),
    Case("a model first", ask(user()), ask(model(), user()), "alternate"),
    Case("a call behind a model", ask(*LOOP), ask(user(), model(), *LOOP[1:]), "immediately after"),
    Case("a model at the end", ask(user()), ask(user(), model()), "end with a user role"),
    Case("an unanswered call", ask(*LOOP), ask(*LOOP[:2], user()), "the number of function resp"),
    Case(
        "one of two unanswered",
        ask(user(), model(call(), call(signature="")), user(result(), result())),
        ask(user(), model(call(), call(signature="")), user(result())),
        "the number of function response parts",
    ),
    Case("a result without call", ask(*LOOP), ask(user(result())), "after a function call turn"),
    Case("a second result", ask(*LOOP), ask(*LOOP[:2], user(result(), result())), "the number of"),
    Case("a late result", ask(*LOOP), ask(*LOOP, model(), user(result())), "after a function call"),
    Case(
        "results out of order",
        ask(user(), model(call(), call("g", signature="")), user(result(), result("g"))),
        ask(user(), model(call(), call("g", signature="")), user(result("g"), result())),
        "names, ids and order",
    ),
    Case(
        "a result's id",
        ask(user(), model(call(id="c1")), user(result(id="c1"))),
        ask(user(), model(call(id="c1")), user(result(id="c2"))),
        "names, ids and order",
    ),
    Case(
        "an id twice",
        ask(*LOOP[:1], model(call(id="1"), call(id="2")), user(result(id="1"), result(id="2"))),
        ask(*LOOP[:1], model(call(id="1"), call(id="1")), user(result(id="1"), result(id="1"))),
        "ids are unique",
    ),
    Case(
        "text before a result",
        ask(*LOOP[:2], user(result(), text())),
        ask(*LOOP[:2], user(text(), result())),
        "starts with its function response",
    ),
    Case("a user's call", ask(*LOOP), ask(user(call())), "only allowed in a model turn"),
    Case("a model's result", ask(*LOOP), ask(user(), model(result()), user()), "function response"),
    Case("no name", ask(*LOOP), ask(user(), model(call("")), user(result())), "cannot be empty"),
    Case(
        "a name",
        ask(user(), model(call("a.b:c-d")), user(result("a.b:c-d"))),
        ask(user(), model(call("a b")), user(result("a b"))),
        "Invalid function name",
    ),
    Case("a name's head", ask(*LOOP), ask(user(), model(call("1f")), user(result("1f"))), "start"),
    Case("args as text", ask(*LOOP), ask(user(), model(call(args="{}")), user(result())), "Struct"),
    Case("a text as response", ask(*LOOP), ask(*LOOP[:2], user(result(response="r"))), "Struct"),
    Case(
        "a response's picture",
        ask(*LOOP[:2], user(result(parts=[blob()]))),
        ask(*LOOP[:2], user(result(parts=[text()]))),
        'Unknown name "text"',
    ),
    Case(
        "a call without signature",
        ask(*LOOP),
        ask(user(), model(call(signature="")), user(result())),
        "call `default_api:f` , position 2.",
    ),
    Case(
        "the first of two calls without signature",
        ask(user(), model(call(), call(signature="")), user(result(), result())),
        ask(user(), model(call(signature=""), call()), user(result(), result())),
        "missing a thought_signature",
    ),
    Case(
        "a second step without signature",
        ask(*LOOP, model(call()), user(result())),
        ask(*LOOP, model(call(signature="")), user(result())),
        "position 4.",
    ),
    Case(
        "a steered step without signature",
        ask(user(), model(call(signature="")), user(result()), model(), user()),
        ask(user(), model(call(signature="")), user(result(), text())),
        "missing a thought_signature",
    ),
    Case(
        "a foreign signature",
        ask(user(), model(call(signature=DUMMY)), user(result())),
        ask(user(), model(call(signature=THEIRS)), user(result())),
        "Thought signature is not valid",
    ),
    Case(
        "a foreign signature of a text",
        ask(user(), model(text(thoughtSignature=OURS)), user()),
        ask(user(), model(text(thoughtSignature=THEIRS)), user()),
        "Thought signature is not valid",
    ),
    Case(
        "a signature's base64",
        ask(user(), model(call(signature=base64.b64encode(DUMMY.encode()).decode())), *LOOP[2:]),
        ask(user(), model(call(signature="%")), *LOOP[2:]),
        "Base64 decoding failed",
    ),
    Case("a picture's type", ask(user(blob())), ask(user(blob("image/gif"))), "Unsupported MIME"),
    Case("no media type", ask(user(blob())), ask(user(blob(""))), "mime_type: must be set"),
    Case("JSON", ask(user(blob("text/plain"))), ask(user(blob("application/json"))), "Unsupported"),
    Case("a picture's base64", ask(user(blob())), ask(user(blob(data="%"))), "Base64 decoding"),
    Case(
        "a file's URI",
        ask(user({"fileData": {"fileUri": "https://x.test/a", "mimeType": "image/png"}})),
        ask(user({"fileData": {"fileUri": "asset:1", "mimeType": "image/png"}})),
        "unsupported file uri",
    ),
    Case(
        "a system prompt",
        ask(user(), systemInstruction={"parts": [text()]}),
        ask(user(), systemInstruction={"parts": []}),
        "system_instruction.parts",
    ),
    Case(
        "a system prompt's picture",
        ask(user(), systemInstruction={"parts": [text()]}),
        ask(user(), systemInstruction={"parts": [blob()]}),
        "only text is supported",
    ),
    Case(
        "a tool twice", ask(user(), tools=declared("f")), ask(user(), tools=declared("f", "f")), "D"
    ),
    Case(
        "a tool's name", ask(user(), tools=declared("f")), ask(user(), tools=declared("f g")), "In"
    ),
    Case(
        "too many tools",
        ask(user(), tools=declared(*[f"f{i}" for i in range(512)])),
        ask(user(), tools=declared(*[f"f{i}" for i in range(513)])),
        "at most 512",
    ),
    Case(
        "nesting",
        ask(user(), model(call(args={"a": nested(90)})), user(result())),
        ask(user(), model(call(args={"a": nested(100)})), user(result())),
        "nesting too deep",
    ),
    Case("a surrogate", ask(user()), ask(user(text("\ud83d"))), "Invalid JSON payload"),
)


@RULES
def test_gemini_refuses(case: Case) -> None:
    refusal = check(validate_gemini, case, signatures=lambda signature, _: signature == OURS)
    assert refusal.body()["error"] == {
        "code": 400,
        "message": refusal.message,
        "status": "INVALID_ARGUMENT",
    }


def test_models_before_gemini_3_need_no_signatures() -> None:
    validate_gemini(ask(user(), model(call(signature="")), user(result())), model="gemini-2.5-pro")


def test_both_spellings_are_read() -> None:
    validate_gemini(
        ask(
            user({"inline_data": {"mime_type": "image/png", "data": PNG}}),
            model({"function_call": {"name": "f"}, "thought_signature": DUMMY}),
            user({"function_response": {"name": "f", "response": {}}}),
            system_instruction={"parts": [text()]},
            tools=[{"function_declarations": [{"name": "f"}]}],
        )
    )


@pytest.mark.skipif(not sdk_is_installed("gemini"), reason="google-genai is not installed")
def test_the_sdk_has_a_type_for_each_part() -> None:
    body = ask(
        user(text(), blob()),
        model(text("hm", thought=True), call(id="c1")),
        user(result(id="c1"), text()),
        systemInstruction={"parts": [text()]},
        tools=declared("f"),
        generationConfig={"temperature": 1},
    )
    validate_gemini(body)
    assert validate_against_sdk("gemini", body) == []
    assert validate_against_sdk("gemini", ask(user({"txt": "t"}), foo=1)) == [
        "contents.0.parts.0.txt: Extra inputs are not permitted",
        "foo: Extra inputs are not permitted",
    ]
