"""The message_ids that callers gave to messages.

A message_id is unique among the current messages of a session. For messages in the session's own
log, the unique constraint of the table ensures this. Each append looks up
whether one of the new ids belongs to a message in the session's shared segments.
"""

from collections.abc import Iterator, Sequence
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from sessiond_server.db.int8s import Int8s
from sessiond_server.db.message_log import MESSAGE_LOG
from sessiond_server.messages.store.segments import UNNESTED

CONSTRAINT = "message_ids_key_log_message_id_key"

# The largest number of ids in one statement.
MAX_IDS = 10_000

INSERT = """
INSERT INTO message_ids (key, log, seq, message_id)
SELECT {key}, {log}, {before} + named.place + 1, named.message_id
FROM {source} unnest(%(id_places)b::bigint[], %(ids)b::text[]) AS named (place, message_id)"""
"""Inserts the ids of an append, whose messages follow the seq `before`."""

_INSERT = INSERT.format(key="%(key)s", log="%(log)s", before="%(before)s::bigint", source="")

# Each id is looked up once in the unique index for each segment, however the planner estimates the
# tables.
_FOUND = """
SELECT wanted.message_id, found.seq
FROM {segments}, unnest(%(ids)b::text[]) AS wanted (message_id), LATERAL (
    SELECT seq FROM message_ids AS named
    WHERE named.key = segment.key AND named.log = segment.log
        AND named.message_id = wanted.message_id
        AND named.seq + 0 >= segment.first_seq AND named.seq + 0 <= segment.last_seq
    LIMIT 1
) AS found"""

FOUND = _FOUND.format(segments=UNNESTED)
"""Selects those messages in some segments that have one of the ids."""

_SHARED = """(
    SELECT src_key AS key, src_log AS log, first_seq, last_seq FROM segments
    WHERE segments.key = %(key)s
) AS segment"""

IS_NEW = f"""
        AND (base_seq = 0 OR NOT EXISTS ({_FOUND.format(segments=_SHARED)}))"""
"""The condition that no message in the segments of the session has one of the ids."""

STORED = _FOUND.format(
    segments=f"""(
    SELECT key, {MESSAGE_LOG} AS log, base_seq + 1 AS first_seq, last_seq FROM sessions
    WHERE key = %(key)s AND project_id = %(project_id)s
    UNION ALL
    SELECT src_key, src_log, first_seq, last_seq FROM segments WHERE segments.key = %(key)s
) AS segment""",
)
"""Selects those of the ids that the session has, with their seqs."""


class MessageIdTaken(Exception):
    """The session has one of the message_ids already; nothing was stored.

    Attributes:
        stored: the ids that the session has already, with their seqs, if these are known.
    """

    def __init__(self, stored: dict[str, int] | None = None) -> None:
        super().__init__()
        self.stored = stored or {}


def pieces(ids: Sequence[tuple[int, str]]) -> Iterator[Sequence[tuple[int, str]]]:
    """Split the ids of an append into pieces, each of which one statement can take."""
    for start in range(0, len(ids), MAX_IDS):
        yield ids[start : start + MAX_IDS]


def columns(ids: Sequence[tuple[int, str]]) -> dict[str, object]:
    """Return (place in the append, from 0; message_id) pairs as parameters of INSERT."""
    return {
        "id_places": Int8s(place for place, _ in ids),
        "ids": [message_id for _, message_id in ids],
    }


async def add_ids(
    connection: AsyncConnection[TupleRow],
    key: UUID,
    log: UUID,
    first_seq: int,
    ids: Sequence[tuple[int, str]],
) -> None:
    """Record the message_ids of an append, whose messages were just stored on this connection.

    Args:
        connection: the connection of the append's transaction.
        key: key of the log.
        log: id of the log.
        first_seq: seq of the first message of the append.
        ids: (place in the append, from 0; message_id) for each message that has one.

    Raises:
        psycopg.errors.UniqueViolation: the log has one of them already.
    """
    for piece in pieces(ids):
        await connection.execute(
            _INSERT, {"key": key, "log": log, "before": first_seq - 1, **columns(piece)}
        )


async def check_ids(
    connection: AsyncConnection[TupleRow],
    key: UUID,
    project_id: UUID,
    ids: Sequence[tuple[int, str]],
) -> None:
    """Check that a session, whose row the transaction holds, has none of the ids.

    Raises:
        MessageIdTaken: it has one.
    """
    if ids and (stored := await stored_ids(connection, key, project_id, [name for _, name in ids])):
        raise MessageIdTaken(stored)


async def stored_ids(
    connection: AsyncConnection[TupleRow], key: UUID, project_id: UUID, ids: Sequence[str]
) -> dict[str, int]:
    """Return the seqs of the message_ids that the session has already, by message_id."""
    stored: dict[str, int] = {}
    for start in range(0, len(ids), MAX_IDS):
        parameters = {
            "key": key,
            "project_id": project_id,
            "ids": list(ids[start : start + MAX_IDS]),
        }
        cursor = await connection.execute(STORED, parameters)
        stored.update(await cursor.fetchall())
    return stored
