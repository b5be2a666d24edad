"""The states of sessions: a row for each top-level key, whose value is JSON text.

A change of one key writes one row, whatever the size of the rest, and appends do not write to the
table. The rows belong to the log that identifies the session, so a re-created session has none.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from sessiond_server.core.limits import MAX_STATE_BYTES, MAX_STATE_KEYS

# Number of bytes for the quotes, the colon and the comma of a key.
PUNCTUATION_BYTES = 4

_OBJECT = """'{' || COALESCE(
        string_agg(to_json(name)::text || ':' || value, ',' ORDER BY name), '') || '}'"""

_READ = f"""
SELECT given.key, (
    SELECT {_OBJECT} FROM session_state AS s WHERE s.key = given.key AND s.log = given.log
) FROM unnest(%(keys)s::uuid[], %(logs)s::uuid[]) AS given (key, log)"""

_SIZES = """
SELECT given.key, (
    SELECT COALESCE(sum(octet_length(name) + octet_length(value)), 0)::bigint
    FROM session_state AS s WHERE s.key = given.key AND s.log = given.log
) FROM unnest(%(keys)s::uuid[], %(logs)s::uuid[]) AS given (key, log)"""

# `removed` and `changed` see the rows as they were before the statement. They never change the
# same key.
_PATCH = f"""
WITH given AS (
    SELECT * FROM unnest(%(names)b::text[], %(values)b::text[]) AS g (name, value)
), removed AS (
    DELETE FROM session_state
    WHERE key = %(key)s AND log = %(log)s AND name = ANY(%(remove)b::text[])
), changed AS (
    INSERT INTO session_state (key, log, name, value)
    SELECT %(key)s, %(log)s, name, value FROM given
    ON CONFLICT (key, log, name) DO UPDATE SET value = EXCLUDED.value
)
SELECT count(*), COALESCE(
    sum(octet_length(name) + octet_length(value) + {PUNCTUATION_BYTES}), 0)::bigint
FROM (
    SELECT name, value FROM given
    UNION ALL
    SELECT name, value FROM session_state
    WHERE key = %(key)s AND log = %(log)s AND name <> ALL(%(remove)b::text[])
        AND name <> ALL(%(names)b::text[])
) AS kept"""

# Limits of a small change. Its statement does not measure the new state, but requires that the
# earlier state takes less than half of the limits (HAS_ROOM). All changes that wait for the same
# lock see the same earlier state, so each may add only a small part of the limits.
_SMALL_BYTES, _FEW_KEYS = 64 * 1024, 100
_ROOMY = 2

HAS_ROOM = f"""
    AND (
        SELECT count(*) < {MAX_STATE_KEYS // _ROOMY}
            AND COALESCE(sum(octet_length(name) + octet_length(value) + {PUNCTUATION_BYTES}), 0)
                < {MAX_STATE_BYTES // _ROOMY}
        FROM session_state AS s
        WHERE s.key = sessions.key AND s.log = sessions.log
    )"""
"""Condition of an UPDATE of `sessions`: the state has room for any small change."""

CHANGE = """
changed AS (
    INSERT INTO session_state (key, log, name, value)
    SELECT %(key)s, log, name, value
    FROM bump, unnest(%(state_names)b::text[], %(state_values)b::text[]) AS given (name, value)
    ON CONFLICT (key, log, name) DO UPDATE SET value = EXCLUDED.value
)"""
"""A CTE that makes a small change. The CTE `bump` of the same statement locks the session's row.

The change also replaces values that were committed while the statement waited for the lock.
"""

COPY = """copied_state AS (
    INSERT INTO session_state (key, log, name, value)
    SELECT made.key, made.log, name, value
    FROM made, session_state AS s WHERE s.key = %(key)s AND s.log = %(log)s
)"""
"""Copies the state of a session to the session that the CTE `made` has inserted."""


@dataclass(frozen=True, slots=True)
class StatePatch:
    """A checked change of a state.

    Attributes:
        set: new values by key, as JSON text.
        remove: keys to remove; none of them is in `set`.
    """

    set: Mapping[str, str] = field(default_factory=dict)
    remove: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.set or self.remove)

    @property
    def is_small(self) -> bool:
        """Whether CHANGE can make the change, provided that HAS_ROOM holds.

        CHANGE cannot remove keys. While its statement waits for the lock, another transaction may
        add a key that is to be removed. The statement would not see this key.
        """
        if self.remove or not 0 < len(self.set) <= _FEW_KEYS:
            return False
        sizes = (len(name.encode()) + len(value.encode()) for name, value in self.set.items())
        return sum(sizes) <= _SMALL_BYTES

    @property
    def content(self) -> list[Any]:
        """The values that a repetition of the request must repeat."""
        return [sorted(self.set.items()), sorted(self.remove)]


NO_PATCH = StatePatch()
"""A change that changes nothing."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """A change of a session's state.

    Attributes:
        patch: the change.
        etag: the etag that the state must have; "" = any.
    """

    patch: StatePatch = NO_PATCH
    etag: str = ""

    def __bool__(self) -> bool:
        return bool(self.patch)


@dataclass(eq=False)
class StateChanged(Exception):
    """The state does not have the expected etag; nothing was changed.

    Attributes:
        etag: the current etag.
    """

    etag: str


@dataclass(eq=False)
class StateTooLarge(Exception):
    """The state would exceed its limits; the transaction has to be rolled back.

    Attributes:
        keys: number of keys that it would have.
        size: number of bytes that it would take.
    """

    keys: int
    size: int


def state_etag(state: str) -> str:
    """Return the etag of a state. Equal states have equal etags."""
    return hashlib.blake2b(state.encode(), digest_size=12).hexdigest()


async def check_state_etag(
    connection: AsyncConnection[TupleRow], key: UUID, log: UUID, etag: str
) -> None:
    """Check the etag of a session's state, in a transaction that holds the session's row.

    Args:
        connection: in a transaction that has locked the session's row in an earlier statement.
        key: the session's key.
        log: the log that identifies the session.
        etag: the expected etag. "" runs no statement.

    Raises:
        StateChanged: the state has another etag.
    """
    if etag:
        states = await states_of(connection, [(key, log)])
        current = state_etag(states[key])
        if current != etag:
            raise StateChanged(current)


async def patch_state(
    connection: AsyncConnection[TupleRow], key: UUID, log: UUID, patch: StatePatch
) -> None:
    """Change the state of a session, whose row the transaction holds.

    Args:
        connection: in a transaction that has locked the session's row in an earlier statement.
        key: the session's key.
        log: the log that identifies the session; not its message log.
        patch: the change. An empty change runs no statement.

    Raises:
        StateTooLarge: the state would exceed its limits.
    """
    if not patch:
        return
    cursor = await connection.execute(
        _PATCH.encode(),
        {
            "key": key,
            "log": log,
            "names": list(patch.set),
            "values": list(patch.set.values()),
            "remove": list(patch.remove),
        },
    )
    [(keys, size)] = await cursor.fetchall()
    if patch.set and (keys > MAX_STATE_KEYS or size > MAX_STATE_BYTES):
        raise StateTooLarge(keys, size)


async def states_of(
    connection: AsyncConnection[TupleRow], sessions: Sequence[tuple[UUID, UUID]]
) -> dict[UUID, str]:
    """Return the states of sessions as JSON text, by the sessions' keys.

    Args:
        connection: any connection.
        sessions: key and log of each session.
    """
    return dict(await _by_key(connection, _READ, sessions))


async def state_sizes(
    connection: AsyncConnection[TupleRow], sessions: Sequence[tuple[UUID, UUID]]
) -> dict[UUID, int]:
    """Return the sizes of states, in bytes, by the sessions' keys."""
    return dict(await _by_key(connection, _SIZES, sessions))


async def _by_key(
    connection: AsyncConnection[TupleRow], statement: str, sessions: Sequence[tuple[UUID, UUID]]
) -> list[TupleRow]:
    keys, logs = [key for key, _ in sessions], [log for _, log in sessions]
    cursor = await connection.execute(statement.encode(), {"keys": keys, "logs": logs})
    return await cursor.fetchall()
