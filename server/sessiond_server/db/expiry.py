"""SQL that says when a session has expired.

Every statement about a caller's session contains it.
"""

from sqlalchemy import Boolean, ColumnElement, literal_column

# Every use of a session sets used_at. The clock is that of the statement, so that a long
# transaction does not keep a session alive. A running turn counts as use, however long the model
# takes.
ALIVE = (
    "(idle_ttl_ms IS NULL OR used_at + idle_ttl_ms * interval '1 millisecond'"
    " > statement_timestamp() OR running_turn IS NOT NULL)"
)

# The caller's session: by key, so long as it is the project's and has not expired.
LIVE_SESSION = f"sessions.key = %(key)s AND sessions.project_id = %(project_id)s AND {ALIVE}"

# Whether a use that changes nothing is worth a write of used_at.
TOUCH_DUE = """(idle_ttl_ms IS NOT NULL AND statement_timestamp() - used_at
    > LEAST(idle_ttl_ms * 0.05, 60000) * interval '1 millisecond')"""

# Records such a use. Parameters: key, project_id.
TOUCH = (
    "UPDATE sessions SET used_at = clock_timestamp()"
    f" WHERE key = %s AND project_id = %s AND {ALIVE}"
)


def alive() -> ColumnElement[bool]:
    """Returns ALIVE for a Core statement."""
    return literal_column(ALIVE, Boolean)
