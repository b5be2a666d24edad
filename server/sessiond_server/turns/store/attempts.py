"""Runs the single statements that start and end turns.

If such a statement stores nothing or is refused, a transaction of changes/transitions.py does the
work.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from sessiond_server.db.idempotency import DuplicateRequest
from sessiond_server.db.prepared import PreparedStatement
from sessiond_server.messages.store import message_ids
from sessiond_server.turns.store.texts import DROP

# Errors after which a later transaction may succeed: a broken connection, a deadlock, a standby.
TRANSIENT_ERRORS = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
)

log = structlog.get_logger(__name__)


async def run_start(
    connection: AsyncConnection[TupleRow],
    statement: PreparedStatement,
    parameters: Mapping[str, Any],
) -> Sequence[Sequence[Any]]:
    """Run a statement that stores a new turn.

    Returns:
        The rows of the result. Empty = nothing was stored; a transaction then does the work.

    Raises:
        DuplicateRequest: the request_id was already recorded.
        psycopg.Error: a transient error.
    """
    try:
        return await statement.run(connection, parameters)
    except psycopg.errors.UniqueViolation as e:
        if e.diag.constraint_name != message_ids.CONSTRAINT:
            raise DuplicateRequest from e
    except psycopg.Error as e:
        check_refused(e)
    return ()


async def run_end(
    connection: AsyncConnection[TupleRow],
    statement: PreparedStatement,
    parameters: Mapping[str, Any],
    *,
    prepare: bool | None,
    drops_text: bool,
) -> Sequence[Sequence[Any]]:
    """Run a statement that ends a turn.

    Args:
        connection: an autocommit connection.
        statement: the statement.
        parameters: the statement's parameters, among them `turn`.
        prepare: whether psycopg prepares the deletion of the text; see Database.prepare.
        drops_text: whether to delete the saved text of the turn.

    Returns:
        The rows of the result. Empty = nothing was stored; a transaction then does the work.

    Raises:
        psycopg.Error: a transient error.
    """
    try:
        if not drops_text:
            return await statement.run(connection, parameters)
        # If a process is saving text, the first statement waits for that process. The first
        # statement does not see the text that was saved meanwhile, so a second statement deletes
        # it.
        async with connection.transaction():
            found = await statement.run(connection, parameters)
            if found:
                await connection.execute(DROP, parameters, prepare=prepare)
            return found
    except psycopg.Error as e:
        check_refused(e)
    return ()


def check_refused(error: psycopg.Error) -> None:
    """Raise a transient error, because a transaction would meet it too. Log any other error."""
    if isinstance(error, TRANSIENT_ERRORS):
        raise error
    log.warning("turn_statement_refused", error=error.diag.message_primary or str(error))
