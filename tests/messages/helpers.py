"""Requests of BatchStoreMessages, and their outcomes."""

from collections.abc import Callable
from typing import Any

from sessiond.v1.message_pb2 import Message
from sessiond.v1.session_service_pb2 import (
    StoreMessagesRequest,
    StoreMessagesResponse,
)

from ..support.wire import WireError, openai

Query = Callable[..., list[tuple[Any, ...]]]


def ask(session_id: str, *messages: Message | str, **fields: Any) -> StoreMessagesRequest:
    encoded = [openai(message) if isinstance(message, str) else message for message in messages]
    return StoreMessagesRequest(session_id=session_id, messages=encoded, **fields)


def seqs(outcomes: list[StoreMessagesResponse | WireError]) -> list[tuple[int, int] | str]:
    """Return the seqs of each request, or the reason of its error."""
    return [
        end.reason if isinstance(end, WireError) else (end.first_seq, end.last_seq)
        for end in outcomes
    ]
