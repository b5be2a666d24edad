"""Random messages of programs and frameworks, which are stored with FORMAT_OTHER."""

import json
from typing import Any

from hypothesis import strategies as st

from sessiond.v1.message_pb2 import FORMAT_OTHER, Message
from sessiond_server.formats.read import other

from .anthropic_histories import anthropic_messages
from .drawn_values import JSON, PNG, arguments, clean, ids, names, objects, sometimes, texts

_BYTES = {"__bytes_encoded__": True, "data": PNG}


def other_message(value: JSON, format_name: str) -> Message:
    """Return a program's message as it is stored."""
    message = Message(format=FORMAT_OTHER, format_name=format_name, json=json.dumps(value))
    message.role = other.read_json(message, value).role
    return message


@st.composite
def _claude_code(draw: st.DrawFn) -> JSON:
    kind = draw(st.sampled_from(["said", "said", "said", "note", "queued", "odd"]))
    uuid = {"uuid": draw(ids), "isSidechain": False, "cwd": "/home/ann"}
    if kind == "note":
        return draw(
            st.sampled_from(
                [
                    {"type": "summary", "summary": "About tea", "leafUuid": "u"},
                    {"type": "file-history-snapshot", "messageId": "m", "snapshot": {}},
                    {"type": "progress", "data": {"type": "hook_progress"}, **uuid},
                    {"type": "queue-operation", "operation": "dequeue"},
                    {"type": "system", "subtype": "turn_duration", "content": "", **uuid},
                    {
                        "type": "user",
                        "message": {"role": "user", "content": "x"},
                        "isSidechain": True,
                    },
                    {
                        "type": "user",
                        "isVisibleInTranscriptOnly": True,
                        "message": {"content": "x"},
                    },
                ]
            )
        )
    if kind == "queued":
        attachment = {"type": "queued_command", "prompt": draw(texts())}
        return {"type": "attachment", "attachment": attachment, **uuid}
    message = draw(anthropic_messages().filter(lambda value: value["role"] != "system"))
    if kind == "odd":
        message = draw(st.sampled_from([{"content": None}, {"role": 1, "content": [{}]}]))
    role = message.get("role") if message.get("role") in ("user", "assistant") else "user"
    return {
        "type": role,
        "message": message | ({"id": draw(ids)} if role == "assistant" else {}),
        "isMeta": draw(st.booleans()),
        **uuid,
    }


@st.composite
def _codex(draw: st.DrawFn, items: st.SearchStrategy[JSON]) -> JSON:
    kind = draw(st.sampled_from(["item", "item", "item", "bare", "note"]))
    if kind == "note":
        return draw(
            st.sampled_from(
                [
                    {"type": "event_msg", "payload": {"type": "user_message", "message": "x"}},
                    {"type": "session_meta", "payload": {"id": "s"}},
                    {"type": "turn_context", "payload": {"model": "m"}},
                    {"type": "response_item", "payload": {"type": "ghost_snapshot"}},
                    {"type": "response_item", "payload": None},
                ]
            )
        )
    item = draw(items.filter(lambda value: isinstance(value.get("type"), str)))
    return item if kind == "bare" else {"type": "response_item", "payload": item}


@st.composite
def _pydantic_ai(draw: st.DrawFn) -> JSON:
    text = texts()
    if draw(st.booleans()):
        part = st.one_of(
            st.builds(lambda t: {"part_kind": "text", "content": t}, text),
            st.builds(
                lambda t, s, p: clean(
                    {"part_kind": "thinking", "content": t, "signature": s, "provider_name": p}
                ),
                text,
                sometimes(st.just("c2ln")),
                sometimes(st.sampled_from(["anthropic", "openai", "google-gla", "bedrock"])),
            ),
            st.builds(
                lambda i, n, a: {
                    "part_kind": "tool-call",
                    "tool_call_id": i,
                    "tool_name": n,
                    "args": a,
                },
                ids,
                names,
                st.one_of(arguments, objects, st.none()),
            ),
            st.builds(
                lambda t: {"part_kind": "builtin-tool-call", "tool_name": "web", "args": {"q": t}},
                texts(may_be_blank=False),
            ),
            st.builds(lambda t: {"part_kind": "speech", "transcript": t}, text),
            st.just({"part_kind": "compaction", "content": None}),
        )
        maker = draw(sometimes(st.sampled_from(["anthropic", "openai"])))
        parts = draw(st.lists(part, max_size=4))
        return clean({"kind": "response", "parts": parts, "provider_name": maker})
    image = {"kind": "binary", "media_type": "image/png", "data": PNG}
    link = {"kind": "document-url", "url": "https://example.com/a.pdf"}
    content = st.one_of(
        text,
        st.lists(
            st.one_of(
                text,
                st.sampled_from([image, link, {"kind": "cache-point"}, {"kind": "odd"}]),
                text.map(lambda t: {"kind": "text-content", "content": t}),
            ),
            max_size=3,
        ),
    )
    part = st.one_of(
        st.builds(lambda t: {"part_kind": "system-prompt", "content": t}, text),
        st.builds(lambda c: {"part_kind": "user-prompt", "content": c}, content),
        st.builds(
            lambda i, n, c, o: {
                "part_kind": "tool-return",
                "tool_call_id": i,
                "tool_name": n,
                "content": c,
                "outcome": o,
            },
            ids,
            names,
            st.one_of(text, objects, st.just([image, {"a": 1}])),
            st.sampled_from(["success", "failed", "retried"]),
        ),
        st.builds(
            lambda t, n: clean({"part_kind": "retry-prompt", "content": t, "tool_name": n}),
            text,
            sometimes(names),
        ),
        st.just({"part_kind": "instruction-digest"}),
        st.just({"part_kind": ["odd"]}),
    )
    return {"kind": "request", "parts": draw(st.lists(part, max_size=4))}


@st.composite
def _strands(draw: st.DrawFn) -> JSON:
    text = texts().map(lambda t: {"text": t})
    image = st.just({"image": {"format": "png", "source": {"bytes": _BYTES}}})
    document = st.just(
        {
            "document": {
                "format": "pdf",
                "name": "a",
                "source": {"location": {"type": "s3", "uri": "s3://b/a.pdf"}},
            }
        }
    )
    if draw(st.booleans()):
        role = "assistant"
        call = st.builds(
            lambda i, n, a: {"toolUse": {"toolUseId": i, "name": n, "input": a}},
            ids,
            names,
            objects,
        )
        thought = texts().map(
            lambda t: {"reasoningContent": {"reasoningText": {"text": t, "signature": "c2ln"}}}
        )
        block = st.one_of(text, call, call, thought, st.just({"odd": "x"}), st.just({}))
    else:
        role = "user"
        inner = st.one_of(text, image, objects.map(lambda value: {"json": value}))
        result = st.builds(
            lambda i, c, s: {"toolResult": {"toolUseId": i, "status": s, "content": c}},
            ids,
            st.lists(inner, max_size=2),
            st.sampled_from(["success", "error"]),
        )
        block = st.one_of(
            text, result, result, image, document, st.just({"cachePoint": {"type": "default"}})
        )
    message = {"role": role, "content": draw(st.lists(block, max_size=4))}
    return message if draw(st.booleans()) else {"message": message, "message_id": 0}


@st.composite
def _langchain(draw: st.DrawFn) -> JSON:
    kind = draw(st.sampled_from(["human", "ai", "tool", "system", "remove", "chat"]))
    part = st.one_of(
        texts().map(lambda t: {"type": "text", "text": t}),
        st.just({"type": "image", "source_type": "base64", "data": PNG, "mime_type": "image/png"}),
        st.just({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}),
        st.just({"type": "reasoning", "reasoning": "x"}),
        st.just({"type": "odd", "b": "x"}),
    )
    data: JSON = {"content": draw(st.one_of(texts(), st.lists(part, max_size=3)))}
    if kind == "ai":
        calls = st.builds(
            lambda i, n, a: {"type": "tool_call", "id": i, "name": n, "args": a},
            ids,
            names,
            objects,
        )
        data["tool_calls"] = draw(st.lists(calls, max_size=3))
    if kind == "tool":
        data |= {"tool_call_id": draw(ids), "name": draw(names), "status": "success"}
    if kind == "chat":
        data["role"] = "user"
    if kind == "remove":
        data["content"] = ""
    if draw(st.booleans()):
        return {"type": kind, "data": data}
    name = {"human": "HumanMessage", "ai": "AIMessageChunk"}.get(kind, f"{kind.title()}Message")
    path = ["langchain", "schema", "messages", name]
    return {"lc": 1, "type": "constructor", "id": path, "kwargs": data}


@st.composite
def _sharegpt(draw: st.DrawFn) -> JSON:
    speakers = ["human", "gpt", "system", "function_call", "observation", "tool", "odd"]
    return {"from": draw(st.sampled_from(speakers)), "value": draw(texts())}


@st.composite
def _openai_export(draw: st.DrawFn) -> JSON:
    role = draw(st.sampled_from(["user", "assistant", "tool", "system"]))
    content = draw(
        st.one_of(
            texts().map(lambda t: {"content_type": "text", "parts": [t]}),
            texts().map(lambda t: {"content_type": "code", "text": t}),
            st.just(
                {
                    "content_type": "multimodal_text",
                    "parts": [{"content_type": "image_asset_pointer", "asset_pointer": "x"}, "a"],
                }
            ),
            st.just({"content_type": "thoughts", "thoughts": [{"summary": "a", "content": "b"}]}),
            st.just({"content_type": "user_editable_context", "user_profile": "x"}),
        )
    )
    recipient = draw(st.sampled_from(["all", "all", "python"]))
    author = {"role": role, "name": "python" if role == "tool" else None}
    return {"id": "m", "author": author, "content": content, "recipient": recipient}


def program_messages(
    chat: st.SearchStrategy[JSON], items: st.SearchStrategy[JSON]
) -> dict[str, st.SearchStrategy[JSON]]:
    """Return a strategy for each format_name that the server reads.

    Args:
        chat: messages of Chat Completions.
        items: items of the Responses API.
    """
    odd: st.SearchStrategy[Any] = st.sampled_from([{"type": "odd"}, {}, {"role": 7}])
    return {
        "claude-code": _claude_code(),
        "codex": _codex(items),
        "langchain": _langchain(),
        "openai-agents": st.one_of(items, chat, odd),
        "openai-export": _openai_export(),
        "pydantic-ai": _pydantic_ai(),
        "sharegpt": _sharegpt(),
        "strands": _strands(),
    }
