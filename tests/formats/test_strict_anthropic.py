"""The stand-in of the Messages API accepts and refuses the same requests as the real API."""

import base64
from typing import Any

import pytest

from ..support.strict_models import anthropic_messages
from ..support.strict_models.anthropic_messages import validate_anthropic
from ..support.strict_models.refusal import JSON, Refusal
from ..support.strict_models.sdk_types import validate_against_sdk
from .refusals import JPEG, PNG, Case, check, each, nested

U: JSON = {"role": "user", "content": "q"}
A: JSON = {"role": "assistant", "content": "a"}
S: JSON = {"role": "system", "content": "s"}
OLD = "claude-sonnet-4-5"
THINK: JSON = {"type": "enabled", "budget_tokens": 1024}


def ask(*messages: Any, **options: Any) -> JSON:
    return {"model": "claude-opus-5", "max_tokens": 2048, "messages": list(messages)} | options


def user(*blocks: JSON) -> JSON:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: JSON) -> JSON:
    return {"role": "assistant", "content": list(blocks)}


def text(value: Any = "t", **fields: Any) -> JSON:
    return {"type": "text", "text": value, **fields}


def tu(call_id: Any = "c1", name: Any = "f", tool_input: Any = None) -> JSON:
    made = {} if tool_input is None else tool_input
    return {"type": "tool_use", "id": call_id, "name": name, "input": made}


def tr(call_id: str = "c1", content: Any = "r", **fields: Any) -> JSON:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **fields}


def think(signature: str = "ours", thinking: str = "hm") -> JSON:
    return {"type": "thinking", "thinking": thinking, "signature": signature}


def image(media_type: str = "image/png", data: str = PNG) -> JSON:
    source = {"type": "base64", "media_type": media_type, "data": data}
    return {"type": "image", "source": source}


def document(**source: Any) -> JSON:
    return {"type": "document", "source": source}


def search(call_id: str = "srvtoolu_1") -> JSON:
    query = {"query": "q"}
    return {"type": "server_tool_use", "id": call_id, "name": "web_search", "input": query}


def found(call_id: str = "srvtoolu_1", encrypted: str = "ours") -> JSON:
    result = {
        "type": "web_search_result",
        "url": "https://x.test",
        "title": "t",
        "encrypted_content": encrypted,
    }
    return {"type": "web_search_tool_result", "tool_use_id": call_id, "content": [result]}


def tool(name: str, **fields: Any) -> JSON:
    return {"name": name, "input_schema": {"type": "object"}, **fields}


def marked(times: int, **fields: Any) -> list[JSON]:
    return [text(cache_control={"type": "ephemeral"} | fields) for _ in range(times)]


LOOP = (U, assistant(tu()), user(tr()))

RULES = each(
    Case("no messages", ask(U), ask(), "at least one message"),
    Case("no max_tokens", ask(U), {"model": "m", "messages": [U]}, "max_tokens: Field required"),
    Case("an unknown option", ask(U), ask(U, n=1), "n: Extra inputs are not permitted"),
    Case("a key of a message", ask(U), ask(U | {"name": "A"}), "messages.0.name: Extra inputs"),
    Case("a message that is no object", ask(U), ask("q"), "messages.0: Input should be"),
    Case("no role", ask(U), ask({"content": "q"}), "messages.0.role: Field required"),
    Case("tool as role", ask(U), ask(U | {"role": "tool"}), 'Unexpected role "tool"'),
    Case("no content", ask(U), ask({"role": "user"}), "messages.0.content: Field required"),
    Case("null content", ask(U), ask(U | {"content": None}), "Input should be a valid list"),
    Case("empty content", ask(U, A, U), ask(U, assistant(), U), "must have non-empty content"),
    Case("an empty prompt", ask(U), ask(U | {"content": ""}), "must have non-empty content"),
    Case("a blank prompt", ask(U), ask(U | {"content": " \n"}), "non-whitespace"),
    Case("an empty text", ask(user(text())), ask(user(text(""))), "must be non-empty"),
    Case("a blank text", ask(user(text())), ask(user(text("\n\n"))), "non-whitespace"),
    Case("a key of a block", ask(user(text())), ask(user(text(id="1"))), "0.text.id: Extra inputs"),
    Case("an unknown block", ask(user(text())), ask(user({"type": "input_text"})), "Input tag"),
    Case("a block that is no object", ask(user(text())), ask(user("t")), "valid dictionary"),  # type: ignore[arg-type]
    Case("an assistant first", ask(U, A, U), ask(A, U), 'first message must use the "user" role'),
    Case("a call in a user's message", ask(*LOOP), ask(user(tu())), "only be in `assistant`"),
    Case("a result in an answer", ask(*LOOP), ask(U, assistant(tr()), U), "only be in `user`"),
    Case("a picture in an answer", ask(user(image())), ask(U, assistant(image()), U), "`user`"),
    Case("an id", ask(*LOOP), ask(U, assistant(tu("a.b")), user(tr("a.b"))), "match pattern"),
    Case("a result's id", ask(*LOOP), ask(U, assistant(tu()), user(tr("c:1"))), "match pattern"),
    Case("a name", ask(*LOOP), ask(U, assistant(tu(name="a b")), user(tr())), "match pattern"),
    Case(
        "input that is no object",
        ask(*LOOP),
        ask(U, assistant(tu(tool_input="{}")), user(tr())),
        "tool_use.input: Input should be a valid dictionary",
    ),
    Case(
        "an id twice",
        ask(*LOOP, assistant(tu("c2")), user(tr("c2"))),
        ask(*LOOP, *LOOP[1:]),
        "ids must be unique",
    ),
    Case("an unanswered call", ask(*LOOP), ask(*LOOP[:2], U), "were found without `tool_result`"),
    Case("a call at the end", ask(*LOOP), ask(*LOOP[:2]), "messages.1: `tool_use` ids"),
    Case(
        "one of two unanswered",
        ask(U, assistant(tu(), tu("c2")), user(tr("c2"), tr())),
        ask(U, assistant(tu(), tu("c2")), user(tr("c2"))),
        "immediately after: c1.",
    ),
    Case(
        "results in two messages",
        ask(U, assistant(tu(), tu("c2")), user(tr(), tr("c2"))),
        ask(U, assistant(tu(), tu("c2")), user(tr()), user(tr("c2"))),
        "immediately after: c2.",
    ),
    Case("a late result", ask(*LOOP, A, U), ask(*LOOP, A, user(tr())), "unexpected `tool_use_id`"),
    Case("a result without call", ask(*LOOP), ask(user(tr())), "messages.0.content.0: unexpected"),
    Case("a second result", ask(*LOOP), ask(*LOOP[:2], user(tr(), tr())), "a single result"),
    Case(
        "text before a result",
        ask(*LOOP[:2], user(tr(), text())),
        ask(*LOOP[:2], user(text(), tr())),
        "were found without `tool_result`",
    ),
    Case("a result's object", ask(*LOOP), ask(*LOOP[:2], user(tr(content={"t": 1}))), "valid list"),
    Case(
        "a blank text in a result",
        ask(*LOOP[:2], user(tr(content=[text(), image()]))),
        ask(*LOOP[:2], user(tr(content=[text("")]))),
        "non-empty",
    ),
    Case(
        "a call in a result",
        ask(*LOOP[:2], user(tr(content=""))),
        ask(*LOOP[:2], user(tr(content=[tu("c2")]))),
        "Input tag 'tool_use'",
    ),
    Case(
        "an empty error",
        ask(*LOOP[:2], user(tr(is_error=True))),
        ask(*LOOP[:2], user(tr(content="", is_error=True))),
        "content cannot be empty if `is_error`",
    ),
    Case(
        "an error with a picture",
        ask(*LOOP[:2], user(tr(content=[image()]))),
        ask(*LOOP[:2], user(tr(content=[image()], is_error=True))),
        'must be type "text"',
    ),
    Case("a prefill", ask(U), ask(U, A), "does not support assistant message prefill"),
    Case(
        "a prefill's end",
        ask(U, A, model=OLD),
        ask(U, A | {"content": "a "}, model=OLD),
        "trailing whitespace",
    ),
    Case("a system message first", ask(U, S), ask(S, U), 'must use the "user" role'),
    Case("a system message late", ask(U, S, A, U), ask(U, A, S), "must follow a 'user' message"),
    Case("two system messages", ask(U, S), ask(U, S, S), "must precede an 'assistant'"),
    Case("a system message's user", ask(U, S, A, U), ask(U, S, U), "must precede an 'assistant'"),
    Case(
        "a system message's picture",
        ask(U, S | {"content": [text()]}),
        ask(U, S | {"content": [image()]}),
        "Input should be 'text'",
    ),
    Case(
        "a system message of an old model",
        ask(U, S, model="claude-opus-4-8"),
        ask(U, S, model="claude-opus-4-7"),
        "role 'system' is not supported",
    ),
    Case("an empty system prompt", ask(U, system="s"), ask(U, system=""), "system: text content"),
    Case("a system prompt's picture", ask(U, system=[text()]), ask(U, system=[image()]), "'text'"),
    Case("a fifth marker", ask(user(*marked(4))), ask(user(*marked(5))), "Found 5."),
    Case(
        "a fifth marker in the tools",
        ask(user(*marked(3)), tools=[tool("f", cache_control={"type": "ephemeral"})]),
        ask(user(*marked(3)), system=marked(1), tools=[tool("f") | marked(1)[0]]),
        "Found 5.",
    ),
    Case(
        "a marker's time",
        ask(user(*marked(1, ttl="1h"), *marked(1))),
        ask(user(*marked(1), *marked(1, ttl="1h"))),
        "must not come after",
    ),
    Case("a marker", ask(user(*marked(1))), ask(user(*marked(1, type="x"))), "'ephemeral'"),
    Case("a picture's type", ask(user(image())), ask(user(image("image/bmp"))), "media_type"),
    Case("a picture's base64", ask(user(image())), ask(user(image(data="%"))), "base64"),
    Case(
        "a picture of another type",
        ask(user(image("image/jpeg", JPEG))),
        ask(user(image("image/png", JPEG))),
        "does not match the provided media type",
    ),
    Case(
        "a picture's source",
        ask(user(image() | {"source": {"type": "url", "url": "https://x.test"}})),
        ask(user(image() | {"source": {"type": "text", "data": "t"}})),
        "Input tag 'text'",
    ),
    Case(
        "a picture's URL",
        ask(user(image() | {"source": {"type": "url", "url": "https://x.test"}})),
        ask(user(image() | {"source": {"type": "url", "url": "file:///a"}})),
        "HTTPS",
    ),
    Case(
        "a document's type",
        ask(user(document(type="base64", media_type="application/pdf", data="JVBERg=="))),
        ask(user(document(type="base64", media_type="text/csv", data="YQ=="))),
        "'application/pdf'",
    ),
    Case(
        "a document's text",
        ask(user(document(type="text", media_type="text/plain", data="t"))),
        ask(user(document(type="text", media_type="text/html", data="t"))),
        "'text/plain'",
    ),
    Case("too many pictures", ask(user(*[image()] * 100)), ask(user(*[image()] * 101)), "media"),
    Case(
        "a foreign signature",
        ask(U, assistant(think(), text()), U),
        ask(U, assistant(think("theirs"), text()), U),
        "messages.1.content.0: Invalid `signature`",
    ),
    Case(
        "changed thinking",
        ask(U, assistant(think(), text()), U),
        ask(U, assistant(think(thinking="other"), text()), U),
        "Invalid `signature`",
    ),
    Case(
        "no signature",
        ask(U, assistant(think(), text()), U),
        ask(U, assistant({"type": "thinking", "thinking": "hm"}, text()), U),
        "signature: Field required",
    ),
    Case(
        "redacted thinking",
        ask(U, assistant({"type": "redacted_thinking", "data": "ours"}, text()), U),
        ask(U, assistant({"type": "redacted_thinking", "data": "theirs"}, text()), U),
        "Invalid `data`",
    ),
    Case(
        "thinking behind text",
        ask(U, assistant(think(), text(), think()), U),
        ask(U, assistant(text(), think()), U),
        "the first block must be `thinking`",
    ),
    Case(
        "a call without thinking",
        ask(U, assistant(think(), tu()), user(tr()), thinking=THINK),
        ask(*LOOP, thinking=THINK),
        "messages.1.content.0.type: Expected `thinking`",
    ),
    Case(
        "a budget",
        ask(U, thinking=THINK),
        ask(U, thinking=THINK | {"budget_tokens": 2048}),
        "must be greater than",
    ),
    Case("a small budget", ask(U), ask(U, thinking=THINK | {"budget_tokens": 1}), "greater than"),
    Case("sampling", ask(U, temperature=0, model=OLD), ask(U, temperature=0), "Extra inputs"),
    Case(
        "sampling while thinking",
        ask(U, thinking=THINK, temperature=1, model=OLD),
        ask(U, thinking=THINK, temperature=0, model=OLD),
        "may only be set to 1",
    ),
    Case(
        "a forced call",
        ask(U, tools=[tool("f")], tool_choice={"type": "any"}),
        ask(U, tools=[tool("f")], tool_choice={"type": "any"}, thinking=THINK),
        "forces tool use",
    ),
    Case(
        "a pending tool of the server's",
        ask(U, assistant(search())),
        ask(U, assistant(search()), U),
        "without a corresponding `web_search_tool_result`",
    ),
    Case(
        "a result of the server's",
        ask(U, assistant(search(), found(), text()), U),
        ask(U, assistant(found(), text()), U),
        "corresponding `server_tool_use` block before it",
    ),
    Case(
        "a foreign result of the server's",
        ask(U, assistant(search(), found(), text()), U),
        ask(U, assistant(search(), found(encrypted="theirs"), text()), U),
        "Invalid `encrypted_content`",
    ),
    Case(
        "an id of the server's",
        ask(U, assistant(search(), found()), U),
        ask(U, assistant(search("c1"), found("c1")), U),
        "srvtoolu_",
    ),
    Case("a tool's name", ask(U, tools=[tool("f")]), ask(U, tools=[tool("a b")]), "match pattern"),
    Case("a tool twice", ask(U, tools=[tool("f")]), ask(U, tools=[tool("f")] * 2), "be unique"),
    Case("a tool's schema", ask(U, tools=[tool("f")]), ask(U, tools=[{"name": "f"}]), "required"),
    Case(
        "a schema's type",
        ask(U, tools=[tool("f")]),
        ask(U, tools=[tool("f") | {"input_schema": {}}]),
        "Input should be 'object'",
    ),
    Case("a choice among no tools", ask(U), ask(U, tool_choice={"type": "auto"}), "providing tool"),
    Case("a stop sequence", ask(U, stop_sequences=["."]), ask(U, stop_sequences=[" "]), "non-whi"),
    Case("a surrogate", ask(U), ask(U | {"content": "\ud83d"}), "no low surrogate in string"),
    Case(
        "nesting",
        ask(U, assistant(tu(tool_input={"a": nested(240)})), user(tr())),
        ask(U, assistant(tu(tool_input={"a": nested(256)})), user(tr())),
        "nesting too deep",
    ),
)


@RULES
def test_anthropic_refuses(case: Case) -> None:
    made = {("ours", "hm"), ("ours", "")}
    refusal = check(validate_anthropic, case, signatures=lambda *signed: signed in made)
    assert refusal.status == 400
    assert refusal.body() == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": refusal.message},
        "request_id": "req_strict",
    }


def test_a_large_picture_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = base64.b64encode(bytes(30)).decode()
    monkeypatch.setattr(anthropic_messages, "MAX_IMAGE_BYTES", len(data))
    validate_anthropic(ask(user(image(data=data))))
    with pytest.raises(Refusal, match="image exceeds 5 MB maximum"):
        validate_anthropic(ask(user(image(data=base64.b64encode(bytes(33)).decode()))))


def test_roles_need_not_alternate() -> None:
    validate_anthropic(ask(U, U, A, A, U))


def test_the_sdk_has_a_type_for_each_block() -> None:
    body = ask(
        user(*marked(1), image(), document(type="text", media_type="text/plain", data="t")),
        assistant(think(), search(), found(), text(), tu()),
        user(tr(content=[text(), image()], is_error=False)),
        S,
        stream=True,
        tools=[tool("f")],
        thinking=THINK,
    )
    validate_anthropic(body)
    assert validate_against_sdk("anthropic", body) == []
    assert any(
        line.endswith("TextBlockParam.id: Extra inputs are not permitted")
        for line in validate_against_sdk("anthropic", ask(user(text(id="1"))))
    )
