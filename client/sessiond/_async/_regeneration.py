"""The call of `client.sessions` that has a model answer again."""

import math
from collections.abc import Mapping
from contextlib import aclosing, suppress
from datetime import timedelta
from typing import Any

from sessiond._async._messages import AsyncMessageCalls
from sessiond._async._rewinds import AsyncRewindCalls
from sessiond._async._streams import message_batches, place_of
from sessiond._async._turns import WAIT_TIMEOUT_S, AsyncTurnCalls
from sessiond._protocol.retry import Deadline
from sessiond._requests import messages as message_requests
from sessiond._requests import sessions as session_requests
from sessiond._requests.fields import filled, request_id_or_new
from sessiond._requests.turns import OnTimeout, Sending, aborts
from sessiond._types.message import Message
from sessiond.errors import ParentNotFound, SessiondError, invalid_field
from sessiond.v1 import session_service_pb2 as pb


class AsyncRegenerationCalls(AsyncTurnCalls, AsyncRewindCalls, AsyncMessageCalls):
    """The calls about messages, turns and rewinds, and `regenerate`, which combines them."""

    async def regenerate(
        self,
        session_id: str,
        *,
        branch: bool = False,
        copy_to: str | None = None,
        model: str | None = None,
        options: Mapping[str, Any] | None = None,
        turn_timeout: timedelta | float | None = None,
        abort_turn: bool = False,
        timeout: float = WAIT_TIMEOUT_S,
        on_timeout: OnTimeout = "leave",
    ) -> Message:
        """Replace the last answer: let the model answer again, and wait for the new answer.

        The last answer consists of the assistant's messages since the newest message of another
        role: the user's prompt, or the result of a tool. If there is no answer yet, the model just
        answers. Messages of other branches stay. If some of them are newer than the message that is
        answered, the new answer becomes a branch beside them.

        Args:
            session_id: the session.
            branch: keep the old answer in the session, and make the new one a branch beside it.
                Later messages continue the new answer; `get_messages(branch_of=...)` reads either.
            copy_to: first copy the session, with the old answer, to this id. Default: the old
                answer is lost, even if the new turn fails. But nothing is removed if the server
                cannot call `model` with these `options`.
            model: as in send.
            options: as in send.
            turn_timeout: as in send.
            abort_turn: whether to abort a running turn first. Default: TurnRunning is raised; with
                branch, the new answer waits for that turn's end.
            timeout: deadline of the whole wait, in seconds. Default: 60. math.inf = no deadline.
            on_timeout: as in send_and_wait.

        Returns:
            The new answer.

        Raises:
            SessiondError: as in rewind and send_and_wait. SequenceConflict and HistoryRewound: if
                another caller changed the history meanwhile; nothing was changed by this call.
            SessionAlreadyExists: if there is a session with the id copy_to.
            InvalidField: if the session has no message that a model could answer, or if both branch
                and copy_to are given.
        """
        if branch and copy_to is not None:
            raise invalid_field("copy_to", "cannot be combined with branch: both keep the answer")
        # Refuse wrong values before anything is removed.
        aborts(on_timeout)
        Sending(
            session_id, None, {"model": model, "options": options, "turn_timeout": turn_timeout}
        )
        deadline = Deadline(timeout)
        last_seq, epoch, _ = await place_of(self._connection, session_id, _left(deadline))
        answered, kept = await self._last_answered(session_id, last_seq, epoch, deadline)
        if not answered:
            raise invalid_field("session_id", "has no message that a model could answer")
        if branch and abort_turn:
            await self.abort(session_id, timeout=_left(deadline))
        if not branch:
            if model is not None or options is not None:
                await self._check(session_id, model, options, answered, deadline)
            copy_id = copy_to if last_seq > answered else None
            if copy_id is not None:
                await self._keep(session_id, copy_id, last_seq, deadline)
            # If there is nothing to remove, the rewind still aborts a running turn, or raises
            # TurnRunning.
            try:
                result = await self.rewind(
                    session_id,
                    to_seq=kept,
                    expected_last_seq=last_seq,
                    expected_epoch=epoch,
                    abort_turn=abort_turn,
                    timeout=_left(deadline),
                )
            except SessiondError:
                if copy_id is not None:
                    await self._discard(copy_id)
                raise
            epoch = result.epoch
        return await self.send_and_wait(
            session_id,
            model=model,
            options=options,
            turn_timeout=turn_timeout,
            expected_epoch=epoch,
            parent_seq=answered if branch or kept > answered else None,
            timeout=_left(deadline),
            on_timeout=on_timeout,
        )

    async def _last_answered(
        self, session_id: str, last_seq: int, epoch: int, deadline: Deadline
    ) -> tuple[int, int]:
        """Find the last answer of the newest branch.

        Returns:
            Two seqs. The first one is that of the message to which the answer replies: the newest
            message of the branch whose role is not "assistant". 0 = there is none. The second one
            is the last seq to keep when the answer is removed. It is greater than the first one if
            messages of other branches have to be kept.
        """
        kept = last_seq
        if not last_seq:
            return 0, 0
        request = message_requests.get_messages(
            session_id, branch_of=last_seq, order="desc", view="basic", expected_epoch=epoch
        )
        batches = message_batches(self._connection, request, _left(deadline))
        async with aclosing(batches):
            async for batch in batches:
                for message in batch:
                    if message.role != "assistant":
                        return message.seq, kept
                    if message.seq == kept:
                        kept -= 1
        return 0, 0

    async def _check(
        self,
        session_id: str,
        model: str | None,
        options: Mapping[str, Any] | None,
        answered: int,
        deadline: Deadline,
    ) -> None:
        """Check that the server can call the model. If not, no answer must be removed."""
        # If another caller has just removed the message, the rewind raises the error.
        with suppress(ParentNotFound):
            await self.preview_turn(
                session_id,
                model=model,
                options=options,
                parent_seq=answered,
                timeout=_left(deadline),
            )

    async def _keep(self, session_id: str, copy_id: str, last_seq: int, deadline: Deadline) -> None:
        request = session_requests.copy_session(
            session_id,
            copy_id,
            up_to_seq=last_seq,
            up_to_bookmark=None,
            keep_processing_status=False,
            keep_task_links=False,
            request_id=None,
        )
        await self._connection.call(
            lambda stubs: stubs.sessions.CopySession, request, _left(deadline)
        )

    async def _discard(self, copy_id: str) -> None:
        request = filled(
            pb.DeleteSessionRequest(),
            session_id=copy_id,
            allow_missing=True,
            request_id=request_id_or_new(None),
        )
        with suppress(SessiondError):
            await self._connection.call(lambda stubs: stubs.sessions.DeleteSession, request)


def _left(deadline: Deadline) -> float:
    """Return the seconds that are left, as a timeout: infinite if there is no deadline."""
    left = deadline.remaining()
    return math.inf if left is None else left
