# Generated from compat/acontext/_async.py by scripts/generate-sync-client. Do not edit.
"""The clients of `sessiond.compat.acontext`."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from sessiond._protocol.settings import DEFAULT_TIMEOUT_S
from sessiond._requests import sessions as session_requests
from sessiond._sync._client import Client
from sessiond._types.session import CopyResult, SessionInfo, TokenCounts
from sessiond.compat.acontext import _types as _acontext
from sessiond.compat.acontext._types import (
    GetMessagesOutput,
    GetTasksOutput,
    ListSessionsOutput,
    Message,
    Session,
    translated,
)


class AcontextClient:
    """Acontext's client, on top of sessiond's.

    Attributes:
        sessions: the calls about sessions.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Read the settings; the connection is opened later.

        Args:
            api_key: an API key of sessiond ("sk-sessiond-..."). Other keys, such as Acontext's, are
                not sent; a server that requires keys then raises API_KEY_MISSING. Default:
                $SESSIOND_API_KEY, or none.
            base_url: "http://HOST:PORT", "https://HOST:PORT" (TLS) or HOST:PORT of a sessiond
                server. Default: $SESSIOND_TARGET, or localhost:50051.
            timeout: seconds for a call, over all its attempts. Default: 30.

        Raises:
            ValueError: the base_url is malformed.
        """
        target, tls = _acontext.target_of(base_url)
        self._client = Client(
            target,
            api_key=_acontext.key_of(api_key),
            timeout=DEFAULT_TIMEOUT_S if timeout is None else timeout,
            tls=tls,
        )
        self.sessions = AcontextSessions(self._client)

    def close(self) -> None:
        """End running calls, and close the connection."""
        self._client.close()

    def __enter__(self) -> Self:
        self._client.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AcontextSessions:
    """The calls about sessions.

    All raise AcontextError: APIError if the server refuses the call, TransportError if it does not
    answer.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sessions = client.sessions

    def create(
        self,
        *,
        user: str | None = None,
        disable_task_tracking: bool | None = None,
        configs: Mapping[str, Any] | None = None,
        use_uuid: str | None = None,
    ) -> Session:
        """Create a session.

        Args:
            user: name of the user that the session belongs to. Default: none.
            disable_task_tracking: ignored: sessiond creates no tasks by itself.
            configs: settings of the session: a JSON object of at most 64 KiB. Default: empty.
            use_uuid: the session's id, which may be any string. An existing session with this id is
                returned unchanged. Default: the server generates a UUID.
        """
        with translated():
            info = self._sessions.create(
                use_uuid, user=user, config=configs, get_or_create=use_uuid is not None
            )
        return _acontext.session_of(info)

    def list(
        self,
        *,
        user: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        time_desc: bool | None = None,
        filter_by_configs: Mapping[str, Any] | None = None,
    ) -> ListSessionsOutput:
        """Return a page of the project's sessions, ordered by creation.

        Args:
            user: only sessions of this user. Default: all.
            limit: number of sessions, 1 to 500. Default: 20.
            cursor: next_cursor of the previous page, with the same filters and order.
            time_desc: newest first. Default: oldest first.
            filter_by_configs: only sessions whose configs contain this JSON object.
        """
        with translated():
            request = session_requests.list_sessions(
                user=user,
                config_contains=filter_by_configs,
                order="created_desc" if time_desc else "created_asc",
                page_size=limit or _acontext.DEFAULT_LIMIT,
            )
            request.page_token = cursor or ""
            page = self._client._connection.call(lambda stubs: stubs.sessions.ListSessions, request)
        items = [_acontext.session_of(SessionInfo(session)) for session in page.sessions]
        return ListSessionsOutput(items, page.next_page_token or None, bool(page.next_page_token))

    def delete(self, session_id: str) -> None:
        """Delete a session and its messages permanently."""
        with translated():
            self._sessions.delete(session_id)

    def copy(self, session_id: str) -> CopyResult:
        """Create an independent copy of a session of any size.

        Returns:
            The result, with `old_session_id` and `new_session_id`.
        """
        with translated():
            return self._sessions.copy(session_id)

    def get_configs(self, session_id: str) -> Session:
        """Return the session, with its configs."""
        with translated():
            return _acontext.session_of(self._sessions.get(session_id))

    def update_configs(self, session_id: str, *, configs: Mapping[str, Any]) -> None:
        """Replace the configs."""
        with translated():
            self._sessions.update(session_id, config=configs)

    def patch_configs(self, session_id: str, *, configs: Mapping[str, Any]) -> dict[str, Any]:
        """Change some of the configs by a JSON merge patch (RFC 7396).

        Args:
            session_id: the session's id.
            configs: keys to set. None deletes a key; objects are merged.

        Returns:
            All configs after the change.
        """
        with translated():
            return (self._sessions.update(session_id, config_patch=configs)).config

    def store_message(
        self,
        session_id: str,
        *,
        blob: Any,
        format: str | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Message:
        """Append one message. It is committed when this returns.

        Args:
            session_id: the session's id.
            blob: the provider's message: a dict, or an object of its SDK with `model_dump()`.
            format: the message's format: "openai", "anthropic" or "gemini". Default: by its shape.
            meta: labels for the message: a JSON object of at most 64 KiB. Default: empty.
        """
        value = _acontext.blob_of(blob)
        with translated():
            stored = self._sessions.store_message(session_id, value, format, metadata=meta)
        return _acontext.stored_message(session_id, value, meta, stored)

    def get_messages(
        self,
        session_id: str,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        format: str = "openai",
        time_desc: bool | None = None,
        with_asset_public_url: bool | None = None,
    ) -> GetMessagesOutput:
        """Return a page of messages, oldest first.

        Args:
            session_id: the session's id.
            limit: number of messages. Default: all.
            cursor: next_cursor of the previous page, with the same order.
            format: the format of the stored messages, which are returned unchanged. A page that
                contains a message of another format is refused.
            time_desc: start with the page of the newest messages. Default: the page of the oldest.
            with_asset_public_url: ignored: sessiond has no public URLs.
        """
        count = limit or 0
        with translated():
            start = _acontext.number_of(cursor)
            found = self._sessions.get_messages(
                session_id,
                after_seq=None if time_desc else start,
                # Backward pages end at the first message, so a cursor is always above 1.
                through_seq=start - 1 if time_desc and start > 1 else None,
                order="desc" if time_desc else "asc",
                limit=count + 1 if count else None,
            ).to_list()
            return _acontext.page_of_messages(found, count, format, newest_first=bool(time_desc))

    def get_token_counts(self, session_id: str) -> TokenCounts:
        """Return the number of tokens of the messages, as `total_tokens`."""
        with translated():
            return self._sessions.get_token_counts(session_id)

    def get_tasks(
        self,
        session_id: str,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        time_desc: bool | None = None,
    ) -> GetTasksOutput:
        """Return a page of the session's tasks, ordered by creation.

        Tasks are created with sessiond's own client (`client.tasks`).

        Args:
            session_id: the session's id.
            limit: number of tasks. Default: 20.
            cursor: next_cursor of the previous page, with the same order.
            time_desc: newest first. Default: oldest first.
        """
        with translated():
            found = self._client.tasks.list(session_id, page_size=100).to_list()
            return _acontext.page_of_tasks(
                session_id, found, limit, cursor, newest_first=bool(time_desc)
            )
