# Generated from _async/_sessions.py by scripts/generate-sync-client. Do not edit.
"""`client.sessions`: the calls about sessions, by id."""

from collections.abc import Mapping
from typing import Any, Unpack

from sessiond._protocol.times import from_timestamp
from sessiond._requests import sessions as session_requests
from sessiond._requests.fields import filled, request_id_or_new
from sessiond._requests.options import CopySettings, SessionFilter, SessionSettings, SessionUpdate
from sessiond._sync._events import SyncEventCalls
from sessiond._sync._lazy import Lazy
from sessiond._sync._regeneration import RegenerationCalls
from sessiond._sync._streams import page_batches
from sessiond._sync._transcripts import TranscriptCalls
from sessiond._types.session import (
    CopyResult,
    DeletedSessions,
    SessionCopy,
    SessionInfo,
    TokenCounts,
    deleted_sessions,
)
from sessiond.v1 import session_service_pb2 as pb

DELETE_TIMEOUT_S = 600.0


class Sessions(TranscriptCalls, RegenerationCalls, SyncEventCalls):
    """The calls about sessions, their messages and their turns, by session id.

    `timeout` is the deadline of a call over all its attempts, in seconds. Default: the client's;
    math.inf = no deadline. `request_id`, at most 128 characters, makes a change safe to repeat: a
    second call with the same request_id within 24 hours returns the first call's result, or raises
    RequestIdReused if its content differs. Default: a random one for each call.

    In addition to the errors listed for each call, all calls raise InvalidField, Unauthenticated,
    Unavailable, Overloaded, DeadlineExceeded, InternalError and ClientClosed.
    """

    def create(
        self,
        session_id: str | None = None,
        *,
        get_or_create: bool = False,
        state: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
        **settings: Unpack[SessionSettings],
    ) -> SessionInfo:
        """Create a session.

        Args:
            session_id: 1 to 1,024 characters, unique in the project. Default: a UUIDv7.
            get_or_create: if the session exists already, return it unchanged.
            state: the session's state, a JSON object of at most 1 MiB. Default: {}.
            request_id: makes the call safe to repeat.
            timeout: deadline over all attempts, in seconds.
            **settings: model, user, title, config, metadata, idle_ttl, never_expires. Default:
                no value, except for idle_ttl: the server's default.

        Returns:
            The session.

        Raises:
            SessionAlreadyExists: if the id is taken, unless get_or_create is set.
        """
        request = session_requests.create_session(
            session_id,
            get_or_create=get_or_create,
            request_id=request_id,
            state=state,
            **settings,
        )
        return SessionInfo(
            self._connection.call(lambda stubs: stubs.sessions.CreateSession, request, timeout)
        )

    def get(self, session_id: str, *, timeout: float | None = None) -> SessionInfo:
        """Return a session.

        Args:
            session_id: the session.
            timeout: deadline over all attempts, in seconds.

        Raises:
            SessionNotFound: if there is no such session.
        """
        request = filled(pb.GetSessionRequest(), session_id=session_id)
        return SessionInfo(
            self._connection.call(lambda stubs: stubs.sessions.GetSession, request, timeout)
        )

    def list(
        self,
        *,
        order: str | None = None,
        page_size: int | None = None,
        with_state: bool = False,
        timeout: float | None = None,
        **conditions: Unpack[SessionFilter],
    ) -> Lazy[SessionInfo]:
        """List the project's sessions, fetched page by page during the iteration.

        Args:
            order: "active_desc" (default: the most recently active first), "active_asc",
                "created_desc", "created_asc" or "id_asc".
            page_size: sessions per call, 1 to 500. Default: 50.
            with_state: also fetch the states of the sessions.
            timeout: deadline of each call, in seconds.
            **conditions: session_id_prefix, user, status, model, config_contains,
                metadata_contains, created_from, created_before, active_from, active_before. Only
                sessions that meet all given conditions are listed.

        Returns:
            A lazy list; no call is made until it is iterated over.
        """
        request = session_requests.list_sessions(
            order=order, page_size=page_size, with_state=with_state, **conditions
        )
        return Lazy(
            lambda: page_batches(
                self._connection,
                lambda stubs: stubs.sessions.ListSessions,
                request,
                timeout,
                "sessions",
                SessionInfo,
            )
        )

    def delete_many(
        self,
        *,
        all: bool = False,
        dry_run: bool = False,
        timeout: float | None = DELETE_TIMEOUT_S,
        **conditions: Unpack[SessionFilter],
    ) -> DeletedSessions:
        """Permanently delete all sessions that meet the conditions, with their messages.

        `delete_many(user="ada")` deletes the sessions of a user. The server works in batches: if
        the call ends early, the deleted sessions stay deleted, and repeating the call deletes the
        rest. Sessions created during the call are kept. The result names sessions that are locked.

        Args:
            all: must be True if no condition is given.
            dry_run: only count the sessions; delete nothing.
            timeout: deadline of the whole call, in seconds. Default: 600.
            **conditions: session_id_prefix, user, status, model, config_contains,
                metadata_contains, created_from, created_before, active_from, active_before. Only
                sessions that meet all given conditions are deleted.

        Returns:
            The numbers of deleted sessions and messages, and the sessions that others had locked.
        """
        request = session_requests.delete_sessions(all=all, dry_run=dry_run, **conditions)
        response = self._connection.call(
            lambda stubs: stubs.sessions.DeleteSessions, request, timeout
        )
        return deleted_sessions(response)

    def copy(
        self,
        session_id: str,
        new_session_id: str | None = None,
        *,
        up_to_seq: int | None = None,
        up_to_bookmark: str | None = None,
        keep_processing_status: bool = False,
        keep_task_links: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
        **settings: Unpack[CopySettings],
    ) -> CopyResult:
        """Create an independent session that begins like this one, in constant time.

        The copy has the messages with their seqs, parents and times, the tasks, the bookmarks up to
        the last copied message, and all settings that are not overridden here. It shares the
        assets. The copy is active, even if the source is destroyed.

        Args:
            session_id: the source.
            new_session_id: 1 to 1,024 characters, unique in the project. Default: a UUIDv7.
            up_to_seq: seq of the last message to copy; 0 = no messages. Default: the newest.
            up_to_bookmark: copy the messages up to this bookmark. Not together with up_to_seq.
            keep_processing_status: copy the progress of the processing queues. Default: all
                messages of the copy are pending.
            keep_task_links: copy the tasks' links to messages. Default: the links are not copied.
            request_id: makes the call safe to repeat.
            timeout: deadline over all attempts, in seconds.
            **settings: model, user, title, config, metadata, idle_ttl, never_expires, state,
                remove_state. Default: the source's.

        Returns:
            `old_session_id`, `new_session_id`, and the copy as `session`.

        Raises:
            SessionNotFound: if there is no such session.
            SessionAlreadyExists: if the new id is taken.
            SessionTooLarge: if the source is larger than the operator allows for copies.
            MessageNotFound: if no message has the seq up_to_seq.
            BookmarkNotFound: if the bookmark up_to_bookmark does not exist.
        """
        request = session_requests.copy_session(
            session_id,
            new_session_id,
            up_to_seq=up_to_seq,
            up_to_bookmark=up_to_bookmark,
            keep_processing_status=keep_processing_status,
            keep_task_links=keep_task_links,
            request_id=request_id,
            **settings,
        )
        response = self._connection.call(lambda stubs: stubs.sessions.CopySession, request, timeout)
        return CopyResult(
            response.old_session_id, response.new_session_id, SessionInfo(response.session)
        )

    def copies(
        self, session_id: str, *, page_size: int | None = None, timeout: float | None = None
    ) -> Lazy[SessionCopy]:
        """List the copies of a session that still exist, the newest first.

        Args:
            session_id: the source.
            page_size: copies per call, 1 to 500. Default: 50.
            timeout: deadline of each call, in seconds.

        Returns:
            A lazy list; no call is made until it is iterated over. Iterating raises
            SessionNotFound if there is no such session.
        """
        request = filled(pb.ListCopiesRequest(), session_id=session_id, page_size=page_size)
        return Lazy(
            lambda: page_batches(
                self._connection,
                lambda stubs: stubs.sessions.ListCopies,
                request,
                timeout,
                "copies",
                lambda copy: SessionCopy(
                    copy.session_id, copy.seq, from_timestamp(copy.create_time)
                ),
            )
        )

    def get_token_counts(self, session_id: str, *, timeout: float | None = None) -> TokenCounts:
        """Return the number of tokens of a session's messages, as counted when they were stored.

        Args:
            session_id: the session.
            timeout: deadline over all attempts, in seconds.

        Raises:
            SessionNotFound: if there is no such session.
        """
        request = filled(pb.GetTokenCountsRequest(), session_id=session_id)
        response = self._connection.call(
            lambda stubs: stubs.sessions.GetTokenCounts, request, timeout
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
        config_patch: Mapping[str, Any] | None = None,
        metadata_patch: Mapping[str, Any] | None = None,
        etag: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
        **settings: Unpack[SessionUpdate],
    ) -> SessionInfo:
        """Change settings of a session, all or nothing. Settings not given are not changed.

        Args:
            session_id: the session.
            config_patch: a JSON merge patch (RFC 7396) of config: keys with a value are set, and
                keys with None are deleted; model_options is replaced as a whole. Not together with
                config.
            metadata_patch: a merge patch of metadata, in the same way.
            etag: the call fails unless this is the session's current etag. Default: no check.
            request_id: makes the call safe to repeat.
            timeout: deadline over all attempts, in seconds.
            **settings: model, user, title, config, metadata, idle_ttl, never_expires, state,
                remove_state, state_etag. config and metadata are replaced as a whole; state
                replaces only the top-level keys that it has. never_expires=False has no effect.

        Returns:
            The session after the change.

        Raises:
            SessionNotFound: if there is no such session.
            ETagMismatch: if the current etag of the session, or of its state, differs.
        """
        request = session_requests.update_session(
            session_id,
            config_patch=config_patch,
            metadata_patch=metadata_patch,
            etag=etag,
            request_id=request_id,
            **settings,
        )
        return SessionInfo(
            self._connection.call(lambda stubs: stubs.sessions.UpdateSession, request, timeout)
        )

    def resume(
        self, session_id: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> SessionInfo:
        """Make a destroyed session active again. An active session is not changed.

        Args:
            session_id: the session.
            request_id: makes the call safe to repeat.
            timeout: deadline over all attempts, in seconds.

        Returns:
            The session.

        Raises:
            SessionNotFound: if there is no such session.
        """
        request = filled(
            pb.ResumeSessionRequest(),
            session_id=session_id,
            request_id=request_id_or_new(request_id),
        )
        return SessionInfo(
            self._connection.call(lambda stubs: stubs.sessions.ResumeSession, request, timeout)
        )

    def destroy(
        self, session_id: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> SessionInfo:
        """Close a session to appends. It can still be listed and read.

        Args:
            session_id: the session.
            request_id: makes the call safe to repeat.
            timeout: deadline over all attempts, in seconds.

        Returns:
            The session.

        Raises:
            SessionNotFound: if there is no such session.
        """
        request = filled(
            pb.DestroySessionRequest(),
            session_id=session_id,
            request_id=request_id_or_new(request_id),
        )
        return SessionInfo(
            self._connection.call(lambda stubs: stubs.sessions.DestroySession, request, timeout)
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
        """Delete a session and its messages permanently.

        Args:
            session_id: the session.
            allow_missing: do nothing if there is no such session.
            etag: the call fails unless this is the session's current etag. Default: no check.
            request_id: makes the call safe to repeat.
            timeout: deadline over all attempts, in seconds.

        Raises:
            SessionNotFound: if there is no such session, unless allow_missing is set.
            ETagMismatch: if the session's current etag differs.
        """
        request = filled(
            pb.DeleteSessionRequest(),
            session_id=session_id,
            allow_missing=allow_missing,
            etag=etag,
            request_id=request_id_or_new(request_id),
        )
        self._connection.call(lambda stubs: stubs.sessions.DeleteSession, request, timeout)
