"""The store: the five primitives of a `ConversationStore`, and whole histories."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from pydantic_ai.conversation_store import (
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)

from sessiond._async._client import AsyncClient
from sessiond._requests.options import SessionSettings
from sessiond._types.message import Message
from sessiond._types.session import SessionInfo
from sessiond.adapters._backend import (
    MAX_ID,
    MAX_NAMESPACE,
    AnyClient,
    Backend,
)
from sessiond.adapters.pydantic_ai._entries import (
    MessageRemoved,
    entries_of,
    entry_id,
    is_message_id,
    is_printable,
    seq_in,
)
from sessiond.adapters.pydantic_ai._records import DELETED, KEY, Place, place_of
from sessiond.adapters.pydantic_ai._writes import Writer, user_of
from sessiond.errors import HistoryRewound, MessageNotFound, SessionNotFound, invalid_field

# Maximum number of entries whose sessions a store remembers.
_REMEMBERED = 65_536
# Number of sessions that are searched at once for an entry whose session is unknown.
_ASKED_AT_ONCE = 32
# Maximum number of conversations that are remembered between a read and the next write.
_READ_LAST = 128
# Listings allow for this difference between the clocks of this machine and of the server.
_CLOCK_SKEW = timedelta(minutes=5)
# Maximum length of an id that fits behind the longest namespace, in characters.
_MAX_OWN_ID = MAX_ID - MAX_NAMESPACE - 1
# An id that cannot be a session id is replaced by this prefix and a hash.
_HASHED = "sha256:"


class SessiondConversationStore(ConversationStore):
    """A `ConversationStore` of Pydantic AI. Experimental.

    It can be used from any event loop, and from trio. It keeps nothing but a bounded cache, so any
    number of stores in any number of processes may have the same namespace.

    A save is atomic, whatever its size: a conflict leaves neither entries nor a record behind.
    Deleting a conversation deletes its messages, except those that a fork reads.

    A session that others have written, such as turns of the server or another framework, can be
    loaded as well: its messages are converted, with text, calls and their results.

    Args:
        client: a `Client` or an `AsyncClient`, whose address, API key, TLS and timeout are used.
            Not together with target or api_key.
        target: HOST:PORT of the server. Default: $SESSIOND_TARGET, or localhost:50051.
        api_key: the API key. Default: $SESSIOND_API_KEY, or none.
        namespace: keeps the conversations apart from those of other namespaces, at most 200
            characters. Default: none.
        create: settings of new sessions: model, user, title, config, metadata, idle_ttl,
            never_expires. Default: the server's. The scope of a conversation is the session's user.

    Raises:
        InvalidField: if an argument is malformed.
    """

    def __init__(
        self,
        *,
        client: AnyClient | None = None,
        target: str | None = None,
        api_key: str | None = None,
        namespace: str | None = None,
        create: SessionSettings | None = None,
    ) -> None:
        self._backend = Backend(client, target, api_key, namespace)
        self._writer = Writer(create or {})
        # (session_id, seq) by entry id. Used only on the portal's loop.
        self._places: OrderedDict[str, tuple[str, int]] = OrderedDict()
        # The last read of each conversation, by session_id, until the next write.
        self._read_last: OrderedDict[str, Place] = OrderedDict()

    def sessiond_id(self, conversation_id: str) -> str:
        """Return the id of a conversation's session, for calls of a client about the session.

        The id is the namespace's prefix and the conversation_id. A conversation_id that cannot be a
        session id, such as one of 2,000 characters, is replaced by a hash.

        Args:
            conversation_id: the conversation.

        Raises:
            InvalidField: if the conversation_id is not a string.
        """
        if not isinstance(conversation_id, str):
            raise invalid_field(
                "conversation_id", f"must be a string, not {type(conversation_id).__name__}"
            )
        if _is_session_id(conversation_id):
            return self._backend.session_id(conversation_id)
        digest = hashlib.sha256(conversation_id.encode("utf-8", "surrogatepass")).hexdigest()
        return self._backend.session_id(_HASHED + digest)

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """Return the record of a conversation; None = the store does not have it.

        Args:
            conversation_id: the conversation.

        Raises:
            SessiondError: if the server was not reached.
        """
        session_id = self.sessiond_id(conversation_id)

        async def call(client: AsyncClient) -> Place:
            place = await _read(client, session_id, conversation_id)
            self._remember_tips(session_id, place)
            self._read_last[session_id] = place
            if len(self._read_last) > _READ_LAST:
                self._read_last.popitem(last=False)
            return place

        return (await self._backend.run(call)).record

    async def read_records(
        self, *, scope: str | None = None, limit: int | None = None
    ) -> Sequence[ConversationRecord]:
        """Return the records of the conversations that were saved, the newest first.

        Args:
            scope: only conversations with this scope. Default: all.
            limit: maximum number of records. Default: all.

        Raises:
            SessiondError: if the server was not reached.
        """
        if limit is not None and limit <= 0:
            return []

        async def call(client: AsyncClient) -> list[ConversationRecord]:
            found: list[ConversationRecord] = []
            async for info in client.list_sessions(
                session_id_prefix=self._backend.path("") or None,
                user=user_of(scope),
                order="active_desc",
                page_size=min(limit or 500, 500),
                with_state=True,
            ):
                if limit is not None and _is_complete(found, limit, info):
                    break
                id = self._conversation_of(info)
                place = Place() if id is None else await place_of(client, info, id)
                if place.record is not None and scope in (None, place.record.scope):
                    self._remember_tips(info.session_id, place)
                    found.append(place.record)
            found.sort(key=lambda record: record.updated_at, reverse=True)
            return found[:limit]

        return await self._backend.run(call)

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Store a record and new entries, in one commit.

        Args:
            record: the record.
            new_entries: the entries, in order, each after the one that it points at.
            expected_revision: the stored record's revision; None = there must be none.

        Raises:
            ConversationConflict: if the stored revision is another one, or if the record or a new
                entry points at an entry that does not exist.
            UserError: if JSON cannot hold a message.
            SessiondError: if the server refused the entries, or was not reached.
        """
        session_id = self.sessiond_id(record.conversation_id)

        async def call(client: AsyncClient) -> None:
            async def read() -> Place:
                return await _read(client, session_id, record.conversation_id)

            async def find(id: str) -> tuple[str, int] | None:
                return await self._find_surely(client, id)

            last = self._read_last.pop(session_id, None)
            first_seq = await self._writer.write(
                client,
                session_id,
                record,
                new_entries,
                expected_revision,
                last or await read(),
                read,
                find,
            )
            for seq, entry in enumerate(new_entries, first_seq):
                self._remember(entry.id, session_id, seq)

        await self._backend.run(call, settles=True)

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete a conversation with its entries, except those that a fork reads.

        Args:
            conversation_id: the conversation.
            expected_revision: the stored record's revision.

        Raises:
            ConversationConflict: if the stored revision is another one, or there is none.
            SessiondError: if the server was not reached.
        """
        session_id = self.sessiond_id(conversation_id)

        async def call(client: AsyncClient) -> None:
            async def read() -> Place:
                return await _read(client, session_id, conversation_id)

            await self._writer.delete(client, session_id, conversation_id, expected_revision, read)

        await self._backend.run(call, settles=True)

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """Return an entry.

        An entry that this store has not read or written is looked for in all conversations of the
        namespace, the most recently active first.

        Args:
            entry_id: the entry.

        Raises:
            KeyError: if there is no such entry.
            SessiondError: if the server was not reached.
        """
        if not isinstance(entry_id, str):
            raise KeyError(entry_id)
        return (await self.read_history(entry_id, limit=1))[0]

    async def read_history(
        self, head_id: str | None, *, limit: int | None = None
    ) -> list[ConversationEntry]:
        """Return the entries up to `head_id`, in order, by a single read.

        Args:
            head_id: the last entry; None = there is none.
            limit: maximum number of entries; the last ones are returned. Default: all.

        Raises:
            KeyError: if there is no such entry.
            SessiondError: if the server was not reached.
        """
        if head_id is None or (limit is not None and limit <= 0):
            return []

        async def call(client: AsyncClient) -> list[ConversationEntry]:
            while (place := await self._find(client, head_id)) is not None:
                entries = await self._history(client, head_id, *place, limit)
                if entries is not None:
                    return entries
                # The session was deleted or rewound since its entries were remembered.
                self._places.pop(head_id, None)
            raise KeyError(head_id)

        return await self._backend.run(call)

    def _conversation_of(self, info: SessionInfo) -> str | None:
        """Return the id of a session's conversation; None if this store has not saved it."""
        kept = (info.state or {}).get(KEY)
        if kept is None or kept == DELETED:
            return None
        if kept["session_id"] != info.session_id:
            # The session is a copy, whose state still has the source's record.
            return info.session_id.removeprefix(self._backend.path(""))
        id: str = kept["record"]["conversation_id"]
        # Without a namespace, sessions of all namespaces are listed.
        return id if self.sessiond_id(id) == info.session_id else None

    async def _history(
        self, client: AsyncClient, head_id: str, session_id: str, seq: int, limit: int | None
    ) -> list[ConversationEntry] | None:
        """Return the entries up to `head_id`; None if its message no longer has the given seq."""
        entries: list[ConversationEntry] = []
        through: int | None = None
        wanted = None if limit is None else limit + 1  # one more, for the parent of the first one
        try:
            while True:
                path = await self._path(client, session_id, seq, through, wanted)
                if through is None and (not path or entry_id(path[-1]) != head_id):
                    return None
                entries = await entries_of(client, session_id, path, None) + entries
                if wanted is None or len(path) < wanted or len(entries) > (limit or 0):
                    break
                # Some messages have no entries.
                through = path[0].seq - 1
        except (SessionNotFound, MessageNotFound, HistoryRewound, MessageRemoved):
            return None
        entries = [
            entry if i == 0 else replace(entry, parent_id=entries[i - 1].id)
            for i, entry in enumerate(entries)
        ]
        return entries if limit is None else entries[-limit:]

    async def _path(
        self,
        client: AsyncClient,
        session_id: str,
        seq: int,
        through: int | None,
        limit: int | None,
    ) -> list[Message]:
        """Return the last messages of a branch, in order."""
        if through == 0:
            return []
        messages = client.sessions.get_messages(
            session_id,
            branch_of=seq,
            through_seq=through,
            limit=limit,
            order="asc" if limit is None else "desc",
        )
        path = [message async for message in messages]
        if limit is not None:
            path.reverse()
        for message in path:
            self._remember(entry_id(message), session_id, message.seq)
        return path

    async def _find(self, client: AsyncClient, id: str) -> tuple[str, int] | None:
        """Return the session and the seq of an entry; None if no session has it."""
        if (known := self._places.get(id)) is not None:
            session_id, seq = known
            if seq:
                return known
            if seq := await _seq_of(client, id, session_id):
                self._remember(id, session_id, seq)
                return session_id, seq
            del self._places[id]
        asked: list[str] = []
        async for info in client.list_sessions(
            session_id_prefix=self._backend.path("") or None, page_size=500
        ):
            asked.append(info.session_id)
            if len(asked) == _ASKED_AT_ONCE:
                if found := await self._find_among(client, id, asked):
                    return found
                asked = []
        return await self._find_among(client, id, asked)

    async def _find_among(
        self, client: AsyncClient, id: str, session_ids: Sequence[str]
    ) -> tuple[str, int] | None:
        """Return the session and the seq of an entry; None if none of the sessions has it."""
        seqs = await asyncio.gather(*(_seq_of(client, id, one) for one in session_ids))
        for session_id, seq in zip(session_ids, seqs, strict=True):
            if seq:
                self._remember(id, session_id, seq)
                return session_id, seq
        return None

    async def _find_surely(self, client: AsyncClient, id: str) -> tuple[str, int] | None:
        """Do the same as _find(), but look the remembered seq up again."""
        if (known := self._places.get(id)) is not None:
            self._remember(id, known[0], 0)
        return await self._find(client, id)

    def _remember_tips(self, session_id: str, place: Place) -> None:
        record = place.record
        if record is None:
            return
        for id in record.branches:
            if self._places.get(id, ("", 0))[0] != session_id:
                self._remember(id, session_id, 0)
        if record.head_id is not None:
            self._remember(record.head_id, session_id, place.head_seq)

    def _remember(self, id: str, session_id: str, seq: int) -> None:
        """Remember the session and the seq of an entry. 0 = the seq is unknown."""
        self._places[id] = (session_id, seq)
        self._places.move_to_end(id)
        if len(self._places) > _REMEMBERED:
            self._places.popitem(last=False)


async def _read(client: AsyncClient, session_id: str, conversation_id: str) -> Place:
    while True:
        try:
            info = await client.sessions.get(session_id)
            return await place_of(client, info, conversation_id)
        except SessionNotFound:
            return Place()
        except (HistoryRewound, MessageNotFound, MessageRemoved):
            continue  # a rewind has removed messages meanwhile


async def _seq_of(client: AsyncClient, id: str, session_id: str) -> int:
    """Return the seq of an entry in a session; 0 if the session does not have it."""
    seq = seq_in(id)
    wanted: dict[str, Any] = {"seq": seq} if seq else {"message_id": id}
    if not seq and not is_message_id(id):
        return 0
    try:
        message = await client.sessions.get_message(session_id, **wanted)
    except (MessageNotFound, SessionNotFound):
        return 0
    return message.seq if entry_id(message) == id else 0


def _is_complete(found: Sequence[ConversationRecord], limit: int, info: SessionInfo) -> bool:
    """Whether `found` has the newest `limit` records, because `info` and all later ones are older.

    Sessions are read in the order in which they were last active.
    """
    if len(found) < limit:
        return False
    oldest = sorted((record.updated_at for record in found), reverse=True)[limit - 1]
    return bool(info.active_at + _CLOCK_SKEW < oldest)


def _is_session_id(text: str) -> bool:
    """Whether a text can be a session id in any namespace, and does not look like a hash."""
    if not text or len(text) > _MAX_OWN_ID or text.strip() != text or text.startswith(_HASHED):
        return False
    return is_printable(text) and len(text.encode()) <= 2 * _MAX_OWN_ID
