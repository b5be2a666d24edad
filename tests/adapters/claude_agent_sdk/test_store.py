"""Transcripts of the Claude Agent SDK in sessiond."""

import asyncio
import random
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from sessiond import Client, InvalidField, SessiondError

pytest.importorskip("claude_agent_sdk", reason="needs the SDK: `make adapters-test`")

import trio
from claude_agent_sdk import fold_session_summary
from claude_agent_sdk.testing import run_session_store_conformance

from sessiond.adapters.claude_agent_sdk import SessiondSessionStore

KEY: Any = {"project_key": "-home-ada-tea", "session_id": "9b1c"}
MIB = 1024 * 1024


@pytest.fixture
def make_store(target: str) -> Callable[[], SessiondSessionStore]:
    """Makes stores that share nothing."""
    return lambda: SessiondSessionStore(target=target, namespace=uuid.uuid4().hex)


@pytest.fixture
def store(make_store: Callable[[], SessiondSessionStore]) -> SessiondSessionStore:
    return make_store()


def entry(uuid: str | None = None, **fields: Any) -> Any:
    named = {} if uuid is None else {"uuid": uuid}
    return {"type": "user", **named, **fields}


async def test_the_14_contracts_hold_on_asyncio(
    make_store: Callable[[], SessiondSessionStore],
) -> None:
    await run_session_store_conformance(make_store)


def test_the_14_contracts_hold_on_trio(make_store: Callable[[], SessiondSessionStore]) -> None:
    trio.run(run_session_store_conformance, make_store)


async def test_entries_come_back_exactly(store: SessiondSessionStore) -> None:
    entries = [
        entry("a", text="ü € 𝄞 \x00 \u2028", none=None, nested={"b": [1, 2.5, -0.0, 1e300, []]}),
        entry("b", big=2**70, long=1234567890123456789012, exact=0.1, lone="\ud800"),
        entry(sessionId="s", message={"role": "assistant", "content": [{"type": "text"}]}),
        {"type": "custom-title", "customTitle": "", "keys": {"": 1, "ä": 2}},
    ]
    await store.append(KEY, entries)
    assert await store.load(KEY) == entries
    assert [str(e) for e in await store.load(KEY) or []] == [str(e) for e in entries]


async def test_a_uuid_is_stored_once_whatever_is_repeated(store: SessiondSessionStore) -> None:
    a, b, c, d = (entry(name) for name in "abcd")
    await store.append(KEY, [a, b, b])
    await store.append(KEY, [a, b])
    await store.append(KEY, [b, c, a, d, c])
    assert await store.load(KEY) == [a, b, c, d]


async def test_entries_without_a_uuid_are_appended_each_time(store: SessiondSessionStore) -> None:
    await store.append(KEY, [entry(n=1), entry("", n=2), entry(n=1)])
    await store.append(KEY, [entry(n=1), entry(uuid=None, n=3)])
    assert [e["n"] for e in await store.load(KEY) or []] == [1, 2, 1, 1, 3]


async def test_subagents_entries_are_stored_once_too(store: SessiondSessionStore) -> None:
    key = {**KEY, "subpath": "subagents/agent-1"}
    await store.append(key, [entry("a"), entry("b")])
    await store.append(key, [entry("b"), entry("c")])
    assert [e["uuid"] for e in await store.load(key) or []] == ["a", "b", "c"]


@pytest.mark.parametrize("count", [10, 500])
async def test_repeated_imports_add_only_what_is_new(
    store: SessiondSessionStore, count: int
) -> None:
    entries = [entry(f"u{i}", customTitle=f"title {i}") for i in range(count)]
    await store.append(KEY, entries[: count // 2])
    await store.append(KEY, entries)
    await store.append(KEY, entries[: count // 2])
    assert await store.load(KEY) == entries
    [summary] = await store.list_session_summaries(KEY["project_key"])
    # The summary has the newest title, although entries with older titles were repeated last.
    assert summary["data"]["custom_title"] == f"title {count - 1}"


async def test_uuids_of_any_length_name_entries(store: SessiondSessionStore) -> None:
    entries = [entry("a" * n) for n in (256, 257, 5_000)]
    await store.append(KEY, entries)
    await store.append(KEY, entries)
    assert await store.load(KEY) == entries


async def test_a_transcript_of_20_mib_is_appended_at_once_and_repeated(
    store: SessiondSessionStore,
) -> None:
    entries = [entry(f"u{i}", data="x" * 10_000) for i in range(2_100)]
    assert sum(len(e["data"]) for e in entries) > 20 * MIB
    await store.append(KEY, entries)
    await store.append(KEY, entries)
    assert await store.load(KEY) == entries


async def test_a_large_append_is_all_or_nothing(store: SessiondSessionStore) -> None:
    entries = [entry(f"u{i}") for i in range(1_500)]
    # The entry is larger than a message may be.
    too_large = entry("large", data="x" * 20 * MIB)
    with pytest.raises(SessiondError):
        await store.append(KEY, [*entries, too_large])
    assert await store.load(KEY) is None
    await store.append(KEY, entries)
    assert await store.load(KEY) == entries


async def test_entries_of_several_mib_are_kept(store: SessiondSessionStore) -> None:
    screenshot = entry("png", data="A" * 5 * MIB)
    await store.append(KEY, [screenshot, entry("b")])
    assert await store.load(KEY) == [screenshot, entry("b")]


async def test_keys_of_any_length_and_character_are_apart(store: SessiondSessionStore) -> None:
    keys: list[Any] = [
        {"project_key": project, "session_id": session, **more}
        for project in ("-" + "a" * 300, "-" + "a" * 1_000, "-" + "a" * 999 + "b", "a/b", "a%2Fb")
        for session in ("s", "s/x", "ä" * 200)
        for more in ({}, {"subpath": "x"}, {"subpath": "subagents/" + "y" * 900})
    ]
    for i, key in enumerate(keys):
        await store.append(key, [entry(n=i)])
    for i, key in enumerate(keys):
        assert await store.load(key) == [entry(n=i)]
    for project in {key["project_key"] for key in keys}:
        listed = await store.list_sessions(project)
        assert sorted(s["session_id"] for s in listed) == ["s", "s/x", "ä" * 200]
        subkeys = await store.list_subkeys({"project_key": project, "session_id": "s"})
        assert sorted(subkeys) == ["subagents/" + "y" * 900, "x"]
    await store.delete({"project_key": "a/b", "session_id": "s"})
    left = [await store.load(key) for key in keys]
    assert left.count(None) == 3


@pytest.mark.parametrize(
    "key",
    [
        {"project_key": "", "session_id": "s"},
        {"project_key": "p", "session_id": ""},
        {"project_key": "p", "session_id": None},
    ],
)
async def test_empty_parts_of_a_key_are_refused(store: SessiondSessionStore, key: Any) -> None:
    for call in (store.append(key, [entry()]), store.load(key), store.delete(key)):
        with pytest.raises(InvalidField):
            await call


async def test_an_empty_subpath_is_the_main_transcript(store: SessiondSessionStore) -> None:
    await store.append({**KEY, "subpath": ""}, [entry("a")])
    assert await store.load(KEY) == [entry("a")]


async def test_of_concurrent_appends_by_several_stores_each_is_folded(
    make_store: Callable[[], SessiondSessionStore], target: str, namespace: str
) -> None:
    stores = [SessiondSessionStore(target=target, namespace=namespace) for _ in range(4)]
    await asyncio.gather(
        *(
            store.append(KEY, [entry(f"{i}-{n}", timestamp=f"2026-01-0{i + 1}T00:00:0{n}Z", tag=n)])
            for n in range(5)
            for i, store in enumerate(stores)
        )
    )
    entries = await stores[0].load(KEY) or []
    assert len(entries) == 20
    [summary] = await stores[1].list_session_summaries(KEY["project_key"])
    assert summary["data"] == fold_session_summary(None, KEY, entries)["data"]


async def test_a_summary_takes_in_what_other_programs_have_appended(
    store: SessiondSessionStore, client: Client
) -> None:
    await store.append(KEY, [entry("a", customTitle="one")])
    session_id = store.sessiond_id(KEY)
    foreign = entry("b", customTitle="two")
    client.sessions.store_message(
        session_id, foreign, format="other", format_name="claude-code", message_id="b"
    )
    # If a transcript has no summary, the SDK reads its entries.
    assert await store.list_session_summaries(KEY["project_key"]) == []
    await store.append(KEY, [entry("c")])
    [summary] = await store.list_session_summaries(KEY["project_key"])
    assert summary["data"]["custom_title"] == "two"
    client.sessions.rewind(session_id, drop_last=2)
    assert await store.list_session_summaries(KEY["project_key"]) == []
    await store.append(KEY, [entry("d")])
    [summary] = await store.list_session_summaries(KEY["project_key"])
    assert summary["data"]["custom_title"] == "one"
    assert [e["uuid"] for e in await store.load(KEY) or []] == ["a", "d"]


async def test_a_transcript_that_another_store_deleted_begins_anew(
    target: str, namespace: str
) -> None:
    one, other = (SessiondSessionStore(target=target, namespace=namespace) for _ in range(2))
    for i in range(3):
        await one.append(KEY, [entry(f"old-{i}", customTitle="old")])
    await other.delete(KEY)
    await one.append(KEY, [entry("new", gitBranch="main")])
    assert await one.load(KEY) == [entry("new", gitBranch="main")]
    [summary] = await other.list_session_summaries(KEY["project_key"])
    assert "custom_title" not in summary["data"]
    await one.delete(KEY)
    await one.append(KEY, [entry("newer")])
    assert await other.load(KEY) == [entry("newer")]


async def test_a_transcript_that_another_store_deleted_is_created_with_its_settings(
    client: Client, target: str, namespace: str
) -> None:
    one, other = (
        SessiondSessionStore(target=target, namespace=namespace, create={"user": "ann"})
        for _ in range(2)
    )
    await one.append(KEY, [entry("a")])
    await one.append(KEY, [entry("b")])
    await other.delete(KEY)
    await one.append(KEY, [entry("c")])
    info = client.sessions.get(one.sessiond_id(KEY))
    assert (info.user, info.last_seq) == ("ann", 1)
    assert info.metadata["claude"]["sessionId"] == KEY["session_id"]


async def test_an_append_in_a_row_costs_one_call(
    store: SessiondSessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append(KEY, [entry("a")])
    client = store._backend._connection.client
    monkeypatch.setattr(client.sessions, "get", None)
    await store.append(KEY, [entry("b")])
    assert len(await store.load(KEY) or []) == 2


async def test_a_prompt_too_large_for_a_summary_is_no_obstacle(
    store: SessiondSessionStore,
) -> None:
    await store.append(KEY, [entry("a", lastPrompt="x" * 2 * MIB)])
    await store.append(KEY, [entry("b")])
    assert len(await store.load(KEY) or []) == 2
    assert await store.list_session_summaries(KEY["project_key"]) == []
    assert len(await store.list_sessions(KEY["project_key"])) == 1


async def test_sessions_are_made_with_the_given_settings(
    target: str, namespace: str, client: Client
) -> None:
    store = SessiondSessionStore(
        target=target,
        namespace=namespace,
        create={"user": "ada", "never_expires": True, "metadata": {"team": "tea"}},
    )
    await store.append(KEY, [entry("a")])
    info = client.sessions.get(store.sessiond_id(KEY))
    assert (info.user, info.never_expires) == ("ada", True)
    names = {"projectKey": KEY["project_key"], "sessionId": KEY["session_id"]}
    assert info.metadata == {"team": "tea", "claude": names}


async def test_times_are_those_of_the_last_append(store: SessiondSessionStore) -> None:
    await store.append(KEY, [entry("a")])
    [first] = await store.list_sessions(KEY["project_key"])
    assert abs(first["mtime"] - time.time() * 1000) < 60_000
    await store.append(KEY, [entry("b")])
    [second] = await store.list_sessions(KEY["project_key"])
    assert second["mtime"] >= first["mtime"]


async def test_random_overlapping_appends_equal_a_reference(
    store: SessiondSessionStore,
) -> None:
    rng = random.Random(7)
    reference: list[Any] = []
    for _ in range(40):
        batch = [
            entry(f"u{rng.randrange(60)}", tag=rng.choice(["x", "", "y"]), customTitle=str(i))
            if rng.random() < 0.8
            else entry(n=i)
            for i in range(rng.randrange(1, 8))
        ]
        await store.append(KEY, batch)
        known = {e["uuid"] for e in reference if "uuid" in e}
        for e in batch:
            if e.get("uuid") not in known:
                reference.append(e)
                known |= {e["uuid"]} if "uuid" in e else set()
    assert await store.load(KEY) == reference
    [summary] = await store.list_session_summaries(KEY["project_key"])
    assert summary["data"] == fold_session_summary(None, KEY, reference)["data"]
