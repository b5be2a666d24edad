"""Sessions of the OpenAI Agents SDK in sessiond."""

import asyncio
import random
from typing import Any

import pytest

from sessiond import Client, InvalidField, MessageTooLarge

pytest.importorskip("agents", reason="needs the SDK: `make adapters-test`")

from agents import Session as SdkSession
from agents import SessionSettings

from sessiond.adapters.openai_agents import SessiondSession

MIB = 1024 * 1024


@pytest.fixture
def session(target: str, namespace: str) -> SessiondSession:
    return SessiondSession("chat", target=target, namespace=namespace)


def user(text: str) -> Any:
    return {"role": "user", "content": text}


# Items as the SDK makes them, and some that no schema has.
ITEMS: list[Any] = [
    user("ü € 𝄞 \x00 \ud800"),
    {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "b", "annotations": [], "logprobs": None}],
    },
    {"type": "function_call", "call_id": "c1", "name": "tea", "arguments": '{"n": 1.0}'},
    {"type": "function_call_output", "call_id": "c1", "output": "done"},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x" * 100},
    {"type": "compaction", "id": "cmp_1", "encrypted_content": "y"},
    {"type": "item_reference", "id": "msg_1"},
    {"__enc__": 1, "v": 1, "kid": "k", "payload": "gAAAA"},
    {"role": "tool", "tool_call_id": "c2", "content": "of Chat Completions"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c2"}]},
    {"role": "wizard", "content": 7},
    {"role": None, "type": "step", "big": 2**70, "long": 12345678901234567890123, "f": -0.0},
    {"type": 5},
    {},
]


async def test_a_session_that_somebody_deletes_is_created_again_with_its_settings(
    client: Client, target: str, namespace: str
) -> None:
    session = SessiondSession("chat", target=target, namespace=namespace, create={"user": "ann"})
    for text in ("a", "b"):
        await session.add_items([user(text)])
    client.sessions.delete(session.sessiond_id)
    await session.add_items([user("c")])
    assert await session.get_items() == [user("c")]
    assert client.sessions.get(session.sessiond_id).user == "ann"


async def test_items_come_back_exactly(session: SessiondSession) -> None:
    for item in ITEMS:
        await session.add_items([item])
    await session.add_items(ITEMS)
    assert repr(await session.get_items()) == repr(ITEMS + ITEMS)
    assert isinstance(session, SdkSession)


async def test_items_of_openai_are_stored_as_such(session: SessiondSession, client: Client) -> None:
    await session.add_items(ITEMS[1:5])
    stored = client.sessions.get_messages(session.sessiond_id).to_list()
    assert [m.format for m in stored] == ["openai"] * 4
    assert [m.role for m in stored] == ["user", "assistant", "assistant", "tool"]
    await session.add_items([ITEMS[9]])
    last = client.sessions.get_message(session.sessiond_id, 5)
    assert (last.format, last.format_name) == ("other", "openai-agents")


async def test_limits_keep_the_latest_items(target: str, namespace: str) -> None:
    session = SessiondSession(
        "chat", target=target, namespace=namespace, session_settings={"limit": 3}
    )
    assert await session.get_items() == []
    items = [user(str(i)) for i in range(10)]
    await session.add_items(items)
    assert await session.get_items() == items[-3:]
    assert await session.get_items(limit=5) == items[-5:]
    assert await session.get_items(limit=50) == items
    assert await session.get_items(limit=0) == []
    assert await session.get_items(limit=-1) == items
    session.session_settings = SessionSettings()
    assert await session.get_items() == items


def test_unknown_settings_are_refused() -> None:
    with pytest.raises((TypeError, ValueError)):
        SessiondSession("chat", target="x", session_settings={"limits": 3})
    assert SessiondSession("chat", target="x").session_settings == SessionSettings()


async def test_pop_takes_the_latest_item_until_there_is_none(session: SessiondSession) -> None:
    assert await session.pop_item() is None
    await session.add_items([user("a"), user("b")])
    assert await session.pop_item() == user("b")
    await session.add_items([user("c")])
    assert [await session.pop_item() for _ in range(3)] == [user("c"), user("a"), None]


async def test_concurrent_pops_get_different_items(target: str, namespace: str) -> None:
    sessions = [SessiondSession("chat", target=target, namespace=namespace) for _ in range(4)]
    items = [user(str(i)) for i in range(20)]
    await sessions[0].add_items(items)
    popped = await asyncio.gather(*(sessions[i % 4].pop_item() for i in range(24)))
    assert sorted(str(p) for p in popped if p) == sorted(map(str, items))
    assert popped.count(None) == 4


async def test_a_cleared_session_takes_new_items(session: SessiondSession) -> None:
    await session.clear_session()
    await session.add_items([user("a")])
    await session.clear_session()
    assert await session.get_items() == []
    await session.add_items([user("b")])
    assert await session.get_items() == [user("b")]


async def test_5000_items_are_added_at_once_and_in_order(session: SessiondSession) -> None:
    items = [user(str(i)) for i in range(5_000)]
    await session.add_items(items)
    assert await session.get_items() == items


async def test_items_of_several_mib_and_appends_of_20_mib_are_kept(
    session: SessiondSession,
) -> None:
    image = f"data:image/png;base64,{'A' * 5 * MIB}"
    items = [{"role": "user", "content": [{"type": "input_image", "image_url": image}]}] * 4
    await session.add_items([*items, user("what is this?")])
    assert await session.get_items() == [*items, user("what is this?")]
    assert await session.pop_item() == user("what is this?")
    assert await session.pop_item() == items[0]


async def test_adding_is_all_or_nothing(session: SessiondSession) -> None:
    await session.add_items([user("a")])
    with pytest.raises(MessageTooLarge):
        await session.add_items([user("b"), user("x" * 20 * MIB)])
    with pytest.raises(InvalidField, match=r"items\[1\]"):
        await session.add_items([user("b"), {"content": object()}])  # type: ignore[list-item]
    assert await session.get_items() == [user("a")]


async def test_the_session_is_made_with_the_given_settings(
    target: str, namespace: str, client: Client
) -> None:
    session = SessiondSession(
        "chat", target=target, namespace=namespace, create={"user": "ada", "title": "Tea"}
    )
    await session.add_items([user("a")])
    info = client.sessions.get(f"{namespace}/chat")
    assert (session.sessiond_id, info.user, info.title) == (info.session_id, "ada", "Tea")


async def test_without_a_namespace_the_id_is_the_given_one(target: str, namespace: str) -> None:
    assert SessiondSession(namespace, target=target).sessiond_id == namespace


async def test_a_snapshot_replaces_the_end_of_the_history_at_once(
    session: SessiondSession,
) -> None:
    items = [user(str(i)) for i in range(10)]
    await session.add_items(items)
    snapshot = await session._get_compaction_snapshot(4)
    assert snapshot is not None
    assert (snapshot.items, snapshot.complete) == (items[-4:], False)
    assert await snapshot.replace_suffix(1, [user("summary")])
    assert await session.get_items() == [*items[:7], user("summary")]
    # The history has changed since.
    assert not await snapshot.replace_suffix(0, [user("late")])
    whole = await session._get_compaction_snapshot(8)
    assert whole is not None
    assert whole.complete
    await session.add_items([user("new")])
    assert not await whole.replace_suffix(0, [])
    assert len(await session.get_items()) == 9


async def test_a_snapshot_removes_expired_items_before_it(session: SessiondSession) -> None:
    items = [user(str(i)) for i in range(6)]
    await session.add_items(items)
    snapshot = await session._get_compaction_snapshot(
        2, prune_prefix=lambda item: item["content"] in ("0", "1", "3")
    )
    assert snapshot is not None
    assert await snapshot.replace_suffix(0, [user("summary")])
    assert await session.get_items() == [*items[2:4], user("summary")]


async def test_a_snapshot_of_an_empty_session_is_complete(session: SessiondSession) -> None:
    snapshot = await session._get_compaction_snapshot(2)
    assert snapshot is not None
    assert (snapshot.items, snapshot.complete) == ([], True)
    assert not await snapshot.replace_suffix(0, [user("a")])


async def test_all_items_are_replaced_at_once_unless_they_are_too_many(
    session: SessiondSession,
) -> None:
    assert not await session._atomic_replace_items([user("a")])
    await session.add_items([user("a"), user("b")])
    assert not await session._atomic_replace_items([user("x")] * 1_001)
    assert await session._atomic_replace_items([*ITEMS])
    assert repr(await session.get_items()) == repr(ITEMS)


async def test_random_calls_equal_those_of_a_list(session: SessiondSession) -> None:
    rng = random.Random(11)
    reference: list[Any] = []
    for i in range(150):
        match rng.randrange(10):
            case 0 | 1 | 2 | 3:
                added = [rng.choice([user(f"{i}-{n}"), *ITEMS]) for n in range(rng.randrange(4))]
                await session.add_items(added)
                reference += added
            case 4 | 5 | 6:
                expected = reference.pop() if reference else None
                assert await session.pop_item() == expected
            case 7 | 8:
                limit = rng.randrange(8)
                latest = reference[-limit:] if limit else []
                assert await session.get_items(limit) == latest
            case _ if rng.random() < 0.3:
                await session.clear_session()
                reference = []
    assert await session.get_items() == reference
