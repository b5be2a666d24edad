"""PostgreSQL's binary form of a timestamp: microseconds since 2000-01-01 UTC."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
EPOCH_S = int(EPOCH.timestamp())


def to_pg_us(time: datetime) -> int:
    """Return a time as microseconds since 2000-01-01 UTC."""
    return (time - EPOCH) // timedelta(microseconds=1)


def from_pg_us(time_us: int) -> datetime:
    """Return the time of a number of microseconds since 2000-01-01 UTC."""
    return EPOCH + timedelta(microseconds=time_us)


def now_us() -> int:
    """Return the current time as microseconds since 2000-01-01 UTC."""
    return to_pg_us(datetime.now(UTC))
