"""Traces from the client through statements to the model, and data that they must not contain."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from sessiond import AsyncClient, SessionNotFound
from sessiond_server.server import Running
from sessiond_server.settings import Settings
from sessiond_server.telemetry import tracing

from ..support.model_server import ModelServer
from ..support.waiting import until_async

SERVICE = "sessiond.v1.SessionService"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The spans of client and server, which both run in this process."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    with tracing.traced_by(provider.get_tracer("sessiond")):
        yield exporter


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def settings(settings: Settings, models: ModelServer) -> Settings:
    fake = {"type": "openai", "base_url": models.openai_url, "models": ["fake-*"]}
    return Settings(
        **settings.model_dump(exclude={"providers"}),
        providers={"fake": fake},  # type: ignore[dict-item]
    )


def named(
    exporter: InMemorySpanExporter, name: str, kind: SpanKind | None = None
) -> list[ReadableSpan]:
    return [
        span
        for span in exporter.get_finished_spans()
        if span.name == name and kind in (None, span.kind)
    ]


def is_child(child: ReadableSpan, parent: ReadableSpan) -> bool:
    return child.parent is not None and child.parent.span_id == parent.context.span_id


async def test_a_trace_leads_from_the_client_to_the_statements(
    server: Running, spans: InMemorySpanExporter
) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        session = await client.create_session("s")
        spans.clear()
        await session.store_message({"role": "user", "content": "hello"})
    [sent] = named(spans, f"{SERVICE}/StoreMessages", SpanKind.CLIENT)
    [received] = named(spans, f"{SERVICE}/StoreMessages", SpanKind.SERVER)
    [statement] = named(spans, "messages.append.append")
    assert is_child(received, sent)
    assert is_child(statement, received)
    assert dict(received.attributes or {}) == {
        "rpc.system": "grpc",
        "rpc.service": SERVICE,
        "rpc.method": "StoreMessages",
        "rpc.grpc.status_code": 0,
    }


async def test_a_refusal_has_its_code_and_reason_but_not_its_text(
    server: Running, spans: InMemorySpanExporter
) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        with pytest.raises(SessionNotFound):
            await client.resume_session("nowhere")
    for span in spans.get_finished_spans():
        if span.kind is SpanKind.INTERNAL or not span.name.endswith("/ResumeSession"):
            continue
        assert (span.attributes or {})["rpc.grpc.status_code"] == 5
        assert (span.attributes or {})["error.type"] == "SESSION_NOT_FOUND"
        # The server worked as intended, so only the client's span is an error.
        expected = StatusCode.ERROR if span.kind is SpanKind.CLIENT else StatusCode.UNSET
        assert span.status.status_code is expected
        assert not span.events


async def test_a_trace_leads_on_to_the_model(
    server: Running, spans: InMemorySpanExporter, models: ModelServer
) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        session = await client.create_session("s", model="fake-1")
        with trace.get_tracer("app").start_as_current_span("request") as outer:
            await session.send_and_wait("hello")
        trace_id = outer.get_span_context().trace_id
    [model] = named(spans, "chat fake-1")
    assert model.context.trace_id == trace_id
    attributes = dict(model.attributes or {})
    assert attributes["gen_ai.provider.name"] == "fake"
    assert attributes["gen_ai.usage.input_tokens"] == 12
    assert attributes["gen_ai.usage.output_tokens"] == 5
    # The request to the model's server has the ids of this trace and this span.
    _, sent_trace, sent_span, _ = models.requests[-1].headers["traceparent"].split("-")
    assert sent_trace == trace.format_trace_id(trace_id)
    assert sent_span == trace.format_span_id(model.context.span_id)


async def test_a_queued_turn_is_not_part_of_the_trace_of_the_turn_before(
    server: Running, spans: InMemorySpanExporter
) -> None:
    tracer = trace.get_tracer("app")
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        session = await client.create_session("s", model="echo")

        async def send(text: str) -> int:
            with tracer.start_as_current_span("request") as span:
                await session.send_and_wait(text)
            return span.get_span_context().trace_id

        first, _ = await asyncio.gather(send("one"), send("two"))
    calls = named(spans, "chat echo")
    assert len(calls) == 2
    assert [call.context.trace_id for call in calls].count(first) <= 1


async def test_without_traces_no_header_and_no_span_is_made(
    server: Running, models: ModelServer
) -> None:
    assert not tracing.is_on
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        session = await client.create_session("s", model="fake-1")
        await session.send_and_wait("hello")
    await until_async(lambda: bool(models.requests), "the model was called")
    assert "traceparent" not in models.requests[-1].headers


@pytest.mark.parametrize("package", ["sessiond", "sessiond_server.server"])
def test_opentelemetry_is_not_imported_unless_it_is_used(package: str) -> None:
    code = f"import {package}, sys; print('opentelemetry.sdk' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "NoneType"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, "NoneType"),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}, "NoneType"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "ConsoleSpanExporter"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "NoneType"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, "OTLPSpanExporter"),
    ],
)
def test_the_standard_variables_choose_the_exporter(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED", *tracing.ENDPOINTS):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert type(tracing._exporter()).__name__ == expected
