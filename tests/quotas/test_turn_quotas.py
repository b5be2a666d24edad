"""QUOTA_EXCEEDED: running turns, and tokens a day."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from sessiond.v1.conversation_service_pb2 import SendRequest
from sessiond.v1.limits_pb2 import GetProjectUsageRequest
from sessiond_server.core.errors import Fault
from sessiond_server.providers.settings import ProviderSettings
from sessiond_server.settings import Settings
from sessiond_server.turns.requests.refusals import Refusal

from ..support.model_server import ModelServer
from ..support.turns import send, sending
from ..support.wire import Wire, WireError, error_of
from ..turns.calls import send_held
from .conftest import Clock, SetLimits


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def settings(settings: Settings, models: ModelServer) -> Settings:
    fake = ProviderSettings(type="openai", base_url=models.openai_url, models=("fake-*",))
    return settings.model_copy(update={"providers": {"fake": fake}, "default_model": "fake-1"})


async def refused(tenant: Wire, session_id: str, **fields: Any) -> WireError:
    request = SendRequest(session_id=session_id, prompt="x", **fields)
    error = await error_of(tenant.conversations.Send(request))
    assert error.reason == "QUOTA_EXCEEDED"
    return error


async def test_turns_above_the_limit_are_refused_until_one_ends(
    wire: Wire, tenant: Wire, models: ModelServer, set_limits: SetLimits
) -> None:
    for session_id in ("one", "two"):
        await tenant.create(session_id)
    await wire.create("of another project")
    await set_limits(max_running_turns=2)
    running = await send_held(tenant, models)
    queued = await sending(tenant, "one", "b")
    error = await refused(tenant, "two")
    assert error.retry_s == 1
    assert (
        error.metadata.items()
        >= {
            "what": "max_running_turns",
            "limit": "2",
            "used": "2",
        }.items()
    )
    assert await tenant.texts("two") == []
    await send(wire, "of another project", "a", model="echo")
    models.release()
    await running.end()
    await queued.end()
    await send(tenant, "two", "c")


async def test_a_turn_that_fails_as_it_is_accepted_takes_no_place(
    tenant: Wire, models: ModelServer, set_limits: SetLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tenant.create("one")
    await set_limits(max_running_turns=1)
    with monkeypatch.context() as patch:
        patch.setattr("sessiond_server.turns.requests.refusals.Refusals.find", too_large)
        for _ in range(3):
            sent = await sending(tenant, "one", "x")
            assert (await sent.error()).reason == "CONTEXT_TOO_LARGE"
    running = await send_held(tenant, models)
    await refused(tenant, "one")
    models.release()
    await running.end()


def too_large(*_: Any) -> Refusal:
    return Refusal(Fault("CONTEXT_TOO_LARGE", "the history is too large"))


async def test_a_repeated_send_is_answered_at_the_limit(
    tenant: Wire, models: ModelServer, set_limits: SetLimits
) -> None:
    await tenant.create("one")
    await set_limits(max_running_turns=1)
    running = await send_held(tenant, models, request_id="r")
    again = await sending(tenant, "one", "a", request_id="r")
    assert again.turn.turn_id == running.turn.turn_id
    models.release()
    await running.end()
    await again.end()


async def test_tokens_of_the_day_are_counted_and_then_refuse_turns_until_midnight(
    wire: Wire, tenant: Wire, set_limits: SetLimits, clock: Clock
) -> None:
    async def used() -> int:
        usage = await wire.admin.GetProjectUsage(GetProjectUsageRequest(project="p"))
        return int(usage.model_tokens.used)

    await tenant.create("one")
    await set_limits(model_tokens_per_day=1)
    ended = await send(tenant, "one", "a few words", model="echo")
    tokens = ended.usage.input_tokens + ended.usage.output_tokens
    assert tokens > 1
    clock.now += 20
    error = await refused(tenant, "one", model="echo")
    assert error.metadata["used"] == str(tokens) == str(await used())
    now = datetime.now(UTC)
    left_s = 86400 - (now.hour * 3600 + now.minute * 60 + now.second)
    assert error.retry_s is not None
    assert 0 < error.retry_s <= left_s + 86400
    # The deletion of a session does not release the tokens that it used.
    await tenant.delete("one")
    assert await used() == tokens
    await tenant.create("one")
    clock.now += 20
    await refused(tenant, "one", model="echo")
    await set_limits(model_tokens_per_day=0)
    await send(tenant, "one", "more", model="echo")


async def test_an_answer_is_stored_although_the_project_has_reached_its_limits(
    tenant: Wire, models: ModelServer, set_limits: SetLimits
) -> None:
    await tenant.create("one")
    running = await send_held(tenant, models)
    await set_limits(max_bytes=1, messages_per_second=1, max_sessions=1, model_tokens_per_day=1)
    models.release()
    await running.end()
    assert len(await tenant.texts("one")) == 2
