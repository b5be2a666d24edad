"""The content that a model receives for messages of programs and frameworks."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_OPENAI,
    FORMAT_OTHER,
    ROLE_ASSISTANT,
    ROLE_OTHER,
    ROLE_SYSTEM,
    ROLE_TOOL,
    ROLE_USER,
    Message,
)
from sessiond_server.formats.pieces import Call, Entry, Foreign, Media, Result, Text, Thinking
from sessiond_server.formats.read import other, read
from sessiond_server.formats.read.conversation import read_all, spoken
from sessiond_server.formats.report import Report

from .dialects import DIALECTS
from .drawn_values import PNG
from .program_histories import other_message

JSON = dict[str, Any]
OPENAI_CALL = {"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": "{}"}
PROGRAM_CALL = [
    {"part_kind": "text", "content": "Let me see."},
    {"part_kind": "tool-call", "tool_call_id": "c1", "tool_name": "look_up", "args": {"q": 1}},
]


def history(format_name: str, values: Sequence[JSON]) -> list[Message]:
    messages = [other_message(value, format_name) for value in values]
    for seq, message in enumerate(messages, 1):
        message.seq = seq
    return messages


def said(format_name: str, *values: JSON) -> list[tuple[int, Any]]:
    """Return the role and the text or pieces of each part of a history."""
    return [
        (entry.role, "".join(p.text for p in entry.pieces if isinstance(p, Text)))
        for entry in spoken(read_all(history(format_name, values)))
    ]


def pieces(format_name: str, value: JSON) -> list[Any]:
    return [*read(history(format_name, [value])[0]).pieces]


def line(kind: str, content: Any, **fields: Any) -> JSON:
    """Return a line of Claude Code."""
    answer = {"id": fields.pop("answer", "msg_1")} if kind == "assistant" else {}
    return {"type": kind, "message": {"role": kind, "content": content, **answer}, **fields}


def test_claude_codes_notes_are_not_part_of_the_conversation() -> None:
    notes: list[JSON] = [
        {"type": "summary", "summary": "About tea", "leafUuid": "a"},
        {"type": "file-history-snapshot", "messageId": "a", "snapshot": {}},
        {"type": "progress", "data": {"type": "hook_progress"}},
        {"type": "queue-operation", "operation": "enqueue", "content": "queued"},
        {"type": "system", "subtype": "local_command", "content": "ls"},
        {"type": "attachment", "attachment": {"type": "skill_listing", "content": "x"}},
        line("user", "for the screen only", isVisibleInTranscriptOnly=True),
        line("assistant", [{"type": "text", "text": "API Error"}], isApiErrorMessage=True),
    ]
    lines = [notes[0], line("user", "hello"), *notes[1:], line("assistant", "hi")]
    assert said("claude-code", *lines) == [(ROLE_USER, "hello"), (ROLE_ASSISTANT, "hi")]
    roles = [message.role for message in history("claude-code", notes)]
    assert roles == [ROLE_OTHER] * len(notes)


def test_a_prompt_that_was_queued_in_claude_code_is_one_of_the_user() -> None:
    queued = {"type": "attachment", "attachment": {"type": "queued_command", "prompt": "and now"}}
    assert said("claude-code", queued) == [(ROLE_USER, "and now")]


def test_the_lines_of_one_answer_of_claude_are_sent_as_one_with_its_signed_thinking() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    call = {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "found"}
    messages = history(
        "claude-code",
        [
            line("user", "search"),
            line("assistant", [thinking]),
            {"type": "progress", "data": {}},
            line("assistant", [{"type": "text", "text": "Let me see."}]),
            line("assistant", [call]),
            line("user", [result], toolUseResult={"stdout": "found"}),
            line("assistant", [{"type": "text", "text": "Here."}], answer="msg_2"),
            line("user", "thanks"),
        ],
    )
    _, body = DIALECTS["anthropic"].send(messages)
    assert [(m["role"], m["content"]) for m in body["messages"]] == [
        ("user", "search"),
        ("assistant", [thinking, {"type": "text", "text": "Let me see."}, call]),
        ("user", [result]),
        ("assistant", [{"type": "text", "text": "Here."}]),
        ("user", "thanks"),
    ]
    # Another provider does not receive the thinking.
    _, body = DIALECTS["openai"].send(messages)
    assert "hm" not in json.dumps(body)
    assert [m.get("tool_call_id") for m in body["messages"]][3:4] == ["toolu_1"]


def test_agents_that_claude_code_called_are_not_part_of_its_conversation() -> None:
    side = line("user", "search the code", isSidechain=True, agentId="a1")
    old = line("user", "search the code", isSidechain=True)
    main = line("user", "hello")
    assert said("claude-code", main, side, old) == [(ROLE_USER, "hello")]
    # In a sub-agent's own transcript, the sub-agent's lines are the conversation.
    assert said("claude-code", side) == [(ROLE_USER, "search the code")]
    assert said("claude-code", old) == []


def test_a_summary_of_claude_code_stands_for_the_lines_before_it() -> None:
    lines = [
        line("user", "long ago"),
        line("assistant", "yes"),
        {"type": "system", "subtype": "compact_boundary", "content": "Conversation compacted"},
        line("user", "This session continues: …", isCompactSummary=True),
        line("user", "and now"),
    ]
    assert said("claude-code", *lines) == [
        (ROLE_USER, "This session continues: …"),
        (ROLE_USER, "and now"),
    ]
    report = Report()
    read_all(history("claude-code", lines), report)
    assert [(change.seq, change.detail) for change in report] == [
        (4, "2 messages before this summary")
    ]


def test_lines_that_a_compaction_of_claude_code_has_kept_remain() -> None:
    kept = {"anchorUuid": "s", "uuids": ["b", "c"]}
    lines = [
        line("user", "long ago", uuid="a"),
        line("user", "just now", uuid="b"),
        {
            "type": "system",
            "subtype": "compact_boundary",
            "compactMetadata": {"preservedMessages": kept},
        },
        line("user", "summary", uuid="s", isCompactSummary=True),
        line("assistant", "go on", uuid="c"),
    ]
    assert [text for _, text in said("claude-code", *lines)] == ["just now", "summary", "go on"]


def test_instructions_before_a_summary_remain() -> None:
    messages = [
        Message(
            format=FORMAT_OPENAI, role=ROLE_SYSTEM, json='{"role":"system","content":"Be kind"}'
        ),
        *history("claude-code", [line("user", "old"), line("user", "s", isCompactSummary=True)]),
    ]
    assert [entry.role for entry in spoken(read_all(messages))] == [ROLE_SYSTEM, ROLE_USER]


def codex(item: JSON, kind: str = "response_item") -> JSON:
    return {"timestamp": "2026-01-01T00:00:00Z", "type": kind, "payload": item}


def test_codexs_items_are_read_and_its_events_are_not() -> None:
    message = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    event = {"type": "user_message", "message": "hi"}
    lines = [
        codex({"id": "s", "cwd": "/home/ann"}, "session_meta"),
        codex(message),
        codex(event, "event_msg"),
        codex({"model": "gpt"}, "turn_context"),
        codex({"type": "ghost_snapshot"}),
        codex(OPENAI_CALL),
        codex({"type": "function_call_output", "call_id": "c1", "output": "found"}),
        {**message, "id": None},
        {"record_type": "state"},
    ]
    assert [role for role, _ in said("codex", *lines)] == [
        ROLE_USER,
        ROLE_ASSISTANT,
        ROLE_TOOL,
        ROLE_USER,
    ]


def test_codexs_summaries_stand_for_what_they_replace() -> None:
    def message(role: str, text: str) -> JSON:
        return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}

    old = [codex(message("user", "first")), codex(message("assistant", "answer"))]
    plain = codex({"message": "summary"}, "compacted")
    assert said("codex", *old, plain) == [(ROLE_USER, "first"), (ROLE_USER, "summary")]
    whole = codex(
        {"message": "", "replacement_history": [message("user", "first"), message("user", "sum")]},
        "compacted",
    )
    assert said("codex", *old, whole) == [(ROLE_USER, "first"), (ROLE_USER, "sum")]
    sealed = codex(
        {"message": "", "replacement_history": [{"type": "compaction", "encrypted_content": "x"}]},
        "compacted",
    )
    assert said("codex", *old, sealed) == [(ROLE_USER, "first"), (ROLE_ASSISTANT, "answer")]


def test_items_of_the_openai_agents_sdk_are_sent_as_they_are_stored() -> None:
    items: list[JSON] = [
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"},
        {**OPENAI_CALL, "id": "fc_1"},
        {"type": "function_call_output", "call_id": "c1", "output": "found"},
    ]
    messages = history("openai-agents", items)
    assert [message.role for message in messages] == [
        ROLE_USER,
        ROLE_ASSISTANT,
        ROLE_ASSISTANT,
        ROLE_TOOL,
    ]
    _, body = DIALECTS["responses"].send(messages)
    assert body["input"][1:] == items[1:]


def test_an_envelope_of_the_openai_agents_sdk_stays_closed() -> None:
    envelope = {"__enc__": 1, "v": 1, "kid": "one", "payload": "gAAAA"}
    sealed, plain = history("openai-agents", [envelope, {"role": "user", "content": "__enc__"}])
    assert (sealed.role, other.unreadable([plain, sealed])) == (ROLE_OTHER, sealed)
    assert other.unreadable([plain]) is None


def test_a_request_of_pydantic_ai_is_split_by_its_speakers() -> None:
    request = {
        "kind": "request",
        "parts": [
            {"part_kind": "system-prompt", "content": "Be kind."},
            {"part_kind": "user-prompt", "content": ["Look: ", {"kind": "cache-point"}]},
            {
                "part_kind": "tool-return",
                "tool_call_id": "c1",
                "tool_name": "t",
                "content": {"a": 1},
            },
        ],
    }
    assert said("pydantic-ai", request) == [
        (ROLE_SYSTEM, "Be kind."),
        (ROLE_USER, "Look: "),
        (ROLE_TOOL, ""),
    ]
    [message] = history("pydantic-ai", [request])
    assert message.role == ROLE_USER
    assert pieces("pydantic-ai", request)[-1] == Result("c1", "t", [Text('{"a":1}')])
    stored = {"id": "e", "parent_id": None, "message": request}
    assert said("pydantic-ai", stored) == said("pydantic-ai", request)


@pytest.mark.parametrize(
    ("response", "part", "maker"),
    [
        ("anthropic", None, FORMAT_ANTHROPIC),
        (None, "anthropic", FORMAT_ANTHROPIC),
        ("openai", "anthropic", FORMAT_ANTHROPIC),
        ("bedrock", None, 0),
        (None, None, 0),
    ],
)
def test_thinking_of_pydantic_ai_goes_to_its_maker_only(
    response: str | None, part: str | None, maker: int
) -> None:
    thinking = {"part_kind": "thinking", "content": "hm", "signature": "c2ln"}
    value = {
        "kind": "response",
        "provider_name": response,
        "parts": [{**thinking, "provider_name": part}, *PROGRAM_CALL],
    }
    thought, text, call = pieces("pydantic-ai", value)
    assert thought == Thinking("hm", "c2ln", maker)  # type: ignore[arg-type]
    assert (text, call) == (Text("Let me see."), Call("c1", "look_up", '{"q":1}'))
    messages = history("pydantic-ai", [value])
    _, body = DIALECTS["anthropic"].send(messages)
    assert ("c2ln" in json.dumps(body)) == (maker == FORMAT_ANTHROPIC)
    _, body = DIALECTS["responses"].send(messages)
    assert "c2ln" not in json.dumps(body)


def test_the_newest_instructions_of_pydantic_ai_precede_the_history() -> None:
    def request(text: str, instructions: str | None) -> JSON:
        prompt = {"part_kind": "user-prompt", "content": text}
        return {"kind": "request", "parts": [prompt] if text else [], "instructions": instructions}

    answer = {"kind": "response", "parts": [{"part_kind": "text", "content": "a"}]}
    asked = [request("q", "Be kind."), answer, request("r", "Be brief."), answer]
    conversation = [
        (ROLE_USER, "q"),
        (ROLE_ASSISTANT, "a"),
        (ROLE_USER, "r"),
        (ROLE_ASSISTANT, "a"),
    ]
    assert said("pydantic-ai", *asked) == [(ROLE_SYSTEM, "Be brief."), *conversation]
    assert said("pydantic-ai", *asked, request("", None))[0] == (ROLE_SYSTEM, "Be brief.")
    assert said("pydantic-ai", *asked, request("", "Go on."))[0] == (ROLE_SYSTEM, "Go on.")
    assert said("pydantic-ai", request("q", " ")) == conversation[:1]
    for name, dialect in DIALECTS.items():
        request_made, body = dialect.send(history("pydantic-ai", asked))
        assert "Be brief." in json.dumps(body), name
        assert json.dumps(body).count("Be ") == 2, name
        assert len(request_made.seqs) == len(body[dialect.key])


def test_a_message_of_strands_is_read_alone_and_in_its_record() -> None:
    source = {"bytes": {"__bytes_encoded__": True, "data": PNG}}
    message = {
        "role": "user",
        "content": [
            {"text": "Look."},
            {"image": {"format": "png", "source": source}},
            {
                "toolResult": {
                    "toolUseId": "t1",
                    "status": "error",
                    "content": [{"json": [1]}, {"text": "no"}],
                }
            },
        ],
    }
    expected = [
        Text("Look."),
        Media("image", "image/png", PNG),
        Result("t1", "", [Text("[1]"), Text("no")], True),
    ]
    assert pieces("strands", message) == expected
    assert pieces("strands", {"message": message, "message_id": 0}) == expected
    redacted = {"role": "user", "content": [{"text": "[redacted]"}]}
    record = {"message": message, "redact_message": redacted, "message_id": 0}
    assert pieces("strands", record) == [Text("[redacted]")]


def test_both_forms_of_langchains_messages_are_read() -> None:
    call = {"type": "tool_call", "id": "c1", "name": "look_up", "args": {"q": 1}}
    data = {"content": [{"type": "text", "text": "Let me see."}], "tool_calls": [call]}
    dumped = {"lc": 1, "type": "constructor", "id": ["langchain", "AIMessage"], "kwargs": data}
    for value in ({"type": "ai", "data": data}, dumped):
        assert pieces("langchain", value) == [
            Text("Let me see."),
            Call("c1", "look_up", '{"q":1}'),
        ]
        assert history("langchain", [value])[0].role == ROLE_ASSISTANT


def test_turns_of_sharegpt_have_the_roles_of_their_speakers() -> None:
    turns = [
        {"from": "system", "value": "Be kind."},
        {"from": "human", "value": "hi"},
        {"from": "gpt", "value": "ho"},
        {"role": "user", "content": "again"},
    ]
    assert [role for role, _ in said("sharegpt", *turns)] == [
        ROLE_SYSTEM,
        ROLE_USER,
        ROLE_ASSISTANT,
        ROLE_USER,
    ]


def test_a_tool_of_chatgpts_export_answers_the_call_of_its_name() -> None:
    def message(role: str, text: str, **fields: Any) -> JSON:
        author = {"role": role, "name": fields.pop("name", None)}
        return {"author": author, "content": {"content_type": "text", "parts": [text]}, **fields}

    messages = history(
        "openai-export",
        [
            message("system", "", metadata={"is_visually_hidden_from_conversation": True}),
            message("user", "2 + 2?"),
            message("assistant", "print(2 + 2)", recipient="python"),
            message("tool", "4", name="python"),
            message("assistant", "It is 4.", recipient="all"),
            message("user", "left out", weight=0),
        ],
    )
    _, body = DIALECTS["openai"].send(messages)
    call = body["messages"][2]["tool_calls"][0]
    assert body["messages"][3] == {"role": "tool", "tool_call_id": call["id"], "content": "4"}
    assert "left out" not in json.dumps(body)


@pytest.mark.parametrize("name", other.READERS)
def test_what_no_reader_knows_is_text_or_a_note(name: str) -> None:
    for entry in spoken(read_all(history(name, [{"type": "unheard", "say": "something"}]))):
        assert all(isinstance(piece, Foreign | Text) for piece in entry.pieces)


_KEYS = st.sampled_from(
    [
        *("type", "role", "content", "message", "payload", "parts", "kind", "part_kind", "data"),
        *("from", "value", "kwargs", "id", "text", "toolUse", "toolResult", "image", "source"),
        *("author", "tool_calls", "function", "attachment", "prompt", "image_url"),
        "replacement_history",
    ]
)
_VALUES = st.sampled_from(
    [
        *("user", "assistant", "tool", "text", "message", "request", "response", "user-prompt"),
        *("image", "tool-return", "binary", "ai", "human", "function_call", "tool_result"),
        *("compacted", "file", "response_item", "attachment", "queued_command", "tool_use"),
        *("thinking", "document"),
    ]
)
_ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), _VALUES),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=4)),
    max_leaves=12,
)


@pytest.mark.parametrize("name", other.READERS)
@settings(max_examples=40, deadline=None)
@given(value=st.dictionaries(_KEYS, _ANY, max_size=5))
def test_every_object_can_be_read_and_sent(name: str, value: JSON) -> None:
    entry = other.read(Entry(1, ROLE_OTHER, FORMAT_OTHER, "", value, []), name)
    assert entry.is_hidden or entry.role
    messages = history(name, [value])
    for dialect in ("anthropic", "openai", "responses", "gemini"):
        DIALECTS[dialect].send(messages)
