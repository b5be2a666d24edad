"""The bookmarks table."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sessiond_server.db import schema as tables
from sessiond_server.db.pool import Database
from sessiond_server.sessions.store.children import ChildStore, of_session


@dataclass(frozen=True, slots=True)
class BookmarkRow:
    """A row of the bookmarks table; db/schema/ describes the columns."""

    log: UUID
    name: str
    seq: int
    description: str
    created_at: datetime
    updated_at: datetime


_LIST = f"""{of_session("bookmarks", BookmarkRow)}
    AND (bookmarks.seq, bookmarks.name) > (%(after)s, %(after_name)s)
ORDER BY bookmarks.seq, bookmarks.name LIMIT %(limit)s"""


class BookmarkStore(ChildStore[BookmarkRow]):
    """Bookmarks of sessions, by name."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, tables.bookmarks, BookmarkRow, "name")

    async def seq_of(self, key: UUID, project_id: UUID, name: str) -> int | None:
        """Return the seq of a bookmark; None if the bookmark or its session does not exist."""
        row = await self.get(key, project_id, name)
        return row.seq if row else None

    async def list(
        self, key: UUID, project_id: UUID, after: tuple[int, str], limit: int
    ) -> list[BookmarkRow]:
        """Return at most `limit` bookmarks, ordered by seq and then by name.

        Args:
            key: the session's key.
            project_id: the caller's project.
            after: seq and name of the last bookmark of the previous page; (-1, "") for the first
                page.
            limit: maximum number of bookmarks.
        """
        seq, name = after
        parameters = {
            "key": key,
            "project_id": project_id,
            "after": seq,
            "after_name": name,
            "limit": limit,
        }
        return [BookmarkRow(**row) for row in await self.database.rows(_LIST, parameters)]
