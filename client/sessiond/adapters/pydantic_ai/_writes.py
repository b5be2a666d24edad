"""Changes of conversations. Each is one commit, which fails if the conversation has changed."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
)

from sessiond._async._client import AsyncClient
from sessiond._requests.options import SessionSettings
from sessiond._types.session import SessionInfo
from sessiond.adapters._backend import append
from sessiond.adapters.pydantic_ai._entries import new_messages
from sessiond.adapters.pydantic_ai._records import DELETED, KEY, Place, kept_state
from sessiond.errors import (
    ETagMismatch,
    HistoryRewound,
    MessageAlreadyExists,
    MessageNotFound,
    SequenceConflict,
    SessionAlreadyExists,
    SessionDestroyed,
    SessionNotFound,
    TurnRunning,
)


class _Changed(Exception):
    """The session has changed since it was read."""


# After these errors, the session is read again, and the revisions are compared.
_CHANGED = (
    _Changed,
    ETagMismatch,
    HistoryRewound,
    SequenceConflict,
    SessionAlreadyExists,
    SessionNotFound,
    MessageNotFound,
)
# Maximum length of a session's user, in characters.
_MAX_USER = 256

Read: TypeAlias = Callable[[], Awaitable[Place]]
Find: TypeAlias = Callable[[str], Awaitable[tuple[str, int] | None]]


class Writer:
    """Writes records and entries.

    Args:
        create: settings of new sessions.
    """

    def __init__(self, create: SessionSettings) -> None:
        self._create: SessionSettings = {**create}
        # The etag of an empty state, as the server has computed it. None = not known yet.
        self._empty_etag: str | None = None

    async def write(
        self,
        client: AsyncClient,
        session_id: str,
        record: ConversationRecord,
        entries: Sequence[ConversationEntry],
        expected_revision: str | None,
        place: Place,
        read: Read,
        find: Find,
    ) -> int:
        """Store a record and new entries.

        Args:
            client: the client.
            session_id: the conversation's session.
            record: the record.
            entries: the new entries.
            expected_revision: the stored record's revision; None = there must be none.
            place: the last read of the conversation, possibly long ago.
            read: reads the conversation again.
            find: returns the session and the seq of an entry; None if no session has it.

        Returns:
            The seq of the first entry.

        Raises:
            ConversationConflict: if the conversation has another revision, or if the record or a
                new entry points at an entry that does not exist.
        """
        if place.revision != expected_revision:
            place = await read()
        while True:
            if place.revision != expected_revision:
                raise ConversationConflict(record.conversation_id)
            try:
                if place.info is None:
                    return await self._begin(client, session_id, record, entries, find)
                if not place.is_deleted:
                    return await self._continue(client, place, place.info, record, entries, find)
                await _remove(client, place.info)
            except TurnRunning as error:
                # A running turn changes the conversation.
                raise ConversationConflict(record.conversation_id) from error
            except MessageAlreadyExists as error:
                raise ConversationConflict(record.conversation_id) from error
            except _CHANGED:
                self._empty_etag = None
            place = await read()

    async def delete(
        self,
        client: AsyncClient,
        session_id: str,
        conversation_id: str,
        expected_revision: str,
        read: Read,
    ) -> None:
        """Delete a conversation, if its revision is as expected.

        First a mark replaces the record, so that the conversation can no longer be saved. Then the
        session is deleted. A session with a mark holds no conversation.

        Raises:
            ConversationConflict: if the conversation has another revision, or does not exist.
        """
        while True:
            place = await read()
            if place.info is None or place.record is None or place.revision != expected_revision:
                raise ConversationConflict(conversation_id)
            try:
                await client.sessions.rewind(
                    session_id,
                    to_seq=place.info.last_seq,
                    expected_last_seq=place.info.last_seq,
                    expected_epoch=place.info.epoch,
                    state={KEY: DELETED},
                    state_etag=place.info.state_etag,
                    abort_turn=True,
                )
            except _CHANGED:
                continue
            except SessionDestroyed:
                # A destroyed session accepts no changes. If it is resumed, its etag changes.
                try:
                    await client.sessions.delete(session_id, etag=place.info.etag)
                except _CHANGED:
                    continue
                return
            await _remove(client, place.info)
            return

    async def _begin(
        self,
        client: AsyncClient,
        session_id: str,
        record: ConversationRecord,
        entries: Sequence[ConversationEntry],
        find: Find,
    ) -> int:
        """Create the session of a conversation."""
        settings = self._settings(record)
        own = {entry.id for entry in entries}
        root = entries[0].parent_id if entries else record.head_id
        if root is not None and root not in own:
            return await self._fork(client, session_id, record, entries, root, find)
        _check_head(record, entries, {})
        if not entries:
            state = kept_state(session_id, record, 0, 0, 0)
            await client.sessions.create(session_id, state=state, **settings)
            return 0
        if self._empty_etag is None:
            made = await client.sessions.create(session_id, get_or_create=True, **settings)
            if made.state or made.last_seq:
                raise _Changed
            self._empty_etag = made.state_etag
        parents, seqs = _parents(record, entries, 0, {})
        head_seq = seqs.get(record.head_id or "", 0)
        stored = await append(
            client,
            session_id,
            new_messages(entries, parents),
            expected_last_seq=0,
            expected_epoch=0,
            state=kept_state(session_id, record, head_seq, len(entries), 0),
            state_etag=self._empty_etag,
            create=settings,
        )
        return stored.first_seq

    async def _fork(
        self,
        client: AsyncClient,
        session_id: str,
        record: ConversationRecord,
        entries: Sequence[ConversationEntry],
        root: str,
        find: Find,
    ) -> int:
        """Create the session of a conversation by copying another one up to the entry `root`."""
        found = await find(root)
        if found is None:
            raise ConversationConflict(record.conversation_id)
        source, seq = found
        _check_head(record, entries, {root: seq})
        state = kept_state(session_id, record, seq, seq, 0)
        # If there are entries, the copy holds no conversation until they are appended.
        await client.sessions.copy(
            source,
            session_id,
            up_to_seq=seq,
            state={KEY: DELETED} if entries else state,
            user=None if record.scope is None else user_of(record.scope) or "",
        )
        if not entries:
            return 0
        info = await client.sessions.get(session_id)
        parents, seqs = _parents(record, entries, seq, {root: seq})
        head_seq = seqs[record.head_id or ""]
        stored = await append(
            client,
            session_id,
            new_messages(entries, parents),
            expected_last_seq=seq,
            state=kept_state(session_id, record, head_seq, seq + len(entries), 0),
            state_etag=info.state_etag,
        )
        return stored.first_seq

    async def _continue(
        self,
        client: AsyncClient,
        place: Place,
        info: SessionInfo,
        record: ConversationRecord,
        entries: Sequence[ConversationEntry],
        find: Find,
    ) -> int:
        """Change a conversation whose session exists."""
        known = {place.record.head_id: place.head_seq} if place.record else {}
        seq_of = {id: seq for id, seq in known.items() if id is not None}
        own = {entry.id for entry in entries}
        for id in {record.head_id, *(entry.parent_id for entry in entries)} - own - {None}:
            if id is not None and id not in seq_of:
                found = await find(id)
                if found is None or found[0] != info.session_id:
                    raise ConversationConflict(record.conversation_id)
                seq_of[id] = found[1]
        parents, seqs = _parents(record, entries, info.last_seq, seq_of)
        head_seq = seqs.get(record.head_id or "", 0)
        last_seq = info.last_seq + len(entries)
        state = kept_state(info.session_id, record, head_seq, last_seq, info.epoch)
        if entries:
            await append(
                client,
                info.session_id,
                new_messages(entries, parents),
                expected_last_seq=info.last_seq,
                expected_epoch=info.epoch,
                state=state,
                state_etag=info.state_etag,
            )
        else:
            # Only a rewind can change the state and check last_seq, epoch and state_etag in one
            # commit. This rewind removes no messages.
            await client.sessions.rewind(
                info.session_id,
                to_seq=info.last_seq,
                expected_last_seq=info.last_seq,
                expected_epoch=info.epoch,
                state=state,
                state_etag=info.state_etag,
            )
        user = user_of(record.scope)
        if user is not None and user != info.user:
            await client.sessions.update(info.session_id, user=user)
        return info.last_seq + 1

    def _settings(self, record: ConversationRecord) -> SessionSettings:
        user = user_of(record.scope)
        return self._create if user is None else {**self._create, "user": user}


def user_of(scope: str | None) -> str | None:
    """Return a scope as a session's user; None if there is no scope, or if it cannot be a user."""
    if not scope or len(scope) > _MAX_USER or not scope.isprintable():
        return None
    try:
        scope.encode()
    except UnicodeEncodeError:
        return None
    return scope


def _parents(
    record: ConversationRecord,
    entries: Sequence[ConversationEntry],
    last_seq: int,
    known: dict[str, int],
) -> tuple[list[int | None], dict[str, int]]:
    """Return the parents of new entries, and the seqs of all entries.

    Args:
        record: the record.
        entries: the new entries, in order.
        last_seq: the session's last_seq before them.
        known: seqs of stored entries.

    Returns:
        The seq of the parent of each new entry; 0 = it has none, None = the message before it. And
        the seq of each known and each new entry, by id.

    Raises:
        ConversationConflict: if an entry points at an entry that does not exist.
    """
    seqs = dict(known)
    parents: list[int | None] = []
    for seq, entry in enumerate(entries, last_seq + 1):
        if entry.parent_id is None:
            parent = 0
        elif entry.parent_id in seqs:
            parent = seqs[entry.parent_id]
        else:
            raise ConversationConflict(record.conversation_id)
        parents.append(None if parent == seq - 1 else parent)
        seqs[entry.id] = seq
    return parents, seqs


def _check_head(
    record: ConversationRecord, entries: Sequence[ConversationEntry], known: dict[str, int]
) -> None:
    ids = {None, *known, *(entry.id for entry in entries)}
    if record.head_id not in ids:
        raise ConversationConflict(record.conversation_id)


async def _remove(client: AsyncClient, info: SessionInfo) -> None:
    """Delete a session that holds no conversation, unless it was replaced by a new session."""
    session_id, created = info.session_id, info.created_at
    etag: str | None = info.etag
    while True:
        try:
            await client.sessions.delete(session_id, etag=etag, allow_missing=True)
            return
        except ETagMismatch:
            try:
                info = await client.sessions.get(session_id)
            except SessionNotFound:
                return
            if info.created_at != created:
                return
            etag = info.etag
