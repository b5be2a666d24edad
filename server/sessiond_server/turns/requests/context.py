"""The context of a model call: the branch that a turn continues, within the config's limits."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any
from uuid import UUID

from sessiond.v1.message_pb2 import Message
from sessiond_server.core.errors import invalid, session_not_found
from sessiond_server.messages.branches import newest_branch
from sessiond_server.messages.store.history import HistoryStore, LogHead, PageQuery
from sessiond_server.messages.store.segments import Segment, cut
from sessiond_server.sessions.settings import model_options_of
from sessiond_server.turns.errors import history_too_large
from sessiond_server.turns.requests.window import (
    INSTRUCTION_ROLES,
    TaskSearch,
    WindowLimits,
    WindowUse,
    fitting,
    has_open_calls,
    is_instruction,
    window_size,
)
from sessiond_server.turns.store.marks import Mark, MarkStore

PAGE_ROWS, PAGE_BYTES = 1024, 4 * 1024 * 1024
# Number of rows to read beyond the expected number: a window may have to begin earlier (not to
# separate calls from their results), and instructions do not count.
SPARE_ROWS = 32
# Maximum number of messages that are searched for calls without results.
MAX_OPEN_ROWS = 256
# Maximum number of messages whose sizes are added up before a window is read.
MAX_ADDED_UP_ROWS = 10_000
# Number of attempts to read a history whose messages are deleted or moved during the read.
ATTEMPTS = 5
DEFAULT_KEEP_FRACTION = 0.5


@dataclass(frozen=True, slots=True)
class Policy:
    """The part of a session's config that turns use.

    Attributes:
        system_prompt: instructions that precede the history; "" = none.
        model_options: fields of the provider's request.
        limits: the limits of the window; None = the model receives the whole history.
    """

    system_prompt: str = ""
    model_options: dict[str, Any] = field(default_factory=dict)
    limits: WindowLimits | None = None


def policy_of(config: dict[str, Any]) -> Policy:
    """Return the policy of a session's config.

    Raises:
        Fault: INVALID_FIELD if a key has a value of the wrong type.
    """
    system_prompt = config.get("system_prompt", "")
    if not isinstance(system_prompt, str):
        raise invalid("session.config.system_prompt", "is not a string")
    model_options = model_options_of(config, "session.config")
    context = config.get("context", {})
    if not isinstance(context, dict):
        raise invalid("session.config.context", "is not an object")
    limits: list[int] = []
    for name in ("max_messages", "max_tokens"):
        limit = context.get(name, 0)
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
            raise invalid(
                f"session.config.context.{name}",
                "must be a whole number of at least 0; 0 = no limit",
            )
        limits.append(limit)
    fraction = context.get("keep_fraction", DEFAULT_KEEP_FRACTION)
    if not isinstance(fraction, int | float) or isinstance(fraction, bool) or not 0 < fraction <= 1:
        raise invalid(
            "session.config.context.keep_fraction", "must be a number above 0 and at most 1"
        )
    window = WindowLimits(limits[0], limits[1], fraction) if any(limits) else None
    return Policy(system_prompt, model_options, window)


@dataclass(frozen=True, slots=True)
class ContextRequest:
    """The session and the turn whose context to read.

    Attributes:
        key: the session's key.
        project_id: the session's project.
        session_id: the session's id.
        log: distinguishes the session from earlier and later ones with the same id.
        through_seq: the message after which the branch continues; 0 = the newest message.
        is_end: whether the branch ends with that message, even if other messages continue it.
    """

    key: UUID
    project_id: UUID
    session_id: str
    log: UUID
    through_seq: int
    is_end: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """The messages of a model's input.

    Attributes:
        messages: the messages, oldest first.
        last_seq: the message that the model answers; 0 if there is none.
        window: the use of the window's limits; None = there is no window.
    """

    messages: Sequence[Message]
    last_seq: int
    window: WindowUse | None = None


class Contexts:
    """Reads the contexts of turns.

    Args:
        max_bytes: maximum size of the content of a context, in bytes.
    """

    def __init__(self, history: HistoryStore, marks: MarkStore, *, max_bytes: int) -> None:
        self._history = history
        self._marks = marks
        self._max_bytes = max_bytes

    async def read(
        self,
        wanted: ContextRequest,
        limits: WindowLimits | None,
        *,
        keeps_mark: bool = True,
        known: LogHead | None = None,
    ) -> Context:
        """Return the branch that a turn continues, or its newest messages within the limits.

        All system and developer messages of the branch are included in the context.

        Args:
            wanted: the session and the turn.
            limits: the limits of the window; None = there is no window.
            keeps_mark: whether to remember where a new window begins.
            known: the session's head, if it has just been read.

        Raises:
            Fault: CONTEXT_TOO_LARGE; SESSION_NOT_FOUND if the session is deleted meanwhile.
        """
        for _ in range(ATTEMPTS):
            head = known or await self._history.head(wanted.key, wanted.project_id)
            known = None
            if head is None or head.log != wanted.log:
                break
            branch = await newest_branch(
                self._history, head, wanted.through_seq, is_end=wanted.is_end
            )
            reading = _Reading(self._history, wanted, head, branch, self._max_bytes)
            try:
                if limits is None:
                    messages = await reading.all()
                else:
                    mark = await self._marks.get(wanted.key, head, limits)
                    messages, new_mark = await reading.window(limits, mark or Mark())
                    if new_mark and keeps_mark:
                        await self._marks.put(wanted.key, head, limits, new_mark)
            except _Moved:
                continue
            return Context(messages, branch[-1].last_seq if branch else 0, reading.use)
        raise session_not_found(wanted.session_id)

    async def has_open_calls(self, head: LogHead) -> bool:
        """Return whether the session's last answer calls tools whose results are missing."""
        branch = await newest_branch(self._history, head, 0)
        walk, found = _Backwards(self._history, branch, SPARE_ROWS), None
        with suppress(_Moved):
            while found is None and len(walk.messages) < MAX_OPEN_ROWS:
                await walk.more()
                found = has_open_calls(walk.messages, is_whole=walk.is_at_start)
        return bool(found)


class _Moved(Exception):
    """Messages were moved or deleted since the head was read."""


class _Reading:
    """One attempt to read a context.

    Attributes:
        use: the use of the window's limits, once the window has been read.
    """

    def __init__(
        self,
        store: HistoryStore,
        wanted: ContextRequest,
        head: LogHead,
        branch: Sequence[Segment],
        max_bytes: int,
    ) -> None:
        self._store = store
        self._wanted = wanted
        self._head = head
        self._branch = branch
        self._max_bytes = max_bytes
        self.use: WindowUse | None = None

    async def all(self) -> list[Message]:
        """Return the whole branch."""
        await self._check_size(self._branch)
        walk = _Backwards(self._store, self._branch, PAGE_ROWS)
        while await walk.more():
            pass
        return walk.messages[::-1]

    async def window(self, limits: WindowLimits, mark: Mark) -> tuple[list[Message], Mark | None]:
        """Return the messages within the limits, and the new mark if a new window begins.

        Args:
            limits: the limits of the window.
            mark: the beginning of the last turn's window.
        """
        if not any(s.first_seq <= mark.first_seq <= s.last_seq for s in self._branch):
            # The mark is not on this branch.
            mark = Mark()
        await self._check_unlimited(limits, mark)
        rows = min(limits.max_messages or PAGE_ROWS, PAGE_ROWS) + SPARE_ROWS
        walk = _Backwards(self._store, self._branch, rows)
        size = count = tokens = 0
        while size < len(walk.messages) or await self._more(walk):
            message = walk.messages[size]
            if message.seq < mark.first_seq:
                break
            if not is_instruction(message):
                count += 1
                tokens += message.token_count
                if not limits.allow(count, tokens):
                    return await self._new_window(walk, limits, mark)
            size += 1
        kept = await self._at(sorted({*mark.kept_seqs, mark.task_seq} - {0}))
        self.use = WindowUse(limits, count, tokens)
        return self._checked([*kept, *reversed(walk.messages[:size])]), None

    async def _new_window(
        self, walk: "_Backwards", limits: WindowLimits, old: Mark
    ) -> tuple[list[Message], Mark]:
        wanted = fitting(walk.messages, limits.lowered)
        taken, size = wanted, None
        while size is None:
            taken = 2 * taken + SPARE_ROWS
            while len(walk.messages) < taken and await self._more(walk):
                pass
            # window_size parses the messages, which may be large.
            size = await asyncio.to_thread(
                window_size,
                walk.messages[:taken],
                wanted,
                is_whole=walk.is_at_start and taken >= len(walk.messages),
            )
        window = walk.messages[size - 1 :: -1]
        self.use = WindowUse.of(window, limits)
        first_seq = window[0].seq
        task_seq = await self._task_of(walk, old)
        instructions = await self._instructions(first_seq)
        mark = Mark(
            first_seq,
            [message.seq for message in instructions],
            task_seq if task_seq < first_seq else 0,
        )
        task = await self._at([mark.task_seq]) if mark.task_seq else []
        kept = sorted([*instructions, *task], key=lambda message: message.seq)
        return self._checked([*kept, *window]), mark

    async def _task_of(self, walk: "_Backwards", old: Mark) -> int:
        """Return TaskSearch.seq: the user message that the running tool loop works on."""
        search, place = TaskSearch(), 0
        while not search.is_done:
            if place == len(walk.messages):
                # Keep only one page in memory.
                walk.messages, place = [], 0
                if not await walk.more():
                    search.end()
                    break
            message = walk.messages[place]
            if old.task_seq and message.seq < old.first_seq:
                # The loop was already running when the old window began.
                search.end()
                return search.seq if search.is_done else old.task_seq
            search.add(message)
            place += 1
        return search.seq

    async def _instructions(self, before: int) -> list[Message]:
        """Return the branch's system and developer messages before a given message."""
        messages: list[Message] = []
        after = 0
        while segments := cut(self._branch, after, before - 1):
            page = await _page(
                self._store,
                PageQuery(tuple(segments), PAGE_ROWS, PAGE_BYTES, roles=INSTRUCTION_ROLES),
            )
            if not page:
                break
            messages += page
            after = page[-1].seq
        return messages

    async def _at(self, seqs: Sequence[int]) -> list[Message]:
        """Return messages by their seqs, which must be in ascending order."""
        segments = [*chain(*(cut(self._branch, seq - 1, seq) for seq in seqs))]
        walk = _Backwards(self._store, segments, PAGE_ROWS)
        while await self._more(walk):
            pass
        return walk.messages[::-1]

    async def _more(self, walk: "_Backwards") -> bool:
        if walk.content_bytes > self._max_bytes + PAGE_BYTES:
            # Limit the memory, even if only a part of these messages would be in the window.
            await self._check_size(
                cut(self._branch, walk.messages[-1].seq - 1, self._head.last_seq)
            )
        return await walk.more()

    def _checked(self, messages: list[Message]) -> list[Message]:
        self._check_bytes(sum(message.content_bytes for message in messages))
        return messages

    async def _check_unlimited(self, limits: WindowLimits, mark: Mark) -> None:
        """Check the size of the newest messages, if the window's limits allow all of them.

        Without this check, a window that is too large would be read before it is refused.
        """
        if self._head.content_bytes <= self._max_bytes:
            return
        segments = cut(self._branch, mark.first_seq - 1, self._head.last_seq)
        newest = await self._store.newest_totals(segments, MAX_ADDED_UP_ROWS, INSTRUCTION_ROLES)
        if limits.allow(newest.count, newest.tokens):
            self._check_bytes(newest.content_bytes)

    async def _check_size(self, segments: Sequence[Segment]) -> None:
        """Check the size of messages before they are read."""
        if self._head.content_bytes > self._max_bytes:
            self._check_bytes(
                await self._store.content_bytes(segments)
                if self._head.is_branched or segments != self._branch
                else self._head.content_bytes
            )

    def _check_bytes(self, content_bytes: int) -> None:
        if content_bytes > self._max_bytes:
            raise history_too_large(self._wanted.session_id, content_bytes, self._max_bytes)


class _Backwards:
    """Reads messages page by page, from the newest to the oldest.

    Attributes:
        messages: the messages read so far, newest first.
        content_bytes: the size of all messages read so far.
    """

    def __init__(self, store: HistoryStore, segments: Sequence[Segment], max_rows: int) -> None:
        self.messages: list[Message] = []
        self.content_bytes = 0
        self._store = store
        self._left = segments
        self._max_rows = max_rows

    @property
    def is_at_start(self) -> bool:
        """Whether all messages have been read."""
        return not self._left

    async def more(self) -> bool:
        """Read a page. Return False if no messages are left.

        Raises:
            _Moved: if messages are missing.
        """
        newest, rows = list[Segment](), self._max_rows
        for segment in reversed(self._left):
            newest.insert(0, segment)
            rows -= len(segment)
            if rows <= 0:
                break
        if not newest:
            return False
        page = await _page(
            self._store, PageQuery(tuple(newest), self._max_rows, PAGE_BYTES, descending=True)
        )
        expected = chain(*(range(s.last_seq, s.first_seq - 1, -1) for s in reversed(newest)))
        if not page or any(
            message.seq != seq for message, seq in zip(page, expected, strict=False)
        ):
            raise _Moved
        self._left = [*self._left[: -len(newest)], *cut(newest, 0, page[-1].seq - 1)]
        self.messages += page
        self.content_bytes += sum(message.content_bytes for message in page)
        return True


async def _page(store: HistoryStore, query: PageQuery) -> list[Message]:
    messages = []
    for seq, _, body in await store.page(query):
        message = Message.FromString(body)
        message.seq = seq
        messages.append(message)
    return messages
