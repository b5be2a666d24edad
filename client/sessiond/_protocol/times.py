"""Conversion of times and durations between Python and protobuf."""

from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.errors import invalid_field

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


def to_timestamp(value: datetime, field: str) -> Timestamp:
    """Convert a time to a Timestamp.

    Raises:
        InvalidField: the value is not a datetime, or has no time zone.
    """
    if not isinstance(value, datetime):
        raise invalid_field(field, f"must be a datetime, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise invalid_field(field, "has no time zone; give e.g. datetime.now(UTC)")
    since = value - _EPOCH
    return Timestamp(seconds=since // _SECOND, nanos=(since % _SECOND).microseconds * 1000)


def from_timestamp(value: Timestamp) -> datetime:
    """Return the time in UTC, truncated to microseconds."""
    return _EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)


def to_duration(value: timedelta | float, field: str) -> Duration:
    """Convert a duration.

    Args:
        value: a timedelta, or a number of seconds.
        field: path of the field, for the error.

    Raises:
        InvalidField: the value is of another type, is not finite, or is too large.
    """
    if not isinstance(value, timedelta):
        try:
            value = timedelta(seconds=value)
        except (TypeError, ValueError, OverflowError) as error:
            raise invalid_field(
                field, f"must be a timedelta or a number of seconds: {error}"
            ) from None
    duration = Duration()
    duration.FromTimedelta(value)
    return duration


def from_duration(value: Duration) -> timedelta:
    """Return the duration, truncated to microseconds."""
    return timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)


def iso(value: datetime) -> str:
    """Format a UTC time as ISO 8601, e.g. "2026-01-31T12:00:00.123456Z"."""
    return value.isoformat().replace("+00:00", "Z")
