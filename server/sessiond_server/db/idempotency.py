"""Idempotency: the transaction of a change also records the change's request_id.

The primary key of `requests` is (key, log, request_id). Appends and changes to a session's tasks,
bookmarks and turns are recorded under the session's own log, so that a re-created session starts
clean. Changes to the session itself are recorded under NO_LOG. Some of these changes create or
delete the log. The others, such as Destroy, must not be applied to a re-created session when a
client repeats them. Creations and deletions by filter do not name a session, so they are recorded
under a key made from the request_id (core.ids.creation_key, deletion_key).

An append writes its record in its own statement (messages/store/append.py), which fails on the
primary key if the request_id is a duplicate. All other changes call `record_request`.
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from sessiond_server.core.errors import request_id_reused
from sessiond_server.db.pool import Database

NO_LOG = UUID(int=0)


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """The first request with a request_id.

    Attributes:
        first_seq, last_seq: the messages that the request stored; 0 if it stored none.
        result: id of the object that the request created or changed: a session_id, a task_id, a
            turn_id, or the name of a bookmark.
        created_at: time of the request; for an append, created_at of its messages.
        epoch: epoch of the session, to which these seqs belong.
    """

    content_hash: bytes
    first_seq: int
    last_seq: int
    result: str
    created_at: datetime
    epoch: int


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """A request_id to be recorded.

    Attributes:
        content_hash: hash of the request's content, computed by the function `content_hash`.
        result: the result that a repetition of the request returns; see RecordedRequest.
    """

    key: UUID
    request_id: str
    content_hash: bytes
    result: str = ""

    def check_repeats(self, first: RecordedRequest | None) -> None:
        """Check that this request repeats the first one.

        Raises:
            Fault: REQUEST_ID_REUSED if the first request had other content.
        """
        if first is None or first.content_hash != self.content_hash:
            raise request_id_reused(self.request_id)


class DuplicateRequest(Exception):
    """The request_id was already recorded; the transaction has changed nothing.

    Attributes:
        first: the first request; None if the statement did not return it (see `find_request`).
    """

    def __init__(self, first: RecordedRequest | None = None) -> None:
        super().__init__()
        self.first = first

    @property
    def result(self) -> str:
        """Result of the first request; "" if the first request is not known."""
        return self.first.result if self.first else ""


def content_hash(*content: Any) -> bytes:
    """Return a 16-byte hash of a request's content, to recognise repetitions."""
    encoded = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(encoded, digest_size=16).digest()


_FIND = """
SELECT content_hash, first_seq, last_seq, session_id AS result, created_at, epoch
FROM requests WHERE key = %(key)s AND log = %(log)s AND request_id = %(request_id)s"""

_RECORD = """
INSERT INTO requests (key, log, request_id, content_hash, session_id, created_at)
VALUES (%(key)s, %(log)s, %(request_id)s, %(content_hash)s, %(result)s, clock_timestamp())
ON CONFLICT DO NOTHING RETURNING request_id"""


async def find_request(
    database: Database,
    key: UUID,
    log: UUID,
    request_id: str,
    *,
    on: AsyncConnection[TupleRow] | None = None,
) -> RecordedRequest | None:
    """Return the first request with a request_id; None if there is none."""
    parameters = {"key": key, "log": log, "request_id": request_id}
    rows = await database.rows(_FIND, parameters, on=on)
    return RecordedRequest(**rows[0]) if rows else None


async def record_request(
    database: Database,
    connection: AsyncConnection[TupleRow],
    record: RequestRecord,
    log: UUID = NO_LOG,
) -> None:
    """Record a request in the transaction of its change.

    Raises:
        DuplicateRequest: if the request_id was already recorded with the same content.
        Fault: REQUEST_ID_REUSED if the request_id was recorded with other content.
    """
    parameters = {
        "key": record.key,
        "log": log,
        "request_id": record.request_id,
        "content_hash": record.content_hash,
        "result": record.result,
    }
    if not await database.rows(_RECORD, parameters, on=connection):
        first = await find_request(database, record.key, log, record.request_id, on=connection)
        record.check_repeats(first)
        raise DuplicateRequest(first)


_COMPLETE = """
UPDATE requests SET session_id = %(result)s
WHERE key = %(key)s AND log = %(log)s AND request_id = %(request_id)s"""
_FORGET = """
DELETE FROM requests WHERE key = %(key)s AND log = %(log)s AND request_id = %(request_id)s"""


async def complete_request(
    database: Database, connection: AsyncConnection[TupleRow], record: RequestRecord, log: UUID
) -> None:
    """Add the result to a request that was recorded earlier in the same transaction."""
    named = {"key": record.key, "log": log, "request_id": record.request_id}
    await database.rows(_COMPLETE, named | {"result": record.result}, on=connection)


async def forget_request(
    database: Database, connection: AsyncConnection[TupleRow], record: RequestRecord, log: UUID
) -> None:
    """Remove the record of a request that changed nothing; the same transaction recorded it."""
    named = {"key": record.key, "log": log, "request_id": record.request_id}
    await database.rows(_FORGET, named, on=connection)


@asynccontextmanager
async def recorded_transaction(
    database: Database, record: RequestRecord | None
) -> AsyncIterator[AsyncConnection[TupleRow]]:
    """Lend a connection in a transaction that starts by recording the request under NO_LOG.

    Raises:
        DuplicateRequest: if the request_id was already recorded with the same content.
        Fault: REQUEST_ID_REUSED if the request_id was recorded with other content.
    """
    async with database.transaction() as connection:
        if record:
            await record_request(database, connection, record)
        yield connection
