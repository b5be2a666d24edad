"""The call that imports transcripts of other programs; `client.sessions` has it."""

import os
from collections.abc import AsyncGenerator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sessiond._async._exports import AsyncExportCalls
from sessiond._async._messages import AsyncMessageCalls
from sessiond._async._wire import run_blocking, sleep
from sessiond._export.records import Progress, check_progress
from sessiond._protocol.checks import check_text
from sessiond._requests.options import SessionSettings
from sessiond._requests.sessions import put_creation
from sessiond._transcripts.programs import files_of, program_of, transcripts_of
from sessiond._transcripts.reading import Reading, Unreadable
from sessiond._transcripts.records import Program, Transcript
from sessiond._types.transcripts import (
    BadLine,
    FailedTranscript,
    ImportedTranscript,
    TranscriptImport,
)
from sessiond.errors import (
    Conflict,
    FailedPrecondition,
    InvalidRequest,
    MessageAlreadyExists,
    SessionNotFound,
    Unavailable,
)
from sessiond.v1 import message_pb2
from sessiond.v1 import session_service_pb2 as pb

_ATTEMPTS = 5


class AsyncTranscriptCalls(AsyncExportCalls, AsyncMessageCalls):
    """The call that imports transcripts of other programs."""

    async def import_transcripts(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        program: str,
        *,
        id_prefix: str = "",
        create: SessionSettings | None = None,
        keep_bad_lines: bool = False,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> TranscriptImport:
        """Import the transcripts that another program has written to files.

        Each transcript becomes a session. Each of its lines becomes a message of the format "other"
        with the program's name, byte for byte. The session's id is made from the program's own ids,
        so a repeated import adds only the new lines. A transcript is imported completely or not at
        all. The result lists the transcripts that failed; the others are imported nevertheless.

        Files of lines are read in bounded memory, and JSON documents one conversation at a time.

        Args:
            paths: files and directories. A directory stands for all transcripts below it.
            program: "claude-code", "codex", "openai-export" (ChatGPT's conversations.json),
                "sharegpt" or "langchain" (what messages_to_dict or dumpd returns, as JSON).
            id_prefix: text that is put before the ids of the sessions.
            create: settings of new sessions: model, user, title, config, metadata, idle_ttl,
                never_expires.
            keep_bad_lines: store each unreadable line as a message with the format_name "bad-line",
                instead of refusing its transcript.
            progress: called from time to time with the numbers of bytes read, and of all bytes.
            timeout: deadline of each lookup of a transcript, and of each import of one, in seconds.
                Default: no deadline.

        Returns:
            The imported transcripts, and the failed ones.

        Raises:
            InvalidField: if an argument is malformed.
            SessiondError: if the server was not reached, or refused the caller. Earlier transcripts
                are stored; a repeated import continues after them.
        """
        reader = program_of(program)
        check_text(id_prefix, "id_prefix")
        put_creation(pb.ImportMessagesRequest(), create)
        check_progress(progress)
        result = TranscriptImport([], [])
        files = await run_blocking(files_of, reader, paths)
        bytes_read = _Bytes(files, progress)
        for path in files:
            await self._import_file(
                reader,
                path,
                program,
                id_prefix,
                create,
                keep_bad_lines,
                bytes_read,
                timeout,
                result,
            )
            bytes_read.end_file(path)
        return result

    async def _import_file(
        self,
        reader: Program,
        path: Path,
        program: str,
        id_prefix: str,
        create: SessionSettings | None,
        keep_bad_lines: bool,
        bytes_read: "_Bytes",
        timeout: float | None,
        result: TranscriptImport,
    ) -> None:
        """Import the transcripts in a file."""
        found = transcripts_of(reader, program, path)
        unread: list[BadLine] = []
        while (transcript := await run_blocking(next, found, None)) is not None:
            if isinstance(transcript, BadLine):
                unread.append(replace(transcript, text=b""))
                continue
            done = await self._import_transcript(
                transcript, id_prefix, create, keep_bad_lines, bytes_read, timeout
            )
            if isinstance(done, ImportedTranscript):
                result.imported.append(done)
            else:
                result.failed.append(done)
        if unread:
            result.failed.append(FailedTranscript(str(path), None, unread))

    async def _import_transcript(
        self,
        transcript: Transcript,
        id_prefix: str,
        create: SessionSettings | None,
        keep_bad_lines: bool,
        bytes_read: "_Bytes",
        timeout: float | None,
    ) -> ImportedTranscript | FailedTranscript:
        session_id, path = id_prefix + transcript.session_id, str(transcript.path)
        settings: SessionSettings = {**(create or {})}
        settings.setdefault("title", transcript.title)
        settings["metadata"] = {**transcript.metadata, **(settings.get("metadata") or {})}
        attempt = 0
        while True:
            known, last_seq = await self._known(session_id, timeout)
            reading = Reading(transcript, known, last_seq, keep_bad=keep_bad_lines)
            try:
                if first := await run_blocking(reading.take):
                    await self.import_messages(
                        session_id,
                        _messages(first, reading, bytes_read),
                        expected_last_seq=last_seq,
                        create=settings,
                        timeout=timeout,
                    )
                return reading.result(path, session_id)
            except Unreadable:
                return FailedTranscript(path, session_id, reading.bad_lines)
            except OSError as error:
                bad = BadLine(0, error.strerror or str(error))
                return FailedTranscript(path, session_id, [bad])
            except (InvalidRequest, FailedPrecondition) as error:
                return FailedTranscript(path, session_id, reading.bad_lines_of(error))
            except (Conflict, MessageAlreadyExists, Unavailable):
                # Another caller stored messages, or the connection broke. The next attempt first
                # reads what is stored.
                attempt += 1
                if attempt == _ATTEMPTS:
                    raise
                await sleep(0.1 * 2**attempt)

    async def _known(self, session_id: str, timeout: float | None) -> tuple[dict[str, int], int]:
        """Return the seq of each message_id of a session, and its last_seq."""
        known: dict[str, int] = {}
        last_seq = 0
        try:
            async for message in self.get_messages(session_id, timeout=timeout):
                last_seq = message.seq
                if message_id := message.message_id:
                    known[message_id] = last_seq
        except SessionNotFound:
            pass
        return known, last_seq


class _Bytes:
    """Counts the bytes that were read, for the caller."""

    def __init__(self, files: list[Path], progress: Progress | None) -> None:
        self._progress = progress
        self._sizes = {path: _size(path) for path in files} if progress else {}
        self._total = sum(self._sizes.values())
        self._done = 0

    def report(self, size: int) -> None:
        """Report how many bytes of the current file were read."""
        if self._progress:
            self._progress(min(self._done + size, self._total), self._total)

    def end_file(self, path: Path) -> None:
        """Count a whole file."""
        self._done += self._sizes.get(path, 0)
        self.report(0)


async def _messages(
    first: list[message_pb2.Message], reading: Reading, bytes_read: _Bytes
) -> AsyncGenerator[Any, None]:
    """Yield the new messages of a transcript; files are read in a thread."""
    batch = first
    while batch:
        bytes_read.report(reading.size)
        for message in batch:
            yield message
        batch = await run_blocking(reading.take)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0
