"""Traces of calls, statements and model calls, for OpenTelemetry.

Traces are on if the standard variables name an exporter: OTEL_TRACES_EXPORTER=otlp (or console), or
OTEL_EXPORTER_OTLP_ENDPOINT. The SDK reads the other OTEL_* variables, for sampling and for all
other options. If traces are off, a call only checks `is_on`.

Spans hold names, codes, sizes and counts: no content of messages, no statement's text or values, no
key, and no text of an error, which may quote any of these.
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import structlog

from sessiond import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

log = structlog.get_logger(__name__)

is_on = False
_tracer: "Tracer | None" = None


@contextmanager
def configured() -> Iterator[None]:
    """Export traces for the duration of the block, if the environment names an exporter."""
    exporter = _exporter()
    if exporter is None:
        yield
        return
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create(
        {
            SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", "sessiond"),
            SERVICE_VERSION: __version__,
        }
    )
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    with traced_by(provider.get_tracer("sessiond", __version__)):
        log.info("traces_exported", exporter=type(exporter).__name__)
        try:
            yield
        finally:
            provider.shutdown()


@contextmanager
def traced_by(tracer: "Tracer") -> Iterator[None]:
    """Make spans with a tracer for the duration of the block."""
    global is_on, _tracer
    is_on, _tracer = True, tracer
    try:
        yield
    finally:
        is_on, _tracer = False, None


def _exporter() -> Any:
    """Return the exporter that the environment names; None for none."""
    wanted = os.environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if not wanted and any(os.environ.get(name) for name in ENDPOINTS):
        wanted = "otlp"
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or wanted in ("", "none"):
        return None
    try:
        if wanted == "otlp":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            return OTLPSpanExporter()
        if wanted == "console":
            from opentelemetry.sdk.trace.export import ConsoleSpanExporter

            return ConsoleSpanExporter()
    except ModuleNotFoundError:
        log.warning("traces_unavailable", install="pip install 'sessiond[otel]'")
        return None
    log.warning("traces_unavailable", exporter=wanted, known="otlp, console, none")
    return None


def begin_call(name: str, metadata: Iterable[tuple[str, str | bytes]]) -> "Span | None":
    """Begin the span of a call, which ends with `end_call`; None if traces are off.

    The span becomes the current one of the running task. Each call has a task of its own, so the
    previous span need not be restored at the end.

    Args:
        name: SERVICE/METHOD.
        metadata: the call's metadata, which may contain the caller's trace context.
    """
    if _tracer is None:
        return None
    from opentelemetry import context, propagate, trace

    carrier = {key: value for key, value in metadata if isinstance(value, str)}
    service, _, method = name.rpartition("/")
    span = _tracer.start_span(
        name,
        propagate.extract(carrier),
        trace.SpanKind.SERVER,
        {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
    )
    context.attach(trace.set_span_in_context(span))
    return span


def end_call(span: "Span | None", code: int, reason: str) -> None:
    """End the span of a call.

    Args:
        span: the span; None if traces are off.
        code: the gRPC status code.
        reason: the ErrorReason; "" = none.
    """
    if span is None:
        return
    from opentelemetry.trace import StatusCode

    span.set_attribute("rpc.grpc.status_code", code)
    if reason:
        span.set_attribute("error.type", reason)
    # A client that leaves a stream, and a refusal, are no faults of the server.
    if reason in ("INTERNAL", "DATABASE_UNAVAILABLE"):
        span.set_status(StatusCode.ERROR)
    span.end()


def add_statement(name: str, took_s: float, error: BaseException | None) -> None:
    """Add the span of a statement that has just ended to the current span, if it is recorded."""
    if _tracer is None:
        return
    from opentelemetry import trace

    if not trace.get_current_span().is_recording():
        return
    now = time.time_ns()
    span = _tracer.start_span(
        name,
        kind=trace.SpanKind.CLIENT,
        attributes={"db.system.name": "postgresql", "db.operation.name": name},
        start_time=now - int(took_s * 1e9),
    )
    if error is not None:
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(trace.StatusCode.ERROR)
    span.end(now)


class ModelSpan:
    """The span of a model call, by the conventions for generative AI."""

    def __init__(self, span: "Span") -> None:
        self._span = span

    def answered(self, model: str, stop_reason: str, usage: Mapping[str, int]) -> None:
        """Add properties of the answer, but none of its text."""
        self._span.set_attribute("gen_ai.response.model", model)
        self._span.set_attribute("gen_ai.response.finish_reasons", [stop_reason])
        for kind, tokens in usage.items():
            self._span.set_attribute(f"gen_ai.usage.{kind}_tokens", tokens)


def model_span(provider: str, model: str) -> "AbstractContextManager[ModelSpan | None]":
    """Return a context manager that spans a model call."""
    return nullcontext() if _tracer is None else _model_span(_tracer, provider, model)


@contextmanager
def _model_span(tracer: "Tracer", provider: str, model: str) -> Iterator[ModelSpan]:
    from opentelemetry import trace

    with tracer.start_as_current_span(
        f"chat {model}",
        kind=trace.SpanKind.CLIENT,
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
        },
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield ModelSpan(span)
        except BaseException as error:
            span.set_attribute("error.type", getattr(error, "reason", type(error).__name__))
            span.set_status(trace.StatusCode.ERROR)
            raise


def headers() -> dict[str, str]:
    """Return the HTTP headers that pass the current context on; none if traces are off."""
    carrier: dict[str, str] = {}
    if is_on:
        from opentelemetry import propagate

        propagate.inject(carrier)
    return carrier


def add_ids(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Add the ids of the current span to a log line; a processor of structlog."""
    if is_on:
        from opentelemetry import trace

        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            event["trace_id"] = trace.format_trace_id(context.trace_id)
            event["span_id"] = trace.format_span_id(context.span_id)
    return event
