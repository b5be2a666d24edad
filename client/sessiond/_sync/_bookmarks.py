# Generated from _async/_bookmarks.py by scripts/generate-sync-client. Do not edit.
"""`client.bookmarks`: the calls of BookmarkService."""

from typing import Unpack

from sessiond._requests import bookmarks as bookmark_requests
from sessiond._requests import messages as message_requests
from sessiond._requests.fields import filled, request_id_or_new
from sessiond._requests.options import ReadOptions
from sessiond._sync._connection import Calls
from sessiond._sync._lazy import Lazy
from sessiond._sync._streams import message_batches, page_batches
from sessiond._types.bookmark import Bookmark
from sessiond._types.message import Message
from sessiond.v1 import bookmark_service_pb2 as pb


class Bookmarks(Calls):
    """The calls about bookmarks, by session id.

    A bookmark is a name for a position in a session. The bookmark's seq is the seq of the message
    just before the position. A session has at most 1,000 bookmarks. Bookmarks can be changed even
    in a destroyed session.

    `timeout` and `request_id` are as in `client.sessions`. In addition to the errors listed for
    each call, all calls raise SessionNotFound.
    """

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
        """Create a bookmark.

        Args:
            session_id: the session.
            name: 1 to 128 characters, unique in the session, without white space at either end.
            seq: the message that the bookmark follows; 0 = before the first message. Default:
                the newest message.
            description: text for people to read, at most 1,024 characters.
            replace: if a bookmark of this name exists, change it.
            request_id: makes the call safe to repeat.
            timeout: deadline over all attempts, in seconds.

        Returns:
            The bookmark.

        Raises:
            BookmarkAlreadyExists: if the name is taken, unless replace is set.
            MessageNotFound: if no message has this seq.
            LimitExceeded: if the session has 1,000 bookmarks.
            RequestIdReused: if the request_id was used with other content.
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
            self._connection.call(lambda stubs: stubs.bookmarks.CreateBookmark, request, timeout)
        )

    def get(self, session_id: str, name: str, *, timeout: float | None = None) -> Bookmark:
        """Return one bookmark.

        Args:
            session_id: the session.
            name: the bookmark.
            timeout: deadline over all attempts, in seconds.

        Raises:
            BookmarkNotFound: if there is no such bookmark.
        """
        request = filled(pb.GetBookmarkRequest(), session_id=session_id, name=name)
        return Bookmark(
            self._connection.call(lambda stubs: stubs.bookmarks.GetBookmark, request, timeout)
        )

    def list(
        self, session_id: str, *, page_size: int | None = None, timeout: float | None = None
    ) -> Lazy[Bookmark]:
        """List the bookmarks by seq, then by name, fetched page by page during the iteration.

        Args:
            session_id: the session.
            page_size: bookmarks per call, 1 to 500. Default: 50.
            timeout: deadline of each call, in seconds.

        Returns:
            A lazy list; no call is made until it is iterated over.
        """
        request = filled(pb.ListBookmarksRequest(), session_id=session_id, page_size=page_size)
        return Lazy(
            lambda: page_batches(
                self._connection,
                lambda stubs: stubs.bookmarks.ListBookmarks,
                request,
                timeout,
                "bookmarks",
                Bookmark,
            )
        )

    def move(
        self,
        session_id: str,
        name: str,
        seq: int | None = None,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Bookmark:
        """Move a bookmark.

        Args:
            session_id: the session.
            name: the bookmark.
            seq: the message that the bookmark follows; 0 = before the first message. Default:
                the newest message.
            request_id: makes the call safe to repeat.
            timeout: deadline over all attempts, in seconds.

        Returns:
            The bookmark after the change.

        Raises:
            BookmarkNotFound: if there is no such bookmark.
            MessageNotFound: if no message has this seq.
            RequestIdReused: if the request_id was used with other content.
        """
        request = bookmark_requests.update_bookmark(
            session_id, name, seq=seq, request_id=request_id
        )
        # Send the update even without a seq: the server then uses the newest message.
        request.update_mask.paths[:] = ["seq"]
        return Bookmark(
            self._connection.call(lambda stubs: stubs.bookmarks.UpdateBookmark, request, timeout)
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
        """Move, describe or rename a bookmark, all or nothing. None leaves a value unchanged.

        To move it to the newest message, use move().

        Args:
            session_id: the session.
            name: the bookmark.
            seq: the message that the bookmark follows; 0 = before the first message.
            description: text for people to read, at most 1,024 characters. "" removes it.
            new_name: the new name, with the same limits as in create.
            request_id: makes the call safe to repeat.
            timeout: deadline over all attempts, in seconds.

        Returns:
            The bookmark after the change.

        Raises:
            BookmarkNotFound: if there is no such bookmark.
            BookmarkAlreadyExists: if the new name is taken.
            MessageNotFound: if no message has this seq.
            RequestIdReused: if the request_id was used with other content.
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
            self._connection.call(lambda stubs: stubs.bookmarks.UpdateBookmark, request, timeout)
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
        """Delete a bookmark. The messages are kept.

        Args:
            session_id: the session.
            name: the bookmark.
            allow_missing: do nothing if there is no such bookmark.
            request_id: makes the call safe to repeat.
            timeout: deadline over all attempts, in seconds.

        Raises:
            BookmarkNotFound: if there is no such bookmark, unless allow_missing is set.
            RequestIdReused: if the request_id was used with other content.
        """
        request = filled(
            pb.DeleteBookmarkRequest(),
            session_id=session_id,
            name=name,
            allow_missing=allow_missing,
            request_id=request_id_or_new(request_id),
        )
        self._connection.call(lambda stubs: stubs.bookmarks.DeleteBookmark, request, timeout)

    def messages_since(
        self, session_id: str, name: str, **options: Unpack[ReadOptions]
    ) -> Lazy[Message]:
        """Read the messages after a bookmark, streamed during the iteration.

        Args:
            session_id: the session.
            name: the bookmark.
            **options: through_seq, limit, order, roles, view, timeout.

        Returns:
            A lazy list; no call is made until it is iterated over. Iterating raises
            BookmarkNotFound if there is no such bookmark.
        """
        request = message_requests.get_messages(session_id, after_bookmark=name, **options)
        return Lazy(lambda: message_batches(self._connection, request, options.get("timeout")))


class SessionBookmarks:
    """`session.bookmarks`: the calls of `client.bookmarks` for one session."""

    def __init__(self, bookmarks: Bookmarks, session_id: str) -> None:
        self._bookmarks = bookmarks
        self._session_id = session_id

    def create(
        self,
        name: str,
        *,
        seq: int | None = None,
        description: str = "",
        replace: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Bookmark:
        """Create a bookmark; see `client.bookmarks.create`."""
        return self._bookmarks.create(
            self._session_id,
            name,
            seq=seq,
            description=description,
            replace=replace,
            request_id=request_id,
            timeout=timeout,
        )

    def get(self, name: str, *, timeout: float | None = None) -> Bookmark:
        """Return one bookmark; see `client.bookmarks.get`."""
        return self._bookmarks.get(self._session_id, name, timeout=timeout)

    def list(self, *, page_size: int | None = None, timeout: float | None = None) -> Lazy[Bookmark]:
        """List the bookmarks by seq, then by name; see `client.bookmarks.list`."""
        return self._bookmarks.list(self._session_id, page_size=page_size, timeout=timeout)

    def move(
        self,
        name: str,
        seq: int | None = None,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Bookmark:
        """Move a bookmark, by default to the newest message; see `client.bookmarks.move`."""
        return self._bookmarks.move(
            self._session_id, name, seq, request_id=request_id, timeout=timeout
        )

    def update(
        self,
        name: str,
        *,
        seq: int | None = None,
        description: str | None = None,
        new_name: str | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Bookmark:
        """Move, describe or rename a bookmark; see `client.bookmarks.update`."""
        return self._bookmarks.update(
            self._session_id,
            name,
            seq=seq,
            description=description,
            new_name=new_name,
            request_id=request_id,
            timeout=timeout,
        )

    def delete(
        self,
        name: str,
        *,
        allow_missing: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Delete a bookmark; see `client.bookmarks.delete`."""
        self._bookmarks.delete(
            self._session_id,
            name,
            allow_missing=allow_missing,
            request_id=request_id,
            timeout=timeout,
        )

    def messages_since(self, name: str, **options: Unpack[ReadOptions]) -> Lazy[Message]:
        """Read the messages after a bookmark; see `client.bookmarks.messages_since`."""
        return self._bookmarks.messages_since(self._session_id, name, **options)
