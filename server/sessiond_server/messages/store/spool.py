"""Spools of imported rows, which are kept in memory or in a temporary file until they get seqs.

An import holds no connection and no lock while its client is sending. It takes both only for the
COPY at the end.
"""

import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from tempfile import TemporaryFile, gettempdir
from typing import IO, ClassVar
from uuid import UUID

import structlog
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from sessiond.v1.message_pb2 import Message
from sessiond_server.core.errors import Fault
from sessiond_server.messages.store.rows import MESSAGE_COLUMNS, NO_TIME, Rows

MEMORY_BYTES = 8 * 1024 * 1024
"""Maximum bytes that one spool keeps in memory."""
TOTAL_MEMORY_BYTES = 256 * 1024 * 1024
"""Maximum bytes that all spools of this process together keep in memory."""
PREFIX = "sessiond-import-"
READ_BYTES = 512 * 1024

# role, format, content_bytes, tokens, time or NO_TIME, length of the body that follows
_HEAD = struct.Struct(">hhiiqi")

# Format of a binary COPY: https://www.postgresql.org/docs/current/sql-copy.html ("Binary Format")
_COPY_START = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_COPY_END = struct.pack(">h", -1)
# A row has eleven columns, each preceded by its length. The body, which has no fixed length, comes
# between these two structures.
_COPY_ROW = struct.Struct(">hi16si16siqihihiiiqi")
_COPY_ROW_END = struct.Struct(">iiiqiq")

_COPY = f"COPY messages ({MESSAGE_COLUMNS}) FROM STDIN (FORMAT BINARY)"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """Values that the rows of a spool get when they are stored.

    Attributes:
        key: key of the log.
        log: id of the log.
        first_seq: seq of the first row.
        created_us: create time of rows that have none, in microseconds since 2000-01-01 UTC.
        total_bytes: size of the session's content before these rows.
        total_tokens: number of the session's tokens before these rows.
    """

    key: UUID
    log: UUID
    first_seq: int
    created_us: int
    total_bytes: int
    total_tokens: int


class Spool:
    """Rows in the order of arrival.

    A spool is a context manager, which discards the rows at the end of its block.

    Attributes:
        size: size of all rows, in bytes.
    """

    total_in_memory: ClassVar[int] = 0

    def __init__(self) -> None:
        self.size = 0
        self._file: IO[bytes] = BytesIO()

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *exc: object) -> None:
        if isinstance(self._file, BytesIO):
            Spool.total_in_memory -= self.size
        # Closing flushes the file, which fails again if the disk is full.
        with suppress(OSError):
            self._file.close()

    def add(self, rows: Rows) -> None:
        """Append rows.

        At worst this writes to the operating system's page cache, so it may run on the event loop.

        Raises:
            Fault: OVERLOADED if the temporary disk is full.
        """
        parts: list[bytes] = []
        times = rows.times or [NO_TIME] * len(rows)
        columns = zip(
            rows.roles, rows.formats, rows.sizes, rows.tokens, times, rows.bodies, strict=True
        )
        for role, format_, size, tokens, time, body in columns:
            parts += (_HEAD.pack(role, format_, size, tokens, time, len(body)), body)
        try:
            self._write(b"".join(parts))
        except OSError as e:
            log.warning("spool_failed", directory=gettempdir(), error=str(e))
            raise Fault(
                "OVERLOADED",
                "this server cannot write the import to its temporary disk (TMPDIR): "
                f"{e.strerror}; nothing was stored, try again later",
                retry_after_s=5.0,
            ) from e

    def _write(self, encoded: bytes) -> None:
        self.size += len(encoded)
        if isinstance(self._file, BytesIO):
            Spool.total_in_memory += len(encoded)
            if self.size > MEMORY_BYTES or Spool.total_in_memory > TOTAL_MEMORY_BYTES:
                memory, self._file = self._file, TemporaryFile(prefix=PREFIX)  # noqa: SIM115
                Spool.total_in_memory -= self.size
                self._file.write(memory.getbuffer())
        self._file.write(encoded)
        # Flush now, so that a full disk is noticed here and not within the transaction that reads
        # the file.
        self._file.flush()

    async def messages(self) -> AsyncIterator[list[Message]]:
        """Yield the messages again, in pieces."""
        for piece in self._rows():
            yield [Message.FromString(body) for _, body in piece]

    def copy_data(self, start: Start) -> Iterator[bytes]:
        """Convert the rows to the data of a binary COPY into the messages table.

        Yields:
            Pieces of the COPY. Its columns are key, log, seq, role, format, content_bytes,
            created_at, body, tokens, total_bytes and total_tokens.
        """
        yield _COPY_START
        key_bytes, log_bytes, created_us = start.key.bytes, start.log.bytes, start.created_us
        seq, total_bytes, total_tokens = start.first_seq, start.total_bytes, start.total_tokens
        for piece in self._rows():
            parts: list[bytes] = []
            for (role, format_, content_bytes, tokens, time, length), body in piece:
                total_bytes += content_bytes
                total_tokens += abs(tokens)
                created = created_us if time == NO_TIME else time
                parts += (
                    _COPY_ROW.pack(
                        11,
                        16,
                        key_bytes,
                        16,
                        log_bytes,
                        8,
                        seq,
                        2,
                        role,
                        2,
                        format_,
                        4,
                        content_bytes,
                        8,
                        created,
                        length,
                    ),
                    body,
                    _COPY_ROW_END.pack(4, tokens, 8, total_bytes, 8, total_tokens),
                )
                seq += 1
            yield b"".join(parts)
        yield _COPY_END

    def _rows(self) -> Iterator[list[tuple[tuple[int, ...], bytes]]]:
        """Yield the rows again, in pieces: the head of each, and its encoded message."""
        self._file.seek(0)
        buffer = b""
        while chunk := self._file.read(READ_BYTES):
            buffer += chunk
            found: list[tuple[tuple[int, ...], bytes]] = []
            at = 0
            while at + _HEAD.size <= len(buffer):
                head = _HEAD.unpack_from(buffer, at)
                end = at + _HEAD.size + head[-1]
                if end > len(buffer):
                    break
                found.append((head, buffer[at + _HEAD.size : end]))
                at = end
            buffer = buffer[at:]
            yield found


async def copy_rows(connection: AsyncConnection[TupleRow], spool: Spool, start: Start) -> None:
    """Copy a spool's rows into the messages table."""
    async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for piece in spool.copy_data(start):
            await copy.write(piece)
