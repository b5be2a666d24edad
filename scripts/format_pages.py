"""Writes the page about what each provider's API receives, by running the writers."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tables import table

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    FORMAT_OTHER,
    Format,
    Message,
    Role,
)
from sessiond_server.dialects import anthropic, gemini, openai_chat, openai_responses
from sessiond_server.dialects.openai_chat import ChatDialect
from sessiond_server.dialects.request import FittedRequest, History
from sessiond_server.formats.read.other import read_json
from sessiond_server.formats.report import ChangeKind

_COMPATIBLE = ChatDialect(is_openai=False)
_WRITERS: Mapping[str, Callable[[History], FittedRequest]] = {
    "Chat Completions": openai_chat.fit,
    "compatible servers": lambda history: openai_chat.fit(history, _COMPATIBLE),
    "Responses": openai_responses.fit,
    "Anthropic": anthropic.fit,
    "Gemini": gemini.fit,
}
# First bytes of a PNG and a PDF. A file is sent only if its content has the declared type.
_PNG, _PDF = "iVBORw0KGgo=", "JVBERi0xLjQ="
_ROLES = {"user": "USER", "assistant": "ASSISTANT", "model": "ASSISTANT", "tool": "TOOL"}


def _message(number: Format.ValueType, value: dict[str, Any]) -> Message:
    kind = str(value.get("type"))
    by_type = "tool" if kind.endswith(("_output", "_response")) else "assistant"
    role = {"system": "SYSTEM", **_ROLES}[value.get("role", by_type)]
    return Message(role=Role.Value(f"ROLE_{role}"), format=number, json=json.dumps(value))


def _chat(**value: Any) -> Message:
    return _message(FORMAT_OPENAI, value)


def _claude(role: str, *content: dict[str, Any]) -> Message:
    return _message(FORMAT_ANTHROPIC, {"role": role, "content": [*content]})


def _gemini(role: str, *parts: dict[str, Any]) -> Message:
    return _message(FORMAT_GEMINI, {"role": role, "parts": [*parts]})


def _call(*ids: str, arguments: str = "{}") -> Message:
    calls = [
        {"id": call_id, "type": "function", "function": {"name": "f", "arguments": arguments}}
        for call_id in ids
    ]
    return _chat(role="assistant", content=None, tool_calls=calls)


def _tool(call_id: str = "c", content: Any = "x") -> Message:
    return _chat(role="tool", tool_call_id=call_id, content=content)


def _program(name: str, **value: Any) -> Message:
    message = Message(format=FORMAT_OTHER, format_name=name, json=json.dumps(value))
    message.role = read_json(message, value).role
    return message


def _line(kind: str, content: Any, **fields: Any) -> Message:
    return _program("claude-code", type=kind, message={"role": kind, "content": content}, **fields)


def _user(*parts: dict[str, Any]) -> Message:
    return _chat(role="user", content=[*parts])


_ANSWER = _chat(role="assistant", content="a")
_THINKING = {"type": "thinking", "thinking": "t", "signature": "AAAA"}
_TEXT = {"type": "text", "text": "a"}
_ITEM = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]}
_ANSWER_OF_OPENAI = _chat(role="assistant", content="a", refusal=None, annotations=[])
_SEARCH = _chat(
    type="web_search_call",
    id="ws_1",
    status="completed",
    action={"type": "search", "query": "q"},
)
_COMPUTER = _chat(
    type="computer_call",
    id="cu_1",
    call_id="c",
    status="completed",
    action={"type": "screenshot"},
    pending_safety_checks=[],
)
_SCREENSHOT = _chat(
    type="computer_call_output",
    call_id="c",
    output={"type": "computer_screenshot", "image_url": f"data:image/png;base64,{_PNG}"},
)
_REQUEST = _chat(
    type="mcp_approval_request", id="mcpr_1", name="f", server_label="s", arguments="{}"
)
_APPROVAL = _chat(type="mcp_approval_response", approval_request_id="mcpr_1", approve=True)
# Short histories, each with its description. One prompt is added before the messages, one after.
_CASES: Sequence[tuple[str, Sequence[Message]]] = (
    ("text", [_ANSWER]),
    ("blank prompt", [_ANSWER, _chat(role="user", content=" ")]),
    ("instructions in mid-history", [_ANSWER, _chat(role="system", content="s")]),
    (
        "picture by URL",
        [_user({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})],
    ),
    (
        "picture in the message, or as an asset",
        [_user({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_PNG}"}})],
    ),
    (
        "picture of another type (image/tiff)",
        [_user({"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AAAA"}})],
    ),
    ("sound", [_user({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}})]),
    (
        "PDF",
        [
            _user(
                {
                    "type": "file",
                    "file": {
                        "filename": "a.pdf",
                        "file_data": f"data:application/pdf;base64,{_PDF}",
                    },
                }
            )
        ],
    ),
    (
        "file at OpenAI, by id",
        [_user({"type": "file", "file": {"file_id": "file-1"}})],
    ),
    ("tool call and result", [_call("c"), _tool()]),
    ("parallel calls", [_call("a", "b"), _tool("a"), _tool("b")]),
    ("call without a result", [_call("c")]),
    ("late result", [_call("c"), _ANSWER, _tool()]),
    ("second result", [_call("c"), _tool(), _ANSWER, _tool()]),
    ("result without a call", [_tool("nowhere")]),
    ("id used twice", [_call("c"), _tool(), _ANSWER, _call("c"), _tool()]),
    ("id with odd characters", [_call("f.x:0"), _tool("f.x:0")]),
    ("arguments that are not an object", [_call("c", arguments="[1]"), _tool()]),
    (
        "picture in a tool's result",
        [
            _claude("assistant", {"type": "tool_use", "id": "c", "name": "f", "input": {}}),
            _claude(
                "user",
                {
                    "type": "tool_result",
                    "tool_use_id": "c",
                    "content": [
                        {
                            "type": "image",
                            "source": {
                                "type": "base64",
                                "media_type": "image/png",
                                "data": _PNG,
                            },
                        }
                    ],
                },
            ),
        ],
    ),
    ("refusal", [_chat(role="assistant", content=None, refusal="r")]),
    (
        "reasoning of OpenAI-compatible servers",
        [_chat(role="assistant", content="a", reasoning_content="t")],
    ),
    (
        "reasoning of Responses, encrypted",
        [
            _chat(type="reasoning", id="rs_1", summary=[], encrypted_content="AAAA"),
            _chat(role="assistant", content="a", type="message"),
        ],
    ),
    ("signed thinking of Anthropic", [_claude("assistant", _THINKING, _TEXT)]),
    (
        "thought of Gemini",
        [_gemini("model", {"text": "t", "thought": True}, {"text": "a"})],
    ),
    (
        "web search that the provider ran (Responses)",
        [_SEARCH],
    ),
    (
        "code that the provider ran (Gemini)",
        [_gemini("model", {"executableCode": {"language": "PYTHON", "code": "1"}})],
    ),
    (
        "compaction of Responses, after the messages that it stands for",
        [_ANSWER, _chat(type="compaction", encrypted_content="AAAA")],
    ),
    ("citations (Anthropic)", [_claude("assistant", _TEXT | {"citations": [{"type": "x"}]})]),
    (
        "cache marker (Anthropic)",
        [_claude("user", _TEXT | {"cache_control": {"type": "ephemeral"}})],
    ),
    ("author's name", [_chat(role="user", content="a", name="ann")]),
    ("answer with `refusal: null`, `annotations: []`", [_ANSWER_OF_OPENAI]),
    ("JSON of a tool, with a key `type`", [_call("c"), _tool("c", {"type": "x", "id": "1"})]),
    ("screenshot of a computer (Responses)", [_COMPUTER, _SCREENSHOT]),
    ("approval of an MCP call (Responses)", [_REQUEST, _APPROVAL]),
    (
        "web search whose reasoning is not encrypted (Responses)",
        [_chat(type="reasoning", id="rs_1", summary=[]), _SEARCH],
    ),
    (
        "call without a signature (Gemini)",
        [
            _gemini("model", {"functionCall": {"name": "f", "args": {}}}),
            _gemini("user", {"functionResponse": {"name": "f", "response": {"output": "x"}}}),
        ],
    ),
    (
        "part that is only a signature (Gemini)",
        [_gemini("model", {"text": "a"}, {"text": "", "thoughtSignature": "AAAA"})],
    ),
    (
        "answer in a transcript of Claude Code, with thinking",
        [_line("assistant", [_THINKING, _TEXT])],
    ),
    (
        "summary that replaces a history of Claude Code",
        [_ANSWER, _line("user", "s", isCompactSummary=True)],
    ),
    ("item in a rollout of Codex", [_program("codex", type="response_item", payload=_ITEM)]),
    ("item of the OpenAI Agents SDK", [_program("openai-agents", **_ITEM)]),
    (
        "request of Pydantic AI with instructions and a prompt",
        [
            _program(
                "pydantic-ai",
                kind="request",
                parts=[
                    {"part_kind": "system-prompt", "content": "s"},
                    {"part_kind": "user-prompt", "content": "a"},
                ],
            )
        ],
    ),
    (
        "thinking of Anthropic in a response of Pydantic AI",
        [
            _program(
                "pydantic-ai",
                kind="response",
                provider_name="anthropic",
                parts=[
                    {"part_kind": "thinking", "content": "t", "signature": "AAAA"},
                    {"part_kind": "text", "content": "a"},
                ],
            )
        ],
    ),
    (
        "call and result of Strands",
        [
            _program(
                "strands",
                role="assistant",
                content=[{"toolUse": {"toolUseId": "c", "name": "f", "input": {}}}],
            ),
            _program(
                "strands",
                role="user",
                content=[{"toolResult": {"toolUseId": "c", "content": [{"text": "x"}]}}],
            ),
        ],
    ),
)


def page() -> str:
    """Return the page."""
    rows = [(case, *(_cell(write, given) for write in _WRITERS.values())) for case, given in _CASES]
    kinds = [(f"`{kind.name.lower()}`", kind.value) for kind in ChangeKind]
    return "\n\n".join(
        [
            "# What a model gets of a history",
            "A stored message never changes. What goes to a model is made from it for each "
            "request, and a turn reports every difference (`Turn.changes`). This table is made by "
            "running the code: each row is a short history, each column an API. “as it is” means "
            "that nothing is reported; otherwise the cell names the changes, which are explained "
            "below. Not listed: messages that are merged, as Gemini requires of messages of one "
            "role in succession, and most APIs of the items of one answer.",
            table(("content", *_WRITERS), rows),
            "## Changes",
            table(("change", "meaning"), kinds),
        ]
    )


def _cell(write: Callable[[History], FittedRequest], given: Sequence[Message]) -> str:
    messages = [_chat(role="user", content="q"), *given, _chat(role="user", content="p")]
    for seq, message in enumerate(messages, 1):
        message.seq = seq
    kinds = dict.fromkeys(
        change.kind.name.lower()
        for change in write(History(messages)).report
        if change.seq and change.kind != ChangeKind.MESSAGES_MERGED
    )
    return ", ".join(f"`{kind}`" for kind in kinds) or "as it is"
