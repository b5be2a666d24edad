"""Removes the contents of deleted projects."""

from sessiond_server.core.events import DELETED, EventPublisher
from sessiond_server.retention.store.projects import ProjectPurgeStore
from sessiond_server.sessions.lifecycle_events import lifecycle_event

# A key is cached for at most 300 seconds (key_cache_s), so its callers may create sessions for this
# long after the deletion. Until then the project is kept, and its name cannot be used again.
GRACE_S = 300.0


class ProjectPurger:
    """Removes deleted projects in batches, as a part of the purger's rounds."""

    def __init__(self, store: ProjectPurgeStore, publisher: EventPublisher) -> None:
        self._store = store
        self._publisher = publisher

    async def purge(self, batch: int) -> int:
        """Remove at most `batch` sessions of deleted projects; return their number.

        Sessions that others have locked are left to a later round. A project without sessions is
        removed with its keys and queues once GRACE_S are over.
        """
        sessions = await self._store.delete_sessions(batch)
        for session in sessions:
            self._publisher.publish(lifecycle_event(DELETED, session))
        if not sessions:
            await self._store.delete_empty_projects(GRACE_S)
        return len(sessions)
