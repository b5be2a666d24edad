"""Sessions of every shape, and their exports."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from sessiond import (
    AsyncClient,
    NewMessage,
)
from sessiond.v1.message_pb2 import Blob, Part, Reasoning, ToolCall, ToolResult

ODD_JSON = (
    '{ "role" :"user",\r\n\t"content":"a\\u0000b \\ud83d\\ude00 ü\u2028\x7f",  '
    '"n": 1.0e2, "big": 12345678901234567890 }'
)


def typed_parts() -> list[Part]:
    """Return a part of each kind, and empty ones."""
    return [
        Part(text=""),
        Part(text="ü\0\u2028"),
        Part(image=Blob(media_type="image/png", inline=bytes(range(256)), name="a.png")),
        Part(audio=Blob(inline=b"")),
        Part(file=Blob(uri="https://example.com/x")),
        Part(tool_call=ToolCall(call_id="c", name="n", arguments_json='{"a" : 1}')),
        Part(
            tool_result=ToolResult(
                call_id="c", parts=[Part(text="t"), Part(data="[ 1 ]")], is_error=True
            )
        ),
        Part(reasoning=Reasoning(text="hm", signature=b"\xff\x00")),
        Part(data='{"x":1.50}'),
    ]


async def a_session(client: AsyncClient, session_id: str) -> None:
    """Create a session with every kind of content."""
    session = await client.create_session(
        session_id,
        model="gpt-5",
        user="ada",
        title="Über alles",
        config={"z": 1, "a": {"y": [1, {"c": None, "b": 2.5}], "x": True}, "large": 2**53 - 1},
        metadata={"team": "ü", "empty": {}, "list": []},
        idle_ttl=timedelta(days=1, milliseconds=1),
    )
    await session.store_messages([{"role": "system", "content": "Be kind."}, ODD_JSON])
    await session.store_messages(
        [
            NewMessage(
                parts=typed_parts(), role="assistant", metadata={"b": 1, "a": {"d": 1, "c": 2}}
            ),
            NewMessage(
                '{"role":"user","content":[{"type":"text","text":"x"}]}',
                format="anthropic",
                parent_seq=2,
            ),
            NewMessage('{"role":"model","parts":[{"text":"y"}]}', format="gemini"),
            NewMessage({"role": "tool", "tool_call_id": "c", "content": "21"}, parent_seq=1),
        ]
    )
    for i in range(3):
        await session.tasks.create(
            task_id=f"task-{i}",
            status="running",
            data={"z": i, "a": "b"},
            message_seqs=[1, 3] if i else [],
        )
    await session.tasks.reorder(["task-2", "task-0"])
    await session.tasks.update("task-1", status="failed")
    await session.bookmarks.create("the start", seq=0)
    await session.bookmarks.create("plan", description="über")
    await session.bookmarks.move("plan", 3)


async def lines_of(client: AsyncClient, session_id: str) -> list[str]:
    return await client.sessions.export_lines(session_id)


def renamed(lines: list[str], session_id: str) -> list[str]:
    """Return the lines of an export with another session_id in the first line."""
    first = json.loads(lines[0])
    first["session"]["session_id"] = session_id
    return [json.dumps(first, ensure_ascii=False, separators=(",", ":")) + "\n", *lines[1:]]


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def changed(lines: list[str], number: int, **fields: Any) -> list[str]:
    value = json.loads(lines[number]) | fields
    return [*lines[:number], json.dumps(value), *lines[number + 1 :]]
