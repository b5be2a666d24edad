"""Appends: what StoreMessages and ImportMessages promise."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from uuid import UUID

from sessiond.v1.message_pb2 import Message
from sessiond_server.assets.service import asset_not_found
from sessiond_server.assets.store.assets import AssetMissing
from sessiond_server.core.errors import Fault, invalid, request_id_reused, session_not_found
from sessiond_server.core.events import EventPublisher
from sessiond_server.core.ids import check_request_id, check_session_id, session_key
from sessiond_server.core.limits import Limits
from sessiond_server.core.pg_time import to_pg_us
from sessiond_server.core.states import SessionState
from sessiond_server.db.idempotency import DuplicateRequest
from sessiond_server.messages.store.append import Append, Appended, AppendStore
from sessiond_server.messages.store.rows import Rows
from sessiond_server.messages.store.spool import Spool
from sessiond_server.messages.token_counts import Tokenizer
from sessiond_server.messages.validation import MessageValidator, check_batch
from sessiond_server.sessions.store.sessions import SessionStore


@dataclass(frozen=True, slots=True)
class Target:
    """Where an append goes, and under which conditions."""

    project_id: UUID
    session_id: str
    expected_last_seq: int | None
    request_id: str

    def check(self) -> None:
        check_session_id(self.session_id)
        check_request_id(self.request_id)
        if self.expected_last_seq is not None and self.expected_last_seq < 0:
            raise invalid("expected_last_seq", "is negative; 0 stands for an empty session")


@dataclass(frozen=True, slots=True)
class PreparedAppend:
    """An append that is ready for the store. asset_fields: where each asset is named first."""

    target: Target
    append: Append
    rows: Rows
    asset_fields: Mapping[bytes, str]


class Appends:
    """Appends to sessions. Nothing is acknowledged before it is committed. publisher: is told of each."""

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
        """Append one batch, all or none.

        Raises: Fault, with the reasons that StoreMessages names.
        """
        return await self.append_prepared(self.prepare(target, messages))

    def prepare(self, target: Target, messages: Sequence[Message]) -> PreparedAppend:
        """Check one batch, and make of it what is stored. The messages are changed on the way.

        Raises: Fault, for what is wrong whatever the session is.
        """
        target.check()
        if not messages:
            raise invalid("messages", "is empty; send at least one")
        # Before anything is parsed: the sizes of the strings are known.
        check_batch(len(messages), sum(map(len, map(attrgetter("json"), messages))), self._limits)
        validator = MessageValidator(self._limits, self._tokenizer)
        rows = validator.encode(messages)
        check_batch(validator.count, validator.content_bytes, self._limits)
        return PreparedAppend(target, append_of(target, validator), rows, validator.asset_fields)

    async def append_prepared(self, prepared: PreparedAppend) -> Appended:
        """Append what was prepared. Raises: Fault."""
        try:
            done = await self._store.append(prepared.append, prepared.rows)
        except DuplicateRequest:
            done = None
        except AssetMissing as e:
            raise _asset_missing(prepared.asset_fields, e) from None
        return await self._answer(prepared.target, prepared.append, done)

    async def store_stream(
        self, target: Target, pieces: AsyncIterator[Sequence[Message]]
    ) -> Appended:
        """Append all pieces as one, all or none. The session is locked only once the last piece is here.

        Raises: Fault, with the reasons that ImportMessages names.
        """
        target.check()
        # A session that cannot take them should say so before they are all sent.
        await self._check_open(target)
        validator = MessageValidator(self._limits, self._tokenizer)
        with Spool() as spool:
            async for messages in pieces:
                spool.add(validator.encode(messages))
            if not validator.count:
                raise invalid("messages", "is empty; send at least one")
            append = append_of(target, validator)
            try:
                done = await self._store.append_bulk(append, spool)
            except DuplicateRequest:
                done = None
            except AssetMissing as e:
                raise _asset_missing(validator.asset_fields, e) from None
        return await self._answer(target, append, done)

    async def _answer(self, target: Target, append: Append, done: Appended | None) -> Appended:
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
            return  # a repetition is answered as the first time, whatever became of the session
        if row.state == SessionState.DESTROYED:
            raise _destroyed(target.session_id)

    async def _explain(self, target: Target, append: Append) -> Appended:
        """Why an append did nothing: it is a repetition (then what the first one did), or a condition did not hold."""
        row = await self._sessions.get(append.key, target.project_id)
        if row is None:
            raise session_not_found(target.session_id)
        if target.request_id:
            first = await self._sessions.find_request(append.key, row.log, target.request_id)
            if first:
                if first.content_hash != append.content_hash:
                    raise request_id_reused(target.request_id)
                return Appended(first.first_seq, first.last_seq, to_pg_us(first.created_at))
        if row.state == SessionState.DESTROYED:
            raise _destroyed(target.session_id)
        if target.expected_last_seq is not None and target.expected_last_seq != row.last_seq:
            raise Fault(
                "SEQUENCE_CONFLICT",
                f"session {target.session_id!r} is at seq {row.last_seq}, not {target.expected_last_seq}: "
                "somebody else appended; read on from there, then try again",
                metadata={
                    "session_id": target.session_id,
                    "expected_last_seq": target.expected_last_seq,
                    "last_seq": row.last_seq,
                },
            )
        if append.parent_floor > row.last_seq:
            raise Fault(
                "PARENT_NOT_FOUND",
                f"messages: a parent_seq names no message before it; session {target.session_id!r} is at seq {row.last_seq}",
                metadata={"session_id": target.session_id, "last_seq": row.last_seq},
                fields={
                    "messages.parent_seq": "names no message of the session, nor an earlier one of the batch"
                },
            )
        # The condition failed when the statement ran and holds now: another append came in between.
        raise Fault(
            "SEQUENCE_CONFLICT" if target.expected_last_seq is not None else "OVERLOADED",
            f"session {target.session_id!r} changed while the append ran; try again",
            metadata={
                "session_id": target.session_id,
                "expected_last_seq": target.expected_last_seq,
                "last_seq": row.last_seq,
            }
            if target.expected_last_seq is not None
            else {},
            retry_after_s=None if target.expected_last_seq is not None else 0.05,
        )


def append_of(target: Target, validator: MessageValidator) -> Append:
    """The append of what an validator has prepared."""
    return Append(
        key=session_key(target.project_id, target.session_id),
        project_id=target.project_id,
        count=validator.count,
        content_bytes=validator.content_bytes,
        largest=validator.largest_bytes,
        tokens=validator.tokens,
        estimated=validator.estimated_tokens,
        first_words=validator.first_words,
        first_words_place=validator.first_words_place,
        expected_last_seq=target.expected_last_seq,
        parent_floor=validator.parent_floor,
        request_id=target.request_id,
        content_hash=validator.content_hash,
        asset_refs=validator.asset_refs,
        assets=tuple(validator.asset_fields),
    )


def _asset_missing(asset_fields: Mapping[bytes, str], error: AssetMissing) -> Fault:
    return asset_not_found(error.sha256.hex(), asset_fields[error.sha256])


def _destroyed(session_id: str) -> Fault:
    return Fault(
        "SESSION_DESTROYED",
        f"session {session_id!r} is destroyed: resume it (ResumeSession) to append",
        metadata={"session_id": session_id},
    )
