"""Pages of tasks and bookmarks never go on with those of another session of the same id."""

from typing import Any

import pytest

from sessiond.v1 import bookmark_service_pb2 as bookmarks
from sessiond.v1 import task_service_pb2 as tasks
from sessiond.v1.bookmark_pb2 import Bookmark
from sessiond.v1.task_pb2 import Task

from ..support.wire import Wire, error_of


async def fill(wire: Wire, prefix: str) -> None:
    await wire.create("one")
    await wire.store("one", "a", "b", "c", "d")
    for i in range(1, 5):
        task = Task(task_id=f"{prefix}{i}")
        await wire.tasks.CreateTask(tasks.CreateTaskRequest(session_id="one", task=task))
        bookmark = Bookmark(name=f"{prefix}{i}", seq=i)
        await wire.bookmarks.CreateBookmark(
            bookmarks.CreateBookmarkRequest(session_id="one", bookmark=bookmark)
        )


async def page(wire: Wire, kind: str, token: str = "") -> Any:
    if kind == "tasks":
        return await wire.tasks.ListTasks(
            tasks.ListTasksRequest(session_id="one", page_size=2, page_token=token)
        )
    return await wire.bookmarks.ListBookmarks(
        bookmarks.ListBookmarksRequest(session_id="one", page_size=2, page_token=token)
    )


@pytest.mark.parametrize("kind", ["tasks", "bookmarks"])
@pytest.mark.parametrize("is_empty", [False, True])
async def test_a_page_of_a_deleted_session_is_not_found(
    wire: Wire, kind: str, is_empty: bool
) -> None:
    await fill(wire, "old")
    first = await page(wire, kind)
    token = first.next_page_token
    assert len(getattr((await page(wire, kind, token)), kind)) == 2
    await wire.delete("one")
    if is_empty:
        await wire.create("one")
    else:
        await fill(wire, "new")
    assert (await error_of(page(wire, kind, token))).reason == "SESSION_NOT_FOUND"
    assert len(getattr((await page(wire, kind)), kind)) == (0 if is_empty else 2)
