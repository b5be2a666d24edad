"""Errors of requests that are at fault themselves."""

import grpc

from sessiond.errors._base import FieldViolation, SessiondError


class InvalidRequest(SessiondError):
    """The request itself is at fault; sent again as it is, it fails again."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_ARGUMENT"


class InvalidField(InvalidRequest):
    """Fields are missing, malformed or out of range. The client raises it too, for what it cannot send."""

    reason = "INVALID_FIELD"


class InvalidJson(InvalidRequest):
    """A message is not a JSON object, or another JSON text is not JSON."""

    reason = "INVALID_JSON"


class UnknownRole(InvalidRequest):
    """The role is missing or not one that the format knows."""

    reason = "UNKNOWN_ROLE"


class ParentNotFound(InvalidRequest):
    """parent_seq names no message."""

    reason = "PARENT_NOT_FOUND"


class MessageTooLarge(InvalidRequest):
    """A message is larger than the server takes."""

    reason = "MESSAGE_TOO_LARGE"


class BatchTooLarge(InvalidRequest):
    """A batch has too many messages or bytes; send several, or use import_messages."""

    reason = "BATCH_TOO_LARGE"


class AssetTooLarge(InvalidRequest):
    """The content is larger than the server takes."""

    reason = "ASSET_TOO_LARGE"


class AssetMismatch(InvalidRequest):
    """The content is not what the upload said that it is."""

    reason = "ASSET_MISMATCH"


class RequestIdReused(InvalidRequest):
    """The request_id was used for other content."""

    reason = "REQUEST_ID_REUSED"


class InvalidPageToken(InvalidRequest):
    """The page_token is not one, or is of a request with other filters."""

    reason = "INVALID_PAGE_TOKEN"


class InvalidResumeToken(InvalidRequest):
    """The resume_token is not one, is of a request with other fields, or its session is gone."""

    reason = "INVALID_RESUME_TOKEN"


class MalformedRequest(InvalidRequest):
    """The bytes sent are not an encoding of the request."""

    reason = "MALFORMED_REQUEST"


def invalid_field(field: str, description: str) -> InvalidField:
    """The error for a field that the client itself refuses."""
    return InvalidField(
        f"{field} {description}", field_violations=[FieldViolation(field, description)]
    )
