"""ConversationService: converts requests, calls the features, converts responses."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import islice
from typing import Any

from sessiond.v1.conversation_service_pb2 import (
    SEND_MODE_IMMEDIATE,
    AbortRequest,
    AbortResponse,
    GetTurnRequest,
    ListTurnsRequest,
    ListTurnsResponse,
    PreviewTurnRequest,
    PreviewTurnResponse,
    SendMode,
    SendRequest,
    SendResponse,
    WatchRequest,
)
from sessiond.v1.turn_pb2 import FitChangeKind, Turn, TurnState
from sessiond_server.core.cancellation import run_to_completion
from sessiond_server.projects.authentication import Caller
from sessiond_server.rpc import conversions
from sessiond_server.turns.errors import storable
from sessiond_server.turns.requests.previews import Previews
from sessiond_server.turns.sending import Sending
from sessiond_server.turns.service import Turns
from sessiond_server.turns.store.rows import MAX_CHANGES, TurnRow
from sessiond_server.turns.streams import TurnStreams
from sessiond_server.watch.hub import WatchHub
from sessiond_server.watch.options import WatchOptions

# Methods are named as in the protos.
# ruff: noqa: N802


class ConversationServicer:
    """The methods of ConversationService; see handlers.Servicer."""

    needs_admin = False

    def __init__(
        self, turns: Turns, streams: TurnStreams, previews: Previews, watching: WatchHub
    ) -> None:
        self._turns = turns
        self._streams = streams
        self._previews = previews
        self._watching = watching

    async def Send(self, request: SendRequest, caller: Caller) -> AsyncGenerator[bytes, None]:
        mode = conversions.enum_number(SendMode.DESCRIPTOR, request.mode, "mode")
        sending = Sending(
            caller.project_id,
            request.session_id,
            request.prompt,
            list(request.messages),
            request.model,
            request.options_json,
            mode == SEND_MODE_IMMEDIATE,
            conversions.milliseconds(request.turn_timeout)
            if request.HasField("turn_timeout")
            else None,
            request.request_id,
            request.keep_partial if request.HasField("keep_partial") else None,
            request.expected_epoch if request.HasField("expected_epoch") else None,
            request.parent_seq,
        )
        steps = self._streams.send(
            sending, after_seq=request.after_seq, abort_on_disconnect=request.abort_on_disconnect
        )
        async with aclosing(steps):
            async for step in steps:
                response = SendResponse(message_id=step.message_id)
                if step.turn:
                    response.turn.CopyFrom(_message(step.turn, request.session_id))
                yield response.SerializeToString() + step.events

    async def Abort(self, request: AbortRequest, caller: Caller) -> AbortResponse:
        aborting = self._turns.abort(
            caller.project_id,
            request.session_id,
            request.turn_id,
            include_queued=request.include_queued,
            request_id=request.request_id,
        )
        ended = await run_to_completion(aborting)
        return AbortResponse(turns=[_message(row, request.session_id) for row in ended])

    async def PreviewTurn(self, request: PreviewTurnRequest, caller: Caller) -> PreviewTurnResponse:
        preview = await self._previews.preview(
            Sending(
                caller.project_id,
                request.session_id,
                request.prompt,
                list(request.messages),
                request.model,
                request.options_json,
                parent_seq=request.parent_seq,
            )
        )
        response = PreviewTurnResponse(
            model=preview.model,
            provider=preview.provider,
            request_json=preview.request_json,
            request_bytes=preview.request_bytes,
            seqs=preview.seqs,
            change_count=len(preview.report),
        )
        for change in islice(preview.report, MAX_CHANGES):
            _add_change(response.changes, change.seq, change.kind.name, storable(change.detail))
        return response

    async def GetTurn(self, request: GetTurnRequest, caller: Caller) -> Turn:
        row = await self._streams.wait(
            caller.project_id,
            request.session_id,
            request.turn_id,
            conversions.milliseconds(request.wait),
        )
        return _message(row, request.session_id)

    async def ListTurns(self, request: ListTurnsRequest, caller: Caller) -> ListTurnsResponse:
        page = await self._turns.list(
            caller.project_id,
            request.session_id,
            conversions.enum_number(TurnState.DESCRIPTOR, request.state, "state"),
            request.page_size,
            request.page_token,
        )
        turns = [_message(row, request.session_id) for row in page.items]
        return ListTurnsResponse(turns=turns, next_page_token=page.next_page_token)

    async def Watch(self, request: WatchRequest, caller: Caller) -> AsyncGenerator[bytes, None]:
        asked = WatchOptions(
            request.session_id,
            request.after_seq if request.HasField("after_seq") else None,
            conversions.milliseconds(request.heartbeat_interval)
            if request.HasField("heartbeat_interval")
            else None,
            request.after_epoch if request.HasField("after_epoch") else None,
            request.incarnation,
            request.follow_recreated,
        )
        async with aclosing(self._watching.watch(caller.project_id, asked)) as responses:
            async for response in responses:
                yield response


def _message(row: TurnRow, session_id: str) -> Turn:
    turn = Turn(
        turn_id=str(row.turn_id),
        session_id=session_id,
        state=TurnState.ValueType(row.state),
        model=row.model,
        first_seq=row.first_seq,
        last_seq=row.last_seq,
        stop_reason=row.stop_reason,
        change_count=row.change_count,
        partial_seq=row.partial_seq,
        parent_seq=row.parent_seq,
    )
    if row.usage:
        usage = turn.usage
        (
            usage.input_tokens,
            usage.output_tokens,
            usage.cached_input_tokens,
            usage.reasoning_tokens,
        ) = row.usage
    if row.error:
        turn.error.reason = row.error["reason"]
        turn.error.message = row.error["message"]
        turn.error.metadata.update(row.error["metadata"])
    for seq, kind, detail in row.changes or ():
        _add_change(turn.changes, seq, kind, detail)
    turn.create_time.FromDatetime(row.created_at)
    if row.started_at:
        turn.start_time.FromDatetime(row.started_at)
    if row.ended_at:
        turn.end_time.FromDatetime(row.ended_at)
    return turn


def _add_change(changes: Any, seq: int, kind: str, detail: str) -> None:
    number = FitChangeKind.DESCRIPTOR.values_by_name.get(f"FIT_CHANGE_KIND_{kind}")
    changes.add(seq=seq, kind=number.number if number else 0, detail=detail)
