"""Errors of providers and of the context make turns fail."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from sessiond.v1.turn_pb2 import (
    TURN_STATE_COMPLETED,
    TURN_STATE_FAILED,
)
from sessiond_server.settings import Settings

from ..support.model_server import ModelServer, Reply, fails
from ..support.turns import send, sending
from ..support.wire import Wire, pictures
from .calls import HOLD, connected, send_held, turn_of


@pytest.mark.parametrize(
    ("reply", "reason", "code", "metadata"),
    [
        (
            fails(401),
            "MODEL_ACCESS_DENIED",
            grpc.StatusCode.FAILED_PRECONDITION,
            {"http_status": "401"},
        ),
        (
            fails(400, "too long"),
            "MODEL_REQUEST_REJECTED",
            grpc.StatusCode.FAILED_PRECONDITION,
            {"http_status": "400"},
        ),
        (
            fails(429, headers={"retry-after": "17"}),
            "MODEL_RATE_LIMITED",
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            {"http_status": "429", "retry_after_s": "17"},
        ),
        (fails(500), "MODEL_UNAVAILABLE", grpc.StatusCode.ABORTED, {"http_status": "500"}),
        (Reply("a b c", after=2, then="cut"), "MODEL_UNAVAILABLE", grpc.StatusCode.ABORTED, {}),
        (
            Reply("a b c", after=2, then="garbage"),
            "MODEL_ANSWER_INVALID",
            grpc.StatusCode.ABORTED,
            {},
        ),
        (Reply("x" * 17_000_000), "MODEL_ANSWER_INVALID", grpc.StatusCode.ABORTED, {}),
    ],
)
async def test_an_error_is_streamed_and_stored_and_the_next_turn_works(
    one: Wire,
    models: ModelServer,
    reply: Reply,
    reason: str,
    code: grpc.StatusCode,
    metadata: dict[str, str],
) -> None:
    models.script(reply)
    sent = await sending(one, "one", "hi")
    error = await sent.error()
    assert (error.code, error.reason) == (code, reason)
    expected = {
        "session_id": "one",
        "turn_id": sent.turn.turn_id,
        "model": "fake-1",
        "provider": "fake",
        **metadata,
    }
    assert {name: error.metadata.get(name) for name in expected} == expected
    assert error.retry_s == (17 if reason == "MODEL_RATE_LIMITED" else None)
    assert sent.types[-3:] == ["session.error", "assistant.turn_end", "session.idle"]
    data = sent.events[-3].data
    assert (data["reason"], data["message"], data["turn_id"]) == (
        reason,
        error.message,
        sent.turn.turn_id,
    )
    turn = await turn_of(one, sent.turn.turn_id)
    assert (turn.state, turn.error.reason, turn.error.message) == (
        TURN_STATE_FAILED,
        reason,
        error.message,
    )
    kept = [message for message in await one.read("one") if not message.incomplete]
    assert [json.loads(message.json)["content"] for message in kept] == ["hi"]
    assert (await send(one, "one", "again")).state == TURN_STATE_COMPLETED
    sent_users = [m["content"] for m in models.requests[-1].body["messages"] if m["role"] == "user"]
    assert sent_users == ["hi", "again"]


async def test_a_turn_times_out(one: Wire, models: ModelServer) -> None:
    models.script(HOLD)
    sent = await sending(one, "one", "hi", turn_timeout={"seconds": 1})
    error = await sent.error()
    assert (error.code, error.reason, error.metadata["timeout_s"]) == (
        grpc.StatusCode.ABORTED,
        "TURN_TIMED_OUT",
        "1",
    )
    assert await asyncio.to_thread(models.wait_until_left)


@pytest.mark.parametrize("after", [-1, 2])
async def test_a_silent_model_times_out(
    settings: Settings, database_url: str, models: ModelServer, after: int
) -> None:
    fake = settings.providers["fake"]
    providers = {
        "fake": fake.model_copy(update={"silence_timeout_s": 1.0}),
        "patient": fake.model_copy(update={"models": ("patient-*",)}),
    }
    impatient = settings.model_copy(update={"providers": providers})
    async with connected(impatient, database_url) as wire:
        await wire.create("one")
        models.script(Reply("one two", after=after, then="hold"))
        sent = await sending(wire, "one", "hi")
        error = await sent.error()
        assert (error.code, error.reason, error.metadata["timeout_s"]) == (
            grpc.StatusCode.ABORTED,
            "MODEL_TIMED_OUT",
            "1.0",
        )
        assert (sent.types[-3], sent.events[-3].data["reason"]) == (
            "session.error",
            "MODEL_TIMED_OUT",
        )
        assert await asyncio.to_thread(models.wait_until_left)
        assert await wire.texts("one") == ["hi", *(["one "] if after == 2 else [])]
        models.release()
        again = await send(wire, "one", "again", model="patient-1")
        assert again.state == TURN_STATE_COMPLETED


async def test_a_too_large_history_fails_the_turn(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    small = settings.model_copy(update={"max_context_bytes": 2000})
    async with connected(small, database_url) as wire:
        await wire.create("one")
        await wire.store("one", "x" * 2000)
        error = await (await sending(wire, "one", "y")).error()
        assert (error.reason, error.metadata["max_bytes"]) == ("CONTEXT_TOO_LARGE", "2000")
        assert int(error.metadata["context_bytes"]) > 2000


async def test_a_queued_turn_whose_asset_is_missing_fails(
    one: Wire, models: ModelServer, query: Callable[..., Any]
) -> None:
    """The start of the turn appends the messages and checks their assets."""
    first = await send_held(one, models)
    second = await sending(one, "one", messages=[pictures("0" * 64)])
    third = await sending(one, "one", "c")
    models.release()
    await first.end()
    assert (await second.error()).reason == "ASSET_NOT_FOUND"
    await third.end()
    assert (await one.texts("one"))[2] == "c"
