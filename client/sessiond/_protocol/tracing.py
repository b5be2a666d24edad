"""Traces: a span for each unary call and upload, and the W3C context that calls carry.

Only programs that have imported OpenTelemetry have traces, so it is looked up in sys.modules and
never imported here. Without it, a call pays for one lookup in a dict.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import grpc

from sessiond.errors import SessiondError

_NO_SPAN = nullcontext()


def with_context(metadata: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return a call's metadata with the context of the current span."""
    if "opentelemetry.trace" not in sys.modules:
        return metadata
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    # gRPC refuses keys with capitals, and values that are not ASCII.
    return (
        *metadata,
        *((key.lower(), value) for key, value in carrier.items() if value.isascii()),
    )


def client_span(method: Callable[[], object]) -> AbstractContextManager[None]:
    """Return a context manager that spans a call.

    Args:
        method: returns the stub's method.
    """
    return _span(method()) if "opentelemetry.trace" in sys.modules else _NO_SPAN


@contextmanager
def _span(method: object) -> Iterator[None]:
    from opentelemetry import trace

    name = _name_of(method)
    service, _, short = name.rpartition("/")
    attributes: dict[str, Any] = {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": short,
    }
    # Exceptions are not recorded, because their texts may quote the request.
    with trace.get_tracer("sessiond").start_as_current_span(
        name,
        kind=trace.SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except SessiondError as error:
            code = error.code or grpc.StatusCode.UNKNOWN
            span.set_attribute("rpc.grpc.status_code", code.value[0])
            span.set_attribute("error.type", error.reason or code.name)
            span.set_status(trace.StatusCode.ERROR)
            raise
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(trace.StatusCode.ERROR)
            raise
        span.set_attribute("rpc.grpc.status_code", 0)


def _name_of(method: object) -> str:
    """Return SERVICE/METHOD. Coalesced appends have no stub's method, and get the default."""
    path = getattr(method, "_method", b"sessiond.v1.SessionService/StoreMessages")
    return (path.decode() if isinstance(path, bytes) else str(path)).lstrip("/")
