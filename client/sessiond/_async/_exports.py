"""The calls that export and import whole sessions; `client.sessions` has them."""

import os
from typing import Any

from sessiond._async import _transfer
from sessiond._async._connection import AsyncCalls
from sessiond._async._lazy import AsyncLazy
from sessiond._async._transfer import ExportSource
from sessiond._export.records import Progress
from sessiond._types.session import SessionInfo


class AsyncExportCalls(AsyncCalls):
    """The calls that export and import whole sessions."""

    async def export(
        self, session_id: str, *, assets: bool = True, timeout: float | None = None
    ) -> dict[str, Any]:
        """Return a session with its tasks, bookmarks, messages and assets as one dict.

        json.dumps accepts the dict, and import_session creates an equal session from it. The whole
        session is held in memory; export_lines and export_to need only bounded memory.

        The session, its state, tasks, bookmarks and messages are exported as they were at one
        moment, however long the export takes. The export does not contain fields that no other
        session can have (etag, origin), nor fields that are derived from the rest (summary,
        content_bytes, the token counts, expires_at).

        Args:
            session_id: the session.
            assets: include the content of each asset that a message refers to. Without the
                contents, the project that imports the session must have these assets already.
            timeout: deadline, in seconds, of reading the session's settings, tasks and bookmarks,
                and of looking up each asset. Reading the messages, and the contents of the assets,
                has no deadline.

        Returns:
            {"version": 1,
            "session": {"session_id", "status", "model", "user", "title", "config", "metadata",
            "idle_ttl" (seconds, or None), "never_expires", "created_at", "active_at", "last_seq"},
            "tasks": [{"task_id", "status", "data", "message_seqs", "created_at", "updated_at"},
            ...] in their order,
            "bookmarks": [{"name", "seq", "description", "created_at", "updated_at"}, ...],
            "messages": [{"seq", "role", "created_at", "parent_seq", "metadata", "content" (the
            text, for people to read), "format", and "json" (the exact text) or "parts"
            (sessiond.v1.Part in protobuf's JSON form, with the names of the protos), "turn" if it
            has one}, ...],
            "assets": [{"asset_id", "media_type", "size", "data" (the content in base64)}, ...] in
            the order in which messages refer to them}.
            Times are ISO 8601 strings in UTC.

        Raises:
            SessionNotFound: if there is no such session, or if it is deleted during the export.
            HistoryRewound: if the session is rewound during the export, so that messages are
                missing; export it again.
            Unimplemented: if the server is older than its ExportSession call.
        """
        return await _transfer.export(self._connection, session_id, timeout, assets=assets)

    def export_lines(
        self, session_id: str, *, assets: bool = True, timeout: float | None = None
    ) -> AsyncLazy[str]:
        """Export a session as lines of JSON, created during the iteration, in bounded memory.

        Each line has a "kind". The first line is the "export" line, with the version and the
        session. It is followed by one line for each "task", "bookmark" and "message". The last line
        is the "end" line with the number of each kind, which shows that nothing is cut off. The
        "asset" lines of an asset precede the first message that refers to it; each holds a piece of
        the content: "asset_id", "media_type", "size", "offset", "data" (base64). The same session
        gives the same lines.

        Args:
            session_id: the session.
            assets: include the content of assets, as in export.
            timeout: a deadline in seconds, as in export.

        Returns:
            A lazy list of lines with their line ends, as a file's writelines() accepts them. No
            call is made until it is iterated over. Iterating raises the same errors as export.
        """
        return AsyncLazy(
            lambda: _transfer.line_batches(self._connection, session_id, timeout, assets=assets)
        )

    async def export_to(
        self,
        session_id: str,
        path: str | os.PathLike[str],
        *,
        format: str = "jsonl",
        assets: bool = True,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> SessionInfo:
        """Export a session to a file, in bounded memory.

        An existing file is replaced when the export is complete.

        Args:
            session_id: the session.
            path: path of the file.
            format: "jsonl" for the lines of export_lines, "json" for one document as in export.
            assets: include the content of assets, as in export.
            progress: called from time to time with the numbers of messages written and of all
                messages.
            timeout: a deadline in seconds, as in export.

        Returns:
            The session as exported.

        Raises:
            SessiondError: as in export.
            OSError: if the file cannot be written.
        """
        return await _transfer.export_to(
            self._connection, session_id, path, format, progress, timeout, assets=assets
        )

    async def import_session(
        self,
        source: ExportSource,
        session_id: str | None = None,
        *,
        extract_files: bool | int = False,
        progress: Progress | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> SessionInfo:
        """Create a session from an export, here or on another server, all or nothing.

        Exporting the new session again gives an equal export. Lines of JSON are read and sent in
        bounded memory; a JSON document is read as a whole. The assets are uploaded first, large
        assets through a temporary file. If the import fails, the server removes them like any asset
        without references.

        Args:
            source: the dict from export, the path of a file from export_to in either format, an
                open text file, or an iterable of lines. After a broken connection, a dict, a path
                or a list is read again. Other sources can be read only once, so the error is
                raised.
            session_id: id of the new session, 1 to 1,024 characters, unique in the project.
                Default: the exported id.
            extract_files: upload the files inside the messages as assets, as in store_messages.
            progress: called from time to time, possibly in another thread, with the numbers of
                messages sent and of all messages; the latter is None if the export does not contain
                it.
            request_id: makes the call safe to repeat.
            timeout: deadline over all attempts, in seconds. Default: no deadline.

        Returns:
            The session.

        Raises:
            SessionAlreadyExists: if the id is taken.
            InvalidField: if the source is not a complete export of a known version. The error names
                the line, or the path in the document.
            AssetNotFound: if the export was made without assets, and the project lacks one of them.
            SessiondError: as in store_messages for the messages, and as in assets.upload for the
                assets.
            OSError: if a file cannot be read.
        """
        return await _transfer.import_session(
            self._connection, source, session_id, progress, request_id, timeout, extract_files
        )
