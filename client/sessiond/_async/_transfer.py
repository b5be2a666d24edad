"""Sessions as a whole: out of one server as an export, into another one."""

import hashlib
import os
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, TypeAlias

from sessiond._async._assets import AsyncAssets, check_content
from sessiond._async._bookmarks import AsyncBookmarks
from sessiond._async._connection import AsyncConnection
from sessiond._async._streams import asset_pieces, message_batches
from sessiond._async._tasks import AsyncTasks
from sessiond._async._wire import Source, each, run
from sessiond._export import reader, records, writer
from sessiond._export.files import LinesFile, NewFile, TemporaryFile
from sessiond._export.reader import Assembler, AssetPiece
from sessiond._export.records import ASSET_PIECE_BYTES, ExportCounts, ExportRecord, Progress
from sessiond._export.writer import Collection, Document
from sessiond._requests import assets as asset_requests
from sessiond._requests import messages as message_requests
from sessiond._requests import sessions as session_requests
from sessiond._types.session import SessionInfo
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
    *,
    assets: bool,
    assets_last: bool = False,
) -> AsyncGenerator[list[ExportRecord], None]:
    """The records of an export, in their order.

    Args:
        timeout: of looking the session up, and of each page of tasks and bookmarks. Unit: seconds. None = the client's.
        on_header: is given the session first.
        assets: with the contents of the assets that messages refer to, each before the first such message; assets_last: after all messages.
    Raises: SessiondError.
    """
    info = SessionInfo(
        await connection.call(
            connection.stubs.sessions.GetSession, session_requests.get_session(session_id), timeout
        )
    )
    on_header(info)
    # Everything below is as of this moment: what is appended, or marked behind it, from now on is left out.
    last_seq = info.last_seq
    counts = ExportCounts()
    found: dict[str, None] = {}
    yield [records.header(info)]
    async for task in AsyncTasks(connection).list(
        session_id, page_size=_PAGE_SIZE, timeout=timeout
    ):
        record = records.task_record(task, last_seq)
        counts.count(record)
        yield [record]
    async for bookmark in AsyncBookmarks(connection).list(
        session_id, page_size=_PAGE_SIZE, timeout=timeout
    ):
        if bookmark.seq <= last_seq:
            record = records.bookmark_record(bookmark)
            counts.count(record)
            yield [record]
    # through_seq = 0 would mean "to the newest".
    if last_seq:
        request = message_requests.get_messages(
            session_id,
            after_seq=None,
            after_bookmark=None,
            through_seq=last_seq,
            limit=None,
            order="asc",
            roles=None,
            view="full",
        )
        async with aclosing(message_batches(connection, request, None)) as batches:
            async for batch in batches:
                batch_records: list[ExportRecord] = []
                for message in batch:
                    new = (
                        [
                            asset_id
                            for asset_id in dict.fromkeys(records.asset_ids(message))
                            if asset_id not in found
                        ]
                        if assets
                        else []
                    )
                    found.update(dict.fromkeys(new))
                    if new and not assets_last:
                        yield batch_records
                        batch_records = []
                        async with aclosing(
                            _asset_records(connection, new, counts, timeout)
                        ) as pieces:
                            async for piece in pieces:
                                yield [piece]
                    record = records.message_record(message)
                    counts.count(record)
                    batch_records.append(record)
                yield batch_records
                if progress:
                    progress(counts.messages, last_seq)
    if counts.messages != last_seq:
        raise SessionNotFound(f"the session {session_id!r} was deleted while it was exported")
    if assets_last:
        async with aclosing(_asset_records(connection, found, counts, timeout)) as pieces:
            async for piece in pieces:
                yield [piece]
    yield [counts.end()]


async def _asset_records(
    connection: AsyncConnection,
    asset_ids: Iterable[str],
    counts: ExportCounts,
    timeout: float | None,
) -> AsyncGenerator[ExportRecord, None]:
    """The contents of assets, piece by piece. They are the same pieces each time, however they come from the server."""
    for asset_id in asset_ids:
        asset = await AsyncAssets(connection).get(asset_id, timeout=timeout)
        digest = hashlib.sha256()
        offset = 0
        buffer = bytearray()
        request = asset_requests.download_asset(asset_id, offset=None, length=None)
        async with aclosing(asset_pieces(connection, request, None)) as batches:
            async for batch in batches:
                for data in batch:
                    digest.update(data)
                    buffer += data
                while len(buffer) >= ASSET_PIECE_BYTES:
                    record = records.asset_record(asset, offset, bytes(buffer[:ASSET_PIECE_BYTES]))
                    counts.count(record)
                    yield record
                    offset += ASSET_PIECE_BYTES
                    del buffer[:ASSET_PIECE_BYTES]
        check_content(asset_id, digest.hexdigest())
        # An empty asset is one piece without data.
        if buffer or not offset:
            record = records.asset_record(asset, offset, bytes(buffer))
            counts.count(record)
            yield record


async def line_batches(
    connection: AsyncConnection, session_id: str, timeout: float | None, *, assets: bool
) -> AsyncGenerator[list[str], None]:
    """The export as lines of JSON."""
    async with aclosing(
        record_batches(connection, session_id, None, timeout, assets=assets)
    ) as batches:
        async for batch in batches:
            yield [writer.line(record) for record in batch]


async def export(
    connection: AsyncConnection, session_id: str, timeout: float | None, *, assets: bool
) -> dict[str, Any]:
    """The export as one dict."""
    collection = Collection()
    async with aclosing(
        record_batches(connection, session_id, None, timeout, assets=assets)
    ) as batches:
        async for batch in batches:
            for record in batch:
                collection.take(record)
    return collection.result()


async def export_to(
    connection: AsyncConnection,
    session_id: str,
    path: str | os.PathLike[str],
    form: str,
    progress: Progress | None,
    timeout: float | None,
    *,
    assets: bool,
) -> SessionInfo:
    """The export as a file, which is there when it is complete."""
    if form not in ("jsonl", "json"):
        raise invalid_field("format", f"is {form!r}; it must be one of jsonl, json")
    text_of = writer.line if form == "jsonl" else Document().text
    found: list[SessionInfo] = []
    file = await run(lambda: NewFile(path))
    try:
        encoded = record_batches(
            connection,
            session_id,
            progress,
            timeout,
            found.append,
            assets=assets,
            assets_last=form == "json",
        )
        async with aclosing(encoded) as batches:
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
    # Of each attempt: one that has ended may still be at work in gRPC's thread.
    attempts: list[list[Exception]] = []

    def pieces() -> AsyncGenerator[ImportSessionRequest, None]:
        attempts.append([])
        return _pieces(
            connection, source, Assembler(session_id, request_id), progress, attempts[-1]
        )

    try:
        response = await connection.upload(
            connection.stubs.sessions.ImportSession,
            pieces,
            timeout=timeout,
            # Any other source is used up by the first attempt.
            is_repeatable=isinstance(source, Mapping | str | os.PathLike | list | tuple),
        )
    except SessiondError:
        if attempts and attempts[-1]:
            raise attempts[-1][0] from None
        raise
    return SessionInfo(response)


async def _pieces(
    connection: AsyncConnection,
    source: ExportSource,
    assembler: Assembler,
    progress: Progress | None,
    raised: list[Exception],
) -> AsyncGenerator[ImportSessionRequest, None]:
    """The pieces of an import; the assets are uploaded on the way, since the server looks for them when the last piece has come.

    Where making them raises, the error goes to `raised`, and a last piece makes the server refuse the whole.
    """
    uploads = _Uploads(connection)
    try:
        async with aclosing(_placed_records(source)) as placed:
            async for place, record in placed:
                for piece in assembler.take(place, record):
                    if isinstance(piece, AssetPiece):
                        await uploads.take(piece)
                        continue
                    yield piece
                    if progress:
                        progress(assembler.messages, assembler.total)
        last = assembler.finish()
        if progress:
            progress(assembler.messages, assembler.total)
    except Exception as error:
        # A stream that merely breaks off here could pass for one that is complete.
        raised.append(error)
        yield reader.REFUSED_PIECE
        return
    finally:
        uploads.close()
    yield last


class _Uploads:
    """Uploads assets whose content comes in pieces, one asset after the other.

    What comes in several pieces goes through a temporary file: so it needs no memory, and can be sent again where the connection breaks.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._assets = AsyncAssets(connection)
        self._file: TemporaryFile | None = None

    async def take(self, piece: AssetPiece) -> None:
        """Take a piece; with the last one, upload the asset. Raises: what uploading raises; OSError."""
        if piece.is_first and piece.is_last:
            await self._assets.upload(
                piece.data, media_type=piece.media_type, asset_id=piece.asset_id
            )
            return
        if self._file is None:
            self._file = await run(TemporaryFile)
        await run(self._file.write, piece.data)
        if piece.is_last:
            await run(self._file.complete)
            await self._assets.upload(
                self._file.path,
                media_type=piece.media_type,
                asset_id=piece.asset_id,
                size=piece.size,
            )
            self.close()

    def close(self) -> None:
        """Leave no file behind. Not awaited: where the task is cancelled, this has to happen still."""
        if self._file:
            self._file.discard()
            self._file = None


async def _placed_records(source: ExportSource) -> AsyncGenerator[tuple[str, ExportRecord], None]:
    """The records of a source, each with the words for its place. Raises: InvalidField, OSError."""
    if isinstance(source, Mapping):
        for placed in reader.records_of(source):
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
                is_lines = reader.is_lines(line)
            if not is_lines:
                document.append(line)
            elif line.strip():
                yield f"line {number}", reader.record_of(line, f"line {number}")
    if document:
        for placed in reader.records_of(reader.parsed(b"".join(document), "source")):
            yield placed


async def _lines(source: str | os.PathLike[str] | Source[str]) -> AsyncGenerator[bytes, None]:
    """The lines of a path, or of what is iterated over, in UTF-8."""
    if not isinstance(source, str | os.PathLike):
        async for text in each(source):
            if not isinstance(text, str):
                raise invalid_field(
                    "source", f"gives {type(text).__name__} where it must give lines of text"
                )
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
