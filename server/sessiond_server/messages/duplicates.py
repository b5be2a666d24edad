"""Finds the messages of a request that a session has already, by their message_ids."""

import hashlib
from collections.abc import Container, Mapping, Sequence

from sessiond.v1.message_pb2 import Message
from sessiond_server.core.errors import Fault


class MessageAlreadyExists(Fault):
    """The fault MESSAGE_ALREADY_EXISTS, for message_ids that the session has already.

    Attributes:
        stored: all ids of the request that the session has, with their seqs.
    """

    def __init__(
        self, session_id: str, field: str, message_id: str, stored: Mapping[str, int]
    ) -> None:
        seq = stored[message_id]
        super().__init__(
            "MESSAGE_ALREADY_EXISTS",
            f"{field}: session {session_id!r} has a message {message_id!r} already, at seq {seq}; "
            "to leave out what is stored, set on_duplicate to SKIP",
            metadata={"session_id": session_id, "message_id": message_id, "seq": seq},
            fields={field: f"is already the message_id of message {seq}"},
        )
        self.stored = stored


def already_exists(
    session_id: str,
    message_ids: Sequence[tuple[int, str]],
    stored: Mapping[str, int],
    indexes: Sequence[int] = (),
) -> MessageAlreadyExists:
    """Return the fault for an append if the session has some of its messages already.

    Args:
        session_id: the session.
        message_ids: (place in the append, message_id) for each message that has one.
        stored: the ids that the session has already, with their seqs.
        indexes: see MessageValidator.
    """
    place, message_id = next(named for named in message_ids if named[1] in stored)
    field = f"messages[{indexes[place] if indexes else place}].message_id"
    return MessageAlreadyExists(session_id, field, message_id, stored)


def message_not_found(session_id: str, message_id: str, last_seq: int, field: str) -> Fault:
    """Return the fault for a message_id that no message of a session has."""
    return Fault(
        "MESSAGE_NOT_FOUND",
        f"{field}: session {session_id!r} has no message {message_id!r}",
        metadata={"session_id": session_id, "message_id": message_id, "last_seq": last_seq},
        fields={field: "names no message of the session"},
    )


def twice(message_id: str, field: str, before: str) -> Fault:
    """Return the fault for a message_id that a request has twice.

    Args:
        message_id: the message_id.
        field: path of its second occurrence.
        before: path of the message that has it first.
    """
    return Fault(
        "MESSAGE_ALREADY_EXISTS",
        f"{field}: {message_id!r} is also the message_id of {before}; to leave out the second "
        "one, set on_duplicate to SKIP",
        metadata={"message_id": message_id},
        fields={field: f"is also the message_id of {before}"},
    )


class Skipper:
    """Leaves out messages of a request that are stored already, or that the request has twice.

    Attributes:
        indexes: for each message that is kept so far, its index in the request.
        skipped: number of messages that were left out so far.
    """

    def __init__(self) -> None:
        self.indexes: list[int] = []
        self.skipped = 0
        self._seen: set[str] = set()
        self._hash = hashlib.sha256()

    @property
    def content_hash(self) -> bytes:
        """Hash of all messages so far, 16 bytes, whether they are kept or not."""
        return self._hash.digest()[:16]

    def kept(self, messages: Sequence[Message], stored: Container[str]) -> list[Message]:
        """Return the messages of the next piece that have to be stored.

        Args:
            messages: the piece, as it was sent.
            stored: message_ids that the session has.
        """
        kept: list[Message] = []
        first = len(self.indexes) + self.skipped
        for index, message in enumerate(messages, first):
            self._hash.update(message.SerializeToString(deterministic=True))
            if message_id := message.message_id:
                if message_id in self._seen or message_id in stored:
                    self.skipped += 1
                    continue
                self._seen.add(message_id)
            kept.append(message)
            self.indexes.append(index)
        return kept
