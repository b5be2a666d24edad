"""Rules of every RPC: unknown sessions, malformed requests, deadlines, errors."""

import logging
from itertools import takewhile
from typing import Any

import grpc
import psycopg
import pytest

from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1.error_reason_pb2 import ErrorReason
from sessiond_server.rpc.errors import CODES
from sessiond_server.rpc.services import SERVICES
from sessiond_server.server import Running
from sessiond_server.settings import Settings

from ..support.waiting import PATIENCE_S, until_waiting
from ..support.wire import Wire, error_of
from .calls import ADMIN_CALLS, BY_ID, CALLS, DOWNLOADS, UPLOADS, call


def test_the_table_has_every_rpc() -> None:
    described = {service.name: {method.name for method in service.methods} for service in SERVICES}
    assert described.pop("AdminService") == set(ADMIN_CALLS)
    assert set().union(*described.values()) == set(CALLS)


def test_every_reason_has_one_code() -> None:
    reasons = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
    assert set(CODES) == reasons


def test_the_protos_name_the_codes() -> None:
    from pathlib import Path

    text = (Path(__file__).parents[2] / "protos/sessiond/v1/error_reason.proto").read_text()
    for reason, code in CODES.items():
        above = text[: text.index(f"  ERROR_REASON_{reason} =")].splitlines()
        comment = list(takewhile(lambda line: line.startswith("  //"), reversed(above)))
        assert comment[-1].startswith(f"  // {code.name}: "), reason


@pytest.mark.parametrize("name", BY_ID)
async def test_an_unknown_session_is_not_found(shared: Wire, name: str) -> None:
    error = await error_of(call(shared, name, CALLS[name]("nobody")))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    assert error.text.startswith("SESSION_NOT_FOUND: ")
    assert error.metadata["session_id"] == "nobody"
    assert error.metadata["call_id"]


@pytest.mark.parametrize("session_id", ["", "x" * 1025, "a\0b", "tab\t", " lead"])
@pytest.mark.parametrize("name", BY_ID)
async def test_a_malformed_id_names_the_field(shared: Wire, name: str, session_id: str) -> None:
    if (name, session_id) in (("GetProcessingCounts", ""), ("Watch", "")):
        return  # an empty id means all sessions
    error = await error_of(call(shared, name, CALLS[name](session_id)))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert list(error.fields) == ["session.session_id" if name == "UpdateSession" else "session_id"]


@pytest.mark.parametrize(
    "name", [name for name in CALLS if "request_id" in CALLS[name]("x").DESCRIPTOR.fields_by_name]
)
@pytest.mark.parametrize("request_id", ["x" * 129, "a\0"])
async def test_a_malformed_request_id_names_the_field(
    shared: Wire, name: str, request_id: str
) -> None:
    await shared.create("one", get_or_create=True)
    request = CALLS[name]("one")
    request.request_id = request_id
    assert list((await error_of(call(shared, name, request))).fields) == ["request_id"]


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x0f"])
@pytest.mark.parametrize("name", [*CALLS, *ADMIN_CALLS])
async def test_undecodable_requests_are_a_typed_error(
    shared_channel: grpc.aio.Channel, name: str, garbage: bytes
) -> None:
    service = next(service.full_name for service in SERVICES if name in service.methods_by_name)
    path = f"/{service}/{name}"
    if name in UPLOADS:
        made: Any = shared_channel.stream_unary(path)(iter([garbage]))
    elif name in DOWNLOADS:
        made = shared_channel.unary_stream(path)(garbage)
    else:
        made = shared_channel.unary_unary(path)(garbage)
    error = await error_of(made)
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")


LATE = {grpc.StatusCode.DEADLINE_EXCEEDED}
LATE_UPLOADS = {grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL}


@pytest.mark.parametrize("name", [*CALLS, *ADMIN_CALLS])
async def test_a_deadline_in_the_past_is_reported(shared: Wire, name: str) -> None:
    # gRPC rounds deadlines up to milliseconds, so a fast call may be in time. If a deadline ends
    # the sending of a stream, grpc.aio may report a cancellation or an internal error.
    for attempt in range(20):
        session_id = f"late-{attempt}"
        request = CALLS[name](session_id) if name in CALLS else ADMIN_CALLS[name]
        made = call(shared, name, request, timeout=1e-6)
        code = await made.code()
        if code in LATE or (name in UPLOADS and code in LATE_UPLOADS):
            break
    else:
        pytest.fail(f"twenty calls were in time; the last one ended with {code}")
    if code is grpc.StatusCode.INTERNAL:
        assert "from Core" in await made.details()
    assert session_id not in {session.session_id for session in await shared.list()}


async def test_a_deadline_ends_the_statement(wire: Wire, database_url: str) -> None:
    await wire.create("one")
    with psycopg.connect(database_url) as blocker:
        blocker.execute("SELECT * FROM sessions FOR UPDATE")
        error = await error_of(
            call(wire, "StoreMessages", CALLS["StoreMessages"]("one"), timeout=0.3)
        )
        assert error.code == grpc.StatusCode.DEADLINE_EXCEEDED
        # The database has cancelled the statement as well.
        await until_waiting(database_url, 0)
    assert (await wire.get("one")).last_seq == 0


class TestDefaultDeadline:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"default_deadline_s": 0.3})

    async def test_holds_for_clients_that_set_none(self, wire: Wire, database_url: str) -> None:
        await call(wire, "CreateSession", CALLS["CreateSession"]("one"), timeout=PATIENCE_S)
        with psycopg.connect(database_url) as blocker:
            blocker.execute("SELECT * FROM sessions FOR UPDATE")
            error = await error_of(wire.store("one", "x"))
        assert (error.code, error.reason) == (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "DEADLINE_EXCEEDED",
        )


async def test_refusals_are_not_logged_as_crashes(
    wire: Wire, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO):
        for name in BY_ID:
            await error_of(call(wire, name, CALLS[name]("nobody")))
        await error_of(wire.store("nobody", "x" * 2_000_000))
    logged = caplog.text + "".join(capsys.readouterr())
    assert "Traceback" not in logged
    assert "fault of the server" not in logged


async def test_an_unexpected_error_is_reported_without_its_details(
    wire: Wire, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("sessiond_server.sessions.store.sessions.SessionStore.get", broken)
    error = await error_of(wire.get("one"))
    assert (error.code, error.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "secret" not in error.text
    assert error.metadata["call_id"] in error.text


async def test_the_callers_request_id_names_the_call(wire: Wire) -> None:
    error = await error_of(
        wire.sessions.GetSession(
            ss.GetSessionRequest(session_id="x"), metadata=(("x-request-id", "abc-1"),)
        )
    )
    assert error.metadata["call_id"] == "abc-1"
