"""Types and statements that the queues' stores share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow, TupleRow

from sessiond_server.core.states import QueueMessageState
from sessiond_server.db.pool import Database

Connection = AsyncConnection[TupleRow]
# Ranges of seqs as (first, last), in ascending order.
Ranges = list[tuple[int, int]]

AGAIN, FAILED = QueueMessageState.AGAIN, QueueMessageState.FAILED

# Selects the row of a session in a queue. For the parameters, see row_key().
OF_ROW = "key = %(key)s AND log = %(log)s AND queue = %(queue)s"
# The keys and the logs of several sessions, as a table. For the parameters, see keys_of().
GIVEN = "unnest(%(keys)s::uuid[], %(logs)s::uuid[])"

_LOCK = f"""
SELECT done_seq, lease_id, lease_firsts, lease_lasts,
    COALESCE(cut_lease_id = lease_id, false) AS is_cut,
    lease_until > statement_timestamp() AS is_live
FROM processing WHERE {OF_ROW} AND project_id = %(project_id)s FOR NO KEY UPDATE"""

_DELETE = f"""
DELETE FROM processing p USING {GIVEN} AS given (key, log)
WHERE p.key = given.key AND p.log = given.log
    AND p.queue = %(queue)s AND p.project_id = %(project_id)s"""
_DELETE_EXCEPTIONS = f"""
DELETE FROM processing_exceptions e USING {GIVEN} AS given (key, log)
WHERE e.key = given.key AND e.log = given.log AND e.queue = %(queue)s"""


@dataclass(frozen=True, slots=True)
class LeaseRef:
    """Identifies a lease of a session's messages in a queue; key and log are the session's."""

    key: UUID
    log: UUID
    queue: str
    lease_id: UUID


@dataclass(frozen=True, slots=True)
class Leased:
    """A lease as returned to the worker.

    Attributes:
        ranges: ranges of the leased messages.
        until: time when the lease expires.
        attempt: number of consecutive leases of these messages, including this one.
    """

    ref: LeaseRef
    session_id: str
    ranges: Ranges
    until: datetime
    attempt: int


def row_key(key: UUID, log: UUID, project_id: UUID, queue: str) -> dict[str, object]:
    """Return the parameters of a statement about one row."""
    return {"key": key, "log": log, "project_id": project_id, "queue": queue}


def keys_of(rows: Sequence[DictRow]) -> dict[str, object]:
    """Return the parameters of a statement about several sessions."""
    return {"keys": [row["key"] for row in rows], "logs": [row["log"] for row in rows]}


def bounds(ranges: Ranges) -> dict[str, list[int]]:
    """Return ranges as parallel arrays, which is how the lease columns store them."""
    return {"firsts": [first for first, _ in ranges], "lasts": [last for _, last in ranges]}


def lease_ranges(row: DictRow) -> Ranges:
    """Return the ranges in a row's lease columns."""
    return list(zip(row["lease_firsts"], row["lease_lasts"], strict=True))


async def lock_row(
    database: Database, connection: Connection, row: Mapping[str, object]
) -> DictRow | None:
    """Lock and return a row (see row_key); None if it does not exist."""
    found = await database.rows(_LOCK, row, on=connection)
    return found[0] if found else None


async def delete_rows(
    database: Database, connection: Connection, parameters: Mapping[str, object]
) -> None:
    """Delete the rows of sessions (see keys_of) in a queue of a project, and their exceptions."""
    # The rows come first: an acknowledgement that has locked one of them may still add exceptions,
    # which the second statement then sees.
    await database.rows(_DELETE, parameters, on=connection)
    await database.rows(_DELETE_EXCEPTIONS, parameters, on=connection)
