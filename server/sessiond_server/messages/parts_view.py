"""Messages of all formats as typed parts, as MESSAGE_VIEW_PARTS shows them."""

from collections.abc import Sequence
from typing import Any

from sessiond.v1.message_pb2 import ROLE_OTHER, Message, Parts
from sessiond_server.formats.read import read
from sessiond_server.formats.typed_parts import typed_parts
from sessiond_server.messages.encoding import EncodedPage, encode_page


def encode_parts_page(rows: Sequence[tuple[Any, ...]]) -> EncodedPage:
    """Encode one or more rows (seq, created_us, body) from HistoryStore.page.

    This takes as long as parsing the messages, so it is called in a thread.
    """
    return encode_page([(seq, created_us, _as_parts(body)) for seq, created_us, body in rows])


def _as_parts(body: bytes) -> bytes:
    message = Message.FromString(bytes(body))
    if message.HasField("parts"):
        return bytes(body)
    is_incomplete = message.incomplete
    # read() adds a note for models to an incomplete message, but callers must not see that note.
    message.incomplete = False
    entry = read(message)
    message.incomplete = is_incomplete
    if message.role == ROLE_OTHER:
        message.role = entry.role
    message.parts.CopyFrom(Parts(parts=typed_parts(entry.pieces)))  # clears json
    message.ClearField("format")
    message.ClearField("format_name")
    return message.SerializeToString()
