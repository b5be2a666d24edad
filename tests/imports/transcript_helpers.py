"""Transcripts in the repository, and helpers of the tests of their import."""

from pathlib import Path
from typing import Any

from sessiond import AsyncClient, Message, TranscriptImport

FILES = Path(__file__).parent / "transcripts"
CLAUDE = "claude/-home-ann-shop/4f0c7b1e-5a55-4c1e-9a34-0d2f6f1c9a10"
CODEX = "codex/019b7a3e-1c20-7d11-8f00-5d1f7c2b9a42"
TEA = "openai/c0ffee00-0000-4000-8000-000000000001"


def lines_of(*path: str) -> list[str]:
    [file] = FILES.glob(str(Path(*path)))
    return file.read_text(encoding="utf-8").splitlines()


async def read(client: AsyncClient, session_id: str, **options: Any) -> list[Message]:
    return [message async for message in client.sessions.get_messages(session_id, **options)]


async def imported(client: AsyncClient, program: str, **options: Any) -> TranscriptImport:
    return await client.sessions.import_transcripts(FILES / program, program, **options)


def summary(result: TranscriptImport) -> list[tuple[str, int, int]]:
    assert not result.failed
    return [(done.session_id, done.added, done.known) for done in result.imported]


def said(uuid: str, parent: str | None, kind: str, content: Any, **fields: Any) -> dict[str, Any]:
    """Return a line of Claude Code."""
    message = {"role": kind, "content": content, "id": fields.pop("answer", None)}
    return {"type": kind, "uuid": uuid, "parentUuid": parent, "message": message, **fields}


RESULT = [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]
