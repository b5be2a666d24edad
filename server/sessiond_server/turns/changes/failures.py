"""Records turns that fail without any text, in sessions that have no other open turn.

If this module cannot record a failure, or if its statement stores nothing, a transaction of
transitions.py records the failure.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from sessiond_server.core.errors import Fault
from sessiond_server.core.events import EventPublisher
from sessiond_server.core.states import TurnState
from sessiond_server.db.idempotency import RequestRecord
from sessiond_server.turns.changes.direct import fence_of, news_of, running_of
from sessiond_server.turns.errors import error_of
from sessiond_server.turns.requests.refusals import Refusal
from sessiond_server.turns.sending import Sending
from sessiond_server.turns.state import RunningTurn, TurnNews
from sessiond_server.turns.store.ends import EndStore, ending_columns
from sessiond_server.turns.store.openings import Opening
from sessiond_server.turns.store.rows import NewTurn, changes_of
from sessiond_server.turns.store.starts import StartStore


@dataclass(frozen=True, slots=True)
class Refused:
    """A turn that failed when it was accepted.

    Its news must be published in the order of the attributes.

    Attributes:
        accepted: the messages of the turn.
        running: the turn as it started.
        ended: the end of the turn.
    """

    accepted: TurnNews
    running: RunningTurn
    ended: TurnNews


class DirectFailures:
    """Records failures. The caller must publish the yielded changes before the block ends."""

    def __init__(self, starts: StartStore, ends: EndStore, publisher: EventPublisher) -> None:
        self._starts = starts
        self._ends = ends
        self._publisher = publisher

    @asynccontextmanager
    async def refuse(
        self,
        sending: Sending,
        opening: Opening,
        turn: NewTurn,
        record: RequestRecord | None,
        refusal: Refusal,
    ) -> AsyncIterator[Refused | None]:
        """Store the messages of a Send, and its turn as failed.

        Args:
            sending: the request.
            opening: the session as it was read.
            turn: the turn.
            record: record of the request; None for a request without a request_id.
            refusal: the failure.

        Yields:
            The turn; None if nothing was stored, because the session is no longer as it was read.

        Raises:
            DuplicateRequest: if the request is recorded already.
        """
        head, rows = opening.head, turn.rows
        append = replace(turn.append, expected_last_seq=head.last_seq, expected_epoch=head.epoch)
        error = error_of(refusal.fault, sending.session_id, turn.turn_id)
        changes, change_count = refusal.changes, refusal.change_count
        columns = ending_columns(changes, change_count, error=error)
        async with self._ends.connection() as connection:
            with self._publisher.hold_delivery(append.key):
                started = await self._starts.refuse(
                    connection, turn, append, record, opening.revision, columns
                )
                if started is None:
                    yield None
                    return
                running = running_of(sending, opening, turn, started)
                accepted = news_of(running, started.appended, started.message_log, rows)
                assert running.row is not None  # noqa: S101 - every new turn has a row
                ended = replace(
                    accepted, stored=[], messages=None, has_appended=False, is_idle=True
                )
                ended.ended = [
                    replace(
                        running.row,
                        state=TurnState.FAILED,
                        error=error,
                        changes=changes,
                        change_count=change_count,
                        ended_at=started.created_at,
                    )
                ]
                yield Refused(accepted, running, ended)

    @asynccontextmanager
    async def fail(self, running: RunningTurn, fault: Fault) -> AsyncIterator[TurnNews | None]:
        """End a running turn with a Fault.

        Yields:
            The ended turn; None if nothing was stored.
        """
        # Text that was saved or written must be kept, which takes a transaction.
        has_text = running.text.length or running.has_saved or running.is_resumed
        if running.row is None or has_text or fault.reason == "TURN_ABORTED":
            yield None
            return
        error = error_of(fault, running.session_id, running.turn_id)
        changes, change_count = changes_of(running.report)
        columns = {
            "key": running.key,
            "project_id": running.project_id,
            **fence_of(running),
            **ending_columns(changes, change_count, error=error, usage=running.usage),
        }
        async with self._ends.connection() as connection:
            with self._publisher.hold_delivery(running.key):
                failed = await self._ends.fail(connection, columns)
                if failed is None:
                    yield None
                    return
                row = replace(
                    running.row,
                    state=TurnState.FAILED,
                    first_seq=failed.first_seq,
                    end_seq=failed.end_seq,
                    usage=running.usage or running.row.usage,
                    error=error,
                    changes=changes,
                    change_count=change_count,
                    ended_at=failed.ended_at,
                )
                yield TurnNews(
                    key=running.key,
                    log=running.log,
                    project_id=running.project_id,
                    session_id=running.session_id,
                    epoch=running.epoch,
                    ended=[row],
                    settled=running.turn_id,
                    is_idle=True,
                )
