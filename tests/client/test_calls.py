"""Unary calls: keys, deadlines, retries, and typed errors."""

import asyncio
import pickle
import re
from pathlib import Path
from typing import Any

import grpc
import pytest

import sessiond
from sessiond import errors
from sessiond._protocol import retry as _retry
from sessiond.v1 import admin_service_pb2, session_pb2, session_service_pb2
from sessiond.v1.error_reason_pb2 import ErrorReason

REASONS = [name.removeprefix("ERROR_REASON_") for name, number in ErrorReason.items() if number]
PROTO = Path(__file__).parents[2] / "protos" / "sessiond" / "v1" / "error_reason.proto"
SESSION = session_pb2.Session(session_id="s", status=session_pb2.SESSION_STATUS_ACTIVE)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def codes() -> dict[str, grpc.StatusCode]:
    """Read the code of each reason from the comments of the proto."""
    found = re.findall(
        r"// ([A-Z_]+): .*\n(?:\s*//.*\n)*\s*ERROR_REASON_(\w+) =", PROTO.read_text()
    )
    return {reason: grpc.StatusCode[code] for code, reason in found}


async def test_sends_the_api_key(colour, server) -> None:
    server.on("GetSession", SESSION)
    client = colour.client(server.target, api_key="k1")
    await colour.call(client.get_session, "s")
    assert server.received[0].metadata["authorization"] == "Bearer k1"
    assert client.metadata == (("authorization", "Bearer k1"),)
    assert "k1" not in repr(client)
    await colour.call(client.stop)


async def test_sends_no_key_without_one(colour, server, client) -> None:
    server.on("GetSession", SESSION)
    await colour.call(client.get_session, "s")
    assert "authorization" not in server.received[0].metadata
    assert (
        server.received[0]
        .metadata["user-agent"]
        .startswith(f"sessiond-python/{sessiond.__version__}")
    )


async def test_target_and_key_come_from_the_environment(colour, server, monkeypatch) -> None:
    monkeypatch.setenv("SESSIOND_TARGET", server.target)
    monkeypatch.setenv("SESSIOND_API_KEY", "from-env\n")
    server.on("GetSession", SESSION)
    client = colour.client(None)
    await colour.call(client.get_session, "s")
    assert server.received[0].metadata["authorization"] == "Bearer from-env"
    await colour.call(client.stop)


async def test_deadline_is_the_clients_or_the_calls(colour, server, client) -> None:
    server.on("GetSession", SESSION)
    await colour.call(client.get_session, "s")
    await colour.call(client.get_session, "s", timeout=500)
    await colour.call(client.get_session, "s", timeout=float("inf"))
    await colour.call(client.get_session, "s", timeout=1e20)
    by_default, by_call, *never = [call.remaining_s for call in server.received]
    # In the header, gRPC rounds the deadline up a little.
    assert 0 < by_default < 31
    assert 31 < by_call < 501
    assert len(never) == 2
    assert all(remaining_s is None or remaining_s > 1e6 for remaining_s in never)


@pytest.mark.parametrize("timeout", [float("nan"), "5"])
async def test_a_timeout_that_is_no_number_is_refused(
    colour, server, client, timeout: object
) -> None:
    with pytest.raises(errors.InvalidField, match="timeout is"):
        await colour.call(client.get_session, "s", timeout=timeout)
    assert server.received == []


async def test_unavailable_is_retried_with_the_same_request_id(
    colour, server, client, impatient
) -> None:
    failure = server.abort(UNAVAILABLE, "going", reason="SERVER_DRAINING", retry_after_s=0.001)
    stored = session_service_pb2.StoreMessagesResponse(first_seq=1, last_seq=1)
    server.on("StoreMessages", failure, server.abort(UNAVAILABLE, "gone"), stored)
    await colour.call(client.sessions.store_message, "s", {"role": "user", "content": "x"})
    ids = [request.request_id for request in server.of("StoreMessages")]
    assert len(ids) == 3
    assert len(set(ids)) == 1
    assert re.fullmatch("[0-9a-f]{32}", ids[0])


async def test_the_timeout_covers_all_attempts(colour, server, client, impatient) -> None:
    server.on(
        "GetSession",
        server.abort(UNAVAILABLE, "later", reason="SERVER_DRAINING", retry_after_s=0.3),
        SESSION,
    )
    # gRPC sends longer times with less precision.
    await colour.call(client.get_session, "s", timeout=9)
    first, second = [call.remaining_s for call in server.received]
    assert second < first - 0.2


async def test_every_call_has_its_own_request_id(colour, server, client) -> None:
    server.on("CreateSession", SESSION)
    await colour.call(client.create_session)
    await colour.call(client.create_session)
    await colour.call(client.create_session, request_id="mine")
    first, second, mine = [request.request_id for request in server.of("CreateSession")]
    assert first != second
    assert mine == "mine"


@pytest.mark.parametrize("call", ["update", "resume", "destroy", "delete"])
async def test_changes_carry_a_request_id(colour, server, client, call: str) -> None:
    for method in ("UpdateSession", "ResumeSession", "DestroySession"):
        server.on(method, SESSION)
    server.on("DeleteSession", session_service_pb2.DeleteSessionResponse())
    await colour.call(getattr(client.sessions, call), "s")
    assert server.received[0].request.request_id


async def test_a_call_is_retried_until_its_deadline(colour, server, client, impatient) -> None:
    failure = server.abort(UNAVAILABLE, "no", reason="DATABASE_UNAVAILABLE")
    server.on("GetSession", *[failure] * 30, SESSION)
    assert (await colour.call(client.get_session, "s")).session_id == "s"
    server.on("GetSession", failure)
    # The error depends on whether an attempt is running at the deadline.
    with pytest.raises((errors.DatabaseUnavailable, errors.DeadlineExceeded)):
        await colour.call(client.get_session, "s", timeout=0.5)


async def test_a_call_without_a_deadline_gives_up_at_last(
    colour, server, client, impatient
) -> None:
    server.on("GetSession", server.abort(UNAVAILABLE, "no", reason="DATABASE_UNAVAILABLE"))
    with pytest.raises(errors.DatabaseUnavailable):
        await colour.call(client.get_session, "s", timeout=float("inf"))
    assert len(server.received) == _retry.MIN_ATTEMPTS


async def test_a_long_wait_for_the_server_is_logged(
    colour, server, client, impatient, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(_retry, "WARN_AFTER_S", 0.0)
    failure = server.abort(UNAVAILABLE, "")
    server.on("GetSession", failure, failure, SESSION)
    await colour.call(client.get_session, "s")
    [record] = caplog.records
    assert "is `sessiond serve` running" in record.getMessage()
    assert record.getMessage().endswith("still trying")


async def test_a_cancellation_that_nobody_asked_for_is_repeated(
    colour, server, client, impatient
) -> None:
    stored = session_service_pb2.StoreMessagesResponse(first_seq=1, last_seq=1)
    server.on("StoreMessages", server.abort(grpc.StatusCode.CANCELLED, "CANCELLED"), stored)
    await colour.call(client.sessions.store_message, "s", {"role": "user", "content": "x"})
    assert len({request.request_id for request in server.of("StoreMessages")}) == 1
    assert len(server.received) == 2


async def test_what_certainly_did_not_happen_is_always_repeated(
    colour, server, client, impatient
) -> None:
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    server.on(
        "CreateApiKey",
        server.abort(code, "busy", reason="OVERLOADED", retry_after_s=0.001),
        admin_service_pb2.CreateApiKeyResponse(),
    )
    await colour.call(client.admin.create_api_key, "p")
    assert len(server.received) == 2


async def test_overload_is_retried_only_with_a_retry_delay(
    colour, server, client, impatient
) -> None:
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    server.on(
        "GetSession", server.abort(code, "busy", reason="OVERLOADED", retry_after_s=0.001), SESSION
    )
    await colour.call(client.get_session, "s")
    assert len(server.received) == 2
    server.on("GetSession", server.abort(code, "full"))
    with pytest.raises(errors.ResourceExhausted):
        await colour.call(client.get_session, "s")
    assert len(server.received) == 3


async def test_does_not_wait_beyond_the_deadline(colour, server, client) -> None:
    server.on(
        "GetSession",
        server.abort(UNAVAILABLE, "later", reason="DATABASE_UNAVAILABLE", retry_after_s=3600),
    )
    with pytest.raises(errors.DatabaseUnavailable) as caught:
        await colour.call(client.get_session, "s")
    assert len(server.received) == 1
    assert caught.value.retry_after == 3600


async def test_creating_keys_and_projects_is_not_retried(colour, server, client, impatient) -> None:
    server.on(
        "CreateApiKey",
        server.abort(UNAVAILABLE, "going", reason="SERVER_DRAINING", retry_after_s=0.001),
    )
    with pytest.raises(errors.ServerDraining):
        await colour.call(client.admin.create_api_key, "p")
    assert len(server.received) == 1


@pytest.mark.parametrize("reason", REASONS)
async def test_every_reason_has_an_error_of_its_code(
    reason: str, colour, server, client, impatient
) -> None:
    code = codes()[reason]
    server.on(
        "GetSession",
        server.abort(
            code,
            "what happened",
            reason=reason,
            metadata={"session_id": "s"},
            # The delay exceeds the call's deadline, so the call is not retried.
            retry_after_s=3600,
        ),
    )
    with pytest.raises(errors.SessiondError) as caught:
        await colour.call(client.get_session, "s")
    error = caught.value
    assert type(error).reason == reason == error.reason
    assert type(error).code is code is error.code
    assert str(error) == f"{reason}: what happened"
    assert error.metadata == {"call_id": "call-1", "session_id": "s"}
    assert error.call_id == "call-1"
    assert isinstance(error.__cause__, grpc.RpcError)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(copy), str(copy), copy.metadata, copy.code) == (
        type(error),
        str(error),
        error.metadata,
        code,
    )


async def test_field_violations_are_in_the_error(colour, server, client) -> None:
    fields = {"messages[3].json": "is not JSON"}
    server.on(
        "GetSession",
        server.abort(grpc.StatusCode.INVALID_ARGUMENT, "bad", reason="INVALID_JSON", fields=fields),
    )
    with pytest.raises(
        errors.InvalidJson, match=re.escape("INVALID_JSON: bad; messages[3].json: is not JSON")
    ) as caught:
        await colour.call(client.get_session, "s")
    assert caught.value.field_violations == [
        errors.FieldViolation("messages[3].json", "is not JSON")
    ]


async def test_a_conflict_says_where_the_session_stands(colour, server, client) -> None:
    server.on(
        "StoreMessages",
        server.abort(
            grpc.StatusCode.ABORTED, "moved", reason="SEQUENCE_CONFLICT", metadata={"last_seq": "7"}
        ),
    )
    with pytest.raises(errors.SequenceConflict) as caught:
        await colour.call(
            client.sessions.store_messages,
            session_id="s",
            messages=[{"role": "user"}],
            expected_last_seq=3,
        )
    assert caught.value.last_seq == 7
    assert server.of("StoreMessages")[0].expected_last_seq == 3


async def test_expected_last_seq_zero_is_sent(colour, server, client) -> None:
    server.on("StoreMessages", session_service_pb2.StoreMessagesResponse(first_seq=1, last_seq=1))
    await colour.call(client.sessions.store_message, "s", {"role": "user"}, expected_last_seq=0)
    assert server.of("StoreMessages")[0].HasField("expected_last_seq")


async def test_an_unknown_reason_keeps_its_name_and_the_class_of_its_code(
    colour, server, client
) -> None:
    server.on("GetSession", server.abort(grpc.StatusCode.NOT_FOUND, "no", reason="TASK_NOT_FOUND"))
    with pytest.raises(errors.NotFound, match="TASK_NOT_FOUND: no"):
        await colour.call(client.get_session, "s")


async def test_errors_raised_by_grpc_are_typed(colour, server, client) -> None:
    with pytest.raises(errors.Unimplemented):
        await colour.call(client.get_session, "s")
    server.on("GetSession", session_pb2.Session(session_id="s", title="x" * 5000))
    small = colour.client(server.target, options={"grpc.max_receive_message_length": 1000})
    with pytest.raises(errors.ResourceExhausted):
        await colour.call(small.get_session, "s")
    await colour.call(small.stop)


async def test_the_deadline_is_a_typed_error(colour, server, client) -> None:
    async def never(request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    server.on("GetSession", never)
    with pytest.raises(errors.DeadlineExceeded) as caught:
        await colour.call(client.get_session, "s", timeout=0.05)
    assert str(caught.value).startswith("DEADLINE_EXCEEDED: ")
    # On a slow machine, the time may be over before the server has the call.
    assert len(server.received) <= 1


async def test_an_upload_that_ends_while_it_is_sent_raises_a_typed_error(
    colour, server, client, impatient
) -> None:
    async def upload(timeout: float) -> None:
        with pytest.raises(errors.DeadlineExceeded):
            await colour.call(client.sessions.import_messages, "s", ["hello"], timeout=timeout)

    async def never(request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    server.on("ImportMessages", never)
    # Some of these calls end after the client has sent the last request, and before it has sent the
    # end of the requests.
    for _ in range(10):
        await asyncio.gather(*(upload(-1 if n % 2 else n / 20_000) for n in range(40)))


async def test_a_refused_connection_names_the_target(colour, server, impatient) -> None:
    await server.stop()
    client = colour.client(server.target)
    with pytest.raises(
        errors.ServerUnavailable,
        match=re.escape(f"is `sessiond serve` running at {server.target}?"),
    ):
        await colour.call(client.get_session, "s", timeout=float("inf"))
    await colour.call(client.stop)


async def test_a_closed_client_says_so_and_opens_again(colour, server, client) -> None:
    server.on("GetSession", SESSION)
    await colour.call(client.stop)
    with pytest.raises(errors.ClientClosed):
        await colour.call(client.get_session, "s")
    await colour.call(client.start)
    await colour.call(client.get_session, "s")
    await colour.call(client.close)
    await colour.call(client.close)


async def test_closing_ends_running_calls(colour, server, client) -> None:
    arrived = asyncio.Event()

    async def never(request: Any, context: Any) -> Any:
        arrived.set()
        await asyncio.Event().wait()

    server.on("GetSession", never)
    call = asyncio.ensure_future(colour.call(client.get_session, "s"))
    await arrived.wait()
    await colour.call(client.stop)
    with pytest.raises(errors.ClientClosed):
        await call


async def test_a_call_between_two_attempts_ends_with_the_client(
    colour, server, client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stop(delay: float) -> None:
        await client.stop()

    colour_sleep = stop if colour.is_async else lambda delay: client.stop()
    package = "_async" if colour.is_async else "_sync"
    monkeypatch.setattr(f"sessiond.{package}._connection.sleep", colour_sleep)
    server.on("GetSession", server.abort(UNAVAILABLE, "away"))
    with pytest.raises(errors.ClientClosed):
        await colour.call(client.get_session, "s")
    assert len(server.received) == 1


async def test_a_cancellation_is_raised(server) -> None:
    arrived = asyncio.Event()
    gone = asyncio.Event()

    async def never(request: Any, context: Any) -> Any:
        context.add_done_callback(lambda _: gone.set())
        arrived.set()
        await asyncio.Event().wait()

    server.on("GetSession", never)
    async with sessiond.AsyncClient(server.target) as client:
        call = asyncio.ensure_future(client.get_session("s"))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await gone.wait()


async def test_a_cancellation_between_attempts_is_raised(server) -> None:
    refused = asyncio.Event()

    async def refuse(request: Any, context: Any) -> Any:
        context.add_done_callback(lambda _: refused.set())
        await server.abort(
            UNAVAILABLE, "later", reason="SERVER_DRAINING", retry_after_s=20
        ).raise_in(context)

    server.on("GetSession", refuse)
    async with sessiond.AsyncClient(server.target) as client:
        call = asyncio.ensure_future(client.get_session("s"))
        await refused.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_raw_stubs_are_there(server) -> None:
    server.on("GetSession", SESSION)
    async with sessiond.AsyncClient(server.target, api_key="k") as client:
        request = session_service_pb2.GetSessionRequest(session_id="s")
        assert (
            await client.stubs.sessions.GetSession(request, metadata=client.metadata)
        ).session_id == "s"
    assert server.received[0].metadata["authorization"] == "Bearer k"
