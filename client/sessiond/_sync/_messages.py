# Generated from _async/_messages.py by scripts/generate-sync-client. Do not edit.
"""The calls about messages, by session id; `client.sessions` has them."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, Unpack

from sessiond._export.records import PIECE_BYTES
from sessiond._protocol.times import from_timestamp
from sessiond._requests import messages as message_requests
from sessiond._requests.encoded import Encoder, encoded_store
from sessiond._requests.fields import filled, request_id_or_new
from sessiond._requests.input import MessageInput, NewMessage, add_batch, check_list, to_proto
from sessiond._requests.options import AppendOptions, ReadOptions, SessionSettings
from sessiond._requests.sessions import put_creation
from sessiond._requests.state import put_state_patch
from sessiond._sync._attachments import FileExtractor
from sessiond._sync._connection import Calls
from sessiond._sync._lazy import Lazy
from sessiond._sync._streams import message_batches
from sessiond._sync._wire import Source, each
from sessiond._types.message import Message
from sessiond._types.session import StoredRange
from sessiond.errors import invalid_field
from sessiond.v1 import session_service_pb2 as pb

# A list of at least this many messages is encoded without a protobuf object for each message.
ENCODED_MESSAGES = 100


class MessageCalls(Calls):
    """The calls about messages, with keyword arguments instead of requests."""

    def store_message(
        self,
        session_id: str,
        blob: MessageInput,
        format: str | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        parent_seq: int | None = None,
        message_id: str | None = None,
        **options: Unpack[AppendOptions],
    ) -> StoredRange:
        """Append one message. It is committed when this returns.

        Args:
            session_id: the session.
            blob: the provider's message: a dict, or JSON text (str or bytes), which is kept byte
                for byte. Any other value that store_messages accepts is also allowed.
            format: the provider's format: "openai", "anthropic" or "gemini". Default: determined by
                the message's shape, or "openai" for plain text.
            metadata: labels of the message: a JSON object of at most 64 KiB. Allowed only with a
                dict or JSON text.
            parent_seq: seq of the message that this one follows. Default: the previous message.
                Allowed only with a dict or JSON text.
            message_id: the caller's own name of the message, at most 256 characters, unique in its
                session. Allowed only with a dict or JSON text.
            **options: expected_last_seq, expected_epoch, on_duplicate, format_name, create, state,
                remove_state, state_etag, extract_files, request_id, timeout.

        Returns:
            A StoredRange with one seq. Its `last_seq` is the message's seq.

        Raises:
            SessiondError: as in store_messages.
        """
        if metadata is not None or parent_seq is not None or message_id is not None:
            if not isinstance(blob, Mapping | str | bytes) or isinstance(blob, Message):
                raise invalid_field(
                    "blob",
                    "brings its own metadata, parent_seq and message_id; give them in a NewMessage",
                )
            blob = NewMessage(blob, metadata=metadata, parent_seq=parent_seq, message_id=message_id)
        return self.store_messages(session_id, [blob], format, **options)

    def store_messages(
        self,
        session_id: str,
        messages: Iterable[MessageInput],
        format: str | None = None,
        *,
        expected_last_seq: int | None = None,
        expected_epoch: int | None = None,
        on_duplicate: str | None = None,
        format_name: str | None = None,
        create: SessionSettings | None = None,
        state: Mapping[str, Any] | None = None,
        remove_state: Iterable[str] | None = None,
        state_etag: str | None = None,
        extract_files: bool | int = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> StoredRange:
        """Append a batch, all or nothing. The messages are committed when this returns.

        Args:
            session_id: the session.
            messages: 1 to 1,000 messages, at most 32 MiB in total. Each is a provider's message (a
                dict, or JSON text as str or bytes, kept byte for byte), a NewMessage (typed parts,
                labels, a parent), a Message that was read, or a protobuf Message.
            format: the format of dicts and JSON texts: "openai", "anthropic", "gemini" or "other".
                Default: determined by the shape of each message, or "openai" for plain text.
            expected_last_seq: store nothing unless the session's last_seq is this; 0 = the session
                must be empty.
            expected_epoch: store nothing unless the session's epoch is this.
            on_duplicate: how to treat messages whose message_id the session has already:
                "refuse" (default: nothing is stored) or "skip" (they are left out and counted, and
                the others are stored).
            format_name: with format "other", the program whose messages these are, e.g.
                "claude-code": at most 64 characters.
            create: settings with which to create a missing session, in the same commit:
                model, user, title, config, metadata, idle_ttl, never_expires. An existing session
                stays as it is.
            state: new values of top-level keys of the session's state, in the commit of the append.
            remove_state: top-level keys to remove from the session's state, in the same commit.
            state_etag: store nothing unless this is the current etag of the session's state.
            extract_files: first upload the files inside the messages (data URLs and base64) as
                assets, and store references to them. True = files of 256 KiB or more; a number =
                files of at least this many bytes.
            request_id: makes the call safe to repeat.
            timeout: deadline over all attempts, in seconds.

        Returns:
            The seqs of the stored messages, and how many were skipped.

        Raises:
            SessionNotFound: if there is no such session.
            SessionDestroyed: if the session is destroyed.
            SequenceConflict: if the session's last_seq is not expected_last_seq.
            HistoryRewound: if the session's epoch is not expected_epoch.
            ETagMismatch: if the etag of the session's state is not state_etag.
            MessageAlreadyExists: if the session has one of the message_ids, unless on_duplicate is
                "skip".
            ParentNotFound: if no message has a given parent_seq.
            InvalidJson: if a message is not a JSON object.
            UnknownRole: if a message has no role, or a role that its format does not have.
            MessageTooLarge: if a message exceeds the server's size limit.
            BatchTooLarge: if there are too many messages or bytes.
            RequestIdReused: if the request_id was used with other content.
        """
        check_list(messages)
        messages = messages if isinstance(messages, (list, Sequence)) else list(messages)
        if extract_files is not False and extract_files is not None:
            extractor = FileExtractor(self._connection, extract_files)
            messages = [
                extractor.take(to_proto(message, format, f"messages[{i}]", format_name=format_name))
                for i, message in enumerate(messages)
            ]
        request = filled(
            pb.StoreMessagesRequest(),
            session_id=session_id,
            expected_last_seq=expected_last_seq,
            expected_epoch=expected_epoch,
            state_etag=state_etag,
            on_duplicate=on_duplicate,
            request_id=request_id_or_new(request_id),
        )
        put_creation(request, create)
        put_state_patch(request, state, remove_state)
        if len(messages) < ENCODED_MESSAGES:
            add_batch(request.messages, messages, format, format_name=format_name)
            response = self._connection.call(lambda stubs: stubs.appends.call, request, timeout)
        else:
            encoded = encoded_store(request, messages, format, format_name)
            response = self._connection.call(lambda stubs: stubs.store_encoded, encoded, timeout)
        return _stored_range(response)

    def import_messages(
        self,
        session_id: str,
        messages: Source[MessageInput],
        format: str | None = None,
        *,
        expected_last_seq: int | None = None,
        expected_epoch: int | None = None,
        on_duplicate: str | None = None,
        format_name: str | None = None,
        create: SessionSettings | None = None,
        state: Mapping[str, Any] | None = None,
        remove_state: Iterable[str] | None = None,
        state_etag: str | None = None,
        extract_files: bool | int = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> StoredRange:
        """Append any number of messages, all or nothing. They are committed when this returns.

        Args:
            session_id: the session.
            messages: any number of values that store_messages accepts. They are sent while they are
                iterated over. After a broken connection, a list or another sequence is sent again.
                Other iterables can be read only once, so the error is raised.
            format: the format of dicts and JSON texts: "openai", "anthropic", "gemini" or "other".
                Default: determined by the shape of each message, or "openai" for plain text.
            expected_last_seq: store nothing unless the session's last_seq is this; 0 = the session
                must be empty.
            expected_epoch: store nothing unless the session's epoch is this.
            on_duplicate: how to treat messages whose message_id the session has already:
                "refuse" (default: nothing is stored) or "skip" (they are left out and counted, and
                the others are stored).
            format_name: with format "other", the program whose messages these are, e.g.
                "claude-code": at most 64 characters.
            create: settings with which to create a missing session, in the same commit:
                model, user, title, config, metadata, idle_ttl, never_expires. An existing session
                stays as it is.
            state: new values of top-level keys of the session's state, in the commit of the append.
            remove_state: top-level keys to remove from the session's state, in the same commit.
            state_etag: store nothing unless this is the current etag of the session's state.
            extract_files: first upload the files inside the messages (data URLs and base64) as
                assets, and store references to them. True = files of 256 KiB or more; a number =
                files of at least this many bytes.
            request_id: makes the call safe to repeat.
            timeout: deadline over all attempts, in seconds. Default: no deadline.

        Returns:
            The seqs of the stored messages, and how many were skipped.

        Raises:
            SessiondError: as in store_messages, except BatchTooLarge.
            Exception: any error raised by iterating over `messages`. Nothing is stored then.
        """
        check_list(messages, is_streamed=True)
        first = filled(
            pb.ImportMessagesRequest(),
            session_id=session_id,
            expected_last_seq=expected_last_seq,
            expected_epoch=expected_epoch,
            state_etag=state_etag,
            on_duplicate=on_duplicate,
            request_id=request_id_or_new(request_id),
        )
        put_creation(first, create)
        put_state_patch(first, state, remove_state)
        extractor = FileExtractor(self._connection, extract_files)
        response = self._connection.upload(
            lambda stubs: stubs.import_encoded,
            lambda: _pieces(first, messages, format, format_name, extractor),
            timeout=timeout,
            is_repeatable=isinstance(messages, Sequence),
            # No session has this id, so the server refuses the import.
            refusal=pb.ImportMessagesRequest(session_id="\0").SerializeToString(),
        )
        return _stored_range(response)

    def get_messages(
        self,
        session_id: str,
        *,
        after_seq: int | None = None,
        after_bookmark: str | None = None,
        after_message_id: str | None = None,
        **options: Unpack[ReadOptions],
    ) -> Lazy[Message]:
        """Read the messages with after_seq < seq <= through_seq, streamed during the iteration.

        A broken stream resumes where it broke off, without gaps or repeats. Messages stored after
        the iteration began are not included.

        Args:
            session_id: the session.
            after_seq: skip the messages up to this seq. Default: none.
            after_bookmark: skip the messages up to this bookmark. Not together with after_seq.
            after_message_id: skip the messages up to the one with this message_id. Not together
                with after_seq or after_bookmark.
            **options: branch_of, through_seq, limit, order, roles, expected_epoch, view, timeout.

        Returns:
            A lazy list; no call is made until it is iterated over. Iterating raises
            SessionNotFound if there is no such session, BookmarkNotFound if there is no such
            bookmark, MessageNotFound if no message has after_message_id, and HistoryRewound if the
            session's epoch is not expected_epoch, or if messages to read were removed by a rewind
            and purged.
        """
        request = message_requests.get_messages(
            session_id,
            after_seq=after_seq,
            after_bookmark=after_bookmark,
            after_message_id=after_message_id,
            **options,
        )
        return Lazy(lambda: message_batches(self._connection, request, options.get("timeout")))

    def get_message(
        self,
        session_id: str,
        seq: int | None = None,
        *,
        message_id: str | None = None,
        timeout: float | None = None,
    ) -> Message:
        """Return one message, by its seq or by its message_id.

        Args:
            session_id: the session.
            seq: the message's seq, from 1.
            message_id: the message's message_id, instead of seq.
            timeout: deadline over all attempts, in seconds.

        Raises:
            SessionNotFound: if there is no such session.
            MessageNotFound: if there is no such message.
        """
        request = filled(
            pb.GetMessageRequest(), session_id=session_id, seq=seq, message_id=message_id
        )
        return Message(
            session_id,
            self._connection.call(lambda stubs: stubs.sessions.GetMessage, request, timeout),
        )


def _pieces(
    first: pb.ImportMessagesRequest,
    messages: Source[MessageInput],
    format: str | None,
    format_name: str | None,
    extractor: FileExtractor,
) -> Generator[bytes, None]:
    """Yield the encoded requests of an import."""
    encoder = Encoder(first, format, format_name)
    is_first = True
    count = 0
    for message in each(messages):
        if extractor.least is None:
            encoder.add(message, count)
        else:
            read = to_proto(message, format, f"messages[{count}]", format_name=format_name)
            encoder.add(extractor.take(read), count)
        count += 1
        if encoder.size >= PIECE_BYTES:
            yield encoder.take()
            is_first = False
    # An import without messages is also sent, so that the server refuses it.
    if is_first or not encoder.is_empty:
        yield encoder.take()


def _stored_range(response: pb.StoreMessagesResponse | pb.ImportMessagesResponse) -> StoredRange:
    is_stored = response.HasField("create_time")
    return StoredRange(
        response.first_seq,
        response.last_seq,
        from_timestamp(response.create_time) if is_stored else None,
        response.skipped_count,
        response.epoch,
    )
