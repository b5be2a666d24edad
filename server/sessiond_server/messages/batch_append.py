"""Appends that travel together: what BatchStoreMessages promises."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from sessiond.v1.message_pb2 import Message
from sessiond_server.core.errors import invalid
from sessiond_server.core.events import EventPublisher
from sessiond_server.core.limits import MAX_REQUESTS, Limits
from sessiond_server.db.idempotency import DuplicateRequest
from sessiond_server.messages.append import Appends, PreparedAppend, Target
from sessiond_server.messages.store.append import Appended
from sessiond_server.messages.store.batch_append import BatchAppendStore

# Series of one call that are stored one by one at the same time: they may wait for others, each with a connection of the pool.
MAX_SINGLE = 4

Outcome = tuple[int, Appended | Exception]
"""A request's place in the call, and what it ended with."""


@dataclass(frozen=True, slots=True)
class _Request:
    place: int
    prepared: PreparedAppend


_Series = list[_Request]


class BatchAppender:
    """Stores many appends at once where that is possible, and the others one by one.

    Args:
        appends: stores the others; it waits, and finds out why something was not stored.
        publisher: is told of each series that is stored.
    """

    def __init__(
        self, store: BatchAppendStore, appends: Appends, limits: Limits, publisher: EventPublisher
    ) -> None:
        self._store = store
        self._appends = appends
        self._limits = limits
        self._publisher = publisher

    async def store(
        self, project_id: UUID, requests: Sequence[tuple[Target, Sequence[Message]]]
    ) -> AsyncGenerator[list[Outcome], None]:
        """Append each batch, whole or not at all, whatever becomes of the others; those to one session in their order.

        Yields: outcomes, as they are known.
        Raises: Fault INVALID_FIELD, before anything is stored.
        """
        if not requests:
            raise invalid("requests", "is empty; send at least one")
        if len(requests) > MAX_REQUESTS:
            raise invalid(
                "requests", f"has {len(requests)} requests; a call may have {MAX_REQUESTS}"
            )
        outcomes: list[Outcome] = []
        sessions: dict[UUID, _Series] = {}
        for place, (target, messages) in enumerate(requests):
            try:
                prepared = self._appends.prepare(target, messages)
            except Exception as error:
                outcomes.append((place, error))
            else:
                sessions.setdefault(prepared.append.key, []).append(_Request(place, prepared))
        left = [series for series in sessions.values() if not _fits(series)]
        for many in self._divided(series for series in sessions.values() if _fits(series)):
            try:
                stored = await self._store.append(
                    project_id,
                    [[(r.prepared.append, r.prepared.rows) for r in series] for series in many],
                )
            except DuplicateRequest:
                left += many
                continue
            except Exception as error:
                outcomes += ((request.place, error) for series in many for request in series)
                continue
            for series, appended in zip(many, stored, strict=True):
                if appended is None:
                    left.append(series)
                else:
                    self._publisher.messages_appended(series[0].prepared.append.key)
                    outcomes += zip((request.place for request in series), appended, strict=True)
        if outcomes:
            yield outcomes
        async for single in self._one_by_one(left):
            yield single

    def _divided(self, all_series: Iterable[_Series]) -> Iterator[list[_Series]]:
        """What goes into one statement: as much as one request may ask for, or one series."""
        many: list[_Series] = []
        count = content_bytes = 0
        for series in all_series:
            own_count = sum(request.prepared.append.count for request in series)
            own_bytes = sum(request.prepared.append.content_bytes for request in series)
            if many and (
                count + own_count > self._limits.max_batch_messages
                or content_bytes + own_bytes > self._limits.max_batch_bytes
            ):
                yield many
                many, count, content_bytes = [], 0, 0
            many.append(series)
            count += own_count
            content_bytes += own_bytes
        if many:
            yield many

    async def _one_by_one(self, left: list[_Series]) -> AsyncGenerator[list[Outcome], None]:
        """Store some series at a time, each append by itself. They hold nothing while they wait."""
        waiting = iter(left)
        running: set[asyncio.Task[list[Outcome]]] = set()
        try:
            while True:
                while len(running) < MAX_SINGLE and (series := next(waiting, None)):
                    running.add(asyncio.create_task(self._in_order(series)))
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                yield [outcome for task in done for outcome in task.result()]
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)

    async def _in_order(self, series: _Series) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for request in series:
            try:
                outcomes.append(
                    (request.place, await self._appends.append_prepared(request.prepared))
                )
            except Exception as error:
                outcomes.append((request.place, error))
        return outcomes


def _fits(series: _Series) -> bool:
    """Whether it can be stored in one statement with others, as a whole: no assets to lock, no condition on what comes before it in the
    series, no repetition of itself.
    """
    if any(request.prepared.append.asset_refs for request in series):
        return False
    if len(series) == 1:
        return True
    ids = [
        request.prepared.append.request_id
        for request in series
        if request.prepared.append.request_id
    ]
    return len(ids) == len(set(ids)) and all(
        request.prepared.append.expected_last_seq is None for request in series[1:]
    )
