"""Pages of messages, encoded: stored bodies are spliced into the response's bytes, and no Python object is made of a message.

A `GetMessagesResponse` begins with its `repeated Message messages = 1`. Each element is tag, length and the encoded message; an encoded
message is the fields that the server assigns, followed by the stored body. The encoding is specified at
https://protobuf.dev/programming-guides/encoding/. A property test compares the result with what the generated code writes.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

SECONDS_1970_TO_2000 = 946_684_800


@dataclass(frozen=True, slots=True)
class EncodedPage:
    """Messages as the first bytes of a GetMessagesResponse.

    first_seq and last_seq are those of the first and the last message in the page's direction.
    """

    encoded: bytes
    count: int
    first_seq: int
    last_seq: int


def varint(value: int) -> bytes:
    """A protobuf varint of a non-negative number."""
    return _VARINTS[value] if value < 16384 else _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# Lengths and the low halves of seqs come from tables: a call of varint() for each would cost more than the rest of the splice.
_VARINTS = [_varint(n) for n in range(1 << 14)]
_LOW_14 = [bytes((n & 0x7F | 0x80, n >> 7 | 0x80)) for n in range(1 << 14)]


def timestamp(created_us: int) -> bytes:
    """A google.protobuf.Timestamp of microseconds since 2000-01-01 UTC, encoded."""
    seconds, us = divmod(created_us, 1_000_000)
    encoded = b"\x08" + varint(seconds + SECONDS_1970_TO_2000)
    return encoded + b"\x10" + varint(us * 1000) if us else encoded


def assigned(seq: int, created_us: int) -> bytes:
    """The fields of a Message that the server assigns, encoded: seq = 1, create_time = 2."""
    stamp = timestamp(created_us)
    return b"\x08" + varint(seq) + b"\x12" + varint(len(stamp)) + stamp


def encode_page(rows: Sequence[tuple[Any, ...]]) -> EncodedPage:
    """Rows (seq, created_us, body) of HistoryStore.page, at least one."""
    parts: list[bytes] = []
    add = parts.append
    varints, low, high = _VARINTS, _LOW_14, b""
    high_of = -1
    stamp, stamp_of = b"", None
    for seq, created_us, body in rows:
        if created_us != stamp_of:
            encoded = timestamp(created_us)
            stamp, stamp_of = b"\x12" + varint(len(encoded)) + encoded, created_us
        if seq < 16384:
            head = b"\x08" + varints[seq] + stamp
        else:
            if seq >> 14 != high_of:
                high_of = seq >> 14
                high = varint(high_of)
            head = b"\x08" + low[seq & 0x3FFF] + high + stamp
        length = len(head) + len(body)
        add(b"\n")
        add(varints[length] if length < 16384 else varint(length))
        add(head)
        add(body)
    return EncodedPage(b"".join(parts), len(rows), rows[0][0], rows[-1][0])


def encode_basic_page(rows: Sequence[tuple[Any, ...]]) -> EncodedPage:
    """Rows (seq, created_us, role, format, content_bytes, tokens) of HistoryStore.page, at least one."""
    return encode_page(
        [
            (
                seq,
                created_us,
                # role = 3, format = 4 (left out where it is the zero value), content_bytes = 9
                b"\x18"
                + varint(role)
                + (b"\x20" + varint(format_) if format_ else b"")
                + b"\x48"
                + varint(size)
                + encoded_tokens(tokens),
            )
            for seq, created_us, role, format_, size, tokens in rows
        ]
    )


def encoded_tokens(tokens: int) -> bytes:
    """The fields token_count = 10 and tokens_estimated = 11 of a Message; negative tokens are an estimate."""
    encoded = _TOKENS.get(tokens)
    return _encoded_tokens(tokens) if encoded is None else encoded


def _encoded_tokens(tokens: int) -> bytes:
    if not tokens:
        return b""
    return b"\x50" + varint(tokens) if tokens > 0 else b"\x50" + varint(-tokens) + b"\x58\x01"


_TOKENS = {tokens: _encoded_tokens(tokens) for tokens in range(-2000, 2001)}


def response_tail(resume_token: str, through_seq: int) -> bytes:
    """The rest of a GetMessagesResponse: resume_token = 2, through_seq = 3."""
    token = resume_token.encode()
    return (
        b"\x12"
        + varint(len(token))
        + token
        + (b"\x18" + varint(through_seq) if through_seq else b"")
    )


@dataclass(frozen=True, slots=True)
class PageKey:
    """Which page: after `after` in ascending order, as far as max_rows and max_bytes carry."""

    key: UUID
    log: UUID
    after: int
    max_rows: int
    max_bytes: int | None


class PageCache:
    """The encoded pages that were read last, bounded by their bytes.

    It needs no invalidation: committed messages never change, and a page is only reached through a session row just read from the database,
    so what is deleted is on nobody's way. Only pages that are whole, and that later appends cannot extend, are put in.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pages: OrderedDict[PageKey, EncodedPage] = OrderedDict()
        self.bytes = 0

    def has_room_for(self, content_bytes: int) -> bool:
        """Whether messages of so much content fit at all."""
        return content_bytes * 1.1 <= self._max_bytes

    def get(self, key: PageKey) -> EncodedPage | None:
        page = self._pages.get(key)
        if page is not None:
            self._pages.move_to_end(key)
        return page

    def put(self, key: PageKey, page: EncodedPage) -> None:
        size = len(page.encoded)
        # One page does not push out all the others.
        if size * 8 > self._max_bytes or key in self._pages:
            return
        self._pages[key] = page
        self.bytes += size
        while self.bytes > self._max_bytes:
            _, old = self._pages.popitem(last=False)
            self.bytes -= len(old.encoded)
