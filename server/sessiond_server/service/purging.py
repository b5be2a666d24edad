"""The purger: removes expired sessions, the messages of deleted ones, and old request records, in the background."""

import asyncio

import structlog

from sessiond_server.service.flattening import Flattener
from sessiond_server.service.happenings import EXPIRED, Hints, happening
from sessiond_server.store.database import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.store.purge import PurgeStore

SESSIONS_A_BATCH = 500
MESSAGES_A_BATCH = 5_000
REQUESTS_A_BATCH = 5_000

log = structlog.get_logger(__name__)


class Purger:
    """Every server runs one; they share the work by locking what they take.

    Args:
        hints: is told of the sessions that expired.
        interval_s: rest between two rounds.
        request_retention_s: how long a request_id is remembered.
    """

    def __init__(self, store: PurgeStore, flattener: Flattener, hints: Hints, *, interval_s: float, request_retention_s: float) -> None:
        self._store = store
        self._flattener = flattener
        self._hints = hints
        self._interval_s = interval_s
        self._request_retention_s = request_retention_s

    async def run(self) -> None:
        """Rounds until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.round()
            except (DatabaseUnavailable, PoolExhausted, Contention) as e:
                log.warning("purge put off", error=str(e))
            except Exception:
                # A fault here must not end the purging until the next restart.
                log.exception("purge failed")

    async def round(self) -> tuple[int, int, int]:
        """Remove all that is due, batch by batch. Answers how many sessions, messages and request records went."""
        sessions = messages = requests = 0
        while True:
            looked_at, expired = await self._store.expire(SESSIONS_A_BATCH)
            sessions += len(expired)
            for session in expired:
                self._hints.happened(happening(EXPIRED, session))
            if looked_at < SESSIONS_A_BATCH:
                break
        # Before the logs: it queues those that it has emptied.
        flattened = await self._flattener.round()
        while (deleted := await self._store.purge_log(MESSAGES_A_BATCH)) is not None:
            messages += deleted
        while (forgotten := await self._store.forget_requests(self._request_retention_s, REQUESTS_A_BATCH)) > 0:
            requests += forgotten
        if sessions or flattened or messages or requests:
            log.info("purged", expired_sessions=sessions, flattened_copies=flattened, messages=messages, request_records=requests)
        return sessions, messages, requests
