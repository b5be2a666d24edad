"""GetMessages(branch_of): the path from a message through its parents."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from sessiond import AsyncClient, Client, MessageNotFound, NewMessage
from sessiond.v1.message_pb2 import Message
from sessiond.v1.session_service_pb2 import (
    MESSAGE_ORDER_ASC,
    MESSAGE_ORDER_DESC,
    MESSAGE_VIEW_BASIC,
)
from sessiond_server.server import Running

from ..support.wire import Wire, error_of, openai


def tree(rng: random.Random, size: int, forks: int) -> dict[int, int]:
    """Return, by seq, the parents of the messages that do not follow the message before them."""
    seqs = rng.sample(range(3, size + 1), forks)
    return {seq: rng.randint(1, seq - 2) for seq in seqs}


def path_of(parents: dict[int, int], seq: int) -> list[int]:
    """Return the seqs on the path to a message. Follows the parents from the message."""
    found: list[int] = []
    while seq:
        found.append(seq)
        seq = parents.get(seq, seq - 1)
    return found[::-1]


async def store_tree(wire: Wire, session_id: str, parents: dict[int, int], size: int) -> None:
    messages: list[Message] = []
    for seq in range(1, size + 1):
        message = openai(f"{seq} " + "x" * (seq * 37 % 900), ("user", "assistant")[seq % 2])
        message.parent_seq = parents.get(seq, 0)
        messages.append(message)
    await wire.import_(session_id, [messages[i : i + 500] for i in range(0, size, 500)])


def seqs(messages: list[Message]) -> list[int]:
    return [message.seq for message in messages]


async def test_random_trees_are_read_as_a_plain_walk_does(wire: Wire) -> None:
    rng = random.Random(5)
    for round_ in range(6):
        name, size = f"s{round_}", rng.choice([12, 60, 700])
        parents = tree(rng, size, min(size // 3, 20))
        await wire.create(name)
        await store_tree(wire, name, parents, size)
        every = {m.seq: m for m in await wire.read(name)}
        for seq in [size, *rng.sample(range(1, size + 1), 8)]:
            expected = path_of(parents, seq)
            # Reads of all messages fill the page cache. Branch reads must not use their pages.
            assert seqs(await wire.read(name)) == list(range(1, size + 1))
            assert await wire.read(name, branch_of=seq) == [every[s] for s in expected]
            after, through, limit = rng.randint(0, size), rng.randint(1, size), rng.randint(1, 30)
            some = [s for s in expected if after < s <= through]
            fields = {"branch_of": seq, "after_seq": after, "through_seq": through}
            assert seqs(await wire.read(name, **fields)) == some
            assert seqs(await wire.read(name, **fields, limit=limit)) == some[:limit]
            down = {**fields, "order": MESSAGE_ORDER_DESC}
            assert seqs(await wire.read(name, **down)) == some[::-1]
            assert seqs(await wire.read(name, **down, limit=limit)) == some[::-1][:limit]
            users = [s for s in some if every[s].role == 3]
            assert seqs(await wire.read(name, **fields, roles=[3])) == users
            assert (
                seqs(await wire.read(name, **down, roles=[3], limit=limit)) == (users[::-1][:limit])
            )
            basic = await wire.read(name, **fields, view=MESSAGE_VIEW_BASIC)
            assert seqs(basic) == some
            assert not any(message.json for message in basic)


@pytest.mark.parametrize("order", [MESSAGE_ORDER_ASC, MESSAGE_ORDER_DESC])
async def test_a_branch_is_resumed_after_each_batch(wire: Wire, order: Any) -> None:
    parents = tree(random.Random(2), 900, 20)
    await wire.create("one")
    await store_tree(wire, "one", parents, 900)
    batches = await wire.batches("one", branch_of=900, order=order)
    expected = path_of(parents, 900)
    whole = [m.seq for batch in batches for m in batch.messages]
    assert whole == (expected if order == MESSAGE_ORDER_ASC else expected[::-1])
    assert {batch.through_seq for batch in batches} == {900}
    await wire.store("one", "later")
    read = 0
    for batch in batches:
        read += len(batch.messages)
        fields = {"branch_of": 900, "order": order, "resume_token": batch.resume_token}
        assert seqs(await wire.read("one", **fields)) == whole[read:]
    # The token of a branch is invalid for another branch and for a read of all messages.
    for branch_of in (0, 899):
        error = await error_of(
            wire.read("one", branch_of=branch_of, order=order, resume_token=batches[0].resume_token)
        )
        assert error.reason == "INVALID_RESUME_TOKEN"


async def test_copies_and_rewinds_keep_the_branches_of_what_they_have(
    wire: Wire, purger: Any, query: Callable[..., Any]
) -> None:
    rng = random.Random(7)
    parents = tree(rng, 120, 20)
    await wire.create("0")
    await store_tree(wire, "0", parents, 120)
    for i in range(20):
        await wire.copy(str(i), str(i + 1))
        await wire.store(str(i + 1), "a", "b")
    for flattened in (False, True):
        if flattened:
            await purger.round()
            assert query("SELECT max(short_segments) FROM sessions") == [(16,)]
        assert seqs(await wire.read("20", branch_of=160)) == [
            *path_of(parents, 120),
            *range(121, 161),
        ]
    await wire.rewind("20", to_seq=110)
    assert seqs(await wire.read("20", branch_of=110)) == path_of(parents, 110)
    child = openai("c")
    child.parent_seq = 50
    assert (await wire.store("20", child)).last_seq == 111
    assert seqs(await wire.read("20", branch_of=111)) == [*path_of(parents, 50), 111]
    assert seqs(await wire.read("19", branch_of=111)) == path_of(parents, 111)


async def test_a_session_without_branches_is_read_as_one_line(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", *"abcd")
    assert await wire.texts("one", branch_of=3) == ["a", "b", "c"]
    for branch_of, reason in ((5, "MESSAGE_NOT_FOUND"), (-1, "INVALID_FIELD")):
        error = await error_of(wire.read("one", branch_of=branch_of))
        assert (error.reason, list(error.fields)) == (reason, ["branch_of"])
    error = await error_of(wire.read("one", branch_of=5))
    assert (error.code, error.metadata["last_seq"]) == (grpc.StatusCode.NOT_FOUND, "4")


async def test_both_clients_read_branches(server: Running) -> None:
    target = f"127.0.0.1:{server.port}"
    async with AsyncClient(target) as client:
        session = await client.create_session("one")
        await session.store_messages([{"role": "user", "content": text} for text in "abc"])
        edited = NewMessage({"role": "user", "content": "B"}, parent_seq=1)
        await session.store_messages([edited, {"role": "user", "content": "C"}])
        for branch_of, expected in ((5, "aBC"), (3, "abc"), (4, "aB")):
            found = [m.content async for m in session.get_messages(branch_of=branch_of)]
            assert "".join(found) == expected
        newest = session.get_messages(branch_of=5, order="desc", limit=2)
        assert [m.content async for m in newest] == ["C", "B"]
        with pytest.raises(MessageNotFound):
            _ = [m async for m in session.get_messages(branch_of=6)]

    def use() -> str:
        with Client(target) as client:
            return "".join(m.content for m in client.get_session("one").get_messages(branch_of=3))

    assert await asyncio.to_thread(use) == "abc"
