"""ExportSession: an import of its stream creates an equal session."""

from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1.bookmark_pb2 import Bookmark
from sessiond.v1.bookmark_service_pb2 import CreateBookmarkRequest
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_state_pb2 import StatePatch
from sessiond.v1.task_pb2 import Task
from sessiond.v1.task_service_pb2 import CreateTaskRequest

from ..support.wire import Wire


async def export(wire: Wire, session_id: str) -> list[ss.ExportSessionResponse]:
    request = ss.ExportSessionRequest(session_id=session_id)
    return [piece async for piece in wire.sessions.ExportSession(request)]


async def test_an_export_is_what_an_import_takes(wire: Wire) -> None:
    await wire.create("one", title="T", user="ada", metadata={"a": 1})
    for i in range(3):
        await wire.store("one", *(f"{i} {'x' * 3000}" for _ in range(400)))
    for name in ("a", "b"):
        task = Task(task_id=name, message_seqs=[1, 2])
        await wire.tasks.CreateTask(CreateTaskRequest(session_id="one", task=task))
        bookmark = Bookmark(name=name, seq=3)
        await wire.bookmarks.CreateBookmark(
            CreateBookmarkRequest(session_id="one", bookmark=bookmark)
        )
    state = StatePatch(set={"cart": '{"b": 1, "a": 2.0}', "n": "null"})
    await wire.sessions.UpdateSession(
        ss.UpdateSessionRequest(session=Session(session_id="one"), state_patch=state)
    )
    pieces = await export(wire, "one")
    assert pieces[0].state_patch == state
    assert len(pieces) > 3
    assert all(not piece.HasField("session") for piece in pieces[1:])
    # Import the same bytes, except for the id, which exists already.
    requests = [ss.ImportSessionRequest.FromString(piece.SerializeToString()) for piece in pieces]
    requests[0].session.session_id = "two"
    imported = await wire.sessions.ImportSession(iter(requests))
    assert (imported.title, imported.last_seq) == ("T", 1200)
    again = await export(wire, "two")
    for piece in (pieces[0], again[0]):
        for field in ("session_id", "etag", "expire_time"):
            piece.session.ClearField(field)  # type: ignore[arg-type]
        for item in (*piece.tasks, *piece.bookmarks):
            item.etag = ""
    assert again[0] == pieces[0]
    assert [m for piece in again for m in piece.messages] == [
        m for piece in pieces for m in piece.messages
    ]


async def test_messages_end_where_the_session_was_read(wire: Wire) -> None:
    await wire.create("one")
    await wire.store("one", "a")
    stream = wire.sessions.ExportSession(ss.ExportSessionRequest(session_id="one"))
    pieces = [await anext(aiter(stream))]
    await wire.store("one", "b")
    pieces += [piece async for piece in stream]
    assert pieces[0].session.last_seq == len([m for piece in pieces for m in piece.messages])


async def test_an_empty_session_is_one_piece(wire: Wire) -> None:
    await wire.create("one")
    [piece] = await export(wire, "one")
    assert piece.session.session_id == "one"
