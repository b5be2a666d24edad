"""A session store of the Claude Agent SDK: transcripts in sessiond.

    from claude_agent_sdk import ClaudeAgentOptions, query
    from sessiond.adapters.claude_agent_sdk import SessiondSessionStore

    options = ClaudeAgentOptions(session_store=SessiondSessionStore(), resume=session_id)

A transcript is a session with the id "claude/PROJECT_KEY/SESSION_ID". For a subagent's transcript,
"/SUBPATH" follows. Each entry is a message, kept byte for byte, whose message_id is the entry's
uuid.
"""

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import unquote
from weakref import WeakValueDictionary

from sessiond._async._client import AsyncClient
from sessiond._requests.options import SessionSettings
from sessiond._types.session import SessionInfo
from sessiond.adapters._backend import AnyClient, Backend, append, check_all_deleted, part
from sessiond.adapters._claude_summaries import (
    Ends,
    append_with_summary,
    kept_summary,
    new_entries,
    read_entries,
)
from sessiond.adapters._history import Item
from sessiond.errors import SessionNotFound

if TYPE_CHECKING:
    from claude_agent_sdk import (
        SessionKey,
        SessionListSubkeysKey,
        SessionStoreEntry,
        SessionStoreListEntry,
        SessionSummaryEntry,
    )

# Maximum lengths of an id's parts, in characters. With a namespace of 200, the id has up to 1,024.
_MAX_PROJECT, _MAX_SESSION, _MAX_SUBPATH = 400, 200, 200


class SessiondSessionStore:
    """A `SessionStore` of the Claude Agent SDK, with all of its optional methods.

    It can be used from any event loop, and from trio. Any number of stores in any number of
    processes may have the same namespace.

    An append is atomic, whatever its size. Entries whose uuid the transcript has already are left
    out, so a repeated or an overlapping append adds only the new entries. Summaries are folded in
    the commit of their entries, also when several processes append to one transcript.

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
        self._ends = Ends()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def sessiond_id(self, key: "SessionKey") -> str:
        """Return the id of a transcript's session, for calls of a client about the session.

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
        new = new_entries(entries)
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
                await append_with_summary(client, session_id, key, new, create, self._ends)

        await self._backend.run(call)

    async def load(self, key: "SessionKey") -> "list[SessionStoreEntry] | None":
        """Return the entries of a transcript, in the order in which they were committed.

        Args:
            key: the transcript.

        Returns:
            The entries, equal to those that were appended. Messages of other programs and of turns
            of sessiond are converted to entries. None = there are no entries.

        Raises:
            SessiondError: if the server was not reached.
        """
        session_id = self.sessiond_id(key)

        async def call(client: AsyncClient) -> list[Item]:
            try:
                return await read_entries(client, session_id, key)
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

        A transcript to which another program has appended is left out until this store appends to
        it again. For a transcript that is left out, the SDK reads the entries.

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
            if (data := kept_summary(info)) is not None
        ]

    async def delete(self, key: "SessionKey") -> None:
        """Delete a transcript. Deleting a main transcript also deletes those of its subagents.

        Args:
            key: the transcript. It need not exist.

        Raises:
            SessiondError: if the server was not reached.
        """
        session_id = self.sessiond_id(key)

        async def call(client: AsyncClient) -> None:
            self._ends.take(session_id)
            await client.sessions.delete(session_id, allow_missing=True)
            if not key.get("subpath"):
                check_all_deleted(
                    await client.sessions.delete_many(session_id_prefix=f"{session_id}/")
                )

        await self._backend.run(call)

    async def list_subkeys(self, key: "SessionListSubkeysKey") -> list[str]:
        """List the subpaths of the transcripts of a session's subagents.

        Args:
            key: the session. A session that does not exist has no subpaths.

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
        """Return the settings of a new session. Its metadata has the parts of the transcript's key.

        The parts have the same names as in the TypeScript adapter.
        """
        names = {"projectKey": key["project_key"], "sessionId": key["session_id"]}
        if subpath := key.get("subpath"):
            names["subpath"] = subpath
        metadata = {**(self._create.get("metadata") or {}), "claude": names}
        return {**self._create, "metadata": metadata}


def _mtime(info: SessionInfo) -> int:
    return round(info.active_at.timestamp() * 1000)


def _name(info: SessionInfo, name: str) -> str:
    """Return a part of a transcript's key: from its metadata, else from its id."""
    names = info.metadata.get("claude")
    if isinstance(names, dict) and isinstance(found := names.get(name), str):
        return found
    return unquote(info.session_id.rpartition("/")[2])
