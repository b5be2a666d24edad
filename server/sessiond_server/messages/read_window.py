"""The part of a history that a read still has to return, and the queries of its pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sessiond_server.core import pagination
from sessiond_server.core.errors import invalid
from sessiond_server.messages.branches import path
from sessiond_server.messages.encoding import EncodedPage, response_tail
from sessiond_server.messages.store.history import LogHead, PageQuery
from sessiond_server.messages.store.segments import Segment, cut

# The first page is small, so that the first message arrives quickly. All others have the size with
# the best throughput. Each response costs the server and the client a fifth of a millisecond, so
# reading 5,000 messages in four responses takes up to a tenth less CPU time than in eight. A second
# response of 256 KiB reaches the client earlier, but costs it a tenth more CPU time, most of it in
# malloc, so that reads take no less time.
FIRST_ROWS, MAX_ROWS = 16, 4096
FIRST_BYTES, MAX_BYTES = 32 * 1024, 1024 * 1024
# Maximum number of messages that one query of a read by role scans across several segments. The
# query reads all of them before sorting.
MAX_SCAN = 16_384
# A page gets a limit of bytes only if its maximum number of messages, times the size of the
# session's largest message, exceeds this. Clients of other languages accept 4 MiB by default.
SAFE_BYTES = 4 * MAX_BYTES


@dataclass(frozen=True, slots=True)
class Reading:
    """A request for messages with after_seq < seq <= through_seq.

    Attributes:
        session_id: the session.
        after_seq: seq after which the read begins; 0 = at the first message.
        through_seq: seq of the last message to read; 0 = the newest message.
        limit: maximum number of messages; 0 = all.
        descending: whether to return the newest message first.
        roles: roles of the messages to return; empty = all roles.
        basic: whether to leave out the content.
        as_parts: whether to return the content of all formats as typed parts.
        resume_token: token of an earlier batch, after which to continue. The other fields must have
            the same values as in the earlier request.
        after_bookmark: name of the bookmark after which the read begins, instead of after_seq.
        after_message_id: message_id of the message after which the read begins, instead of
            after_seq.
        expected_epoch: the epoch that the session must have; None = any.
        branch_of: seq of the last message of the branch to read; 0 = all branches.
        since_epoch: the epoch of the page that this read continues; None = it continues no page.
            Rewinds since that epoch must have kept the message at after_seq, or the one at
            through_seq if the read is descending.
        incarnation: an incarnation or an etag of the session to read; "" = any session with the id.
    """

    session_id: str
    after_seq: int = 0
    through_seq: int = 0
    limit: int = 0
    descending: bool = False
    roles: tuple[int, ...] = ()
    basic: bool = False
    as_parts: bool = False
    resume_token: str = ""
    after_bookmark: str | None = None
    after_message_id: str | None = None
    expected_epoch: int | None = None
    branch_of: int = 0
    since_epoch: int | None = None
    incarnation: str = ""


class ReadWindow:
    """The remaining part of a read: after < seq <= through, at most `left` messages (0 = all).

    The window also determines the size of the next page.

    Attributes:
        epoch: the session's epoch when the read began.
        end: seq at which the read ends; it was fixed when the read began.
        is_done: whether no messages are left to read.
    """

    def __init__(self, reading: Reading, head: LogHead, links: Mapping[int, int]) -> None:
        """Begin a read, or continue one after its resume_token.

        Args:
            reading: the request.
            head: the session's head.
            links: by seq, the parent_seq of each message that does not follow the previous message;
                only needed to read a branch.
        """
        self.epoch = head.epoch
        self._reading = reading
        self._links = links
        self._all = head.segments
        self._segments = self._on_branch(head.segments)
        self._queried: Sequence[Segment] = ()
        # The fingerprint makes a resume_token valid only for this read.
        self._fingerprint = pagination.fingerprint(
            head.log,
            reading.through_seq,
            reading.limit,
            reading.descending,
            reading.roles,
            *((reading.basic, "parts") if reading.as_parts else (reading.basic,)),
            *((reading.branch_of,) if reading.branch_of else ()),
        )
        self._scanned = 0
        self._largest_bytes = head.largest_bytes
        if reading.resume_token:
            self._after, through, self._left, self.end, self.epoch = pagination.decode_token(
                reading.resume_token,
                self._fingerprint,
                *[pagination.seq] * 5,
                field="resume_token",
                reason="INVALID_RESUME_TOKEN",
                defaults=(0,),
            )
            if self.epoch > head.epoch:
                raise invalid(
                    "resume_token",
                    "is not a token of this session",
                    reason="INVALID_RESUME_TOKEN",
                )
            self._through = min(through, head.last_seq)
        else:
            last_seq = reading.branch_of or head.last_seq
            self.end = min(reading.through_seq or last_seq, last_seq)
            self._after, self._through, self._left = reading.after_seq, self.end, reading.limit
        self._rows, self._bytes = FIRST_ROWS, FIRST_BYTES
        self.is_done = self._is_empty()

    def _on_branch(self, segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
        if not self._reading.branch_of:
            return segments
        return path(segments, self._links, self._reading.branch_of)

    def _is_empty(self) -> bool:
        return self._after >= self._through or not cut(self._segments, self._after, self._through)

    @property
    def is_shared(self) -> bool:
        """Whether the messages are in several logs."""
        return len(self._segments) > 1

    def move_to(self, segments: tuple[Segment, ...], kept: int) -> bool:
        """Switch to new segments; return whether they differ for the remaining messages.

        Args:
            segments: the session's current segments.
            kept: seq of the last message that no rewind has removed since the read began. The
                segments of later messages are not switched.
        """
        before = cut(self._segments, self._after, self._through)
        removed = cut(self._all, kept, self.end)
        self._all = (*cut(segments, 0, kept), *removed)
        self._segments = self._on_branch(self._all)
        return cut(self._segments, self._after, self._through) != before

    def query(self) -> PageQuery:
        """Return the query for the next page."""
        rows = min(self._rows, self._left) if self._left else self._rows
        # The next page contains the next `count` messages that are left, or fewer. In a read by
        # role, `count` is the number of messages that one query may scan.
        count = (
            rows
            if not self._reading.roles
            else MAX_SCAN
            if self.is_shared
            else self._through - self._after
        )
        segments = _taken(
            cut(self._segments, self._after, self._through), count, self._reading.descending
        )
        self._queried = segments
        self._scanned = (
            segments[0].first_seq - 1 if self._reading.descending else segments[-1].last_seq
        )
        return PageQuery(
            segments=tuple(segments),
            max_rows=rows,
            max_bytes=self._bytes if rows * self._largest_bytes > SAFE_BYTES else None,
            descending=self._reading.descending,
            roles=self._reading.roles,
            basic=self._reading.basic,
            as_parts=self._reading.as_parts,
        )

    def is_complete(self, page: EncodedPage | None) -> bool:
        """Whether no message is missing before or on the page; always true for a read by role."""
        if self._reading.roles:
            return True
        if page is None:
            return False
        # All messages of the page are among the requested ones, in order. So none is missing if the
        # first and the last one have the expected positions.
        expected = _taken(self._queried, page.count, self._reading.descending)
        first, last = expected[0].first_seq, expected[-1].last_seq
        if self._reading.descending:
            first, last = last, first
        return (page.first_seq, page.last_seq) == (first, last)

    def advance(self, page: EncodedPage | None) -> None:
        """Advance past a page. `page` is None if no message in the scanned range matched."""
        if self._reading.descending:
            self._through = page.last_seq - 1 if page else self._scanned
        else:
            self._after = page.last_seq if page else self._scanned
        if page and self._left:
            self._left -= page.count
            if not self._left:
                self._after = self._through
        self.is_done = self._is_empty()
        if page:
            self._bytes = MAX_BYTES
            # The database reads every candidate row, so request only a few more than will fit.
            fitting = MAX_BYTES * page.count // len(page.encoded)
            # A page without a limit of bytes is faster, even if it has only half as many messages.
            safe = SAFE_BYTES // max(self._largest_bytes, 1)
            if fitting // 2 <= safe < fitting:
                fitting = safe
            self._rows = max(FIRST_ROWS, min(fitting, MAX_ROWS))

    def tail(self) -> bytes:
        """Encode the end of a response: the resume_token, and the seq at which the read ends."""
        place = (self._after, self._through, self._left, self.end)
        epoch = (self.epoch,) if self.epoch else ()
        token = pagination.encode_token(self._fingerprint, *place, *epoch)
        return response_tail(token, self.end, self.epoch)


def _taken(segments: Sequence[Segment], count: int, descending: bool) -> list[Segment]:
    """Return the parts of segments with the first `count` messages, or the last if descending."""
    taken: list[Segment] = []
    for segment in reversed(segments) if descending else segments:
        if count <= 0:
            break
        size = min(len(segment), count)
        count -= size
        taken.append(
            replace(segment, first_seq=segment.last_seq - size + 1)
            if descending
            else replace(segment, last_seq=segment.first_seq + size - 1)
        )
    return taken[::-1] if descending else taken
