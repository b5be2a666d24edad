"""Rollouts of Codex: sessions/YEAR/MONTH/DAY/rollout-TIME-ID.jsonl."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sessiond._protocol.ids import part
from sessiond._transcripts.lines import lines_of
from sessiond._transcripts.records import Ids, Line, Transcript, files_below, parsed, string_of
from sessiond._types.transcripts import BadLine

FORMAT_NAME = "codex"
# Every line has at least one of these keys. The first versions wrote items without an envelope.
_KEYS = frozenset({"payload", "record_type", "role", "call_id", "summary", "instructions"})
# The beginning of a text that the program writes in the user's name: a tag, or the heading of the
# repository's instructions.
_PROGRAMS_TEXT = re.compile(r"\s*(<[a-z_]+[ >]|# AGENTS\.md)")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def find(directory: Path) -> list[Path]:
    """Return the rollouts below a directory."""
    return files_below(directory, "rollout-*.jsonl")


def read(path: Path) -> Iterator[Transcript]:
    """Yield the transcript in a file."""
    meta = _meta(path)
    in_name = _UUID.search(path.name)
    name = string_of(meta.get("id")) or (in_name[0] if in_name else path.stem)
    described = {key: meta[key] for key in ("cwd", "cli_version") if isinstance(meta.get(key), str)}
    metadata = {"codex": {"id": name, **described}}
    session_id = f"codex/{part(name, 200, 'path')}"
    yield Transcript(path, session_id, lambda: _lines(path), metadata=metadata)


def _meta(path: Path) -> dict[str, Any]:
    """Return what the first line says about the session. {} = nothing."""
    for _, line in lines_of(path):
        try:
            value = {} if isinstance(line, BadLine) else parsed(line)
        except ValueError:
            return {}
        payload = value.get("payload")
        if value.get("type") == "session_meta" and isinstance(payload, dict):
            return payload
        # The first versions had no envelopes.
        return value if "payload" not in value and "timestamp" in value else {}
    return {}


def _lines(path: Path) -> Iterator[Line | BadLine]:
    ids, prompts, previous = Ids(), _Prompts(), ""
    for number, line in lines_of(path):
        if isinstance(line, BadLine):
            yield line
            continue
        try:
            value = parsed(line)
        except ValueError as error:
            yield BadLine(number, str(error), line)
            continue
        if value.keys().isdisjoint(_KEYS) or "uuid" in value:
            yield BadLine(number, "is not a line of Codex", line)
            continue
        # Lines have no ids.
        name = ids.of(line)
        yield Line(number, line, name, prompts.parent_of(value, previous), FORMAT_NAME)
        previous = name


class _Prompts:
    """Finds where the user took turns back.

    Codex then writes a line about this. The parent of that line is the line before the first prompt
    of the turns that were taken back.
    """

    def __init__(self) -> None:
        # The id of the line before each prompt. "" = there is none.
        self._before: list[str] = []

    def parent_of(self, value: dict[str, Any], previous: str) -> str | None:
        """Return the message_id of the parent of a line. None = the previous line."""
        payload = value.get("payload")
        payload = payload if isinstance(payload, dict) else {}
        count = payload.get("num_turns")
        if payload.get("type") == "thread_rolled_back" and isinstance(count, int) and count > 0:
            if taken := self._before[-count:]:
                del self._before[-count:]
                return taken[0] or None
        elif value.get("type") == "response_item" and _is_prompt(payload):
            self._before.append(previous)
        return None


def _is_prompt(item: dict[str, Any]) -> bool:
    """Whether an item was written by the user, and not by the program in the user's name."""
    content = item.get("content")
    texts = (
        [part.get("text") for part in content if isinstance(part, dict)]
        if isinstance(content, list)
        else []
    )
    first = next((text for text in texts if isinstance(text, str)), "")
    return item.get("role") == "user" and not _PROGRAMS_TEXT.match(first)
