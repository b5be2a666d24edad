"""Imports of whole sessions: the rules of ImportSession."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import astuple
from functools import partial
from uuid import UUID

from sessiond.v1.message_pb2 import Message
from sessiond_server.assets.service import asset_not_found
from sessiond_server.assets.store.assets import AssetMissing
from sessiond_server.core.errors import Fault, invalid
from sessiond_server.core.events import CREATED, EventPublisher
from sessiond_server.core.ids import creation_key, uuid7
from sessiond_server.core.limits import MAX_BOOKMARKS, MAX_TASK_MESSAGES, MAX_TASKS, Limits
from sessiond_server.core.validation import (
    check_bookmark_name,
    check_description,
    check_request_id,
    check_session_id,
    check_task_id,
)
from sessiond_server.db.idempotency import NO_LOG, DuplicateRequest, RequestRecord, content_hash
from sessiond_server.formats.token_counts import Tokenizer
from sessiond_server.imports.store import ImportHead, SessionImport, SessionImportStore
from sessiond_server.messages.append import bytes_of, spool_pieces
from sessiond_server.messages.store.spool import Spool
from sessiond_server.messages.validation import MessageValidator
from sessiond_server.quotas.service import Quotas
from sessiond_server.sessions.lifecycle_events import lifecycle_event
from sessiond_server.sessions.service import session_from_first_request
from sessiond_server.sessions.settings import new_session
from sessiond_server.sessions.state import too_large
from sessiond_server.sessions.store.sessions import SessionRow, SessionStore
from sessiond_server.sessions.store.state import StateTooLarge
from sessiond_server.telemetry import metrics


class SessionImports:
    """Imports of whole sessions. An import either succeeds completely or changes nothing."""

    def __init__(
        self,
        store: SessionImportStore,
        sessions: SessionStore,
        limits: Limits,
        tokenizer: Tokenizer,
        publisher: EventPublisher,
        quotas: Quotas,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._limits = limits
        self._tokenizer = tokenizer
        self._publisher = publisher
        self._quotas = quotas

    async def run(
        self, project_id: UUID, head: ImportHead, pieces: AsyncIterator[Sequence[Message]]
    ) -> SessionRow:
        """Import a session and its messages.

        Raises:
            Fault: with the reasons listed at ImportSession in the protos.
        """
        _check_head(head)
        session_id = head.session_id or str(uuid7())
        new = new_session(project_id, session_id, head.settings, self._limits)
        creation = creation_key(project_id, head.request_id)
        # Report a conflict before the client sends all messages. A repetition is no conflict: it
        # returns the result of the first request.
        if await self._sessions.get(new.key, project_id) and not (
            head.request_id and await self._sessions.find_request(creation, NO_LOG, head.request_id)
        ):
            raise _exists(session_id)
        early = RequestRecord(creation, head.request_id, b"") if head.request_id else None
        is_repetition = partial(self._sessions.is_recorded, early)
        (await self._quotas.reserve(project_id, unless=is_repetition, max_sessions=1)).give_back()
        pieces = self._quotas.paced(project_id, pieces, bytes_of, is_repetition)
        validator = MessageValidator(self._limits, self._tokenizer, keep_turn=True)
        with Spool() as spool:
            await spool_pieces(pieces, validator, spool, self._limits, keep_times=True)
            count = validator.totals.count
            if validator.totals.parent_floor > 0:
                raise Fault(
                    "PARENT_NOT_FOUND",
                    "messages: a parent_seq does not name an earlier message",
                    metadata={"session_id": session_id, "last_seq": count},
                    fields={"messages.parent_seq": "names no earlier message of the session"},
                )
            _check_seqs(head, count)
            made = SessionImport(
                new,
                head,
                validator.totals,
                validator.parents,
                validator.asset_refs,
                tuple(validator.asset_fields),
                validator.message_ids,
            )
            record = (
                RequestRecord(
                    creation,
                    head.request_id,
                    content_hash("import", *astuple(head), validator.content_hash.hex()),
                    session_id,
                )
                if head.request_id
                else None
            )
            room = await self._quotas.reserve(
                project_id,
                unless=is_repetition,
                max_sessions=1,
                max_bytes=validator.totals.content_bytes,
            )
            try:
                async with room:
                    row = await self._store.create(made, spool, record)
                    if row is None:
                        room.give_back()
            except DuplicateRequest as duplicate:
                return await session_from_first_request(
                    self._sessions, project_id, record, duplicate
                )
            except StateTooLarge as e:
                raise too_large(e) from None
            except AssetMissing as e:
                raise asset_not_found(e.sha256.hex(), validator.asset_fields[e.sha256]) from None
        if row is None:
            raise _exists(session_id)
        self._publisher.publish(lifecycle_event(CREATED, row))
        metrics.stored(count, validator.totals.content_bytes)
        return row


def _check_head(head: ImportHead) -> None:
    """Check the fields whose validity does not depend on the messages.

    Raises:
        Fault: INVALID_FIELD if a field is invalid.
    """
    if head.session_id:
        check_session_id(head.session_id, "session.session_id")
    check_request_id(head.request_id)
    tasks, bookmarks = head.tasks, head.bookmarks
    for field, count, most in (
        ("tasks", len(tasks), MAX_TASKS),
        ("bookmarks", len(bookmarks), MAX_BOOKMARKS),
    ):
        if count > most:
            raise invalid(field, f"are {count}; a session has at most {most}")
    _check_distinct(
        ((f"tasks[{i}].task_id", task.task_id) for i, task in enumerate(tasks)), check_task_id
    )
    for i, task in enumerate(tasks):
        field, seqs = f"tasks[{i}].message_seqs", task.message_seqs
        if len(seqs) > MAX_TASK_MESSAGES:
            raise invalid(field, f"has {len(seqs)} seqs; at most {MAX_TASK_MESSAGES} are allowed")
        if seqs and seqs[0] < 1:
            raise invalid(field, f"has {seqs[0]}; seqs begin with 1")
    _check_distinct(
        ((f"bookmarks[{i}].name", bookmark.name) for i, bookmark in enumerate(bookmarks)),
        check_bookmark_name,
    )
    for i, bookmark in enumerate(bookmarks):
        check_description(bookmark.description, f"bookmarks[{i}].description")
        if bookmark.seq is not None and bookmark.seq < 0:
            raise invalid(f"bookmarks[{i}].seq", "is negative")


def _check_distinct(names: Iterable[tuple[str, str]], check: Callable[[str, str], object]) -> None:
    """Check the name in each (field, name) pair, and that all names are different."""
    seen: set[str] = set()
    for field, name in names:
        check(name, field)
        if name in seen:
            raise invalid(field, f"repeats {name!r}; each must be different")
        seen.add(name)


def _check_seqs(head: ImportHead, last_seq: int) -> None:
    """Check that the messages that tasks and bookmarks refer to exist.

    Raises:
        Fault: INVALID_FIELD if a message does not exist.
    """
    for i, task in enumerate(head.tasks):
        if task.message_seqs and task.message_seqs[-1] > last_seq:
            raise invalid(
                f"tasks[{i}].message_seqs",
                f"has {task.message_seqs[-1]}, but there are {last_seq} messages",
            )
    for i, bookmark in enumerate(head.bookmarks):
        if bookmark.seq is not None and bookmark.seq > last_seq:
            raise invalid(
                f"bookmarks[{i}].seq", f"is {bookmark.seq}, but there are {last_seq} messages"
            )


def _exists(session_id: str) -> Fault:
    return Fault(
        "SESSION_ALREADY_EXISTS",
        f"session {session_id!r} already exists; delete it first, or import under another "
        "session_id",
        metadata={"session_id": session_id},
    )
