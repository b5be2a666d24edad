"""Any storable content survives an export, also to a file, and an import."""

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sessiond import AsyncClient, NewMessage
from sessiond._export import writer
from sessiond._types.message import Message
from sessiond.v1 import message_pb2
from sessiond.v1.message_pb2 import Part, ToolCall, ToolResult
from sessiond_server.server import Running


@pytest.fixture
async def client(server: Running) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"127.0.0.1:{server.port}") as opened:
        yield opened


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


# A line ends at "\n" alone: Python's splitlines() also cuts at each of these.
SEPARATORS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}

MESSAGES: list[Any] = [
    '{"role":"user","content":"half \\ud83d and \\udc00"}',
    '{"role":"user","content":[{"type":"text","text":"\\udfff"}]}',
    json.dumps({"role": "user", "content": f"a{SEPARATORS}b"}, ensure_ascii=False),
    json.dumps({"role": "user", "content": f"a{SEPARATORS}\r\nb"}),
    f'{{"role":"user","content":[{{"type":"text","text":"deep","x":{deep(190)}}}]}}',
    NewMessage('{"role":"user","parts":[{"text":"\\ud800"}]}', format="gemini"),
    NewMessage('{"role":"user","content":[{"type":"text","text":"\\ud800"}]}', format="anthropic"),
    NewMessage({"role": "user", "content": "x"}, metadata={"k\u2028": f"v{SEPARATORS}"}),
    NewMessage(
        parts=[
            Part(text=f"a{SEPARATORS}"),
            Part(tool_call=ToolCall(call_id="c", name="f", arguments_json='{"a":"\\ud800"}')),
        ],
        role="assistant",
    ),
    NewMessage(
        parts=[Part(tool_result=ToolResult(call_id="c", parts=[Part(data='"\\ud800"')]))],
        role="tool",
    ),
    CALL,
    {"type": "function_call_output", "call_id": "c", "output": "half \ud83d"},
]


@pytest.mark.parametrize("form", ["jsonl", "json", "dict", "lines", "split"])
async def test_odd_messages_come_back_as_they_were(
    client: AsyncClient, tmp_path: Path, form: str
) -> None:
    session = await client.create_session("odd", config={"a\u2028": SEPARATORS})
    await session.store_messages(MESSAGES)
    before = await session.export()
    source: Any = tmp_path / "export"
    if form in ("jsonl", "json"):
        await session.export_to(source, format=form)
        # The file is UTF-8, and has no character that other programs treat as the end of a line.
        text = source.read_bytes().decode()
        assert text.splitlines() == text.removesuffix("\n").split("\n")
    elif form == "dict":
        source = json.loads(json.dumps(before))
    else:
        lines = await session.export_lines()
        source = lines if form == "lines" else io.StringIO("".join(lines))
        if form == "split":
            source = "".join(lines).splitlines()
    info = await client.sessions.import_session(source, "copy")
    again = await client.sessions.export(info.session_id)
    again["session"] |= {"session_id": "odd"}
    assert again["messages"] == before["messages"]
    assert again["session"] == before["session"]
    for message in await client.sessions.get_messages("copy"):
        assert isinstance(message.content, str)
        assert isinstance(message.blob, dict)
        assert repr(message)
        json.dumps(message.to_dict())


@pytest.mark.parametrize("form", ["jsonl", "json", "dict"])
async def test_options_of_models_keep_their_order_and_their_numbers(
    client: AsyncClient, tmp_path: Path, form: str
) -> None:
    options = {"z": 1, "schema": {"reasoning": 1.0, "answer": 2**63, "a": None}, "b": [1e300]}
    session = await client.create_session("options", config={"model_options": options, "n": 1})
    source: Any = tmp_path / "export"
    if form == "dict":
        source = await session.export()
    else:
        await session.export_to(source, format=form)
    copy = await client.get_session(
        (await client.sessions.import_session(source, "copy")).session_id
    )
    for handle in (session, copy):
        info = await handle.refresh()
        assert json.dumps(info.config["model_options"]) == json.dumps(options)
    await copy.update(config_patch={"n": None, "model_options": {"b": 1, "a": 2}})
    assert json.dumps(copy.info.config) == '{"model_options": {"b": 1, "a": 2}}'


@pytest.mark.parametrize("form", ["jsonl", "json", "dict"])
async def test_a_reference_in_a_text_needs_no_asset(
    client: AsyncClient, tmp_path: Path, form: str
) -> None:
    uri = f"sessiond-asset:{'a' * 64}"
    real = await client.assets.upload(b"x", media_type="text/plain")
    session = await client.create_session("quoting")
    file = {"type": "file", "file": {"file_data": real.uri, "filename": "a.txt"}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps(uri)}}
    await session.store_messages(
        [
            {"role": "user", "content": f"What is {uri}?"},
            {"role": "assistant", "content": uri, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": uri},
            {"role": "user", "content": [{"type": "text", "text": uri}, file]},
        ]
    )
    export = await session.export()
    assert [asset["asset_id"] for asset in export["assets"]] == [real.asset_id]
    source: Any = tmp_path / "export"
    if form == "dict":
        source = export
    else:
        await session.export_to(source, format=form)
    await client.sessions.import_session(source, "copy")
    assert (await client.sessions.export("copy"))["messages"] == export["messages"]


@pytest.mark.parametrize("character", ["\ud83d", "\u2028", "\u2029", "\x85"])
@pytest.mark.parametrize("around", ["", "ü", "a", "\U0001f600"])
def test_a_line_holds_nothing_that_ends_one(character: str, around: str) -> None:
    text = around + character + around
    pb = message_pb2.Message(
        json=json.dumps({"role": "user", "content": text}), format=message_pb2.FORMAT_OPENAI
    )
    record = ("message", Message("s", pb).to_dict())
    line = writer.line(record)
    assert line.encode().decode().splitlines() == [line.removesuffix("\n")]
    assert json.loads(line)["content"] == text
