"""Rewinds by the client, against a server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sessiond import (
    AsyncClient,
    AsyncSession,
    Client,
    HistoryRewound,
    InvalidField,
    MessageNotFound,
    ModelNotConfigured,
    NewMessage,
    SequenceConflict,
    SessionAlreadyExists,
    SessionNotFound,
    TurnRunning,
)
from sessiond_server.server import Running

from ..support.processes import ServerProcess
from ..support.waiting import PATIENCE_S


def said(*texts: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text} for text in texts]


LETTERS = said(*"abcde")


@pytest.fixture
async def client(server: Running) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"127.0.0.1:{server.port}") as opened:
        yield opened


async def texts(session: AsyncSession) -> list[str]:
    return [message.content async for message in session.get_messages()]


async def test_rewind_pop_and_clear(client: AsyncClient) -> None:
    session = await client.create_session()
    await session.store_messages(LETTERS)
    result = await session.rewind(to_seq=3, return_removed=5)
    assert (result.last_seq, result.epoch, result.removed_count) == (3, 1, 2)
    assert [message.content for message in result.removed] == ["d", "e"]
    assert (result.first_seq, result.create_time) == (None, None)
    result = await session.rewind(drop_last=1, messages=said("x", "y"))
    assert (result.first_seq, result.last_seq, result.epoch) == (3, 4, 2)
    assert await texts(session) == ["a", "b", "x", "y"]
    assert (await session.pop()).content == "y"
    result = await session.clear()
    assert (result.last_seq, result.removed_count) == (0, 3)
    assert await session.pop() is None
    info = await session.refresh()
    assert (info.last_seq, info.epoch, info["epoch"]) == (0, 4, 4)
    stored = await session.store_message(LETTERS[0])
    assert (stored.first_seq, stored.epoch) == (1, 4)


async def test_by_id_and_to_a_bookmark(client: AsyncClient) -> None:
    session = await client.create_session()
    await session.store_messages(LETTERS)
    await session.bookmarks.create("here", seq=2)
    named = NewMessage({"role": "user", "content": "f"}, message_id="mine")
    await session.store_messages([named, *LETTERS])
    assert (await session.rewind(before_message_id="mine")).last_seq == 5
    result = await client.sessions.rewind(session.session_id, to_bookmark="here")
    assert result.last_seq == 2
    assert (await client.sessions.pop(session.session_id)).content == "b"
    assert (await client.sessions.clear(session.session_id)).removed_count == 1


async def test_conditions(client: AsyncClient) -> None:
    session = await client.create_session()
    await session.store_messages(LETTERS)
    with pytest.raises(SequenceConflict):
        await session.rewind(to_seq=1, expected_last_seq=4)
    await session.rewind(to_seq=4, messages=said("E"), expected_last_seq=5, expected_epoch=0)
    for call in (
        lambda: session.rewind(to_seq=1, expected_epoch=0),
        lambda: session.pop(expected_epoch=0),
        lambda: session.store_message(LETTERS[0], expected_epoch=0),
        lambda: session.import_messages(LETTERS, expected_epoch=0),
        lambda: session.send("hello", expected_epoch=0),
    ):
        with pytest.raises(HistoryRewound) as caught:
            await call()
        assert (caught.value.epoch, caught.value.last_seq) == (1, 5)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "to_seq"),
        ({"to_seq": 1, "drop_last": 1}, "drop_last"),
        ({"to_seq": "x"}, "to_seq"),
        ({"drop_last": 1, "to_bookmark": "b"}, "to_bookmark"),
        ({"drop_last": -1}, "drop_last"),
        ({"to_seq": 1, "messages": [object()]}, "messages[0]"),
    ],
)
async def test_a_value_that_cannot_be_sent_is_named(
    client: AsyncClient, fields: dict[str, Any], field: str
) -> None:
    session = await client.create_session()
    with pytest.raises(InvalidField) as caught:
        await session.rewind(**fields)
    assert [violation.field for violation in caught.value.field_violations] == [field]


async def test_an_unknown_keyword_is_refused(client: AsyncClient) -> None:
    session = await client.create_session()
    with pytest.raises(TypeError, match="unexpected keyword argument 'force'"):
        await session.rewind(to_seq=0, force=True)


def test_the_sync_client(start_server: Callable[..., ServerProcess], database_url: str) -> None:
    target = start_server(SESSIOND_DATABASE_URL=database_url).target
    with Client(target) as client:
        session = client.create_session(model="echo")
        session.store_messages(said(*(f"{i}" for i in range(100))))
        with ThreadPoolExecutor(16) as pool:
            popped = list(pool.map(lambda _: session.pop(), range(104)))
        found = [message.content for message in popped if message]
        assert sorted(found, key=int) == [f"{i}" for i in range(100)]
        assert session.refresh().last_seq == 0
        session.send_and_wait("a")
        assert session.regenerate().content == "echo of 1 message: a"
        assert session.rewind(to_seq=1).removed_count == 1
        assert session.clear().last_seq == 0


async def test_events_follow_a_rewind(client: AsyncClient) -> None:
    session = await client.create_session()
    await session.store_messages(LETTERS)
    handled: list[Any] = []
    session.on(handled.append)
    stream = session.events(after_seq=4, after_epoch=0)
    events = aiter(stream)
    assert (await anext(events)).seq == 5
    await session.rewind(to_seq=2, messages=said("x"))
    rewound = await anext(events)
    assert (rewound.type, rewound.seq, rewound.epoch) == ("session.rewound", None, 1)
    assert (rewound.data.last_seq, rewound.data["removed_count"]) == (2, 3)
    replacement = await anext(events)
    assert (replacement.seq, replacement.epoch, replacement.message.content) == (3, 1, "x")
    async with asyncio.timeout(PATIENCE_S):
        async for event in session.events(after_seq=5, after_epoch=0):
            assert (event.type, event.epoch) == ("session.rewound", 1)
            break
    with pytest.raises(InvalidField):
        session.events(after_epoch=1)


async def test_the_answer_of_a_turn_is_not_another_message_of_its_seq(client: AsyncClient) -> None:
    session = await client.create_session(model="echo")
    answer = await session.send_and_wait("a", request_id="first")
    assert answer.turn is not None
    turn_id = answer.turn.turn_id
    assert (await session.wait_for_turn(turn_id)).seq == answer.seq
    await session.clear()
    for _ in range(2):
        with pytest.raises(MessageNotFound, match="a rewind has removed the answer") as raised:
            await session.wait_for_turn(turn_id)
        assert raised.value.metadata["turn_id"] == turn_id
        with pytest.raises(MessageNotFound):
            await session.send_and_wait("a", request_id="first")
        # In the second round, another message has the seq of the answer.
        await session.store_messages(LETTERS[:2])


async def test_a_rewind_changes_the_state_in_its_commit(client: AsyncClient) -> None:
    session = await client.create_session(state={"a": 1, "b": 2})
    await session.store_messages(LETTERS)
    await session.rewind(to_seq=4, state={"a": None}, remove_state=["b"])
    assert (await session.refresh()).state == {"a": None}
    await session.pop(state={"c": 1})
    await session.clear(remove_state=["a"])
    assert (await session.refresh()).state == {"c": 1}
    items = [{"any": "thing"}]
    await session.rewind(to_seq=0, messages=items, format="other", format_name="mine")
    assert (await session.get_message(1)).format_name == "mine"
    with pytest.raises(InvalidField, match="state"):
        await session.rewind(to_seq=0, state=[1])  # type: ignore[arg-type]


class TestRegenerate:
    async def test_the_answer_is_replaced(self, client: AsyncClient) -> None:
        session = await client.create_session(model="echo")
        first = await session.send_and_wait("a")
        second = await session.regenerate()
        assert (second.seq, second.content) == (first.seq, first.content)
        assert second.turn.turn_id != first.turn.turn_id
        assert await texts(session) == ["a", first.content]
        assert (await session.refresh()).epoch == 1

    async def test_the_old_answer_stays_in_a_copy(self, client: AsyncClient) -> None:
        session = await client.create_session(model="echo")
        first = await session.send_and_wait("a")
        kept = f"{session.session_id}-old"
        await session.regenerate(copy_to=kept)
        old = await client.sessions.get_message(kept, first.seq)
        assert old.turn.turn_id == first.turn.turn_id

    async def test_the_old_answer_stays_as_a_branch(self, client: AsyncClient) -> None:
        session = await client.create_session(model="echo")
        await session.send_and_wait("a")
        for seq in (3, 4):
            answer = await session.regenerate(branch=True)
            assert (answer.seq, answer.parent_seq) == (seq, 1)
            assert answer.content == "echo of 1 message: a"
        assert [m.seq async for m in session.get_messages(branch_of=2)] == [1, 2]
        assert [m.seq async for m in session.get_messages(branch_of=4)] == [1, 4]
        assert (await session.refresh()).epoch == 0
        # The next prompt continues the newest answer. A further regeneration answers that prompt.
        assert (await session.send_and_wait("b")).content == "echo of 3 messages: b"
        assert (await session.regenerate(branch=True)).parent_seq == 5
        turn = await session.get_turn(answer.turn.turn_id if answer.turn else "")
        assert turn.parent_seq == 1
        with pytest.raises(InvalidField, match="copy_to"):
            await session.regenerate(branch=True, copy_to="x")

    async def test_messages_of_other_branches_stay(self, client: AsyncClient) -> None:
        session = await client.create_session(model="echo")
        await session.send_and_wait("a")
        await session.regenerate(branch=True)
        answer = await session.regenerate()
        assert (answer.seq, answer.parent_seq) == (3, 1)
        assert [m.seq async for m in session.get_messages(branch_of=2)] == [1, 2]
        # A prompt on the first branch lies between the two parts of the newest answer.
        await session.store_messages(
            [
                NewMessage({"role": "assistant", "content": "more"}, parent_seq=3),
                NewMessage({"role": "user", "content": "b"}, parent_seq=2),
                NewMessage({"role": "assistant", "content": "and more"}, parent_seq=4),
            ]
        )
        answer = await session.regenerate()
        assert (answer.seq, answer.parent_seq) == (6, 1)
        assert [m.seq async for m in session.get_messages(branch_of=5)] == [1, 2, 5]
        assert [m.seq async for m in session.get_messages(branch_of=6)] == [1, 6]

    @pytest.mark.parametrize(
        ("wrong", "error"),
        [
            ({"model": "nobody's"}, ModelNotConfigured),
            ({"options": {"a": float("nan")}}, InvalidField),
            ({"turn_timeout": "long"}, InvalidField),
            ({"on_timeout": "never"}, InvalidField),
        ],
    )
    async def test_an_answer_stays_if_the_model_cannot_be_asked_for_another_one(
        self, client: AsyncClient, wrong: dict[str, Any], error: type[Exception]
    ) -> None:
        session = await client.create_session(model="echo")
        await session.send_and_wait("a")
        with pytest.raises(error):
            await session.regenerate(**wrong)
        assert (await session.refresh()).last_seq == 2
        answer = await session.regenerate(model="echo-2", options={"echo_text": "b"})
        assert (answer.seq, answer.content) == (2, "b")

    async def test_a_running_turn_without_an_answer_is_not_answered_twice(
        self, client: AsyncClient
    ) -> None:
        session = await client.create_session(model="echo")
        sent = await session.send("a", options={"echo_delay_ms": 60_000})
        with pytest.raises(TurnRunning):
            await session.regenerate()
        answer = await session.regenerate(abort_turn=True)
        assert (answer.seq, answer.content) == (2, "echo of 1 message: a")
        assert (await session.get_turn(sent.turn_id)).state == "aborted"

    async def test_a_branch_is_answered_without_an_abort_of_the_running_turn(
        self, client: AsyncClient
    ) -> None:
        session = await client.create_session(model="echo")
        await session.send_and_wait("a")
        sent = await session.send("b", options={"echo_delay_ms": 60_000})
        answer = await session.regenerate(branch=True, abort_turn=True)
        assert (answer.seq, answer.parent_seq) == (4, None)
        assert (await session.get_turn(sent.turn_id)).state == "aborted"

    async def test_tool_results_are_answered_again(self, client: AsyncClient) -> None:
        session = await client.create_session(model="echo")
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        await session.store_messages(
            [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c", "content": "1"},
                {"role": "assistant", "content": "old"},
            ]
        )
        answer = await session.regenerate()
        assert answer.seq == 4
        assert (await session.refresh()).epoch == 1

    async def test_a_session_without_an_answer_gets_one(self, client: AsyncClient) -> None:
        session = await client.create_session(model="echo")
        await session.store_message({"role": "user", "content": "a"})
        assert (await session.regenerate()).content == "echo of 1 message: a"
        assert (await session.refresh()).epoch == 0

    async def test_a_session_without_a_question_is_refused(self, client: AsyncClient) -> None:
        session = await client.create_session(model="echo")
        with pytest.raises(InvalidField, match="no message that a model could answer"):
            await session.regenerate()
        with pytest.raises(SessionNotFound):
            await client.sessions.regenerate("missing")

    async def test_a_taken_id_changes_nothing(self, client: AsyncClient) -> None:
        session = await client.create_session(model="echo")
        await session.send_and_wait("a")
        with pytest.raises(SessionAlreadyExists):
            await session.regenerate(copy_to=session.session_id)
        assert (await session.refresh()).epoch == 0
