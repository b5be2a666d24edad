"""The statements of turns that are queued, or that steer another turn."""

import pytest

from sessiond.v1.turn_pb2 import TURN_STATE_COMPLETED

from ..support.model_server import ModelServer
from ..support.statements import statements
from ..support.turns import sending
from ..support.wire import Wire
from .calls import IMMEDIATE, send_held

MOST = 10


def own(sent: list[str]) -> list[str]:
    return [text for text in sent if "pg_notify" not in text and not text.startswith("SELECT key,")]


@pytest.fixture(autouse=True)
def unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessiond_server.turns.text_saver.INTERVAL_S", 600)


async def test_a_queued_turn_has_few_statements(one: Wire, models: ModelServer) -> None:
    first = await send_held(one, models)
    with statements() as sent:
        queued = [await sending(one, "one", f"q{n}", request_id=f"r{n}") for n in range(3)]
    print("ACCEPT", len(own(sent)) / 3, *own(sent), sep="\n")
    with statements() as rest:
        models.release()
        assert (await first.end()).state == TURN_STATE_COMPLETED
        for one_ in queued:
            assert (await one_.end()).state == TURN_STATE_COMPLETED
    print("REST", len(own(rest)) / 3, *own(rest), sep="\n")


async def test_steering(one: Wire, models: ModelServer) -> None:
    first = await send_held(one, models)
    with statements() as sent:
        queued = [
            await sending(one, "one", f"q{n}", request_id=f"r{n}", mode=IMMEDIATE) for n in range(3)
        ]
    print("ACCEPT", len(own(sent)) / 3, *own(sent), sep="\n")
    with statements() as rest:
        models.release()
        assert (await first.end()).state == TURN_STATE_COMPLETED
        for one_ in queued:
            assert (await one_.end()).state == TURN_STATE_COMPLETED
    print("REST", len(own(rest)) / 3, *own(rest), sep="\n")
