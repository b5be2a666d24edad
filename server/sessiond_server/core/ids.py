"""Ids and other short texts: how they are checked, and how keys are made of them."""

import time
from functools import lru_cache
from uuid import UUID, uuid4, uuid5

from sessiond_server.core.errors import invalid
from sessiond_server.core.limits import (
    MAX_BOOKMARK_NAME_CHARACTERS,
    MAX_DESCRIPTION_CHARACTERS,
    MAX_REQUEST_ID_CHARACTERS,
    MAX_SESSION_ID_CHARACTERS,
    MAX_TASK_ID_CHARACTERS,
)

# Fixed for ever: projects, and through them all keys, are derived from it.
_NAMESPACE = UUID("6f1c2d0e-5e55-10d0-8a31-73657373696f")


def project_id_of(name: str) -> UUID:
    """The id of a project."""
    return uuid5(_NAMESPACE, name)


DEFAULT_PROJECT = "default"
DEFAULT_PROJECT_ID = project_id_of(DEFAULT_PROJECT)


@lru_cache(maxsize=4096)
def session_key(project_id: UUID, session_id: str) -> UUID:
    """What every row of the session is found by."""
    return uuid5(project_id, session_id)


def creation_key(project_id: UUID, request_id: str) -> UUID:
    """Where the request_id of a creation is recorded: the session's own key may not be known to a repetition."""
    # NUL cannot stand in a session_id, so this is no session's key.
    return uuid5(project_id, "create\0" + request_id)


def uuid7() -> UUID:
    """A UUID of version 7 (RFC 9562): milliseconds since 1970, then random bits. Python has it from 3.14 on."""
    bits = (time.time_ns() // 1_000_000) << 80 | uuid4().int & ((1 << 76) - 1)
    return UUID(int=(bits & ~(0xF << 76) & ~(0x3 << 62)) | (7 << 76) | (2 << 62))


def check_session_id(session_id: str, field: str = "session_id") -> str:
    """The id as it is. Raises Fault INVALID_FIELD."""
    if not session_id:
        raise invalid(field, "is required")
    if len(session_id) > MAX_SESSION_ID_CHARACTERS:
        raise invalid(
            field,
            f"has {len(session_id)} characters; at most {MAX_SESSION_ID_CHARACTERS} are allowed",
        )
    if (
        session_id.isascii()
        and session_id.isprintable()
        and session_id[0] != " "
        and session_id[-1] != " "
    ):
        return session_id
    if session_id.strip() != session_id:
        raise invalid(field, "begins or ends with white space")
    _check_characters(field, session_id)
    return session_id


def check_request_id(request_id: str) -> str:
    if len(request_id) > MAX_REQUEST_ID_CHARACTERS:
        raise invalid(
            "request_id",
            f"has {len(request_id)} characters; at most {MAX_REQUEST_ID_CHARACTERS} are allowed",
        )
    _check_characters("request_id", request_id)
    return request_id


def check_task_id(task_id: str, field: str = "task_id") -> str:
    if not task_id:
        raise invalid(field, "is required")
    check_text(field, task_id, MAX_TASK_ID_CHARACTERS)
    if task_id.strip() != task_id:
        raise invalid(field, "begins or ends with white space")
    return task_id


def check_bookmark_name(name: str, field: str = "name") -> str:
    if not name:
        raise invalid(field, "is required")
    check_text(field, name, MAX_BOOKMARK_NAME_CHARACTERS)
    if name.strip() != name:
        raise invalid(field, "begins or ends with white space")
    return name


def check_description(description: str, field: str) -> str:
    """A text for people that may have several lines. Raises Fault INVALID_FIELD."""
    if len(description) > MAX_DESCRIPTION_CHARACTERS:
        raise invalid(
            field,
            f"has {len(description)} characters; at most {MAX_DESCRIPTION_CHARACTERS} are allowed",
        )
    if "\0" in description:
        raise invalid(field, "holds a NUL character, which PostgreSQL cannot keep")
    return description


def check_text(field: str, text: str, max_characters: int) -> str:
    """A short text for people or filters. Raises Fault INVALID_FIELD."""
    if len(text) > max_characters:
        raise invalid(field, f"has {len(text)} characters; at most {max_characters} are allowed")
    _check_characters(field, text)
    return text


def _check_characters(field: str, text: str) -> None:
    for character in text:
        # C0, DEL and C1: they cannot be seen, break terminals and logs, and PostgreSQL takes no NUL.
        if character < " " or "\x7f" <= character <= "\x9f":
            raise invalid(field, f"holds the control character U+{ord(character):04X}")
