"""Sessions as a whole: out of one server as an export, into another one."""

import os
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, TypeAlias

from sessiond import _export, _requests
from sessiond._async._bookmarks import AsyncBookmarks
from sessiond._async._connection import AsyncConnection
from sessiond._async._streams import message_batches
from sessiond._async._tasks import AsyncTasks
from sessiond._async._wire import Source, each, run
from sessiond._export import Assembler, Counts, Document, Progress, Record
from sessiond._files import LinesFile, NewFile
from sessiond._info import SessionInfo
from sessiond.errors import SessiondError, SessionNotFound, invalid_field
from sessiond.v1.session_service_pb2 import ImportSessionRequest

ExportSource: TypeAlias = Mapping[str, Any] | str | os.PathLike[str] | Source[str]

# Tasks are large at the most: so many of them are still far below what an answer may hold.
_PAGE_SIZE = 100


async def record_batches(
    connection: AsyncConnection,
    session_id: str,
    progress: Progress | None,
    timeout: float | None,
    on_header: Callable[[SessionInfo], object] = lambda info: None,
) -> AsyncGenerator[list[Record], None]:
    """The records of an export, in their order.

    Args:
        timeout: of looking the session up, and of each page of tasks and bookmarks. Unit: seconds. None = the client's.
        on_header: is given the session first.
    Raises: SessiondError.
    """
    info = SessionInfo(await connection.call(connection.stubs.sessions.GetSession, _requests.get_session(session_id), timeout))
    on_header(info)
    # Everything below is as of this moment: what is appended, or marked behind it, from now on is left out.
    last_seq = info.last_seq
    counts = Counts()
    yield [_export.header(info)]
    async for task in AsyncTasks(connection).list(session_id, page_size=_PAGE_SIZE, timeout=timeout):
        counts.count("task")
        yield [_export.task_record(task, last_seq)]
    async for bookmark in AsyncBookmarks(connection).list(session_id, page_size=_PAGE_SIZE, timeout=timeout):
        if bookmark.seq <= last_seq:
            counts.count("bookmark")
            yield [_export.bookmark_record(bookmark)]
    # through_seq = 0 would mean "to the newest".
    if last_seq:
        request = _requests.get_messages(
            session_id, after_seq=None, after_bookmark=None, through_seq=last_seq, limit=None, order="asc", roles=None, view="full"
        )
        async with aclosing(message_batches(connection, request, None)) as batches:
            async for batch in batches:
                for _ in batch:
                    counts.count("message")
                yield [_export.message_record(message) for message in batch]
                if progress:
                    progress(counts.messages, last_seq)
    if counts.messages != last_seq:
        raise SessionNotFound(f"the session {session_id!r} was deleted while it was exported")
    yield [counts.end()]


async def line_batches(connection: AsyncConnection, session_id: str, timeout: float | None) -> AsyncGenerator[list[str], None]:
    """The export as lines of JSON."""
    async with aclosing(record_batches(connection, session_id, None, timeout)) as batches:
        async for batch in batches:
            yield [_export.line(record) for record in batch]


async def export(connection: AsyncConnection, session_id: str, timeout: float | None) -> dict[str, Any]:
    """The export as one dict."""
    result: dict[str, Any] = {"tasks": [], "bookmarks": [], "messages": []}
    async with aclosing(record_batches(connection, session_id, None, timeout)) as batches:
        async for batch in batches:
            for kind, value in batch:
                if kind == "export":
                    result = {**value, **result}
                elif kind != "end":
                    result[f"{kind}s"].append(value)
    return result


async def export_to(
    connection: AsyncConnection,
    session_id: str,
    path: str | os.PathLike[str],
    form: str,
    progress: Progress | None,
    timeout: float | None,
) -> SessionInfo:
    """The export as a file, which is there when it is complete."""
    if form not in ("jsonl", "json"):
        raise invalid_field("format", f"is {form!r}; it must be one of jsonl, json")
    text_of = _export.line if form == "jsonl" else Document().text
    found: list[SessionInfo] = []
    file = await run(lambda: NewFile(path))
    try:
        async with aclosing(record_batches(connection, session_id, progress, timeout, found.append)) as batches:
            async for batch in batches:
                text = "".join([text_of(record) for record in batch])
                await run(partial(file.write, text))
        await run(file.complete)
    except BaseException:
        # Not awaited: where the task is cancelled, this has to happen still.
        file.discard()
        raise
    return found[0]


async def import_session(
    connection: AsyncConnection,
    source: ExportSource,
    session_id: str | None,
    progress: Progress | None,
    request_id: str | None,
    timeout: float | None,
) -> SessionInfo:
    """A new session of an export."""
    if session_id == "":
        raise invalid_field("session_id", "is empty; leave it out to keep the exported one")
    # The same for all attempts, or a repetition would meet the session that the attempt before made.
    request_id = request_id or uuid.uuid4().hex
    raised: list[Exception] = []
    try:
        response = await connection.upload(
            connection.stubs.sessions.ImportSession,
            lambda: _pieces(source, Assembler(session_id, request_id), progress, raised),
            timeout=timeout,
            # Any other source is used up by the first attempt.
            is_repeatable=isinstance(source, Mapping | str | os.PathLike | list | tuple),
        )
    except SessiondError:
        if raised:
            raise raised[0] from None
        raise
    return SessionInfo(response)


async def _pieces(
    source: ExportSource, assembler: Assembler, progress: Progress | None, raised: list[Exception]
) -> AsyncGenerator[ImportSessionRequest, None]:
    """The pieces of an import. Where making them raises, the error goes to `raised`, and a last piece makes the server refuse the whole."""
    try:
        async with aclosing(_placed_records(source)) as records:
            async for place, record in records:
                piece = assembler.take(place, record)
                if piece is not None:
                    yield piece
                    if progress:
                        progress(assembler.messages, assembler.total)
        last = assembler.finish()
        if progress:
            progress(assembler.messages, assembler.total)
    except Exception as error:
        # A stream that merely breaks off here could pass for one that is complete.
        raised.append(error)
        yield _export.REFUSED_PIECE
        return
    yield last


async def _placed_records(source: ExportSource) -> AsyncGenerator[tuple[str, Record], None]:
    """The records of a source, each with the words for its place. Raises: InvalidField, OSError."""
    if isinstance(source, Mapping):
        for placed in _export.records_of(source):
            yield placed
        return
    if isinstance(source, bytes):
        raise invalid_field("source", "must be a path, a dict, or lines of text")
    number = 0
    is_lines = True
    document: list[bytes] = []
    async with aclosing(_lines(source)) as lines:
        async for line in lines:
            number += 1
            if number == 1:
                is_lines = _export.is_lines(line)
            if not is_lines:
                document.append(line)
            elif line.strip():
                yield f"line {number}", _export.record_of(line, f"line {number}")
    if document:
        for placed in _export.records_of(_export.parsed(b"".join(document), "source")):
            yield placed


async def _lines(source: str | os.PathLike[str] | Source[str]) -> AsyncGenerator[bytes, None]:
    """The lines of a path, or of what is iterated over, in UTF-8."""
    if not isinstance(source, str | os.PathLike):
        async for text in each(source):
            if not isinstance(text, str):
                raise invalid_field("source", f"gives {type(text).__name__} where it must give lines of text")
            # Half a surrogate pair passes here, and is refused where it stands, with its place.
            yield text.encode("utf-8", "surrogatepass")
        return
    file = await run(lambda: LinesFile(source))
    try:
        while lines := await run(file.read):
            for line in lines:
                yield line
    finally:
        file.close()
