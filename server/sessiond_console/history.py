"""Reads pieces of histories in bounded memory: a page of messages, or the matches of a search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sessiond import AsyncClient
from sessiond_console.rendering.messages import Budget, Shown, shown
from sessiond_console.site import FormError

PAGE_MESSAGES = 100
# A page ends early when the total size of its messages' contents reaches this.
PAGE_BYTES = 4 * 1024 * 1024
# Limits of one search. A search that reaches them stops, and offers to continue.
SEARCH_MESSAGES = 20_000
SEARCH_BYTES = 64 * 1024 * 1024
SEARCH_MATCHES = 50


@dataclass(frozen=True, slots=True)
class Span:
    """Which messages a page asks for: those after a seq, or those before one."""

    after: int | None = None
    """Read upwards from the message after this seq."""
    before: int | None = None
    """Read downwards from the message before this seq."""


@dataclass(slots=True)
class Piece:
    """Consecutive messages of a session, ascending, or the matches of a search."""

    shown: list[Shown] = field(default_factory=list)
    earlier: int | None = None
    """The `before` of the page of earlier messages. None = there are none."""
    later: int | None = None
    """The `after` of the page of later messages. None = there are none."""
    searched_to: int | None = None
    """The seq at which a search has stopped. None = it has read everything."""


def span_of(query: Mapping[str, Any], last_seq: int) -> Span:
    """Return the span of an address: ?before=, ?after= or ?at=SEQ; the newest messages by default.

    Raises:
        FormError: if a seq is not a number.
    """
    for name in ("before", "after", "at"):
        if value := query.get(name):
            seq = seq_of(name, value)
            if name == "before":
                return Span(before=seq)
            if name == "after":
                return Span(after=seq)
            # Show the message together with some messages before it.
            if seq + PAGE_MESSAGES // 2 <= last_seq:
                return Span(after=max(0, seq - PAGE_MESSAGES // 2 - 1))
    return Span()


def seq_of(name: str, value: str) -> int:
    """Return a seq of an address.

    Raises:
        FormError: if the value is not a number.
    """
    if not (value.isascii() and value.isdigit() and len(value) < 19):
        raise FormError(name, "must be the seq of a message: 0, 1, 2, ...")
    return int(value)


async def read_span(
    api: AsyncClient, session_id: str, span: Span, roles: Sequence[str] = ()
) -> Piece:
    """Return a page of messages: at most 100, and at most about 4 MiB of content.

    Raises:
        SessiondError: if reading failed.
    """
    options: dict[str, Any] = {"limit": PAGE_MESSAGES + 1, "roles": list(roles) or None}
    if span.after is not None:
        options |= {"after_seq": span.after}
    else:
        options |= {"order": "desc"}
        if span.before is not None:
            if span.before <= 1:
                return Piece(later=0)
            options |= {"through_seq": span.before - 1}
    budget = Budget()
    taken: list[Shown] = []
    size, has_more = 0, False
    async for message in api.sessions.get_messages(session_id, **options):
        if len(taken) == PAGE_MESSAGES or (taken and size + message.content_bytes > PAGE_BYTES):
            has_more = True
            break
        size += message.content_bytes
        taken.append(shown(message, budget))
    if span.after is None:
        taken.reverse()
    piece = Piece(taken)
    if taken:
        first, last = taken[0].message.seq, taken[-1].message.seq
        if has_more if span.after is None else first > 1:
            piece.earlier = first
        if has_more if span.after is not None else span.before is not None:
            piece.later = last
    elif span.after:
        piece.earlier = span.after + 1
    return piece


async def find_messages(
    api: AsyncClient, session_id: str, wanted: str, span: Span, roles: Sequence[str] = ()
) -> Piece:
    """Return the newest messages before span.before that contain a text, in upper or lower case.

    The stored JSON is searched as well as the message's text, so that tool calls are found. At most
    20,000 messages or 64 MiB are read.

    Raises:
        SessiondError: if reading failed.
    """
    options: dict[str, Any] = {"order": "desc", "roles": list(roles) or None}
    if span.before is not None:
        if span.before <= 1:
            return Piece()
        options["through_seq"] = span.before - 1
    needle = wanted.casefold()
    budget = Budget()
    piece = Piece()
    count = size = 0
    async for message in api.sessions.get_messages(session_id, **options):
        count += 1
        size += message.content_bytes
        text = message.json
        if needle in text.casefold() or needle in message.content.casefold():
            piece.shown.append(shown(message, budget))
        if (
            len(piece.shown) == SEARCH_MATCHES or count == SEARCH_MESSAGES or size > SEARCH_BYTES
        ) and message.seq > 1:
            piece.searched_to = message.seq
            break
    piece.shown.reverse()
    return piece
