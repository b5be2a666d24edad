# Generated from _async/_sessions.py by scripts/generate-sync-client. Do not edit.
"""`client.sessions`: the calls of SessionService, by id."""

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sessiond._export.records import PIECE_BYTES, Progress
from sessiond._protocol.times import from_timestamp
from sessiond._requests import messages as message_requests
from sessiond._requests import sessions as session_requests
from sessiond._requests import watch as watch_requests
from sessiond._requests.encoded import Encoder, encoded_store
from sessiond._requests.input import MessageInput, NewMessage, add_batch, refuse_single
from sessiond._sync import _transfer
from sessiond._sync._lazy import Lazy
from sessiond._sync._streams import copy_batches, event_batches, message_batches, session_batches
from sessiond._sync._transfer import ExportSource
from sessiond._sync._turns import TurnCalls
from sessiond._sync._wire import Source, each
from sessiond._types.event import Event
from sessiond._types.message import Message
from sessiond._types.session import (
    CopyResult,
    DeletedSessions,
    SessionCopy,
    SessionInfo,
    StoredRange,
    TokenCounts,
)
from sessiond.errors import SessiondError, invalid_field
from sessiond.v1.session_service_pb2 import ImportMessagesRequest

DELETE_TIMEOUT_S = 600.0
# From so many on, messages are encoded without an object for each.
ENCODED_MESSAGES = 100


class Sessions(TurnCalls):
    """The calls of SessionService, and those about turns, with keyword arguments in the place of requests.

    What they have in common: `timeout` is the deadline of a call over all its attempts, in seconds (default: the client's; math.inf =
    none). `request_id`, at most 128 characters, makes a change safe to repeat, by this client as by the caller: the same id again within
    24 hours answers what the first call did, and with other content raises RequestIdReused; one is made where none is given. Besides
    what is named at each call, all raise InvalidField, Unauthenticated, Unavailable, Overloaded, DeadlineExceeded, InternalError and
    ClientClosed.
    """

    def create(
        self,
        session_id: str | None = None,
        *,
        model: str | None = None,
        user: str | None = None,
        title: str | None = None,
        config: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        idle_ttl: timedelta | float | None = None,
        never_expires: bool = False,
        get_or_create: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> SessionInfo:
        """Make a session.

        Args:
            session_id: 1 to 256 characters, unique in the project. Default: the server makes a UUIDv7.
            model: the model that the conversation runs against. At most 256 characters.
            user: whom the conversation belongs to. At most 256 characters.
            title: a name for people to read. At most 512 characters.
            config: settings of the conversation: a JSON object of at most 64 KiB, without integers beyond ±2^53.
            metadata: the caller's own labels, likewise.
            idle_ttl: how long the session lives unused: a timedelta or seconds, from 1 second to 10 years. Default: the server's.
            never_expires: keep the session until it is deleted.
            get_or_create: answer the existing session, as it is, where there is one of this id.
        Returns: the session.
        Raises: SessionAlreadyExists.
        """
        request = session_requests.create_session(
            session_id,
            model=model,
            user=user,
            title=title,
            config=config,
            metadata=metadata,
            idle_ttl=idle_ttl,
            never_expires=never_expires,
            get_or_create=get_or_create,
            request_id=request_id,
        )
        return SessionInfo(
            self._connection.call(self._connection.stubs.sessions.CreateSession, request, timeout)
        )

    def get(self, session_id: str, *, timeout: float | None = None) -> SessionInfo:
        """One session. Raises: SessionNotFound."""
        request = session_requests.get_session(session_id)
        return SessionInfo(
            self._connection.call(self._connection.stubs.sessions.GetSession, request, timeout)
        )

    def list(
        self,
        *,
        session_id_prefix: str | None = None,
        user: str | None = None,
        state: str | None = None,
        model: str | None = None,
        config_contains: Mapping[str, Any] | None = None,
        metadata_contains: Mapping[str, Any] | None = None,
        created_from: datetime | None = None,
        created_before: datetime | None = None,
        active_from: datetime | None = None,
        active_before: datetime | None = None,
        order: str | None = None,
        page_size: int | None = None,
        timeout: float | None = None,
    ) -> Lazy[SessionInfo]:
        """The project's sessions, fetched page by page while they are iterated over. Filters are combined with "and".

        Args:
            session_id_prefix: the beginning of session_id, letter case included.
            user: sessions of this user.
            state: "active" or "destroyed".
            model: sessions of this model.
            config_contains: sessions whose config contains this JSON object, as PostgreSQL's jsonb @> has it.
            metadata_contains: sessions whose metadata contains this JSON object.
            created_from: created at this time or later. Times need a time zone.
            created_before: created before this time.
            active_from: last active at this time or later.
            active_before: last active before this time.
            order: "active_desc" (default: the most recently active first), "created_desc", "created_asc" or "id_asc".
            page_size: how many sessions a call brings, 1 to 500. Default: 50.
            timeout: of each call.
        Returns: a lazy listing; nothing is called before it is iterated over.
        """
        request = session_requests.list_sessions(
            session_id_prefix=session_id_prefix,
            user=user,
            state=state,
            model=model,
            config_contains=config_contains,
            metadata_contains=metadata_contains,
            created_from=created_from,
            created_before=created_before,
            active_from=active_from,
            active_before=active_before,
            order=order,
            page_size=page_size,
        )
        return Lazy(lambda: session_batches(self._connection, request, timeout))

    def delete_many(
        self,
        *,
        session_id_prefix: str | None = None,
        user: str | None = None,
        state: str | None = None,
        model: str | None = None,
        config_contains: Mapping[str, Any] | None = None,
        metadata_contains: Mapping[str, Any] | None = None,
        created_from: datetime | None = None,
        created_before: datetime | None = None,
        active_from: datetime | None = None,
        active_before: datetime | None = None,
        all: bool = False,
        dry_run: bool = False,
        timeout: float | None = DELETE_TIMEOUT_S,
    ) -> DeletedSessions:
        """Remove every session that meets a filter, with its messages, for good: `delete_many(user="ada")` removes all of a user.

        It works batch by batch. Where it ends early, what was removed stays removed, and the same call goes on. Sessions that are created
        while it runs are not touched.

        Args:
            all: has to be True where there is no filter. The other filters are those of `list`.
            dry_run: remove nothing, only count.
            timeout: of the whole. Unit: seconds. Default: 10 minutes.
        Returns: how many sessions, and how many messages these held.
        """
        request = session_requests.delete_sessions(
            session_id_prefix=session_id_prefix,
            user=user,
            state=state,
            model=model,
            config_contains=config_contains,
            metadata_contains=metadata_contains,
            created_from=created_from,
            created_before=created_before,
            active_from=active_from,
            active_before=active_before,
            all=all,
            dry_run=dry_run,
        )
        response = self._connection.call(
            self._connection.stubs.sessions.DeleteSessions, request, timeout
        )
        return DeletedSessions(response.session_count, response.message_count)

    def copy(
        self,
        session_id: str,
        new_session_id: str | None = None,
        *,
        up_to_seq: int | None = None,
        up_to_bookmark: str | None = None,
        model: str | None = None,
        user: str | None = None,
        title: str | None = None,
        config: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        idle_ttl: timedelta | float | None = None,
        never_expires: bool = False,
        keep_processing_status: bool = False,
        keep_task_links: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> CopyResult:
        """Make an independent session that begins as this one is, or was. It costs the same whatever the session's size.

        Copied: the messages with their seqs, parents and times, the tasks, the bookmarks up to the cut, and all settings that are not given
        here. The assets are shared. The copy is active, whatever the source's state.

        Args:
            new_session_id: 1 to 256 characters, unique in the project. Default: the server makes a UUIDv7.
            up_to_seq: the last seq to copy; 0 = no message. Default: the newest.
            up_to_bookmark: the same by a bookmark's name.
            model, user, title: "" = none.
            config, metadata: in the place of the source's.
            idle_ttl, never_expires: as in `create`.
            keep_processing_status: copy how far the processing queues are. Default: every message of the copy is pending.
            keep_task_links: copy the tasks' links to messages. Default: the copy's tasks have none.
        Returns: `old_session_id`, `new_session_id`, and the copy as `session`.
        Raises: SessionNotFound, SessionAlreadyExists, SessionTooLarge, MessageNotFound, BookmarkNotFound.
        """
        request = session_requests.copy_session(
            session_id,
            new_session_id,
            up_to_seq=up_to_seq,
            up_to_bookmark=up_to_bookmark,
            model=model,
            user=user,
            title=title,
            config=config,
            metadata=metadata,
            idle_ttl=idle_ttl,
            never_expires=never_expires,
            keep_processing_status=keep_processing_status,
            keep_task_links=keep_task_links,
            request_id=request_id,
        )
        response = self._connection.call(
            self._connection.stubs.sessions.CopySession, request, timeout
        )
        return CopyResult(
            response.old_session_id, response.new_session_id, SessionInfo(response.session)
        )

    def copies(
        self, session_id: str, *, page_size: int | None = None, timeout: float | None = None
    ) -> Lazy[SessionCopy]:
        """The copies of a session that still exist, the newest first, fetched page by page while they are iterated over.

        Args:
            page_size: how many copies a call brings, 1 to 500. Default: 50.
            timeout: of each call.
        Raises: SessionNotFound, when it is iterated over.
        """
        request = session_requests.list_copies(session_id, page_size)
        return Lazy(lambda: copy_batches(self._connection, request, timeout))

    def get_token_counts(self, session_id: str, *, timeout: float | None = None) -> TokenCounts:
        """How many tokens a session's messages have. They were counted when the messages were stored. Raises: SessionNotFound."""
        request = session_requests.get_token_counts(session_id)
        response = self._connection.call(
            self._connection.stubs.sessions.GetTokenCounts, request, timeout
        )
        return TokenCounts(
            response.total_tokens,
            response.estimated_tokens,
            response.encoding,
            response.message_count,
        )

    def update(
        self,
        session_id: str,
        *,
        model: str | None = None,
        user: str | None = None,
        title: str | None = None,
        config: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        config_patch: Mapping[str, Any] | None = None,
        metadata_patch: Mapping[str, Any] | None = None,
        idle_ttl: timedelta | float | None = None,
        never_expires: bool = False,
        etag: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> SessionInfo:
        """Change settings of a session, all or none. What is None stays as it is.

        Args:
            model: "" = none.
            user: "" = nobody.
            title: "" = none.
            config: replaces the whole of it.
            metadata: replaces the whole of it.
            config_patch: a JSON merge patch (RFC 7396): given keys are set, None deletes a key. Not together with config.
            metadata_patch: likewise.
            idle_ttl: how long the session lives unused: a timedelta or seconds, from 1 second to 10 years.
            never_expires: True keeps the session until it is deleted; False leaves it as it is.
            etag: must be the session's current one. Default: no check.
        Returns: the session as it is now.
        Raises: SessionNotFound, ETagMismatch.
        """
        request = session_requests.update_session(
            session_id,
            model=model,
            user=user,
            title=title,
            config=config,
            metadata=metadata,
            config_patch=config_patch,
            metadata_patch=metadata_patch,
            idle_ttl=idle_ttl,
            never_expires=never_expires,
            etag=etag,
            request_id=request_id,
        )
        return SessionInfo(
            self._connection.call(self._connection.stubs.sessions.UpdateSession, request, timeout)
        )

    def resume(
        self, session_id: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> SessionInfo:
        """Make a destroyed session active again; an active one stays so. Returns the session. Raises: SessionNotFound."""
        request = session_requests.resume_session(session_id, request_id)
        return SessionInfo(
            self._connection.call(self._connection.stubs.sessions.ResumeSession, request, timeout)
        )

    def destroy(
        self, session_id: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> SessionInfo:
        """Close a session to appends. It stays listed and readable. Returns the session. Raises: SessionNotFound."""
        request = session_requests.destroy_session(session_id, request_id)
        return SessionInfo(
            self._connection.call(self._connection.stubs.sessions.DestroySession, request, timeout)
        )

    def delete(
        self,
        session_id: str,
        *,
        allow_missing: bool = False,
        etag: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Remove a session and its messages for good.

        Args:
            allow_missing: do nothing where there is no such session.
            etag: must be the session's current one. Default: no check.
        Raises: SessionNotFound, ETagMismatch.
        """
        request = session_requests.delete_session(
            session_id, allow_missing=allow_missing, etag=etag, request_id=request_id
        )
        self._connection.call(self._connection.stubs.sessions.DeleteSession, request, timeout)

    def store_message(
        self,
        session_id: str,
        blob: MessageInput,
        format: str = "openai",
        *,
        metadata: Mapping[str, Any] | None = None,
        parent_seq: int | None = None,
        expected_last_seq: int | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> StoredRange:
        """Append one message; it is committed when this returns.

        Args:
            blob: the provider's message: a dict, or JSON text (str or bytes) that is kept byte for byte; or what store_messages takes.
            format: whose message it is: "openai", "anthropic" or "gemini".
            metadata: labels for the message: a JSON object of at most 64 KiB. Only with a dict or JSON text.
            parent_seq: the seq of the message that it follows. Default: the one before it. Only with a dict or JSON text.
            expected_last_seq: the session's last_seq must be this (0 = it is empty), or nothing is stored.
        Returns: where it is stored: `last_seq` is its seq.
        Raises: what store_messages raises.
        """
        if metadata is not None or parent_seq is not None:
            if not isinstance(blob, Mapping | str | bytes) or isinstance(blob, Message):
                raise invalid_field(
                    "blob", "brings its own metadata and parent_seq; give them in a NewMessage"
                )
            blob = NewMessage(blob, metadata=metadata, parent_seq=parent_seq)
        return self.store_messages(
            session_id,
            [blob],
            format,
            expected_last_seq=expected_last_seq,
            request_id=request_id,
            timeout=timeout,
        )

    def store_messages(
        self,
        session_id: str,
        messages: Iterable[MessageInput],
        format: str = "openai",
        *,
        expected_last_seq: int | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> StoredRange:
        """Append a batch, whole or not at all; all of it is committed when this returns.

        Args:
            messages: 1 to 1,000 messages, together at most 4 MiB. Each is a provider's message (a dict, or JSON text as str or bytes, kept
                byte for byte), a NewMessage (typed parts, labels, a parent), a Message that was read, or a protobuf Message.
            format: whose messages the dicts and JSON texts are: "openai", "anthropic" or "gemini".
            expected_last_seq: the session's last_seq must be this (0 = it is empty), or nothing is stored.
        Returns: where they are stored.
        Raises: SessionNotFound, SessionDestroyed, SequenceConflict, ParentNotFound, InvalidJson, UnknownRole, MessageTooLarge,
            BatchTooLarge, RequestIdReused.
        """
        refuse_single(messages)
        messages = messages if isinstance(messages, Sequence) else list(messages)
        request = message_requests.store_messages(
            session_id, expected_last_seq=expected_last_seq, request_id=request_id
        )
        if len(messages) < ENCODED_MESSAGES:
            add_batch(request.messages, messages, format)
            response = self._connection.call(self._connection.stubs.appends.call, request, timeout)
        else:
            encoded = encoded_store(request, messages, format)
            response = self._connection.call(self._connection.stubs.store_encoded, encoded, timeout)
        return StoredRange(
            response.first_seq, response.last_seq, from_timestamp(response.create_time)
        )

    def import_messages(
        self,
        session_id: str,
        messages: Source[MessageInput],
        format: str = "openai",
        *,
        expected_last_seq: int | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> StoredRange:
        """Append any number of messages as one append, whole or not at all; all of it is committed when this returns.

        Args:
            messages: any number of what store_messages takes. They are sent while they are iterated over. A list or another
                sequence is sent again where the connection breaks; another iterable can be used up only once, and then the error is raised.
            format: whose messages the dicts and JSON texts are: "openai", "anthropic" or "gemini".
            expected_last_seq: the session's last_seq must be this (0 = it is empty), or nothing is stored.
            timeout: of all attempts. Unit: seconds. Default: none.
        Returns: where they are stored.
        Raises: what store_messages raises, except BatchTooLarge; and whatever iterating over `messages` raises, with nothing stored.
        """
        refuse_single(messages)
        first = message_requests.first_import_piece(
            session_id, expected_last_seq=expected_last_seq, request_id=request_id
        )
        raised: list[Exception] = []
        try:
            response = self._connection.upload(
                self._connection.stubs.import_encoded,
                lambda: _pieces(first, messages, format, raised),
                timeout=timeout,
                is_repeatable=isinstance(messages, Sequence),
            )
        except SessiondError:
            if raised:
                raise raised[0] from None
            raise
        return StoredRange(
            response.first_seq, response.last_seq, from_timestamp(response.create_time)
        )

    def get_messages(
        self,
        session_id: str,
        *,
        after_seq: int | None = None,
        after_bookmark: str | None = None,
        through_seq: int | None = None,
        limit: int | None = None,
        order: str = "asc",
        roles: Sequence[str] | None = None,
        view: str = "full",
        timeout: float | None = None,
    ) -> Lazy[Message]:
        """A session's messages with after_seq < seq <= through_seq, streamed while they are iterated over.

        A stream that breaks is opened again where it broke off, without gap or repeat. What is stored after the iteration began is not
        mixed in.

        Args:
            after_seq: leaves out the messages up to this seq. Default: none.
            after_bookmark: leaves out the messages up to this bookmark of the session. Not together with after_seq.
            through_seq: the last seq to read. Default: the newest when the iteration begins.
            limit: how many messages to read at the most. Default: all.
            order: "asc", or "desc": from through_seq backwards, so that with a limit the newest come.
            roles: messages of these roles only ("user", "assistant", "system", "developer", "tool"). Default: all.
            view: "full", or "basic": only seq, created_at, role, format and content_bytes.
            timeout: of the whole reading. Unit: seconds. Default: none.
        Returns: a lazy listing; nothing is called before it is iterated over, and then it raises SessionNotFound, and
            BookmarkNotFound where after_bookmark names none.
        """
        request = message_requests.get_messages(
            session_id,
            after_seq=after_seq,
            after_bookmark=after_bookmark,
            through_seq=through_seq,
            limit=limit,
            order=order,
            roles=roles,
            view=view,
        )
        return Lazy(lambda: message_batches(self._connection, request, timeout))

    def events(
        self,
        session_id: str,
        after_seq: int | None = None,
        *,
        types: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> Lazy[Event]:
        """A session's events, while they happen: first the messages after after_seq, then everything as it comes, without end.

        A stream that breaks is opened again where it broke off: each message comes once and in order. The session's own events, such as
        "session.updated", may be missed meanwhile. The session does not expire while it is watched.

        Args:
            after_seq: leaves out the messages up to this seq; 0 = none. Default: only what comes, from the beginning of the iteration.
            types: events of these types only, e.g. ["assistant.message"]; `Event.type` names them. Default: all.
            timeout: of the whole stream. Unit: seconds. Default: none.
        Returns: a lazy listing to iterate over; nothing is called before, and it ends by leaving the loop, or with an error:
            SessionNotFound when the session is deleted or expires, Unavailable when the server stays away.
        """
        request = watch_requests.watch(session_id, after_seq=after_seq)
        wanted = watch_requests.event_types(types)
        return Lazy(lambda: event_batches(self._connection, request, timeout, types=wanted))

    def get_message(self, session_id: str, seq: int, *, timeout: float | None = None) -> Message:
        """One message. seq: from 1. Raises: SessionNotFound, MessageNotFound."""
        request = message_requests.get_message(session_id, seq)
        return Message(
            session_id,
            self._connection.call(self._connection.stubs.sessions.GetMessage, request, timeout),
        )

    def export(
        self, session_id: str, *, assets: bool = True, timeout: float | None = None
    ) -> dict[str, Any]:
        """A session with tasks, bookmarks, messages and assets as one dict that json.dumps takes; import_session makes an equal one of it.

        Messages and bookmarks are as of one moment, that of looking the session up; tasks are as they are when they are read, without links
        to later messages. It holds the session in memory; export_lines and export_to do not.

        Not exported, since no other session can have it: etag and origin; nor what follows from the rest: summary, content_bytes,
        the token counts, expires_at.

        Args:
            assets: with the content of each asset that a message refers to. False leaves the contents out; then the project that it is
                imported into must have these assets already.
            timeout: of looking the session up, and each asset. Unit: seconds. Reading messages and contents has no deadline.
        Returns: {"version": 1,
            "session": {"session_id", "state", "model", "user", "title", "config", "metadata", "idle_ttl" (seconds, or None),
            "never_expires", "created_at", "active_at", "last_seq"},
            "tasks": [{"task_id", "status", "data", "message_seqs", "created_at", "updated_at"}, ...] in their order,
            "bookmarks": [{"name", "seq", "description", "created_at", "updated_at"}, ...],
            "messages": [{"seq", "role", "created_at", "parent_seq", "metadata", "content" (the text, for people to read), "format", and
            "json" (the exact text) or "parts" (sessiond.v1.Part in the JSON form that protobuf defines, with the protos' names), "turn"
            where it has one}, ...],
            "assets": [{"asset_id", "media_type", "size", "data" (the content in base64)}, ...] in the order in which messages name them}.
            Times are ISO 8601 strings in UTC.
        Raises: SessionNotFound.
        """
        return _transfer.export(self._connection, session_id, timeout, assets=assets)

    def export_lines(
        self, session_id: str, *, assets: bool = True, timeout: float | None = None
    ) -> Lazy[str]:
        """What export answers as lines of JSON, made while they are iterated over, in bounded memory.

        Each line has a "kind". In this order: an "export" line with the form's version and the session, a line for each "task", "bookmark"
        and "message", and an "end" line with how many there were of each, which shows that nothing is cut off. Before the first message
        that refers to an asset come "asset" lines with its content in pieces: "asset_id", "media_type", "size", "offset", "data" (base64).
        The same session gives the same lines.

        Args:
            assets, timeout: as in export.
        Returns: a lazy listing of lines with their ends, as a file's writelines takes them; nothing is called before it is iterated over,
            and then it raises SessionNotFound.
        """
        return Lazy(
            lambda: _transfer.line_batches(self._connection, session_id, timeout, assets=assets)
        )

    def export_to(
        self,
        session_id: str,
        path: str | os.PathLike[str],
        *,
        format: str = "jsonl",
        assets: bool = True,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> SessionInfo:
        """Export a session into a file, in bounded memory. Only when it is complete does it take the place of a file that is there.

        Args:
            format: "jsonl": the lines of export_lines; "json": one document, as of export.
            assets, timeout: as in export.
            progress: called now and then as progress(messages written, messages in all).
        Returns: the session as it was exported.
        Raises: SessionNotFound, and OSError for a file that cannot be written.
        """
        return _transfer.export_to(
            self._connection, session_id, path, format, progress, timeout, assets=assets
        )

    def import_session(
        self,
        source: ExportSource,
        session_id: str | None = None,
        *,
        progress: Progress | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> SessionInfo:
        """Make a session of an exported one, here or elsewhere: exporting it again gives the same, session_id apart where another is given.

        It is stored whole or not at all. Lines of JSON are read and sent in bounded memory; one JSON document is read whole. Its assets are
        uploaded before, large ones by way of a temporary file; where the import then fails, they are removed as any that nothing refers to.

        Args:
            source: the dict of export, the path of a file of export_to (either format is recognised by its content), an open text file, or
                lines to be iterated over. A dict, a path and a list are read again where the connection breaks; another source can be used
                up only once, and then the error is raised.
            session_id: of the new session, 1 to 256 characters, unique in the project. Default: the exported one.
            progress: called now and then, possibly in another thread, as progress(messages sent, messages in all), the latter None where
                the export does not say.
            timeout: of all attempts. Unit: seconds. Default: none.
        Returns: the session.
        Raises: SessionAlreadyExists; InvalidField with the line or the place for what is no export (another version, an end that is
            missing, counts that do not agree, broken JSON, an asset_id that is not that of the content); AssetNotFound where the export was
            made without assets and the project does not have them; what store_messages raises for the messages and assets.upload for the
            assets; OSError for a file that cannot be read. No session is stored then.
        """
        return _transfer.import_session(
            self._connection, source, session_id, progress, request_id, timeout
        )


def _pieces(
    first: ImportMessagesRequest,
    messages: Source[MessageInput],
    format: str,
    raised: list[Exception],
) -> Generator[bytes, None]:
    """The pieces of an import, encoded. Where making them raises, the error goes to `raised`, and a last piece makes the server refuse the
    whole.
    """
    encoder = Encoder(first, format)
    is_first = True
    count = 0
    try:
        for message in each(messages):
            encoder.add(message, count)
            count += 1
            if encoder.size >= PIECE_BYTES:
                yield encoder.take()
                is_first = False
    except Exception as error:
        # A stream that merely breaks off here could pass for one that is complete; no session has this id.
        raised.append(error)
        yield ImportMessagesRequest(session_id="\0").SerializeToString()
        return
    # An import without a message is sent too: that it needs one is the server's to say.
    if is_first or not encoder.is_empty:
        yield encoder.take()
