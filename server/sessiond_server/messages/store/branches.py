"""Links of messages to their parents, for the messages whose parent is not the previous message."""

from collections.abc import Sequence
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from sessiond_server.db.int8s import Int8s
from sessiond_server.messages.store.segments import UNNESTED

_LINK = """
WITH linked AS (
    INSERT INTO parent_links (key, log, seq, parent_seq)
    SELECT %(key)s, %(log)s, seq, parent_seq
    FROM unnest(%(seqs)b::bigint[], %(parents)b::bigint[]) AS given (seq, parent_seq)
    WHERE parent_seq <> seq - 1
    RETURNING 1
)
UPDATE sessions SET is_branched = true
WHERE key = %(key)s AND EXISTS (SELECT FROM linked)"""

PARENT_LINKS = f"""
SELECT links.seq, links.parent_seq FROM {UNNESTED}, LATERAL (
    SELECT seq, parent_seq FROM parent_links
    WHERE parent_links.key = segment.key AND parent_links.log = segment.log
        AND seq >= segment.first_seq AND seq <= segment.last_seq
) AS links"""
"""Selects the links in some segments."""


async def link_parents(
    connection: AsyncConnection[TupleRow],
    key: UUID,
    log: UUID,
    first_seq: int,
    parents: Sequence[tuple[int, int]],
) -> None:
    """Record the parents of the messages of an append.

    Args:
        connection: the connection whose transaction has just stored the messages.
        key: key of the session and of the log.
        log: id of the log of the messages.
        first_seq: seq of the first message of the append.
        parents: (place in the append, from 0; parent_seq) for each message that names one.
    """
    parameters = {
        "key": key,
        "log": log,
        "seqs": Int8s(first_seq + place for place, _ in parents),
        "parents": Int8s(parent_seq for _, parent_seq in parents),
    }
    await connection.execute(_LINK, parameters)
