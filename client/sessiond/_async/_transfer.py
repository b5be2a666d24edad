"""The streams of exports and imports of whole sessions."""

import hashlib
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, TypeAlias

from sessiond._async._assets import AsyncAssets, check_content
from sessiond._async._attachments import FileExtractor
from sessiond._async._connection import AsyncConnection
from sessiond._async._snapshots import snapshot_and_messages
from sessiond._async._streams import asset_pieces
from sessiond._async._wire import Source, each, run_blocking
from sessiond._export import reader, records, writer
from sessiond._export.files import LinesFile, NewFile, TemporaryFile
from sessiond._export.reader import Assembler, AssetPiece
from sessiond._export.records import (
    ASSET_PIECE_BYTES,
    ExportCounts,
    ExportRecord,
    Progress,
    check_progress,
)
from sessiond._export.writer import Collection, Document
from sessiond._protocol.checks import path_of
from sessiond._requests import assets as asset_requests
from sessiond._requests.fields import filled, request_id_or_new
from sessiond._types.session import SessionInfo
from sessiond.errors import SessionNotFound, invalid_field
from sessiond.v1.session_service_pb2 import ImportSessionRequest

ExportSource: TypeAlias = Mapping[str, Any] | str | os.PathLike[str] | Source[str]


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
    """Yield the records of an export in their order.

    Args:
        connection: makes the calls.
        session_id: the session.
        progress: called with the numbers of messages yielded and of all messages.
        timeout: deadline, in seconds, of reading the session without its messages, and of looking
            up each asset. None = the client's.
        on_header: called first, with the session.
        assets: also yield the contents of the assets, each before the first message that refers to
            it.
        assets_last: yield the contents after all messages instead.

    Yields:
        Several records.

    Raises:
        SessionNotFound: if there is no such session, or if it is deleted during the export.
        HistoryRewound: if the session is rewound during the export, and messages are missing.
    """
    counts = ExportCounts()
    found: dict[str, None] = {}
    last_seq = 0
    async with aclosing(snapshot_and_messages(connection, session_id, timeout)) as pieces:
        async for snapshot, batch in pieces:
            if snapshot:
                info = records.session_of(snapshot)
                last_seq = info.last_seq
                on_header(info)
                yield [records.header(info)]
                yield [counts.count(record) for record in records.belongings(snapshot)]
                continue
            batch_records: list[ExportRecord] = []
            for message in batch:
                new = dict.fromkeys(records.asset_ids(message) if assets else ())
                new = {asset_id: None for asset_id in new if asset_id not in found}
                found.update(new)
                if new and not assets_last:
                    yield batch_records
                    batch_records = []
                    async with aclosing(
                        _asset_records(connection, new, counts, timeout)
                    ) as contents:
                        async for piece in contents:
                            yield [piece]
                batch_records.append(counts.count(records.message_record(message)))
            yield batch_records
            if progress:
                progress(counts.messages, last_seq)
    if counts.messages != last_seq:
        raise SessionNotFound(f"the session {session_id!r} was deleted while it was exported")
    if assets_last:
        async with aclosing(_asset_records(connection, found, counts, timeout)) as contents:
            async for piece in contents:
                yield [piece]
    yield [counts.end()]


async def _asset_records(
    connection: AsyncConnection,
    asset_ids: Iterable[str],
    counts: ExportCounts,
    timeout: float | None,
) -> AsyncGenerator[ExportRecord, None]:
    """Yield the contents of assets, in pieces whose size does not depend on the server's pieces."""
    for asset_id in asset_ids:
        asset = await AsyncAssets(connection).get(asset_id, timeout=timeout)
        digest = hashlib.sha256()
        offset = 0
        buffer = bytearray()
        request = asset_requests.download_asset(asset_id)
        async with aclosing(asset_pieces(connection, request, None)) as batches:
            async for batch in batches:
                for data in batch:
                    digest.update(data)
                    buffer += data
                while len(buffer) >= ASSET_PIECE_BYTES:
                    piece = bytes(buffer[:ASSET_PIECE_BYTES])
                    yield counts.count(records.asset_record(asset, offset, piece))
                    offset += ASSET_PIECE_BYTES
                    del buffer[:ASSET_PIECE_BYTES]
        check_content(asset_id, digest.hexdigest())
        # An empty asset still needs one piece, without data.
        if buffer or not offset:
            yield counts.count(records.asset_record(asset, offset, bytes(buffer)))


async def line_batches(
    connection: AsyncConnection, session_id: str, timeout: float | None, *, assets: bool
) -> AsyncGenerator[list[str], None]:
    """Yield an export as lines of JSON."""
    async with aclosing(
        record_batches(connection, session_id, None, timeout, assets=assets)
    ) as batches:
        async for batch in batches:
            yield [writer.line(record) for record in batch]


async def export(
    connection: AsyncConnection, session_id: str, timeout: float | None, *, assets: bool
) -> dict[str, Any]:
    """Return an export as one dict."""
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
    """Write an export to a file. The file appears when the export is complete."""
    if form not in ("jsonl", "json"):
        raise invalid_field("format", f"is {form!r}; it must be one of jsonl, json")
    check_progress(progress)
    text_of = writer.line if form == "jsonl" else Document().text
    found: list[SessionInfo] = []
    file = await run_blocking(NewFile, path_of(path, "path"))
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
                await run_blocking(partial(file.write, text))
        await run_blocking(file.complete)
    except BaseException:
        # Not awaited, so that it also runs in a cancelled task.
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
    extract_files: bool | int,
) -> SessionInfo:
    """Create a session from an export."""
    if session_id == "":
        raise invalid_field("session_id", "is empty; leave it out to keep the exported one")
    check_progress(progress)
    reader.check_source(source)
    extractor = FileExtractor(connection, extract_files)
    # All attempts have the same request_id, so that a retry cannot collide with the session that an
    # earlier attempt has created.
    final_request_id = request_id_or_new(request_id)
    # This refuses values of the wrong type before the source is read.
    head = filled(ImportSessionRequest(), request_id=final_request_id)
    filled(head.session, session_id=session_id)
    response = await connection.upload(
        lambda stubs: stubs.sessions.ImportSession,
        lambda: _pieces(
            connection, source, Assembler(session_id, final_request_id), progress, extractor
        ),
        timeout=timeout,
        # A source of any other type is consumed by the first attempt.
        is_repeatable=isinstance(source, Mapping | str | os.PathLike | list | tuple),
        refusal=reader.REFUSED_PIECE,
    )
    return SessionInfo(response)


async def _pieces(
    connection: AsyncConnection,
    source: ExportSource,
    assembler: Assembler,
    progress: Progress | None,
    extractor: FileExtractor,
) -> AsyncGenerator[ImportSessionRequest, None]:
    """Yield the requests of an import, and upload the assets meanwhile.

    The server looks the assets up when the last request has arrived.
    """
    uploads = _Uploads(connection)
    try:
        async with aclosing(_placed_records(source)) as placed:
            async for place, record in placed:
                for piece in assembler.take(place, record):
                    if isinstance(piece, AssetPiece):
                        await uploads.take(piece)
                        continue
                    yield await _without_files(piece, extractor)
                    if progress:
                        progress(assembler.messages, assembler.total)
        last = assembler.finish()
        if progress:
            progress(assembler.messages, assembler.total)
    finally:
        uploads.close()
    yield await _without_files(last, extractor)


async def _without_files(
    piece: ImportSessionRequest, extractor: FileExtractor
) -> ImportSessionRequest:
    for message in piece.messages:
        if (stored := await extractor.take(message)) is not message:
            message.CopyFrom(stored)
    return piece


class _Uploads:
    """Uploads assets whose content arrives in pieces, one asset after the other.

    An asset with several pieces is written to a temporary file, so that it is not held in memory,
    and can be sent again after a broken connection.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._assets = AsyncAssets(connection)
        self._file: TemporaryFile | None = None

    async def take(self, piece: AssetPiece) -> None:
        """Add a piece. If it is the last one, upload the asset.

        Raises:
            SessiondError: as in assets.upload.
            OSError: if the temporary file cannot be written.
        """
        if piece.is_first and piece.is_last:
            await self._assets.upload(
                piece.data, media_type=piece.media_type, asset_id=piece.asset_id
            )
            return
        if self._file is None:
            self._file = await run_blocking(TemporaryFile)
        await run_blocking(self._file.write, piece.data)
        if piece.is_last:
            await run_blocking(self._file.complete)
            await self._assets.upload(
                self._file.path,
                media_type=piece.media_type,
                asset_id=piece.asset_id,
                size=piece.size,
            )
            self.close()

    def close(self) -> None:
        """Remove the temporary file, if any. Not async, so that it runs in a cancelled task too."""
        if self._file:
            self._file.discard()
            self._file = None


async def _placed_records(source: ExportSource) -> AsyncGenerator[tuple[str, ExportRecord], None]:
    """Yield the records of a source, each with a description of its place.

    Raises:
        InvalidField: if the source is not an export.
        OSError: if a file cannot be read.
    """
    if isinstance(source, Mapping):
        for placed in reader.records_of(source):
            yield placed
        return
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
    """Yield the lines of a file or an iterable, as UTF-8."""
    if not isinstance(source, str | os.PathLike):
        async for text in each(source):
            if not isinstance(text, str):
                raise invalid_field(
                    "source", f"yields {type(text).__name__}; it must yield lines of text"
                )
            # Lone surrogates are accepted here, and refused later with their place.
            yield text.encode("utf-8", "surrogatepass")
        return
    file = await run_blocking(LinesFile, source)
    try:
        while lines := await run_blocking(file.read):
            for line in lines:
                yield line
    finally:
        file.close()
