"""Exports of whole sessions, the counterpart of imports."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from uuid import UUID

from sessiond_server.core.errors import session_not_found
from sessiond_server.core.ids import session_key
from sessiond_server.core.validation import check_session_id
from sessiond_server.imports.store import Snapshot, SnapshotStore
from sessiond_server.messages.history import History
from sessiond_server.messages.read_window import Reading


class SessionExports:
    """Reads whole sessions, each as it was at one moment."""

    def __init__(self, snapshots: SnapshotStore, history: History) -> None:
        self._snapshots = snapshots
        self._history = history

    async def run(
        self, project_id: UUID, session_id: str
    ) -> AsyncGenerator[Snapshot | bytes, None]:
        """Export a session.

        Yields:
            First the session without its messages, then encoded GetMessagesResponses.

        Raises:
            Fault: INVALID_FIELD; SESSION_NOT_FOUND, also if the session is deleted meanwhile;
                HISTORY_REWOUND if a rewind removed messages that are to be read.
        """
        check_session_id(session_id)
        snapshot = await self._snapshots.read(session_key(project_id, session_id), project_id)
        if snapshot is None:
            raise session_not_found(session_id)
        yield snapshot
        session = snapshot.session
        if not session.last_seq:
            return
        # Messages never change, so those up to last_seq belong to the snapshot whenever they are
        # read, unless a rewind or a deletion removes them.
        reading = Reading(
            session_id,
            through_seq=session.last_seq,
            expected_epoch=session.epoch,
            incarnation=session.log.hex,
        )
        async with aclosing(self._history.stream(project_id, reading)) as batches:
            async for batch in batches:
                yield batch
