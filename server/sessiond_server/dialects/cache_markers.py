"""Cache markers (cache_control) of Anthropic's API.

A request may have at most four. A marker with a lifetime of an hour must not follow one with a
lifetime of five minutes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from sessiond_server.dialects.anthropic_shapes import CACHE_MARKER
from sessiond_server.dialects.shapes import Misfit
from sessiond_server.formats.pieces import JSON

MAX_CACHE_MARKERS = 4
# Keys whose values belong to the caller's tools. A cache_control within them is not a marker.
_OPAQUE = {"input", "input_schema"}
_KEY = "cache_control"
# The parts of a request in the order in which the API reads them.
_PARTS = ("tools", "system")


def limit_markers(body: JSON, messages: Sequence[JSON]) -> tuple[JSON, list[JSON], list[str]]:
    """Keep only the last MAX_CACHE_MARKERS cache markers of a request.

    Args:
        body: the request without its messages.
        messages: the messages.

    Returns:
        The body, the messages, and the changes: "" for each marker that was removed, and the path
        of each one that was changed. Objects in which no marker changes are not copied.
    """
    # A marker of the whole request counts as a marker at the end.
    top = [body[_KEY]] if body.get(_KEY) is not None else []
    parts = [body.get(key) for key in _PARTS]
    stored = [*_markers(parts), *_markers(messages), *top]
    kept = _kept(stored)
    if kept == stored:
        return body, list(messages), []
    changes = [
        "" if new is None else f"{_KEY}.ttl"
        for new, old in zip(kept, stored, strict=True)
        if new != old
    ]
    markers = iter(kept)
    new_body = {**body, **{key: _replaced(body[key], markers) for key in _PARTS if key in body}}
    new_messages = [_replaced(message, markers) for message in messages]
    if top:
        last = next(markers)
        new_body = {key: value for key, value in new_body.items() if key != _KEY}
        new_body |= {} if last is None else {_KEY: last}
    return new_body, new_messages, changes


def _kept(stored: Sequence[Any]) -> list[Any]:
    """Return the new value of each marker; None = it is removed."""
    kept = [_fitting(marker) for marker in stored]
    free = MAX_CACHE_MARKERS
    for place in reversed(range(len(kept))):
        if kept[place] is not None:
            free -= 1
            if free < 0:
                kept[place] = None
    is_short = False
    for place, marker in enumerate(kept):
        if marker is not None:
            if is_short and marker.get("ttl") == "1h":
                kept[place] = {**marker, "ttl": "5m"}
            is_short |= marker.get("ttl") != "1h"
    return kept


def _fitting(marker: Any) -> Any:
    try:
        return CACHE_MARKER(marker, _KEY, lambda path: None)
    except Misfit:
        return None


def _markers(value: Any) -> Iterator[Any]:
    """Yield the markers in a value, in order."""
    if isinstance(value, list):
        for item in value:
            yield from _markers(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == _KEY and item is not None:
                yield item
            elif key not in _OPAQUE:
                yield from _markers(item)


def _replaced(value: Any, markers: Iterator[Any]) -> Any:
    """Return a copy of a value in which `markers` replace its markers, in the order of _markers().

    If no marker differs, the value itself is returned.
    """
    if isinstance(value, list):
        items = [_replaced(item, markers) for item in value]
        is_same = all(new is old for new, old in zip(items, value, strict=True))
        return value if is_same else items
    if not isinstance(value, dict):
        return value
    kept: JSON = {}
    for key, item in value.items():
        if key == _KEY and item is not None:
            marker = next(markers)
            if marker is not None:
                kept[key] = item if marker == item else marker
        else:
            kept[key] = item if key in _OPAQUE else _replaced(item, markers)
    is_same = len(kept) == len(value) and all(kept[key] is value[key] for key in value)
    return value if is_same else kept
