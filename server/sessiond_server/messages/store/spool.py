"""Spools of imported rows, which wait for their seqs in memory or in a temporary file.

An import holds no connection and no lock while its client sends. It takes both only for the COPY at
the end.
"""

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from tempfile import TemporaryFile, gettempdir
from typing import IO, ClassVar
from uuid import UUID

import structlog

from sessiond_server.core.errors import Fault
from sessiond_server.messages.store.rows import NO_TIME, Rows

MEMORY_BYTES = 8 * 1024 * 1024
"""The most that one spool keeps in memory."""
TOTAL_MEMORY_BYTES = 256 * 1024 * 1024
"""The most that all spools of this process keep in memory together."""
PREFIX = "sessiond-import-"
READ_BYTES = 512 * 1024

# role, format, content_bytes, tokens, time or NO_TIME, length of the body that follows
_HEAD = struct.Struct(">hhiiqi")

# The layout of a binary COPY: https://www.postgresql.org/docs/current/sql-copy.html ("Binary
# Format")
_COPY_START = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_COPY_END = struct.pack(">h", -1)
# Eleven columns, each after its length; the body's bytes stand between the two halves.
_COPY_ROW = struct.Struct(">hi16si16siqihihiiiqi")
_COPY_ROW_END = struct.Struct(">iiiqiq")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """The place for the rows of a spool.

    Attributes:
        key: of the log.
        log: likewise.
        first_seq: seq of the first row.
        created_us: time of rows without one, in microseconds since 2000-01-01 UTC.
        total_bytes: the session's content before these rows.
        total_tokens: the session's tokens before these rows.
    """

    key: UUID
    log: UUID
    first_seq: int
    created_us: int
    total_bytes: int
    total_tokens: int


class Spool:
    """Rows in the order of arrival. A context manager, whose end discards them.

    Attributes:
        size: bytes of all rows.
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
        # A file flushes as it closes, and fails on a full disk once more.
        with suppress(OSError):
            self._file.close()

    def add(self, rows: Rows) -> None:
        """Append rows. Writes to the page cache at worst, so it may run on the event loop.

        Raises:
            Fault: OVERLOADED if the temporary disk takes no more.
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
        # A full disk then shows here, and not within the transaction that reads the file.
        self._file.flush()

    def copy_data(self, start: Start) -> Iterator[bytes]:
        """Convert the rows to a binary COPY into messages.

        Yields:
            Pieces of the COPY, with the columns (key, log, seq, role, format, content_bytes,
            created_at, body, tokens, total_bytes, total_tokens).
        """
        yield _COPY_START
        key_bytes, log_bytes, created_us = start.key.bytes, start.log.bytes, start.created_us
        seq, total_bytes, total_tokens = start.first_seq, start.total_bytes, start.total_tokens
        self._file.seek(0)
        buffer = b""
        while chunk := self._file.read(READ_BYTES):
            buffer += chunk
            parts: list[bytes] = []
            at = 0
            while at + _HEAD.size <= len(buffer):
                role, format_, content_bytes, tokens, time, length = _HEAD.unpack_from(buffer, at)
                end = at + _HEAD.size + length
                if end > len(buffer):
                    break
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
                    buffer[at + _HEAD.size : end],
                    _COPY_ROW_END.pack(4, tokens, 8, total_bytes, 8, total_tokens),
                )
                seq += 1
                at = end
            buffer = buffer[at:]
            yield b"".join(parts)
        yield _COPY_END
