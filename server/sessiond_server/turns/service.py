"""The rules of Send, Abort, GetTurn and ListTurns.

runner.py runs the turns, and streams.py streams their events to Send.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

from sessiond_server.core import pagination
from sessiond_server.core.errors import (
    Fault,
    history_rewound,
    invalid,
    request_id_reused,
    session_not_found,
)
from sessiond_server.core.ids import is_incarnation, session_key, uuid7
from sessiond_server.core.limits import (
    MAX_NAME_CHARACTERS,
    MAX_OPEN_TURNS,
)
from sessiond_server.core.pagination import Page, Paging
from sessiond_server.core.states import SessionStatus
from sessiond_server.core.validation import check_request_id, check_session_id, check_text
from sessiond_server.db.idempotency import (
    DuplicateRequest,
    RequestRecord,
    complete_request,
    content_hash,
)
from sessiond_server.db.pool import LockTimeout
from sessiond_server.messages.duplicates import already_exists
from sessiond_server.quotas.service import Quotas
from sessiond_server.sessions.locked import LockedSessions
from sessiond_server.sessions.store.lock import SessionMissing
from sessiond_server.sessions.store.sessions import SessionStore
from sessiond_server.turns.changes.queueing import DirectQueue
from sessiond_server.turns.changes.transitions import TurnTransitions
from sessiond_server.turns.errors import parent_not_found
from sessiond_server.turns.new_turns import NewTurns
from sessiond_server.turns.requests.context import Contexts
from sessiond_server.turns.requests.window import has_results
from sessiond_server.turns.runner import TurnRunner
from sessiond_server.turns.sending import Accepted, Sending, content_of
from sessiond_server.turns.store.openings import Opening, OpeningStore
from sessiond_server.turns.store.rows import NewTurn, TurnRow
from sessiond_server.turns.store.turns import TurnStore
from sessiond_server.turns.waiting.joining import Joiner
from sessiond_server.turns.waiting.lanes import TurnLanes


class Turns:
    """The turns of sessions. Session ids are those of the calling project, project_id.

    Args:
        new_turns: makes the turns.
        save_remote_text: asks the process that runs a turn to save the turn's text.
    """

    def __init__(
        self,
        store: TurnStore,
        sessions: SessionStore,
        runner: TurnRunner,
        transitions: TurnTransitions,
        contexts: Contexts,
        new_turns: NewTurns,
        openings: OpeningStore,
        queue: DirectQueue,
        quotas: Quotas,
        lanes: TurnLanes,
        locked: LockedSessions,
        *,
        save_remote_text: Callable[[UUID], Awaitable[None]],
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._runner = runner
        self._transitions = transitions
        self._contexts = contexts
        self._new_turns = new_turns
        self._queue = queue
        self._openings = Joiner(openings.read, lanes)
        self._quotas = quotas
        self._lanes = lanes
        self._locked = locked
        self._save_remote_text = save_remote_text

    async def close(self) -> None:
        """Cancel the Sends that wait for the data of their sessions."""
        await self._openings.close()

    async def open(self, sending: Sending) -> Opening:
        """Read the data of a session that a Send needs.

        Raises:
            Fault: SESSION_NOT_FOUND; INVALID_FIELD for a malformed session_id or request_id.
        """
        self._lanes.send_arrived()
        session_id, project_id = check_session_id(sending.session_id), sending.project_id
        check_request_id(sending.request_id)
        key = session_key(project_id, session_id)
        opening = await self._openings.ask(project_id, (key, project_id, sending.request_id))
        if opening is None:
            raise session_not_found(session_id)
        return opening

    async def send(self, sending: Sending, opening: Opening) -> Accepted:
        """Start a turn, or queue it if another one is running.

        Args:
            sending: the request.
            opening: the result of `open` for this Send.

        Raises:
            Fault: with the reasons of Send; nothing is stored then.
        """
        session_id, project_id = sending.session_id, sending.project_id
        key, turn_id, record = session_key(project_id, session_id), uuid7(), None
        if sending.request_id:
            record = RequestRecord(key, sending.request_id, content_of(sending), str(turn_id))
            # Look for a repeated request before the checks. If the request is repeated, the session
            # and its settings may have changed since the first request, and the checks could fail.
            if opening.first:
                return await self._joined(sending, record, *opening.first)
        check_text("model", sending.model, MAX_NAME_CHARACTERS)
        if opening.state == SessionStatus.DESTROYED:
            raise _destroyed(session_id)
        turn = self._new_turns.turn(
            sending, turn_id, session_model=opening.model, config=opening.config
        )
        self._quotas.take_messages(project_id, len(sending.messages) or bool(sending.prompt))
        room = await self._quotas.reserve_turn(project_id, len(turn.prompt))
        try:
            async with room:
                running = await self._runner.start(sending, opening, turn, record)
                if running:
                    assert running.row is not None  # noqa: S101 - every new turn has a row
                    before = running.after_seq - turn.append.totals.count
                    return Accepted(running.row, before, True, running.epoch)
                with suppress(LockTimeout):
                    async with self._lanes.start(project_id):
                        if queued := await self._queue.add(sending, opening, turn, record):
                            return queued
                        return await self._queued(sending, opening, turn, record, waits=False)
                # A locked session must not keep Sends to other sessions from being stored.
                await self._locked.until_free(key, session_id)
                async with self._lanes.waits.place(project_id):
                    return await self._queued(sending, opening, turn, record, waits=True)
        except DuplicateRequest as duplicate:
            assert record is not None  # noqa: S101 - only a record can be a duplicate
            first = duplicate.first or await self._sessions.find_request(
                key, opening.head.log, sending.request_id
            )
            if first is None:
                raise session_not_found(session_id) from None
            return await self._joined(sending, record, first.content_hash, first.result)

    async def _queued(
        self,
        sending: Sending,
        opening: Opening,
        turn: NewTurn,
        record: RequestRecord | None,
        *,
        waits: bool,
    ) -> Accepted:
        """Queue a turn, and start the next one if none is running.

        If the session is locked, wait for it only if `waits` is true.

        Raises:
            DuplicateRequest: if the request is recorded already.
            Fault: with the reasons of Send; nothing is stored then.
        """
        session_id, project_id, head = sending.session_id, sending.project_id, opening.head
        key, turn_id = session_key(project_id, session_id), turn.turn_id
        own_id = str(turn.message_id)
        ids = [(place, name) for place, name in turn.append.message_ids if name != own_id]
        if ids and (stored := await self._store.stored_ids(key, project_id, ids)):
            raise already_exists(session_id, ids, stored)
        # Messages that contain results are not held, because other messages wait for the results.
        is_held = (
            sending.is_immediate
            and not any(has_results(message) for message in sending.messages)
            and await self._contexts.has_open_calls(head)
        )
        try:
            changing = self._runner.change(key, project_id, session_id, record, waits=waits)
            async with changing as changes:
                change = changes.change
                if change.state == SessionStatus.DESTROYED:
                    raise _destroyed(session_id)
                if sending.expected_epoch not in (None, change.epoch):
                    problem = f"epoch {sending.expected_epoch} was expected, and nothing was sent"
                    raise history_rewound(session_id, change.epoch, change.last_seq, problem)
                open_ = await self._store.open(changes.change)
                if open_.count >= MAX_OPEN_TURNS:
                    raise Fault(
                        "LIMIT_EXCEEDED",
                        f"session {session_id!r} has {open_.count} running and queued turns; at "
                        f"most {MAX_OPEN_TURNS} are allowed",
                        metadata={"what": "turns", "limit": MAX_OPEN_TURNS},
                    )
                if turn.message_id is None and not open_.last_seq and not open_.count:
                    raise invalid(
                        "prompt",
                        "is empty, and so is the session: there is nothing for a model to answer",
                    )
                if turn.parent_seq > open_.last_seq:
                    raise parent_not_found(session_id, turn.parent_seq, open_.last_seq)
                if sending.is_immediate:
                    running_turn = open_.running_turn
                    is_held = is_held and open_.last_seq == head.last_seq
                    turn = replace(turn, steers=running_turn, is_held=is_held and not running_turn)
                await self._store.add(changes.change, turn, open_.last_place + 1)
                if open_.running_turn is None:
                    await self._transitions.start_next(changes)
        except SessionMissing:
            raise session_not_found(session_id) from None
        try:
            turn_now = await self.own(project_id, session_id, str(turn_id))
        except Fault as fault:
            # Since the commit, the session has been deleted and created again.
            raise (
                session_not_found(session_id) if fault.reason == "TURN_NOT_FOUND" else fault
            ) from None
        return Accepted(turn_now, open_.last_seq, True, change.epoch)

    async def abort(
        self,
        project_id: UUID,
        session_id: str,
        turn_id: str,
        *,
        include_queued: bool,
        request_id: str,
    ) -> list[TurnRow]:
        """Abort turns.

        Args:
            project_id: the caller's project.
            session_id: the session.
            turn_id: the turn to abort; "" = the running one.
            include_queued: also abort the queued turns; not together with turn_id.
            request_id: makes the call safe to repeat; "" = none.

        Returns:
            The turns that this call aborted; a repeated call returns the same turns.

        Raises:
            Fault: with the reasons of Abort.
        """
        check_session_id(session_id)
        check_request_id(request_id)
        if turn_id and include_queued:
            raise invalid("include_queued", "cannot be combined with turn_id")
        wanted = check_turn_id(turn_id) if turn_id else None
        key = session_key(project_id, session_id)
        record = (
            RequestRecord(key, request_id, content_hash("abort", turn_id, include_queued))
            if request_id
            else None
        )
        await self._save_text(key, project_id, wanted)
        try:
            async with self._runner.change(key, project_id, session_id, record) as changes:
                change = changes.change
                running = (await self._store.open(change)).running_turn
                if wanted and not await self._store.find(change, wanted):
                    raise _turn_not_found(session_id, turn_id)
                queued = await self._store.queued_ids(change) if include_queued else []
                for open_id in (wanted or running, *queued):
                    if open_id:
                        await self._transitions.abort(changes, open_id, "the turn was aborted")
                ended = list(changes.ended)
                if record:
                    result = ",".join(str(row.turn_id) for row in ended)
                    done = replace(record, result=result)
                    await complete_request(change.database, change.connection, done, change.log)
                if running is None or any(row.turn_id == running for row in ended):
                    await self._transitions.start_next(changes)
        except SessionMissing:
            raise session_not_found(session_id) from None
        except DuplicateRequest as duplicate:
            if record:
                record.check_repeats(duplicate.first)
            return [
                await self.get(project_id, session_id, ended_id)
                for ended_id in duplicate.result.split(",")
                if ended_id
            ]
        return ended

    async def _save_text(self, key: UUID, project_id: UUID, turn_id: UUID | None) -> None:
        """If another process runs the running turn, ask it to save the turn's text.

        Args:
            key: the session's key.
            project_id: the caller's project.
            turn_id: the turn that is to be aborted; None = the running one.
        """
        running = await self._store.running(key, project_id)
        if running and turn_id in (None, running) and not self._runner.runs(running):
            await self._save_remote_text(running)

    async def wake(self, project_id: UUID, session_id: str) -> None:
        """Start the turns that wait for the results of calls, if all results have been stored."""
        key = session_key(project_id, session_id)
        opening = await self._openings.ask(project_id, (key, project_id, ""))
        if opening is None or await self._contexts.has_open_calls(opening.head):
            return
        with suppress(SessionMissing):
            async with self._runner.change(key, project_id, session_id) as changes:
                open_ = await self._store.open(changes.change)
                # If more messages have arrived since the check, do nothing: they cause another call
                # of this method.
                is_answered = open_.last_seq == opening.head.last_seq and not open_.running_turn
                if is_answered and await self._store.release(changes.change):
                    await self._transitions.start_next(changes)

    async def session_destroyed(self, project_id: UUID, session_id: str) -> None:
        """Abort the turns of a destroyed session, unless it has been resumed by now."""
        key = session_key(project_id, session_id)
        with suppress(SessionMissing):
            async with self._runner.change(key, project_id, session_id) as changes:
                if changes.change.state == SessionStatus.DESTROYED:
                    if running := (await self._store.open(changes.change)).running_turn:
                        await self._transitions.abort(changes, running, "the session was destroyed")
                    await self._transitions.start_next(changes)

    async def get(self, project_id: UUID, session_id: str, turn_id: str) -> TurnRow:
        """Return a turn. If it has steered another turn, return that turn instead.

        Raises:
            Fault: SESSION_NOT_FOUND; TURN_NOT_FOUND; INVALID_FIELD if turn_id is not a UUID.
        """
        row = await self.own(project_id, session_id, turn_id)
        return await self.own(project_id, session_id, str(row.joined)) if row.joined else row

    async def own(self, project_id: UUID, session_id: str, turn_id: str) -> TurnRow:
        """Return a turn, even if it has steered another one. Raises the same errors as `get`."""
        check_session_id(session_id)
        wanted = check_turn_id(turn_id)
        key = session_key(project_id, session_id)
        row = await self._store.get(key, project_id, wanted)
        if row is None:
            if await self._sessions.get(key, project_id) is None:
                raise session_not_found(session_id)
            raise _turn_not_found(session_id, turn_id)
        return row

    async def list(
        self, project_id: UUID, session_id: str, state: int, page_size: int, page_token: str
    ) -> Page[TurnRow]:
        """Return a page of turns, the newest first.

        Args:
            project_id: the caller's project.
            session_id: the session.
            state: only turns in this state; 0 = any.
            page_size: maximum number of turns; 0 = the default.
            page_token: token returned with the previous page; "" = the first page.

        Raises:
            Fault: INVALID_FIELD; INVALID_PAGE_TOKEN; SESSION_NOT_FOUND, also if the session of the
                previous page was deleted.
        """
        check_session_id(session_id)
        key = session_key(project_id, session_id)
        query = ("turns", key, state)
        # Tokens of earlier versions contain no incarnation.
        paging = Paging(page_size, page_token, query, UUID, pagination.text, defaults=("",))
        before, incarnation = paging.after or (None, "")
        found = await self._store.list(key, project_id, state, before, paging.size)
        session = found.rows[0] if found.rows else await self._sessions.get(key, project_id)
        if session is None or not (session.log and is_incarnation(incarnation, session.log)):
            raise session_not_found(session_id)
        log = session.log.hex
        return paging.page(found.rows, lambda row: (row.turn_id, log), has_more=found.has_more)

    async def _joined(
        self, sending: Sending, record: RequestRecord, first_hash: bytes, turn_id: str
    ) -> Accepted:
        """Return the turn that the first Send with this request_id started."""
        if first_hash != record.content_hash:
            raise request_id_reused(record.request_id)
        # Read the session before the turn. If the turn is still queued when it is read, its
        # messages will be stored after this last_seq.
        session = await self._sessions.get(record.key, sending.project_id)
        row = await self.own(sending.project_id, sending.session_id, turn_id)
        last_seq, epoch = (session.last_seq, session.epoch) if session else (0, 0)
        # The turn's messages may have been removed by a rewind.
        after_seq = min(row.first_seq - 1, last_seq) if row.first_seq else last_seq
        return Accepted(row, after_seq, False, epoch)

    async def last_seq(self, project_id: UUID, session_id: str) -> int:
        """Return the seq of a session's newest message; 0 if there is no message or no session."""
        row = await self._sessions.get(session_key(project_id, session_id), project_id)
        return row.last_seq if row else 0


def check_turn_id(turn_id: str) -> UUID:
    """Return a turn's id.

    Raises:
        Fault: INVALID_FIELD if it is not a UUID.
    """
    try:
        return UUID(turn_id)
    except ValueError:
        raise invalid("turn_id", "is not a UUID" if turn_id else "is required") from None


def _destroyed(session_id: str) -> Fault:
    return Fault(
        "SESSION_DESTROYED",
        f"session {session_id!r} is destroyed: resume it (ResumeSession) to send",
        metadata={"session_id": session_id},
    )


def _turn_not_found(session_id: str, turn_id: str) -> Fault:
    return Fault(
        "TURN_NOT_FOUND",
        f"session {session_id!r} has no turn {turn_id!r}",
        metadata={"session_id": session_id, "turn_id": turn_id},
    )
