"""SessionService: converts requests, calls the features, converts responses."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace

from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.v1.message_pb2 import Message
from sessiond.v1.rewind_pb2 import RewindSessionRequest, RewindSessionResponse
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import (
    MESSAGE_ORDER_DESC,
    MESSAGE_VIEW_BASIC,
    MESSAGE_VIEW_PARTS,
    BatchStoreMessagesRequest,
    BatchStoreMessagesResponse,
    BatchStoreMessagesResult,
    CopySessionRequest,
    CopySessionResponse,
    CreateSessionRequest,
    DeleteSessionRequest,
    DeleteSessionResponse,
    DeleteSessionsRequest,
    DeleteSessionsResponse,
    DestroySessionRequest,
    ExportSessionRequest,
    ExportSessionResponse,
    GetMessageRequest,
    GetMessagesRequest,
    GetMessagesResponse,
    GetSessionRequest,
    GetTokenCountsRequest,
    GetTokenCountsResponse,
    ImportMessagesRequest,
    ImportMessagesResponse,
    ImportSessionRequest,
    ListCopiesRequest,
    ListCopiesResponse,
    ListMessagesRequest,
    ListMessagesResponse,
    ListSessionsRequest,
    ListSessionsResponse,
    MessageOrder,
    MessageView,
    ResumeSessionRequest,
    StoreMessagesRequest,
    StoreMessagesResponse,
    UpdateSessionRequest,
)
from sessiond.v1.session_state_pb2 import StatePatch
from sessiond_server.copies.service import Copies
from sessiond_server.core.cancellation import run_to_completion
from sessiond_server.core.errors import invalid
from sessiond_server.core.states import SessionStatus
from sessiond_server.formats.token_counts import ENCODING
from sessiond_server.imports.export import SessionExports
from sessiond_server.imports.service import SessionImports
from sessiond_server.messages.append import Appends
from sessiond_server.messages.batch_append import BatchAppender
from sessiond_server.messages.history import History
from sessiond_server.messages.joined_append import JoinedAppends
from sessiond_server.messages.listing import list_messages
from sessiond_server.messages.read_window import Reading
from sessiond_server.messages.store.append import Appended
from sessiond_server.projects.authentication import Caller
from sessiond_server.rewinds.service import Rewinding, Rewinds
from sessiond_server.rpc import conversions
from sessiond_server.rpc.admission import Admission
from sessiond_server.rpc.bookmark_service import bookmark_message
from sessiond_server.rpc.handlers import status_of_part
from sessiond_server.rpc.targets import place_of, target_of
from sessiond_server.rpc.task_service import task_message
from sessiond_server.sessions.bulk_deletion import MAX_NAMED, BulkDeletions
from sessiond_server.sessions.service import Sessions
from sessiond_server.sessions.store.listing import Listing
from sessiond_server.sessions.store.sessions import SessionRow
from sessiond_server.sessions.store.state import StateChange

# Methods are named as in the protos.
# ruff: noqa: N802


class SessionServicer:
    """The methods of SessionService; see handlers.Servicer."""

    needs_admin = False

    def __init__(
        self,
        sessions: Sessions,
        bulk_deletions: BulkDeletions,
        copies: Copies,
        imports: SessionImports,
        exports: SessionExports,
        appends: Appends,
        joined_appends: JoinedAppends,
        batch_appends: BatchAppender,
        history: History,
        rewinds: Rewinds,
        admission: Admission,
    ) -> None:
        self._sessions = sessions
        self._bulk_deletions = bulk_deletions
        self._copies = copies
        self._imports = imports
        self._exports = exports
        self._appends = appends
        self._joined_appends = joined_appends
        self._batch_appends = batch_appends
        self._history = history
        self._rewinds = rewinds
        self._admission = admission

    async def _with_state(self, row: SessionRow) -> Session:
        """Convert a session, with its state."""
        message = conversions.session_message(row)
        [state] = await self._sessions.states([row])
        conversions.put_state(message, state)
        return message

    async def CreateSession(self, request: CreateSessionRequest, caller: Caller) -> Session:
        row = await self._sessions.create(
            caller.project_id,
            request.session.session_id,
            replace(conversions.settings(request.session), state=conversions.state_patch(request)),
            get_or_create=request.get_or_create,
            request_id=request.request_id,
        )
        return await self._with_state(row)

    async def GetSession(self, request: GetSessionRequest, caller: Caller) -> Session:
        return await self._with_state(
            await self._sessions.get(caller.project_id, request.session_id)
        )

    async def ListSessions(
        self, request: ListSessionsRequest, caller: Caller
    ) -> ListSessionsResponse:
        listing = Listing(
            conversions.session_filter(request, caller.project_id),
            conversions.order_name(request.order),
            limit=0,
        )
        page = await self._sessions.list(
            listing, request.page_size, request.page_token, with_state=request.with_state
        )
        sessions = [conversions.session_message(row) for row in page.items]
        if request.with_state:
            states = await self._sessions.states(page.items)
            for session, state in zip(sessions, states, strict=True):
                conversions.put_state(session, state)
        return ListSessionsResponse(sessions=sessions, next_page_token=page.next_page_token)

    async def UpdateSession(self, request: UpdateSessionRequest, caller: Caller) -> Session:
        values, patches = conversions.update_values(request)
        row = await self._sessions.update(
            caller.project_id,
            request.session.session_id,
            values,
            patches,
            StateChange(conversions.state_patch(request), request.state_etag),
            etag=request.etag,
            request_id=request.request_id,
        )
        return await self._with_state(row)

    async def ResumeSession(self, request: ResumeSessionRequest, caller: Caller) -> Session:
        return await self._with_state(
            await self._sessions.set_status(
                caller.project_id, request.session_id, SessionStatus.ACTIVE, request.request_id
            )
        )

    async def DestroySession(self, request: DestroySessionRequest, caller: Caller) -> Session:
        # The session's turns must be ended even if the caller disconnects in the meantime.
        destroying = self._sessions.set_status(
            caller.project_id, request.session_id, SessionStatus.DESTROYED, request.request_id
        )
        return await self._with_state(await run_to_completion(destroying))

    async def DeleteSession(
        self, request: DeleteSessionRequest, caller: Caller
    ) -> DeleteSessionResponse:
        await self._sessions.delete(
            caller.project_id,
            request.session_id,
            allow_missing=request.allow_missing,
            etag=request.etag,
            request_id=request.request_id,
        )
        return DeleteSessionResponse()

    async def DeleteSessions(
        self, request: DeleteSessionsRequest, caller: Caller
    ) -> DeleteSessionsResponse:
        done = await self._bulk_deletions.run(
            conversions.session_filter(request, caller.project_id),
            everything=request.all,
            dry_run=request.dry_run,
            request_id=request.request_id,
        )
        return DeleteSessionsResponse(
            session_count=done.sessions,
            message_count=done.messages,
            locked_count=len(done.locked),
            locked_session_ids=done.locked[:MAX_NAMED],
        )

    async def CopySession(self, request: CopySessionRequest, caller: Caller) -> CopySessionResponse:
        row = await self._copies.copy(caller.project_id, conversions.copying(request))
        return CopySessionResponse(
            old_session_id=request.session_id,
            new_session_id=row.session_id,
            session=await self._with_state(row),
        )

    async def ListCopies(self, request: ListCopiesRequest, caller: Caller) -> ListCopiesResponse:
        page = await self._copies.list(
            caller.project_id, request.session_id, request.page_size, request.page_token
        )
        return ListCopiesResponse(
            copies=[conversions.copy_message(row) for row in page.items],
            next_page_token=page.next_page_token,
        )

    async def RewindSession(
        self, request: RewindSessionRequest, caller: Caller
    ) -> RewindSessionResponse:
        kind = request.WhichOneof("to")
        rewinding = Rewinding(
            place_of(request, caller),
            messages=request.messages,
            return_removed=request.return_removed,
            abort_turn=request.abort_turn,
            **{kind: getattr(request, kind)} if kind else {},
        )
        done = await run_to_completion(self._rewinds.rewind(rewinding))
        response = RewindSessionResponse(
            last_seq=done.result.last_seq,
            epoch=done.result.epoch,
            first_seq=done.result.first_seq,
            removed_count=done.result.removed_count,
            removed=map(Message.FromString, done.removed),
        )
        if done.result.first_seq:
            response.create_time.CopyFrom(conversions.timestamp_of(done.result.created_us))
        return response

    async def GetTokenCounts(
        self, request: GetTokenCountsRequest, caller: Caller
    ) -> GetTokenCountsResponse:
        row = await self._sessions.get(caller.project_id, request.session_id)
        return GetTokenCountsResponse(
            total_tokens=row.token_count,
            estimated_tokens=row.estimated_tokens,
            encoding=ENCODING,
            message_count=row.last_seq,
        )

    async def ImportSession(
        self, requests: AsyncIterator[ImportSessionRequest], caller: Caller
    ) -> Session:
        first = await anext(requests, None)
        if first is None:
            raise invalid("session", "is required: the stream ended without one")

        async def pieces() -> AsyncIterator[Sequence[Message]]:
            yield first.messages
            async for request in requests:
                yield request.messages

        head = conversions.import_head(first)
        with self._admission.importing(caller.project_id):
            row = await self._imports.run(caller.project_id, head, pieces())
        return await self._with_state(row)

    async def StoreMessages(
        self, request: StoreMessagesRequest, caller: Caller
    ) -> StoreMessagesResponse:
        return _stored(
            await self._joined_appends.store(target_of(request, caller), request.messages)
        )

    async def BatchStoreMessages(
        self, request: BatchStoreMessagesRequest, caller: Caller
    ) -> AsyncGenerator[bytes, None]:
        requests = [(target_of(one, caller), one.messages) for one in request.requests]
        async with aclosing(self._batch_appends.store(requests)) as known:
            async for outcomes in known:
                results = [
                    BatchStoreMessagesResult(index=index, response=_stored(end))
                    if isinstance(end, Appended)
                    else await _refusal(index, end, request.requests[index])
                    for index, end in outcomes
                ]
                yield BatchStoreMessagesResponse(results=results).SerializeToString()

    async def ImportMessages(
        self, requests: AsyncIterator[ImportMessagesRequest], caller: Caller
    ) -> ImportMessagesResponse:
        first = await anext(requests, None)
        if first is None:
            raise invalid("session_id", "is required: the stream ended without one")
        target = target_of(first, caller)

        async def pieces() -> AsyncIterator[Sequence[Message]]:
            yield first.messages
            async for request in requests:
                if request.session_id not in ("", target.session_id):
                    raise invalid("session_id", "differs from that of the first piece")
                yield request.messages

        with self._admission.importing(caller.project_id):
            stored = await self._appends.store_stream(target, pieces())
        return ImportMessagesResponse(
            first_seq=stored.first_seq,
            last_seq=stored.last_seq,
            create_time=_create_time(stored),
            skipped_count=stored.skipped,
            epoch=stored.epoch,
        )

    async def GetMessages(
        self, request: GetMessagesRequest, caller: Caller
    ) -> AsyncGenerator[bytes, None]:
        start = request.WhichOneof("start")
        reading = replace(
            _reading(request),
            limit=request.limit,
            resume_token=request.resume_token,
            after_bookmark=request.after_bookmark if start == "after_bookmark" else None,
            after_message_id=request.after_message_id if start == "after_message_id" else None,
            expected_epoch=request.expected_epoch if request.HasField("expected_epoch") else None,
            branch_of=request.branch_of,
            incarnation=request.incarnation,
        )
        async with aclosing(self._history.stream(caller.project_id, reading)) as batches:
            async for batch in batches:
                self._admission.check_draining()
                yield batch

    async def ListMessages(
        self, request: ListMessagesRequest, caller: Caller
    ) -> ListMessagesResponse:
        page = await list_messages(
            self._history,
            caller.project_id,
            replace(
                _reading(request),
                branch_of=request.branch_of,
                after_message_id=request.after_message_id or None,
                after_bookmark=request.after_bookmark or None,
                expected_epoch=request.expected_epoch
                if request.HasField("expected_epoch")
                else None,
            ),
            request.page_size,
            request.page_token,
        )
        return ListMessagesResponse(messages=page.items, next_page_token=page.next_page_token)

    async def ExportSession(
        self, request: ExportSessionRequest, caller: Caller
    ) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._exports.run(caller.project_id, request.session_id)) as pieces:
            async for piece in pieces:
                self._admission.check_draining()
                if isinstance(piece, bytes):
                    messages = GetMessagesResponse.FromString(piece).messages
                    response = ExportSessionResponse(messages=messages)
                else:
                    response = ExportSessionResponse(
                        session=conversions.session_message(piece.session),
                        tasks=[task_message(row) for row in piece.tasks],
                        bookmarks=[bookmark_message(row) for row in piece.bookmarks],
                        state_patch=StatePatch(set=piece.state) if piece.state else None,
                    )
                yield response.SerializeToString()

    async def GetMessage(self, request: GetMessageRequest, caller: Caller) -> bytes:
        return await self._history.message(
            caller.project_id, request.session_id, request.seq, request.message_id
        )


def _reading(request: GetMessagesRequest | ListMessagesRequest) -> Reading:
    order = conversions.enum_number(MessageOrder.DESCRIPTOR, request.order, "order")
    view = conversions.enum_number(MessageView.DESCRIPTOR, request.view, "view")
    return Reading(
        session_id=request.session_id,
        after_seq=request.after_seq,
        through_seq=request.through_seq,
        descending=order == MESSAGE_ORDER_DESC,
        roles=tuple(request.roles),
        basic=view == MESSAGE_VIEW_BASIC,
        as_parts=view == MESSAGE_VIEW_PARTS,
    )


def _stored(appended: Appended) -> StoreMessagesResponse:
    response = StoreMessagesResponse(
        first_seq=appended.first_seq,
        last_seq=appended.last_seq,
        skipped_count=appended.skipped,
        epoch=appended.epoch,
    )
    if appended.first_seq:  # otherwise all messages were skipped
        conversions.put_time(response.create_time, appended.created_us)
    return response


def _create_time(appended: Appended) -> Timestamp | None:
    """Convert the create time of the stored messages; None if all were skipped."""
    return conversions.timestamp_of(appended.created_us) if appended.first_seq else None


async def _refusal(
    index: int, error: Exception, request: StoreMessagesRequest
) -> BatchStoreMessagesResult:
    return BatchStoreMessagesResult(index=index, error=await status_of_part(error, request))
