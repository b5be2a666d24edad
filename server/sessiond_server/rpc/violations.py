"""Finds all invalid fields of a request, so that callers can correct them at once.

The features check a request field by field, and raise at the first invalid one. Only then does this
module check the whole request, so that valid requests cost nothing. It reports the fields that are
invalid by themselves. Rules that depend on stored data or on another field are checked only by the
features.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from google.api.field_behavior_pb2 import REQUIRED, field_behavior
from google.protobuf.message import Message as ProtoMessage

from sessiond.v1.message_pb2 import Message
from sessiond_server.assets.service import check_asset_id
from sessiond_server.core.errors import Fault, invalid
from sessiond_server.core.json_text import parse_options
from sessiond_server.core.limits import (
    MAX_MEDIA_TYPE_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_SESSION_ID_CHARACTERS,
    MAX_TITLE_CHARACTERS,
    MIN_TURN_TIMEOUT_MS,
)
from sessiond_server.core.structs import to_dict
from sessiond_server.core.validation import (
    check_bookmark_name,
    check_description,
    check_request_id,
    check_session_id,
    check_task_id,
    check_text,
)
from sessiond_server.projects.service import check_project_name
from sessiond_server.queues.service import (
    DEFAULT_MESSAGES,
    MAX_MESSAGES,
    MAX_SESSIONS,
    MAX_WAIT_MS,
    bounded,
    check_queue,
    checked_lease_ms,
)
from sessiond_server.rpc import conversions
from sessiond_server.rpc.errors import MAX_VIOLATIONS
from sessiond_server.sessions.settings import NEVER, checked_ttl
from sessiond_server.turns.service import check_turn_id
from sessiond_server.watch.options import MAX_HEARTBEAT_MS, MIN_HEARTBEAT_MS

Fields: TypeAlias = dict[str, str]
CheckMessages: TypeAlias = Callable[[Sequence[Message]], Fields]
Check: TypeAlias = Callable[[Any, str], object]
"""Checks a value, given the path of its field; raises a Fault that names the field."""

# The reasons of faults that concern a single field.
REASONS = frozenset({"INVALID_FIELD", "INVALID_JSON", "UNKNOWN_ROLE", "MESSAGE_TOO_LARGE"})


def _text(most: int) -> Check:
    return lambda value, path: check_text(path, value, most)


def _ttl(value: Any, path: str) -> None:
    milliseconds = conversions.milliseconds(value)
    # -1 ms is not a valid idle_ttl. Inside the server, it is NEVER: the session does not expire.
    checked_ttl(0 if milliseconds == NEVER else milliseconds, path)


def _not_negative(value: int, path: str) -> None:
    if value < 0:
        raise invalid(path, "is negative")


def _duration(least_ms: int, most_ms: int | None = None) -> Check:
    def check(value: Any, path: str) -> None:
        milliseconds = conversions.milliseconds(value)
        if milliseconds < least_ms or (most_ms is not None and milliseconds > most_ms):
            raise invalid(path, f"is {milliseconds} ms, which is out of range")

    return check


def _at_most(most: int, default: int) -> Check:
    return lambda value, path: bounded(path, value, default, most)


# The checks of fields. A key is "Message.field", or the name of a field in any message.
_CHECKS: dict[str, Check] = {
    "session_id": check_session_id,
    "new_session_id": check_session_id,
    "task_id": check_task_id,
    "turn_id": lambda value, _: check_turn_id(value),
    "asset_id": check_asset_id,
    "request_id": lambda value, _: check_request_id(value),
    "queue": lambda value, _: check_queue(value),
    "model": _text(MAX_NAME_CHARACTERS),
    "user": _text(MAX_NAME_CHARACTERS),
    "title": _text(MAX_TITLE_CHARACTERS),
    "label": _text(MAX_NAME_CHARACTERS),
    "worker": _text(MAX_NAME_CHARACTERS),
    "key_id": _text(MAX_NAME_CHARACTERS),
    "media_type": _text(MAX_MEDIA_TYPE_CHARACTERS),
    "description": check_description,
    "new_name": check_bookmark_name,
    "up_to_bookmark": check_bookmark_name,
    "after_bookmark": check_bookmark_name,
    "Bookmark.name": check_bookmark_name,
    "GetBookmarkRequest.name": check_bookmark_name,
    "DeleteBookmarkRequest.name": check_bookmark_name,
    "Project.name": check_project_name,
    "CreateApiKeyRequest.project": check_project_name,
    "DeleteProjectRequest.project": check_project_name,
    "ListApiKeysRequest.project": check_project_name,
    "SessionFilter.session_id_prefix": _text(MAX_SESSION_ID_CHARACTERS),
    "Session.config": conversions.config_of,
    "CopySessionRequest.config": conversions.config_of,
    "UpdateSessionRequest.config_patch": conversions.config_of,
    "options_json": parse_options,
    "idle_ttl": _ttl,
    "lease_duration": lambda value, _: checked_lease_ms(conversions.milliseconds(value)),
    "turn_timeout": _duration(MIN_TURN_TIMEOUT_MS),
    "heartbeat_interval": _duration(MIN_HEARTBEAT_MS, MAX_HEARTBEAT_MS),
    "wait": _duration(0, MAX_WAIT_MS),
    "max_sessions": _at_most(MAX_SESSIONS, 1),
    "max_messages": _at_most(MAX_MESSAGES, DEFAULT_MESSAGES),
    "page_size": _not_negative,
    "expected_last_seq": _not_negative,
    "after_seq": _not_negative,
    "up_to_seq": _not_negative,
    "through_seq": _not_negative,
    "branch_of": _not_negative,
    "SendRequest.parent_seq": _not_negative,
    "limit": _not_negative,
    "offset": _not_negative,
    "length": _not_negative,
    "UploadAssetRequest.size": _not_negative,
}
# Fields that an update requires and a creation does not.
_ALSO_REQUIRED = {
    "UpdateSessionRequest": "session.session_id",
    "UpdateTaskRequest": "task.task_id",
    # Not required if the request has a message_id.
    "GetMessageRequest": "seq",
}
# Fields that only the server sets. A caller's values are ignored, so they cannot be invalid.
_IGNORED = {"Session.origin", "Task.create_time", "Bookmark.create_time"}
_GENERIC: dict[str, Check] = {
    "google.protobuf.Struct": to_dict,
    "google.protobuf.Timestamp": conversions.time_of,
}


def with_all_violations(
    fault: Fault, request: ProtoMessage, check_messages: CheckMessages
) -> Fault:
    """Return the fault with all invalid fields of its request.

    Args:
        fault: the fault that the feature raised.
        request: the request, or the first one of a stream.
        check_messages: returns the invalid fields of messages, by path.
    """
    if fault.reason not in REASONS or not fault.fields:
        return fault
    fields = dict(fault.fields)
    for path, description in _violations(request, check_messages):
        if len(fields) >= MAX_VIOLATIONS:
            break
        fields.setdefault(path, description)
    others = [f"{path}: {text}" for path, text in fields.items() if path not in fault.fields]
    return Fault(
        fault.reason,
        "; also ".join([fault.message, *others]),
        metadata=fault.metadata,
        fields=fields,
        retry_after_s=fault.retry_after_s,
    )


def _violations(request: ProtoMessage, check_messages: CheckMessages) -> Iterator[tuple[str, str]]:
    required = _ALSO_REQUIRED.get(request.DESCRIPTOR.name, "")
    if required == "seq" and any(field.name == "message_id" for field, _ in request.ListFields()):
        required = ""
    yield from _walk(request, "", required)
    # The format of a message may be left out. The feature then adds the provider's format.
    if request.DESCRIPTOR.name != "SendRequest":
        yield from check_messages(getattr(request, "messages", ())).items()


def _walk(message: ProtoMessage, prefix: str, also_required: str) -> Iterator[tuple[str, str]]:
    descriptor = message.DESCRIPTOR
    for field in descriptor.fields:
        path, name = f"{prefix}{field.name}", f"{descriptor.name}.{field.name}"
        kind = field.message_type.full_name if field.message_type else ""
        if name in _IGNORED or kind == Message.DESCRIPTOR.full_name:
            continue
        value = getattr(message, field.name)
        if field.is_repeated:
            # The entries of a map are checked by the feature alone.
            if kind.startswith("sessiond.") and not _is_map(field):
                for i, item in enumerate(value):
                    yield from _walk(item, f"{path}[{i}].", also_required)
            continue
        is_required = _is_required(field) or path == also_required
        if not (message.HasField(field.name) if field.has_presence else value):
            if not is_required:
                continue
            if not kind:
                yield path, "is required"
                continue
        if check := _CHECKS.get(name) or _CHECKS.get(field.name) or _GENERIC.get(kind):
            try:
                check(value, path)
            except Fault as fault:
                yield from fault.fields.items()
        elif field.enum_type and value not in field.enum_type.values_by_number:
            yield path, f"is {value}, which is not a {field.enum_type.name}"
        elif kind.startswith("sessiond."):
            yield from _walk(value, f"{path}.", also_required)


def _is_map(field: Any) -> bool:
    return bool(field.message_type.GetOptions().map_entry)


def _is_required(field: Any) -> bool:
    return REQUIRED in field.GetOptions().Extensions[field_behavior]
