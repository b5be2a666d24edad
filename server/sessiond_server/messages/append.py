"""Appends: the rules of StoreMessages and ImportMessages."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from uuid import UUID

from sessiond.v1.message_pb2 import Message
from sessiond_server.assets.service import asset_not_found
from sessiond_server.assets.store.assets import AssetMissing
from sessiond_server.core.errors import Fault, history_rewound, invalid, session_not_found
from sessiond_server.core.events import EventPublisher
from sessiond_server.core.ids import session_key
from sessiond_server.core.limits import Limits
from sessiond_server.core.pg_time import to_pg_us
from sessiond_server.core.states import SessionStatus
from sessiond_server.core.validation import check_request_id, check_session_id
from sessiond_server.db.idempotency import DuplicateRequest, RequestRecord
from sessiond_server.messages.store.append import Append, Appended, AppendStore
from sessiond_server.messages.store.rows import Rows
from sessiond_server.messages.store.spool import Spool
from sessiond_server.messages.token_counts import Tokenizer
from sessiond_server.messages.validation import MessageValidator, check_batch, check_import
from sessiond_server.sessions.store.sessions import SessionStore

# Above this size, messages are parsed and counted in a thread: 16 MiB of text takes half a second.
LARGE_BYTES = 1024 * 1024

# After so many invalid fields of a request, the rest of it is not looked at.
MAX_INVALID_FIELDS = 20


@dataclass(frozen=True, slots=True)
class Target:
    """The session of an append, and conditions of the append.

    Attributes:
        project_id: the caller's project.
        session_id: the session.
        expected_last_seq: the last_seq that the session must have; None = any.
        request_id: makes the append safe to repeat; "" = none.
        expected_epoch: the epoch that the session must have; None = any.
    """

    project_id: UUID
    session_id: str
    expected_last_seq: int | None
    request_id: str
    expected_epoch: int | None = None

    def check(self) -> None:
        """Check the fields' values.

        Raises:
            Fault: INVALID_FIELD if a value is invalid.
        """
        check_session_id(self.session_id)
        check_request_id(self.request_id)
        if self.expected_last_seq is not None and self.expected_last_seq < 0:
            raise invalid("expected_last_seq", "is negative; 0 stands for an empty session")
        if self.expected_epoch is not None and self.expected_epoch < 0:
            raise invalid("expected_epoch", "is negative; 0 stands for a session never rewound")


@dataclass(frozen=True, slots=True)
class PreparedAppend:
    """A validated append, ready for the store.

    Attributes:
        target: session and conditions of the append.
        append: the store's parameters.
        rows: the messages.
        asset_fields: path of the first field that refers to an asset, by the asset's sha256.
    """

    target: Target
    append: Append
    rows: Rows
    asset_fields: Mapping[bytes, str]


class Appends:
    """Appends to sessions. An append is acknowledged only after it has been committed."""

    def __init__(
        self,
        store: AppendStore,
        sessions: SessionStore,
        limits: Limits,
        tokenizer: Tokenizer,
        publisher: EventPublisher,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._limits = limits
        self._tokenizer = tokenizer
        self._publisher = publisher

    async def store(self, target: Target, messages: Sequence[Message]) -> Appended:
        """Append one batch; either all messages are stored or none.

        Raises:
            Fault: with the reasons listed at StoreMessages in the protos.
        """
        return await self.append_prepared(await self.prepared(target, messages))

    async def prepared(self, target: Target, messages: Sequence[Message]) -> PreparedAppend:
        """Prepare one batch, in a thread if it is large.

        Raises:
            Fault: as prepare.
        """
        if _bytes_of(messages) > LARGE_BYTES:
            return await asyncio.to_thread(self.prepare, target, messages)
        return self.prepare(target, messages)

    def invalid_fields(self, messages: Sequence[Message]) -> dict[str, str]:
        """Return what is wrong with messages, by field path. This modifies the messages."""
        fields: dict[str, str] = {}
        for i, message in enumerate(messages):
            validator = MessageValidator(self._limits, self._tokenizer)
            validator.totals.count = i
            try:
                validator.encode([message])
            except Fault as fault:
                fields.update(fault.fields)
            if len(fields) >= MAX_INVALID_FIELDS:
                break
        return fields

    def prepare(self, target: Target, messages: Sequence[Message]) -> PreparedAppend:
        """Validate and encode one batch. This modifies the messages.

        Raises:
            Fault: if something is wrong that does not depend on the session.
        """
        target.check()
        if not messages:
            raise invalid("messages", "is empty; send at least one")
        check_batch(len(messages), _bytes_of(messages), self._limits)
        validator = MessageValidator(self._limits, self._tokenizer)
        rows = validator.encode(messages)
        check_batch(validator.totals.count, validator.totals.content_bytes, self._limits)
        return PreparedAppend(target, append_of(target, validator), rows, validator.asset_fields)

    async def append_prepared(self, prepared: PreparedAppend) -> Appended:
        """Append a prepared batch.

        Raises:
            Fault: with the reasons listed at StoreMessages in the protos.
        """
        storing = self._store.append(prepared.append, prepared.rows)
        return await self._finish(prepared.target, prepared.append, prepared.asset_fields, storing)

    async def store_stream(
        self, target: Target, pieces: AsyncIterator[Sequence[Message]]
    ) -> Appended:
        """Append all pieces as one append; either all messages are stored or none.

        The session is locked only after the last piece has arrived.

        Raises:
            Fault: with the reasons listed at ImportMessages in the protos.
        """
        target.check()
        # If the session accepts no appends, report that before the client sends all messages.
        await self._check_open(target)
        validator = MessageValidator(self._limits, self._tokenizer)
        with Spool() as spool:
            await spool_pieces(pieces, validator, spool, self._limits)
            if not validator.totals.count:
                raise invalid("messages", "is empty; send at least one")
            append = append_of(target, validator)
            storing = self._store.append_bulk(append, spool)
            return await self._finish(target, append, validator.asset_fields, storing)

    async def _finish(
        self,
        target: Target,
        append: Append,
        asset_fields: Mapping[bytes, str],
        storing: Awaitable[Appended | None],
    ) -> Appended:
        """Wait for the store. Then publish the append, or explain why nothing was stored."""
        try:
            done = await storing
        except DuplicateRequest:
            done = None
        except AssetMissing as e:
            raise asset_not_found(e.sha256.hex(), asset_fields[e.sha256]) from None
        if done is None:
            return await self._explain(target, append)
        self._publisher.messages_appended(append.key)
        return done

    async def _check_open(self, target: Target) -> None:
        row = await self._sessions.get(
            session_key(target.project_id, target.session_id), target.project_id
        )
        if row is None:
            raise session_not_found(target.session_id)
        if target.request_id and await self._sessions.find_request(
            row.key, row.log, target.request_id
        ):
            return  # a repetition returns the first result, whatever the session's current state is
        if row.state == SessionStatus.DESTROYED:
            raise _destroyed(target.session_id)

    async def _explain(self, target: Target, append: Append) -> Appended:
        """Explain why an append stored nothing.

        Returns:
            The result of the first request, if this request is a repetition.

        Raises:
            Fault: for the condition that did not hold.
        """
        row = await self._sessions.get(append.key, target.project_id)
        if row is None:
            raise session_not_found(target.session_id)
        if target.request_id:
            first = await self._sessions.find_request(append.key, row.log, target.request_id)
            if first:
                record = RequestRecord(append.key, target.request_id, append.content_hash)
                record.check_repeats(first)
                return Appended(
                    first.first_seq, first.last_seq, to_pg_us(first.created_at), first.epoch
                )
        if row.state == SessionStatus.DESTROYED:
            raise _destroyed(target.session_id)
        check_place(target, row.epoch, row.last_seq)
        if append.totals.parent_floor > row.last_seq:
            raise Fault(
                "PARENT_NOT_FOUND",
                "messages: a parent_seq names no message before it; session "
                f"{target.session_id!r} is at seq {row.last_seq}",
                metadata={"session_id": target.session_id, "last_seq": row.last_seq},
                fields={
                    "messages.parent_seq": "names no message of the session, nor an earlier one "
                    "of the batch"
                },
            )
        # The condition did not hold when the statement ran, but holds now. Another append must have
        # changed the session in between.
        changed = "changed while the append ran; try again"
        if target.expected_last_seq is not None or target.expected_epoch is not None:
            raise _sequence_conflict(target, row.last_seq, changed)
        raise Fault("OVERLOADED", f"session {target.session_id!r} {changed}", retry_after_s=0.05)


def check_place(target: Target, epoch: int, last_seq: int) -> None:
    """Check that a session is where the caller believes it to be.

    Args:
        target: the session, and what is expected of it.
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
            f"is at seq {last_seq}, not {target.expected_last_seq}: somebody else appended; read "
            "on from there, then try again",
        )


async def spool_pieces(
    pieces: AsyncIterator[Sequence[Message]],
    validator: MessageValidator,
    spool: Spool,
    limits: Limits,
    *,
    keep_times: bool = False,
) -> None:
    """Validate the messages of an import and spool them as they arrive.

    Args:
        pieces: the messages.
        validator: validates and encodes the messages.
        spool: receives the rows.
        limits: the operator's limits.
        keep_times: see MessageValidator.encode.

    Raises:
        Fault: BATCH_TOO_LARGE above max_import_bytes; OVERLOADED if the temporary disk is full;
            other reasons if a message is invalid.
    """
    async for messages in pieces:
        if _bytes_of(messages) > LARGE_BYTES:
            rows = await asyncio.to_thread(validator.encode, messages, keep_times=keep_times)
        else:
            rows = validator.encode(messages, keep_times=keep_times)
        spool.add(rows)
        check_import(validator.totals.count, spool.size, limits)


def _bytes_of(messages: Sequence[Message]) -> int:
    """Return the size of the JSON of messages, known before anything is parsed."""
    return sum(map(len, map(attrgetter("json"), messages)))


def append_of(target: Target, validator: MessageValidator) -> Append:
    """Return the append that stores the messages encoded by a validator."""
    return Append(
        key=session_key(target.project_id, target.session_id),
        project_id=target.project_id,
        totals=validator.totals,
        expected_last_seq=target.expected_last_seq,
        expected_epoch=target.expected_epoch,
        request_id=target.request_id,
        content_hash=validator.content_hash,
        parents=validator.parents,
        asset_refs=validator.asset_refs,
        assets=tuple(validator.asset_fields),
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
