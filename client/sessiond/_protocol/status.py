"""Conversion of failed gRPC calls to typed errors."""

import re
from collections.abc import Iterator, Mapping
from typing import Protocol, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

from sessiond import errors
from sessiond.errors import FieldViolation, SessiondError
from sessiond.v1 import asset_service_pb2, session_service_pb2, task_service_pb2, turn_pb2

# Texts that gRPC itself creates when a connection or a stream breaks, for codes that can also have
# other causes.
_TRANSPORT_FAULTS = (
    "rst_stream",
    "eos",
    "goaway",
    "socket closed",
    "stream removed",
    "connection reset",
    "broken pipe",
)
_TRANSPORT_CODES = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}

# The beginnings of gRPC's texts for calls that this process itself has cancelled.
_OWN_CANCELLATIONS = ("locally cancelled", "channel closed")

# The text of a call that was never sent.
_NOT_CONNECTED = "failed to connect to all addresses"

# grpc.aio reports this for a failed write to a stream, whatever the server answered
# (github.com/grpc/grpc/issues/36066). The answer is lost.
_LOST_ANSWER = "Internal error from Core"


# The server's texts use the RPC names of the protos. The pattern matches the names that consist of
# several words.
_RPC_NAMES = re.compile(
    r"\b({})\b".format(
        "|".join(
            method.name
            for file in (session_service_pb2, asset_service_pb2, task_service_pb2)
            for service in file.DESCRIPTOR.services_by_name.values()
            for method in service.methods
        )
    )
)


class _RpcOutcome(Protocol):
    """The methods that RpcErrors have in both gRPC APIs; grpc.RpcError itself declares none."""

    def code(self) -> grpc.StatusCode: ...

    def details(self) -> str | None: ...


def _subclasses(cls: type[SessiondError]) -> Iterator[type[SessiondError]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


_BY_REASON = {cls.reason: cls for cls in _subclasses(SessiondError) if "reason" in vars(cls)}
# The client raises these classes by itself or for an ErrorReason, never for a code alone.
_SPECIAL = (errors.ClientClosed, errors.TurnFailed, errors.PoolTimeout, errors.PoolClosed)
_BY_CODE = {cls.code: cls for cls in SessiondError.__subclasses__() if cls not in _SPECIAL}


def error_of(failed: grpc.RpcError, target: str) -> SessiondError:
    """Return the typed error of a failed call.

    Args:
        failed: the error of gRPC.
        target: the server's address, for errors that no server sent.
    """
    call = cast("_RpcOutcome", failed)
    code, text = call.code(), call.details() or ""
    info, violations, retry_after = _details(failed)
    if not info.reason and (code is grpc.StatusCode.UNAVAILABLE or _is_transport_fault(code, text)):
        hint = f"no answer from {target} (is `sessiond serve` running at {target}?)"
        return errors.ServerUnavailable(
            f"{hint}: {text}" if text else hint, retry_after=retry_after
        )
    # A newer server may send reasons that this client does not know; the code still has a class.
    by_code = errors.TurnFailed if is_outcome(info.metadata) else _BY_CODE.get(code, SessiondError)
    return _BY_REASON.get(info.reason, by_code)(
        _with_calls(text.removeprefix(f"{info.reason}: ")) if info.reason else text,
        code=code,
        reason=info.reason or code.name,
        metadata=dict(info.metadata),
        field_violations=violations,
        retry_after=retry_after,
    )


def error_of_turn(turn: turn_pb2.Turn) -> SessiondError:
    """Return the typed error of a turn that ended without an answer, as its Send raises it."""
    cls = _BY_REASON.get(turn.error.reason, errors.TurnFailed)
    metadata = {**turn.error.metadata, "session_id": turn.session_id, "turn_id": turn.turn_id}
    return cls(turn.error.message, reason=turn.error.reason or None, metadata=metadata)


def answer_removed(turn: turn_pb2.Turn) -> errors.MessageNotFound:
    """Return the error for an ended turn whose answer is no longer in the session."""
    return errors.MessageNotFound(
        f"a rewind has removed the answer of turn {turn.turn_id}, message {turn.last_seq}",
        metadata={
            "session_id": turn.session_id,
            "turn_id": turn.turn_id,
            "seq": str(turn.last_seq),
        },
    )


def is_outcome(metadata: Mapping[str, str]) -> bool:
    """Return whether an error with this metadata is the outcome of a turn, not of the call."""
    return "turn_id" in metadata


def is_worth_retrying(error: SessiondError) -> bool:
    """Return whether the same request may succeed a little later."""
    if is_outcome(error.metadata):
        # The server would replay the outcome for the same request_id.
        return False
    if isinstance(error, errors.QuotaExceeded):
        # A used-up quota may last for hours, so the caller must learn of it at once.
        return False
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return error.retry_after is not None
    return error.code is grpc.StatusCode.UNAVAILABLE


def never_began(error: SessiondError) -> bool:
    """Return whether the server has certainly not executed the call."""
    return isinstance(error, (errors.Overloaded, errors.RateLimited, errors.QuotaExceeded)) or (
        isinstance(error, errors.ServerUnavailable) and _NOT_CONNECTED in error.message
    )


def _is_transport_fault(code: grpc.StatusCode, text: str) -> bool:
    """Return whether the connection caused a failure that no sessiond server has reported."""
    lower = text.lower()
    if code is grpc.StatusCode.CANCELLED:
        # If this process has not cancelled the call, a server was shut down, or a proxy reset the
        # stream.
        return not lower.startswith(_OWN_CANCELLATIONS)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # A stream was reset by a proxy (ENHANCE_YOUR_CALM). Without a reset, gRPC has refused a
        # message that is too large.
        return "rst_stream" in lower
    return code in _TRANSPORT_CODES and (
        text == _LOST_ANSWER or any(fault in lower for fault in _TRANSPORT_FAULTS)
    )


def _with_calls(text: str) -> str:
    """Return a server's text with its RPC names replaced by the client's, e.g. import_messages."""
    return _RPC_NAMES.sub(lambda found: re.sub(r"\B(?=[A-Z])", "_", found[0]).lower(), text)


def _details(failed: grpc.RpcError) -> tuple[ErrorInfo, list[FieldViolation], float | None]:
    info = ErrorInfo()
    violations: list[FieldViolation] = []
    retry_after: float | None = None
    try:
        status = rpc_status.from_call(failed)
    except (ValueError, DecodeError):
        # Details that contradict the status or do not parse come from a proxy, not from the server.
        status = None
    for detail in status.details if status else ():
        if detail.Is(ErrorInfo.DESCRIPTOR):
            info = ErrorInfo.FromString(detail.value)
        elif detail.Is(BadRequest.DESCRIPTOR):
            found = BadRequest.FromString(detail.value).field_violations
            violations = [FieldViolation(v.field, _with_calls(v.description)) for v in found]
        elif detail.Is(RetryInfo.DESCRIPTOR):
            delay = RetryInfo.FromString(detail.value).retry_delay
            retry_after = delay.seconds + delay.nanos / 1e9
    return info, violations, retry_after
