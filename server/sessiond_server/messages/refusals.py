"""Finds out why an append stored nothing: which condition of its statement did not hold."""

from collections.abc import Sequence

from sessiond_server.core.errors import Fault, history_rewound, session_not_found
from sessiond_server.core.pg_time import to_pg_us
from sessiond_server.core.states import SessionStatus
from sessiond_server.db.idempotency import RequestRecord
from sessiond_server.messages.duplicates import already_exists
from sessiond_server.messages.store.append import Append, Appended, AppendStore
from sessiond_server.messages.target import Target
from sessiond_server.sessions.state import state_changed
from sessiond_server.sessions.store.sessions import SessionRow, SessionStore
from sessiond_server.sessions.store.state import StateChanged, state_etag


class Changed(Fault):
    """The append's conditions did not hold when it ran, but hold now: the session has changed."""

    def __init__(self, target: Target, last_seq: int) -> None:
        if target.expected_last_seq is None and target.expected_epoch is None:
            fault = changing(target.session_id)
        else:
            fault = _sequence_conflict(target, last_seq, _CHANGED)
        super().__init__(
            fault.reason,
            fault.message,
            metadata=fault.metadata,
            retry_after_s=fault.retry_after_s,
        )


class Refusals:
    """Finds out why an append is refused."""

    def __init__(self, store: AppendStore, sessions: SessionStore) -> None:
        self._store = store
        self._sessions = sessions

    async def check_open(self, target: Target) -> None:
        """Check that the session takes appends, unless this one is a repetition.

        Raises:
            Fault: SESSION_NOT_FOUND or SESSION_DESTROYED.
        """
        row = await self._sessions.get(target.key, target.project_id)
        if row is None and target.create:
            return
        if row is None:
            raise session_not_found(target.session_id)
        if await self._is_recorded(target, row):
            return  # a repetition returns the first result, whatever the session's current state is
        if row.state == SessionStatus.DESTROYED:
            raise _destroyed(target.session_id)

    async def is_repetition(self, target: Target) -> bool:
        """Return whether an append with this request_id was stored before."""
        row = await self._sessions.get(target.key, target.project_id)
        return row is not None and await self._is_recorded(target, row)

    async def _is_recorded(self, target: Target, row: SessionRow) -> bool:
        return bool(
            target.request_id
            and await self._sessions.find_request(row.key, row.log, target.request_id)
        )

    async def adds_nothing(self, target: Target, append: Append) -> bool:
        """Return whether an append is a repetition, or all of its messages are stored already."""
        row = await self._sessions.get(target.key, target.project_id)
        if row is None:
            return False
        if await self._is_recorded(target, row):
            return True
        ids = [message_id for _, message_id in append.message_ids]
        if not target.skips_duplicates or len(ids) < append.totals.count:
            return False
        return len(await self._store.stored_ids(target.key, target.project_id, ids)) == len(ids)

    async def exists(self, target: Target) -> bool:
        """Return whether the session of an append exists."""
        return await self._sessions.get(target.key, target.project_id) is not None

    @staticmethod
    def check_empty(target: Target, append: Append) -> None:
        """Check that the conditions of an append hold in a session without messages.

        Raises:
            Fault: SEQUENCE_CONFLICT or PARENT_NOT_FOUND.
        """
        check_place(target, 0, 0)
        _check_parents(target, append, 0)

    async def nothing_new(self, target: Target, content_hash: bytes, skipped: int) -> Appended:
        """Return the result of an append if the session has all of its messages already.

        Args:
            target: session and conditions of the append.
            content_hash: see Append.
            skipped: number of messages of the request, all of which are left out.

        Raises:
            Fault: SESSION_NOT_FOUND, SESSION_DESTROYED, SEQUENCE_CONFLICT, HISTORY_REWOUND or
                ETAG_MISMATCH.
        """
        row = await self._session(target)
        if first := await self._first_result(target, row, content_hash):
            return first
        _check_state(target, row)
        if target.state_etag:
            [state] = await self._sessions.states([row])
            if (current := state_etag(state)) != target.state_etag:
                raise state_changed(target.session_id, StateChanged(current))
        return Appended(0, row.last_seq, 0, row.epoch, skipped)

    async def explain(self, target: Target, append: Append, indexes: Sequence[int]) -> Appended:
        """Explain why an append stored nothing.

        Args:
            target: session and conditions of the append.
            append: the append.
            indexes: see MessageValidator.

        Returns:
            The result of the first request, if this request is a repetition.

        Raises:
            Fault: for the condition that did not hold.
        """
        row = await self._session(target)
        if first := await self._first_result(target, row, append.content_hash):
            return first
        _check_state(target, row)
        if append.message_ids:
            ids = [message_id for _, message_id in append.message_ids]
            if stored := await self._store.stored_ids(append.key, target.project_id, ids):
                raise already_exists(target.session_id, append.message_ids, stored, indexes)
        _check_parents(target, append, row.last_seq, indexes)
        # The condition did not hold when the statement ran, but holds now. Another append must have
        # changed the session in between.
        raise Changed(target, row.last_seq)

    async def _first_result(
        self, target: Target, row: SessionRow, content_hash: bytes
    ) -> Appended | None:
        """Return the result of the first request with the request_id; None if there is none."""
        if not target.request_id:
            return None
        first = await self._sessions.find_request(row.key, row.log, target.request_id)
        if first is None:
            return None
        RequestRecord(row.key, target.request_id, content_hash).check_repeats(first)
        created_us = to_pg_us(first.created_at)
        return Appended(
            first.first_seq, first.last_seq, created_us, first.epoch, int(first.result or 0)
        )

    async def _session(self, target: Target) -> SessionRow:
        row = await self._sessions.get(target.key, target.project_id)
        if row is None and target.create:
            # The session existed when the statement ran, but has been deleted since.
            raise Changed(target, 0)
        if row is None:
            raise session_not_found(target.session_id)
        return row


_CHANGED = "changed while the append ran; try again"


def changing(session_id: str) -> Fault:
    """Return the fault for an append during which another caller changed the session."""
    return Fault("OVERLOADED", f"session {session_id!r} {_CHANGED}", retry_after_s=0.05)


def _check_state(target: Target, row: SessionRow) -> None:
    """Check that the session takes appends, and has the expected epoch and last_seq."""
    if row.state == SessionStatus.DESTROYED:
        raise _destroyed(target.session_id)
    check_place(target, row.epoch, row.last_seq)


def check_place(target: Target, epoch: int, last_seq: int) -> None:
    """Check that a session has the epoch and the last_seq that the caller expects.

    Args:
        target: the session, with the epoch and the last_seq that the caller expects.
        epoch: the session's epoch.
        last_seq: the session's last_seq.

    Raises:
        Fault: HISTORY_REWOUND or SEQUENCE_CONFLICT.
    """
    if target.expected_epoch not in (None, epoch):
        raise history_rewound(
            target.session_id,
            epoch,
            last_seq,
            f"epoch {target.expected_epoch} was expected, and nothing was changed",
        )
    if target.expected_last_seq not in (None, last_seq):
        raise _sequence_conflict(
            target,
            last_seq,
            f"is at seq {last_seq}, not {target.expected_last_seq}: another "
            "caller appended; read from there, then try again",
        )


def _check_parents(
    target: Target, append: Append, last_seq: int, indexes: Sequence[int] = ()
) -> None:
    if append.totals.parent_floor > last_seq:
        raise parent_missing(append, target.session_id, last_seq, indexes)


def parent_missing(
    append: Append, session_id: str, last_seq: int, indexes: Sequence[int] = ()
) -> Fault:
    """Return the fault for an append with a message whose parent is not stored before it.

    Args:
        append: the append.
        session_id: the session.
        last_seq: the session's last_seq before the append.
        indexes: for each message of the append, its place in the request. () = the same place.
    """
    # If messages are left out, every parent must be stored already.
    missing = (
        place
        for place, parent_seq in append.parents
        if parent_seq > last_seq + (0 if append.skipped else place)
    )
    place = next(missing, None)
    field = "messages.parent_seq"
    if place is not None:
        field = f"messages[{indexes[place] if indexes else place}].parent_seq"
    return Fault(
        "PARENT_NOT_FOUND",
        f"{field}: does not name an earlier message; session {session_id!r} is at seq {last_seq}",
        metadata={"session_id": session_id, "last_seq": last_seq},
        fields={field: "names neither a message of the session nor an earlier one of the batch"},
    )


def _sequence_conflict(target: Target, last_seq: int, text: str) -> Fault:
    return Fault(
        "SEQUENCE_CONFLICT",
        f"session {target.session_id!r} {text}",
        metadata={
            "session_id": target.session_id,
            "expected_last_seq": target.expected_last_seq,
            "last_seq": last_seq,
        },
    )


def _destroyed(session_id: str) -> Fault:
    return Fault(
        "SESSION_DESTROYED",
        f"session {session_id!r} is destroyed: resume it (ResumeSession) to append",
        metadata={"session_id": session_id},
    )
