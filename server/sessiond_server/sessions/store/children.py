"""Stores of named objects in a session: tasks and bookmarks."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Generic, TypeVar
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Insert, Table, Update, insert, update

from sessiond_server.db.expiry import LIVE_SESSION
from sessiond_server.db.pool import Database, columns_of
from sessiond_server.sessions.store.lock import NOW, Change

Row = TypeVar("Row")

_LOG = f"SELECT log FROM sessions WHERE {LIVE_SESSION}"


def of_session(table: str, row_type: type[Any]) -> str:
    """Return a SELECT of a session's rows, which the caller may extend with more conditions.

    Parameters: key, project_id.
    """
    return f"""
SELECT {columns_of(row_type, table)}
FROM sessions JOIN {table} ON {table}.key = sessions.key AND {table}.log = sessions.log
WHERE {LIVE_SESSION}"""


class ChildStore(Generic[Row]):
    """Rows of one table, by name. Methods that take a Change run in its transaction.

    Attributes:
        database: the database.
    """

    def __init__(self, database: Database, table: Table, row_type: type[Row], name: str) -> None:
        """Create a store.

        Args:
            database: the database.
            table: the table.
            row_type: dataclass of the rows, whose fields are named after columns.
            name: the column that holds the rows' names.
        """
        self.database = database
        self._table = table
        self._row_type = row_type
        self._name = name
        own = f"FROM {table.name} WHERE key = %(key)s AND log = %(log)s"
        self._count = f"SELECT count(*) AS count {own}"
        self._find = f"SELECT {columns_of(row_type)} {own} AND {name} = %(name)s"
        self._delete = f"DELETE {own} AND {name} = %(name)s RETURNING {columns_of(row_type)}"
        self._get = f"{of_session(table.name, row_type)} AND {table.name}.{name} = %(name)s"

    async def log_of(self, key: UUID, project_id: UUID) -> UUID | None:
        """Return the session's log; None if the project does not have the session."""
        rows = await self.database.rows(_LOG, {"key": key, "project_id": project_id})
        return rows[0]["log"] if rows else None

    async def get(self, key: UUID, project_id: UUID, name: str) -> Row | None:
        """Return a row; None if the row or its session does not exist."""
        parameters = {"key": key, "project_id": project_id, "name": name}
        rows = await self.database.rows(self._get, parameters)
        return self._row_type(**rows[0]) if rows else None

    async def find(self, change: Change, name: str) -> Row | None:
        """Return a row; None if the row does not exist."""
        rows = await change.rows(self._find, name=name)
        return self._row_type(**rows[0]) if rows else None

    async def count(self, change: Change) -> int:
        """Return the number of rows that the session has."""
        [row] = await change.rows(self._count)
        return int(row["count"])

    async def insert(self, change: Change, **values: Any) -> Row:
        """Add a row. Its name must be new in the session.

        Args:
            change: the change.
            values: all columns except key, log and the times.
        """
        own = {"key": change.key, "log": change.log, "created_at": NOW, "updated_at": NOW}
        return await self._write(change, insert(self._table), own | values)

    async def update(self, change: Change, name: str, values: Mapping[str, Any]) -> Row:
        """Set columns of an existing row."""
        own = self._table.c
        statement = update(self._table).where(
            own.key == change.key, own.log == change.log, own[self._name] == name
        )
        return await self._write(change, statement, {**values, "updated_at": NOW})

    async def delete(self, change: Change, name: str) -> Row | None:
        """Remove a row and return it; None if the row does not exist."""
        rows = await change.rows(self._delete, name=name)
        return self._row_type(**rows[0]) if rows else None

    async def _write(
        self, change: Change, statement: Insert | Update, values: Mapping[str, Any]
    ) -> Row:
        adapted = {name: Jsonb(v) if isinstance(v, dict) else v for name, v in values.items()}
        columns = (self._table.c[field.name] for field in fields(self._row_type))  # type: ignore[arg-type]
        [row] = await change.rows(statement.values(adapted).returning(*columns))
        return self._row_type(**row)
