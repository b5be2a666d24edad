"""Cache markers (cache_control) of Anthropic's API. A request may have at most four."""

from typing import Any

# Objects of the caller's tools. A key named cache_control in them is not a marker.
_OPAQUE = {"input", "input_schema"}


class MarkerLimit:
    """Keeps a limited number of markers, counted from the end. Apply it to later parts first.

    Attributes:
        was_exceeded: whether a marker was removed.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self.was_exceeded = False

    def apply(self, value: Any) -> Any:
        """Return the value without surplus markers, or the same object if there are none."""
        count = _count(value)
        if count <= self._free:
            self._free -= count
            return value
        self.was_exceeded = True
        return self._without(value)

    def _without(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._without(item) for item in reversed(value)][::-1]
        if not isinstance(value, dict):
            return value
        has_marker = value.get("cache_control") is not None
        is_kept = has_marker and self._free > 0
        self._free -= is_kept
        return {
            key: item if key in _OPAQUE else self._without(item)
            for key, item in value.items()
            if key != "cache_control" or is_kept or not has_marker
        }


def _count(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_count, value))
    if not isinstance(value, dict):
        return 0
    return (value.get("cache_control") is not None) + sum(
        _count(item) for key, item in value.items() if key not in _OPAQUE
    )
