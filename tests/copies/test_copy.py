"""CopySession and ListCopies: contents, settings, cuts, errors, lineage."""

import asyncio
from typing import Any

import grpc
import pytest

from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1.bookmark_pb2 import Bookmark
from sessiond.v1.bookmark_service_pb2 import (
    CreateBookmarkRequest,
    DeleteBookmarkRequest,
    ListBookmarksRequest,
    UpdateBookmarkRequest,
)
from sessiond.v1.message_pb2 import Message
from sessiond.v1.session_pb2 import SESSION_STATUS_ACTIVE, Session
from sessiond.v1.task_pb2 import TASK_STATUS_PENDING, TASK_STATUS_RUNNING, Task
from sessiond.v1.task_service_pb2 import (
    CreateTaskRequest,
    DeleteTaskRequest,
    ListTasksRequest,
    ReorderTasksRequest,
    UpdateTaskRequest,
)
from sessiond_server.settings import Settings

from ..support.wire import Wire, error_of, openai
from .helpers import Query, said


async def test_a_copy_is_the_same_up_to_its_settings(wire: Wire) -> None:
    await wire.create(
        "one",
        model="gpt-5",
        user="ada",
        title="A",
        config={"t": 1},
        metadata={"team": "x"},
        idle_ttl_s=3600,
    )
    await wire.store("one", openai("first"), openai("answer", "assistant"))
    await wire.store(
        "one", Message(format=1, json='{"role": "user",  "content": "again"}', parent_seq=1)
    )
    source = await wire.get("one")
    answer = await wire.copy("one", "two")
    assert (answer.old_session_id, answer.new_session_id) == ("one", "two")
    made = await wire.get("two")
    assert made == answer.session
    same = (
        "model",
        "user",
        "title",
        "summary",
        "config",
        "metadata",
        "last_seq",
        "message_count",
        "content_bytes",
        "token_count",
        "idle_ttl",
    )
    for field in (*same, "estimated_token_count"):
        assert getattr(made, field) == getattr(source, field), field
    assert (made.origin.session_id, made.origin.seq) == ("one", 3)
    assert not source.HasField("origin")
    assert made.create_time.ToDatetime() > source.create_time.ToDatetime()
    assert made.etag != source.etag
    # Seqs, parents, times and the exact JSON are equal.
    assert await wire.read("two") == await wire.read("one")
    assert await wire.message("two", 3) == await wire.message("one", 3)


async def test_source_and_copy_are_independent(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", "a", "b")
    await wire.copy("one", "two")
    await wire.store("one", "only in one")
    stored = await wire.store("two", "only in two", "and more")
    assert (stored.first_seq, stored.last_seq) == (3, 4)
    assert said(await wire.read("one")) == ["a", "b", "only in one"]
    assert said(await wire.read("two")) == ["a", "b", "only in two", "and more"]
    await wire.destroy("one")
    assert (await wire.get("two")).status == SESSION_STATUS_ACTIVE


async def _state(wire: Wire, session_id: str) -> tuple[Any, ...]:
    """Return the state of a session that changes of other sessions must not affect."""
    session = await wire.get(session_id)
    tasks = (await wire.tasks.ListTasks(ListTasksRequest(session_id=session_id))).tasks
    listing = ListBookmarksRequest(session_id=session_id)
    bookmarks = (await wire.bookmarks.ListBookmarks(listing)).bookmarks
    settings = (session.title, dict(session.config), dict(session.metadata), session.etag)
    return (*settings, [*tasks], [*bookmarks])


@pytest.mark.parametrize(("changed", "other"), [("one", "two"), ("two", "one")])
async def test_what_hangs_on_them_changes_independently(
    wire: Wire, changed: str, other: str
) -> None:
    await wire.create("one", title="A", config={"t": 1}, metadata={"team": "x"})
    await wire.store("one", "a", "b")
    for task_id in ("t1", "t2"):
        task = Task(task_id=task_id, status=TASK_STATUS_PENDING)
        await wire.tasks.CreateTask(CreateTaskRequest(session_id="one", task=task))
    for name in ("b1", "b2"):
        bookmark = Bookmark(name=name, seq=1)
        await wire.bookmarks.CreateBookmark(
            CreateBookmarkRequest(session_id="one", bookmark=bookmark)
        )
    await wire.copy("one", "two")
    kept, before = await _state(wire, other), await _state(wire, changed)

    update = ss.UpdateSessionRequest(session=Session(session_id=changed, title="B"))
    update.session.config.update({"t": 2})
    update.session.metadata.update({"team": "y"})
    await wire.sessions.UpdateSession(update)
    running = Task(task_id="t1", status=TASK_STATUS_RUNNING)
    await wire.tasks.UpdateTask(UpdateTaskRequest(session_id=changed, task=running))
    await wire.tasks.ReorderTasks(ReorderTasksRequest(session_id=changed, task_ids=["t2", "t1"]))
    await wire.tasks.DeleteTask(DeleteTaskRequest(session_id=changed, task_id="t2"))
    await wire.bookmarks.UpdateBookmark(
        UpdateBookmarkRequest(session_id=changed, bookmark=Bookmark(name="b1", seq=2))
    )
    await wire.bookmarks.DeleteBookmark(DeleteBookmarkRequest(session_id=changed, name="b2"))

    assert await _state(wire, other) == kept
    after = await _state(wire, changed)
    assert all(new != old for new, old in zip(after, before, strict=True))
    await wire.delete(changed)
    assert await _state(wire, other) == kept


async def test_an_id_is_generated_if_none_is_given(wire: Wire) -> None:
    await wire.create("one")
    made = await wire.copy("one")
    assert len(made.new_session_id) == 36
    assert (await wire.get(made.new_session_id)).last_seq == 0
    assert await wire.read(made.new_session_id) == []


async def test_a_copy_takes_the_settings_of_the_request(wire: Wire) -> None:
    await wire.create(
        "one",
        model="a",
        user="ada",
        title="A",
        config={"t": 1},
        metadata={"team": "x"},
        idle_ttl_s=60,
    )
    request = ss.CopySessionRequest(
        session_id="one", new_session_id="two", model="b", user="", title="T", never_expires=True
    )
    request.metadata.update({"new": True})
    request.config.SetInParent()
    await wire.sessions.CopySession(request)
    made = await wire.get("two")
    assert (made.model, made.user, made.title, made.never_expires) == ("b", "", "T", True)
    assert dict(made.metadata) == {"new": True}
    assert not made.config
    short = ss.CopySessionRequest(session_id="two", new_session_id="three")
    short.idle_ttl.FromSeconds(5)
    await wire.sessions.CopySession(short)
    assert (await wire.get("three")).idle_ttl.ToSeconds() == 5


async def test_a_destroyed_session_can_be_copied(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", "a")
    await wire.destroy("one")
    await wire.copy("one", "two")
    await wire.store("two", "b")
    assert said(await wire.read("two")) == ["a", "b"]


@pytest.mark.parametrize("through", [0, 1, 2, 3, 5, 6])
async def test_a_cut_in_the_middle_counts_right(wire: Wire, through: int) -> None:
    """The cut is within a batch, at its end, in the segments that a copy shares, or after them."""
    await wire.create("zero")
    await wire.store(
        "zero", openai("you are", "system"), openai("hello"), openai("hi", "assistant")
    )
    await wire.copy("zero", "one")
    await wire.store("one", *(openai(f"message {'x' * i * 7}") for i in range(3)))
    made = (await wire.copy("one", "two", up_to_seq=through)).session
    read = await wire.read("two")
    assert read == (await wire.read("one"))[:through]
    assert made.last_seq == made.message_count == made.origin.seq == through
    assert made.content_bytes == sum(m.content_bytes for m in read)
    assert made.token_count == made.estimated_token_count == sum(m.token_count for m in read)
    assert made.summary == ("hello" if through >= 2 else "")
    stored = await wire.store("two", "next")
    assert stored.first_seq == through + 1


async def test_a_cut_beyond_the_end_is_refused(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", "a")
    error = await error_of(wire.copy("one", "two", up_to_seq=2))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND")
    assert (error.metadata["seq"], error.metadata["last_seq"], list(error.fields)) == (
        "2",
        "1",
        ["up_to_seq"],
    )
    assert list((await error_of(wire.copy("one", up_to_seq=-1))).fields) == ["up_to_seq"]
    assert [s.session_id for s in await wire.list()] == ["one"]


async def test_errors_name_the_field(wire: Wire) -> None:
    await wire.create("one")
    for field, value in (
        ("new_session_id", " x"),
        ("model", "x" * 257),
        ("user", "a\0"),
        ("title", "x" * 513),
        ("up_to_bookmark", ""),
        ("up_to_bookmark", "x" * 129),
        ("never_expires", False),
        ("request_id", "x" * 129),
    ):
        error = await error_of(
            wire.sessions.CopySession(ss.CopySessionRequest(session_id="one", **{field: value}))
        )
        assert (error.reason, list(error.fields)) == ("INVALID_FIELD", [field])
    request = ss.CopySessionRequest(session_id="one")
    request.idle_ttl.FromMilliseconds(1)
    assert list((await error_of(wire.sessions.CopySession(request))).fields) == ["idle_ttl"]
    request = ss.CopySessionRequest(session_id="one")
    request.metadata.update({"x": float("nan")})
    assert list((await error_of(wire.sessions.CopySession(request))).fields) == ["metadata.x"]
    error = await error_of(wire.copy("one", up_to_bookmark="none"))
    assert (error.reason, error.metadata["name"], list(error.fields)) == (
        "BOOKMARK_NOT_FOUND",
        "none",
        ["up_to_bookmark"],
    )
    assert [s.session_id for s in await wire.list()] == ["one"]


async def test_an_id_that_is_taken_is_refused(wire: Wire) -> None:
    await wire.create("one")
    await wire.create("two", title="kept")
    for taken in ("one", "two"):
        error = await error_of(wire.copy("one", taken))
        assert (error.code, error.reason) == (
            grpc.StatusCode.ALREADY_EXISTS,
            "SESSION_ALREADY_EXISTS",
        )
        assert (error.metadata["session_id"], list(error.fields)) == (taken, ["new_session_id"])
    assert (await wire.get("two")).title == "kept"


async def test_an_expired_sessions_id_is_free(wire: Wire, query: Query) -> None:
    await wire.create("one")
    await wire.create("two", idle_ttl_s=60)
    query("UPDATE sessions SET used_at = now() - interval '1 hour' WHERE session_id = 'two'")
    await wire.copy("one", "two")
    assert (await wire.get("two")).origin.session_id == "one"


async def test_the_same_request_is_one_copy(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", "a")
    answers = await asyncio.gather(*(wire.copy("one", request_id="r") for _ in range(8)))
    assert len({answer.new_session_id for answer in answers}) == 1
    assert len(await wire.list()) == 2
    error = await error_of(wire.copy("one", request_id="r", title="other"))
    assert (error.reason, list(error.fields)) == ("REQUEST_ID_REUSED", ["request_id"])


async def test_lineage_is_listed_both_ways(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", "a", "b")
    for i in range(5):
        await wire.copy("one", f"copy-{i}", up_to_seq=i % 3)
    await wire.copy("copy-0", "grandchild")
    await wire.delete("copy-3")

    async def copies(session_id: str) -> list[tuple[str, int]]:
        found, token = [], ""
        while True:
            page = await wire.sessions.ListCopies(
                ss.ListCopiesRequest(session_id=session_id, page_size=2, page_token=token)
            )
            found += [(c.session_id, c.seq) for c in page.copies]
            if not (token := page.next_page_token):
                return found

    assert await copies("one") == [("copy-4", 1), ("copy-2", 2), ("copy-1", 1), ("copy-0", 0)]
    assert await copies("copy-0") == [("grandchild", 0)]
    assert await copies("grandchild") == []
    # The copies outlive their source, and still name it.
    await wire.delete("one")
    assert (await wire.get("copy-1")).origin.session_id == "one"
    await wire.create("one")
    assert await copies("one") == []


class TestLimit:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"copy_max_messages": 3})

    async def test_a_larger_copy_is_refused_and_writes_nothing(
        self, wire: Wire, query: Query
    ) -> None:
        await wire.create("one")
        await wire.store("one", "a", "b", "c", "d")
        error = await error_of(wire.copy("one", "two"))
        assert (error.code, error.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "SESSION_TOO_LARGE",
        )
        del error.metadata["call_id"]
        assert error.metadata == {"session_id": "one", "message_count": "4", "max_messages": "3"}
        assert query("SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM segments)") == [
            (1, 0)
        ]
        await wire.copy("one", "two", up_to_seq=3)
        assert len(await wire.read("two")) == 3


async def test_being_copied_extends_the_idle_ttl(wire: Wire, query: Query) -> None:
    await wire.create("one", idle_ttl_s=100_000)
    query("UPDATE sessions SET used_at = now() - interval '50000 s'")
    await wire.copy("one", "two")
    assert query(
        "SELECT used_at > now() - interval '1000 s' FROM sessions WHERE session_id = 'one'"
    ) == [(True,)]
    # At most one copy a minute updates the source's row.
    before = query("SELECT used_at FROM sessions WHERE session_id = 'one'")
    await wire.copy("one", "three")
    assert query("SELECT used_at FROM sessions WHERE session_id = 'one'") == before
