"""Logging to stderr by structlog, one line per event.

Records from the standard library's logging use the same renderer.
"""

import logging
import sys
from typing import Any

import structlog

from sessiond_server.telemetry import tracing


class _Logger(structlog.make_filtering_bound_logger(logging.DEBUG)):  # type: ignore[misc]
    """A logger whose level can change. structlog's own loggers keep the level of their creation."""

    level = logging.INFO

    def is_enabled_for(self, level: int) -> bool:
        return level >= _Logger.level

    def debug(self, event: str, *args: Any, **fields: Any) -> Any:
        return super().debug(event, *args, **fields) if _Logger.level <= logging.DEBUG else None

    def info(self, event: str, *args: Any, **fields: Any) -> Any:
        return super().info(event, *args, **fields) if _Logger.level <= logging.INFO else None

    def warning(self, event: str, *args: Any, **fields: Any) -> Any:
        return super().warning(event, *args, **fields) if _Logger.level <= logging.WARNING else None


def configure(log_format: str, level: str) -> None:
    """Set up logging for this process.

    Args:
        log_format: "console", "json", or "auto" (console if stderr is a terminal).
        level: "debug", "info", "warning" or "error".
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        tracing.add_ids,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        if console
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.StackInfoRenderer(),
            _render_exception(console),
            renderer,
        ],
        wrapper_class=_Logger,
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _render_exception(console),
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # gRPC logs an error with a traceback whenever a client disconnects in the middle of a stream.
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_no_broken_stream)
    set_level(level)


def set_level(level: str) -> None:
    """Change the level, also of loggers that are in use.

    Args:
        level: see configure.
    """
    number = _Logger.level = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger().setLevel(number)
    # The pool logs every lost connection, which sessiond's own events already report. The SDKs of
    # the providers log every request, and at level debug also its content.
    for name in (
        "psycopg.pool",
        "alembic",
        "asyncio",
        "grpc",
        "openai",
        "anthropic",
        "httpx2",
        "httpcore2",
    ):
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def _is_no_broken_stream(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__name__ != "ExecuteBatchError"


def _render_exception(console: bool) -> structlog.typing.Processor:
    # The console renderer prints tracebacks by itself.
    if console:
        return lambda _logger, _name, event: event
    return structlog.processors.format_exc_info
