"""The rules of a session's state."""

from collections.abc import Iterable, Mapping

from sessiond_server.core.errors import Fault, etag_mismatch, invalid
from sessiond_server.core.json_text import parse_json
from sessiond_server.core.limits import (
    MAX_STATE_BYTES,
    MAX_STATE_KEY_CHARACTERS,
    MAX_STATE_KEYS,
)
from sessiond_server.core.validation import check_text
from sessiond_server.sessions.store.state import StateChanged, StatePatch, StateTooLarge


def checked_patch(
    values: Mapping[str, str], removed: Iterable[str], path: str = "state_patch"
) -> StatePatch:
    """Check a change of a state.

    Args:
        values: new values by key, as JSON text.
        removed: keys to remove.
        path: path of the change in the request.

    Raises:
        Fault: INVALID_FIELD or INVALID_JSON.
    """
    size = 0
    kept: dict[str, str] = {}
    for name, value in values.items():
        field = f"{path}.set[{name[:80]!r}]"
        _check_key(name, field)
        encoded = value.encode()
        size += len(encoded)
        if size > MAX_STATE_BYTES:
            raise invalid(f"{path}.set", f"takes more than {MAX_STATE_BYTES} bytes")
        parse_json(encoded, field)
        # White space around a value is not a part of the value.
        kept[name] = value.strip(" \t\r\n")
    remove = tuple(dict.fromkeys(removed))
    for name in remove:
        field = f"{path}.remove[{name[:80]!r}]"
        _check_key(name, field)
        if name in values:
            raise invalid(field, "is also in set; a key can be set or removed, not both")
    return StatePatch(kept, remove)


def _check_key(name: str, field: str) -> None:
    if not name:
        raise invalid(field, "is empty; a key has at least one character")
    check_text(field, name, MAX_STATE_KEY_CHARACTERS)


def state_changed(session_id: str, error: StateChanged) -> Fault:
    """Return the fault for a state that does not have the expected etag."""
    return etag_mismatch(f"the state of session {session_id!r}", session_id, error.etag)


def too_large(error: StateTooLarge, path: str = "state_patch") -> Fault:
    """Return the fault for a state that would exceed its limits."""
    if error.keys > MAX_STATE_KEYS:
        problem = f"would give the state {error.keys} keys; at most {MAX_STATE_KEYS} are allowed"
    else:
        problem = f"would make the state {error.size} bytes; at most {MAX_STATE_BYTES} are allowed"
    return invalid(f"{path}.set", problem)
