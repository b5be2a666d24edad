"""A session store of the Claude Agent SDK: transcripts in sessiond.

    from claude_agent_sdk import ClaudeAgentOptions, query
    from sessiond.adapters.claude_agent_sdk import SessiondSessionStore

    options = ClaudeAgentOptions(session_store=SessiondSessionStore(), resume=session_id)

A transcript is a session with the id "claude/PROJECT_KEY/SESSION_ID", and "/SUBPATH" for that of a
subagent. Each entry is a message, kept byte for byte, whose message_id is the entry's uuid.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote
from weakref import WeakValueDictionary

from sessiond._async._client import AsyncClient
from sessiond._requests.input import NewMessage
from sessiond._requests.options import SessionSettings
from sessiond._types.session import SessionInfo
from sessiond.adapters._backend import (
    AnyClient,
    Backend,
    append,
    encoded,
    message_id,
    part,
)
from sessiond.adapters._claude_entries import FORMAT_NAME, converted, linked, own_entry
from sessiond.adapters._history import Item, read_items
from sessiond.errors import (
    HistoryRewound,
    MessageAlreadyExists,
    MessageNotFound,
    SequenceConflict,
    SessiondError,
    SessionNotFound,
)

try:
    from claude_agent_sdk import fold_session_summary
except ImportError as error:
    raise ImportError(
        "sessiond.adapters.claude_agent_sdk needs the Claude Agent SDK: "
        'pip install "sessiond[claude-agent-sdk]"'
    ) from error

if TYPE_CHECKING:
    from claude_agent_sdk import (
        SessionKey,
        SessionListSubkeysKey,
        SessionStoreEntry,
        SessionStoreListEntry,
        SessionSummaryEntry,
    )

# Key of the session's state: {"epoch": ..., "seq": ..., "data": ...}, the summary of the entries up
# to this place. `data` is null if it was too large to keep.
_SUMMARY = "claude_summary"
_MAX_SUMMARY_BYTES = 256 * 1024
# Characters of the parts of an id, which has 1,024 of them with a namespace of 200.
_MAX_PROJECT, _MAX_SESSION, _MAX_SUBPATH = 400, 200, 200
# A conflict means that another process has appended, so this many in a row are no coincidence.
_MAX_ATTEMPTS = 50
# From this number on, reading the transcript is faster than looking each uuid up.
_MAX_LOOKUPS = 64

_NewEntry: TypeAlias = tuple[NewMessage, "SessionStoreEntry"]


class SessiondSessionStore:
    """A `SessionStore` of the Claude Agent SDK, with all of its optional methods.

    It can be used from any event loop, and from trio. It keeps no state of its own: any number of
    stores in any number of processes may have the same namespace.

    An append is atomic, whatever its size. Entries whose uuid the transcript has already are left
    out, so a repeated or an overlapping append adds only what is new. Summaries are folded in the
    commit of their entries, also when several processes append to one transcript.

    Args:
        client: a `Client` or an `AsyncClient`, whose address, API key, TLS and timeout are used.
            Not together with target or api_key.
        target: HOST:PORT of the server. Default: $SESSIOND_TARGET, or localhost:50051.
        api_key: the API key. Default: $SESSIOND_API_KEY, or none.
        namespace: keeps the transcripts apart from those of other namespaces, at most 200
            characters. Default: none.
        create: settings of new sessions: model, user, title, config, metadata, idle_ttl,
            never_expires. Default: the server's.

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
        self._create: SessionSettings = {**create} if create else {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def sessiond_id(self, key: "SessionKey") -> str:
        """Return the id of a transcript's session, to read it, copy it or send to it by a client.

        Args:
            key: the transcript.

        Raises:
            InvalidField: if a part of the key is empty.
        """
        path = [
            "claude",
            part(key["project_key"], _MAX_PROJECT, "project_key"),
            part(key["session_id"], _MAX_SESSION, "session_id"),
        ]
        if subpath := key.get("subpath"):
            path.append(part(subpath, _MAX_SUBPATH, "subpath"))
        return self._backend.path(*path)

    async def append(self, key: "SessionKey", entries: "list[SessionStoreEntry]") -> None:
        """Append entries to a transcript, all or nothing, and create it if there is none.

        Args:
            key: the transcript.
            entries: the entries. Those whose uuid the transcript has already are left out.

        Raises:
            SessiondError: if the server refused them, or was not reached.
        """
        if not entries:
            return
        session_id = self.sessiond_id(key)
        new = _new_entries(entries)
        create = self._creation(key)

        async def call(client: AsyncClient) -> None:
            if key.get("subpath"):
                # A subagent's transcript has no summary.
                messages = [message for message, _ in new]
                await append(client, session_id, messages, on_duplicate="skip", create=create)
                return
            # Without the lock, the concurrent appends of one process would only conflict.
            lock = self._locks.setdefault(session_id, asyncio.Lock())
            async with lock:
                await _append_with_summary(client, session_id, key, new, create)

        await self._backend.run(call)

    async def load(self, key: "SessionKey") -> "list[SessionStoreEntry] | None":
        """Return the entries of a transcript, in the order in which they were committed.

        Args:
            key: the transcript.

        Returns:
            The entries, equal to those that were appended. Messages of other programs, and of turns
            of sessiond, are entries that say the same. None = there are none.

        Raises:
            SessiondError: if the server was not reached.
        """
        session_id = self.sessiond_id(key)

        async def call(client: AsyncClient) -> list[Item]:
            try:
                return await _entries(client, session_id, key)
            except SessionNotFound:
                return []

        return await self._backend.run(call) or None

    async def list_sessions(self, project_key: str) -> "list[SessionStoreListEntry]":
        """List a project's transcripts, without those of subagents.

        Args:
            project_key: the project.

        Returns:
            Their session_ids, and the times of their last appends, in milliseconds since 1970.

        Raises:
            SessiondError: if the server was not reached.
        """
        return [
            {"session_id": session_id, "mtime": _mtime(info)}
            for session_id, info in await self._transcripts(project_key, with_state=False)
        ]

    async def list_session_summaries(self, project_key: str) -> "list[SessionSummaryEntry]":
        """List the summaries of a project's transcripts, without those of subagents.

        A transcript to which another program has appended is left out until the next append here;
        the SDK then reads its entries.

        Args:
            project_key: the project.

        Returns:
            The summaries, as `fold_session_summary` made them.

        Raises:
            SessiondError: if the server was not reached.
        """
        return [
            {"session_id": session_id, "mtime": _mtime(info), "data": data}
            for session_id, info in await self._transcripts(project_key, with_state=True)
            if (data := _kept_summary(info)) is not None
        ]

    async def delete(self, key: "SessionKey") -> None:
        """Delete a transcript, and with a session's own those of its subagents.

        Args:
            key: the transcript. One that does not exist is no error.

        Raises:
            SessiondError: if the server was not reached.
        """
        session_id = self.sessiond_id(key)

        async def call(client: AsyncClient) -> None:
            await client.sessions.delete(session_id, allow_missing=True)
            if not key.get("subpath"):
                await client.sessions.delete_many(session_id_prefix=f"{session_id}/")

        await self._backend.run(call)

    async def list_subkeys(self, key: "SessionListSubkeysKey") -> list[str]:
        """List the subpaths of a session, those of its subagents' transcripts.

        Args:
            key: the session. One that does not exist has none.

        Raises:
            SessiondError: if the server was not reached.
        """
        main: SessionKey = {"project_key": key["project_key"], "session_id": key["session_id"]}
        infos = await self._list(f"{self.sessiond_id(main)}/", with_state=False)
        return [_name(info, "subpath") for info in infos]

    async def _transcripts(
        self, project_key: str, *, with_state: bool
    ) -> list[tuple[str, SessionInfo]]:
        """List the transcripts of a project, without those of subagents, with their session_ids."""
        prefix = self._backend.path("claude", part(project_key, _MAX_PROJECT, "project_key"), "")
        return [
            (_name(info, "sessionId"), info)
            for info in await self._list(prefix, with_state=with_state)
            if "/" not in info.session_id.removeprefix(prefix)
        ]

    async def _list(self, prefix: str, *, with_state: bool) -> list[SessionInfo]:
        async def call(client: AsyncClient) -> list[SessionInfo]:
            listed = client.list_sessions(
                session_id_prefix=prefix, order="id_asc", page_size=500, with_state=with_state
            )
            return [info async for info in listed]

        return await self._backend.run(call)

    def _creation(self, key: "SessionKey") -> SessionSettings:
        """Return the settings of a new session, whose metadata has its key.

        The names are those of the TypeScript adapter.
        """
        names = {"projectKey": key["project_key"], "sessionId": key["session_id"]}
        if subpath := key.get("subpath"):
            names["subpath"] = subpath
        metadata = {**(self._create.get("metadata") or {}), "claude": names}
        return {**self._create, "metadata": metadata}


def _new_entries(entries: Sequence["SessionStoreEntry"]) -> list[_NewEntry]:
    """Return the entries with their messages, each uuid once."""
    new: list[_NewEntry] = []
    ids: set[str] = set()
    for i, entry in enumerate(entries):
        uuid = entry.get("uuid")
        id = message_id(uuid) if isinstance(uuid, str) and uuid else None
        if id is not None:
            if id in ids:
                continue
            ids.add(id)
        blob = encoded(entry, f"entries[{i}]")
        message = NewMessage(blob, format="other", format_name=FORMAT_NAME, message_id=id)
        new.append((message, entry))
    return new


async def _append_with_summary(
    client: AsyncClient,
    session_id: str,
    key: "SessionKey",
    new: list[_NewEntry],
    create: SessionSettings,
) -> None:
    """Append entries, and fold them into the summary, in one commit.

    The summary is that of a place in the history, and the append is refused if the history does not
    end there. So of concurrent appends, each folds what the others have folded.
    """
    conflict: SessiondError
    for attempt in range(_MAX_ATTEMPTS):
        try:
            info = await client.sessions.get(session_id)
            last_seq, epoch = info.last_seq, info.epoch
            prev = await _current_summary(client, key, info)
        except SessionNotFound:
            last_seq, epoch, prev = 0, 0, _empty_summary(key)
        folded = _fold(prev, key, [entry for _, entry in new])
        place = {"epoch": epoch, "seq": last_seq + len(new), "data": _small(folded)}
        try:
            await append(
                client,
                session_id,
                [message for message, _ in new],
                expected_last_seq=last_seq,
                expected_epoch=epoch,
                state={_SUMMARY: place},
                create=create,
            )
            return
        except MessageAlreadyExists as error:
            conflict = error
            known = await _known_ids(client, session_id, new)
            new = [(message, entry) for message, entry in new if message.message_id not in known]
            if not new:
                return
        except (SequenceConflict, HistoryRewound) as error:
            conflict = error
            await asyncio.sleep(random.uniform(0, 0.01 * min(attempt, 10)))  # noqa: S311
    raise conflict


async def _known_ids(client: AsyncClient, session_id: str, new: list[_NewEntry]) -> set[str]:
    """Return which message_ids the session has, or more than those."""
    wanted = [message.message_id for message, _ in new if message.message_id]
    if len(wanted) > _MAX_LOOKUPS:
        messages = client.sessions.get_messages(session_id)
        return {message.message_id async for message in messages if message.message_id}

    async def found(id: str) -> bool:
        try:
            await client.sessions.get_message(session_id, message_id=id)
        except (MessageNotFound, SessionNotFound):
            return False
        return True

    are_found = await asyncio.gather(*map(found, wanted))
    return {id for id, is_found in zip(wanted, are_found, strict=True) if is_found}


async def _current_summary(
    client: AsyncClient, key: "SessionKey", info: SessionInfo
) -> "SessionSummaryEntry | None":
    """Return the summary of all entries of a session.

    Entries that were not folded, because another program has appended them, are read and folded.

    Returns:
        The summary. None = it was too large to keep.
    """
    kept = (info.state or {}).get(_SUMMARY) or {"epoch": info.epoch, "seq": 0, "data": {}}
    summary: SessionSummaryEntry | None = None
    if kept["data"] is not None:
        summary = {"session_id": key["session_id"], "mtime": 0, "data": kept["data"]}
    seq = kept["seq"]
    if kept["epoch"] != info.epoch or seq > info.last_seq:
        # Entries were taken back, so all that remain are folded anew.
        summary, seq = _empty_summary(key), 0
    if seq < info.last_seq and summary is not None:
        unseen = await _entries(client, info.session_id, key, seq, info.last_seq)
        summary = _fold(summary, key, unseen)
    return summary


def _fold(
    prev: "SessionSummaryEntry | None", key: "SessionKey", entries: Sequence[Any]
) -> "SessionSummaryEntry | None":
    if prev is None:
        return None
    folded: SessionSummaryEntry = fold_session_summary(prev, key, list(entries))
    return folded


def _empty_summary(key: "SessionKey") -> "SessionSummaryEntry":
    return {"session_id": key["session_id"], "mtime": 0, "data": {}}


def _small(summary: "SessionSummaryEntry | None") -> Item | None:
    """Return the data of a summary; None if it is too large, as with a pasted book as a prompt.

    Without a summary, the SDK reads the entries.
    """
    if summary is None or len(encoded(summary["data"], "summary")) > _MAX_SUMMARY_BYTES:
        return None
    data: Item = summary["data"]
    return data


def _kept_summary(info: SessionInfo) -> Item | None:
    """Return the data of the summary that was kept, if it is that of all entries."""
    kept = (info.state or {}).get(_SUMMARY)
    if not kept or (kept["epoch"], kept["seq"]) != (info.epoch, info.last_seq):
        return None
    data: Item | None = kept["data"]
    return data


async def _entries(
    client: AsyncClient,
    session_id: str,
    key: "SessionKey",
    after_seq: int = 0,
    through_seq: int | None = None,
) -> list[Item]:
    """Return the entries with after_seq < seq <= through_seq; all to the newest by default."""
    places = await read_items(
        client,
        session_id,
        own_entry,
        converted,
        after_seq=after_seq,
        through_seq=through_seq,
    )
    last: Item | None = None
    if after_seq and places and not places[0].is_own:
        before = await _entries(client, session_id, key, through_seq=after_seq)
        last = next((e for e in reversed(before) if e.get("uuid")), None)
    return linked(places, key["session_id"], last)


def _mtime(info: SessionInfo) -> int:
    return round(info.active_at.timestamp() * 1000)


def _name(info: SessionInfo, name: str) -> str:
    """Return a part of a transcript's key: from its metadata, else from its id."""
    names = info.metadata.get("claude")
    if isinstance(names, dict) and isinstance(found := names.get(name), str):
        return found
    return unquote(info.session_id.rpartition("/")[2])
