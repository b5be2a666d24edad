"""Names of the protos' enum values, in lower case and without their prefix."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from sessiond.errors import invalid_field
from sessiond.v1 import (
    conversation_service_pb2,
    message_pb2,
    session_pb2,
    session_service_pb2,
    task_pb2,
    turn_pb2,
)

_Number = TypeVar("_Number", bound=int)


def _names(values: Iterable[tuple[str, _Number]], prefix: str) -> dict[str, _Number]:
    return {name.removeprefix(prefix).lower(): number for name, number in values if number}


ROLES = _names(message_pb2.Role.items(), "ROLE_")
FORMATS = _names(message_pb2.Format.items(), "FORMAT_")
SESSION_STATUSES = _names(session_pb2.SessionStatus.items(), "SESSION_STATUS_")
SESSION_ORDERS = _names(session_service_pb2.SessionOrder.items(), "SESSION_ORDER_")
MESSAGE_ORDERS = _names(session_service_pb2.MessageOrder.items(), "MESSAGE_ORDER_")
ON_DUPLICATE = _names(session_service_pb2.OnDuplicate.items(), "ON_DUPLICATE_")
VIEWS = _names(session_service_pb2.MessageView.items(), "MESSAGE_VIEW_")
TASK_STATUSES = _names(task_pb2.TaskStatus.items(), "TASK_STATUS_")
TURN_STATES = _names(turn_pb2.TurnState.items(), "TURN_STATE_")
FIT_CHANGE_KINDS = _names(turn_pb2.FitChangeKind.items(), "FIT_CHANGE_KIND_")
SEND_MODES = _names(conversation_service_pb2.SendMode.items(), "SEND_MODE_")

ROLE_NAMES = {number: name for name, number in ROLES.items()}
FORMAT_NAMES = {number: name for name, number in FORMATS.items()}
SESSION_STATUS_NAMES = {number: name for name, number in SESSION_STATUSES.items()}
TASK_STATUS_NAMES = {number: name for name, number in TASK_STATUSES.items()}
FIT_CHANGE_KIND_NAMES = {number: name for name, number in FIT_CHANGE_KINDS.items()}
TURN_STATE_NAMES = {number: name for name, number in TURN_STATES.items()}


def number_of(names: Mapping[str, _Number], value: str, field: str) -> _Number:
    """Return the number of an enum value.

    Args:
        names: numbers by name.
        value: the name.
        field: path of the field, for the error.

    Raises:
        InvalidField: the enum has no such name.
    """
    try:
        return names[value]
    except (KeyError, TypeError):
        raise invalid_field(field, f"is {value!r}; it must be one of {', '.join(names)}") from None
