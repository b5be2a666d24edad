"""ImportSession: exactness, atomicity, validation."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1.bookmark_pb2 import Bookmark
from sessiond.v1.bookmark_service_pb2 import ListBookmarksRequest
from sessiond.v1.message_pb2 import FORMAT_OPENAI, Message
from sessiond.v1.session_pb2 import SESSION_STATUS_DESTROYED, Session
from sessiond.v1.task_pb2 import TASK_STATUS_RUNNING, TASK_STATUS_SUCCESS, Task
from sessiond.v1.task_service_pb2 import ListTasksRequest

from ..support.wire import Wire, error_of, openai

BARE = '{"role":"user"}'


def at(message: Any, field: str, seconds: int, nanos: int = 0) -> Any:
    stamp = getattr(message, field)
    stamp.seconds, stamp.nanos = seconds, nanos
    return message


async def import_session(wire: Wire, *pieces: ss.ImportSessionRequest) -> Session:
    session: Session = await wire.sessions.ImportSession(iter(pieces))
    return session


async def test_everything_comes_back_as_it_went_in(wire: Wire) -> None:
    session = Session(
        session_id="one", status=SESSION_STATUS_DESTROYED, model="m", user="ada", title="T"
    )
    session.config.update({"t": 0.5})
    session.metadata.update({"team": "x"})
    session.idle_ttl.FromSeconds(3600)
    at(at(session, "create_time", 1_600_000_000, 123_456_000), "active_time", 1_700_000_000)
    tasks = [
        at(
            at(
                Task(task_id="b", status=TASK_STATUS_SUCCESS, message_seqs=[3, 1, 1]),
                "create_time",
                1_600_000_001,
            ),
            "update_time",
            1_600_000_002,
        ),
        Task(task_id="a", status=TASK_STATUS_RUNNING),
    ]
    at(at(tasks[0], "create_time", 1_600_000_001), "update_time", 1_600_000_002).data.update(
        {"note": "n"}
    )
    bookmarks = [
        at(Bookmark(name="start", seq=0), "create_time", 1_600_000_003),
        Bookmark(name="end", description="two\nlines"),
    ]
    messages = [
        at(
            Message(format=FORMAT_OPENAI, json='{"role":"user",  "content":"hi"}', seq=1),
            "create_time",
            1_500_000_000,
            1000,
        ),
        at(openai("yes", "assistant"), "create_time", 1_500_000_001),
        at(
            Message(
                format=FORMAT_OPENAI, json='{"role":"user","content":"again"}', seq=3, parent_seq=1
            ),
            "create_time",
            5,
        ),
    ]
    made = await import_session(
        wire,
        ss.ImportSessionRequest(
            session=session, tasks=tasks, bookmarks=bookmarks, messages=messages[:1]
        ),
        ss.ImportSessionRequest(messages=messages[1:]),
    )
    assert made == await wire.get("one")
    for field in (
        "session_id",
        "status",
        "model",
        "user",
        "title",
        "config",
        "metadata",
        "idle_ttl",
        "create_time",
        "active_time",
    ):
        assert getattr(made, field) == getattr(session, field), field
    read = await wire.read("one")
    assert [(m.seq, m.json, m.create_time, m.parent_seq) for m in read] == [
        (i, m.json, m.create_time, m.parent_seq) for i, m in enumerate(messages, 1)
    ]
    assert made.last_seq == 3
    assert made.content_bytes == sum(m.content_bytes for m in read)
    assert made.token_count == sum(m.token_count for m in read)
    assert (
        await wire.sessions.CopySession(ss.CopySessionRequest(session_id="one", up_to_seq=2))
    ).session.content_bytes == sum(m.content_bytes for m in read[:2])
    listed = (await wire.tasks.ListTasks(ListTasksRequest(session_id="one"))).tasks
    assert [(t.task_id, t.position, t.status, list(t.message_seqs)) for t in listed] == [
        ("b", 1, TASK_STATUS_SUCCESS, [1, 3]),
        ("a", 2, TASK_STATUS_RUNNING, []),
    ]
    assert (listed[0].create_time, listed[0].update_time, listed[0].data) == (
        tasks[0].create_time,
        tasks[0].update_time,
        tasks[0].data,
    )
    marks = (await wire.bookmarks.ListBookmarks(ListBookmarksRequest(session_id="one"))).bookmarks
    assert [(b.name, b.seq, b.description) for b in marks] == [
        ("start", 0, ""),
        ("end", 3, "two\nlines"),
    ]
    assert marks[0].create_time == marks[0].update_time == bookmarks[0].create_time
    # The imported session works like any other session.
    await wire.resume("one")
    assert (await wire.store("one", "next")).first_seq == 4


async def test_an_empty_session_is_imported_under_a_generated_id(wire: Wire) -> None:
    made = await import_session(wire, ss.ImportSessionRequest())
    assert len(made.session_id) == 36
    assert made.last_seq == 0
    assert made.create_time == made.active_time


async def test_future_times_are_kept_and_do_not_prevent_deletion(wire: Wire) -> None:
    session = at(Session(session_id="one"), "create_time", 32_503_680_000)  # the year 3000
    made = await import_session(
        wire,
        ss.ImportSessionRequest(
            session=session, messages=[at(openai("x"), "create_time", 32_503_680_000)]
        ),
    )
    assert made.create_time == session.create_time
    for dry_run in (True, False):
        answer = await wire.sessions.DeleteSessions(
            ss.DeleteSessionsRequest(filter={"session_id_prefix": "one"}, dry_run=dry_run)
        )
        assert (answer.session_count, answer.message_count) == (1, 1)
    assert await wire.list() == []


async def test_an_id_that_is_taken_is_refused(wire: Wire) -> None:
    await wire.create("one", title="kept")
    for request_id in ("", "r"):
        request = ss.ImportSessionRequest(session=Session(session_id="one"), request_id=request_id)
        error = await error_of(import_session(wire, request))
        assert (error.code, error.reason) == (
            grpc.StatusCode.ALREADY_EXISTS,
            "SESSION_ALREADY_EXISTS",
        )
    assert (await wire.get("one")).title == "kept"


async def test_the_same_request_is_one_session(wire: Wire) -> None:
    request = ss.ImportSessionRequest(request_id="r", messages=[openai("a")])
    first = await import_session(wire, request)
    assert await import_session(wire, request) == first
    request.messages.append(openai("b"))
    assert (await error_of(import_session(wire, request))).reason == "REQUEST_ID_REUSED"
    assert len(await wire.list()) == 1


@pytest.mark.parametrize(
    ("request_", "field", "reason"),
    [
        (
            ss.ImportSessionRequest(session=Session(session_id=" x")),
            "session.session_id",
            "INVALID_FIELD",
        ),
        (ss.ImportSessionRequest(session=Session(status=9)), "session.status", "INVALID_FIELD"),  # type: ignore[arg-type]
        (
            ss.ImportSessionRequest(session=Session(title="x" * 513)),
            "session.title",
            "INVALID_FIELD",
        ),
        (ss.ImportSessionRequest(tasks=[Task()]), "tasks[0].task_id", "INVALID_FIELD"),
        (
            ss.ImportSessionRequest(tasks=[Task(task_id="a"), Task(task_id="a")]),
            "tasks[1].task_id",
            "INVALID_FIELD",
        ),
        (
            ss.ImportSessionRequest(tasks=[Task(task_id="a", status=9)]),
            "tasks[0].status",
            "INVALID_FIELD",
        ),  # type: ignore[arg-type]
        (
            ss.ImportSessionRequest(tasks=[Task(task_id="a", message_seqs=[1])]),
            "tasks[0].message_seqs",
            "INVALID_FIELD",
        ),
        (
            ss.ImportSessionRequest(tasks=[Task(task_id="a", message_seqs=[0])]),
            "tasks[0].message_seqs",
            "INVALID_FIELD",
        ),
        (
            ss.ImportSessionRequest(tasks=[Task(task_id=f"{i}") for i in range(1001)]),
            "tasks",
            "INVALID_FIELD",
        ),
        (ss.ImportSessionRequest(bookmarks=[Bookmark()]), "bookmarks[0].name", "INVALID_FIELD"),
        (
            ss.ImportSessionRequest(bookmarks=[Bookmark(name="a"), Bookmark(name="a")]),
            "bookmarks[1].name",
            "INVALID_FIELD",
        ),
        (
            ss.ImportSessionRequest(bookmarks=[Bookmark(name="a", seq=1)]),
            "bookmarks[0].seq",
            "INVALID_FIELD",
        ),
        (
            ss.ImportSessionRequest(bookmarks=[Bookmark(name="a", seq=-1)]),
            "bookmarks[0].seq",
            "INVALID_FIELD",
        ),
        (
            ss.ImportSessionRequest(bookmarks=[Bookmark(name="a", description="\0")]),
            "bookmarks[0].description",
            "INVALID_FIELD",
        ),
        (
            ss.ImportSessionRequest(messages=[Message(format=1, json='{"role":"user"}', seq=2)]),
            "messages[0].seq",
            "INVALID_FIELD",
        ),
        (
            ss.ImportSessionRequest(messages=[at(openai("x"), "create_time", -1)]),
            "messages[0].create_time",
            "INVALID_FIELD",
        ),
        (
            ss.ImportSessionRequest(messages=[openai("x"), Message(format=1, json="{")]),
            "messages[1].json",
            "INVALID_JSON",
        ),
        (
            ss.ImportSessionRequest(messages=[Message(format=1, json=BARE, parent_seq=1)]),
            "messages.parent_seq",
            "PARENT_NOT_FOUND",
        ),
        (
            ss.ImportSessionRequest(session=at(Session(), "create_time", 2**60)),
            "session.create_time",
            "INVALID_FIELD",
        ),
        (
            ss.ImportSessionRequest(session=at(Session(), "active_time", 253_402_300_799)),
            "session.active_time",
            "INVALID_FIELD",
        ),
        (
            ss.ImportSessionRequest(session=at(Session(), "active_time", -1)),
            "session.active_time",
            "INVALID_FIELD",
        ),
        (ss.ImportSessionRequest(request_id="x" * 129), "request_id", "INVALID_FIELD"),
    ],
)
async def test_faults_name_the_field_and_store_nothing(
    wire: Wire,
    query: Callable[..., list[tuple[Any, ...]]],
    request_: ss.ImportSessionRequest,
    field: str,
    reason: str,
) -> None:
    error = await error_of(import_session(wire, request_))
    assert (error.reason, list(error.fields)) == (reason, [field])
    for table in ("sessions", "messages", "tasks", "bookmarks"):
        assert query(f"SELECT count(*) FROM {table}") == [(0,)]


async def test_reads_begin_at_bookmarks(wire: Wire) -> None:
    request = ss.ImportSessionRequest(
        session=Session(session_id="one"),
        messages=[openai(f"{i}") for i in range(50)],
        bookmarks=[Bookmark(name="here", seq=20), Bookmark(name="end")],
    )
    await import_session(wire, request)
    every = await wire.read("one")
    assert await wire.read("one", after_bookmark="here") == every[20:]
    assert await wire.read("one", after_bookmark="end") == []
    batches = await wire.batches("one", after_bookmark="here")
    assert await wire.read("one", resume_token=batches[0].resume_token) == [
        m for b in batches[1:] for m in b.messages
    ]
    error = await error_of(
        wire.sessions.GetMessages(ss.GetMessagesRequest(session_id="one", after_bookmark="none"))
    )
    assert (error.reason, error.metadata["name"], list(error.fields)) == (
        "BOOKMARK_NOT_FOUND",
        "none",
        ["after_bookmark"],
    )
    error = await error_of(
        wire.sessions.GetMessages(ss.GetMessagesRequest(session_id="one", after_bookmark=""))
    )
    assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["after_bookmark"])
    # A copy may end at a bookmark, and keeps the bookmarks up to there.
    made = await wire.sessions.CopySession(
        ss.CopySessionRequest(session_id="one", new_session_id="two", up_to_bookmark="here")
    )
    assert made.session.last_seq == 20
    marks = (await wire.bookmarks.ListBookmarks(ListBookmarksRequest(session_id="two"))).bookmarks
    assert [(b.name, b.seq) for b in marks] == [("here", 20)]


async def test_tasks_are_copied(wire: Wire) -> None:
    tasks = [Task(task_id="b", status=TASK_STATUS_SUCCESS, message_seqs=[1, 3]), Task(task_id="a")]
    tasks[0].data.update({"note": "n"})
    messages = [openai(f"{i}") for i in range(3)]
    await import_session(
        wire,
        ss.ImportSessionRequest(session=Session(session_id="one"), tasks=tasks, messages=messages),
    )

    async def copied(**fields: Any) -> list[Task]:
        made = await wire.sessions.CopySession(ss.CopySessionRequest(session_id="one", **fields))
        return list(
            (await wire.tasks.ListTasks(ListTasksRequest(session_id=made.new_session_id))).tasks
        )

    source = (await wire.tasks.ListTasks(ListTasksRequest(session_id="one"))).tasks
    plain = await copied()
    for made, original in zip(plain, source, strict=True):
        assert not made.message_seqs
        for field in ("task_id", "position", "status", "data", "create_time", "update_time"):
            assert getattr(made, field) == getattr(original, field), field
    assert [list(t.message_seqs) for t in await copied(keep_task_links=True)] == [[1, 3], []]
    assert [list(t.message_seqs) for t in await copied(keep_task_links=True, up_to_seq=2)] == [
        [1],
        [],
    ]
