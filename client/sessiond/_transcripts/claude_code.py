"""Transcripts of Claude Code: projects/PROJECT/SESSION.jsonl, and those of its agents.

The adapter of the Claude Agent SDK uses the same session ids, so it can resume these sessions.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sessiond._protocol.ids import message_id, part
from sessiond._transcripts.lines import lines_of
from sessiond._transcripts.records import (
    Ids,
    Line,
    Transcript,
    files_below,
    parsed,
    string_of,
)
from sessiond._types.transcripts import BadLine

FORMAT_NAME = "claude-code"
_AGENTS = "subagents"


def find(directory: Path) -> list[Path]:
    """Return the transcripts below a directory, or below its "projects" if it has that folder."""
    projects = directory / "projects"
    found = files_below(projects if projects.is_dir() else directory, "*.jsonl")
    # The journal of a workflow is in the directory of its agents' transcripts.
    return [path for path in found if path.name != "journal.jsonl"]


def read(path: Path) -> Iterator[Transcript]:
    """Yield the transcript in a file."""
    key = _key(path)
    session_id = (
        f"claude/{part(key['projectKey'], 400, 'path')}/{part(key['sessionId'], 200, 'path')}"
    )
    if subpath := key.get("subpath"):
        session_id += "/" + part(subpath, 200, "path")
    yield Transcript(path, session_id, lambda: _lines(path), metadata={"claude": key})


def _key(path: Path) -> dict[str, str]:
    """Return the project, the session and the agent of a transcript."""
    folders = path.resolve().parts
    if _AGENTS in folders[3:-1]:
        place = len(folders) - 1 - folders[::-1].index(_AGENTS)
        return {
            "projectKey": folders[place - 2],
            "sessionId": folders[place - 1],
            "subpath": "/".join([*folders[place:-1], path.stem]),
        }
    project = path.resolve().parent.name or "-"
    if path.stem.startswith("agent-") and (session_id := _session_of(path)):
        # Older versions kept the transcripts of agents in the directory of their session's
        # transcript.
        return {
            "projectKey": project,
            "sessionId": session_id,
            "subpath": f"{_AGENTS}/{path.stem}",
        }
    return {"projectKey": project, "sessionId": path.stem}


def _session_of(path: Path) -> str:
    for _, line in lines_of(path):
        try:
            return "" if isinstance(line, BadLine) else string_of(parsed(line).get("sessionId"))
        except ValueError:
            return ""
    return ""


def _lines(path: Path) -> Iterator[Line | BadLine]:
    ids, branches = Ids(), _Branches()
    for number, line in lines_of(path):
        if isinstance(line, BadLine):
            yield line
            continue
        try:
            value = parsed(line)
        except ValueError as error:
            yield BadLine(number, str(error), line)
            continue
        if not isinstance(value.get("type"), str) or "payload" in value:
            yield BadLine(number, "is not a line of Claude Code", line)
            continue
        uuid = string_of(value.get("uuid"))
        # A program that resumes a session may write the session's lines again.
        name = message_id(uuid) if uuid else ids.of(line)
        parent = branches.parent_of(name, value) if uuid else None
        yield Line(number, line, name, parent, FORMAT_NAME)


class _Branches:
    """Finds where a user went back in the conversation.

    Each line names its parent. A parent other than the previous line need not mean a branch:
    results of parallel calls name their calls, and notes may be in between. A branch begins if a
    prompt or another answer of the model is between a line and its parent.
    """

    def __init__(self) -> None:
        self._count = 0
        # Where each line belongs, by the line's id: the line's own number and id or, for a note,
        # the number and id of the line that the note follows.
        self._places: dict[str, tuple[int, str]] = {}
        self._tip = ""
        self._last_prompt = self._answer_start = 0
        self._answer_id = ""

    def parent_of(self, name: str, value: dict[str, Any]) -> str | None:
        """Return the message_id of the line from which a branch begins. None = no branch."""
        self._count += 1
        parent = self._places.get(message_id(string_of(value.get("parentUuid"))))
        message = value.get("message")
        kind, is_side = value.get("type"), value.get("isSidechain") is True
        if is_side or kind not in ("user", "assistant") or not isinstance(message, dict):
            # A line without a parent, such as the boundary of a compaction, continues the
            # conversation.
            self._places[name] = parent or (self._count, self._tip)
            return None
        answer_id = string_of(message.get("id")) if kind == "assistant" else ""
        is_same_answer = bool(answer_id) and answer_id == self._answer_id
        is_result = kind == "user" and _is_results(message.get("content"))
        begins = bool(
            parent
            and not is_result
            and (
                self._last_prompt > parent[0]
                or (self._answer_start > parent[0] and not is_same_answer)
            )
        )
        if kind == "assistant" and not is_same_answer:
            self._answer_start, self._answer_id = self._count, answer_id
        elif kind == "user" and not is_result:
            self._last_prompt = self._count
        self._places[name] = (self._count, name)
        self._tip = name
        return parent[1] or None if begins and parent else None


def _is_results(content: object) -> bool:
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(block, dict) and block.get("type") == "tool_result" for block in content)
    )
