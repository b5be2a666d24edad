"""Histories that broke turns in other programs, by kind of fault. Each is sent to every dialect."""

import json
import re

import pytest

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    ROLE_ASSISTANT,
    Message,
    Part,
    Parts,
    Reasoning,
)
from sessiond_server.dialects import openai_chat
from sessiond_server.dialects.openai_chat_parts import ChatDialect
from sessiond_server.dialects.request import BLANK, History
from sessiond_server.formats.pairing import NO_RESULT
from sessiond_server.formats.report import ChangeKind, UnsendableHistory
from sessiond_server.formats.wire import StoredObject

from .dialects import DIALECTS
from .histories import as_message
from .native_messages import (
    JSON,
    PROMPT,
    SIGNED,
    USER,
    blocks,
    calls,
    everywhere,
    format_of,
    history,
    result,
    text_of,
    tool,
    use,
)

NATIVE_FAULTS = {
    "no calls": {"role": "assistant", "content": "a", "tool_calls": []},
    "nulls of model_dump()": {
        "role": "assistant",
        "content": "a",
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    },
    "an answer of nothing": {"role": "assistant", "content": None},
    "an empty list": {"role": "assistant", "content": []},
    "parsed": {"role": "assistant", "content": "a", "parsed": {"x": 1}},
    "provider fields": {"role": "assistant", "content": "a", "provider_specific_fields": {"x": 1}},
    "reasoning": {"role": "assistant", "content": "a", "reasoning_content": "why"},
    "an author with a blank": {"role": "user", "content": "a", "name": "Ann Lee"},
    "arguments as an object": {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
        ],
    },
    "a call without id and type": {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
    },
    "a function without a name": calls("c", name=""),
    "a function with a dot": calls("c", name="look.up"),
    "a role of null": {"role": None, "type": "function_call", "call_id": "c", "name": "f"}
    | {"arguments": "{}"},
    "a tool's picture": tool("c", [{"type": "image_url", "image_url": {"url": "https://e.com/a"}}]),
    "129 calls": calls(*(f"c{i}" for i in range(129))),
    "half a surrogate": {"role": "user", "content": "a \ud83d"},
    "blocks of nothing": blocks("assistant", use("c"), {"type": "text", "text": "\n\n"}),
    "five cache markers": blocks(
        "user",
        *[
            {"type": "text", "text": f"t{i}", "cache_control": {"type": "ephemeral"}}
            for i in range(5)
        ],
        {"type": "image", "source": {"type": "url", "url": "https://e.com/a.png"}},
    ),
    "a key beside role and content": blocks("user", result("c")) | {"timestamp": 1},
    "a picture of another kind": blocks(
        "user",
        {"type": "image", "source": {"type": "base64", "media_type": "image/tiff"}}
        | {"source": {"type": "base64", "media_type": "image/tiff", "data": "AAAA"}},
    ),
    "a blank part": {"role": "model", "parts": [{"text": ""}, {"text": "a"}]},
    "fields of the SDK": {
        "role": "model",
        "parts": [{"text": "a", "thought": None, "inline_data": None, "video_metadata": None}],
    },
}


class TestNativeMessages:
    """Messages that are sent in the format in which they were stored."""

    @everywhere
    @pytest.mark.parametrize("fault", NATIVE_FAULTS)
    def test_an_odd_message_does_not_end_its_session(self, name: str, fault: str) -> None:
        value = NATIVE_FAULTS[fault]
        text_of(name, USER, as_message(value, format_of(value)), PROMPT)

    @everywhere
    def test_a_call_with_a_role_of_null_is_sent(self, name: str) -> None:
        output = {"type": "function_call_output", "call_id": "c", "output": "found it"}
        call = NATIVE_FAULTS["a role of null"] | {"name": "look_up"}
        text = text_of(name, USER, call, output, PROMPT)
        assert "look_up" in text
        assert "found it" in text

    @everywhere
    @pytest.mark.parametrize("blank", ["", " ", "\n\n", "\t \n"])
    def test_a_blank_prompt_is_sent_as_such(self, name: str, blank: str) -> None:
        text = text_of(
            name, USER, {"role": "assistant", "content": "a"}, PROMPT | {"content": blank}
        )
        if name in ("anthropic", "gemini"):
            assert BLANK in text

    def test_the_newest_cache_markers_are_kept(self) -> None:
        messages = [
            blocks(
                "user",
                {"type": "text", "text": f"t{i}", "cache_control": {"type": "ephemeral"}},
                {"type": "image", "source": {"type": "url", "url": "https://e.com/a.png"}},
            )
            for i in range(6)
        ]
        request, body = DIALECTS["anthropic"].send(history(*messages))
        marked = ["cache_control" in message["content"][0] for message in body["messages"]]
        assert marked == [False, False, True, True, True, True]
        assert ChangeKind.CACHE_MARKER_REMOVED in {change.kind for change in request.report}

    @everywhere
    def test_a_message_that_fits_is_sent_byte_for_byte(self, name: str) -> None:
        raws = {
            "openai": '{ "content" : "a\\u00e9", "role":"assistant" }',
            "anthropic": '{ "content" : [{"text": "a", "type":"text"}], "role":"assistant" }',
            "gemini": '{ "parts" : [{"text": "a\\u00e9"}], "role":"model" }',
            "responses": '{ "content" : "a", "role":"assistant", "type": "message" }',
        }
        raw = raws.get(name, raws["openai"])
        number = {"anthropic": FORMAT_ANTHROPIC, "gemini": FORMAT_GEMINI}.get(name, FORMAT_OPENAI)
        stored = Message(seq=2, role=ROLE_ASSISTANT, format=number, json=raw)  # type: ignore[arg-type]
        request, _ = DIALECTS[name].send(history(USER, stored, PROMPT))
        sent = request.body[DIALECTS[name].key]
        assert raw in [item.raw for item in sent if isinstance(item, StoredObject)]
        assert not request.report.of(2)


FOREIGN = {
    "an object as a tool's result": ([calls("c"), tool("c", {"temp": 21})], "21"),
    "a number as a tool's result": ([calls("c"), tool("c", [21])], "21"),
    "an MCP call's output": (
        [
            {"type": "mcp_call", "id": "mcp_m", "name": "f", "server_label": "s"}
            | {"arguments": "{}", "output": "the answer is 42"}
        ],
        "the answer is 42",
    ),
    "a search": (
        [
            {"type": "web_search_call", "id": "ws_w", "status": "completed"}
            | {"action": {"type": "search", "query": "weather in Ulm"}}
        ],
        "weather in Ulm",
    ),
    "code that ran": (
        [
            {
                "type": "code_interpreter_call",
                "id": "ci_1",
                "status": "completed",
                "code": "print(7)",
            }
            | {"container_id": "x", "outputs": [{"type": "logs", "logs": "seven"}]}
        ],
        "seven",
    ),
    "an item that nobody knows": (
        [{"type": "quantum_call", "id": "q", "spin": "upwards"}],
        "upwards",
    ),
    "a shell that the caller runs": (
        [
            {"type": "local_shell_call", "id": "l", "call_id": "c", "status": "completed"}
            | {"action": {"type": "exec", "command": ["ls", "-la"], "env": {}}},
            {"type": "local_shell_call_output", "id": "c", "call_id": "c", "output": "total 0"},
        ],
        "total 0",
    ),
    "Anthropic's server tools": (
        [
            blocks(
                "assistant",
                {
                    "type": "server_tool_use",
                    "id": "srvtoolu_s",
                    "name": "web_search",
                    "input": {"query": "Ulm"},
                },
                {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_s"}
                | {
                    "content": [
                        {"type": "web_search_result", "title": "Ulm today", "url": "https://u"}
                    ]
                },
            )
        ],
        "Ulm today",
    ),
    "a Claude result": (
        [
            as_message(blocks("assistant", use("c")), FORMAT_ANTHROPIC),
            blocks("user", result("c", "21 degrees")),
        ],
        "21 degrees",
    ),
    "code of Gemini's": (
        [
            {
                "role": "model",
                "parts": [{"executableCode": {"language": "PYTHON", "code": "print(7)"}}],
            }
        ],
        "print(7)",
    ),
    "a refusal": ([{"role": "assistant", "content": None, "refusal": "I may not"}], "I may not"),
}


class TestNothingVanishes:
    """Content that only one provider understands."""

    @everywhere
    @pytest.mark.parametrize("case", FOREIGN)
    def test_its_text_reaches_every_model(self, name: str, case: str) -> None:
        values, expected = FOREIGN[case]
        assert expected in text_of(name, USER, *values, PROMPT)

    @everywhere
    @pytest.mark.parametrize(
        "value",
        [
            {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]},
            blocks("user", {"type": "image", "source": {"type": "file", "file_id": "file_1"}}),
            {
                "role": "user",
                "parts": [{"fileData": {"mimeType": "video/mp4", "fileUri": "gs://a"}}],
            },
        ],
    )
    def test_a_file_of_another_provider_is_told(self, name: str, value: JSON) -> None:
        message = as_message(value, format_of(value))
        request, body = DIALECTS[name].send(history(USER, message, PROMPT))
        is_sent = DIALECTS[name].is_own(message) or (name == "responses" and "file-1" in str(value))
        if not is_sent:
            assert "not sent" in json.dumps(body)
            assert ChangeKind.FILE_REPLACED in request.report.of(2)

    @everywhere
    def test_a_summary_that_only_its_maker_can_read_is_told(self, name: str) -> None:
        summary = {"type": "compaction", "encrypted_content": "gAAA"}
        text = text_of(name, USER, {"role": "assistant", "content": "a"}, summary, PROMPT)
        assert ("gAAA" in text) == (name == "responses")
        assert ("not sent" in text) == (name != "responses")

    @everywhere
    def test_such_a_summary_alone_is_refused(self, name: str) -> None:
        summary = {"type": "compaction", "encrypted_content": "gAAA"}
        stored = history(summary, PROMPT)
        if name == "responses":
            DIALECTS[name].send(stored)
            return
        with pytest.raises(UnsendableHistory) as caught:
            DIALECTS[name].send(stored)
        assert caught.value.seqs == [1]


class TestIds:
    """Ids of calls, which are not unique."""

    @everywhere
    def test_a_result_belongs_to_the_nearest_open_call(self, name: str) -> None:
        text = text_of(name, USER, calls("s:0"), PROMPT, calls("s:0"), tool("s:0", "second"))
        assert text.index(NO_RESULT) < text.index("second")

    @everywhere
    @pytest.mark.parametrize(
        "ids",
        [
            ("f.x:0", "f_x_0"),
            ("a b", "a_b"),
            ("x" * 70 + "1", "x" * 70 + "2"),
            ("ü", "ö"),
            ("c", "c"),
        ],
    )
    def test_ids_stay_apart(self, name: str, ids: tuple[str, str]) -> None:
        first, second = ids
        text = text_of(name, USER, calls(*ids), tool(first, "one"), tool(second, "two"), PROMPT)
        assert text.index("one") < text.index("two")
        assert NO_RESULT not in text

    @everywhere
    def test_calls_without_ids_are_answered_in_order(self, name: str) -> None:
        call = {"functionCall": {"name": "f", "args": {}}}
        values = [{"functionResponse": {"name": "f", "response": {"n": n}}} for n in ("one", "two")]
        text = text_of(
            name, USER, {"role": "model", "parts": [call, call]}, {"role": "user", "parts": values}
        )
        assert text.index("one") < text.index("two")
        assert NO_RESULT not in text


class TestResults:
    """Tool results that arrive late, twice, without a call, or never."""

    @everywhere
    def test_a_late_result_reaches_the_model_in_its_place(self, name: str) -> None:
        late = tool("b", "late one")
        answer = {"role": "assistant", "content": "old answer"}
        text = text_of(name, USER, calls("a", "b"), tool("a", "first"), answer, late)
        assert text.index(NO_RESULT) < text.index("old answer") < text.index("late one")

    @everywhere
    def test_a_second_result_reaches_the_model(self, name: str) -> None:
        answer = {"role": "assistant", "content": "waiting"}
        text = text_of(
            name, USER, calls("a"), tool("a", "started"), answer, tool("a", "the real one")
        )
        assert text.index("started") < text.index("waiting") < text.index("the real one")

    @everywhere
    def test_a_prompt_before_a_result_follows_it(self, name: str) -> None:
        text = text_of(name, USER, calls("a"), PROMPT, tool("a", "the result"))
        assert text.index("the result") < text.index("go on")
        assert NO_RESULT not in text

    @everywhere
    def test_a_result_without_a_call_is_sent_as_text(self, name: str) -> None:
        assert "stray" in text_of(name, tool("nowhere", "stray"))

    @everywhere
    def test_a_call_without_a_result_is_answered(self, name: str) -> None:
        assert NO_RESULT in text_of(name, USER, calls("a"))

    @everywhere
    def test_an_error_is_marked(self, name: str) -> None:
        failed = result("a", "no such file") | {"is_error": True}
        text = text_of(name, USER, blocks("assistant", use("a")), blocks("user", failed))
        assert "no such file" in text
        assert "error" in text.lower()

    @everywhere
    def test_a_request_never_ends_with_the_assistant(self, name: str) -> None:
        text_of(name, USER, {"role": "assistant", "content": "a"})
        text_of(name, {"role": "assistant", "content": "a"})
        text_of(name, {"role": "system", "content": "only this"})


class TestThinking:
    """Signed reasoning is sent unchanged to the provider that signed it, and to no other."""

    def test_it_goes_to_its_maker(self) -> None:
        answer = blocks("assistant", SIGNED, use("a"))
        _, body = DIALECTS["anthropic"].send(history(USER, answer, blocks("user", result("a"))))
        assert body["messages"][1] == answer

    def test_typed_parts_carry_it_too(self) -> None:
        reasoning = Reasoning(text="secret thought", signature=b"c2ln", format=FORMAT_ANTHROPIC)
        parts = Parts(parts=[Part(reasoning=reasoning), Part(text="a")])
        _, body = DIALECTS["anthropic"].send(
            history(USER, Message(role=ROLE_ASSISTANT, parts=parts), PROMPT)
        )
        assert body["messages"][1]["content"][0] == SIGNED

    @pytest.mark.parametrize("name", ["openai", "groq", "responses", "gemini"])
    def test_no_other_model_gets_it(self, name: str) -> None:
        answer = blocks("assistant", SIGNED, {"type": "text", "text": "a"})
        request, body = DIALECTS[name].send(history(USER, answer, PROMPT))
        assert "secret" not in json.dumps(body)
        assert ChangeKind.THINKING_OMITTED in request.report.of(2)

    @pytest.mark.parametrize(
        "block",
        [SIGNED | {"signature": ""}, {"type": "thinking", "thinking": "secret thought"}],
    )
    def test_unsigned_it_is_left_out(self, block: JSON) -> None:
        answer = blocks("assistant", block, {"type": "text", "text": "a"})
        _, body = DIALECTS["anthropic"].send(history(USER, answer, PROMPT))
        assert "secret" not in json.dumps(body)

    def test_an_answer_that_has_to_change_loses_it(self) -> None:
        answer = blocks("assistant", SIGNED, use("a.b"))
        _, body = DIALECTS["anthropic"].send(history(USER, answer, blocks("user", result("a.b"))))
        assert "secret" not in json.dumps(body)

    def test_a_running_loop_without_it_disables_it(self) -> None:
        options = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}
        request, body = DIALECTS["anthropic"].send(history(USER, calls("a"), tool("a")), options)
        assert "thinking" not in body
        assert ChangeKind.THINKING_DISABLED in {change.kind for change in request.report}

    def test_deepseek_gets_what_it_requires(self) -> None:
        known = calls("a") | {"reasoning_content": "because"}
        _, body = DIALECTS["deepseek"].send(history(USER, known, tool("a"), calls("b"), tool("b")))
        made = [m for m in body["messages"] if m["role"] == "assistant"]
        assert made[0]["reasoning_content"] == "because"
        assert made[1]["reasoning_content"]


class TestSystem:
    """Instructions in mid-history stay where they are."""

    @everywhere
    def test_their_place_is_kept(self, name: str) -> None:
        answer = {"role": "assistant", "content": "an answer"}
        later = {"role": "system", "content": "speak French"}
        text = text_of(name, USER, answer, later, PROMPT)
        assert text.index("an answer") < text.index("speak French") < text.index("go on")


def test_mistral_gets_ids_of_nine_letters_and_digits() -> None:
    mistral = ChatDialect(is_openai=False, id_length=9)
    values = [USER, calls("call_1", "abcDEF123"), tool("call_1", "one"), tool("abcDEF123", "two")]
    body = openai_chat.fit(History(history(*values)), mistral).body
    ids = [call["id"] for call in body["messages"][1]["tool_calls"]]
    assert [message["tool_call_id"] for message in body["messages"][2:]] == ids
    assert ids[1] == "abcDEF123"
    assert re.fullmatch("[a-zA-Z0-9]{9}", ids[0])


@pytest.mark.parametrize("number", [2**70, -(2**65), 12345678901234567890123])
def test_long_integers_keep_their_digits(number: int) -> None:
    text = text_of("openai", USER, blocks("assistant", use("a", n=number)), PROMPT)
    assert str(number) in text
