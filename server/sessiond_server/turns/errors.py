"""Why turns end without an answer: as faults, and as their rows keep it. Providers' own words are made such as can be kept."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sessiond_server.core.errors import Fault
from sessiond_server.formats.wire import replace_surrogates
from sessiond_server.providers.base import ModelFault

MAX_ERROR_CHARACTERS = 1_000
MAX_WORD_CHARACTERS = 256


def fault_of_model(fault: ModelFault) -> Fault:
    """A model's fault as one of the service."""
    return Fault(
        fault.reason, fault.message, metadata=fault.metadata, retry_after_s=fault.retry_after_s
    )


def internal_error(turn_id: UUID) -> Fault:
    """What nobody foresaw, and the log tells of."""
    return Fault(
        "INTERNAL", f"a fault of the server's own; its log has more under turn_id {turn_id}"
    )


def error_of(fault: Fault, session_id: str, turn_id: UUID) -> dict[str, Any]:
    """A fault as a turn keeps it: {"reason", "message", "metadata"}."""
    metadata = {**fault.metadata, "session_id": session_id, "turn_id": str(turn_id)}
    if fault.retry_after_s is not None:
        metadata["retry_after_s"] = f"{fault.retry_after_s:g}"
    return {
        "reason": fault.reason,
        "message": storable(fault.message[:MAX_ERROR_CHARACTERS]),
        "metadata": {key: storable(value) for key, value in metadata.items()},
    }


def aborted(why: str, session_id: str, turn_id: UUID) -> dict[str, Any]:
    """The error of a turn that was ended before it was done."""
    return error_of(Fault("TURN_ABORTED", why), session_id, turn_id)


def fault_of_turn(error: Mapping[str, Any] | None, turn_id: UUID) -> Fault:
    """What error_of made, as a fault again."""
    if error is None:
        return internal_error(turn_id)
    metadata = {**error["metadata"], "turn_id": str(turn_id)}
    retry_after_s = float(metadata["retry_after_s"]) if "retry_after_s" in metadata else None
    return Fault(error["reason"], error["message"], metadata=metadata, retry_after_s=retry_after_s)


def printable(given: object) -> str:
    """A short text of a provider's, as it may be kept: what is none is none."""
    if not isinstance(given, str):
        return ""
    return replace_surrogates(
        "".join(
            c if c.isprintable() or "\ud800" <= c <= "\udfff" else " "
            for c in given[:MAX_WORD_CHARACTERS]
        )
    )


def storable(text: str) -> str:
    # PostgreSQL's jsonb takes neither NUL nor half a surrogate pair.
    return replace_surrogates(text).replace("\0", "\ufffd")
