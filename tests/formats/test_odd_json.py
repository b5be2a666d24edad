"""JSON that some parsers read differently or refuse, in arguments, results and reports."""

import json
import subprocess
import sys

import pytest

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC, FORMAT_OPENAI, Message
from sessiond_server.dialects.arguments import object_of
from sessiond_server.formats.pieces import Call, Result, Text
from sessiond_server.formats.read import read
from sessiond_server.formats.read.readable import CUT, MAX_CHARACTERS, readable
from sessiond_server.formats.report import ChangeKind, Report
from sessiond_server.formats.wire import encode
from sessiond_server.providers.references import asset_ids_of

from .dialects import DIALECTS
from .histories import as_message
from .native_messages import PROMPT, USER, blocks, everywhere, history, result, text_of, tool, use

DEEP = '{"a":' * 2_000 + "1" + "}" * 2_000
ODD_ARGUMENTS = {
    "nested 2,000 levels deep": DEEP,
    "nested 201 levels deep": '{"a":' * 201 + "1" + "}" * 201,
    "NaN": '{"a": NaN}',
    "Infinity": '{"a": [-Infinity]}',
    "a number beyond doubles": '{"a": 1e999}',
    "an integer beyond doubles": '{"a": 1' + "0" * 400 + "}",
    "an integer of 5,000 digits": '{"a": 1' + "0" * 5_000 + "}",
    "a key twice": '{"a": {"b": 1, "b": 2}}',
}

MANY_NUMBERS = {
    "a list as a tool's output": '{"role":"tool","tool_call_id":"c","content":N}',
    "an object as a tool's output": '{"role":"tool","tool_call_id":"c","content":{"n":N}}',
    "an item": '{"type":"quantum_call","id":"q","n":N}',
    "a block": '{"role":"user","content":[{"type":"mystery","n":N}]}',
}
# A program that prints by how many bytes it grows while it reads a message with 5 million numbers.
MEASURE = """
import resource
from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC, FORMAT_OPENAI, Message
from sessiond_server.formats.read import read
text = '{shape}'.replace("N", "[" + "7," * 5_000_000 + "7]")
number = FORMAT_ANTHROPIC if "mystery" in text else FORMAT_OPENAI
message = Message(format=number, json=text)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read(message)
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def call(arguments: str) -> dict[str, object]:
    function = {"name": "look_up", "arguments": arguments}
    made = [{"id": "c", "type": "function", "function": function}]
    return {"role": "assistant", "content": None, "tool_calls": made}


@everywhere
@pytest.mark.parametrize("case", ODD_ARGUMENTS)
def test_odd_arguments_are_sent_as_the_text_that_the_model_wrote(name: str, case: str) -> None:
    text = ODD_ARGUMENTS[case]
    request, body = DIALECTS[name].send(history(USER, call(text), tool("c"), PROMPT))
    assert json.dumps(text)[1:-1] in json.dumps(body)
    is_object = name in ("anthropic", "gemini")
    assert (ChangeKind.ARGUMENTS_WRAPPED in request.report.of(2)) == is_object


@pytest.mark.parametrize("text", ['{"a":1.0,"b":12345678901234567890123}', '{"b": {"a": 1e2}}'])
def test_plain_arguments_keep_their_spelling(text: str) -> None:
    arguments, change = object_of(Call("c", "f", text))
    assert change is None
    assert b"".join(encode(arguments).pieces) == text.encode()  # type: ignore[arg-type]


def test_half_a_surrogate_in_arguments_is_reported() -> None:
    request, _ = DIALECTS["anthropic"].send(
        history(USER, call('{"a": "\\ud83d"}'), tool("c"), PROMPT)
    )
    assert ChangeKind.TEXT_REPAIRED in request.report.of(2)


def test_details_of_changes_can_be_stored() -> None:
    report = Report()
    report.add(1, ChangeKind.FIELD_REMOVED, "a\0b\ud83d")
    assert [change.detail for change in report] == ["a\ufffdb\ufffd"]


class TestLongItems:
    """Items that only one format has, and that are very long."""

    def test_a_cut_is_told_in_the_text(self) -> None:
        text = readable({"a": "x" * MAX_CHARACTERS})
        assert text.endswith(CUT)
        assert len(text) < MAX_CHARACTERS + 200
        assert not readable({"a": "x" * (MAX_CHARACTERS - 10)}).endswith(CUT)

    @everywhere
    def test_a_cut_is_told_in_the_report(self, name: str) -> None:
        item = {"type": "quantum_call", "id": "q", "spin": "u" * (MAX_CHARACTERS + 1)}
        request, body = DIALECTS[name].send(history(USER, item, PROMPT))
        assert CUT in json.dumps(body, ensure_ascii=False)
        assert ChangeKind.TEXT_CUT in request.report.of(2)

    @pytest.mark.parametrize("shape", MANY_NUMBERS)
    def test_many_numbers_take_little_memory(self, shape: str) -> None:
        program = MEASURE.replace("{shape}", MANY_NUMBERS[shape])
        grown = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True
        )
        assert int(grown.stdout) < 200_000_000

    def test_a_list_of_numbers_is_one_text(self) -> None:
        entry = read(as_message(tool("c", [1, None, 2.5, "x", True]), FORMAT_OPENAI))
        [piece] = entry.pieces
        assert isinstance(piece, Result)
        assert [part.text for part in piece.pieces if isinstance(part, Text)] == [
            "[1,2.5]",
            "x",
            "true",
        ]


@everywhere
def test_many_results_of_one_answer_find_their_calls(name: str) -> None:
    count = 300 if name not in ("openai", "groq", "deepseek") else 100
    ids = [f"c{i}" for i in range(count)]
    values = [tool(call_id, f"result{call_id}.") for call_id in reversed(ids)]
    answer = blocks("assistant", *(use(call_id) for call_id in ids))
    text = text_of(name, USER, answer, *values)
    assert all(f"result{call_id}." in text for call_id in ids)


def test_assets_in_every_place_of_a_message_are_found() -> None:
    places = ["a" * 64, "b" * 64, "c" * 64]
    sources = [{"type": "base64", "data": f"sessiond-asset:{place}"} for place in places]
    pages = {"type": "content", "content": [{"type": "image", "source": sources[0]}]}
    fetched = {"type": "web_fetch_result", "content": {"type": "document", "source": sources[2]}}
    messages = [
        blocks("user", {"type": "document", "source": pages}),
        blocks("user", result("c", [{"type": "document", "source": sources[1]}])),
        blocks("assistant", {"type": "web_fetch_tool_result", "content": fetched}),
    ]
    stored = [as_message(value, FORMAT_ANTHROPIC) for value in messages]
    assert asset_ids_of([*stored, Message(json="[]", format=9)]) == places  # type: ignore[arg-type]
