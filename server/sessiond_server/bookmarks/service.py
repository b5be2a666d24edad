"""The rules of bookmarks."""

import hashlib
from typing import Any
from uuid import UUID

from sessiond_server.bookmarks.store import BookmarkRow, BookmarkStore
from sessiond_server.core import pagination
from sessiond_server.core.errors import Fault, etag_mismatch, invalid, session_not_found
from sessiond_server.core.ids import is_incarnation, session_key
from sessiond_server.core.limits import MAX_BOOKMARKS
from sessiond_server.core.pagination import Page, Paging
from sessiond_server.core.validation import check_bookmark_name, check_description, check_session_id
from sessiond_server.db.idempotency import DuplicateRequest
from sessiond_server.sessions.changes import changing, limit_exceeded, message_not_found
from sessiond_server.sessions.store.lock import Change


class Bookmarks:
    """The rules of bookmarks. Every method takes the caller's project.

    All methods also raise Fault SESSION_NOT_FOUND, and INVALID_FIELD for malformed ids. Methods
    that change something also raise REQUEST_ID_REUSED.
    """

    def __init__(self, store: BookmarkStore) -> None:
        self._store = store

    async def create(
        self,
        project_id: UUID,
        session_id: str,
        name: str,
        seq: int | None,
        description: str,
        *,
        replace: bool,
        request_id: str,
    ) -> BookmarkRow:
        """Create a bookmark.

        Args:
            project_id: the caller's project.
            session_id: the session.
            name: name of the new bookmark.
            seq: the message that the bookmark follows; 0 for the start, None for the newest
                message.
            description: text for people to read; "" for none.
            replace: whether to move an existing bookmark of this name.
            request_id: makes the call safe to repeat; "" for none.

        Raises:
            Fault: BOOKMARK_ALREADY_EXISTS unless replace is true; MESSAGE_NOT_FOUND for seq;
                LIMIT_EXCEEDED.
        """
        check_bookmark_name(name, "bookmark.name")
        _check(seq, description)
        try:
            async with changing(
                self._store,
                project_id,
                session_id,
                request_id,
                "create bookmark",
                name,
                seq,
                description,
                replace,
                result=name,
            ) as change:
                exists = bool(await self._store.find(change, name))
                if exists and not replace:
                    raise _already_exists(session_id, name, "bookmark.name")
                values = {"seq": _place(change, session_id, seq), "description": description}
                if exists:
                    return await self._store.update(change, name, values)
                if await self._store.count(change) >= MAX_BOOKMARKS:
                    raise limit_exceeded("bookmarks", MAX_BOOKMARKS)
                return await self._store.insert(change, name=name, **values)
        except DuplicateRequest as duplicate:
            return await self.get(project_id, session_id, duplicate.result)

    async def get(self, project_id: UUID, session_id: str, name: str) -> BookmarkRow:
        """Return a bookmark.

        Raises:
            Fault: BOOKMARK_NOT_FOUND.
        """
        check_session_id(session_id)
        check_bookmark_name(name)
        key = session_key(project_id, session_id)
        row = await self._store.get(key, project_id, name)
        if row is None:
            if not await self._store.log_of(key, project_id):
                raise session_not_found(session_id)
            raise _bookmark_not_found(session_id, name)
        return row

    async def list(
        self, project_id: UUID, session_id: str, page_size: int, page_token: str
    ) -> Page[BookmarkRow]:
        """Return a page of bookmarks, ordered by seq and then by name.

        Raises:
            Fault: INVALID_PAGE_TOKEN; SESSION_NOT_FOUND, also if the session of the previous page
                was deleted.
        """
        check_session_id(session_id)
        key = session_key(project_id, session_id)
        position_of = (pagination.seq, pagination.text, pagination.text)
        paging = Paging(page_size, page_token, ("bookmarks", key), *position_of, defaults=("",))
        seq, name, incarnation = paging.after or (-1, "", "")
        # One more row than requested shows whether there is a next page.
        rows = await self._store.list(key, project_id, (seq, name), paging.size + 1)
        log = rows[0].log if rows else await self._store.log_of(key, project_id)
        if log is None or not is_incarnation(incarnation, log):
            raise session_not_found(session_id)
        return paging.page(rows, lambda row: (row.seq, row.name, row.log.hex))

    async def update(
        self,
        project_id: UUID,
        session_id: str,
        name: str,
        values: dict[str, Any],
        new_name: str,
        request_id: str,
        etag: str = "",
    ) -> BookmarkRow:
        """Move or rename a bookmark, or change its description.

        Args:
            project_id: the caller's project.
            session_id: the session.
            name: current name of the bookmark.
            values: new values of seq (None for the newest message) and description.
            new_name: the new name; "" to keep the current one.
            request_id: makes the call safe to repeat; "" for none.
            etag: the etag that the bookmark must have; "" for any.

        Raises:
            Fault: BOOKMARK_NOT_FOUND; BOOKMARK_ALREADY_EXISTS for new_name; MESSAGE_NOT_FOUND for
                seq; ETAG_MISMATCH.
        """
        check_bookmark_name(name, "bookmark.name")
        if new_name:
            check_bookmark_name(new_name, "new_name")
        _check(values.get("seq"), values.get("description", ""))
        if not values and not new_name:
            raise invalid("update_mask", "names no field; name one, or set new_name")
        try:
            async with changing(
                self._store,
                project_id,
                session_id,
                request_id,
                "update bookmark",
                name,
                values,
                new_name,
                *([etag] if etag else []),
                result=new_name or name,
            ) as change:
                bookmark = await self._store.find(change, name)
                if bookmark is None:
                    raise _bookmark_not_found(session_id, name)
                _check_etag(session_id, bookmark, etag)
                columns = dict(values)
                if "seq" in columns:
                    columns["seq"] = _place(change, session_id, columns["seq"])
                if new_name and new_name != name:
                    if await self._store.find(change, new_name):
                        raise _already_exists(session_id, new_name, "new_name")
                    columns["name"] = new_name
                return await self._store.update(change, name, columns)
        except DuplicateRequest as duplicate:
            return await self.get(project_id, session_id, duplicate.result)

    async def delete(
        self,
        project_id: UUID,
        session_id: str,
        name: str,
        *,
        allow_missing: bool,
        request_id: str,
        etag: str = "",
    ) -> None:
        """Remove a bookmark.

        Raises:
            Fault: BOOKMARK_NOT_FOUND unless allow_missing is true; ETAG_MISMATCH.
        """
        check_bookmark_name(name)
        try:
            async with changing(
                self._store,
                project_id,
                session_id,
                request_id,
                "delete bookmark",
                name,
                allow_missing,
                *([etag] if etag else []),
            ) as change:
                if etag and (bookmark := await self._store.find(change, name)):
                    _check_etag(session_id, bookmark, etag)
                if not await self._store.delete(change, name) and not allow_missing:
                    raise _bookmark_not_found(session_id, name)
        except DuplicateRequest:
            # If a bookmark of this name exists again, it was created after the first request.
            return


def etag_of(bookmark: BookmarkRow) -> str:
    """Return the etag of a bookmark. A re-created bookmark has other etags."""
    text = f"{bookmark.name} {bookmark.created_at.timestamp()} {bookmark.updated_at.timestamp()}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _check_etag(session_id: str, bookmark: BookmarkRow, etag: str) -> None:
    if etag and etag != etag_of(bookmark):
        raise etag_mismatch(f"bookmark {bookmark.name!r}", session_id, etag_of(bookmark))


def _check(seq: int | None, description: str) -> None:
    if seq is not None and seq < 0:
        raise invalid("bookmark.seq", "is negative; 0 = before the first message")
    check_description(description, "bookmark.description")


def _place(change: Change, session_id: str, seq: int | None) -> int:
    if seq is None:
        return change.last_seq
    if seq > change.last_seq:
        raise message_not_found(change, session_id, seq, "bookmark.seq")
    return seq


def _bookmark_not_found(session_id: str, name: str) -> Fault:
    return Fault(
        "BOOKMARK_NOT_FOUND",
        f"session {session_id!r} has no bookmark {name!r}",
        metadata={"session_id": session_id, "name": name},
    )


def _already_exists(session_id: str, name: str, field: str) -> Fault:
    return Fault(
        "BOOKMARK_ALREADY_EXISTS",
        f"session {session_id!r} already has a bookmark {name!r}",
        metadata={"session_id": session_id, "name": name},
        fields={field: "is the name of another bookmark"},
    )
