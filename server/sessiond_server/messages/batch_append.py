"""Batches of appends: the rules of BatchStoreMessages."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from functools import partial

from sessiond.v1.message_pb2 import Message
from sessiond_server.core.deadlines import waits_until
from sessiond_server.core.errors import invalid
from sessiond_server.core.limits import MAX_REQUESTS
from sessiond_server.messages.append import Appends, PreparedAppend
from sessiond_server.messages.joined_append import JoinedAppends
from sessiond_server.messages.store.append import Appended
from sessiond_server.messages.target import Target
from sessiond_server.messages.waiting_append import WaitingAppend
from sessiond_server.quotas.service import Quotas
from sessiond_server.quotas.usage import Reservation

Outcome = tuple[int, Appended | Exception]
"""Index of a request in the call, and the result or error of that request."""


class BatchAppender:
    """Stores the appends of one call, together with those of other calls where possible."""

    def __init__(self, appends: Appends, joined: JoinedAppends, quotas: Quotas) -> None:
        self._quotas = quotas
        self._appends = appends
        self._joined = joined

    async def store(
        self, requests: Sequence[tuple[Target, Sequence[Message]]]
    ) -> AsyncGenerator[list[Outcome], None]:
        """Append each batch independently of the others; each is stored completely or not at all.

        Batches for the same session are appended in the given order.

        Args:
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
        is_known = asyncio.Event()

        def add(place: int, ended: asyncio.Future[Appended]) -> None:
            if not ended.cancelled():
                outcomes.append((place, ended.exception() or ended.result()))  # type: ignore[arg-type]
                is_known.set()

        waiting: list[WaitingAppend] = []
        rooms: dict[int, Reservation] = {}

        def watch(place: int, one: WaitingAppend) -> None:
            one.ended.add_done_callback(partial(add, place))
            if room := rooms.pop(place, None):
                one.ended.add_done_callback(partial(_end, room))
            waiting.append(one)

        prepared: dict[int, PreparedAppend] = {}
        try:
            for place, (target, messages) in enumerate(requests):
                try:
                    self._quotas.take_messages(target.project_id, len(messages))
                    append = self._appends.prepare(target, messages)
                    if self._quotas.is_limited(target.project_id):
                        rooms[place] = await self._appends.room_for(target, append.append)
                except Exception as error:
                    outcomes.append((place, error))
                else:
                    prepared[place] = append
            ends = await self._joined.store_whole(list(prepared.values()))
            for place, end in zip(prepared, ends or (), strict=ends is not None):
                if isinstance(end, WaitingAppend):
                    watch(place, end)
                    continue
                outcomes.append((place, end))
                if room := rooms.pop(place, None):
                    room.end(end if isinstance(end, Exception) else None)
            if ends is None:
                for place, append in prepared.items():
                    try:
                        watch(place, self._joined.submit(append))
                    except Exception as error:
                        outcomes.append((place, error))
                        if room := rooms.pop(place, None):
                            room.give_back()
                self._joined.dispatch()
        except BaseException as error:
            for room in rooms.values():
                room.end(error)
            raise
        ends_at = waits_until() if waiting else None
        timer = (
            asyncio.get_running_loop().call_at(ends_at, self._expire, waiting) if ends_at else None
        )
        known = 0
        try:
            while known < len(requests):
                if not outcomes:
                    is_known.clear()
                    await is_known.wait()
                yielded, outcomes[:] = outcomes[:], []
                known += len(yielded)
                yield yielded
        finally:
            if timer:
                timer.cancel()
            for one in waiting:
                if not one.ended.done():
                    self._joined.withdraw(one)

    def _expire(self, waiting: Sequence[WaitingAppend]) -> None:
        for one in waiting:
            self._joined.expire(one)


def _end(room: Reservation, ended: asyncio.Future[Appended]) -> None:
    if ended.cancelled():
        room.give_back()
    else:
        room.end(ended.exception())
