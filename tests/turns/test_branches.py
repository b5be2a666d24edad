"""Branches: the input of a turn follows the messages' parents."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import pytest

from sessiond.v1.message_pb2 import Message
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import ImportSessionRequest, StoreMessagesRequest
from sessiond_server.messages.branches import is_ancestor, path
from sessiond_server.messages.store.segments import Segment

from ..support.model_server import ModelServer
from ..support.turns import send
from ..support.wire import Wire, openai
from .calls import send_held


def child(parent_seq: int, text: str, role: str = "user") -> Message:
    """Return a message whose parent is not the last message."""
    message = openai(text, role)
    message.parent_seq = parent_seq
    return message


def texts(models: ModelServer) -> list[str]:
    """Return the texts of the last request."""
    return [message["content"] for message in models.requests[-1].body["messages"]]


async def test_a_turn_is_given_the_branch_of_its_prompt(one: Wire, models: ModelServer) -> None:
    await one.store("one", "a", openai("b", "assistant"), "c", openai("d", "assistant"))
    await send(one, "one", messages=[child(2, "e")])
    assert texts(models) == ["a", "b", "e"]
    await send(one, "one", "f")
    assert texts(models) == ["a", "b", "e", "Hello from the model server.", "f"]
    assert [message.parent_seq for message in await one.read("one")] == [0, 0, 0, 0, 2, 0, 0, 0]
    # Continue the other branch.
    await send(one, "one", messages=[child(4, "g")])
    assert texts(models) == ["a", "b", "c", "d", "g"]


async def test_instructions_of_other_branches_are_not_given(
    wire: Wire, models: ModelServer
) -> None:
    for config in ({}, {"context": {"max_messages": 2}}):
        name = f"with {len(config)}"
        await wire.create(name, config=config)
        await wire.store(
            name, openai("s1", "system"), "a", openai("s2", "system"), child(2, "b", "assistant")
        )
        await send(wire, name, "c")
        assert texts(models)[:1] + texts(models)[-1:] == ["s1", "c"]
        assert "s2" not in texts(models)


async def test_an_answer_follows_the_message_that_it_answers(
    one: Wire, models: ModelServer
) -> None:
    await one.store("one", "a", openai("b", "assistant"))
    sent = await send_held(one, models, prompt="c")
    await one.store("one", child(1, "elsewhere", "assistant"))
    models.release()
    assert (await sent.end()).last_seq == 5
    assert (await one.read("one"))[4].parent_seq == 3
    await send(one, "one", "d")
    assert texts(models) == ["a", "b", "c", "held back", "d"]


async def test_what_is_stored_on_the_branch_of_a_running_turn_is_not_lost(
    one: Wire, models: ModelServer
) -> None:
    sent = await send_held(one, models, prompt="a")
    await one.store("one", "meanwhile")
    models.release()
    await sent.end()
    assert (await one.read("one"))[2].parent_seq == 0
    await send(one, "one", "b")
    assert texts(models) == ["a", "meanwhile", "held back", "b"]


async def test_a_turn_answers_its_own_prompt_whatever_branch_was_stored_meanwhile(
    one: Wire, models: ModelServer
) -> None:
    await one.store("one", "a", openai("b", "assistant"))
    first = await send_held(one, models, prompt="c")
    waiting = asyncio.create_task(send(one, "one", "d"))
    await one.store("one", child(1, "elsewhere", "assistant"))
    models.release()
    await first.end()
    await waiting
    assert texts(models) == ["a", "b", "c", "held back", "d"]


@pytest.mark.parametrize("seed", range(3))
async def test_a_history_edited_in_twenty_places_and_its_copies_follow_the_same_path(
    one: Wire, models: ModelServer, seed: int
) -> None:
    rng = random.Random(seed)
    parents: list[int] = [0]
    for seq in range(2, 61):
        is_edit = seq % 3 == 0
        parents.append(rng.randint(1, seq - 1) if is_edit else seq - 1)
    name, copies = "one", 0
    for seq, parent in enumerate(parents, 1):
        role = "assistant" if seq % 2 else "user"
        await one.store(name, child(parent if parent != seq - 1 else 0, str(seq), role))
        if seq % 15 == 0:
            copies += 1
            await one.copy(name, f"copy-{copies}")
            name = f"copy-{copies}"
    expected, at = [], 60
    while at:
        expected.insert(0, str(at))
        at = parents[at - 1]
    await send(one, name, "go on")
    sent = [text for text in texts(models) if text.isdigit()]
    assert sent == expected


async def test_a_bulk_append_keeps_its_branches(one: Wire, models: ModelServer) -> None:
    await one.import_("one", [[openai("a"), openai("b", "assistant")], [child(1, "c")]])
    await send(one, "one")
    assert texts(models) == ["a", "c"]


async def test_a_batch_keeps_its_branches(one: Wire, models: ModelServer) -> None:
    requests = [
        StoreMessagesRequest(session_id="one", messages=messages)
        for messages in ([openai("a"), openai("b", "assistant")], [child(1, "c")])
    ]
    await one.store_batch(*requests)
    await send(one, "one")
    assert texts(models) == ["a", "c"]


async def test_an_imported_session_keeps_its_branches(one: Wire, models: ModelServer) -> None:
    async def pieces() -> AsyncIterator[ImportSessionRequest]:
        yield ImportSessionRequest(session=Session(session_id="two"), messages=[openai("a")])
        yield ImportSessionRequest(messages=[openai("b", "assistant"), child(1, "c")])

    await one.sessions.ImportSession(pieces())
    await send(one, "two")
    assert texts(models) == ["a", "c"]


async def test_a_flattened_copy_keeps_its_branches(
    one: Wire, models: ModelServer, purger: Any, query: Callable[..., Any]
) -> None:
    name, expected = "one", []
    for i in range(20):
        # Each pair of messages follows the first message of the previous pair.
        prompt = child(2 * i - 1, str(i)) if i else openai("0")
        await one.store(name, prompt, openai(f"not {i}", "assistant"))
        expected.append(str(i))
        await one.copy(name, f"copy-{i}")
        name = f"copy-{i}"
    await purger.round()
    assert query("SELECT max(short_segments) FROM sessions") == [(16,)]
    await one.store(name, child(39, "go on"))
    await send(one, name)
    assert texts(models) == [*expected, "go on"]


async def test_links_go_with_their_messages(
    one: Wire, purger: Any, query: Callable[..., Any]
) -> None:
    await one.store("one", "a", "b", child(1, "c"))
    await one.delete("one")
    await purger.round()
    assert query("SELECT count(*) FROM parent_links") == [(0,)]


async def test_a_parent_that_is_the_message_before_makes_no_branch(
    one: Wire, query: Callable[..., Any]
) -> None:
    await one.store("one", "a", child(1, "b"), child(2, "c"))
    assert query("SELECT is_branched FROM sessions") == [(False,)]
    assert query("SELECT count(*) FROM parent_links") == [(0,)]


def test_random_trees_have_the_paths_of_a_plain_walk() -> None:
    rng = random.Random(1)
    key: Any = None
    for _ in range(200):
        size = rng.randint(1, 40)
        parents = [0] + [
            rng.choice([seq - 1, rng.randint(1, seq - 1)]) for seq in range(2, size + 1)
        ]
        links = {
            seq: parent for seq, parent in enumerate(parents, 1) if seq > 1 and parent != seq - 1
        }
        ends = sorted({*rng.sample(range(1, size + 1), min(3, size)), size})
        segments = [Segment(key, key, before + 1, end) for before, end in pairwise([0, *ends])]
        for seq in range(size + 1):
            walked, at = [], seq
            while at:
                walked.insert(0, at)
                at = parents[at - 1]
            parts = path(segments, links, seq)
            assert [s for part in parts for s in range(part.first_seq, part.last_seq + 1)] == walked
            for other in range(1, seq + 1):
                assert is_ancestor(links, other, seq) == (other in walked)
