"""Values of callers do not get into PostgreSQL's log.

PostgreSQL logs the texts of failed statements. pg_stat_activity shows the same texts.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from sessiond.v1 import bookmark_service_pb2 as bookmarks
from sessiond.v1 import conversation_service_pb2 as conversations
from sessiond.v1 import session_service_pb2 as sessions
from sessiond.v1 import task_service_pb2 as tasks
from sessiond.v1.bookmark_pb2 import Bookmark
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_state_pb2 import StatePatch
from sessiond.v1.task_pb2 import Task
from sessiond_server.settings import Settings

from ..support.queues import ack, fill, lease_one
from ..support.waiting import until_waiting
from ..support.wire import Wire

SECRET = "the_private_words"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"lock_timeout_s": 0})


def _session(session_id: str) -> Session:
    made = Session(session_id=session_id, title=SECRET, user=SECRET, model=SECRET)
    made.metadata.update({SECRET: SECRET})
    made.config.update({SECRET: SECRET})
    return made


def _task(task_id: str = "") -> Task:
    made = Task(task_id=task_id)
    made.data.update({SECRET: SECRET})
    return made


WRITES: dict[str, tuple[str, Callable[[Wire], Any]]] = {
    "CreateSession": (
        "sessions",
        lambda wire: wire.sessions.CreateSession(
            sessions.CreateSessionRequest(session=_session("new"))
        ),
    ),
    "UpdateSession": (
        "sessions",
        lambda wire: wire.sessions.UpdateSession(
            sessions.UpdateSessionRequest(session=_session("one"))
        ),
    ),
    "UpdateSession, state": (
        "session_state",
        lambda wire: wire.sessions.UpdateSession(
            sessions.UpdateSessionRequest(
                session=Session(session_id="one"),
                state_patch=StatePatch(set={SECRET: f'"{SECRET}"'}),
            )
        ),
    ),
    "CreateTask": (
        "tasks",
        lambda wire: wire.tasks.CreateTask(tasks.CreateTaskRequest(session_id="one", task=_task())),
    ),
    "UpdateTask": (
        "tasks",
        lambda wire: wire.tasks.UpdateTask(
            tasks.UpdateTaskRequest(session_id="one", task=_task("t"))
        ),
    ),
    "CreateBookmark": (
        "bookmarks",
        lambda wire: wire.bookmarks.CreateBookmark(
            bookmarks.CreateBookmarkRequest(
                session_id="one", bookmark=Bookmark(name=SECRET, description=SECRET)
            )
        ),
    ),
    "UpdateBookmark": (
        "bookmarks",
        lambda wire: wire.bookmarks.UpdateBookmark(
            bookmarks.UpdateBookmarkRequest(
                session_id="one", bookmark=Bookmark(name="b", description=SECRET)
            )
        ),
    ),
    "Send": (
        "turns",
        lambda wire: wire.conversations.Send(
            conversations.SendRequest(session_id="one", prompt=SECRET, model="echo")
        ).read(),
    ),
    "StoreMessages": ("messages", lambda wire: wire.store("one", SECRET)),
    "CopySession": ("segments", lambda wire: wire.copy("one", SECRET)),
}


@pytest.mark.parametrize("name", WRITES)
async def test_a_write_sends_values_apart_from_its_text(
    wire: Wire, database_url: str, name: str
) -> None:
    table, write = WRITES[name]
    await wire.create("one")
    await wire.store("one", "x")
    await wire.tasks.CreateTask(tasks.CreateTaskRequest(session_id="one", task=Task(task_id="t")))
    await wire.bookmarks.CreateBookmark(
        bookmarks.CreateBookmarkRequest(session_id="one", bookmark=Bookmark(name="b"))
    )
    with psycopg.connect(database_url) as blocker:
        blocker.execute(f"LOCK TABLE {table} IN SHARE MODE".encode())
        writing = asyncio.ensure_future(write(wire))
        await until_waiting(database_url)
        texts = blocker.execute(
            "SELECT query FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()"
        ).fetchall()
    await writing
    assert texts
    assert SECRET not in str(texts)


async def test_the_errors_of_failed_messages_are_sent_apart(wire: Wire, database_url: str) -> None:
    await fill(wire)
    leased = await lease_one(wire)
    with psycopg.connect(database_url) as blocker:
        blocker.execute("LOCK TABLE processing_exceptions IN SHARE MODE")
        writing = asyncio.ensure_future(ack(wire, leased, failures={1: SECRET}))
        await until_waiting(database_url)
        texts = blocker.execute("SELECT query FROM pg_stat_activity").fetchall()
    await writing
    assert SECRET not in str(texts)
