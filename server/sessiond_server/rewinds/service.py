"""The rules of RewindSession: remove the newest messages of a session, and append others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

from sessiond.v1.message_pb2 import Message
from sessiond_server.assets.service import asset_not_found
from sessiond_server.assets.store.assets import AssetMissing
from sessiond_server.core import events
from sessiond_server.core.errors import (
    Fault,
    history_rewound,
    invalid,
    session_destroyed,
    session_not_found,
)
from sessiond_server.core.events import Event
from sessiond_server.core.ids import session_key
from sessiond_server.core.pg_time import now_us
from sessiond_server.core.states import SessionStatus
from sessiond_server.core.validation import check_bookmark_name, check_message_id
from sessiond_server.db.idempotency import DuplicateRequest, RequestRecord, content_hash
from sessiond_server.messages.append import Appends, PreparedAppend
from sessiond_server.messages.duplicates import already_exists, message_not_found
from sessiond_server.messages.encoding import assigned_fields
from sessiond_server.messages.refusals import check_place, parent_missing
from sessiond_server.messages.store.append import Appended, AppendStore
from sessiond_server.messages.store.history import HistoryStore, PageQuery
from sessiond_server.messages.store.message_ids import MessageIdTaken, stored_ids
from sessiond_server.messages.store.segments import Segment, cut
from sessiond_server.messages.target import Target
from sessiond_server.quotas.service import Quotas
from sessiond_server.quotas.usage import NO_RESERVATION
from sessiond_server.rewinds.store import (
    Head,
    RewindResult,
    RewindStore,
    appended_result,
    recorded_result,
)
from sessiond_server.sessions.state import state_changed, too_large
from sessiond_server.sessions.store.lock import Change, SessionMissing
from sessiond_server.sessions.store.state import (
    NO_PATCH,
    StateChanged,
    StateTooLarge,
    check_state_etag,
    patch_state,
)
from sessiond_server.turns.changes.transitions import TurnTransitions
from sessiond_server.turns.runner import TurnRunner
from sessiond_server.turns.state import TurnChanges

# The page "Limits" of the reference shows these comments.
MAX_REMOVED = 1000  # removed messages that one RewindSession returns
MAX_REMOVED_BYTES = 4 * 1024 * 1024  # their content, but at least one message is returned

# How long the purger keeps removed messages that a repeated request has to return. Clients repeat a
# call within its deadline, which is half of this by default.
GRACE_S = 60.0


@dataclass(frozen=True, slots=True)
class Rewinding:
    """A request to rewind a session.

    Exactly one of to_seq, drop_last, to_bookmark and before_message_id is not None.

    Attributes:
        target: the session, and conditions on its state before the rewind.
        to_seq: the last seq to keep.
        drop_last: how many messages to remove.
        to_bookmark: name of the bookmark up to which messages are kept.
        before_message_id: message_id of the first message to remove.
        messages: messages to append.
        return_removed: maximum number of removed messages to return.
        abort_turn: whether to abort the running turn.
    """

    target: Target
    to_seq: int | None = None
    drop_last: int | None = None
    to_bookmark: str | None = None
    before_message_id: str | None = None
    messages: Sequence[Message] = ()
    return_removed: int = 0
    abort_turn: bool = False


@dataclass(frozen=True, slots=True)
class Rewound:
    """The result of a rewind, and the newest removed messages, encoded, in the order of seqs."""

    result: RewindResult
    removed: Sequence[bytes]


class Rewinds:
    """Rewinds of sessions."""

    def __init__(
        self,
        store: RewindStore,
        append_store: AppendStore,
        history: HistoryStore,
        appends: Appends,
        runner: TurnRunner,
        transitions: TurnTransitions,
        quotas: Quotas,
    ) -> None:
        self._store = store
        self._append_store = append_store
        self._history = history
        self._appends = appends
        self._runner = runner
        self._transitions = transitions
        self._quotas = quotas

    async def rewind(self, rewinding: Rewinding) -> Rewound:
        """Rewind a session; either the whole request is carried out or nothing.

        Raises:
            Fault: with the reasons listed at RewindSession in the protos.
        """
        target = rewinding.target
        _check(rewinding)
        if rewinding.messages:
            self._quotas.take_messages(target.project_id, len(rewinding.messages))
        # The append has no conditions and leaves the state alone, because the rewind itself checks
        # the conditions and changes the state, even if nothing is appended.
        unconditional = replace(
            target,
            expected_last_seq=None,
            expected_epoch=None,
            request_id="",
            state=NO_PATCH,
            state_etag="",
        )
        prepared = (
            await self._appends.prepared(unconditional, rewinding.messages)
            if rewinding.messages
            else None
        )
        key = session_key(target.project_id, target.session_id)
        record = (
            RequestRecord(key, target.request_id, _content_of(rewinding, prepared))
            if target.request_id
            else None
        )
        room = NO_RESERVATION
        if prepared:
            room = await self._quotas.reserve(
                target.project_id,
                unless=partial(self._appends.is_repetition, target),
                max_bytes=prepared.append.totals.content_bytes,
            )
        try:
            async with (
                room,
                self._runner.change(
                    key, target.project_id, target.session_id, record, excludes_copies=True
                ) as changes,
            ):
                return await self._rewind(changes, rewinding, prepared)
        except SessionMissing:
            raise session_not_found(target.session_id) from None
        except DuplicateRequest as duplicate:
            first = duplicate.first
            assert first is not None  # noqa: S101 - record_request returns it
            result = recorded_result(first.first_seq, first.last_seq, first.epoch, first.result)
            return Rewound(result, await self._removed(rewinding, result))
        except StateChanged as e:
            raise state_changed(target.session_id, e) from None
        except StateTooLarge as e:
            raise too_large(e) from None
        except AssetMissing as e:
            assert prepared is not None  # noqa: S101 - only an append refers to assets
            raise asset_not_found(e.sha256.hex(), prepared.asset_fields[e.sha256]) from None

    async def _rewind(
        self, changes: TurnChanges, rewinding: Rewinding, prepared: PreparedAppend | None
    ) -> Rewound:
        change, target = changes.change, rewinding.target
        if change.state == SessionStatus.DESTROYED:
            raise session_destroyed(target.session_id, "rewind it")
        check_place(target, change.epoch, change.last_seq)
        await check_state_etag(change.connection, change.key, change.log, target.state_etag)
        head = await self._store.head(change)
        if head.running_turn and not rewinding.abort_turn:
            raise _turn_running(target.session_id, head.running_turn)
        last_seq = await self._last_kept(change, rewinding)
        if head.running_turn:
            # Do not keep the model's text: it would be removed, or be appended after the cut.
            await self._transitions.abort(
                changes, head.running_turn, "the session was rewound", keeps_text=False
            )
        removed = cut(head.segments, last_seq, change.last_seq)
        if removed:
            await self._cut(changes, rewinding, head, last_seq)
            await self._transitions.fail_orphans(changes, last_seq)
        appended = await self._append(changes, prepared) if prepared else None
        await patch_state(change.connection, change.key, change.log, target.state)
        result = appended_result(appended, last_seq, changes.change.epoch, removed)
        if target.request_id:
            await self._store.set_result(change, target.request_id, result)
        if head.running_turn:
            await self._transitions.start_next(changes)
        return Rewound(result, await self._removed(rewinding, result, change))

    async def _cut(
        self, changes: TurnChanges, rewinding: Rewinding, head: Head, last_seq: int
    ) -> None:
        """Remove the messages after `last_seq`. At least one message must follow it."""
        change, target = changes.change, rewinding.target
        is_repeatable = target.request_id and rewinding.return_removed
        new_log = await self._store.cut(change, head, last_seq, GRACE_S if is_repeatable else 0.0)
        epoch = change.epoch + 1
        changes.change = replace(change, message_log=new_log, epoch=epoch, last_seq=last_seq)
        changes.rewound = Event(
            events.REWOUND,
            target.project_id,
            target.session_id,
            change.log,
            now_us(),
            None,
            {"last_seq": last_seq, "removed_count": change.last_seq - last_seq},
            epoch,
        )

    async def _last_kept(self, change: Change, rewinding: Rewinding) -> int:
        """Return the seq of the last message to keep."""
        session_id = rewinding.target.session_id
        if rewinding.to_bookmark is not None:
            name = rewinding.to_bookmark
            marked = await self._store.seq_of_bookmark(change, name)
            if marked is None:
                raise Fault(
                    "BOOKMARK_NOT_FOUND",
                    f"to_bookmark: session {session_id!r} has no bookmark {name!r}",
                    metadata={"session_id": session_id, "name": name},
                    fields={"to_bookmark": "names no bookmark of the session"},
                )
            return marked
        if (message_id := rewinding.before_message_id) is not None:
            stored = await stored_ids(
                change.connection, change.key, rewinding.target.project_id, [message_id]
            )
            if not stored:
                raise message_not_found(
                    session_id, message_id, change.last_seq, "before_message_id"
                )
            return stored[message_id] - 1
        if rewinding.drop_last is not None:
            return max(change.last_seq - rewinding.drop_last, 0)
        to_seq = rewinding.to_seq or 0
        if to_seq > change.last_seq:
            raise Fault(
                "MESSAGE_NOT_FOUND",
                f"to_seq: session {session_id!r} has no message {to_seq}; it is at seq "
                f"{change.last_seq}",
                metadata={"session_id": session_id, "seq": to_seq, "last_seq": change.last_seq},
                fields={"to_seq": "names no message of the session"},
            )
        return to_seq

    async def _append(self, changes: TurnChanges, prepared: PreparedAppend) -> Appended:
        append = prepared.append
        try:
            appended = await self._append_store.append_within(
                changes.change.connection, append, prepared.rows
            )
        except MessageIdTaken as e:
            raise already_exists(prepared.target.session_id, append.message_ids, e.stored) from None
        if appended is None:
            # The session is active and locked, so only a parent can be missing.
            raise parent_missing(append, prepared.target.session_id, changes.change.last_seq)
        changes.has_appended = True
        changes.stored.append((append.totals.count, append.totals.content_bytes))
        return appended

    async def _removed(
        self, rewinding: Rewinding, result: RewindResult, change: Change | None = None
    ) -> list[bytes]:
        """Return the newest removed messages, encoded, in the order of their seqs.

        Args:
            rewinding: the request.
            result: the result of the rewind.
            change: the transaction of the rewind; None for a repetition.

        Raises:
            Fault: HISTORY_REWOUND if the messages have been purged since the first request.
        """
        wanted = min(rewinding.return_removed, result.removed_count)
        if not wanted:
            return []
        newest = result.removed[-1].last_seq
        segments: Sequence[Segment] = cut(result.removed, newest - wanted, newest)
        query = PageQuery(tuple(segments), wanted, MAX_REMOVED_BYTES, descending=True)
        rows = await self._history.page(query, on=change.connection if change else None)
        if [seq for seq, *_ in rows] != list(range(newest, newest - len(rows), -1)) or not rows:
            raise history_rewound(
                rewinding.target.session_id,
                result.epoch,
                result.last_seq,
                "the messages that the first request with this request_id removed have been purged",
            )
        return [assigned_fields(seq, us) + bytes(body) for seq, us, body in reversed(rows)]


def _check(rewinding: Rewinding) -> None:
    """Check the fields whose validity does not depend on the session.

    Raises:
        Fault: INVALID_FIELD if a field is invalid.
    """
    rewinding.target.check()
    if rewinding.to_bookmark is not None:
        check_bookmark_name(rewinding.to_bookmark, "to_bookmark")
    elif rewinding.before_message_id is not None:
        check_message_id(rewinding.before_message_id, "before_message_id")
    elif rewinding.drop_last is not None:
        if rewinding.drop_last < 1:
            raise invalid("drop_last", f"is {rewinding.drop_last}; at least 1 is required")
    elif rewinding.to_seq is None:
        raise invalid("to", "is required: set to_seq, drop_last, to_bookmark or before_message_id")
    elif rewinding.to_seq < 0:
        raise invalid("to_seq", "is negative; 0 removes all messages")
    if not 0 <= rewinding.return_removed <= MAX_REMOVED:
        raise invalid(
            "return_removed", f"is {rewinding.return_removed}; 0 to {MAX_REMOVED} are allowed"
        )


def _content_of(rewinding: Rewinding, prepared: PreparedAppend | None) -> bytes:
    return content_hash(
        "rewind",
        rewinding.to_seq,
        rewinding.drop_last,
        rewinding.to_bookmark,
        rewinding.before_message_id,
        prepared.append.content_hash.hex() if prepared else "",
        rewinding.target.expected_last_seq,
        rewinding.target.expected_epoch,
        rewinding.return_removed,
        rewinding.abort_turn,
        *(rewinding.target.state.content if rewinding.target.state else ()),
    )


def _turn_running(session_id: str, turn_id: UUID) -> Fault:
    return Fault(
        "TURN_RUNNING",
        f"session {session_id!r} runs turn {turn_id}: wait for its end, abort it (Abort), or set "
        "abort_turn",
        metadata={"session_id": session_id, "turn_id": str(turn_id)},
    )
