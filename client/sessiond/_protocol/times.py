"""Times and durations: Python's to protobuf's and back."""

import math
from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.errors import invalid_field

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


def to_timestamp(value: datetime, field: str) -> Timestamp:
    """Raises: InvalidField for a time without a time zone, which could mean several times."""
    if value.utcoffset() is None:
        raise invalid_field(field, "has no time zone; give e.g. datetime.now(UTC)")
    since = value - _EPOCH
    return Timestamp(seconds=since // _SECOND, nanos=(since % _SECOND).microseconds * 1000)


def from_timestamp(value: Timestamp) -> datetime:
    """In UTC, cut to microseconds."""
    return _EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)


def to_duration(value: timedelta | float, field: str) -> Duration:
    """value: a timedelta, or a number of seconds. Raises: InvalidField for a number that is no duration."""
    if not isinstance(value, timedelta):
        if not math.isfinite(value):
            raise invalid_field(field, "is not a finite number of seconds")
        try:
            value = timedelta(seconds=value)
        except OverflowError:
            raise invalid_field(field, "is too long") from None
    duration = Duration()
    duration.FromTimedelta(value)
    return duration


def from_duration(value: Duration) -> timedelta:
    """Cut to microseconds."""
    return timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)


def iso(value: datetime) -> str:
    """ISO 8601, in UTC, e.g. "2026-01-31T12:00:00.123456Z"."""
    return value.isoformat().replace("+00:00", "Z")
