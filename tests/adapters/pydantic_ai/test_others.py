"""Conversations whose sessions others write to: turns of the server, programs, other frameworks."""

import asyncio
import contextlib

import pytest

from sessiond import Client, NewMessage

pytest.importorskip("pydantic_ai", reason="needs the framework: `make adapters-test`")

from pydantic_ai import (
    BinaryImage,
    ModelRequest,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.conversation_store import ConversationConflict

from sessiond.adapters.pydantic_ai import SessiondConversationStore

from .conversations import answer, ask, talk, texts

MIB = 1024 * 1024


async def test_what_others_store_continues_the_conversation(
    store: SessiondConversationStore, client: Client
) -> None:
    conversation = talk("c", "Tea?", "Yes.")
    entries = await store.save(conversation)
    session_id = store.sessiond_id("c")
    client.sessions.store_messages(
        session_id,
        [
            {"role": "user", "content": "And milk?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "fridge", "arguments": '{"look": 1}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "half a litre"},
            NewMessage({"role": "assistant", "content": "There is some."}, message_id="m4"),
        ],
    )
    conversation.messages.append(ask("lost?"))
    with pytest.raises(ConversationConflict):
        await store.save(conversation)
    loaded = await store.load("c")
    assert loaded is not None
    assert [type(message) for message in loaded.messages] == [ModelRequest, ModelResponse] * 3
    call, result = loaded.messages[3].parts[0], loaded.messages[4].parts[0]
    assert isinstance(call, ToolCallPart)
    assert isinstance(result, ToolReturnPart)
    assert (call.tool_name, call.args_as_dict(), call.tool_call_id) == ("fridge", {"look": 1}, "c1")
    assert (result.tool_name, result.content, result.tool_call_id) == (
        "fridge",
        "half a litre",
        "c1",
    )
    found = await store.load_entries("c") or []
    assert [entry.parent_id for entry in found] == [None, *(entry.id for entry in found[:-1])]
    assert [found[0].id, found[1].id, found[5].id] == [entries[0].id, entries[1].id, "m4"]
    assert await store.read_entry(found[3].id) == found[3]
    loaded.messages.append(ask("Good."))
    await store.save(loaded)
    assert len((await store.load("c") or talk("")).messages) == 7
    forked = await store.fork("c", from_entry=found[2].id)
    assert len(forked.messages) == 3


async def test_a_session_of_others_can_be_loaded_and_saved(
    store: SessiondConversationStore, client: Client
) -> None:
    session_id = store.sessiond_id("c")
    client.sessions.create(session_id, user="ann", title="T")
    assert await store.load("c") is None
    client.sessions.store_messages(session_id, [{"role": "user", "content": "Tea?"}])
    assert await store.list_conversations() == []
    with pytest.raises(ConversationConflict):
        await store.save(talk("c", "Coffee?"))
    loaded = await store.load("c", scope="ann")
    assert loaded is not None
    loaded.messages.append(answer("Yes."))
    await store.save(loaded)
    assert texts(await store.load("c")) == ["Tea?", "Yes."]
    assert [record.scope for record in await store.list_conversations(scope="ann")] == ["ann"]
    assert client.sessions.get(session_id).title == "T"


async def test_a_prepared_session_becomes_the_conversation(
    store: SessiondConversationStore, client: Client
) -> None:
    for id, said in (("empty", ()), ("full", ("Tea?",))):
        client.sessions.create(store.sessiond_id(id), title="T")
        await store.save(talk(id, *said))
        assert texts(await store.load(id)) == [*said]
        assert client.sessions.get(store.sessiond_id(id)).title == "T"


async def test_a_history_that_was_taken_back_is_what_is_loaded(
    store: SessiondConversationStore, client: Client
) -> None:
    entries = await store.save(talk("c", "Tea?", "Yes.", "Milk?", "No."))
    client.sessions.rewind(store.sessiond_id("c"), drop_last=2)
    loaded = await store.load("c")
    assert texts(loaded) == ["Tea?", "Yes."]
    with pytest.raises(KeyError):
        await store.read_entry(entries[3].id)
    assert loaded is not None
    loaded.messages.append(ask("Sugar?"))
    await store.save(loaded)
    assert texts(await store.load("c")) == ["Tea?", "Yes.", "Sugar?"]


async def test_a_copied_session_is_a_conversation_of_its_own(
    store: SessiondConversationStore, client: Client
) -> None:
    original = talk("c", "Tea?", "Yes.")
    await store.save(original)
    client.sessions.copy(store.sessiond_id("c"), store.sessiond_id("d"))
    copied = await store.load("d")
    assert copied is not None
    assert (texts(copied), copied.conversation_id) == (["Tea?", "Yes."], "d")
    copied.messages.append(ask("Milk?"))
    await store.save(copied)
    assert await store.load("c") == original
    ids = {record.conversation_id: record for record in await store.list_conversations()}
    assert ids.keys() == {"c", "d"}
    assert ids["d"].forked_from == "c"


async def test_others_append_and_take_back_while_the_conversation_is_used(
    store: SessiondConversationStore, client: Client
) -> None:
    await store.save(talk("c", "Tea?", "Yes."))
    session_id = store.sessiond_id("c")

    def meddle() -> None:
        for i in range(40):
            others = [{"role": "user", "content": f"{i}.{n}"} for n in range(i % 5)]
            if others:
                client.sessions.store_messages(session_id, others)
            client.sessions.rewind(session_id, drop_last=max(len(others) - i % 2, 1))

    meddling = asyncio.create_task(asyncio.to_thread(meddle))
    while not meddling.done():
        loaded = await store.load("c")
        if loaded is None:
            break  # the rewinds have removed all messages
        loaded.messages.append(answer("mine"))
        with contextlib.suppress(ConversationConflict):
            await store.save(loaded)
    await meddling
    loaded = await store.load("c")
    stored = client.sessions.get(session_id).last_seq
    assert len([] if loaded is None else loaded.messages) == stored


async def test_images_of_others_are_converted(
    store: SessiondConversationStore, client: Client
) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    said = [{"type": "text", "text": "Look."}, {"type": "image", "source": source}]
    message = {"role": "user", "content": said}
    client.sessions.store_messages(store.sessiond_id("c"), [message], create={})
    loaded = await store.load("c")
    assert loaded is not None
    text, image = loaded.messages[0].parts
    assert text.content == "Look."  # type: ignore[union-attr]
    assert image.content == [BinaryImage(b"\x89PNG\r\n\x1a\n", media_type="image/png")]  # type: ignore[union-attr]
