"""Ids of projects and sessions, and the keys that rows are stored under."""

import time
from functools import lru_cache
from uuid import UUID, uuid4, uuid5

# All project ids, and through them all keys, are derived from this namespace. Never change it.
_NAMESPACE = UUID("6f1c2d0e-5e55-10d0-8a31-73657373696f")


def project_id_of(name: str) -> UUID:
    """Return the id of a project."""
    return uuid5(_NAMESPACE, name)


DEFAULT_PROJECT = "default"
DEFAULT_PROJECT_ID = project_id_of(DEFAULT_PROJECT)


def is_incarnation(incarnation: str, log: UUID) -> bool:
    """Return whether an incarnation, or an etag in its place, names the session with this log.

    Args:
        incarnation: the incarnation or etag from the caller; "" = any session.
        log: the session's log.
    """
    # An etag begins with the log, as an incarnation does.
    return not incarnation or incarnation.partition("-")[0] == log.hex


@lru_cache(maxsize=4096)
def session_key(project_id: UUID, session_id: str) -> UUID:
    """Return the key that all rows of a session are stored under."""
    return uuid5(project_id, session_id)


def creation_key(project_id: UUID, request_id: str) -> UUID:
    """Return the key that the request_id of a creation is recorded under.

    The session's key cannot be used: a client that repeats the request may not know the id that the
    server chose.
    """
    # A session_id cannot contain NUL, so the result never equals a session's key.
    return uuid5(project_id, "create\0" + request_id)


def deletion_key(project_id: UUID, request_id: str) -> UUID:
    """Return the key that the request_id of a deletion by filter is recorded under."""
    return uuid5(project_id, "delete\0" + request_id)


def uuid7() -> UUID:
    """Return a UUID of version 7 (RFC 9562): milliseconds since 1970, then random bits."""
    # The standard library has uuid7 only since Python 3.14.
    bits = (time.time_ns() // 1_000_000) << 80 | uuid4().int & ((1 << 76) - 1)
    return UUID(int=(bits & ~(0xF << 76) & ~(0x3 << 62)) | (7 << 76) | (2 << 62))
