# Generated from _async/_rewinds.py by scripts/generate-sync-client. Do not edit.
"""The calls that take messages back, by session id; `client.sessions` has them."""

from collections.abc import Iterable
from typing import Unpack

from sessiond._protocol.times import from_timestamp
from sessiond._requests import rewinds as rewind_requests
from sessiond._requests.input import MessageInput
from sessiond._requests.options import RewindOptions
from sessiond._sync._connection import Calls
from sessiond._types.message import Message
from sessiond._types.session import RewindResult


class RewindCalls(Calls):
    """The calls that take messages back, with keyword arguments instead of requests."""

    def rewind(
        self,
        session_id: str,
        *,
        to_seq: int | None = None,
        drop_last: int | None = None,
        to_bookmark: str | None = None,
        before_message_id: str | None = None,
        messages: Iterable[MessageInput] | None = None,
        format: str | None = None,
        return_removed: int = 0,
        **options: Unpack[RewindOptions],
    ) -> RewindResult:
        """Remove the newest messages, and append others in their place, in one commit.

        A rewind takes the same time for any number of messages. Exactly one of to_seq, drop_last,
        to_bookmark and before_message_id is required. The next message gets the seq after the last
        one that is kept, so a seq may name another message than before; `epoch` counts the rewinds
        that removed messages. The bookmarks, the tasks' links and the progress of the processing
        queues after the cut are removed as well. Copies keep the messages; otherwise they are
        purged soon after.

        Args:
            session_id: the session.
            to_seq: the last seq to keep; 0 = remove all messages.
            drop_last: how many messages to remove; all, if the session has fewer.
            to_bookmark: keep the messages up to this bookmark.
            before_message_id: remove the message with this message_id, and all that follow it.
            messages: at most 1,000 messages to append, as in store_messages. Default: none.
            format: the format of dicts and JSON texts in messages, as in store_messages.
            return_removed: maximum number of removed messages to return, at most 1,000. The newest
                ones are returned, together at most about 4 MiB.
            **options: expected_last_seq, expected_epoch, state, remove_state, state_etag,
                abort_turn, format_name, request_id, timeout.

        Returns:
            `last_seq`, `epoch`, `removed_count`, `removed`, `first_seq` and `create_time`.

        Raises:
            SessionNotFound: if there is no such session.
            SessionDestroyed: if the session is destroyed.
            TurnRunning: if a turn is running, unless abort_turn is True.
            MessageNotFound: if no message has the seq to_seq, or the id before_message_id.
            BookmarkNotFound: if there is no such bookmark.
            SequenceConflict: if the session's last_seq is not expected_last_seq.
            HistoryRewound: if the session's epoch is not expected_epoch.
            ETagMismatch: if the etag of the session's state is not state_etag.
            SessiondError: as in store_messages, for messages.
        """
        request = rewind_requests.rewind(
            session_id,
            to_seq=to_seq,
            drop_last=drop_last,
            to_bookmark=to_bookmark,
            before_message_id=before_message_id,
            messages=messages,
            format=format,
            return_removed=return_removed,
            **options,
        )
        response = self._connection.call(
            lambda stubs: stubs.sessions.RewindSession, request, options.get("timeout")
        )
        return RewindResult(
            response.last_seq,
            response.epoch,
            response.removed_count,
            [Message(session_id, message) for message in response.removed],
            response.first_seq or None,
            from_timestamp(response.create_time) if response.HasField("create_time") else None,
        )

    def pop(self, session_id: str, **options: Unpack[RewindOptions]) -> Message | None:
        """Remove the newest message and return it.

        Concurrent calls each get a different message.

        Args:
            session_id: the session.
            **options: expected_last_seq, expected_epoch, state, remove_state, state_etag,
                abort_turn, format_name, request_id, timeout.

        Returns:
            The removed message; None if the session had no message.

        Raises:
            SessiondError: as in rewind.
        """
        result = self.rewind(session_id, drop_last=1, return_removed=1, **options)
        return result.removed[0] if result.removed else None

    def clear(self, session_id: str, **options: Unpack[RewindOptions]) -> RewindResult:
        """Remove all messages. Settings, tasks and the session's id stay.

        Args:
            session_id: the session.
            **options: expected_last_seq, expected_epoch, state, remove_state, state_etag,
                abort_turn, format_name, request_id, timeout.

        Returns:
            As in rewind.

        Raises:
            SessiondError: as in rewind.
        """
        return self.rewind(session_id, to_seq=0, **options)
