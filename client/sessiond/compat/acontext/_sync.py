# Generated from sessiond/compat/acontext/_async.py by scripts/generate-sync-client: do not edit.
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
    """Acontext's client, over one of sessiond.

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
        """Settings are read here; nothing is connected yet.

        Args:
            api_key: a key of sessiond ("sk-sessiond-..."). Any other, such as one of Acontext, is as none: it is not sent, a server without
                keys is used all the same, and one with keys answers API_KEY_MISSING. Default: $SESSIOND_API_KEY, or none.
            base_url: "http://HOST:PORT", "https://HOST:PORT" (over TLS) or HOST:PORT of a sessiond server. Default: $SESSIOND_TARGET, or
                localhost:50051.
            timeout: deadline of a call over all its attempts. Unit: seconds. Default: 30.
        Raises: ValueError for a base_url that cannot be one.
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
        """End what runs, and close the connection."""
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
    """The calls about sessions. All raise AcontextError: APIError where the server refuses, TransportError where no answer comes."""

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
        """Make a session.

        Args:
            user: whom it belongs to.
            disable_task_tracking: without effect: sessiond makes no tasks by itself.
            configs: settings of the conversation: a JSON object of at most 64 KiB.
            use_uuid: its id; where there is a session of this id, that one is answered. Any text will do. Default: the server makes a UUID.
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
        """A page of the project's sessions by their creation, the oldest first.

        Args:
            user: sessions of this user.
            limit: how many, 1 to 500. Default: 20.
            cursor: next_cursor of the page before, with the same filters and order.
            time_desc: the newest first.
            filter_by_configs: sessions whose configs contain this JSON object.
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
        """Remove a session and its messages for good."""
        with translated():
            self._sessions.delete(session_id)

    def copy(self, session_id: str) -> CopyResult:
        """Make an independent session that begins as this one is, whatever its size.

        Returns: `old_session_id` and `new_session_id`.
        """
        with translated():
            return self._sessions.copy(session_id)

    def get_configs(self, session_id: str) -> Session:
        """The session, with its configs."""
        with translated():
            return _acontext.session_of(self._sessions.get(session_id))

    def update_configs(self, session_id: str, *, configs: Mapping[str, Any]) -> None:
        """Replace the configs."""
        with translated():
            self._sessions.update(session_id, config=configs)

    def patch_configs(self, session_id: str, *, configs: Mapping[str, Any]) -> dict[str, Any]:
        """Change some of the configs: given keys are set, None deletes a key, objects are merged (RFC 7396). Returns the whole."""
        with translated():
            return (self._sessions.update(session_id, config_patch=configs)).config

    def store_message(
        self,
        session_id: str,
        *,
        blob: Any,
        format: str = "openai",
        meta: Mapping[str, Any] | None = None,
    ) -> Message:
        """Append one message; it is committed when this returns.

        Args:
            blob: the provider's message: a dict, or an object of its SDK with `model_dump()`.
            format: whose message it is: "openai", "anthropic" or "gemini".
            meta: labels for the message: a JSON object of at most 64 KiB.
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
        """A page of messages, always with the oldest of them first.

        Args:
            limit: how many. Default: all.
            cursor: next_cursor of the page before, with the same order.
            format: that in which the messages were stored: they are given back as they are. A page with a message of another is refused.
            time_desc: begin with the page of the newest.
            with_asset_public_url: without effect: sessiond gives no public URLs.
        """
        count = limit or 0
        with translated():
            start = _acontext.number_of(cursor)
            found = self._sessions.get_messages(
                session_id,
                after_seq=None if time_desc else start,
                # Pages backwards end with the first message, after which there are none.
                through_seq=start - 1 if time_desc and start > 1 else None,
                order="desc" if time_desc else "asc",
                limit=count + 1 if count else None,
            ).to_list()
            return _acontext.page_of_messages(found, count, format, newest_first=bool(time_desc))

    def get_token_counts(self, session_id: str) -> TokenCounts:
        """How many tokens the messages have, as `total_tokens`."""
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
        """A page of the session's tasks by their creation, the oldest first. Programs make them by sessiond's own client (`client.tasks`).

        Args:
            limit: how many. Default: 20.
            cursor: next_cursor of the page before, with the same order.
            time_desc: the newest first.
        """
        with translated():
            found = self._client.tasks.list(session_id, page_size=100).to_list()
            return _acontext.page_of_tasks(
                session_id, found, limit, cursor, newest_first=bool(time_desc)
            )
