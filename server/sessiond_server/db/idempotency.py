"""Idempotency: a request_id is recorded in the transaction of the change that it makes.

The primary key of `requests` is (key, log, request_id). Appends and changes of what hangs on a
session are recorded under the session's own log, so that a re-created session starts clean. Changes
of the session itself are recorded under NO_LOG, since they may make or end the log. A creation is
recorded under a key made of the request_id (core.ids.creation_key): a repetition may not know the
session that it created.

Appends write their record in their own statement (messages/store/append.py) and fail on the primary
key. All other changes call `record_request`.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects.postgresql import insert

from sessiond_server.core.errors import request_id_reused
from sessiond_server.db import schema
from sessiond_server.db.pool import Database

NO_LOG = UUID(int=0)

R = schema.requests.c


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """What a request_id did the first time.

    Attributes:
        first_seq, last_seq: the messages that it stored; 0 if it stored none.
        result: the id that it made or changed: a session_id, task_id, turn_id or bookmark's name.
        created_at: when; for an append, created_at of its messages.
    """

    content_hash: bytes
    first_seq: int
    last_seq: int
    result: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """A request_id to be recorded.

    Attributes:
        content_hash: see `content_hash`.
        result: what a repetition returns (see RecordedRequest).
    """

    key: UUID
    request_id: str
    content_hash: bytes
    result: str = ""

    def check_repeats(self, first: RecordedRequest | None) -> None:
        """Checks that this request is a repetition of the first one.

        Raises:
            Fault: REQUEST_ID_REUSED if the first one had other content.
        """
        if first is None or first.content_hash != self.content_hash:
            raise request_id_reused(self.request_id)


class DuplicateRequest(Exception):
    """The request_id is recorded already; the transaction has changed nothing.

    Attributes:
        first: what the first request did; None if the statement cannot say (see `find_request`).
    """

    def __init__(self, first: RecordedRequest | None = None) -> None:
        super().__init__()
        self.first = first

    @property
    def result(self) -> str:
        """The result of the first request; "" if it is not known."""
        return self.first.result if self.first else ""


def content_hash(*content: Any) -> bytes:
    """Returns a hash of a request's content, of 16 bytes; a repetition has to match it."""
    encoded = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(encoded, digest_size=16).digest()


_FIND = select(
    R.content_hash, R.first_seq, R.last_seq, R.session_id.label("result"), R.created_at
).where(
    R.key == bindparam("key"), R.log == bindparam("log"), R.request_id == bindparam("request_id")
)


async def find_request(
    database: Database,
    key: UUID,
    log: UUID,
    request_id: str,
    *,
    on: AsyncConnection[TupleRow] | None = None,
) -> RecordedRequest | None:
    """Returns what a request_id did; None if it is not recorded."""
    parameters = {"key": key, "log": log, "request_id": request_id}
    rows = await database.rows(_FIND, parameters, on=on)
    return RecordedRequest(**rows[0]) if rows else None


async def record_request(
    database: Database,
    connection: AsyncConnection[TupleRow],
    record: RequestRecord,
    log: UUID = NO_LOG,
) -> None:
    """Records a request in the transaction of its change.

    Raises:
        DuplicateRequest: if it is recorded already.
    """
    statement = (
        insert(schema.requests)
        .values(
            key=record.key,
            log=log,
            request_id=record.request_id,
            content_hash=record.content_hash,
            session_id=record.result,
            created_at=func.clock_timestamp(),
        )
        .on_conflict_do_nothing()
        .returning(R.request_id)
    )
    if not await database.rows(statement, on=connection):
        raise DuplicateRequest(
            await find_request(database, record.key, log, record.request_id, on=connection)
        )
