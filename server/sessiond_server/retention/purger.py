"""The purger: removes expired sessions, dead logs and old request records in the background."""

import asyncio
from typing import NamedTuple

import structlog

from sessiond_server.copies.flattening import Flattener
from sessiond_server.core.events import EXPIRED, EventPublisher
from sessiond_server.core.pacing import Pace
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.retention.projects import ProjectPurger
from sessiond_server.retention.store.purge import PurgeStore
from sessiond_server.sessions.lifecycle_events import lifecycle_event
from sessiond_server.telemetry import metrics

# Maximum sizes of batches.
SESSIONS_A_BATCH = 500
ROWS_A_BATCH = 5_000
REQUESTS_A_BATCH = 5_000
ROWS_A_LOG = 10  # expected; only the number of logs in a batch depends on it
LOG_BATCHES_A_TURN = 20

log = structlog.get_logger(__name__)


class Purged(NamedTuple):
    """Numbers of removals in one round.

    Attributes:
        sessions: number of removed sessions, which had expired.
        messages: number of removed messages, which no session could reach.
        requests: number of removed request records, whose retention had ended.
    """

    sessions: int
    messages: int
    requests: int


class Purger:
    """Purges in rounds. Every server runs one; row locks divide the work among them.

    Args:
        store: the purger's statements.
        flattener: flattens chains of copies in the same rounds.
        publisher: publishes the expiry of sessions.
        interval_s: pause between two rounds, in seconds.
        request_retention_s: how long request records are kept, in seconds.
        projects: removes deleted projects in the same rounds. None = they are not removed.
    """

    def __init__(
        self,
        store: PurgeStore,
        flattener: Flattener,
        publisher: EventPublisher,
        *,
        interval_s: float,
        request_retention_s: float,
        projects: ProjectPurger | None = None,
    ) -> None:
        self._store = store
        self._flattener = flattener
        self._publisher = publisher
        self._projects = projects
        self._interval_s = interval_s
        self._request_retention_s = request_retention_s

    async def run(self) -> None:
        """Run rounds until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.round()
            except (DatabaseUnavailable, PoolExhausted, Contention) as e:
                log.warning("purge_retrying", error=str(e))

    async def round(self) -> Purged:
        """Remove everything that is due for removal."""
        sessions = messages = requests = flattened = 0
        expiry, of_projects = Pace(SESSIONS_A_BATCH), Pace(SESSIONS_A_BATCH)
        rows, records = Pace(ROWS_A_BATCH), Pace(REQUESTS_A_BATCH)
        is_more = True
        while is_more:
            # The kinds of work alternate, so that a large amount of one does not delay the others.
            async with expiry.batch() as batch:
                checked, expired = await self._store.expire(batch.size)
                batch.done = checked
            is_more = checked == batch.size
            sessions += len(expired)
            for session in expired:
                self._publisher.publish(lifecycle_event(EXPIRED, session))
            if self._projects:
                async with of_projects.batch() as batch:
                    batch.done = await self._projects.purge(batch.size)
                is_more |= bool(batch.done)
            # Flatten before purging logs, because flattening queues the logs that it has emptied.
            flattened += await self._flatten()
            for _ in range(LOG_BATCHES_A_TURN):
                async with rows.batch() as batch:
                    purged = await self._store.purge_logs(batch.size // ROWS_A_LOG + 1, batch.size)
                    batch.done = purged.rows or purged.logs
                messages += purged.messages
                metrics.PURGED_ROWS.labels("messages").inc(purged.messages)
                if not batch.done:
                    break
            is_more |= bool(batch.done)
            async with records.batch() as batch:
                batch.done = await self._store.forget_requests(
                    self._request_retention_s, batch.size
                )
            is_more |= bool(batch.done)
            requests += batch.done
            metrics.PURGED_ROWS.labels("sessions").inc(len(expired))
            metrics.PURGED_ROWS.labels("request_records").inc(batch.done)
        if sessions or flattened or messages or requests:
            log.info(
                "purged",
                expired_sessions=sessions,
                flattened_copies=flattened,
                messages=messages,
                request_records=requests,
            )
        return Purged(sessions, messages, requests)

    async def _flatten(self) -> int:
        try:
            return await self._flattener.round()
        except (DatabaseUnavailable, PoolExhausted, Contention):
            raise
        except Exception:
            # Long chains only make reads slower, but logs that are never purged fill the disk.
            log.exception("flattening_failed")
            return 0
