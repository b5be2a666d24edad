"""Errors of invalid requests."""

import grpc

from sessiond.errors._base import FieldViolation, SessiondError


class InvalidRequest(SessiondError, code=grpc.StatusCode.INVALID_ARGUMENT):
    """The request is invalid; repeating it unchanged fails again."""


class InvalidField(InvalidRequest, ValueError, reason="INVALID_FIELD"):
    """A field is missing, malformed or out of range.

    The client raises it too, for values that cannot be sent. It is also a ValueError.
    """


class InvalidJson(InvalidRequest, reason="INVALID_JSON"):
    """A message is not a JSON object, or another JSON field does not parse."""


class UnknownRole(InvalidRequest, reason="UNKNOWN_ROLE"):
    """The role is missing, or the format has no such role."""


class ParentNotFound(InvalidRequest, reason="PARENT_NOT_FOUND"):
    """No message has the seq parent_seq."""


class MessageTooLarge(InvalidRequest, reason="MESSAGE_TOO_LARGE"):
    """A message exceeds the server's size limit."""


class BatchTooLarge(InvalidRequest, reason="BATCH_TOO_LARGE"):
    """A batch has too many messages or bytes; split it, or use import_messages."""


class AssetTooLarge(InvalidRequest, reason="ASSET_TOO_LARGE"):
    """The content exceeds the server's size limit."""


class AssetMismatch(InvalidRequest, reason="ASSET_MISMATCH"):
    """The content does not match the asset_id or size that the upload declared."""


class RequestIdReused(InvalidRequest, reason="REQUEST_ID_REUSED"):
    """The request_id was used before, with other content."""


class InvalidPageToken(InvalidRequest, reason="INVALID_PAGE_TOKEN"):
    """The page_token is malformed, or belongs to a request with other filters."""


class InvalidResumeToken(InvalidRequest, reason="INVALID_RESUME_TOKEN"):
    """The resume_token is malformed, belongs to another request, or its session is gone."""


class MalformedRequest(InvalidRequest, reason="MALFORMED_REQUEST"):
    """The bytes sent do not decode as the request's protobuf message."""


def invalid_field(field: str, description: str) -> InvalidField:
    """Return the error for a field that the client itself refuses.

    Args:
        field: path of the field, e.g. "messages[3].json".
        description: what is wrong, as a predicate: "is empty; give a name".
    """
    return InvalidField(
        f"{field} {description}", field_violations=[FieldViolation(field, description)]
    )
