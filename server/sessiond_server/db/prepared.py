"""Statements of the hot paths: each connection prepares them once, and they need no cursor.

A cursor of psycopg finds out for each value how to encode it, and for each execution whether the
statement is prepared. That takes longer than the rest of an append in Python. These statements
declare all types, pass encoded values to libpq, and wait for the result with a future and nothing
else. psycopg cancels the statement if the task is cancelled.
"""

import asyncio
import json
import re
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from operator import attrgetter, itemgetter
from typing import Any, cast
from uuid import UUID
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection
from psycopg.abc import PQGen
from psycopg.generators import execute
from psycopg.pq import ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGresult

from sessiond_server.db import cursors
from sessiond_server.db.int8s import int8_array
from sessiond_server.telemetry import metrics


@dataclass(frozen=True, slots=True)
class Type:
    """A type of PostgreSQL, in the binary format.

    Attributes:
        oid: number of the type.
        encode: encodes a value other than None.
        decode: decodes a value other than NULL.
    """

    oid: int
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any] = bytes


_ARRAY_HEAD = struct.Struct(">iiiii")
_ITEM_SIZE = struct.Struct(">i")


def _array(item: Type) -> Callable[[Sequence[Any]], bytes]:
    """Return a function that encodes one-dimensional arrays without NULLs."""
    encode, oid, empty = item.encode, item.oid, struct.pack(">iii", 0, 0, item.oid)

    def encoded(values: Sequence[Any]) -> bytes:
        if not values:
            return empty
        pieces = [_ARRAY_HEAD.pack(1, 0, oid, len(values), 1)]
        for value in map(encode, values):
            pieces += (_ITEM_SIZE.pack(len(value)), value)
        return b"".join(pieces)

    return encoded


def _items(decode: Callable[[bytes], Any]) -> Callable[[bytes], list[Any]]:
    """Return a function that decodes one-dimensional arrays without NULLs."""

    def decoded(encoded: bytes) -> list[Any]:
        place, values = _ARRAY_HEAD.size, list[Any]()
        while place < len(encoded):  # an empty array is shorter than _ARRAY_HEAD
            start = place + _ITEM_SIZE.size
            place = start + _ITEM_SIZE.unpack_from(encoded, place)[0]
            values.append(decode(encoded[start:place]))
        return values

    return decoded


def _int8_of(encoded: bytes) -> int:
    return int.from_bytes(encoded, "big", signed=True)


INT8 = Type(20, struct.Struct(">q").pack, _int8_of)
INT8_ARRAY = Type(1016, int8_array, _items(_int8_of))
TEXT = Type(25, str.encode, bytes.decode)
TEXT_ARRAY = Type(1009, _array(TEXT))
BYTEA = Type(17, bytes)
BYTEA_ARRAY = Type(1001, _array(BYTEA))
UUID_KEY = Type(2950, attrgetter("bytes"), lambda encoded: UUID(bytes=encoded))
UUID_KEY_ARRAY = Type(2951, _array(UUID_KEY), _items(UUID_KEY.decode))
BOOL = Type(16, struct.Struct(">?").pack, lambda encoded: encoded != b"\0")
FLOAT8 = Type(701, struct.Struct(">d").pack)
# JSON text, preceded by the version number of jsonb's format.
JSONB = Type(3802, lambda text: b"\1" + text.encode(), lambda encoded: json.loads(encoded[1:]))
# Microseconds since 2000-01-01 UTC.
TIMESTAMPTZ = Type(1184, INT8.encode, _int8_of)

_PLACEHOLDER = re.compile(r"%\((\w+)\)[sb]")
_numbers = count(1)


class PreparedStatement:
    """A constant statement with `%(name)s` placeholders."""

    def __init__(
        self, name: str, text: str, types: Mapping[str, Type], columns: Sequence[Type]
    ) -> None:
        """Declare a statement.

        Args:
            name: name in metrics, traces and the log. Several statements may have the same name.
            text: the statement.
            types: the types of its placeholders, by name. Other names are ignored.
            columns: the types of its result's columns.
        """
        self._name = name
        names = list(dict.fromkeys(_PLACEHOLDER.findall(text)))
        numbers = {placeholder: f"${number}" for number, placeholder in enumerate(names, 1)}
        self._text = _PLACEHOLDER.sub(lambda found: numbers[found[1]], text).encode()
        self._values_of = _values_getter(names)
        self._encoders = [types[placeholder].encode for placeholder in names]
        self._types = [types[placeholder].oid for placeholder in names]
        self._formats = [Format.BINARY] * len(names)
        self._decoders = [column.decode for column in columns]
        # For each connection: the name under which it has prepared the statement.
        self._prepared: WeakKeyDictionary[AsyncConnection[Any], bytes] = WeakKeyDictionary()
        self._tally: metrics.Tally | None = None

    async def run(
        self, connection: AsyncConnection[Any], values: Mapping[str, Any]
    ) -> list[tuple[Any, ...]]:
        """Run the statement, and return its rows.

        The connection must be used by one task at a time, as those of the pool are.

        Args:
            connection: the connection. Nothing is prepared if its prepare_threshold is None.
            values: the value of each placeholder, by name. Other names are ignored.

        Raises:
            psycopg.Error: if the statement failed.
        """
        began, failure = time.perf_counter(), None
        encoded = [
            None if value is None else encode(value)
            for value, encode in zip(self._values_of(values), self._encoders, strict=True)
        ]
        try:
            try:
                result = await self._result(connection, encoded)
            except psycopg.Error as error:
                if not cursors.is_outdated(error):
                    raise
                # The failed statement has changed nothing.
                self._prepared.pop(connection, None)
                if connection.pgconn.transaction_status != TransactionStatus.IDLE:
                    raise
                result = await self._result(connection, encoded)
            return self._rows(result)
        except BaseException as error:
            failure = error
            raise
        finally:
            if self._tally is None:
                self._tally = metrics.statement(self._name)
            cursors.measured(self._name, self._tally, time.perf_counter() - began, failure)
            # The error refers to this frame, so break the reference cycle.
            del failure

    async def _result(
        self, connection: AsyncConnection[Any], encoded: Sequence[bytes | None]
    ) -> PGresult:
        pgconn = connection.pgconn
        if name := self._prepared.get(connection):
            pgconn.send_query_prepared(name, encoded, self._formats, Format.BINARY)
        elif connection.prepare_threshold is None:
            pgconn.send_query_params(self._text, encoded, self._types, self._formats, Format.BINARY)
        else:
            # Each attempt uses a new name, because a cancelled caller does not learn whether
            # PostgreSQL has prepared the statement.
            name = b"sessiond_%d" % next(_numbers)
            pgconn.send_prepare(name, self._text, self._types)
            _check((await connection.wait(execute(pgconn)))[-1])
            self._prepared[connection] = name
            pgconn.send_query_prepared(name, encoded, self._formats, Format.BINARY)
        return _check(await _result_of(connection))

    def _rows(self, result: PGresult) -> list[tuple[Any, ...]]:
        get = result.get_value
        return [
            tuple(
                None if (value := get(row, column)) is None else decode(value)
                for column, decode in enumerate(self._decoders)
            )
            for row in range(result.ntuples)
        ]


def _values_getter(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    """Return a function that returns the values with these names."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: [values[name] for name in names]


async def _result_of(connection: AsyncConnection[Any]) -> PGresult:
    """Wait for the result of the statement that was passed to libpq last.

    psycopg's own wait needs two coroutines, a generator, two closures and a timer. All of them
    together take as long as the rest of this module.

    Raises:
        psycopg.Error: if the connection broke.
        CancelledError: if the task is cancelled. By then, the statement is cancelled and has ended.
    """
    pgconn = connection.pgconn
    if pgconn.flush():  # the socket is full
        results: Sequence[PGresult] = await connection.wait(execute(pgconn))
        return results[-1]
    result: PGresult | None = None
    try:
        while True:
            while pgconn.is_busy():
                await _readable(pgconn.socket)
                pgconn.consume_input()
            following = pgconn.get_result()
            if following is None:
                break
            result = following
    except asyncio.CancelledError:
        await connection.wait(cast(PQGen[Any], _Interrupted(execute(pgconn))))
        raise
    except psycopg.Error:
        # Before PostgreSQL closes a connection, it sends a result that says why.
        if result is None or result.status != ExecStatus.FATAL_ERROR:
            raise
    assert result is not None  # noqa: S101 - each statement has a result
    return result


async def _readable(socket: int) -> None:
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    loop.add_reader(socket, _wake, readable)
    try:
        await readable
    finally:
        loop.remove_reader(socket)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


class _Interrupted:
    """A generator of psycopg whose wait has been interrupted.

    Its first step raises CancelledError. AsyncConnection.wait() then cancels the statement, and
    runs the generator to its end.
    """

    def __init__(self, generator: PQGen[Any]) -> None:
        self._generator = generator
        self._has_begun = False

    def __next__(self) -> Any:
        if not self._has_begun:
            self._has_begun = True
            raise asyncio.CancelledError
        return next(self._generator)

    def send(self, ready: Any) -> Any:
        return self._generator.send(ready)


def _check(result: PGresult) -> PGresult:
    """Return the result of a statement.

    Raises:
        psycopg.Error: if the statement failed.
    """
    if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
        raise psycopg.errors.error_from_result(result)
    return result
