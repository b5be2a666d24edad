"""Checks of ids and short texts in requests.

Every check takes the path of the field in the request. It returns the text unchanged, or raises
Fault INVALID_FIELD for that path.
"""

from sessiond_server.core.errors import invalid
from sessiond_server.core.limits import (
    MAX_BOOKMARK_NAME_CHARACTERS,
    MAX_DESCRIPTION_CHARACTERS,
    MAX_INCARNATION_CHARACTERS,
    MAX_MESSAGE_ID_CHARACTERS,
    MAX_REQUEST_ID_CHARACTERS,
    MAX_SESSION_ID_BYTES,
    MAX_SESSION_ID_CHARACTERS,
    MAX_TASK_ID_CHARACTERS,
)


def check_incarnation(incarnation: str) -> None:
    """Check an incarnation of a session, or an etag in its place.

    Raises:
        Fault: INVALID_FIELD if it is too long.
    """
    if len(incarnation) > MAX_INCARNATION_CHARACTERS:
        raise invalid("incarnation", "is neither an incarnation nor an etag of a session")


def check_session_id(session_id: str, field: str = "session_id") -> str:
    """Check a session_id, which is required."""
    # A fast path for the usual case, without a loop over the characters.
    if (
        0 < len(session_id) <= MAX_SESSION_ID_CHARACTERS
        and session_id.isascii()
        and session_id.isprintable()
        and session_id[0] != " "
        and session_id[-1] != " "
    ):
        return session_id
    _check_name(session_id, field, MAX_SESSION_ID_CHARACTERS)
    if (size := len(session_id.encode())) > MAX_SESSION_ID_BYTES:
        raise invalid(
            field, f"has {size} bytes in UTF-8; at most {MAX_SESSION_ID_BYTES} are allowed"
        )
    return session_id


def check_task_id(task_id: str, field: str = "task_id") -> str:
    """Check a task_id, which is required."""
    return _check_name(task_id, field, MAX_TASK_ID_CHARACTERS)


def check_bookmark_name(name: str, field: str = "name") -> str:
    """Check the name of a bookmark, which is required."""
    return _check_name(name, field, MAX_BOOKMARK_NAME_CHARACTERS)


def check_request_id(request_id: str) -> str:
    """Check a request_id; "" means none."""
    return check_text("request_id", request_id, MAX_REQUEST_ID_CHARACTERS)


def check_message_id(message_id: str, field: str = "message_id") -> str:
    """Check a message_id, which is required here."""
    # A fast path for the usual case, without a loop over the characters.
    if (
        0 < len(message_id) <= MAX_MESSAGE_ID_CHARACTERS
        and message_id.isascii()
        and message_id.isprintable()
    ):
        return message_id
    if not message_id:
        raise invalid(field, "is required")
    return check_text(field, message_id, MAX_MESSAGE_ID_CHARACTERS)


def check_description(description: str, field: str) -> str:
    """Check text for people to read, which may span several lines."""
    _check_length(field, description, MAX_DESCRIPTION_CHARACTERS)
    if "\0" in description:
        raise invalid(field, "contains a NUL character, which PostgreSQL cannot store")
    return description


def check_text(field: str, text: str, max_characters: int) -> str:
    """Check a single line of text, which may be empty."""
    _check_length(field, text, max_characters)
    if text.isascii() and text.isprintable():
        return text
    for character in text:
        # C0, DEL and C1 are invisible and disturb terminals and logs; PostgreSQL rejects NUL.
        if character < " " or "\x7f" <= character <= "\x9f":
            raise invalid(field, f"contains the control character U+{ord(character):04X}")
    return text


def _check_name(name: str, field: str, max_characters: int) -> str:
    if not name:
        raise invalid(field, "is required")
    _check_length(field, name, max_characters)
    if name.strip() != name:
        raise invalid(field, "begins or ends with white space")
    return check_text(field, name, max_characters)


def _check_length(field: str, text: str, max_characters: int) -> None:
    if len(text) > max_characters:
        raise invalid(field, f"has {len(text)} characters; at most {max_characters} are allowed")
