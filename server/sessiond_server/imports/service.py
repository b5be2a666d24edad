"""Imports of whole sessions: the rules of ImportSession."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from uuid import UUID

from sessiond.v1.message_pb2 import Message
from sessiond_server.assets.service import asset_not_found
from sessiond_server.assets.store.assets import AssetMissing
from sessiond_server.core.errors import Fault, invalid
from sessiond_server.core.events import CREATED, EventPublisher
from sessiond_server.core.ids import creation_key, session_key, uuid7
from sessiond_server.core.limits import MAX_BOOKMARKS, MAX_TASK_MESSAGES, MAX_TASKS, Limits
from sessiond_server.core.validation import (
    check_bookmark_name,
    check_description,
    check_request_id,
    check_session_id,
    check_task_id,
)
from sessiond_server.db.idempotency import NO_LOG, DuplicateRequest, RequestRecord, content_hash
from sessiond_server.imports.store import (
    ImportedBookmark,
    ImportedTask,
    SessionImport,
    SessionImportStore,
)
from sessiond_server.messages.append import spool_pieces
from sessiond_server.messages.store.spool import Spool
from sessiond_server.messages.token_counts import Tokenizer
from sessiond_server.messages.validation import MessageValidator
from sessiond_server.sessions.lifecycle_events import lifecycle_event
from sessiond_server.sessions.service import session_from_first_request
from sessiond_server.sessions.settings import SessionSettings, new_session
from sessiond_server.sessions.store.sessions import SessionRow, SessionStore


@dataclass(frozen=True, slots=True)
class ImportHead:
    """Everything but the messages.

    Attributes:
        session_id: id of the new session; "" = generated.
        settings: its settings.
        state: its state, a SessionState.
        created_at: its create time; None = now.
        active_at: its active time; None = now.
        tasks: its tasks, in order.
        bookmarks: its bookmarks.
        request_id: makes the import safe to repeat; "" = none.
    """

    session_id: str
    settings: SessionSettings
    state: int
    created_at: datetime | None
    active_at: datetime | None
    tasks: Sequence[ImportedTask]
    bookmarks: Sequence[ImportedBookmark]
    request_id: str

    def check(self) -> None:
        """Check the fields that do not depend on the messages.

        Raises:
            Fault: INVALID_FIELD.
        """
        if self.session_id:
            check_session_id(self.session_id, "session.session_id")
        check_request_id(self.request_id)
        if len(self.tasks) > MAX_TASKS:
            raise invalid("tasks", f"are {len(self.tasks)}; a session has at most {MAX_TASKS}")
        if len(self.bookmarks) > MAX_BOOKMARKS:
            raise invalid(
                "bookmarks", f"are {len(self.bookmarks)}; a session has at most {MAX_BOOKMARKS}"
            )
        seen: set[str] = set()
        for i, task in enumerate(self.tasks):
            check_task_id(task.task_id, f"tasks[{i}].task_id")
            if task.task_id in seen:
                raise invalid(
                    f"tasks[{i}].task_id", f"is {task.task_id!r} again; each task has its own"
                )
            seen.add(task.task_id)
            field = f"tasks[{i}].message_seqs"
            if len(task.message_seqs) > MAX_TASK_MESSAGES:
                raise invalid(
                    field,
                    f"has {len(task.message_seqs)} seqs; at most {MAX_TASK_MESSAGES} are allowed",
                )
            if task.message_seqs and task.message_seqs[0] < 1:
                raise invalid(field, f"has {task.message_seqs[0]}; seqs begin with 1")
        seen.clear()
        for i, bookmark in enumerate(self.bookmarks):
            check_bookmark_name(bookmark.name, f"bookmarks[{i}].name")
            if bookmark.name in seen:
                raise invalid(
                    f"bookmarks[{i}].name", f"is {bookmark.name!r} again; each bookmark has its own"
                )
            seen.add(bookmark.name)
            check_description(bookmark.description, f"bookmarks[{i}].description")
            if bookmark.seq is not None and bookmark.seq < 0:
                raise invalid(f"bookmarks[{i}].seq", "is negative")

    def check_seqs(self, last_seq: int) -> None:
        """Check that the seqs of tasks and bookmarks exist.

        Raises:
            Fault: INVALID_FIELD.
        """
        for i, task in enumerate(self.tasks):
            if task.message_seqs and task.message_seqs[-1] > last_seq:
                raise invalid(
                    f"tasks[{i}].message_seqs",
                    f"has {task.message_seqs[-1]}, but there are {last_seq} messages",
                )
        for i, bookmark in enumerate(self.bookmarks):
            if bookmark.seq is not None and bookmark.seq > last_seq:
                raise invalid(
                    f"bookmarks[{i}].seq", f"is {bookmark.seq}, but there are {last_seq} messages"
                )


class SessionImports:
    """Imports of whole sessions, all or nothing."""

    def __init__(
        self,
        store: SessionImportStore,
        sessions: SessionStore,
        limits: Limits,
        tokenizer: Tokenizer,
        publisher: EventPublisher,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._limits = limits
        self._tokenizer = tokenizer
        self._publisher = publisher

    async def run(
        self, project_id: UUID, head: ImportHead, pieces: AsyncIterator[Sequence[Message]]
    ) -> SessionRow:
        """Create the session.

        Raises:
            Fault: with the reasons that ImportSession names.
        """
        head.check()
        session_id = head.session_id or str(uuid7())
        key = session_key(project_id, session_id)
        new = new_session(project_id, session_id, head.settings, self._limits)
        # So that a conflict is reported before all messages are sent; a repetition returns the
        # first result.
        if await self._sessions.get(key, project_id) and not await self._is_recorded(
            project_id, head.request_id
        ):
            raise _exists(session_id)
        validator = MessageValidator(self._limits, self._tokenizer, keep_turn=True)
        with Spool() as spool:
            await spool_pieces(pieces, validator, spool, self._limits, keep_times=True)
            if validator.parent_floor > 0:
                raise Fault(
                    "PARENT_NOT_FOUND",
                    "messages: a parent_seq names no message before it",
                    metadata={"session_id": session_id, "last_seq": validator.count},
                    fields={"messages.parent_seq": "names no earlier message of the session"},
                )
            head.check_seqs(validator.count)
            made = SessionImport(
                new=new,
                state=head.state,
                created_at=head.created_at,
                active_at=head.active_at,
                tasks=head.tasks,
                bookmarks=head.bookmarks,
                count=validator.count,
                content_bytes=validator.content_bytes,
                largest_bytes=validator.largest_bytes,
                tokens=validator.tokens,
                estimated=validator.estimated_tokens,
                first_words=validator.first_words,
                first_words_place=validator.first_words_place,
                asset_refs=validator.asset_refs,
                assets=tuple(validator.asset_fields),
            )
            record = None
            if head.request_id:
                content = content_hash("import", *astuple(head), validator.content_hash.hex())
                record = RequestRecord(
                    creation_key(project_id, head.request_id), head.request_id, content, session_id
                )
            try:
                row = await self._store.create(made, spool, record)
            except DuplicateRequest as duplicate:
                assert record is not None  # noqa: S101 - only a record can be a duplicate
                return await session_from_first_request(
                    self._sessions, project_id, record, duplicate
                )
            except AssetMissing as e:
                raise asset_not_found(e.sha256.hex(), validator.asset_fields[e.sha256]) from None
        if row is None:
            raise _exists(session_id)
        self._publisher.publish(lifecycle_event(CREATED, row))
        return row

    async def _is_recorded(self, project_id: UUID, request_id: str) -> bool:
        return bool(
            request_id
            and await self._sessions.find_request(
                creation_key(project_id, request_id), NO_LOG, request_id
            )
        )


def _exists(session_id: str) -> Fault:
    return Fault(
        "SESSION_ALREADY_EXISTS",
        f"there is a session {session_id!r} already; delete it first, or import under another "
        "session_id",
        metadata={"session_id": session_id},
    )
