# Generated from _async/_bookmarks.py by scripts/generate-sync-client. Do not edit.
"""`client.bookmarks`: the calls of BookmarkService."""

from collections.abc import Generator, Sequence
from typing import Unpack

from sessiond._requests import bookmarks as bookmark_requests
from sessiond._requests import messages as message_requests
from sessiond._requests.options import BookmarkChanges, BookmarkSettings, SinceOptions
from sessiond._sync._connection import Connection
from sessiond._sync._lazy import Lazy
from sessiond._sync._streams import message_batches
from sessiond._types.bookmark import Bookmark
from sessiond._types.message import Message
from sessiond.v1.bookmark_service_pb2 import ListBookmarksRequest


class Bookmarks:
    """The calls of BookmarkService, by session id: named places in a session, at most 1,000 of them, kept by the server.

    A bookmark stands after the message of its seq. `timeout` and `request_id` are as in `client.sessions`. All raise SessionNotFound
    besides what is named at each call. A destroyed session's bookmarks can be changed.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(
        self,
        session_id: str,
        name: str,
        *,
        seq: int | None = None,
        description: str = "",
        replace: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Bookmark:
        """Mark a place.

        Args:
            name: 1 to 128 characters, unique in the session, no white space at either end.
            seq: the message that it stands after; 0 = before the first message. Default: the newest message.
            description: for people to read. At most 1,024 characters.
            replace: where there is a bookmark of this name, give it this seq and description.
        Returns: the bookmark.
        Raises: BookmarkAlreadyExists, MessageNotFound, LimitExceeded, RequestIdReused.
        """
        request = bookmark_requests.create_bookmark(
            session_id,
            name,
            seq=seq,
            description=description,
            replace=replace,
            request_id=request_id,
        )
        return Bookmark(
            self._connection.call(self._connection.stubs.bookmarks.CreateBookmark, request, timeout)
        )

    def get(self, session_id: str, name: str, *, timeout: float | None = None) -> Bookmark:
        """One bookmark. Raises: BookmarkNotFound."""
        request = bookmark_requests.get_bookmark(session_id, name)
        return Bookmark(
            self._connection.call(self._connection.stubs.bookmarks.GetBookmark, request, timeout)
        )

    def list(
        self, session_id: str, *, page_size: int | None = None, timeout: float | None = None
    ) -> Lazy[Bookmark]:
        """The session's bookmarks by seq, then by name, fetched page by page while they are iterated over.

        Args:
            page_size: how many bookmarks a call brings at the most, 1 to 500. Default: 50.
            timeout: of each call.
        Returns: a lazy listing; nothing is called before it is iterated over.
        """
        request = bookmark_requests.list_bookmarks(session_id, page_size=page_size)
        return Lazy(lambda: _batches(self._connection, request, timeout))

    def move(
        self,
        session_id: str,
        name: str,
        seq: int | None = None,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Bookmark:
        """Put a bookmark elsewhere.

        Args:
            seq: the message that it stands after; 0 = before the first message. Default: the newest message.
        Returns: the bookmark as it is now.
        Raises: BookmarkNotFound, MessageNotFound, RequestIdReused.
        """
        request = bookmark_requests.move_bookmark(session_id, name, seq, request_id)
        return Bookmark(
            self._connection.call(self._connection.stubs.bookmarks.UpdateBookmark, request, timeout)
        )

    def update(
        self,
        session_id: str,
        name: str,
        *,
        seq: int | None = None,
        description: str | None = None,
        new_name: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Bookmark:
        """Move, describe or rename a bookmark, all or none. What is None stays as it is; move() goes to the newest message.

        Args:
            seq: the message that it stands after; 0 = before the first message.
            description: "" = none.
            new_name: as a name in create.
        Returns: the bookmark as it is now.
        Raises: BookmarkNotFound, BookmarkAlreadyExists, MessageNotFound, RequestIdReused.
        """
        request = bookmark_requests.update_bookmark(
            session_id,
            name,
            seq=seq,
            description=description,
            new_name=new_name,
            request_id=request_id,
        )
        return Bookmark(
            self._connection.call(self._connection.stubs.bookmarks.UpdateBookmark, request, timeout)
        )

    def delete(
        self,
        session_id: str,
        name: str,
        *,
        allow_missing: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Remove a bookmark. The messages stay.

        Args:
            allow_missing: do nothing where there is no such bookmark.
        Raises: BookmarkNotFound, RequestIdReused.
        """
        request = bookmark_requests.delete_bookmark(
            session_id, name, allow_missing=allow_missing, request_id=request_id
        )
        self._connection.call(self._connection.stubs.bookmarks.DeleteBookmark, request, timeout)

    def messages_since(
        self,
        session_id: str,
        name: str,
        *,
        through_seq: int | None = None,
        limit: int | None = None,
        order: str = "asc",
        roles: Sequence[str] | None = None,
        view: str = "full",
        timeout: float | None = None,
    ) -> Lazy[Message]:
        """The messages after a bookmark, streamed while they are iterated over.

        Args:
            through_seq, limit, order, roles, view, timeout: as in `sessions.get_messages`.
        Returns: a lazy listing; nothing is called before it is iterated over, and then it raises BookmarkNotFound.
        """
        request = message_requests.get_messages(
            session_id,
            after_seq=None,
            after_bookmark=name,
            through_seq=through_seq,
            limit=limit,
            order=order,
            roles=roles,
            view=view,
        )
        return Lazy(lambda: message_batches(self._connection, request, timeout))


class SessionBookmarks:
    """`session.bookmarks`: the calls of `client.bookmarks` for one session."""

    def __init__(self, bookmarks: Bookmarks, session_id: str) -> None:
        self._bookmarks = bookmarks
        self._session_id = session_id

    def create(self, name: str, **settings: Unpack[BookmarkSettings]) -> Bookmark:
        """Mark a place, by default the newest message: `client.bookmarks.create` in this session. Returns the bookmark."""
        return self._bookmarks.create(self._session_id, name, **settings)

    def get(self, name: str, *, timeout: float | None = None) -> Bookmark:
        """One bookmark. Raises: SessionNotFound, BookmarkNotFound."""
        return self._bookmarks.get(self._session_id, name, timeout=timeout)

    def list(self, *, page_size: int | None = None, timeout: float | None = None) -> Lazy[Bookmark]:
        """The bookmarks by seq, then by name, fetched while they are iterated over: `client.bookmarks.list` of this session."""
        return self._bookmarks.list(self._session_id, page_size=page_size, timeout=timeout)

    def move(
        self,
        name: str,
        seq: int | None = None,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Bookmark:
        """Put a bookmark elsewhere, by default to the newest message: `client.bookmarks.move` in this session. Returns the bookmark."""
        return self._bookmarks.move(
            self._session_id, name, seq, request_id=request_id, timeout=timeout
        )

    def update(self, name: str, **changes: Unpack[BookmarkChanges]) -> Bookmark:
        """Move, describe or rename a bookmark: `client.bookmarks.update` in this session. Returns the bookmark as it is now."""
        return self._bookmarks.update(self._session_id, name, **changes)

    def delete(
        self,
        name: str,
        *,
        allow_missing: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Remove a bookmark. Raises: SessionNotFound, BookmarkNotFound (unless allow_missing)."""
        self._bookmarks.delete(
            self._session_id,
            name,
            allow_missing=allow_missing,
            request_id=request_id,
            timeout=timeout,
        )

    def messages_since(self, name: str, **options: Unpack[SinceOptions]) -> Lazy[Message]:
        """The messages after a bookmark, streamed while they are iterated over: `client.bookmarks.messages_since` of this session."""
        return self._bookmarks.messages_since(self._session_id, name, **options)


def _batches(
    connection: Connection, request: ListBookmarksRequest, timeout: float | None
) -> Generator[list[Bookmark], None]:
    ask = ListBookmarksRequest()
    ask.CopyFrom(request)
    while True:
        page = connection.call(connection.stubs.bookmarks.ListBookmarks, ask, timeout)
        if page.bookmarks:
            yield [Bookmark(bookmark) for bookmark in page.bookmarks]
        if not page.next_page_token:
            return
        ask.page_token = page.next_page_token
