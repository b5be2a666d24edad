"""Cursors that measure how long each statement takes, and name the statements in metrics.

A statement is named after the constant that holds it: `turns.store.turns._GET` is `turns.get`. A
statement that is assembled for its call is named after the function that runs it.
"""

import sys
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any

import structlog
from psycopg import AsyncClientCursor, AsyncCursor, errors
from psycopg.rows import TupleRow
from psycopg.sql import Composable
from sqlalchemy import ClauseElement, UpdateBase

from sessiond_server.telemetry import metrics, tracing

_PACKAGE = "sessiond_server."
# Functions that run statements for their callers.
_CARRIERS = frozenset({"execute", "rows", "page_of", "_run_prepared"})
# Maximum number of texts whose names are remembered. There are a few hundred constant statements.
# Any further text was probably assembled for one call, and its name is looked up each time.
_MAX_KNOWN = 2000

log = structlog.get_logger(__name__)

_known: dict[object, tuple[str, metrics.Tally]] = {}
_slow_s = float("inf")


def log_slow_statements(longer_than_s: float) -> None:
    """Log statements of this process that take longer. Unit: seconds; 0 = log none."""
    global _slow_s  # noqa: PLW0603 - psycopg creates the cursors
    _slow_s = longer_than_s or float("inf")


class _Timed:
    async def execute(self, query: Any, *args: Any, **options: Any) -> Any:
        began, failure = time.perf_counter(), None
        try:
            return await super().execute(query, *args, **options)  # type: ignore[misc]
        except BaseException as error:
            failure = error
            raise
        finally:
            _measured(query, time.perf_counter() - began, failure)
            # The error refers to this frame, so break the reference cycle.
            del failure


class TimedCursor(_Timed, AsyncCursor[TupleRow]):
    """A cursor that measures its statements."""


class TimedClientCursor(_Timed, AsyncClientCursor[Any]):
    """A cursor that measures its statements, and writes values into their texts."""


def _measured(query: object, took_s: float, error: BaseException | None) -> None:
    known = None if isinstance(query, Composable) else _known.get(query)
    if known is None:
        name = _name_of(query, sys._getframe(1))
        known = name, metrics.statement(name)
        if len(_known) < _MAX_KNOWN and not isinstance(query, Composable):
            _known[query] = known
    measured(*known, took_s, error)


def measured(name: str, tally: metrics.Tally, took_s: float, error: BaseException | None) -> None:
    """Record the end of a statement in metrics and the log.

    Args:
        name: name of the statement.
        tally: collects the statement's durations.
        took_s: how long it took. Unit: seconds.
        error: why it failed; None = it did not.
    """
    tally.observe(took_s)
    if tracing.is_on:
        tracing.add_statement(name, took_s, error)
    if took_s > _slow_s:
        log.warning("slow_statement", statement=name, took_ms=round(took_s * 1000))


def is_outdated(error: BaseException | None) -> bool:
    """Return whether a statement failed only because it was prepared some time ago.

    A pooler has run DEALLOCATE ALL or DISCARD ALL, or a migration has changed the type of a column
    that the statement returns. The statement must be prepared again, and has changed nothing.
    """
    match error:
        case errors.InvalidSqlStatementName():
            return True
        case errors.FeatureNotSupported():
            # "cached plan must not change result type". The text may be translated.
            return error.diag.source_function == "RevalidateCachedQuery"
    return False


def writes_content(statement: str | ClauseElement) -> bool:
    """Return whether a statement writes values that callers sent, such as titles and prompts.

    Such a statement is an insert, or a Core statement that changes rows. It finds its rows by key,
    so it does not need a plan that is made for its values.
    """
    if isinstance(statement, str):
        return statement.lstrip().startswith("INSERT ")
    return isinstance(statement, UpdateBase)


def _name_of(query: object, frame: FrameType | None) -> str:
    text = query.decode() if isinstance(query, bytes) else query
    while frame:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith(_PACKAGE) and frame.f_code.co_name not in _CARRIERS:
            constant = _constant(text, frame.f_globals) or frame.f_code.co_name
            return f"{_feature(module)}.{constant.strip('_').lower()}"
        frame = frame.f_back
    return "other"


def _constant(text: object, scope: Mapping[str, object]) -> str | None:
    return next(
        (name for name, value in scope.items() if isinstance(value, str) and value == text), None
    )


def _feature(module: str) -> str:
    parts = [part for part in module.removeprefix(_PACKAGE).split(".") if part != "store"]
    return ".".join(dict.fromkeys(parts))
