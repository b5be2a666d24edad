"""When a session counts as expired, in SQL. One text for every statement that takes a caller's session."""

from sqlalchemy import Boolean, ColumnElement, literal_column

# used_at is touched by every use; the clock is that of the statement, so a long transaction does not keep a session alive. A turn that
# runs is use, however long the model takes.
ALIVE = "(idle_ttl_ms IS NULL OR used_at + idle_ttl_ms * interval '1 millisecond' > statement_timestamp() OR running_turn IS NOT NULL)"

# Whether a use that is no change, which would otherwise write nothing, is worth moving used_at on.
TOUCH_DUE = """(idle_ttl_ms IS NOT NULL
    AND statement_timestamp() - used_at > LEAST(idle_ttl_ms * 0.05, 60000) * interval '1 millisecond')"""

# Counts it: of a session by key and project.
TOUCH = f"UPDATE sessions SET used_at = clock_timestamp() WHERE key = %s AND project_id = %s AND {ALIVE}"  # noqa: S608 - of constants


def alive() -> ColumnElement[bool]:
    """ALIVE for a Core statement."""
    return literal_column(ALIVE, Boolean)
