"""Sends whose turns fail at once, because their requests are known to be too large."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
import pytest

from sessiond.v1 import conversation_service_pb2 as cs
from sessiond.v1.message_pb2 import FORMAT_OPENAI, FORMAT_OTHER, ROLE_USER, Message, Part, Parts
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import UpdateSessionRequest
from sessiond.v1.turn_pb2 import TURN_STATE_COMPLETED, TURN_STATE_FAILED
from sessiond_server.core.ids import DEFAULT_PROJECT_ID
from sessiond_server.providers.settings import ProviderSettings
from sessiond_server.server import Running
from sessiond_server.settings import Settings
from sessiond_server.turns.requests import refusals
from sessiond_server.turns.store.starts import StartStore

from ..support.model_server import ModelServer, fails
from ..support.statements import of_calls, statements
from ..support.turns import Sent, send, sending
from ..support.wire import Wire, WireError, error_of, openai, pictures
from .calls import turn_of, turns_of

LIMIT = 64 * 1024 * 1024
EVENTS = [
    "user.message",
    "assistant.turn_start",
    "session.error",
    "assistant.turn_end",
    "session.idle",
]


@pytest.fixture
def settings(settings: Settings, models: ModelServer) -> Settings:
    """Settings with the models blind-*, which take no files."""
    blind = ProviderSettings(
        type="openai", base_url=models.openai_url, models=("blind-*",), files=False
    )
    return settings.model_copy(update={"providers": {**settings.providers, "blind": blind}})


@pytest.fixture
async def full(one: Wire, query: Callable[..., Any]) -> Wire:
    """A server whose session "one" has 40 pictures of 8 MiB, which do not exist as objects."""
    query(
        "INSERT INTO assets (project_id, sha256, object_key, size, media_type) "
        "SELECT %s, sha256(int4send(n)), 'nowhere/' || n, 8388608, 'image/png' "
        "FROM generate_series(1, 40) AS n",
        [DEFAULT_PROJECT_ID],
    )
    ids = [row[0] for row in query("SELECT encode(sha256, 'hex') FROM assets ORDER BY sha256")]
    await one.store("one", openai("look"), *map(pictures, ids))
    return one


async def refused(wire: Wire, prompt: str = "what is on them?", **fields: Any) -> list[str]:
    """Send, check that the request is refused as too large, and return the statements."""
    with statements() as sent:
        error = await error_of(send(wire, "one", prompt, **fields))
    assert error.reason == "CONTEXT_TOO_LARGE"
    return of_calls(sent)


def describes_assets(sent: list[str]) -> bool:
    return any("FROM assets" in text for text in sent)


async def failed(wire: Wire, prompt: str = "x", **fields: Any) -> tuple[Sent, WireError]:
    sent = await sending(wire, "one", prompt, **fields)
    return sent, await sent.error()


async def update(wire: Wire, mask: str, **fields: Any) -> None:
    session = Session(session_id="one")
    if "config" in fields:
        session.config.update(fields.pop("config"))
    for name, value in fields.items():
        setattr(session, name, value)
    request = UpdateSessionRequest(session=session)
    request.update_mask.paths.append(mask)
    await wire.sessions.UpdateSession(request)


async def test_a_repeated_send_is_refused_with_two_statements(
    full: Wire, models: ModelServer
) -> None:
    await refused(full)
    for request_id in ("", "r"):
        sent = await refused(full, request_id=request_id)
        assert len(sent) == 2, "\n".join(sent)
        assert "INSERT INTO messages" in sent[1]
    assert models.requests == []


async def test_callers_and_watchers_see_the_same_as_at_the_first_refusal(full: Wire) -> None:
    await full.store("one", call("c1"))
    first, first_error = await failed(full, request_id="a")
    again, error = await failed(full, request_id="b")
    assert (again.types, first.types) == (EVENTS, EVENTS)
    assert again.events[0].seq == first.events[0].seq + 1
    assert (error.code, error.metadata.keys()) == (first_error.code, first_error.metadata.keys())
    size, least = (int(e.metadata["context_bytes"]) for e in (first_error, error))
    assert size >= least > 40 * 8 * 1024 * 1024 * 4 // 3
    assert f"has more than {least} bytes" in error.text
    assert error.metadata["max_bytes"] == str(LIMIT)
    assert error.metadata["turn_id"] == again.turn.turn_id
    for sent, seq in ((first, 43), (again, 44)):
        stored = await turn_of(full, sent.turn.turn_id)
        assert (stored.state, stored.error.reason) == (TURN_STATE_FAILED, "CONTEXT_TOO_LARGE")
        assert (stored.first_seq, stored.last_seq) == (seq, 0)
        assert [(c.seq, c.detail) for c in stored.changes] == [(42, "c1")]
        assert stored.change_count == 1
        assert stored.HasField("end_time")
        message = await full.message("one", seq)
        assert (message.turn.turn_id, message.message_id) == (sent.turn.turn_id, sent.message_id)


async def test_the_same_request_gets_the_same_failed_turn(full: Wire) -> None:
    await refused(full)
    first, _ = await failed(full, request_id="r")
    again, error = await failed(full, request_id="r")
    assert again.turn.turn_id == first.turn.turn_id == error.metadata["turn_id"]
    assert len(await turns_of(full)) == 2
    other = await error_of(send(full, "one", "other", request_id="r"))
    assert other.reason == "REQUEST_ID_REUSED"


async def rewind(wire: Wire) -> None:
    await wire.rewind("one", to_seq=1)


async def lower_window(wire: Wire) -> None:
    await update(wire, "config", config={"context": {"max_messages": 1}})


async def summarise(wire: Wire) -> None:
    cats = {"type": "message", "role": "user", "content": "cats"}
    payload = {"message": "They were cats.", "replacement_history": [cats]}
    line = json.dumps({"type": "compacted", "payload": payload})
    await wire.store("one", Message(format=FORMAT_OTHER, format_name="codex", json=line))


async def choose_another_model(wire: Wire) -> None:
    await update(wire, "model", model="blind-1")


@pytest.mark.parametrize("change", [rewind, lower_window, summarise, choose_another_model])
async def test_a_change_that_makes_the_request_fit_is_noticed(
    full: Wire, change: Callable[[Wire], Any]
) -> None:
    await refused(full)
    await refused(full)
    await change(full)
    assert (await send(full, "one", "and now?")).state == TURN_STATE_COMPLETED


@pytest.mark.parametrize(
    "fields", [{"model": "blind-1"}, {"parent_seq": 1}], ids=lambda fields: next(iter(fields))
)
async def test_a_send_whose_own_request_fits_is_not_refused(
    full: Wire, fields: dict[str, Any]
) -> None:
    await refused(full)
    assert (await send(full, "one", "hi", **fields)).state == TURN_STATE_COMPLETED
    # With parent_seq, the newest message is now on a branch without the pictures.
    if "model" in fields:
        await refused(full)


async def test_a_send_with_other_options_or_other_content_is_measured(full: Wire) -> None:
    await refused(full)
    parts = Message(role=ROLE_USER, parts=Parts(parts=[Part(text="a text in parts")]))
    assert len(await refused(full, "", messages=[parts])) == 2
    assert len(await refused(full, options={"temperature": 0})) > 2
    line = {"type": "user", "message": {"role": "user", "content": "hi"}}
    other = Message(format=FORMAT_OTHER, format_name="claude-code", json=json.dumps(line))
    for messages in ([call("c1")], [other]):
        assert len(await refused(full, "", messages=messages)) > 2


async def test_an_append_between_two_sends_makes_the_next_one_measured(full: Wire) -> None:
    await refused(full)
    await full.store("one", "meanwhile")
    assert len(await refused(full)) > 2
    assert len(await refused(full)) == 2


@pytest.mark.parametrize("change", [lower_window, rewind])
async def test_a_change_while_a_send_is_refused_decides(
    full: Wire, other: Wire, monkeypatch: pytest.MonkeyPatch, change: Callable[[Wire], Any]
) -> None:
    await refused(full)
    refuse = StartStore.refuse

    async def late(*args: Any) -> Any:
        await change(other)
        started = await refuse(*args)
        assert started is None
        return started

    monkeypatch.setattr(StartStore, "refuse", late)
    assert (await send(full, "one", "and now?")).state == TURN_STATE_COMPLETED


async def test_reloaded_settings_of_the_provider_are_noticed(
    full: Wire, server: Running, settings: Settings
) -> None:
    await refused(full)
    await refused(full)
    without_files = settings.providers["fake"].model_copy(update={"files": False})
    providers = {**settings.providers, "fake": without_files}
    server.reloader.apply(settings.model_copy(update={"providers": providers}))
    assert (await send(full, "one", "and now?")).state == TURN_STATE_COMPLETED


async def test_a_send_without_a_message_and_another_server_are_refused_as_well(
    full: Wire, other: Wire
) -> None:
    await refused(full)
    # The number of statements is not checked, because watches may read messages here: after an
    # empty Send, and after another server has appended messages.
    assert not describes_assets(await refused(full, ""))
    for wire in (other, full):
        assert describes_assets(await refused(wire))
        assert not describes_assets(await refused(wire))


async def test_the_request_is_measured_again_after_some_refusals(
    full: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "MAX_REFUSALS", 2)
    lengths = [len(await refused(full)) for _ in range(7)]
    assert [length == 2 for length in lengths] == [False, True, True, False, True, True, False]


async def test_a_request_of_many_messages_is_always_measured(
    full: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dialect may leave out the oldest messages of the next request, and their files."""
    monkeypatch.setattr(refusals, "MAX_MESSAGES", 41)
    assert [len(await refused(full)) > 2 for _ in range(3)] == [True, True, True]


async def test_only_the_last_refused_sessions_are_remembered(
    full: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "MAX_SESSIONS", 1)
    await full.copy("one", "two")
    await refused(full)
    with suppress(grpc.aio.AioRpcError):
        await send(full, "two", "hi")
    assert len(await refused(full)) > 2


async def test_destroyed_sessions_and_steering_are_as_before(full: Wire) -> None:
    await refused(full)
    await full.destroy("one")
    error = await error_of(send(full, "one", "x"))
    assert error.reason == "SESSION_DESTROYED"
    await full.resume("one")
    steered = await error_of(send(full, "one", "x", mode=cs.SEND_MODE_IMMEDIATE))
    assert steered.reason == "CONTEXT_TOO_LARGE"
    assert [turn.state for turn in await turns_of(full)] == [TURN_STATE_FAILED] * 2


class TestHistories:
    """The size of a history without a window is known before the history is read."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"max_context_bytes": 2_000})

    async def test_a_large_history_is_refused_with_two_statements(self, one: Wire) -> None:
        await one.store("one", *["x" * 500] * 4)
        for _ in range(2):
            assert len(await refused(one)) == 2
        sent, error = await failed(one)
        assert sent.types == EVENTS
        assert error.metadata["context_bytes"] == str((await one.get("one")).content_bytes)

    async def test_a_branch_and_a_window_are_measured(self, wire: Wire) -> None:
        await wire.create("one", config={"context": {"max_messages": 2}})
        await wire.store("one", "a", *["x" * 500] * 4)
        assert (await send(wire, "one", "b")).state == TURN_STATE_COMPLETED
        await update(wire, "config", config={})
        await refused(wire)
        child = openai("c")
        child.parent_seq = 1
        assert (await send(wire, "one", messages=[child])).state == TURN_STATE_COMPLETED


async def test_a_turn_whose_model_fails_is_ended_by_one_statement(
    one: Wire, models: ModelServer
) -> None:
    models.script(fails(400, "bad"))
    with statements() as sent:
        error = await error_of(send(one, "one", "hi"))
    assert error.reason == "MODEL_REQUEST_REJECTED"
    mine = of_calls(sent)
    assert len(mine) == 4, "\n".join(mine)


def call(call_id: str) -> Message:
    function = {"name": "look", "arguments": "{}"}
    calls = [{"id": call_id, "type": "function", "function": function}]
    value = {"role": "assistant", "content": None, "tool_calls": calls}
    return Message(format=FORMAT_OPENAI, json=json.dumps(value))


class TestWindows:
    """A window that was too large stays too large until a new one begins."""

    @pytest.mark.parametrize(
        ("limits", "measured"),
        [
            # Of 41 messages, the newest 20 are pictures, and each Send adds a message.
            ({"max_messages": 20, "keep_fraction": 0.9}, [0, 3, 6]),
            ({"max_messages": 60, "keep_fraction": 0.9}, [0]),
            # Each prompt has two tokens, and each picture more than a hundred.
            ({"max_tokens": 100_000}, [0]),
        ],
    )
    async def test_only_new_windows_are_measured(
        self, full: Wire, limits: dict[str, Any], measured: list[int]
    ) -> None:
        await update(full, "config", config={"context": limits})
        lengths = [len(await refused(full, "hi")) for _ in range(8)]
        assert [place for place, length in enumerate(lengths) if length > 2] == measured

    async def test_a_window_that_begins_after_the_pictures_is_sent(self, full: Wire) -> None:
        await update(full, "config", config={"context": {"max_messages": 30}})
        # The first window begins with 14 pictures and one prompt. It has room for 15 more messages.
        for _ in range(16):
            await refused(full, "hi")
        assert (await send(full, "one", "hi")).state == TURN_STATE_COMPLETED
