"""The differences between a stored message and the message that is sent in its place."""

from collections.abc import Iterator
from typing import Any

from sessiond_server.formats.pieces import JSON
from sessiond_server.formats.report import ChangeKind, Report, key_of

# The detail that a report gives for all fields that are left out and whose stored value is null.
# SDKs write many such fields.
NULLS = "fields that are null"
_OF_FIELDS = {ChangeKind.FIELD_REMOVED, ChangeKind.FIELD_CHANGED}
# For each kind of change, the keys whose values it changes. Differences at these keys need no
# report of their own. A kind that is not listed may change the value of any key.
_EXPLAINED = {
    ChangeKind.ID_CHANGED: {"id", "callid", "toolcallid", "tooluseid"},
    ChangeKind.NAME_CHANGED: {"name"},
    ChangeKind.ARGUMENTS_WRAPPED: {"args", "arguments", "input"},
    ChangeKind.ROLE_CHANGED: {"role", "type"},
    ChangeKind.THINKING_OMITTED: {"reasoningcontent", "reasoning", "reasoningdetails"}
    | {"content", "parts"},
    ChangeKind.TEXT_REPAIRED: set[str](),
    ChangeKind.MESSAGES_MERGED: set[str](),
    ChangeKind.RESULT_MISSING: set[str](),
    ChangeKind.RESULT_MOVED: set[str](),
}


def report_differences(report: Report, seq: int, new: JSON, stored: JSON) -> None:
    """Report those differences between two objects that no change reported so far explains.

    Args:
        report: receives the changes.
        seq: seq of the stored message.
        new: the object that is sent.
        stored: the object of the stored message.
    """
    kinds = report.kinds_of(seq)
    is_explained = not kinds <= _EXPLAINED.keys() | _OF_FIELDS
    keys = set[str]().union(*(_EXPLAINED.get(kind, ()) for kind in kinds))
    for kind, path, was in _differences(new, stored, ""):
        is_changed = kind == ChangeKind.FIELD_CHANGED
        if is_changed and is_explained:
            continue
        if key_of(path) not in keys and not report.has_field(seq, path):
            report.add(seq, kind, NULLS if not is_changed and was is None else path)


def _differences(new: Any, stored: Any, path: str) -> Iterator[tuple[ChangeKind, str, Any]]:
    """Yield each difference: its kind, its path, and the stored value."""
    if isinstance(new, dict) and isinstance(stored, dict):
        if new.get("type", stored.get("type")) != stored.get("type"):
            yield ChangeKind.FIELD_CHANGED, path or "type", stored
            return
        for key, value in stored.items():
            inner = f"{path}.{key}" if path else key
            if key not in new:
                yield ChangeKind.FIELD_REMOVED, inner, value
            else:
                yield from _differences(new[key], value, inner)
        for key in new.keys() - stored.keys():
            yield ChangeKind.FIELD_CHANGED, f"{path}.{key}" if path else key, None
    elif isinstance(new, list) and isinstance(stored, list) and len(new) == len(stored):
        for item, old in zip(new, stored, strict=True):
            yield from _differences(item, old, path)
    elif new != stored:
        yield ChangeKind.FIELD_CHANGED, path, stored
