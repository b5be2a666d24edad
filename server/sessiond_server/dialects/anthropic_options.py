"""The fields of a request of Anthropic's Messages API other than its messages."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sessiond_server.dialects.anthropic_shapes import BLOCKS
from sessiond_server.dialects.shapes import Misfit
from sessiond_server.formats.pieces import JSON, objects_of
from sessiond_server.formats.report import ChangeKind, Report


def fit_options(
    options: Mapping[str, Any], system: Sequence[JSON], messages: Sequence[JSON], report: Report
) -> JSON:
    """Return the fields of a request, without its messages.

    Args:
        options: the caller's fields. Instructions among them precede those of the session.
        system: the instructions of the session.
        messages: the messages of the request.
        report: receives the changes.
    """
    body = dict(options)
    instructions = [*_instructions(body.pop("system", None), report), *system]
    if instructions:
        body["system"] = instructions
    thinking = body.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") == "enabled" and _lacks(messages):
        del body["thinking"]
        report.add(0, ChangeKind.THINKING_DISABLED)
    return body


def _instructions(own: Any, report: Report) -> Iterator[JSON]:
    """Yield the caller's instructions as blocks. They are a text, a block, or a list of these."""
    if own is None:
        return
    for item in own if isinstance(own, list) else [own]:
        block = {"type": "text", "text": item} if isinstance(item, str) else item
        if isinstance(block, dict) and "type" not in block:
            block = {"type": "text", **block}
        left_out: list[str] = []
        try:
            yield BLOCKS["text"](block, "system", left_out.append)
        except Misfit:
            text = block.get("text") if isinstance(block, dict) else None
            is_blank = isinstance(text, str) and not text.strip()
            kind = ChangeKind.BLANK_OMITTED if is_blank else ChangeKind.FIELD_REMOVED
            report.add(0, kind, "system")
        for path in left_out:
            report.add(0, ChangeKind.FIELD_REMOVED, path)


def _lacks(messages: Sequence[JSON]) -> bool:
    """Whether the last answer calls tools and does not begin with reasoning."""
    answers = (message for message in reversed(messages) if message["role"] == "assistant")
    blocks = objects_of(next(answers, {}).get("content"))
    return any(block.get("type") == "tool_use" for block in blocks) and not is_thinking(blocks[0])


def is_thinking(block: JSON) -> bool:
    """Whether a block is reasoning."""
    return block.get("type") in ("thinking", "redacted_thinking")
