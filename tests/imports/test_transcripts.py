"""Transcripts of other programs are imported byte for byte, once, and can be continued."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sessiond import (
    AsyncClient,
    BadLine,
    Client,
    InvalidField,
    ServerUnavailable,
)
from sessiond_server.server import Running

from .transcript_helpers import (
    CLAUDE,
    CODEX,
    FILES,
    imported,
    lines_of,
    read,
    said,
    summary,
)


async def test_transcripts_of_claude_code_come_in_byte_for_byte_and_once(
    client: AsyncClient,
) -> None:
    agent = f"{CLAUDE}/subagents%2Fagent-a1b2c3"
    assert summary(await imported(client, "claude-code")) == [(agent, 2, 0), (CLAUDE, 15, 0)]
    stored = await read(client, CLAUDE)
    lines = lines_of("claude-code/projects/*/4f*.jsonl")
    assert [message.json for message in stored] == lines
    uuids = [json.loads(line).get("uuid") for line in lines]
    assert [m.message_id for m in stored if m.seq > 2] == uuids[2:]
    assert {message.format_name for message in stored} == {"claude-code"}
    assert summary(await imported(client, "claude-code")) == [(agent, 0, 2), (CLAUDE, 0, 15)]
    assert await read(client, CLAUDE) == stored
    info = await client.sessions.get(CLAUDE)
    assert info.summary == "Which files have prices?"
    assert info.metadata == {
        "claude": {
            "projectKey": "-home-ann-shop",
            "sessionId": "4f0c7b1e-5a55-4c1e-9a34-0d2f6f1c9a10",
        }
    }
    assert (await client.sessions.get(agent)).metadata["claude"]["subpath"] == (
        "subagents/agent-a1b2c3"
    )


async def test_lines_that_were_added_come_in_later(client: AsyncClient, tmp_path: Path) -> None:
    folder = tmp_path / "projects" / "-p"
    folder.mkdir(parents=True)
    file = folder / "s.jsonl"
    lines = lines_of("claude-code/projects/*/4f*.jsonl")
    file.write_text("\n".join(lines[:10]) + "\n")
    assert summary(await client.sessions.import_transcripts(tmp_path, "claude-code")) == [
        ("claude/-p/s", 10, 0)
    ]
    session = await client.get_session("claude/-p/s")
    await session.store_message({"role": "user", "content": "in between"})
    file.write_text("\n".join([*lines, lines[4]]))
    [done] = (await client.sessions.import_transcripts(tmp_path, "claude-code")).imported
    assert (done.added, done.known, done.repeated) == (5, 10, 1)
    stored = await read(client, "claude/-p/s")
    assert [m.json for m in stored if m.format == "other"] == lines
    # The message that was stored meanwhile is not on the transcript's branch.
    assert (stored[11].parent_seq, stored[14].parent_seq) == (10, 10)


async def test_a_rollout_of_codex_comes_in_byte_for_byte_and_once(client: AsyncClient) -> None:
    assert summary(await imported(client, "codex")) == [(CODEX, 12, 0)]
    stored = await read(client, CODEX)
    assert [message.json for message in stored] == lines_of("codex/sessions/*/*/*/*.jsonl")
    assert summary(await imported(client, "codex")) == [(CODEX, 0, 12)]
    assert await read(client, CODEX) == stored
    info = await client.sessions.get(CODEX)
    assert info.summary == "Run the tests."
    assert info.metadata["codex"]["cwd"] == "/home/ann/shop"
    session = await client.get_session(CODEX)
    answer = await session.send_and_wait("Thanks.", model="echo")
    assert answer.content == "echo of 7 messages: Thanks."


async def test_conversations_of_sharegpt_come_in(client: AsyncClient) -> None:
    sessions = [("sharegpt/talks/talk_1", 3, 0), ("sharegpt/talks/2", 4, 0)]
    assert summary(await imported(client, "sharegpt")) == sessions
    stored = await read(client, "sharegpt/talks/2")
    assert [message.role for message in stored] == ["user", "assistant", "tool", "assistant"]
    assert [(name, 0, added) for name, added, _ in sessions] == summary(
        await imported(client, "sharegpt")
    )


async def test_messages_of_langchain_come_in(client: AsyncClient) -> None:
    assert summary(await imported(client, "langchain")) == [("langchain/weather", 5, 0)]
    stored = await read(client, "langchain/weather")
    assert [m.role for m in stored] == ["system", "user", "assistant", "tool", "assistant"]
    assert [m.message_id for m in stored][2:] == ["run-1", stored[3].message_id, "run-2"]
    session = await client.get_session("langchain/weather")
    answer = await session.send_and_wait("Thanks.", model="echo")
    assert answer.content == "echo of 6 messages: Thanks."
    assert summary(await imported(client, "langchain")) == [("langchain/weather", 0, 5)]


@pytest.mark.parametrize(
    ("program", "text", "session_ids"),
    [
        ("sharegpt", '{"conversations": [{"from": "human", "value": "a"}]}\n' * 2, ["f/1", "f/2"]),
        ("sharegpt", '{\n "messages": [{"role": "user", "content": "a"}]\n}', ["f/1"]),
        ("sharegpt", '{"from": "human", "value": "a"}\n{"from": "gpt", "value": "b"}\n', ["f"]),
        ("langchain", '[[{"type": "human", "data": {"content": "a"}}]]', ["f/1"]),
        ("langchain", '{"messages": [{"type": "human", "content": "a"}]}', ["f/1"]),
        (
            "langchain",
            '{"lc": 1, "kwargs": {"messages": [{"lc": 1, "type": "constructor", '
            '"id": ["HumanMessage"], "kwargs": {"content": "a"}}]}}',
            ["f/1"],
        ),
        ("langchain", "[]", []),
    ],
)
async def test_documents_are_read_in_each_of_their_shapes(
    client: AsyncClient, tmp_path: Path, program: str, text: str, session_ids: list[str]
) -> None:
    (tmp_path / "f.json").write_text(text)
    result = await client.sessions.import_transcripts(tmp_path / "f.json", program)
    assert not result.failed
    assert [done.session_id for done in result.imported] == [f"{program}/{i}" for i in session_ids]
    for done in result.imported:
        [first, *_] = await read(client, done.session_id)
        assert first.role == "user"


async def test_new_sessions_have_the_given_settings(client: AsyncClient) -> None:
    create: Any = {"user": "ann", "model": "echo", "metadata": {"team": "tea"}}
    result = await imported(client, "codex", id_prefix="old/", create=create)
    [done] = result.imported
    info = await client.sessions.get("old/" + CODEX)
    assert (info.user, info.model, info.metadata["team"]) == ("ann", "echo", "tea")
    assert "codex" in info.metadata
    assert done.path.endswith(".jsonl")


async def test_a_transcript_with_bad_lines_is_refused_with_the_number_of_each(
    client: AsyncClient, tmp_path: Path
) -> None:
    file = tmp_path / "s.jsonl"
    good = lines_of("claude-code/projects/*/4f*.jsonl")
    bad = [b"{", b"[1]", b'{"type": "\xff"}', b'{"payload": {}}', b'{"type": NaN}']
    file.write_bytes(b"\n".join([good[0].encode(), *bad, good[1].encode(), b""]))
    result = await client.sessions.import_transcripts(file, "claude-code")
    [failed] = result.failed
    assert not result.imported
    assert [line.line for line in failed.bad_lines] == [2, 3, 4, 5, 6]
    assert str(failed).splitlines()[1] == f"{file}:3: is JSON, but not an object"
    assert [info async for info in client.list_sessions()] == []


async def test_bad_lines_can_be_kept(client: AsyncClient, tmp_path: Path) -> None:
    folder = tmp_path / "-p"
    folder.mkdir()
    file = folder / "s.jsonl"
    good = lines_of("claude-code/projects/*/4f*.jsonl")
    file.write_bytes(b"\n".join([good[2].encode(), b"{half", b"\xff\xfe", good[3].encode()]))
    for added in (4, 0):
        result = await client.sessions.import_transcripts(
            tmp_path, "claude-code", keep_bad_lines=True
        )
        [done] = result.imported
        assert (done.added, [(bad.line, bad.text) for bad in done.bad_lines]) == (
            added,
            [(2, b"{half"), (3, b"\xff\xfe")],
        )
    stored = await read(client, "claude/-p/s")
    assert [message.json for message in stored if message.format_name == "claude-code"] == [
        good[2],
        good[3],
    ]
    kept = [message.blob for message in stored if message.format_name == "bad-line"]
    assert [(bad["line"], bad.get("text"), bad.get("base64")) for bad in kept] == [
        (2, "{half", None),
        (3, None, "//4="),
    ]
    session = await client.get_session("claude/-p/s")
    answer = await session.send_and_wait("Thanks.", model="echo")
    assert answer.content == "echo of 3 messages: Thanks."


async def test_a_line_that_the_server_refuses_is_named(client: AsyncClient, tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    deep = '{"type":"user","message":' + "[" * 300 + "]" * 300 + "}"
    file.write_text('{"type":"user"}\n\n' + deep + "\n")
    result = await client.sessions.import_transcripts(file, "claude-code")
    [failed] = result.failed
    assert [bad.line for bad in failed.bad_lines] == [3]
    assert "level" in failed.bad_lines[0].reason


async def test_paths_without_transcripts_are_named(client: AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "conversations.json").write_text('[{"id": "a", "mapping": {}}, {"id": "b"')
    paths = [tmp_path / "empty", tmp_path / "none", tmp_path / "conversations.json"]
    result = await client.sessions.import_transcripts(paths, "openai-export")
    assert [(f.path, [*map(repr, f.bad_lines)]) for f in result.failed] == [
        (str(paths[0]), [repr(BadLine(0, "has no transcripts of openai-export"))]),
        (str(paths[1]), [repr(BadLine(0, "No such file or directory"))]),
        (
            str(paths[2]),
            [repr(BadLine(2, "is not JSON: Expecting ',' delimiter, in item 2"))],
        ),
    ]
    with pytest.raises(InvalidField, match="must be one of claude-code"):
        await client.sessions.import_transcripts(tmp_path, "word")


async def test_progress_counts_bytes(client: AsyncClient) -> None:
    seen: list[tuple[int, int | None]] = []
    await imported(client, "claude-code", progress=lambda done, total: seen.append((done, total)))
    size = sum(path.stat().st_size for path in (FILES / "claude-code").rglob("*.jsonl"))
    assert seen[-1] == (size, size)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


async def test_without_a_server_the_import_fails(client: AsyncClient) -> None:
    async with AsyncClient("127.0.0.1:1") as nowhere:
        with pytest.raises((ServerUnavailable, TimeoutError)):
            await nowhere.sessions.import_transcripts(FILES / "codex", "codex", timeout=0.2)


async def test_the_sync_client_imports_each_file_once(server: Running) -> None:
    def run() -> None:
        with Client(f"127.0.0.1:{server.port}") as client:
            result = client.sessions.import_transcripts(
                [FILES / "codex", FILES / "codex" / "sessions"], "codex"
            )
            assert [(done.session_id, done.added) for done in result.imported] == [(CODEX, 12)]
            assert client.sessions.get(CODEX).message_count == 12

    await asyncio.to_thread(run)


async def test_two_hundred_sessions_come_in_but_for_three_broken_ones(
    client: AsyncClient, tmp_path: Path
) -> None:
    folder = tmp_path / "projects" / "-p"
    folder.mkdir(parents=True)
    source = next((FILES / "claude-code/projects/-home-ann-shop").glob("*.jsonl"))
    for number in range(200):
        shutil.copyfile(source, folder / f"{number:03}.jsonl")
    broken = [folder / f"{number:03}.jsonl" for number in (7, 77, 177)]
    broken[0].write_bytes(source.read_bytes()[:-100])
    broken[1].write_bytes(b"\x1f\x8b\x08" + bytes(range(256)))
    broken[2].write_text("[]\n")
    result = await client.sessions.import_transcripts(tmp_path, "claude-code")
    assert (len(result.imported), result.added) == (197, 197 * 15)
    assert [failed.path for failed in result.failed] == [str(path) for path in broken]
    again = await client.sessions.import_transcripts(tmp_path, "claude-code")
    assert (len(again.imported), again.added, len(again.failed)) == (197, 0, 3)


async def test_a_thousand_lines_and_a_line_of_two_mib_come_in_twice_and_once(
    client: AsyncClient, tmp_path: Path
) -> None:
    lines: list[str] = []
    for number in range(1_000):
        text = "x" * (2 * 1024 * 1024 if number == 500 else number)
        message = {"role": "user", "content": text}
        parent = f"u-{number - 1}" if number else None
        lines.append(
            json.dumps(
                {"type": "user", "uuid": f"u-{number}", "parentUuid": parent, "message": message}
            )
        )
    file = tmp_path / "-p" / "s.jsonl"
    file.parent.mkdir()
    file.write_text("\r\n".join(lines))
    for added in (1_000, 0):
        [done] = (await client.sessions.import_transcripts(file, "claude-code")).imported
        assert done.added == added
    assert [message.json for message in await read(client, "claude/-p/s")] == lines


async def test_a_transcript_of_twenty_mib_comes_in(client: AsyncClient, tmp_path: Path) -> None:
    text = "x" * (1024 * 1024)
    lines = [json.dumps(said(f"u-{i}", None, "user", f"{i} {text}")) for i in range(20)]
    file = tmp_path / "-p" / "s.jsonl"
    file.parent.mkdir()
    file.write_text("\n".join(lines))
    for added in (20, 0):
        [done] = (await client.sessions.import_transcripts(file, "claude-code")).imported
        assert done.added == added
    assert [message.json for message in await read(client, "claude/-p/s")] == lines
