"""Conversations of Pydantic AI in sessiond, in cases that the store in memory does not have."""

import asyncio
import contextlib
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from sessiond import Client

pytest.importorskip("pydantic_ai", reason="needs the framework: `make adapters-test`")

import trio
from pydantic_ai import (
    BinaryImage,
    Conversation,
    DeferredToolRequests,
    ModelRequest,
    ModelResponse,
    RunUsage,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import UserPromptPart

from sessiond.adapters.pydantic_ai import SessiondConversationStore
from sessiond.errors import InvalidField, MessageTooLarge, SessionDestroyed

from .conversations import answer, ask, talk, texts

MIB = 1024 * 1024


async def test_what_was_saved_is_loaded_by_another_process(
    store: SessiondConversationStore, other: SessiondConversationStore
) -> None:
    image = BinaryImage(b"\x89PNG\xff", media_type="image/png")
    messages = [
        ModelRequest(parts=[UserPromptPart(["look ☕", image])]),
        ModelResponse(parts=[ToolCallPart("look", {"big": 2**70, "é": [1.5, None]}, "c1")]),
        ModelRequest(parts=[ToolReturnPart("look", {"size": 10**30}, tool_call_id="c1")]),
        answer("a picture\u2028\x00"),
    ]
    usage = RunUsage(requests=2, input_tokens=7, details={"x": 1})
    saved = Conversation(conversation_id="c", messages=messages, usage=usage)
    entries = await store.save(saved, scope="ann")
    loaded = await other.load("c", scope="ann")
    assert loaded == saved
    assert await other.load_entries("c") == entries
    assert await other.read_entry(entries[2].id) == entries[2]
    assert await other.load("c", scope="bob") is None


async def test_a_session_has_the_conversation_in_it(
    store: SessiondConversationStore, client: Client
) -> None:
    await store.save(talk("c", "Tea?", "Yes."), scope="ann")
    info = client.sessions.get(store.sessiond_id("c"))
    assert (info.user, info.last_seq) == ("ann", 2)
    first, second = client.sessions.get_messages(info.session_id)
    assert (first.role, second.role) == ("user", "assistant")
    assert {first.format_name, second.format_name} == {"pydantic-ai"}


async def test_odd_ids_are_apart(store: SessiondConversationStore, namespace: str) -> None:
    assert store.sessiond_id("user-42/ü") == f"{namespace}/user-42/ü"
    ids = ["", " ", "a\n", "a", "\ud800", "x" * 5000, "x" * 5001, "a/b", "a%2Fb", "☕" * 800]
    ids.append(store.sessiond_id("").removeprefix(f"{namespace}/"))
    for id in ids:
        await store.save(talk(id, f"{id!r}"))
    for id in ids:
        assert texts(await store.load(id)) == [f"{id!r}"]
    listed = await store.list_conversations()
    assert sorted(record.conversation_id for record in listed) == sorted(ids)


async def test_of_concurrent_saves_one_wins(
    store: SessiondConversationStore, other: SessiondConversationStore
) -> None:
    await store.save(talk("c", "Tea?"))
    for round_ in range(5):
        loaded = [await side.load("c") for side in (store, other) * 4]
        for i, conversation in enumerate(loaded):
            assert conversation is not None
            if i % 3:
                conversation.messages.append(answer(f"{round_}.{i}"))
        outcomes = await asyncio.gather(
            *(side.save(loaded[i]) for i, side in enumerate((store, other) * 4)),  # type: ignore[arg-type]
            return_exceptions=True,
        )
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert len(errors) == 7
        assert {type(error) for error in errors} == {ConversationConflict}


async def test_of_concurrent_first_saves_one_wins(
    store: SessiondConversationStore, other: SessiondConversationStore
) -> None:
    for round_ in range(5):
        id = f"c{round_}"
        made = [talk(id, *["x"] * (i % 3)) for i in range(8)]
        outcomes = await asyncio.gather(
            *((store, other)[i % 2].save(one) for i, one in enumerate(made)),
            return_exceptions=True,
        )
        winners = [i for i, found in enumerate(outcomes) if not isinstance(found, Exception)]
        assert len(winners) == 1
        assert await store.load(id) == made[winners[0]]


async def test_a_conflict_leaves_nothing_behind(
    store: SessiondConversationStore, other: SessiondConversationStore, client: Client
) -> None:
    await store.save(talk("c", "Tea?"))
    stale = await other.load("c")
    assert stale is not None
    await store.branch("c", at=0, expected_revision=stale.revision)
    stale.messages.append(answer("Yes."))
    with pytest.raises(ConversationConflict):
        await other.save(stale)
    assert client.sessions.get(store.sessiond_id("c")).last_seq == 1


async def test_a_deleted_conversation_takes_its_messages_and_leaves_those_of_forks(
    store: SessiondConversationStore, client: Client
) -> None:
    entries = await store.save(talk("c", "Tea?", "Yes.", "Milk?"))
    await store.fork("c", at=2, new_conversation_id="f")
    await store.delete("c")
    assert not client.sessions.list(session_id_prefix=store.sessiond_id("c")).to_list()
    with pytest.raises(KeyError):
        await store.read_entry(entries[2].id)
    assert texts(await store.load("f")) == ["Tea?", "Yes."]
    await store.save(talk("c", "Coffee?"))
    assert texts(await store.load("c")) == ["Coffee?"]


async def test_a_deletion_that_was_cut_off_is_a_deletion(
    store: SessiondConversationStore, client: Client
) -> None:
    await store.save(talk("c", "Tea?"))
    client.sessions.update(store.sessiond_id("c"), state={"pydantic_ai": {"is_deleted": True}})
    assert await store.load("c") is None
    assert await store.list_conversations() == []
    await store.save(talk("c", "Coffee?", "No."))
    assert texts(await store.load("c")) == ["Coffee?", "No."]


async def test_an_edited_first_prompt_is_a_branch(store: SessiondConversationStore) -> None:
    conversation = talk("c", "Tea?", "Yes.")
    [first, last] = await store.save(conversation)
    conversation.messages[0] = ask("Coffee?")
    await store.save(conversation)
    assert texts(await store.load("c")) == ["Coffee?", "Yes."]
    [entry, _] = await store.load_entries("c") or []
    assert entry.parent_id is None
    record = await store.read_record("c")
    assert record is not None
    assert record.branches == [last.id]
    back = await store.branch("c", from_entry=last.id, expected_revision=record.revision)
    assert texts(back) == ["Tea?", "Yes."]
    assert (await store.read_entry(first.id)).parent_id is None


async def test_messages_and_transcripts_above_a_batch_are_saved_in_one_commit(
    store: SessiondConversationStore, other: SessiondConversationStore
) -> None:
    large = BinaryImage(bytes(range(256)) * 4096 * 8, media_type="image/png")  # 8 MiB
    messages = [ModelRequest(parts=[UserPromptPart(["look", large])])]
    messages += [ask("x" * MIB) for _ in range(20)]
    messages += [ask(str(i)) for i in range(3000)]
    saved = Conversation(conversation_id="c", messages=[*messages])
    assert len(await store.save(saved)) == 3021
    assert await other.load("c") == saved
    window = await other.load("c", limit=2)
    assert window is not None
    window.messages.append(answer("Yes."))
    await other.save(window)
    assert texts(await store.load("c"))[-2:] == ["2999", "Yes."]
    saved.messages.append(ask("x" * 17 * MIB))
    with pytest.raises(ConversationConflict):
        await store.save(saved)
    loaded = await store.load("c", limit=0)
    assert loaded is not None
    loaded.messages.append(ask("x" * 17 * MIB))
    with pytest.raises(MessageTooLarge):
        await store.save(loaded)


async def test_what_json_cannot_hold_is_refused_and_nothing_is_saved(
    store: SessiondConversationStore,
) -> None:
    for value in ("\ud800", object()):
        returned = ToolReturnPart("t", value, tool_call_id="c")
        broken = Conversation(
            conversation_id="c", messages=[ask("a"), ModelRequest(parts=[returned])]
        )
        with pytest.raises(UserError, match="JSON"):
            await store.save(broken)
        assert await store.load("c") is None


def test_it_is_used_from_several_loops_threads_and_trio(store: SessiondConversationStore) -> None:
    async def work(id: str) -> None:
        await store.save(talk(id, "Tea?"))
        assert texts(await store.load(id)) == ["Tea?"]

    threads = [threading.Thread(target=asyncio.run, args=[work(str(i))]) for i in range(4)]
    for thread in threads:
        thread.start()
    trio.run(work, "trio")
    for thread in threads:
        thread.join()
    asyncio.run(work("last"))
    assert len(asyncio.run(store.list_conversations())) == 6  # type: ignore[arg-type]


async def test_listings_are_of_the_namespace(target: str, namespace: str, client: Client) -> None:
    whole = SessiondConversationStore(target=target)
    inner = SessiondConversationStore(target=target, namespace=namespace)
    id = uuid.uuid4().hex
    await inner.save(talk(id, "a"))
    await whole.save(talk(id, "b"))
    assert [r.conversation_id for r in await inner.list_conversations()] == [id]
    listed = [r.conversation_id for r in await whole.list_conversations()]
    assert listed.count(id) == 1
    assert f"{namespace}/{id}" not in listed
    await whole.delete(id)


async def test_deferred_requests_come_back_and_have_a_limit(
    store: SessiondConversationStore, other: SessiondConversationStore
) -> None:
    def waiting(size: int) -> DeferredToolRequests:
        call = ToolCallPart("write", {"text": "x" * size}, tool_call_id="c1")
        return DeferredToolRequests(approvals=[call], metadata={"c1": {"why": "é"}})

    conversation = talk("c", "Tea?")
    conversation.deferred_tool_requests = waiting(500_000)
    await store.save(conversation)
    assert await other.load("c") == conversation
    conversation.deferred_tool_requests = waiting(2 * MIB)
    conversation.messages.append(answer("Yes."))
    with pytest.raises(InvalidField, match="1048576"):
        await store.save(conversation)
    assert texts(await other.load("c")) == ["Tea?"]


async def test_a_cancelled_save_is_made_or_not_but_never_half(
    store: SessiondConversationStore, other: SessiondConversationStore
) -> None:
    saved = 0
    for i in range(12):
        conversation = talk(f"c{i}", "Tea?", "Yes.")
        task = asyncio.create_task(store.save(conversation))
        for _ in range(i):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        loaded = await other.load(f"c{i}")
        if loaded is not None:
            saved += 1
            assert texts(loaded) == ["Tea?", "Yes."]
    assert saved < 12


async def test_concurrent_deletions_and_saves_leave_one_state(
    store: SessiondConversationStore, other: SessiondConversationStore
) -> None:
    for round_ in range(8):
        id = f"c{round_}"
        await store.save(talk(id, "old"))
        loaded = await other.load(id)
        assert loaded is not None
        loaded.messages.append(answer("new"))
        new = talk(id, "another")
        outcomes = await asyncio.gather(
            store.delete(id),
            other.save(loaded),
            other.delete(id),
            store.save(new),
            return_exceptions=True,
        )
        errors = {type(found) for found in outcomes if isinstance(found, BaseException)}
        assert errors <= {ConversationConflict}
        left = await store.load(id)
        assert left is None or texts(left) in (["another"], ["old", "new"])
        if not isinstance(outcomes[3], BaseException):
            assert left is None or texts(left) == ["another"]


async def test_a_destroyed_session_can_be_loaded_and_deleted(
    store: SessiondConversationStore, client: Client
) -> None:
    await store.save(talk("c", "Tea?"))
    client.sessions.destroy(store.sessiond_id("c"))
    loaded = await store.load("c")
    assert loaded is not None
    loaded.messages.append(answer("Yes."))
    with pytest.raises(SessionDestroyed):
        await store.save(loaded)
    await store.delete("c")
    assert await store.load("c") is None
    assert not client.sessions.list(session_id_prefix=store.sessiond_id("c")).to_list()


async def test_ids_that_cannot_be_stored_are_refused_by_their_names(
    store: SessiondConversationStore,
) -> None:
    for id in ("", "x" * 257, "a\nb", "\ud800"):
        entry = ConversationEntry(id=id, parent_id=None, message=ask("Tea?"))
        record = ConversationRecord(conversation_id="c", head_id=id)
        with pytest.raises(UserError, match="entry id"):
            await store.write_record(record, new_entries=[entry], expected_revision=None)
        with pytest.raises(KeyError):
            await store.read_entry(id)
    assert await store.load("c") is None
    with pytest.raises(InvalidField, match="conversation_id"):
        await store.load(3)  # type: ignore[arg-type]


async def test_entries_may_be_a_tree(store: SessiondConversationStore) -> None:
    def entry(id: str, parent_id: str | None) -> ConversationEntry:
        return ConversationEntry(id=id, parent_id=parent_id, message=ask(id))

    tree = [entry("a", None), entry("b", "a"), entry("c", "a"), entry("d", None), entry("e", "b")]
    record = ConversationRecord(conversation_id="c", head_id="c")
    await store.write_record(record, new_entries=tree, expected_revision=None)
    assert await store.read_record("c") == record
    for id, path in {"c": "ac", "e": "abe", "d": "d"}.items():
        assert [found.id for found in await store.read_history(id)] == [*path]
    assert await store.read_history("e", limit=2) == [tree[1], tree[4]]
    # A fork that brings entries of its own.
    forked = ConversationRecord(conversation_id="f", head_id="g", forked_from="c", forked_at="b")
    await store.write_record(forked, new_entries=[entry("g", "b")], expected_revision=None)
    assert [found.id for found in await store.read_history("g")] == [*"abg"]
    nowhere = ConversationRecord(conversation_id="h", head_id="z")
    with pytest.raises(ConversationConflict):
        await store.write_record(nowhere, expected_revision=None)


async def test_arguments_are_checked(target: str, client: Client) -> None:
    wrong: list[Callable[[], Any]] = [
        lambda: SessiondConversationStore(target=target, namespace=""),
        lambda: SessiondConversationStore(target=target, client=client),
        lambda: SessiondConversationStore(client=3),  # type: ignore[arg-type]
    ]
    for make in wrong:
        with pytest.raises(InvalidField):
            make()
