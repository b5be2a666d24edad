"""Transcripts are read in bounded memory. Odd ones are imported, or named in the result."""

import asyncio
import json
import tracemalloc
from pathlib import Path

import pytest

from sessiond import AsyncClient, Client, TranscriptImport
from sessiond._transcripts.lines import MAX_LINE_BYTES, items_of, lines_of
from sessiond._transcripts.programs import PROGRAMS, transcripts_of
from sessiond._transcripts.reading import Reading
from sessiond._transcripts.records import Transcript
from sessiond._types.transcripts import BadLine
from sessiond_server.server import Running

MIB = 1024 * 1024


def test_a_large_file_of_lines_is_read_in_pieces(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    with file.open("w") as target:
        for number in range(64):
            target.write(json.dumps({"type": "user", "uuid": f"{number}", "x": "x" * MIB}) + "\n")
    [transcript] = transcripts_of(PROGRAMS["claude-code"], "claude-code", file)
    assert isinstance(transcript, Transcript)
    tracemalloc.start()
    try:
        reading = Reading(transcript, {}, 0, keep_bad=False)
        count = 0
        while batch := reading.take():
            count += len(batch)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 64
    assert peak < 24 * MIB


def test_of_a_large_document_one_conversation_is_in_memory(tmp_path: Path) -> None:
    file = tmp_path / "conversations.json"
    with file.open("w") as target:
        target.write("[")
        for number in range(64):
            target.write(("," if number else "") + json.dumps({"id": f"{number}", "x": "x" * MIB}))
        target.write("]")
    tracemalloc.start()
    try:
        count = sum(1 for _ in items_of(file))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 64
    assert peak < 16 * MIB


def test_a_file_without_line_ends_is_not_read_as_one_line(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    with file.open("wb") as target:
        target.truncate(MAX_LINE_BYTES + 10)
        target.seek(0, 2)
        target.write(b'\n{"type": "user"}\n')
    assert [*lines_of(file)] == [
        (1, BadLine(1, "is longer than 64 MiB")),
        (2, b'{"type": "user"}'),
    ]


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("[]", []),
        (' [ 1 , "a]b" ,\n{"c": [2]} ]', ["1", '"a]b"', '{"c": [2]}']),
        ('[1, {"a": "\\"]"}]', ["1", '{"a": "\\"]"}']),
    ],
)
def test_items_have_the_text_that_they_have_in_the_document(
    tmp_path: Path, text: str, items: list[str]
) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    assert [*items_of(file)] == items


@pytest.mark.parametrize(
    ("text", "count", "message"),
    [
        ("", 0, "is not a JSON list"),
        ("{}", 0, "is not a JSON list"),
        ("[1, 2", 2, "the list has no end, after item 2"),
        ('[1, {"a"', 1, "in item 2"),
        ("[1, }", 1, "in item 2"),
    ],
)
def test_items_before_the_fault_of_a_document_are_read(
    tmp_path: Path, text: str, count: int, message: str
) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    found: list[str] = []
    with pytest.raises(ValueError, match=message):
        found.extend(items_of(file))
    assert len(found) == count


async def test_a_bad_line_at_the_end_of_a_large_file_is_named_and_nothing_is_stored(
    client: AsyncClient, server: Running, tmp_path: Path
) -> None:
    file = tmp_path / "-p" / "s.jsonl"
    file.parent.mkdir()
    with file.open("w") as target:
        for number in range(8):
            target.write(json.dumps({"type": "user", "uuid": f"{number}", "x": "x" * MIB}) + "\n")
        target.write('{"type": "us')

    def import_blocking() -> TranscriptImport:
        with Client(f"127.0.0.1:{server.port}") as blocking:
            return blocking.sessions.import_transcripts(file, "claude-code")

    for result in (
        await client.sessions.import_transcripts(file, "claude-code"),
        await asyncio.to_thread(import_blocking),
    ):
        [failed] = result.failed
        assert [bad.line for bad in failed.bad_lines] == [9]
        assert [info async for info in client.list_sessions()] == []


async def test_ids_and_titles_that_a_server_does_not_take_are_changed(
    client: AsyncClient, tmp_path: Path
) -> None:
    line = '{"type":"user","uuid":"a\\ud83db","message":{"role":"user","content":"hi"}}'
    (tmp_path / "-p").mkdir()
    (tmp_path / "-p" / "s.jsonl").write_text(line)
    [done] = (await client.sessions.import_transcripts(tmp_path, "claude-code")).imported
    [message] = [m async for m in client.sessions.get_messages(done.session_id)]
    assert (message.json, (message.message_id or "")[:7]) == (line, "sha256:")
    node = {"id": "n", "message": None, "parent": None, "children": []}
    title = "Tea\n\u0007 or " + "coffee " * 100
    document = [{"id": "c", "title": title, "mapping": {"n": node}, "current_node": "n"}]
    (tmp_path / "conversations.json").write_text(json.dumps(document))
    [done] = (await client.sessions.import_transcripts(tmp_path, "openai-export")).imported
    info = await client.sessions.get(done.session_id)
    assert info.title.startswith("Tea or coffee coffee")
    assert len(info.title) <= 512


@pytest.mark.slow
async def test_a_transcript_of_256_mib_comes_in_and_is_found_again(
    client: AsyncClient, tmp_path: Path
) -> None:
    file = tmp_path / "-p" / "s.jsonl"
    file.parent.mkdir()
    with file.open("w") as target:
        for number in range(256):
            target.write(json.dumps({"type": "user", "uuid": f"{number}", "x": "x" * MIB}) + "\n")
    for added, known in ((256, 0), (0, 256)):
        [done] = (await client.sessions.import_transcripts(file, "claude-code")).imported
        assert (done.added, done.known) == (added, known)
