"""Message.is_root: a message that follows no other one, such as an edited first prompt."""

from collections.abc import AsyncIterator

import pytest

from sessiond import AsyncClient, NewMessage
from sessiond.v1.message_pb2 import Message
from sessiond.v1.session_service_pb2 import MESSAGE_ORDER_DESC, CopySessionRequest
from sessiond_server.server import Running

from ..support.wire import Wire, error_of, openai


@pytest.fixture
async def aclient(server: Running) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        yield client


def root(text: str) -> Message:
    message = openai(text)
    message.is_root = True
    return message


async def test_a_branch_begins_with_its_root(wire: Wire) -> None:
    await wire.create("one")
    child = openai("f")
    child.parent_seq = 2
    await wire.store("one", "a", "b", root("c"), "d")
    await wire.import_("one", [[root("e")], [child]])
    messages = await wire.read("one")
    assert [message.is_root for message in messages] == [False, False, True, False, True, False]
    expected = {1: "a", 2: "ab", 3: "c", 4: "cd", 5: "e", 6: "abf"}
    for seq, texts in expected.items():
        assert await wire.texts("one", branch_of=seq) == list(texts)
        backwards = await wire.texts("one", branch_of=seq, order=MESSAGE_ORDER_DESC)
        assert backwards == list(texts[::-1])


async def test_the_first_message_is_a_root_in_any_case(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", root("a"), "b")
    assert await wire.texts("one", branch_of=2) == ["a", "b"]


async def test_a_root_has_no_parent(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", "a")
    both = root("b")
    both.parent_seq = 1
    error = await error_of(wire.store("one", both))
    assert list(error.fields) == ["messages[0].is_root"]


async def test_copies_and_exports_keep_roots(wire: Wire, aclient: AsyncClient) -> None:
    await wire.create("one")
    await wire.store("one", "a", root("b"), "c")
    await wire.sessions.CopySession(CopySessionRequest(session_id="one", new_session_id="two"))
    assert await wire.texts("two", branch_of=3) == ["b", "c"]
    exported = await aclient.sessions.export("one")
    assert [message.get("is_root") for message in exported["messages"]] == [None, True, None]
    exported["session"]["session_id"] = "three"
    await aclient.sessions.import_session(exported)
    assert await wire.texts("three", branch_of=3) == ["b", "c"]


async def test_a_turn_is_given_the_branch_from_its_root(aclient: AsyncClient) -> None:
    session = await aclient.create_session("one", model="echo")
    await session.send_and_wait("Tea or coffee?")
    edited = NewMessage({"role": "user", "content": "Coffee."}, is_root=True)
    answer = await session.send_and_wait(messages=[edited])
    assert answer is not None
    assert answer.content == "echo of 1 message: Coffee."
    assert [m.is_root async for m in session.get_messages()] == [False, False, True, False]
