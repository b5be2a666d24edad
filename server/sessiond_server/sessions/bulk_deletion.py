"""Deletes all sessions that match a filter, in batches, at a pace that leaves room for calls."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from uuid import UUID

from sessiond_server.core import events
from sessiond_server.core.deadlines import waits_until
from sessiond_server.core.errors import Fault, invalid
from sessiond_server.core.events import EventPublisher
from sessiond_server.core.ids import deletion_key, session_key
from sessiond_server.core.pacing import Pace
from sessiond_server.core.validation import check_request_id
from sessiond_server.db.idempotency import RequestRecord, content_hash
from sessiond_server.db.pool import LockTimeout
from sessiond_server.sessions.lifecycle_events import lifecycle_event
from sessiond_server.sessions.settings import check_filter
from sessiond_server.sessions.store.bulk_deletion import (
    BulkDeletionStore,
    DoomedSessions,
    PackedKeys,
)
from sessiond_server.sessions.store.deletion import DeletedSession
from sessiond_server.sessions.store.filters import SessionFilter

# Handling the rows of a batch blocks the event loop for some milliseconds.
SESSIONS_A_BATCH = 250
KEYS_A_PAGE = 20_000
# The caller waits for the end, so the pauses are shorter than those of background work.
PAUSE_SHARE = 0.25
# Maximum number of sessions that are deleted in a second. Without it, a deletion would use most of
# a processor of the database.
MOST_PER_S = 6_000
# Time for which a deletion tries to delete locked sessions, after it has deleted all others.
MAX_WAIT_S = 2.0
# Maximum number of locked sessions that a result names.
MAX_NAMED = 100


@dataclass
class BulkDeletion:
    """The result of a deletion so far, or the result that a dry run predicts.

    Attributes:
        sessions: number of sessions.
        messages: number of messages in them.
        locked: session_ids of sessions that were kept because others had locked them.
    """

    sessions: int = 0
    messages: int = 0
    locked: list[str] = field(default_factory=list)


class BulkDeletions:
    """Deletions by filter. Methods take the caller's project as a part of the filter."""

    def __init__(self, store: BulkDeletionStore, publisher: EventPublisher) -> None:
        self._store = store
        self._publisher = publisher

    async def run(
        self, chosen: SessionFilter, *, everything: bool, dry_run: bool, request_id: str
    ) -> BulkDeletion:
        """Delete the sessions that match a filter. With dry_run, only count them.

        Raises:
            Fault: INVALID_FIELD; REQUEST_ID_REUSED; OVERLOADED if a table is locked by others after
                a part of the sessions is deleted.
            LockTimeout: if a table is locked by others, and nothing is deleted.
        """
        check_filter(chosen)
        check_request_id(request_id)
        is_empty = chosen == SessionFilter(chosen.project_id)
        if is_empty != everything:
            raise invalid(
                "all",
                "is required if no filter is set; set it to delete every session of the project"
                if is_empty
                else "cannot be combined with a filter",
            )
        record = None
        if request_id and not dry_run:
            content = content_hash("delete sessions", asdict(chosen))
            key = deletion_key(chosen.project_id, request_id)
            record = RequestRecord(key, request_id, content)
        # Sessions created from now on are kept. Otherwise the deletion might never end in a busy
        # project.
        doomed = DoomedSessions(chosen, await self._store.start(record))
        if dry_run:
            return BulkDeletion(*await self._store.count(doomed))
        done = BulkDeletion()
        missed = await self._delete_all(doomed, done)
        done.locked = await self._delete_locked(doomed, missed, done)
        return done

    async def _delete_all(self, doomed: DoomedSessions, done: BulkDeletion) -> list[UUID]:
        """Delete the sessions; return the keys of sessions that are locked or no longer match."""
        pace = _pace()
        missed: list[UUID] = []
        keys = await self._store.keys(doomed, None, KEYS_A_PAGE)
        while len(keys):
            missed += await self._delete_at_pace(doomed, keys, done, pace)
            if len(keys) < KEYS_A_PAGE:
                break
            [last] = keys[-1:]
            keys = await self._store.keys(doomed, last, KEYS_A_PAGE)
        return missed

    async def _delete_at_pace(
        self,
        doomed: DoomedSessions,
        keys: PackedKeys | Sequence[UUID],
        done: BulkDeletion,
        pace: Pace,
    ) -> list[UUID]:
        """Delete sessions that are not locked, in batches; return the keys of the others."""
        missed: list[UUID] = []
        start = 0
        while start < len(keys):
            async with pace.batch() as batch:
                part = keys[start : start + batch.size]
                missed += await self._delete(doomed, part, done)
                batch.done = len(part)
            start += len(part)
        return missed

    async def _delete(
        self, doomed: DoomedSessions, keys: Sequence[UUID], done: BulkDeletion
    ) -> Iterable[UUID]:
        """Delete sessions that are not locked; return the keys of the others."""
        clock = asyncio.get_running_loop().time
        ends_at = clock() + MAX_WAIT_S
        while True:
            try:
                deleted = await self._store.delete(doomed, keys, skip_locked=True)
            except LockTimeout:
                # The lock is on a table, because locked sessions are skipped. The whole call is
                # tried again only if nothing is deleted yet, because the result of the new call
                # would not count the sessions that this call has deleted.
                if not done.sessions:
                    raise
                if clock() >= ends_at:
                    raise _interrupted(done) from None
            else:
                self._note(deleted, done)
                if len(deleted) == len(keys):
                    return ()
                return set(keys).difference(
                    session_key(session.project_id, session.session_id) for session in deleted
                )

    async def _delete_locked(
        self, doomed: DoomedSessions, keys: Sequence[UUID], done: BulkDeletion
    ) -> list[str]:
        """Delete sessions that were locked; return the session_ids of those that still are."""
        clock = asyncio.get_running_loop().time
        ends_at = min(clock() + MAX_WAIT_S, waits_until() or float("inf"))
        pace = _pace()
        while True:
            matching = await self._store.matching(doomed, keys) if keys else {}
            if not matching or clock() >= ends_at:
                return list(matching.values())
            keys = await self._delete_at_pace(doomed, list(matching), done, pace)
            # A session that is locked again and again can only be deleted by a statement that waits
            # for its lock.
            for key in keys:
                with suppress(LockTimeout):
                    self._note(await self._store.delete(doomed, [key], skip_locked=False), done)
                if clock() >= ends_at:
                    break

    def _note(self, deleted: Iterable[DeletedSession], done: BulkDeletion) -> None:
        for session in deleted:
            self._publisher.publish(lifecycle_event(events.DELETED, session))
            done.sessions += 1
            done.messages += session.last_seq


def _pace() -> Pace:
    return Pace(SESSIONS_A_BATCH, pause_share=PAUSE_SHARE, most_per_s=MOST_PER_S)


def _interrupted(done: BulkDeletion) -> Fault:
    return Fault(
        "OVERLOADED",
        f"a table is locked; sessions deleted so far: {done.sessions}; repeat the call to delete "
        "the rest",
        retry_after_s=1.0,
    )
