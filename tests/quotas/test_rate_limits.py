"""RATE_LIMITED: calls and messages per second."""

import asyncio

import grpc

from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1.conversation_service_pb2 import SendRequest
from sessiond.v1.limits_pb2 import ProjectLimits, SetProjectLimitsRequest
from sessiond_server.server import serving
from sessiond_server.settings import Settings

from ..support.metrics import here
from ..support.waiting import PATIENCE_S
from ..support.wire import Wire, WireError, error_of, openai
from .conftest import Clock, SetLimits, with_key


async def test_calls_above_the_rate_are_refused_until_a_token_is_there(
    wire: Wire, tenant: Wire, set_limits: SetLimits, clock: Clock
) -> None:
    await tenant.create("a")
    await set_limits(calls_per_second=2)
    await tenant.get("a")
    await tenant.get("a")
    error = await error_of(tenant.get("a"))
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert error.retry_s == 0.5
    assert (
        error.metadata.items()
        >= {
            "what": "calls_per_second",
            "limit": "2",
            "used": "2",
        }.items()
    )
    name = "sessiond_limit_refusals_total"
    refused = here().value(name, limit="calls_per_second")
    assert (await error_of(tenant.get("a"))).reason == "RATE_LIMITED"
    assert here().value(name, limit="calls_per_second") == refused + 1
    # Calls of other projects are not refused.
    await asyncio.gather(*(wire.list() for _ in range(10)))
    clock.now += error.retry_s
    await tenant.get("a")


async def test_administrators_can_raise_a_limit_that_is_reached(wire: Wire, clock: Clock) -> None:
    def limits(rate: int) -> SetProjectLimitsRequest:
        return SetProjectLimitsRequest(
            project="default", limits=ProjectLimits(calls_per_second=rate)
        )

    await wire.admin.SetProjectLimits(limits(1))
    await wire.list()
    assert (await error_of(wire.sessions.ListSessions(ss.ListSessionsRequest()))).reason == (
        "RATE_LIMITED"
    )
    await wire.admin.SetProjectLimits(limits(100))
    await wire.list()


async def test_messages_above_the_rate_are_refused_in_every_call_that_stores_them(
    tenant: Wire, set_limits: SetLimits, clock: Clock
) -> None:
    await tenant.create("a")
    await set_limits(messages_per_second=3)
    await tenant.store("a", "1", "2")
    await tenant.store("a", "3")
    one = ss.StoreMessagesRequest(session_id="a", messages=[openai("4")])
    [of_batch] = await tenant.store_batch(one)
    assert isinstance(of_batch, WireError)
    errors = [
        await error_of(tenant.store("a", "4")),
        of_batch,
        await error_of(tenant.rewind("a", "4", to_seq=0)),
        await error_of(tenant.conversations.Send(SendRequest(session_id="a", prompt="4"))),
    ]
    assert {error.reason for error in errors} == {"RATE_LIMITED"}
    assert {error.metadata["what"] for error in errors} == {"messages_per_second"}
    assert await tenant.texts("a") == ["1", "2", "3"]
    clock.now += 1
    await tenant.store("a", "4")


async def test_a_batch_larger_than_the_rate_is_stored_and_paid_later(
    tenant: Wire, set_limits: SetLimits, clock: Clock
) -> None:
    await tenant.create("a")
    await set_limits(messages_per_second=2)
    await tenant.store("a", *"12345678")
    assert (await error_of(tenant.store("a", "9"))).retry_s == 3.5
    clock.now += 3.5
    await tenant.store("a", "9")


async def test_an_import_is_slowed_down_and_not_refused(
    tenant: Wire, set_limits: SetLimits, clock: Clock
) -> None:
    await tenant.create("a")
    await set_limits(messages_per_second=4)
    importing = asyncio.ensure_future(tenant.import_("a", [[openai("x")] * 10]))
    while not importing.done():
        clock.now += 0.25
        await asyncio.wait([importing], timeout=0.3)
    assert (await importing).last_seq == 10


async def test_a_change_of_limits_reaches_another_server(
    wire: Wire, key: str, settings: Settings, database_url: str, set_limits: SetLimits
) -> None:
    quick = settings.model_copy(update={"key_cache_s": 0})
    async with serving(quick, database_url) as other, with_key(other.port, key) as channel:
        tenant = Wire(channel)
        await tenant.list()
        await set_limits(calls_per_second=1)
        outcomes = [await _outcome(tenant) for _ in range(3)]
        assert outcomes == ["OK", "RATE_LIMITED", "RATE_LIMITED"]
        await set_limits()
        assert await _outcome(tenant) == "OK"


async def test_a_change_of_limits_reaches_callers_without_a_key(
    wire: Wire, settings: Settings, database_url: str
) -> None:
    quick = settings.model_copy(update={"key_cache_s": 0})
    async with (
        serving(quick, database_url) as other,
        grpc.aio.insecure_channel(f"127.0.0.1:{other.port}") as channel,
    ):
        anonymous = Wire(channel)
        await wire.admin.SetProjectLimits(
            SetProjectLimitsRequest(project="default", limits=ProjectLimits(calls_per_second=1))
        )
        async with asyncio.timeout(PATIENCE_S):
            while await _outcome(anonymous) != "RATE_LIMITED":
                await asyncio.sleep(0.05)


async def _outcome(wire: Wire) -> str:
    try:
        await wire.sessions.ListSessions(ss.ListSessionsRequest())
    except grpc.aio.AioRpcError as error:
        return (error.details() or "").partition(":")[0]
    return "OK"
