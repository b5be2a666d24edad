"""Appends: the rules of StoreMessages and ImportMessages."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter

from sessiond.v1.message_pb2 import Message
from sessiond_server.assets.service import asset_not_found
from sessiond_server.assets.store.assets import AssetMissing
from sessiond_server.core.errors import Fault, invalid
from sessiond_server.core.events import CREATED, EventPublisher
from sessiond_server.core.limits import Limits
from sessiond_server.db.idempotency import DuplicateRequest, content_hash
from sessiond_server.formats.token_counts import Tokenizer
from sessiond_server.messages.duplicates import MessageAlreadyExists, Skipper
from sessiond_server.messages.refusals import Changed, Refusals, changing
from sessiond_server.messages.sizes import check_batch, check_import
from sessiond_server.messages.store.append import Append, Appended, AppendStore
from sessiond_server.messages.store.message_ids import MessageIdTaken
from sessiond_server.messages.store.rows import Rows
from sessiond_server.messages.store.spool import Spool
from sessiond_server.messages.target import Target
from sessiond_server.messages.validation import MessageValidator
from sessiond_server.quotas.service import Quotas
from sessiond_server.quotas.usage import Reservation
from sessiond_server.sessions.lifecycle_events import lifecycle_event
from sessiond_server.sessions.locked import LockedSessions
from sessiond_server.sessions.settings import SessionSettings, new_session
from sessiond_server.sessions.state import state_changed, too_large
from sessiond_server.sessions.store.sessions import SessionStore
from sessiond_server.sessions.store.state import StateChanged, StateTooLarge
from sessiond_server.telemetry import metrics

# Above this size, messages are parsed, and their tokens counted, in a thread: 16 MiB take 0.5 s.
LARGE_BYTES = 1024 * 1024

# Maximum number of attempts of an append. It is tried again if another caller changes the session
# meanwhile. If that caller stored some of the messages, the next attempt has fewer to store.
ATTEMPTS = 100

# Maximum number of invalid fields to report. The rest of the request is not checked then.
MAX_INVALID_FIELDS = 20


@dataclass(slots=True)  # not frozen; see messages/store/append.py
class PreparedAppend:
    """A validated append, ready for the store. An object is never modified.

    Attributes:
        target: session and conditions of the append.
        append: the store's parameters.
        rows: the messages to store; empty if all messages of the request are left out.
        asset_fields: path of the first field that refers to an asset, by the asset's sha256.
        indexes: see MessageValidator.
        messages: all messages of the request if duplicates may be left out, otherwise empty.
    """

    target: Target
    append: Append
    rows: Rows
    asset_fields: Mapping[bytes, str]
    indexes: Sequence[int] = ()
    messages: Sequence[Message] = ()


class Appends:
    """Appends to sessions. An append is acknowledged only after it has been committed."""

    def __init__(
        self,
        store: AppendStore,
        sessions: SessionStore,
        locked: LockedSessions,
        limits: Limits,
        tokenizer: Tokenizer,
        publisher: EventPublisher,
        quotas: Quotas,
    ) -> None:
        self._store = store
        self._refusals = Refusals(store, sessions)
        self._locked = locked
        self._limits = limits
        self._tokenizer = tokenizer
        self._publisher = publisher
        self._quotas = quotas

    async def prepared(self, target: Target, messages: Sequence[Message]) -> PreparedAppend:
        """Prepare one batch, in a thread if it is large.

        Raises:
            Fault: as in prepare.
        """
        size = bytes_of(messages)
        if size > LARGE_BYTES:
            return await asyncio.to_thread(self.prepare, target, messages, size)
        return self.prepare(target, messages, size)

    def _check(self, target: Target) -> None:
        target.check()
        if target.create:
            # Invalid settings are refused even if the session already exists.
            new_session(
                target.project_id, target.session_id, target.create, self._limits, path="create"
            )

    def invalid_fields(self, messages: Sequence[Message]) -> dict[str, str]:
        """Return the errors of messages, by field path. This modifies the messages."""
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

    def prepare(
        self, target: Target, messages: Sequence[Message], size: int | None = None
    ) -> PreparedAppend:
        """Validate and encode one batch. This modifies the messages.

        Args:
            target: session and conditions of the append.
            messages: the messages.
            size: size of their JSON in bytes, if it is known.

        Raises:
            Fault: for every error that does not depend on the session.
        """
        self._check(target)
        if not messages:
            raise invalid("messages", "is empty; send at least one")
        check_batch(len(messages), bytes_of(messages) if size is None else size, self._limits)
        if target.skips_duplicates:
            return self._prepare_new(target, messages, {})
        validator = MessageValidator(self._limits, self._tokenizer)
        rows = validator.encode(messages)
        check_batch(validator.totals.count, validator.totals.content_bytes, self._limits)
        return PreparedAppend(target, append_of(target, validator), rows, validator.asset_fields)

    def _prepare_new(
        self,
        target: Target,
        messages: Sequence[Message],
        stored: Mapping[str, int],
        known_hash: bytes = b"",
    ) -> PreparedAppend:
        """Like `prepare`, but leave out messages that are stored or occur twice.

        Args:
            target: session and conditions of the append.
            messages: all messages of the request.
            stored: message_ids that the session has.
            known_hash: hash of the request, if an earlier attempt has computed it. It cannot be
                computed again, because encoding modifies the messages.
        """
        skipper = Skipper()
        kept = skipper.kept(messages, stored)
        validator = MessageValidator(self._limits, self._tokenizer, indexes=skipper.indexes)
        rows = validator.encode(kept)
        check_batch(validator.totals.count, validator.totals.content_bytes, self._limits)
        append = replace(
            append_of(target, validator, skipper.skipped),
            content_hash=known_hash or _hash_of(target, skipper.content_hash),
        )
        return PreparedAppend(
            target, append, rows, validator.asset_fields, skipper.indexes, messages
        )

    async def room_for(self, target: Target, append: Append) -> Reservation:
        """Reserve an append's bytes within the limit of its project.

        Raises:
            Fault: QUOTA_EXCEEDED.
        """
        return await self._quotas.reserve(
            target.project_id,
            unless=partial(self._refusals.adds_nothing, target, append),
            max_bytes=append.totals.content_bytes,
        )

    async def is_repetition(self, target: Target) -> bool:
        """Return whether a change with this request_id was made before."""
        return await self._refusals.is_repetition(target)

    async def append_prepared(self, prepared: PreparedAppend) -> Appended:
        """Append a prepared batch.

        Raises:
            Fault: with the reasons listed at StoreMessages in the protos.
        """
        target, stored = prepared.target, dict[str, int]()
        for _ in range(ATTEMPTS):
            append = prepared.append
            if not prepared.rows:
                return await self._refusals.nothing_new(target, append.content_hash, append.skipped)
            try:
                return await self._finish(
                    target, append, prepared.asset_fields, prepared.rows, prepared.indexes
                )
            except MessageAlreadyExists as e:
                if not target.skips_duplicates:
                    raise
                stored |= e.stored
            again = (target, prepared.messages, stored, append.content_hash)
            if append.totals.content_bytes > LARGE_BYTES:
                prepared = await asyncio.to_thread(self._prepare_new, *again)
            else:
                prepared = self._prepare_new(*again)
        raise changing(target.session_id)

    async def store_stream(
        self, target: Target, pieces: AsyncIterator[Sequence[Message]]
    ) -> Appended:
        """Append all pieces as one append; either all messages are stored or none.

        The session is locked only after the last piece has arrived.

        Raises:
            Fault: with the reasons listed at ImportMessages in the protos.
        """
        self._check(target)
        # If the session accepts no appends, report that before the client sends all messages.
        await self._refusals.check_open(target)
        pieces = self._quotas.paced(
            target.project_id, pieces, bytes_of, partial(self._refusals.is_repetition, target)
        )
        if target.skips_duplicates:
            return await self._store_new(target, pieces)
        validator = MessageValidator(self._limits, self._tokenizer)
        with Spool() as spool:
            await spool_pieces(pieces, validator, spool, self._limits)
            if not validator.totals.count:
                raise invalid("messages", "is empty; send at least one")
            append = append_of(target, validator)
            async with await self.room_for(target, append):
                return await self._finish(target, append, validator.asset_fields, spool)

    async def _store_new(
        self, target: Target, pieces: AsyncIterator[Sequence[Message]]
    ) -> Appended:
        """Like `store_stream`, but leave out messages that are stored or occur twice."""
        skipper = Skipper()
        stored: Mapping[str, int] = {}
        known_hash, skipped = b"", 0
        with ExitStack() as spools:
            for _ in range(ATTEMPTS):
                validator = MessageValidator(self._limits, self._tokenizer, indexes=skipper.indexes)
                spool = spools.enter_context(Spool())
                async with aclosing(self._kept(target, pieces, skipper, stored)) as kept:
                    await spool_pieces(kept, validator, spool, self._limits)
                known_hash = known_hash or _hash_of(target, skipper.content_hash)
                skipped += skipper.skipped
                if not validator.totals.count:
                    if skipped:
                        return await self._refusals.nothing_new(target, known_hash, skipped)
                    raise invalid("messages", "is empty; send at least one")
                append = replace(append_of(target, validator, skipped), content_hash=known_hash)
                try:
                    async with await self.room_for(target, append):
                        return await self._finish(
                            target, append, validator.asset_fields, spool, skipper.indexes
                        )
                except MessageAlreadyExists as e:
                    # Another append stored some of the messages while they arrived.
                    stored = e.stored
                pieces, skipper = spool.messages(), Skipper()
        raise changing(target.session_id)

    async def _kept(
        self,
        target: Target,
        pieces: AsyncIterator[Sequence[Message]],
        skipper: Skipper,
        stored: Mapping[str, int],
    ) -> AsyncGenerator[Sequence[Message], None]:
        """Yield the messages of an import that have to be stored.

        Args:
            target: session of the import.
            pieces: all messages.
            skipper: leaves messages out.
            stored: message_ids that the session is known to have. If it is empty, the ids of each
                piece are looked up in the session.
        """
        async for messages in pieces:
            known = stored
            ids = [message.message_id for message in messages if message.message_id]
            if ids and not known:
                known = await self._store.stored_ids(target.key, target.project_id, ids)
            yield skipper.kept(messages, known)

    async def _finish(
        self,
        target: Target,
        append: Append,
        asset_fields: Mapping[bytes, str],
        rows: Rows | Spool,
        indexes: Sequence[int] = (),
    ) -> Appended:
        """Store the messages and publish the append, or explain why nothing was stored.

        Args:
            target: session and conditions of the append.
            append: the store's parameters.
            asset_fields: see PreparedAppend.
            rows: the messages.
            indexes: see MessageValidator.
        """
        for _ in range(ATTEMPTS):
            try:
                if isinstance(rows, Spool):
                    done = await self._locked.run(
                        append.key,
                        target.session_id,
                        partial(self._store.append_bulk, append, rows),
                    )
                else:
                    done = await self._store.append(append, rows)
                if done is None and target.create and not await self._refusals.exists(target):
                    done = await self._create(target, target.create, append, rows)
                    if done is None:
                        continue  # another caller has created the session since
            except (DuplicateRequest, MessageIdTaken):
                done = None
            except StateChanged as e:
                raise state_changed(target.session_id, e) from None
            except StateTooLarge as e:
                raise too_large(e) from None
            except AssetMissing as e:
                raise asset_not_found(e.sha256.hex(), asset_fields[e.sha256]) from None
            if done is None:
                try:
                    return await self._refusals.explain(target, append, indexes)
                except Changed:
                    if target.create is None and not append.message_ids:
                        raise
                    continue  # another caller has created or rewound the session since
            self._publisher.messages_appended(append.key)
            metrics.stored(append.totals.count, append.totals.content_bytes)
            return done
        raise changing(target.session_id)

    async def _create(
        self, target: Target, settings: SessionSettings, append: Append, rows: Rows | Spool
    ) -> Appended | None:
        """Create the session of an append, and store the messages in the same commit.

        Returns:
            The result; None if another caller has created the session.

        Raises:
            Fault: if the conditions of the append do not hold in an empty session.
        """
        self._refusals.check_empty(target, append)
        new = new_session(
            target.project_id, target.session_id, settings, self._limits, path="create"
        )
        room = await self._quotas.reserve(
            target.project_id, unless=partial(self._refusals.exists, target), max_sessions=1
        )
        async with room:
            created = await self._store.create(new, append, rows)
            if created is None:
                room.give_back()
                return None
        session, done = created
        self._publisher.publish(lifecycle_event(CREATED, session))
        return done


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
        if bytes_of(messages) > LARGE_BYTES:
            rows = await asyncio.to_thread(validator.encode, messages, keep_times=keep_times)
        else:
            rows = validator.encode(messages, keep_times=keep_times)
        spool.add(rows)
        check_import(validator.totals.count, spool.size, limits)


def bytes_of(messages: Sequence[Message]) -> int:
    """Return the size of the JSON of messages, without parsing them."""
    return sum(map(len, map(_json_of, messages)))


_json_of = attrgetter("json")


def append_of(target: Target, validator: MessageValidator, skipped: int = 0) -> Append:
    """Return the append that stores the messages encoded by a validator.

    Args:
        target: session and conditions of the append.
        validator: has encoded the messages.
        skipped: number of messages of the request that are left out.
    """
    totals = validator.totals
    if skipped:
        # New seqs depend on what is left out, so each parent must already be a stored message.
        totals.parent_floor = max((seq for _, seq in validator.parents), default=0)
    return Append(
        key=target.key,
        project_id=target.project_id,
        totals=totals,
        expected_last_seq=target.expected_last_seq,
        expected_epoch=target.expected_epoch,
        request_id=target.request_id,
        content_hash=_hash_of(target, validator.content_hash),
        parents=validator.parents,
        asset_refs=validator.asset_refs,
        assets=tuple(validator.asset_fields),
        message_ids=validator.message_ids,
        skipped=skipped,
        state=target.state,
        state_etag=target.state_etag,
    )


def _hash_of(target: Target, messages_hash: bytes) -> bytes:
    """Return the hash of a request, given the hash of its messages."""
    if not target.state:
        return messages_hash
    return content_hash(messages_hash.hex(), target.state.content)
