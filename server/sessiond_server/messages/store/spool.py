"""Rows of an import that wait for their seqs: in memory while they are few, then in a temporary file.

An import takes no connection and no lock while its client sends; both are held only for the COPY at the end.
"""

import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, cast
from uuid import UUID

from sessiond_server.messages.store.rows import NO_TIME, Rows

MEMORY_BYTES = 8 * 1024 * 1024
PREFIX = "sessiond-import-"
READ_BYTES = 512 * 1024

_HEAD = struct.Struct(
    ">hhiiqi"
)  # role, format, content_bytes, tokens, time or NO_TIME, length of the body that follows

# The layout of a binary COPY: https://www.postgresql.org/docs/current/sql-copy.html ("Binary Format")
_COPY_START = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_COPY_END = struct.pack(">h", -1)
# Eleven columns, each with its length before it; the body's bytes stand between the two halves.
_COPY_ROW = struct.Struct(">hi16si16siqihihiiiqi")
_COPY_ROW_END = struct.Struct(">iiiqiq")


@dataclass(frozen=True, slots=True)
class Start:
    """Where the rows go: from first_seq on.

    created_us is the time of those that have none of their own; total_bytes and total_tokens are those of the session before them.
    """

    key: UUID
    log: UUID
    first_seq: int
    created_us: int
    total_bytes: int
    total_tokens: int


class Spool:
    """Rows in the order in which they came. Use as a context manager: leaving it removes them."""

    def __init__(self) -> None:
        # Binary, so bytes in and out; typeshed cannot say so.
        file = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES, prefix=PREFIX)  # noqa: SIM115
        self._file = cast(IO[bytes], file)

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def add(self, rows: Rows) -> None:
        """Append rows. Writes to a file's cache at worst, so it may run on the event loop."""
        parts: list[bytes] = []
        times = rows.times or [NO_TIME] * len(rows)
        columns = zip(
            rows.roles, rows.formats, rows.sizes, rows.tokens, times, rows.bodies, strict=True
        )
        for role, format_, size, tokens, time, body in columns:
            parts.append(_HEAD.pack(role, format_, size, tokens, time, len(body)))
            parts.append(body)
        self._file.write(b"".join(parts))

    def copy_data(self, start: Start) -> Iterator[bytes]:
        """The rows as pieces of a binary COPY into messages (key, log, seq, role, format, content_bytes, created_at, body, tokens,
        total_bytes, total_tokens).
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
                parts.append(
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
                        created_us if time == NO_TIME else time,
                        length,
                    )
                )
                parts.append(buffer[at + _HEAD.size : end])
                total_bytes += content_bytes
                total_tokens += abs(tokens)
                parts.append(_COPY_ROW_END.pack(4, tokens, 8, total_bytes, 8, total_tokens))
                seq += 1
                at = end
            buffer = buffer[at:]
            yield b"".join(parts)
        yield _COPY_END
