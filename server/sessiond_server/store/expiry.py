"""When a session counts as expired, in SQL. One text for every statement that takes a caller's session."""

from sqlalchemy import Boolean, ColumnElement, literal_column

# used_at is touched by every use; the clock is that of the statement, so a long transaction does not keep a session alive.
ALIVE = "(idle_ttl_ms IS NULL OR used_at + idle_ttl_ms * interval '1 millisecond' > statement_timestamp())"

# Whether counting a use is worth a write: the more the longer the session lives, but once a minute at the least.
TOUCH_DUE = """(idle_ttl_ms IS NOT NULL
    AND statement_timestamp() - used_at > LEAST(idle_ttl_ms * 0.05, 60000) * interval '1 millisecond')"""


def alive() -> ColumnElement[bool]:
    """ALIVE for a Core statement."""
    return literal_column(ALIVE, Boolean)
