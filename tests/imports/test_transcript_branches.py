"""Branches of the conversations in transcripts."""

import json
from pathlib import Path
from typing import Any

import pytest

from sessiond import AsyncClient

from .transcript_helpers import (
    CLAUDE,
    FILES,
    RESULT,
    TEA,
    imported,
    read,
    said,
    summary,
)


@pytest.fixture
async def claude(client: AsyncClient) -> AsyncClient:
    await imported(client, "claude-code")
    return client


async def test_a_model_goes_on_with_a_transcript_on_its_newest_branch(claude: AsyncClient) -> None:
    branch = await read(claude, CLAUDE, branch_of=15)
    # The prompt to which the user went back follows the first answer.
    assert [message.seq for message in branch] == [*range(1, 11), 14, 15]
    session = await claude.get_session(CLAUDE)
    answer = await session.send_and_wait("Thanks.", model="echo")
    # The model received the messages of the branch, but neither notes nor the other branch.
    assert answer.content == "echo of 11 messages: Thanks."


@pytest.mark.parametrize(
    ("lines", "parents"),
    [
        # An answer of two lines has parallel calls, and each result follows its call.
        (
            [
                said("a", None, "user", "q"),
                said("b", "a", "assistant", [], answer="m"),
                said("c", "b", "assistant", [], answer="m"),
                said("d", "b", "user", RESULT),
                said("e", "c", "user", RESULT),
                said("f", "d", "assistant", [], answer="n"),
            ],
            [None] * 6,
        ),
        # Notes are between the messages, and a prompt follows one of them.
        (
            [
                said("a", None, "user", "q"),
                {"type": "progress", "uuid": "n", "parentUuid": "a"},
                {"type": "summary", "summary": "s"},
                said("b", "a", "assistant", [], answer="m"),
                {"type": "system", "uuid": "o", "parentUuid": "b"},
                said("c", "o", "user", "again"),
            ],
            [None] * 6,
        ),
        # The user continues the first answer again; a note is between the two.
        (
            [
                said("a", None, "user", "q"),
                said("b", "a", "assistant", [], answer="m"),
                said("c", "b", "user", "q"),
                said("d", "c", "assistant", [], answer="n"),
                {"type": "attachment", "uuid": "n", "parentUuid": "b"},
                said("e", "n", "user", "other"),
                said("f", "e", "assistant", [], answer="o"),
            ],
            [*(None,) * 5, 2, None],
        ),
        # A prompt without a parent continues the conversation: some programs write no parent.
        (
            [
                said("a", None, "user", "q"),
                said("b", "a", "assistant", [], answer="m"),
                said("c", None, "user", "other"),
            ],
            [None, None, None],
        ),
        # A compaction continues the conversation. Lines of another agent are within it.
        (
            [
                said("a", None, "user", "q"),
                said("b", "a", "assistant", [], answer="m"),
                said("s", None, "user", "task", isSidechain=True),
                said("t", "s", "assistant", [], isSidechain=True, answer="x"),
                {"type": "system", "subtype": "compact_boundary", "uuid": "n", "parentUuid": None},
                said("c", "n", "user", "summary", isCompactSummary=True),
                said("d", "c", "user", "go on"),
            ],
            [None] * 7,
        ),
    ],
)
async def test_a_branch_of_claude_code_begins_where_the_user_went_back(
    client: AsyncClient, tmp_path: Path, lines: list[dict[str, Any]], parents: list[int | None]
) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    [done] = (await client.sessions.import_transcripts(file, "claude-code")).imported
    stored = await read(client, done.session_id)
    assert [message.parent_seq for message in stored] == parents


async def test_turns_that_were_taken_back_in_codex_are_another_branch(
    client: AsyncClient, tmp_path: Path
) -> None:
    def prompt(text: str) -> dict[str, Any]:
        content = [{"type": "input_text", "text": text}]
        payload = {"type": "message", "role": "user", "content": content}
        return {"type": "response_item", "payload": payload}

    def event(kind: str, **fields: Any) -> dict[str, Any]:
        return {"type": "event_msg", "payload": {"type": kind, **fields}}

    lines = [
        prompt("<environment_context>"),
        prompt("one"),
        event("task_complete"),
        prompt("two"),
        prompt("three"),
        event("thread_rolled_back", num_turns=2),
        prompt("four"),
        event("thread_rolled_back", num_turns=1),
        prompt("five"),
    ]
    file = tmp_path / "rollout-1.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    for _ in range(2):
        await client.sessions.import_transcripts(file, "codex")
    stored = await read(client, "codex/rollout-1")
    assert [message.parent_seq for message in stored] == [*(None,) * 5, 3, None, 6, None]
    branch = await read(client, "codex/rollout-1", branch_of=9)
    assert [m.content for m in branch if m.role == "user"] == [
        "<environment_context>",
        "one",
        "five",
    ]


async def test_a_tree_of_chatgpt_becomes_branches_and_the_current_one_is_the_newest(
    client: AsyncClient,
) -> None:
    weather = TEA[:-1] + "2"
    assert summary(await imported(client, "openai-export")) == [(TEA, 7, 0), (weather, 3, 0)]
    stored = await read(client, TEA)
    assert [message.message_id for message in stored] == [
        *("root", "sys", "u1", "a2", "a1", "u2", "a3")
    ]
    assert [message.parent_seq for message in stored] == [*(None,) * 4, 3, None, None]
    branch = await read(client, TEA, branch_of=7)
    assert [message.message_id for message in branch] == ["root", "sys", "u1", "a1", "u2", "a3"]
    document = json.loads((FILES / "openai-export/conversations.json").read_text())
    nodes = document[0]["mapping"]
    assert [message.blob for message in stored] == [nodes[m.message_id or ""] for m in stored]
    assert '"create_time": 1767348000.123456' in stored[2].json
    info = await client.sessions.get(TEA)
    assert info.title == "Tea or coffee"
    assert summary(await imported(client, "openai-export")) == [(TEA, 0, 7), (weather, 0, 3)]


async def test_a_first_prompt_that_was_edited_in_chatgpt_begins_a_branch(
    client: AsyncClient, tmp_path: Path
) -> None:
    def node(name: str, children: list[str], role: str) -> dict[str, Any]:
        content = {"content_type": "text", "parts": [name]}
        message = {"author": {"role": role}, "content": content}
        return {"id": name, "message": message, "parent": None, "children": children}

    mapping = {name: node(name, [], "user") for name in ("p", "q")}
    document = [{"id": "c", "mapping": mapping, "current_node": "p"}]
    (tmp_path / "conversations.json").write_text(json.dumps(document))
    await client.sessions.import_transcripts(tmp_path, "openai-export")
    stored = await read(client, "openai/c")
    assert [(m.message_id, m.proto.is_root) for m in stored] == [("q", False), ("p", True)]


async def test_an_answer_that_was_regenerated_in_chatgpt_is_a_branch(
    client: AsyncClient, tmp_path: Path
) -> None:
    await imported(client, "openai-export")
    document = json.loads((FILES / "openai-export/conversations.json").read_text())
    mapping = document[0]["mapping"]
    again = json.loads(json.dumps(mapping["a2"]).replace("a2", "a9").replace("Coffee", "Water"))
    mapping["a9"] = again
    mapping["u1"]["children"].append("a9")
    document[0]["current_node"] = "a9"
    (tmp_path / "conversations.json").write_text(json.dumps(document))
    result = await client.sessions.import_transcripts(tmp_path, "openai-export")
    assert [(done.added, done.known) for done in result.imported] == [(1, 7), (0, 3)]
    newest = (await read(client, TEA))[-1]
    assert (newest.seq, newest.parent_seq) == (8, 3)
