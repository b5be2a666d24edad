"""Batches of appends: the rules of BatchStoreMessages."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from sessiond.v1.message_pb2 import Message
from sessiond_server.core.errors import invalid
from sessiond_server.core.events import EventPublisher
from sessiond_server.core.limits import MAX_REQUESTS, Limits
from sessiond_server.db.idempotency import DuplicateRequest
from sessiond_server.messages.append import Appends, PreparedAppend
from sessiond_server.messages.store.append import Appended
from sessiond_server.messages.store.batch_append import BatchAppendStore
from sessiond_server.messages.target import Target
from sessiond_server.telemetry import metrics

# Maximum number of series in one call that are stored concurrently. Each uses a pooled connection,
# which may have to wait for a lock.
MAX_SINGLE = 4

Outcome = tuple[int, Appended | Exception]
"""Index of a request in the call, and the result or error of that request."""


@dataclass(frozen=True, slots=True)
class _Request:
    place: int
    prepared: PreparedAppend


_Series = list[_Request]


class BatchAppender:
    """Stores appends together in one statement where possible, and the others one by one."""

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
        """Append each batch independently of the others; each is stored completely or not at all.

        Batches for the same session are appended in the given order.

        Args:
            project_id: the caller's project.
            requests: target and messages of each batch.

        Yields:
            Outcomes as soon as they are known.

        Raises:
            Fault: INVALID_FIELD before anything is stored.
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
        for many in self._statements(series for series in sessions.values() if _fits(series)):
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
                    for request in series:
                        totals = request.prepared.append.totals
                        metrics.stored(totals.count, totals.content_bytes)
                    outcomes += zip((request.place for request in series), appended, strict=True)
        if outcomes:
            yield outcomes
        async for single in self._one_by_one(left):
            yield single

    def _statements(self, all_series: Iterable[_Series]) -> Iterator[list[_Series]]:
        """Split series into one group per statement.

        A group has a single series, or stays within the limits of one request.
        """
        many: list[_Series] = []
        count = content_bytes = 0
        for series in all_series:
            own_count = sum(request.prepared.append.totals.count for request in series)
            own_bytes = sum(request.prepared.append.totals.content_bytes for request in series)
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
        """Store each append in a statement of its own, for up to MAX_SINGLE series at a time."""
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
        return [await self._outcome(request) for request in series]

    async def _outcome(self, request: _Request) -> Outcome:
        try:
            return request.place, await self._appends.append_prepared(request.prepared)
        except Exception as error:
            return request.place, error


def _fits(series: _Series) -> bool:
    """Whether a series can be stored in one statement together with others.

    It must have no assets to lock, no parents to store, no message_ids, no condition on an append
    within the series, and no request_id twice.
    """
    appends = [request.prepared.append for request in series]
    if any(append.message_ids or not append.is_plain for append in appends):
        return False
    if len(series) == 1:
        return True
    ids = [
        request.prepared.append.request_id
        for request in series
        if request.prepared.append.request_id
    ]
    return len(ids) == len(set(ids)) and all(
        request.prepared.append.expected_last_seq is None
        and request.prepared.append.expected_epoch is None
        for request in series[1:]
    )
