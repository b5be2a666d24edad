"""The statements of turns that are queued, or that steer another turn."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sessiond.v1.turn_pb2 import TURN_STATE_COMPLETED, TURN_STATE_QUEUED
from sessiond_server.turns.store.queue import TurnQueueStore

from ..support.model_server import ModelServer, Reply
from ..support.statements import of_calls, statements
from ..support.turns import Sent, sending
from ..support.waiting import until_async
from ..support.wire import Wire
from .calls import IMMEDIATE, abort, send_held, turns_of

MOST = 10
"""The maximum number of statements of a turn."""

ORDINARY = 4
"""The number of statements of a turn that meets no other turn."""

COUNT = 3
Query = Callable[..., list[tuple[Any, ...]]]


@contextmanager
def counted() -> Iterator[list[str]]:
    """Collect statements, without notifications and polls, which several turns share."""
    own: list[str] = []
    with statements() as sent:
        yield own
    own += of_calls(sent)


async def sends(wire: Wire, **fields: Any) -> list[Sent]:
    return [await sending(wire, "one", f"q{n}", request_id=f"r{n}", **fields) for n in range(COUNT)]


async def ended(*sents: Sent) -> None:
    for sent in sents:
        assert (await sent.end()).state == TURN_STATE_COMPLETED


@pytest.fixture
def unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessiond_server.turns.texts.text_saver.INTERVAL_S", 600)


@pytest.mark.usefixtures("unsaved")
async def test_a_queued_turn_has_few_statements(one: Wire, models: ModelServer) -> None:
    first = await send_held(one, models)
    with counted() as accepted:
        queued = await sends(one)
    assert {sent.turn.state for sent in queued} == {TURN_STATE_QUEUED}
    assert len(accepted) == 2 * COUNT, "\n".join(accepted)
    with counted() as later:
        models.release()
        await ended(first, *queued)
    assert len(accepted) + len(later) <= MOST * COUNT, "\n".join(later)
    assert not any(text == "BEGIN" for text in later)
    assert (await one.texts("one"))[::2] == ["a", "q0", "q1", "q2"]
    seqs = [(turn.first_seq, turn.last_seq) for turn in reversed(await turns_of(one))]
    assert seqs == [(1, 2), (3, 4), (5, 6), (7, 8)]


@pytest.mark.usefixtures("unsaved")
@pytest.mark.parametrize("count", [1, COUNT])
async def test_steering_messages_have_few_statements(
    one: Wire, models: ModelServer, count: int
) -> None:
    first = await send_held(one, models)
    with counted() as sent:
        steering = [await sending(one, "one", f"q{n}", mode=IMMEDIATE) for n in range(count)]
        models.release()
        await ended(first, *steering)
    # The statements of the end of the steered turn are counted, too.
    assert len(sent) <= MOST * count + ORDINARY // 2, "\n".join(sent)
    assert (await one.texts("one"))[:2] == ["a", "held back"]
    assert (await one.texts("one"))[2 : 2 + count] == [f"q{n}" for n in range(count)]
    [turn] = await turns_of(one)
    assert (turn.first_seq, turn.last_seq) == (1, 3 + count)


async def test_a_queued_turn_after_saved_text_has_few_statements(
    one: Wire, models: ModelServer, query: Query
) -> None:
    models.script(Reply("held back", after=2, then="hold"))
    first = await sending(one, "one", "a")
    await until_async(lambda: query("SELECT turn_id FROM turn_texts") != [], "the text is saved")
    with counted() as sent:
        queued = await sending(one, "one", "q")
        models.release()
        await ended(first, queued)
    assert len([text for text in sent if "INSERT INTO turn_texts" not in text]) <= MOST + ORDINARY
    assert query("SELECT turn_id FROM turn_texts") == []
    assert (await one.texts("one"))[:3] == ["a", "held back", "q"]


async def test_a_change_of_the_queue_meanwhile_is_not_overlooked(
    one: Wire, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that is aborted after the queue was read does not start."""
    first = await send_held(one, models)
    queued = await sends(one)
    read = TurnQueueStore.next
    aborted: list[str] = []

    async def interrupted(self: TurnQueueStore, *args: Any) -> Any:
        found = await read(self, *args)
        if not aborted:
            aborted.append(queued[0].turn.turn_id)
            await abort(one, turn_id=aborted[0])
        return found

    monkeypatch.setattr(TurnQueueStore, "next", interrupted)
    models.release()
    await ended(first, *queued[1:])
    assert (await queued[0].error()).reason == "TURN_ABORTED"
    assert (await one.texts("one"))[::2] == ["a", "q1", "q2"]
