"""Token counts: the texts that are counted, the method, and the sums."""

import base64
import importlib
import random
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    Part,
    Reasoning,
    ToolCall,
    ToolResult,
)
from sessiond_server.formats.token_counts import (
    PIECE_CHARACTERS,
    Estimate,
    Vocabulary,
    texts_of_json,
    texts_of_parts,
    tokenizer,
)

needs_vocabulary = pytest.mark.skipif(
    not find_spec("bpe_openai"), reason="the extra `tokens` is not installed"
)


@pytest.mark.parametrize(
    ("message_format", "value", "texts"),
    [
        (FORMAT_OPENAI, {"role": "user", "content": "hi"}, ["hi"]),
        (FORMAT_OPENAI, {"role": "user", "content": "hi", "name": "ada"}, ["hi"]),
        (FORMAT_OPENAI, {"role": "assistant", "content": None, "refusal": "no"}, ["no"]),
        (
            FORMAT_OPENAI,
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image_url", "image_url": {"url": "data:x"}},
                    "odd",
                ],
            },
            ["a", "odd"],
        ),
        (
            FORMAT_OPENAI,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "1",
                        "type": "function",
                        "function": {"name": "f", "arguments": '{"x":1}'},
                    },
                    {"id": "2", "type": "custom", "custom": {"name": "g", "input": "y"}},
                ],
            },
            ["f", '{"x":1}', "g", "y"],
        ),
        (
            FORMAT_OPENAI,
            {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": "{}"}},
            ["", "f", "{}"],
        ),
        (FORMAT_OPENAI, {"role": "tool", "tool_call_id": "1", "content": "42"}, ["42"]),
        (
            FORMAT_OPENAI,
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            ["f", "{}"],
        ),
        (FORMAT_OPENAI, {"type": "function_call_output", "call_id": "1", "output": "42"}, ["42"]),
        (
            FORMAT_OPENAI,
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "so"}],
                "encrypted_content": "zzz",
            },
            ["so"],
        ),
        (FORMAT_ANTHROPIC, {"role": "user", "content": "hi"}, ["hi"]),
        (
            FORMAT_ANTHROPIC,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "zzz"},
                    {"type": "text", "text": "a"},
                    {"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}},
                ],
            },
            ["hm", "a", "f", '{"x":1}'],
        ),
        (
            FORMAT_ANTHROPIC,
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "1", "content": "42"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "2",
                        "content": [
                            {"type": "text", "text": "43"},
                            {"type": "image", "source": {"type": "url", "url": "x"}},
                        ],
                    },
                    {"type": "image", "source": {"type": "base64", "data": "zzz"}},
                ],
            },
            ["42", "43"],
        ),
        (
            FORMAT_GEMINI,
            {
                "role": "model",
                "parts": [
                    {"text": "a", "thoughtSignature": "zzz"},
                    {"functionCall": {"name": "f", "args": {"x": 1}}},
                    {"functionResponse": {"name": "f", "response": {"y": 2}}},
                    {"executableCode": {"language": "PYTHON", "code": "1+1"}},
                    {"codeExecutionResult": {"outcome": "OK", "output": "2"}},
                    {"inlineData": {"mimeType": "image/png", "data": "zzz"}},
                ],
            },
            [
                "a",
                "f",
                '{"x":1}',
                "f",
                '{"y":2}',
                "language: PYTHON\ncode: 1+1",
                "outcome: OK\noutput: 2",
            ],
        ),
    ],
)
def test_texts_of_json_messages_count(
    message_format: int, value: dict[str, Any], texts: list[str]
) -> None:
    assert texts_of_json(value, message_format) == texts


PICTURE = base64.b64encode(random.Random(1).randbytes(200_000)).decode()
DATA_URL = f"data:image/png;base64,{PICTURE}"


@pytest.mark.parametrize(
    ("message_format", "value", "texts"),
    [
        (
            FORMAT_OPENAI,
            {
                "type": "computer_call_output",
                "call_id": "1",
                "output": {"type": "computer_screenshot", "image_url": DATA_URL},
            },
            [],
        ),
        (
            FORMAT_OPENAI,
            {
                "type": "function_call_output",
                "call_id": "1",
                "output": [
                    {"type": "input_text", "text": "see"},
                    {"type": "input_image", "image_url": DATA_URL},
                ],
            },
            ["see"],
        ),
        (FORMAT_OPENAI, {"type": "function_call_output", "call_id": "1", "output": DATA_URL}, []),
        (FORMAT_OPENAI, {"type": "image_generation_call", "id": "1", "result": PICTURE}, []),
        (
            FORMAT_OPENAI,
            {
                "type": "code_interpreter_call",
                "id": "1",
                "code": "plot()",
                "outputs": [{"type": "image", "url": DATA_URL}, {"type": "logs", "logs": "ok"}],
            },
            ["code: plot()\nlogs: ok"],
        ),
        (FORMAT_OPENAI, {"role": "tool", "tool_call_id": "1", "content": DATA_URL}, []),
        (
            FORMAT_OPENAI,
            {
                "role": "tool",
                "tool_call_id": "1",
                "content": [
                    {"type": "image", "mimeType": "image/png", "data": PICTURE},
                    {"type": "screenshot", "png": PICTURE, "title": "a page"},
                ],
            },
            ["title: a page"],
        ),
        (
            FORMAT_ANTHROPIC,
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "1",
                        "content": [{"type": "image", "source": {"data": PICTURE}}],
                    },
                    {"type": "tool_use", "id": "2", "name": "f", "input": {"png": DATA_URL}},
                ],
            },
            ["f", '{"png":""}'],
        ),
        (
            FORMAT_GEMINI,
            {
                "role": "user",
                "parts": [
                    {"inline_data": {"mime_type": "image/png", "data": PICTURE}},
                    {"functionResponse": {"name": "f", "response": {"png": [PICTURE], "n": 1}}},
                ],
            },
            ["f", '{"png":[""],"n":1}'],
        ),
    ],
)
def test_pictures_do_not_count_as_text(
    message_format: int, value: dict[str, Any], texts: list[str]
) -> None:
    assert [text for text in texts_of_json(value, message_format) if text] == [
        text for text in texts if text
    ]


@pytest.mark.parametrize(
    ("message_format", "value", "texts"),
    [
        (
            FORMAT_GEMINI,
            {
                "role": "model",
                "parts": [
                    {"function_call": {"name": "f", "args": {"x": 1}}, "text": None},
                    {"function_response": {"name": "f", "response": {"y": 2}}},
                    {"executable_code": {"code": "1+1"}},
                    {"text": "hm", "thought": True},
                ],
            },
            ["f", '{"x":1}', "f", '{"y":2}', "code: 1+1", "hm"],
        ),
        (
            FORMAT_OPENAI,
            {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "42"}]},
            ["42"],
        ),
        (FORMAT_OPENAI, {"role": "tool", "content": {"temp": 21}}, ['{"temp":21}']),
        (
            FORMAT_OPENAI,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                    {"type": "refusal", "refusal": "no"},
                ],
            },
            ["hm", "no"],
        ),
        (
            FORMAT_OPENAI,
            {"role": "assistant", "content": "a", "reasoning": "hm", "reasoning_content": "hm"},
            ["a", "hm"],
        ),
        (FORMAT_OPENAI, {"type": "custom_tool_call", "name": "f", "input": "x"}, ["f", "x"]),
        (FORMAT_OPENAI, {"type": "custom_tool_call_output", "call_id": "1", "output": "y"}, ["y"]),
        (
            FORMAT_OPENAI,
            {"type": "shell_call_output", "call_id": "1", "output": [{"stdout": "ok"}]},
            ['{"stdout":"ok"}'],
        ),
        (
            FORMAT_OPENAI,
            {"type": "mcp_call", "id": "1", "name": "f", "arguments": "{}", "output": "found"},
            ["name: f\narguments: {}\noutput: found"],
        ),
        (
            FORMAT_OPENAI,
            {"type": "file_search_call", "id": "1", "queries": ["q"], "results": [{"text": "r"}]},
            ["queries: q\nr"],
        ),
        (
            FORMAT_OPENAI,
            {"type": "local_shell_call", "call_id": "1", "action": {"command": ["ls"]}},
            ["local_shell", '{"command":["ls"]}'],
        ),
        (FORMAT_OPENAI, {"type": "quantum_call", "id": "q", "program": "x"}, ["program: x"]),
        (FORMAT_OPENAI, {"type": "compaction", "encrypted_content": "zzz"}, [""]),
        (
            FORMAT_ANTHROPIC,
            {
                "role": "assistant",
                "content": [
                    {"type": "server_tool_use", "id": "1", "name": "f", "input": {"q": "x"}},
                    {
                        "type": "code_execution_tool_result",
                        "tool_use_id": "1",
                        "content": {"type": "code_execution_result", "stdout": "ok"},
                    },
                    {"type": "document", "source": {"type": "text", "data": "a text"}},
                    {"type": "redacted_thinking", "data": "zzz"},
                ],
            },
            ["name: f\nq: x", "stdout: ok", "a text", ""],
        ),
    ],
)
def test_what_a_model_reads_counts_in_every_kind_of_message(
    message_format: int, value: dict[str, Any], texts: list[str]
) -> None:
    assert texts_of_json(value, message_format) == texts


def test_texts_of_parts_count() -> None:
    parts = [
        Part(text="a"),
        Part(tool_call=ToolCall(call_id="1", name="f", arguments_json="{}")),
        Part(tool_result=ToolResult(call_id="1", parts=[Part(text="b")])),
        Part(reasoning=Reasoning(text="c", signature=b"zzz")),
        Part(data='{"d":1}'),
    ]
    assert texts_of_parts(parts) == ["a", "f", "{}", "b", "c", '{"d":1}']


def test_the_estimate_is_a_quarter_of_the_bytes() -> None:
    count = Estimate().count
    assert [
        count([]),
        count([""]),
        count(["a"]),
        count(["abcd"]),
        count(["abcde"]),
        count(["ab", "cd"]),
    ] == [0, 0, 1, 1, 2, 1]
    assert count(["日本"]) == 2
    assert count(["\ud83d"]) == 1  # half a surrogate pair, from a JSON escape


@needs_vocabulary
def test_the_vocabulary_is_o200k_base() -> None:
    count = Vocabulary().count
    assert count(["hello world"]) == 2
    assert count(["hello world", "hello world"]) == 4
    assert count(["<|endoftext|>"]) > 1  # as text, not as a special token
    assert count(["\ud83d"]) == 1
    assert count([""]) == 0


@needs_vocabulary
@pytest.mark.parametrize(
    "text",
    [
        "hello world",
        "def f(x):\n\treturn {'a': [1, 23, 456]}  # naïve\r\n\r\n",
        "日本語と русский, \U0001f468\u200d\U0001f469\u200d\U0001f467 and e\u0301",
        "".join(map(chr, range(0xD7FF))),
        "\ud83d",
        "a\ud83d\udcaab",
        "\udc00x\ud800",
    ],
)
def test_counts_are_those_of_the_package(text: str) -> None:
    """The server uses only the compiled part of the package."""
    encoding = importlib.import_module("bpe_openai").get_encoding("o200k_base")
    pieces = [text[i : i + PIECE_CHARACTERS] for i in range(0, len(text), PIECE_CHARACTERS)]
    assert Vocabulary().count([text]) == sum(len(encoding.encode_ordinary(p)) for p in pieces)


@needs_vocabulary
def test_the_vocabularies_are_not_loaded_into_dictionaries() -> None:
    """The dictionaries would take 80 MB of each process."""
    program = (
        "import sys; from sessiond_server.formats.token_counts import Vocabulary; "
        "Vocabulary(); sys.exit('bpe_openai' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@needs_vocabulary
@pytest.mark.parametrize(
    "text", ["x" * 1_000_000, "0123456789abcdef" * 50_000, "\U0001f600" * 225_000, "日" * 300_000]
)
def test_texts_of_any_size_are_counted(text: str) -> None:
    """The package refuses some of these texts unless they are split."""
    assert Vocabulary().count([text]) > 1000


def test_the_setting_selects_the_tokenizer() -> None:
    assert tokenizer("estimate").estimates
    assert tokenizer("auto").estimates == (find_spec("bpe_openai") is None)
