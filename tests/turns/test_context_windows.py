"""Context windows: they are cut by many messages at once, stored, and the same at every server."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from sessiond.v1.message_pb2 import FORMAT_OPENAI, Message
from sessiond.v1.session_service_pb2 import UpdateSessionRequest
from sessiond_server.messages.store.history import HistoryStore
from sessiond_server.settings import Settings
from sessiond_server.turns.store.marks import MarkStore

from ..support.model_server import ModelServer, Reply
from ..support.strict_models.cache import PromptCache
from ..support.turns import send
from ..support.wire import Wire, error_of, openai
from .calls import connected
from .test_branches import child, texts


async def set_config(wire: Wire, session_id: str, config: dict[str, Any]) -> None:
    request = UpdateSessionRequest()
    request.session.session_id = session_id
    request.session.config.update(config)
    request.update_mask.paths.append("config")
    await wire.sessions.UpdateSession(request)


def cache_of(models: ModelServer) -> PromptCache:
    cache = PromptCache()
    for request in models.requests:
        cache.add("openai", "", request.body)
    return cache


@pytest.mark.parametrize(
    ("context", "turns", "most_breaks"),
    [
        # The window grows from 10 to 20 messages, by two per turn.
        ({"max_messages": 20}, 200, 33),
        ({"max_messages": 20, "keep_fraction": 0.1}, 60, 6),
        ({"max_tokens": 400}, 60, 10),
    ],
)
async def test_the_prefix_changes_only_at_the_crossings(
    wire: Wire, models: ModelServer, context: dict[str, Any], turns: int, most_breaks: int
) -> None:
    await wire.create("one", config={"system_prompt": "Be kind.", "context": context})
    await wire.store("one", openai("rules", "system"))
    for number in range(turns):
        await send(wire, "one", f"question {number:03} " + "and so on " * 4)
        if not number % 50:
            await wire.store("one", openai(f"note {number}", "developer"))
    cache = cache_of(models)
    assert 2 < cache.breaks() <= most_breaks
    last = models.requests[-1].body["messages"]
    assert [m["content"] for m in last if m["role"] in ("system", "developer")] == [
        "Be kind.",
        "rules",
        *[f"note {number}" for number in range(0, turns, 50)],
    ]
    counts = [
        sum(m["role"] in ("user", "assistant") for m in request.body["messages"])
        for request in models.requests
    ]
    assert max(counts) <= context.get("max_messages", 400)


async def test_a_mark_survives_a_restart_and_serves_other_servers(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    async with connected(settings, database_url) as wire:
        await wire.create("one", config={"context": {"max_messages": 10}})
        await wire.store("one", *map(str, range(10)))
        await send(wire, "one", "10")
        assert texts(models) == ["6", "7", "8", "9", "10"]
    async with connected(settings, database_url) as wire, connected(settings, database_url) as two:
        await send(wire, "one", "11")
        await send(two, "one", "12")
    assert cache_of(models).breaks() == 0
    assert texts(models)[0] == "6"


async def test_a_copy_takes_the_mark_of_its_source(wire: Wire, models: ModelServer) -> None:
    await wire.create("one", config={"context": {"max_messages": 10}})
    await wire.store("one", openai("rules", "system"), *map(str, range(10)))
    await send(wire, "one", "10")
    assert texts(models) == ["rules", "6", "7", "8", "9", "10"]
    await wire.copy("one", "two")
    await send(wire, "two", "11")
    assert texts(models)[:2] == ["rules", "6"]
    # The window of the source begins at the mark. This copy ends before the mark, and all of its
    # messages are within the limit.
    await wire.copy("one", "three", up_to_seq=4)
    await send(wire, "three", "x")
    assert texts(models) == ["rules", "0", "1", "2", "x"]


async def test_a_changed_config_begins_a_new_window(wire: Wire, models: ModelServer) -> None:
    await wire.create("one", config={"context": {"max_messages": 4}})
    await wire.store("one", *map(str, range(8)))
    await send(wire, "one", "8")
    assert texts(models) == ["7", "8"]
    await set_config(wire, "one", {"context": {"max_messages": 100}})
    await send(wire, "one", "9")
    assert len(texts(models)) == 11
    await set_config(wire, "one", {})
    await send(wire, "one", "10")
    assert len(texts(models)) == 13


async def test_a_window_begins_anew_on_another_branch(wire: Wire, models: ModelServer) -> None:
    await wire.create("one", config={"context": {"max_messages": 4}})
    await wire.store("one", *map(str, range(8)))
    await send(wire, "one", "8")
    await send(wire, "one", messages=[child(2, "edited")])
    assert texts(models) == ["0", "1", "edited"]
    # The window of the first branch still begins where it began before.
    await send(wire, "one", messages=[child(9, "again")])
    assert texts(models) == ["7", "8", "again"]


async def test_a_running_tool_loop_keeps_its_task(wire: Wire, models: ModelServer) -> None:
    await wire.create("one", config={"context": {"max_messages": 4}})
    await wire.store("one", "old", openai("older", "assistant"))
    models.script(*[Reply(tool_calls=[(f"c{i}", "look", "{}")]) for i in range(20)], Reply("Done."))
    await send(wire, "one", "the task")
    for i in range(20):
        result = {"role": "tool", "tool_call_id": f"c{i}", "content": f"result {i}"}
        await send(wire, "one", messages=[Message(format=FORMAT_OPENAI, json=json.dumps(result))])
        given = models.requests[-1].body["messages"]
        assert [m["content"] for m in given if m["role"] == "user"][-1] == "the task"
        assert len(given) <= 5
        calls = [c["id"] for m in given for c in m.get("tool_calls") or ()]
        assert calls == [m["tool_call_id"] for m in given if m["role"] == "tool"]
    assert (await wire.texts("one"))[-1] == "Done."
    for i in range(3):
        await send(wire, "one", f"next {i}")
    assert "the task" not in texts(models)


async def test_a_turn_without_a_window_asks_nothing_more_of_the_database(
    one: Wire, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unwanted(*_: Any) -> None:
        raise AssertionError("a query that is not needed")

    for class_, method in (
        (MarkStore, "get"),
        (MarkStore, "put"),
        (HistoryStore, "parent_links"),
        (HistoryStore, "content_bytes"),
    ):
        monkeypatch.setattr(class_, method, unwanted)
    await one.store("one", "a")
    await send(one, "one", "b")
    assert texts(models) == ["a", "b"]


async def test_marks_go_with_their_session(
    wire: Wire, purger: Any, query: Callable[..., Any]
) -> None:
    await wire.create("one", config={"context": {"max_messages": 2}})
    await wire.store("one", *"abc")
    await send(wire, "one", "d")
    assert query("SELECT first_seq, kept_seqs, task_seq FROM context_marks") == [(4, [], 0)]
    await wire.delete("one")
    await purger.round()
    assert query("SELECT count(*) FROM context_marks") == [(0,)]


class TestSizes:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"max_context_bytes": 2_000})

    async def test_a_context_that_is_too_large_is_refused_before_it_is_read(
        self, one: Wire, models: ModelServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await one.store("one", *["x" * 500] * 4)

        async def unwanted(*_: Any) -> None:
            raise AssertionError("messages are read")

        monkeypatch.setattr("sessiond_server.turns.requests.context._page", unwanted)
        error = await error_of(send(one, "one", "y"))
        assert error.reason == "CONTEXT_TOO_LARGE"
        stored = await one.get("one")
        assert error.metadata["context_bytes"] == str(stored.content_bytes)
        assert error.metadata["max_bytes"] == "2000"
        assert "config.context" in error.text
        assert models.requests == []

    async def test_only_the_branch_counts(self, one: Wire, models: ModelServer) -> None:
        await one.store("one", "a", *["x" * 500] * 4)
        await send(one, "one", messages=[child(2, "b")])
        assert len(models.requests) == 1
        error = await error_of(send(one, "one", messages=[child(5, "c")]))
        assert error.reason == "CONTEXT_TOO_LARGE"
        branch = [message for message in await one.read("one") if message.seq not in (6, 7)]
        assert error.metadata["context_bytes"] == str(sum(m.content_bytes for m in branch))

    async def test_a_window_makes_a_large_history_fit(
        self, wire: Wire, models: ModelServer
    ) -> None:
        for context, fits in (({"max_messages": 4}, True), ({"max_messages": 16}, False)):
            name = f"fits: {fits}"
            await wire.create(name, config={"context": context})
            await wire.store(name, *["x" * 500] * 12)
            if fits:
                await send(wire, name, "y")
                assert len(texts(models)) == 2
            else:
                error = await error_of(send(wire, name, "y"))
                assert error.reason == "CONTEXT_TOO_LARGE"

    @pytest.mark.parametrize("context", [{"max_messages": 50}, {"max_tokens": 100_000}])
    async def test_a_window_that_no_limit_ends_is_refused_before_it_is_read(
        self,
        wire: Wire,
        models: ModelServer,
        monkeypatch: pytest.MonkeyPatch,
        context: dict[str, int],
    ) -> None:
        await wire.create("one", config={"context": context})
        # Instructions are always sent, and do not count towards the limits of the window.
        await wire.store("one", openai("x" * 500, "system"), *["x" * 500] * 4)

        async def unwanted(*_: Any) -> None:
            raise AssertionError("messages are read")

        monkeypatch.setattr("sessiond_server.turns.requests.context._page", unwanted)
        error = await error_of(send(wire, "one", "y"))
        assert error.reason == "CONTEXT_TOO_LARGE"
        assert error.metadata["context_bytes"] == str((await wire.get("one")).content_bytes)
        assert models.requests == []

    async def test_a_window_of_a_large_history_is_sent_from_where_it_begins(
        self, wire: Wire, models: ModelServer
    ) -> None:
        await wire.create("one", config={"context": {"max_messages": 4}})
        await wire.store("one", *["x" * 1000] * 4, *"abcde")
        for prompt in ("f", "g"):
            await send(wire, "one", prompt)
            assert (await wire.get("one")).content_bytes > 2_000
        # The second window begins with the same message as the first one.
        assert texts(models)[0] == "e"


async def test_a_large_history_is_read_only_as_far_as_the_window_needs(
    wire: Wire, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wire.create("one", config={"context": {"max_messages": 6}})
    await wire.store("one", *map(str, range(990)))
    await send(wire, "one", "first")
    rows, page = 0, HistoryStore.page

    async def counted(self: HistoryStore, query: Any) -> Any:
        nonlocal rows
        found = await page(self, query)
        rows += len(found)
        return found

    monkeypatch.setattr(HistoryStore, "page", counted)
    await send(wire, "one", "second")
    assert texts(models)[-1] == "second"
    # The count includes rows that others read, such as the channel of this Send.
    assert rows < 60
