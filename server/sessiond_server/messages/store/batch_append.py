"""Appends to many sessions with one statement, in one round trip and one commit.

See joined_statements.py for its parts and for its locks.
"""

from collections.abc import Sequence
from uuid import UUID

import psycopg
from psycopg.types.numeric import Int8

from sessiond_server.db.idempotency import DuplicateRequest
from sessiond_server.db.int8s import Int8s
from sessiond_server.db.pool import Database
from sessiond_server.db.prepared import (
    INT8,
    INT8_ARRAY,
    TIMESTAMPTZ,
    PreparedStatement,
    Type,
)
from sessiond_server.messages.store.append import Append, Appended
from sessiond_server.messages.store.joined_statements import STORE, TYPES, bump, held, wanted
from sessiond_server.messages.store.rows import Rows

_WANTED = wanted({"w_expected": "%(expected)b::bigint[]"})
_HELD = held("wanted", expected="NULLIF(w_expected, -1)")
_BUMP = bump()

_RECORD = """
recorded AS (
    INSERT INTO requests (key, log, request_id, content_hash, first_seq, last_seq, epoch,
        created_at)
    SELECT key, log, r.request_id, r.content_hash, seq_before + r.first, seq_before + r.last,
        epoch, active_at
    FROM bump JOIN unnest(%(r_places)b::bigint[], %(r_ids)b::text[], %(r_hashes)b::bytea[],
            %(r_firsts)b::bigint[], %(r_lasts)b::bigint[])
        AS r (place, request_id, content_hash, first, last) USING (place)
)"""

_SESSION_COLUMNS = (
    "counts",
    "bytes",
    "largest",
    "first_words_places",
    "tokens",
    "estimated",
    "expected",
    "expected_epochs",
    "parent_floors",
)
_RECORD_COLUMNS = ("r_places", "r_firsts", "r_lasts")
_MESSAGE_COLUMNS = (
    "m_places",
    "m_numbers",
    "roles",
    "formats",
    "sizes",
    "row_tokens",
    "sum_bytes",
    "sum_tokens",
)

STATEMENTS = {
    recorded: f"WITH {_WANTED}, {_HELD}, {_BUMP}, {_RECORD + ',' if recorded else ''} {STORE} "
    "SELECT place, last_seq, active_at, epoch FROM bump"
    for recorded in (True, False)
}

_TYPES: dict[str, Type] = {
    **TYPES,
    **dict.fromkeys(("expected", "r_firsts", "r_lasts"), INT8_ARRAY),
}

_PREPARED = {
    recorded: PreparedStatement(
        "messages.batch_append.append", text, _TYPES, (INT8, INT8, TIMESTAMPTZ, INT8)
    )
    for recorded, text in STATEMENTS.items()
}

Series = Sequence[tuple[Append, Rows]]
"""Consecutive appends to one session."""


class BatchAppendStore:
    """Stores appends to many sessions together."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, many: Sequence[Series]) -> list[list[Appended] | None]:
        """Store several series of appends, each series to a different session.

        Each series is stored completely or not at all, independently of the others.

        Args:
            many: the series. In each series, only the first append may have an expected_last_seq
                or an expected_epoch, no two appends may have the same request_id, and no message
                may refer to assets.

        Returns:
            The results of each series; None if nothing of the series was stored, because a
            condition did not hold or another transaction had locked the session.

        Raises:
            DuplicateRequest: a request_id was already recorded. Nothing was stored at all.
        """
        parameters = parameters_of(many)
        stored: list[list[Appended] | None] = [None] * len(many)
        async with self._database.connection() as connection:
            try:
                found = await _PREPARED[bool(parameters["r_ids"])].run(connection, parameters)
            except psycopg.errors.UniqueViolation as e:
                raise DuplicateRequest from e
        for place, last_seq, created_us, epoch in found:
            stored[place - 1] = _results(many[place - 1], last_seq, created_us, epoch)
        return stored


def _results(series: Series, last_seq: int, created_us: int, epoch: int) -> list[Appended]:
    appended: list[Appended] = []
    for append, _ in reversed(series):
        appended.append(append.stored(last_seq, created_us, epoch))
        last_seq -= append.totals.count
    return appended[::-1]


def parameters_of(many: Sequence[Series]) -> dict[str, object]:
    """Return the statement's parameters, which form three tables, each as a list of columns.

    The tables are the sessions, the request records and the messages. Rows of the latter two
    contain the position of their session in the first table, from 1.
    """
    keys: list[UUID] = []
    projects: list[UUID] = []
    first_words: list[str] = []
    request_ids: list[str] = []
    hashes: list[bytes] = []
    bodies: list[bytes] = []
    sessions: list[tuple[int, ...]] = []
    records: list[tuple[int, ...]] = []
    messages: list[tuple[int, ...]] = []
    for place, series in enumerate(many, 1):
        count = content_bytes = tokens = estimated = largest = parent_floor = words_place = 0
        words = ""
        for append, rows in series:
            totals = append.totals
            if not words and totals.first_words:
                words, words_place = totals.first_words, count + (totals.first_words_place or 0)
            parent_floor = max(parent_floor, totals.parent_floor - count)
            if append.request_id:
                request_ids.append(append.request_id)
                hashes.append(append.content_hash)
                records.append((place, count + 1, count + totals.count))
            for role, message_format, size, message_tokens in zip(
                rows.roles, rows.formats, rows.sizes, rows.tokens, strict=True
            ):
                count += 1
                content_bytes += size
                tokens += abs(message_tokens)
                messages.append(
                    (
                        place,
                        count,
                        role,
                        message_format,
                        size,
                        message_tokens,
                        content_bytes,
                        tokens,
                    )
                )
            bodies += rows.bodies
            estimated += totals.estimated
            largest = max(largest, totals.largest_bytes)
        first = series[0][0]
        expected = -1 if first.expected_last_seq is None else first.expected_last_seq
        epoch = -1 if first.expected_epoch is None else first.expected_epoch
        keys.append(first.key)
        projects.append(first.project_id)
        first_words.append(words)
        sessions.append(
            (
                count,
                content_bytes,
                largest,
                words_place,
                tokens,
                estimated,
                expected,
                epoch,
                parent_floor,
            )
        )
    parameters: dict[str, object] = {
        "limit": Int8(len(keys)),
        "keys": keys,
        "projects": projects,
        "first_words": first_words,
        "r_ids": request_ids,
        "r_hashes": hashes,
        "bodies": bodies,
    }
    for names, table in (
        (_SESSION_COLUMNS, sessions),
        (_RECORD_COLUMNS, records),
        (_MESSAGE_COLUMNS, messages),
    ):
        parameters.update(zip(names, map(Int8s, zip(*table, strict=True)), strict=bool(table)))
    return parameters
