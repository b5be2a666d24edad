"""Hand-written wire encoding of messages, which assembles responses from stored bodies.

No Python object is created for a message. A `GetMessagesResponse` begins with the elements of its
field `repeated Message messages = 1`. Each element consists of a tag, a length and the encoded
message. An encoded message consists of the fields that the server assigns, followed by the stored
body. A property test compares the result with the output of the generated code. The encoding is
specified at https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sessiond_server.core.pg_time import EPOCH_S


@dataclass(frozen=True, slots=True)
class EncodedPage:
    """Messages as the first bytes of a GetMessagesResponse.

    Attributes:
        encoded: the encoded messages.
        count: number of messages on the page.
        first_seq: seq of the page's first message, in the order of the read.
        last_seq: seq of the page's last message, in the order of the read.
        is_open: whether the page ends only because the history ended there. If so, messages that
            are appended later belong on the page, too.
    """

    encoded: bytes
    count: int
    first_seq: int
    last_seq: int
    is_open: bool = False

    def extended(self, page: "EncodedPage") -> "EncodedPage":
        """Return one page with the messages of this page and of the next one."""
        return EncodedPage(
            self.encoded + page.encoded, self.count + page.count, self.first_seq, page.last_seq
        )

    @property
    def has_no_gap(self) -> bool:
        """Whether every seq between the first and the last message is on the page."""
        return abs(self.last_seq - self.first_seq) + 1 == self.count


def varint(value: int) -> bytes:
    """Encode a non-negative number as a protobuf varint."""
    return _VARINTS[value] if value < 16384 else _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# Lengths, and the low 14 bits of seqs, are looked up in tables. Calling varint() for each of them
# would take longer than the rest of the encoding.
_VARINTS = [_varint(n) for n in range(1 << 14)]
_LOW_14 = [bytes((n & 0x7F | 0x80, n >> 7 | 0x80)) for n in range(1 << 14)]


def timestamp(created_us: int) -> bytes:
    """Encode microseconds since 2000-01-01 UTC as a google.protobuf.Timestamp."""
    seconds, us = divmod(created_us, 1_000_000)
    encoded = b"\x08" + varint(seconds + EPOCH_S)
    return encoded + b"\x10" + varint(us * 1000) if us else encoded


def assigned_fields(seq: int, created_us: int) -> bytes:
    """Encode the fields of a Message that the server assigns: seq = 1, create_time = 2."""
    stamp = timestamp(created_us)
    return b"\x08" + varint(seq) + b"\x12" + varint(len(stamp)) + stamp


def encode_page(rows: Sequence[tuple[Any, ...]]) -> EncodedPage:
    """Encode one or more rows (seq, created_us, body) from HistoryStore.page."""
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
    """Encode one or more rows without a body from HistoryStore.page.

    Args:
        rows: (seq, created_us, role, format, content_bytes, tokens) of each message.
    """
    return encode_page(
        [
            (
                seq,
                created_us,
                # role = 3, format = 4 (omitted if it is the zero value), content_bytes = 9
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
    """Encode the fields token_count = 10 and tokens_estimated = 11 of a Message.

    Args:
        tokens: number of tokens; negative for an estimate.
    """
    encoded = _TOKENS.get(tokens)
    return _encoded_tokens(tokens) if encoded is None else encoded


def _encoded_tokens(tokens: int) -> bytes:
    if not tokens:
        return b""
    return b"\x50" + varint(tokens) if tokens > 0 else b"\x50" + varint(-tokens) + b"\x58\x01"


_TOKENS = {tokens: _encoded_tokens(tokens) for tokens in range(-2000, 2001)}


def response_tail(resume_token: str, through_seq: int, epoch: int) -> bytes:
    """Encode the rest of a GetMessagesResponse: resume_token = 2, through_seq = 3, epoch = 4."""
    token = resume_token.encode()
    return (
        b"\x12"
        + varint(len(token))
        + token
        + (b"\x18" + varint(through_seq) if through_seq else b"")
        + (b"\x20" + varint(epoch) if epoch else b"")
    )
