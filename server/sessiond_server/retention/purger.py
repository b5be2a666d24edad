"""The purger: removes expired sessions, the messages of deleted ones, and old request records, in the background."""

import asyncio

import structlog

from sessiond_server.copies.flattening import Flattener
from sessiond_server.core.events import EXPIRED, EventPublisher
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.retention.store import PurgeStore
from sessiond_server.sessions.lifecycle_events import lifecycle_event

SESSIONS_A_BATCH = 500
LOGS_A_BATCH = 200
MESSAGES_A_BATCH = 5_000
LOG_BATCHES_A_TURN = 20
REQUESTS_A_BATCH = 5_000

log = structlog.get_logger(__name__)


class Purger:
    """Every server runs one; they share the work by locking what they take.

    Args:
        publisher: is told of the sessions that expired.
        interval_s: rest between two rounds.
        request_retention_s: how long a request_id is remembered.
    """

    def __init__(
        self,
        store: PurgeStore,
        flattener: Flattener,
        publisher: EventPublisher,
        *,
        interval_s: float,
        request_retention_s: float,
    ) -> None:
        self._store = store
        self._flattener = flattener
        self._publisher = publisher
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
        """Remove all that is due. Answers how many sessions, messages and request records went."""
        sessions = messages = requests = flattened = 0
        is_more = True
        while is_more:
            # In turns, so that much of one kind does not keep the others waiting.
            looked_at, expired = await self._store.expire(SESSIONS_A_BATCH)
            sessions += len(expired)
            for session in expired:
                self._publisher.publish(lifecycle_event(EXPIRED, session))
            # Before the logs: it queues those that it has emptied.
            flattened += await self._flatten()
            logs = 0
            for _ in range(LOG_BATCHES_A_TURN):
                done, deleted = await self._store.purge_logs(LOGS_A_BATCH, MESSAGES_A_BATCH)
                logs += done
                messages += deleted
                if not done and not deleted:
                    break
            forgotten = await self._store.forget_requests(
                self._request_retention_s, REQUESTS_A_BATCH
            )
            requests += forgotten
            is_more = looked_at == SESSIONS_A_BATCH or logs > 0 or deleted > 0 or forgotten > 0
        if sessions or flattened or messages or requests:
            log.info(
                "purged",
                expired_sessions=sessions,
                flattened_copies=flattened,
                messages=messages,
                request_records=requests,
            )
        return sessions, messages, requests

    async def _flatten(self) -> int:
        try:
            return await self._flattener.round()
        except (DatabaseUnavailable, PoolExhausted, Contention):
            raise
        except Exception:
            # Long chains are slow; logs that are never purged fill the disk.
            log.exception("flattening failed")
            return 0
