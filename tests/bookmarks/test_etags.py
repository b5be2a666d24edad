"""The etags of bookmarks, and the etags of deleted tasks."""

import grpc
import pytest

from sessiond.v1.bookmark_pb2 import Bookmark
from sessiond.v1.bookmark_service_pb2 import (
    CreateBookmarkRequest,
    DeleteBookmarkRequest,
    GetBookmarkRequest,
    UpdateBookmarkRequest,
)
from sessiond.v1.task_pb2 import TASK_STATUS_RUNNING, Task
from sessiond.v1.task_service_pb2 import CreateTaskRequest, DeleteTaskRequest, UpdateTaskRequest

from ..support.wire import Wire, error_of


@pytest.fixture
async def made(wire: Wire) -> Bookmark:
    await wire.create("one")
    return await wire.bookmarks.CreateBookmark(
        CreateBookmarkRequest(session_id="one", bookmark=Bookmark(name="b"))
    )


def described(text: str, etag: str = "") -> UpdateBookmarkRequest:
    bookmark = Bookmark(name="b", description=text)
    return UpdateBookmarkRequest(session_id="one", bookmark=bookmark, etag=etag)


async def test_an_update_changes_the_etag_and_asks_for_the_current_one(
    wire: Wire, made: Bookmark
) -> None:
    read = await wire.bookmarks.GetBookmark(GetBookmarkRequest(session_id="one", name="b"))
    assert read.etag == made.etag != ""
    changed = await wire.bookmarks.UpdateBookmark(described("x", made.etag))
    assert changed.etag != made.etag
    error = await error_of(wire.bookmarks.UpdateBookmark(described("y", made.etag)))
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert error.metadata["etag"] == changed.etag


async def test_a_deletion_asks_for_the_current_etag(wire: Wire, made: Bookmark) -> None:
    await wire.bookmarks.UpdateBookmark(described("x"))
    request = DeleteBookmarkRequest(session_id="one", name="b", etag=made.etag)
    error = await error_of(wire.bookmarks.DeleteBookmark(request))
    assert error.reason == "ETAG_MISMATCH"
    request.etag = error.metadata["etag"]
    await wire.bookmarks.DeleteBookmark(request)


async def test_a_bookmark_that_is_made_again_has_another_etag(wire: Wire, made: Bookmark) -> None:
    await wire.bookmarks.DeleteBookmark(DeleteBookmarkRequest(session_id="one", name="b"))
    again = await wire.bookmarks.CreateBookmark(
        CreateBookmarkRequest(session_id="one", bookmark=Bookmark(name="b"))
    )
    assert again.etag != made.etag


async def test_a_task_is_deleted_only_with_its_current_etag(wire: Wire) -> None:
    await wire.create("one")
    task = await wire.tasks.CreateTask(CreateTaskRequest(session_id="one", task=Task(task_id="t")))
    running = Task(task_id="t", status=TASK_STATUS_RUNNING)
    changed = await wire.tasks.UpdateTask(UpdateTaskRequest(session_id="one", task=running))
    request = DeleteTaskRequest(session_id="one", task_id="t", etag=task.etag)
    assert (await error_of(wire.tasks.DeleteTask(request))).reason == "ETAG_MISMATCH"
    request.etag = "nonsense"
    assert (await error_of(wire.tasks.DeleteTask(request))).reason == "INVALID_FIELD"
    request.etag = changed.etag
    await wire.tasks.DeleteTask(request)
