"""The statements of a turn: one statement starts an ordinary turn, and one ends it."""

import asyncio
import json
from typing import Any

import pytest

from sessiond.v1.message_pb2 import FORMAT_OPENAI, Message
from sessiond.v1.turn_pb2 import TURN_STATE_COMPLETED

from ..support.model_server import ModelServer, Reply
from ..support.statements import of_calls, statements
from ..support.turns import send, sending
from ..support.waiting import PATIENCE_S
from ..support.wire import Wire, openai

MOST = 10
"""The maximum number of statements of a turn."""


quickly = pytest.mark.usefixtures("unsaved")


@pytest.fixture
def unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save no text. On a busy machine, even an ordinary turn could last until the first save."""
    monkeypatch.setattr("sessiond_server.turns.texts.text_saver.INTERVAL_S", 600)


def named(text: str, message_id: str) -> Message:
    body = json.dumps({"role": "user", "content": text})
    return Message(format=FORMAT_OPENAI, json=body, message_id=message_id)


async def statements_of(wire: Wire, session_id: str = "one", **fields: Any) -> list[str]:
    """Return the statements of a turn, without notifications and polls."""
    with statements() as sent:
        turn = await send(wire, session_id, **fields)
    assert turn.state == TURN_STATE_COMPLETED
    # Several turns share a notification, and the server polls independently of turns.
    return of_calls(sent)


@quickly
async def test_an_ordinary_turn_has_four_statements(one: Wire) -> None:
    """The statements are: the session's data, the turn's start, the history, the turn's end."""
    await send(one, "one", "hi")
    sent = await statements_of(one, prompt="hi", request_id="r")
    assert len(sent) == 4, "\n".join(sent)
    assert not any(text in ("BEGIN", "COMMIT") for text in sent)
    stored = ["INSERT INTO messages" in text for text in sent]
    assert stored == [False, True, False, True]


@quickly
@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [named("a", "a"), named("b", "b")]},
        {"messages": [openai("a"), openai("b")], "request_id": "r"},
        {},
        {"prompt": "hi", "keep_partial": False, "expected_epoch": 0},
    ],
)
async def test_other_turns_have_few_statements(one: Wire, fields: dict[str, Any]) -> None:
    await one.store("one", "hi")
    sent = await statements_of(one, **fields)
    assert len(sent) <= MOST, "\n".join(sent)


@quickly
async def test_turns_of_a_window_have_few_statements(wire: Wire) -> None:
    await wire.create("one", config={"context": {"max_messages": 4}})
    for _ in range(4):
        sent = await statements_of(wire, prompt="hi")
        assert len(sent) <= MOST, "\n".join(sent)


@quickly
async def test_turns_of_copies_and_after_rewinds_have_few_statements(one: Wire) -> None:
    await one.store("one", *"abcd")
    await one.copy("one", "two")
    await one.rewind("one", drop_last=2)
    for session_id in ("one", "two"):
        sent = await statements_of(one, session_id, prompt="hi")
        assert len(sent) <= MOST, "\n".join(sent)
    assert [text[:2] for text in await one.texts("one")][:3] == ["a", "b", "hi"]


async def test_an_answer_whose_text_was_saved_is_ended_by_one_transaction(
    one: Wire, models: ModelServer
) -> None:
    models.script(Reply("a text that takes some time", after=2, then="hold"))
    sent = await sending(one, "one", "hi")
    assert await asyncio.to_thread(models.wait_until_held)
    await sent.until("assistant.message_delta")
    # The text is saved twice a second.
    with statements() as texts:
        async with asyncio.timeout(PATIENCE_S):
            while not any("INSERT INTO turn_texts" in text for text in texts):
                await asyncio.sleep(0.01)
    with statements() as texts:
        models.release()
        await sent.end()
    mine = of_calls(texts)
    assert [text.split()[0] for text in mine] == ["BEGIN", "WITH", "DELETE", "COMMIT"]
    assert await one.texts("one") == ["hi", "a text that takes some time"]
