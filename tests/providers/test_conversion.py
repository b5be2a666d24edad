"""Histories on their way to a provider: unchanged in its own format, converted from any other."""

import base64
import json
from typing import Any

import pytest

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_OPENAI,
    ROLE_ASSISTANT,
    ROLE_DEVELOPER,
    ROLE_TOOL,
    ROLE_USER,
    Blob,
    Message,
    Part,
    Parts,
    Reasoning,
    ToolCall,
    ToolResult,
)
from sessiond_server.providers.base import AssetContent
from sessiond_server.providers.conversion import ASSISTANT_FIRST, for_anthropic, for_openai
from sessiond_server.providers.files import AssetContents, with_assets
from sessiond_server.providers.tool_calls import NO_RESULT

from .asking import anthropic, gemini, openai, stored

PNG = b"\x89PNG\r\n\x1a\nrest"
PNG_64 = base64.b64encode(PNG).decode()
ASSET = "ab" * 32
REFERENCE = f"sessiond-asset:{ASSET}"


def to_openai(messages: list[Message]) -> list[dict[str, Any]]:
    return for_openai(messages, AssetContents())


def to_anthropic(messages: list[Message]) -> list[dict[str, Any]]:
    return for_anthropic(messages, AssetContents())[1]


def parts(role: Any, *pieces: Part) -> Message:
    return Message(role=role, parts=Parts(parts=pieces))


def check_anthropic(messages: list[dict[str, Any]]) -> None:
    """The rules of the Messages API."""
    assert messages[0]["role"] == "user"
    called: set[str] = set()
    for before, message, after in zip(
        [None, *messages], messages, [*messages[1:], None], strict=False
    ):
        blocks = message["content"]
        assert message["role"] in ("user", "assistant")
        assert blocks
        for block in blocks if isinstance(blocks, list) else [{"type": "text", "text": blocks}]:
            if block["type"] == "text":
                assert block["text"].strip()
            if block["type"] == "tool_use":
                assert isinstance(block["input"], dict)
                assert block["id"] not in called
                called.add(block["id"])
            if block["type"] == "tool_result":
                assert before is not None
                assert block["tool_use_id"] in {made.get("id") for made in before["content"]}
        made = {
            block["id"]
            for block in blocks
            if isinstance(block, dict) and block["type"] == "tool_use"
        }
        if made and after:
            assert made <= {block.get("tool_use_id") for block in after["content"]}


class TestRealConversations:
    def test_to_their_own_format_they_go_unchanged(
        self, conversations: list[dict[str, Any]]
    ) -> None:
        for conversation in conversations:
            assert to_openai(openai(*conversation["messages"])) == conversation["messages"]

    def test_to_anthropic_they_are_valid(self, conversations: list[dict[str, Any]]) -> None:
        for conversation in conversations:
            values = conversation["messages"]
            system, messages = for_anthropic(openai(*values), AssetContents())
            check_anthropic(messages)
            assert [block["text"] for block in system] == [
                value["content"] for value in values if value["role"] == "system"
            ]
            texts = [
                block["text"]
                for message in messages
                for block in message["content"]
                if block["type"] == "text"
            ]
            assert texts == [
                value["content"]
                for value in values
                if value["role"] in ("user", "assistant") and value["content"]
            ]
            results = [
                block
                for message in messages
                for block in message["content"]
                if block["type"] == "tool_result"
            ]
            assert [block.get("content", "") for block in results] == [
                value["content"] for value in values if value["role"] == "tool"
            ]

    def test_there_and_back_they_are_the_same_conversation(
        self, conversations: list[dict[str, Any]]
    ) -> None:
        for conversation in conversations:
            system, messages = for_anthropic(openai(*conversation["messages"]), AssetContents())
            back = to_openai(anthropic({"role": "system", "content": system}, *messages))
            assert [value["role"] for value in back] == [
                value["role"] for value in conversation["messages"]
            ]
            assert [value["content"] or None for value in back] == [
                value["content"] or None for value in conversation["messages"]
            ]


def chat_call(*call_ids: str) -> dict[str, Any]:
    calls = [
        {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}}
        for call_id in call_ids
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def chat_result(call_id: str, text: str = "1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def use(*call_ids: str) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": [
            {"type": "tool_use", "id": call_id, "name": "f", "input": {}} for call_id in call_ids
        ],
    }


def used(*call_ids: str, text: str = "1") -> list[dict[str, Any]]:
    return [
        {"type": "tool_result", "tool_use_id": call_id, "content": text} for call_id in call_ids
    ]


USER, ASSISTANT = {"role": "user", "content": "go on"}, {"role": "assistant", "content": "well"}


class TestMending:
    """Results follow their calls in a request, wherever they were stored."""

    def test_what_is_well_stays(self) -> None:
        history = [
            USER,
            chat_call("a", "b"),
            chat_result("a"),
            chat_result("b"),
            USER,
            chat_call("a"),
            chat_result("a", "2"),
            ASSISTANT,
        ]
        assert to_openai(openai(*history)) == history
        whole = [
            USER,
            use("a", "b"),
            {"role": "user", "content": used("a", "b")},
            use("a"),
            {"role": "user", "content": used("a", text="2")},
        ]
        assert to_anthropic(anthropic(*whole)) == whole

    def test_a_prompt_that_came_before_the_result(self) -> None:
        sent = to_openai(
            openai(USER, chat_call("a", "b"), USER, chat_result("b"), chat_result("a"), ASSISTANT)
        )
        assert sent == [
            USER,
            chat_call("a", "b"),
            chat_result("a"),
            chat_result("b"),
            USER,
            ASSISTANT,
        ]
        sent = to_anthropic(
            anthropic(
                USER, use("a", "b"), USER, {"role": "user", "content": used("b", "a")}, ASSISTANT
            )
        )
        assert sent[2]["content"] == [*used("a", "b"), {"type": "text", "text": "go on"}]
        assert sent[3:] == [ASSISTANT]
        check_anthropic(sent)

    def test_a_call_that_was_never_answered(self) -> None:
        sent = to_openai(openai(USER, chat_call("a", "b"), chat_result("b"), USER, chat_call("c")))
        assert sent == [
            USER,
            chat_call("a", "b"),
            chat_result("a", NO_RESULT),
            chat_result("b"),
            USER,
            chat_call("c"),
            chat_result("c", NO_RESULT),
        ]
        sent = to_anthropic(
            anthropic(
                USER, use("a", "b"), {"role": "user", "content": used("b")}, ASSISTANT, use("c")
            )
        )
        assert sent[2]["content"] == [*used("a", text=NO_RESULT), *used("b")]
        assert sent[-1] == {"role": "user", "content": used("c", text=NO_RESULT)}
        check_anthropic(sent)

    def test_an_answer_behind_an_open_call(self) -> None:
        sent = to_anthropic(anthropic(USER, use("a"), ASSISTANT, USER))
        assert sent == [
            USER,
            use("a"),
            {"role": "user", "content": used("a", text=NO_RESULT)},
            ASSISTANT,
            USER,
        ]

    def test_a_result_without_its_call(self) -> None:
        sent = to_openai(openai(chat_result("x", "42"), USER))
        assert sent == [{"role": "user", "content": "[result of the tool call x] 42"}, USER]
        block = {
            "type": "tool_result",
            "tool_use_id": "x",
            "content": [{"type": "text", "text": "42"}],
        }
        (sent,) = to_anthropic(anthropic({"role": "user", "content": [block]}))
        assert sent["content"] == [{"type": "text", "text": "[result of the tool call x] 42"}]

    def test_instructions_alone(self) -> None:
        assert to_anthropic(openai({"role": "system", "content": "Be."})) == [
            {"role": "user", "content": ASSISTANT_FIRST}
        ]

    def test_histories_of_both_formats(self) -> None:
        mixed = [*openai(USER, chat_call("a")), *anthropic(USER), *openai(chat_result("a"))]
        assert [message["role"] for message in to_openai(mixed)] == [
            "user",
            "assistant",
            "tool",
            "user",
        ]
        check_anthropic(to_anthropic(mixed))


class TestUnchanged:
    @pytest.mark.parametrize(
        "value",
        [
            {"content": "x", "role": "user", "name": "ada", "odd": {"b": 1, "a": [2.0, None]}},
            {
                "role": "assistant",
                "content": "",
                "refusal": None,
                "annotations": [],
                "reasoning_content": "Hm.",
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "image_url",
                        "image_url": {"url": "https://e.org/a.png", "detail": "low"},
                    }
                ],
            },
            {"role": "developer", "content": "Text that says " + REFERENCE},
            {"role": "function", "name": "f", "content": "1"},
        ],
    )
    def test_openai(self, value: dict[str, Any]) -> None:
        sent, *_ = to_openai(openai(value))
        assert json.dumps(sent) == json.dumps(value)

    @pytest.mark.parametrize(
        "value",
        [
            {"role": "user", "content": "x"},
            {
                "content": [{"text": "x", "type": "text", "cache_control": {"type": "ephemeral"}}],
                "role": "user",
            },
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "url", "url": "https://e.org/a.png"}}
                ],
            },
        ],
    )
    def test_anthropic(self, value: dict[str, Any]) -> None:
        (sent,) = to_anthropic(anthropic(value))
        assert json.dumps(sent) == json.dumps(value)

    def test_anthropics_thinking(self) -> None:
        blocks = [
            {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "eA=="},
            {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1.0}},
        ]
        history = anthropic(
            {"role": "user", "content": "x"}, {"role": "assistant", "content": blocks}
        )
        assert to_anthropic(history)[1] == {"role": "assistant", "content": blocks}

    def test_a_whole_answer_of_anthropics_api_loses_what_it_does_not_take_back(self) -> None:
        content = [{"type": "text", "text": "x"}]
        answer = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "content": content,
            "usage": {},
            "stop_reason": "end_turn",
        }
        assert to_anthropic(anthropic({"role": "user", "content": "x"}, answer))[1] == {
            "role": "assistant",
            "content": content,
        }


class TestInstructions:
    def test_of_anthropic_stand_apart(self) -> None:
        block = {"type": "text", "text": "Three.", "cache_control": {"type": "ephemeral"}}
        history = [
            *openai(
                {"role": "system", "content": "One."},
                {"role": "user", "content": "x"},
                {"role": "developer", "content": "Two."},
            ),
            *anthropic(
                {"role": "system", "content": [block]}, {"role": "system", "content": "Four."}
            ),
        ]
        system, messages = for_anthropic(history, AssetContents(), "Zero.")
        assert [item["text"] for item in system] == ["Zero.", "One.", "Two.", "Three.", "Four."]
        assert system[3] == block
        assert len(messages) == 1

    def test_of_openai_are_messages(self) -> None:
        history = [
            *anthropic({"role": "system", "content": "One."}),
            parts(ROLE_DEVELOPER, Part(text="Two.")),
        ]
        assert for_openai(history, AssetContents(), "Zero.") == [
            {"role": "system", "content": "Zero."},
            {"role": "system", "content": "One."},
            {"role": "developer", "content": "Two."},
        ]


CALL_A = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
CALL_B = {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}
USE_A = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}
USE_B = {"type": "tool_use", "id": "b", "name": "g", "input": {}}


class TestTools:
    def test_several_results_are_one_message_of_anthropic(self) -> None:
        history = openai(
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "  ", "tool_calls": [CALL_A, CALL_B]},
            {"role": "tool", "tool_call_id": "a", "content": "1"},
            {"role": "tool", "tool_call_id": "b", "content": ""},
            {"role": "user", "content": "and?"},
        )
        messages = to_anthropic(history)
        check_anthropic(messages[:3])
        assert messages[1]["content"] == [USE_A, USE_B]
        results = [
            {"type": "tool_result", "tool_use_id": "a", "content": "1"},
            {"type": "tool_result", "tool_use_id": "b"},
        ]
        assert messages[2] == {"role": "user", "content": results}

    def test_results_that_were_stored_late_stand_with_their_calls(self) -> None:
        history = openai(
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": None, "tool_calls": [CALL_A]},
            {"role": "user", "content": "Hurry."},
            {"role": "tool", "tool_call_id": "a", "content": "1"},
        )
        assert [message["content"][0]["type"] for message in to_anthropic(history)] == [
            "text",
            "tool_use",
            "tool_result",
            "text",
        ]

    def test_results_in_another_format_than_their_calls(self) -> None:
        result = openai({"role": "tool", "tool_call_id": "a", "content": "1"})
        messages = to_anthropic(
            [
                *anthropic(
                    {"role": "user", "content": "x"}, {"role": "assistant", "content": [USE_A]}
                ),
                *result,
            ]
        )
        check_anthropic(messages)
        block = {"type": "tool_result", "tool_use_id": "a", "content": "1", "is_error": True}
        sent = to_openai(
            [
                *openai({"role": "assistant", "tool_calls": [CALL_A]}),
                *anthropic({"role": "user", "content": [block]}),
            ]
        )
        assert sent[1] == {
            "role": "tool",
            "tool_call_id": "a",
            "content": [{"type": "text", "text": "Error:"}, {"type": "text", "text": "1"}],
        }

    def test_results_without_a_call_are_text(self) -> None:
        history = openai({"role": "tool", "tool_call_id": "a", "content": "1"})
        assert to_anthropic(history) == [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "[result of the tool call a]"},
                    {"type": "text", "text": "1"},
                ],
            }
        ]

    def test_ids_that_are_used_twice_or_not_taken(self) -> None:
        call = {
            "id": "functions.f:0",
            "type": "function",
            "function": {"name": "f", "arguments": "[1"},
        }
        round_of_calls: list[dict[str, Any]] = [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "functions.f:0", "content": "1"},
        ]
        messages = to_anthropic(
            openai({"role": "user", "content": "x"}, *round_of_calls, *round_of_calls)
        )
        check_anthropic(messages)
        assert messages[1]["content"][0] == {
            "type": "tool_use",
            "id": "functions_f_0",
            "name": "f",
            "input": {"arguments": "[1"},
        }

    def test_from_anthropic_to_openai(self) -> None:
        image = {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "eA=="},
        }
        thinking = {"type": "thinking", "thinking": "Hm.", "signature": "x"}
        history = anthropic(
            {
                "role": "assistant",
                "content": [thinking, {"type": "text", "text": "Wait."}, USE_A, USE_B],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "b",
                        "content": [{"type": "text", "text": "2"}, image],
                    },
                    {"type": "tool_result", "tool_use_id": "a", "content": "1"},
                    {"type": "text", "text": "Go on."},
                ],
            },
        )
        sent = to_openai(history)
        assert [message["role"] for message in sent] == [
            "assistant",
            "tool",
            "tool",
            "user",
            "user",
        ]
        assert sent[0]["content"] == "Wait."
        assert [called["function"]["arguments"] for called in sent[0]["tool_calls"]] == [
            '{"x": 1}',
            "{}",
        ]
        assert sent[1] == {"role": "tool", "tool_call_id": "a", "content": "1"}
        assert sent[3]["content"][1] == {
            "type": "image_url",
            "image_url": {"url": "data:image/png;base64,eA=="},
        }
        assert sent[4] == {"role": "user", "content": "Go on."}

    def test_items_of_the_responses_api(self) -> None:
        history = openai(
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]},
            {"type": "reasoning", "summary": [], "encrypted_content": "x"},
            {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"x": 1}'},
            {"type": "function_call", "call_id": "b", "name": "g", "arguments": ""},
            {"type": "function_call_output", "call_id": "a", "output": "1"},
            {
                "type": "function_call_output",
                "call_id": "b",
                "output": [{"type": "output_text", "text": "2"}],
            },
            {
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Done.", "annotations": []}],
            },
        )
        assert to_openai(history) == [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": None, "tool_calls": [CALL_A, CALL_B]},
            {"role": "tool", "tool_call_id": "a", "content": "1"},
            {"role": "tool", "tool_call_id": "b", "content": "2"},
            {"role": "assistant", "content": "Done."},
        ]
        check_anthropic(to_anthropic(history))

    def test_gemini(self) -> None:
        calls = [
            {"functionCall": {"name": "f", "args": {"x": 1}}},
            {"functionCall": {"name": "f", "args": {}}},
        ]
        answers = [
            {"functionResponse": {"name": "f", "response": {"r": "ü"}}},
            {"functionResponse": {"name": "f", "response": {"r": 2}}},
        ]
        history = gemini(
            {
                "role": "user",
                "parts": [{"text": "x"}, {"inlineData": {"mimeType": "image/png", "data": "eA=="}}],
            },
            {"role": "model", "parts": [{"text": "Hm.", "thought": True}, *calls]},
            {"role": "user", "parts": answers},
        )
        sent = to_openai(history)
        assert sent[0]["content"][1] == {
            "type": "image_url",
            "image_url": {"url": "data:image/png;base64,eA=="},
        }
        assert [called["function"]["arguments"] for called in sent[1]["tool_calls"]] == [
            '{"x": 1}',
            "{}",
        ]
        assert [(message["tool_call_id"], message["content"]) for message in sent[2:]] == [
            ("call_1", '{"r": "ü"}'),
            ("call_2", '{"r": 2}'),
        ]
        check_anthropic(to_anthropic(history))

    def test_typed_parts(self) -> None:
        history = [
            parts(ROLE_USER, Part(text="x"), Part(data='{"y":1}')),
            parts(
                ROLE_ASSISTANT,
                Part(reasoning=Reasoning(text="Hm.")),
                Part(tool_call=ToolCall(call_id="a", name="f", arguments_json='{"x": 1}')),
            ),
            parts(
                ROLE_TOOL,
                Part(tool_result=ToolResult(call_id="a", parts=[Part(text="1")], is_error=True)),
            ),
        ]
        messages = to_anthropic(history)
        check_anthropic(messages)
        assert messages[1]["content"] == [USE_A]
        assert messages[2]["content"] == [
            {"type": "tool_result", "tool_use_id": "a", "content": "1", "is_error": True}
        ]
        assert to_openai(history)[1] == {
            "role": "assistant",
            "content": None,
            "tool_calls": [CALL_A],
        }

    def test_the_old_function_calls(self) -> None:
        history = openai(
            {"role": "user", "content": "x"},
            {
                "role": "assistant",
                "content": None,
                "function_call": {"name": "f", "arguments": '{"x": 1}'},
            },
            {"role": "function", "name": "f", "content": "1"},
        )
        check_anthropic(to_anthropic(history))


class TestShapes:
    def test_an_assistant_may_speak_first(self) -> None:
        messages = to_anthropic(openai({"role": "assistant", "content": "Welcome."}))
        check_anthropic(messages)
        assert messages[0]["content"] == ASSISTANT_FIRST

    def test_messages_of_nothing_are_left_out(self) -> None:
        history = openai(
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": ""},
            {"role": "user", "content": " \n"},
        )
        assert len(to_anthropic(history)) == 1

    @pytest.mark.parametrize("format_", [FORMAT_OPENAI, FORMAT_ANTHROPIC])
    @pytest.mark.parametrize(
        "value",
        [
            {"role": "user"},
            {"role": "user", "content": 3},
            {
                "role": "user",
                "content": [
                    3,
                    {},
                    {"type": "text"},
                    {"type": "image"},
                    {"type": "image_url"},
                    {"type": "file", "file": 3},
                ],
            },
            {"role": "assistant", "tool_calls": [3, {}, {"function": {}}], "function_call": 3},
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "base64"}},
                    {"type": "tool_result"},
                    {"type": "tool_use"},
                ],
            },
        ],
    )
    def test_what_is_not_of_the_shape_is_passed_over(
        self, value: dict[str, Any], format_: Any
    ) -> None:
        to_anthropic([stored(value, format_)])
        to_openai([stored(value, format_)])


class TestFiles:
    async def load(self, asset_id: str) -> AssetContent:
        assert asset_id == ASSET
        return AssetContent(self.content, self.media_type)

    content, media_type = PNG, ""

    async def openai(self, *messages: Message) -> list[dict[str, Any]]:
        return await with_assets(lambda assets: for_openai(messages, assets), self.load)

    async def anthropic(self, *messages: Message) -> list[dict[str, Any]]:
        return (await with_assets(lambda assets: for_anthropic(messages, assets), self.load))[1]

    async def test_an_asset_in_its_own_format(self) -> None:
        (message,) = openai(
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": REFERENCE, "detail": "low"}}
                ],
            }
        )
        (sent,) = await self.openai(message)
        assert sent["content"] == [
            {
                "type": "image_url",
                "image_url": {"url": f"data:image/png;base64,{PNG_64}", "detail": "low"},
            }
        ]
        block = {
            "type": "image",
            "source": {"type": "url", "url": REFERENCE},
            "cache_control": {"type": "ephemeral"},
        }
        result = {"type": "tool_result", "tool_use_id": "a", "content": [block]}
        call = {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}],
        }
        *_, sent = await self.anthropic(*anthropic(call, {"role": "user", "content": [result]}))
        source = {"type": "base64", "media_type": "image/png", "data": PNG_64}
        assert sent["content"][0]["content"] == [
            {"type": "image", "source": source, "cache_control": {"type": "ephemeral"}}
        ]

    async def test_an_asset_in_another_format(self) -> None:
        (message,) = openai(
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": REFERENCE}}]}
        )
        (sent,) = await self.anthropic(message)
        assert sent["content"] == [
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": PNG_64},
            }
        ]
        part = parts(ROLE_USER, Part(image=Blob(asset_id=ASSET, media_type="image/webp")))
        assert (await self.openai(part))[0]["content"][0]["image_url"]["url"].startswith(
            "data:image/webp;base64,"
        )

    async def test_documents_and_sound(self) -> None:
        self.content, self.media_type = b"%PDF-1.7", ""
        part = parts(ROLE_USER, Part(file=Blob(asset_id=ASSET, name="a.pdf")))
        assert (await self.anthropic(part))[0]["content"][0]["type"] == "document"
        assert (await self.openai(part))[0]["content"][0]["file"]["filename"] == "a.pdf"
        self.content, self.media_type = b"Grusz", "text/plain"
        assert (await self.anthropic(part))[0]["content"] == [{"type": "text", "text": "Grusz"}]
        (message,) = anthropic(
            {
                "role": "user",
                "content": [{"type": "document", "source": {"type": "url", "url": REFERENCE}}],
            }
        )
        assert (await self.anthropic(message))[0]["content"][0]["source"] == {
            "type": "text",
            "media_type": "text/plain",
            "data": "Grusz",
        }
        sound = parts(ROLE_USER, Part(audio=Blob(inline=b"x", media_type="audio/wav")))
        assert (await self.openai(sound))[0]["content"][0]["input_audio"] == {
            "data": "eA==",
            "format": "wav",
        }
        assert "not sent" in (await self.anthropic(sound))[0]["content"][0]["text"]

    async def test_links(self) -> None:
        link = parts(ROLE_USER, Part(image=Blob(uri="https://e.org/a.png")))
        assert (await self.anthropic(link))[0]["content"] == [
            {"type": "image", "source": {"type": "url", "url": "https://e.org/a.png"}}
        ]
        assert (await self.openai(link))[0]["content"] == [
            {"type": "image_url", "image_url": {"url": "https://e.org/a.png"}}
        ]
        (message,) = openai(
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/gif;base64,eA=="}}
                ],
            }
        )
        source = {"type": "base64", "media_type": "image/gif", "data": "eA=="}
        assert (await self.anthropic(message))[0]["content"] == [
            {"type": "image", "source": source}
        ]
        cloud = parts(ROLE_USER, Part(image=Blob(uri="gs://bucket/a.png")))
        assert "gs://bucket/a.png" in (await self.openai(cloud))[0]["content"][0]["text"]

    async def test_a_text_that_names_an_asset_is_text(self) -> None:
        message = openai({"role": "user", "content": f"What is {REFERENCE}?"})[0]
        self.content = b""
        assert (await self.openai(message))[0]["content"].endswith(f"{REFERENCE}?")
