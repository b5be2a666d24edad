"""Conversion of turn errors: to Faults, and to the form in the turns table.

Texts from providers are made storable here.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sessiond.v1.message_pb2 import Message
from sessiond_server.core.errors import Fault
from sessiond_server.formats.read.other import unreadable
from sessiond_server.formats.wire import replace_surrogates
from sessiond_server.providers.base import ModelFault

MAX_ERROR_CHARACTERS = 1_000
MAX_PROVIDER_CHARACTERS = 256


def fault_of_model(fault: ModelFault) -> Fault:
    """Convert a model's fault to a Fault."""
    return Fault(
        fault.reason, fault.message, metadata=fault.metadata, retry_after_s=fault.retry_after_s
    )


def history_too_large(session_id: str, context_bytes: int, max_bytes: int) -> Fault:
    """Return the Fault for a history that is larger than this server sends."""
    return Fault(
        "CONTEXT_TOO_LARGE",
        f"the history that session {session_id!r} gives the model has {context_bytes} bytes; this "
        f"server sends at most {max_bytes} (max_context_bytes): set or lower "
        "config.context.max_messages or max_tokens, rewind the session, or copy a part of it",
        metadata={
            "session_id": session_id,
            "context_bytes": context_bytes,
            "max_bytes": max_bytes,
        },
    )


def parent_not_found(session_id: str, parent_seq: int, last_seq: int) -> Fault:
    """Return the Fault for a turn that continues a message which the session does not have."""
    return Fault(
        "PARENT_NOT_FOUND",
        f"parent_seq: session {session_id!r} has no message {parent_seq}; it is at seq {last_seq}",
        metadata={"session_id": session_id, "last_seq": last_seq},
        fields={"parent_seq": "names no message of the session"},
    )


def check_readable(messages: Sequence[Message]) -> None:
    """Check that the messages can be sent to a model.

    Raises:
        Fault: FORMAT_UNREADABLE if the server can store a message but not read its format.
    """
    if message := unreadable(messages):
        raise Fault(
            "FORMAT_UNREADABLE",
            f"message {message.seq} is of the format {message.format_name!r}, which this server "
            "can store but not give to a model",
            metadata={"format_name": message.format_name, "seq": message.seq},
        )


def internal_error(turn_id: UUID) -> Fault:
    """Return the Fault for an unforeseen exception, which has been logged."""
    return Fault("INTERNAL", f"internal error; the server's log has more under turn_id {turn_id}")


def error_of(fault: Fault, session_id: str, turn_id: UUID) -> dict[str, Any]:
    """Return a Fault as the turn's row stores it: {"reason", "message", "metadata"}."""
    metadata = {**fault.metadata, "session_id": session_id, "turn_id": str(turn_id)}
    if fault.retry_after_s is not None:
        metadata["retry_after_s"] = f"{fault.retry_after_s:g}"
    return {
        "reason": fault.reason,
        "message": storable(fault.message[:MAX_ERROR_CHARACTERS]),
        "metadata": {key: storable(value) for key, value in metadata.items()},
    }


def fault_of_turn(error: Mapping[str, Any] | None, turn_id: UUID) -> Fault:
    """Convert a stored error to a Fault; the inverse of error_of."""
    if error is None:
        return internal_error(turn_id)
    metadata = {**error["metadata"], "turn_id": str(turn_id)}
    retry_after_s = float(metadata["retry_after_s"]) if "retry_after_s" in metadata else None
    return Fault(error["reason"], error["message"], metadata=metadata, retry_after_s=retry_after_s)


def printable(given: object) -> str:
    """Return a provider's string, shortened and made printable; "" if it is not a string."""
    if not isinstance(given, str):
        return ""
    return replace_surrogates(
        "".join(
            c if c.isprintable() or "\ud800" <= c <= "\udfff" else " "
            for c in given[:MAX_PROVIDER_CHARACTERS]
        )
    )


def storable(text: str) -> str:
    """Replace the characters that jsonb cannot hold: NUL, and halves of surrogate pairs."""
    return replace_surrogates(text).replace("\0", "\ufffd")
