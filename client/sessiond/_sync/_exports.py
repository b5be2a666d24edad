# Generated from _async/_exports.py by scripts/generate-sync-client. Do not edit.
"""The calls that export and import whole sessions; `client.sessions` has them."""

import os
from typing import Any

from sessiond._export.records import Progress
from sessiond._sync import _transfer
from sessiond._sync._connection import Calls
from sessiond._sync._lazy import Lazy
from sessiond._sync._transfer import ExportSource
from sessiond._types.session import SessionInfo


class ExportCalls(Calls):
    """The calls that export and import whole sessions."""

    def export(
        self, session_id: str, *, assets: bool = True, timeout: float | None = None
    ) -> dict[str, Any]:
        """Return a session with its tasks, bookmarks, messages and assets as one dict.

        json.dumps takes the dict, and import_session makes an equal session of it. It holds the
        whole session in memory; export_lines and export_to do not.

        Messages and bookmarks are as of the moment at which the session is looked up. Tasks are as
        of when they are read, without links to later messages. The export leaves out what no other
        session can have (etag, origin) and what follows from the rest (summary, content_bytes, the
        token counts, expires_at).

        Args:
            session_id: the session.
            assets: include the content of each asset that a message refers to. Without it, the
                project that imports the session must have these assets already.
            timeout: deadline of looking the session up, and of each asset, in seconds. Reading
                messages and contents has none.

        Returns:
            {"version": 1,
            "session": {"session_id", "state", "model", "user", "title", "config", "metadata",
            "idle_ttl" (seconds, or None), "never_expires", "created_at", "active_at", "last_seq"},
            "tasks": [{"task_id", "status", "data", "message_seqs", "created_at", "updated_at"},
            ...] in their order,
            "bookmarks": [{"name", "seq", "description", "created_at", "updated_at"}, ...],
            "messages": [{"seq", "role", "created_at", "parent_seq", "metadata", "content" (the
            text, for people to read), "format", and "json" (the exact text) or "parts"
            (sessiond.v1.Part in protobuf's JSON form, with the names of the protos), "turn" if it
            has one}, ...],
            "assets": [{"asset_id", "media_type", "size", "data" (the content in base64)}, ...] in
            the order in which messages name them}.
            Times are ISO 8601 strings in UTC.

        Raises:
            SessionNotFound: if there is no such session.
        """
        return _transfer.export(self._connection, session_id, timeout, assets=assets)

    def export_lines(
        self, session_id: str, *, assets: bool = True, timeout: float | None = None
    ) -> Lazy[str]:
        """Export a session as lines of JSON, made during the iteration, in bounded memory.

        Each line has a "kind". An "export" line with the version and the session comes first, then
        a line for each "task", "bookmark" and "message", and last an "end" line with the number of
        each, which shows that nothing is cut off. "asset" lines come before the first message that
        refers to the asset, each with a piece of the content: "asset_id", "media_type", "size",
        "offset", "data" (base64). The same session gives the same lines.

        Args:
            session_id: the session.
            assets: include the content of assets, as in export.
            timeout: a deadline in seconds, as in export.

        Returns:
            A lazy list of lines with their ends, as a file's writelines takes them. It calls
            nothing before it is iterated over. Iterating raises SessionNotFound if there is no
            such session.
        """
        return Lazy(
            lambda: _transfer.line_batches(self._connection, session_id, timeout, assets=assets)
        )

    def export_to(
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

        An existing file is replaced once the export is complete.

        Args:
            session_id: the session.
            path: path of the file.
            format: "jsonl" for the lines of export_lines, "json" for the one document of export.
            assets: include the content of assets, as in export.
            progress: called now and then with the number of messages written and of all messages.
            timeout: a deadline in seconds, as in export.

        Returns:
            The session as it was exported.

        Raises:
            SessionNotFound: if there is no such session.
            OSError: if the file cannot be written.
        """
        return _transfer.export_to(
            self._connection, session_id, path, format, progress, timeout, assets=assets
        )

    def import_session(
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

        Exporting the new session gives the same export again. Lines of JSON are read and sent in
        bounded memory; one JSON document is read as a whole. The assets are uploaded first, large
        ones through a temporary file. If the import fails, they are removed as any asset that
        nothing refers to.

        Args:
            source: the dict of export, the path of a file of export_to in either format, an open
                text file, or an iterable of lines. After a broken connection, a dict, a path and a
                list are read again; another source can be used only once, and the error is raised.
            session_id: id of the new session, 1 to 256 characters, unique in the project. Default:
                the exported one.
            extract_files: upload the files inside the messages as assets, as in store_messages.
            progress: called now and then, possibly in another thread, with the number of messages
                sent and of all messages; the latter is None if the export does not say.
            request_id: makes the call safe to repeat.
            timeout: deadline over all attempts, in seconds. Default: none.

        Returns:
            The session.

        Raises:
            SessionAlreadyExists: if there is one of this id.
            InvalidField: if the source is no complete export of a known version, with the line or
                the place in it.
            AssetNotFound: if the export has no assets, and the project lacks one.
            SessiondError: as store_messages for the messages, and as assets.upload for the assets.
            OSError: if a file cannot be read.
        """
        return _transfer.import_session(
            self._connection, source, session_id, progress, request_id, timeout, extract_files
        )
