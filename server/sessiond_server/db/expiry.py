"""SQL conditions on whether a session has expired.

Every statement about a caller's session contains ALIVE.
"""

from sqlalchemy import Boolean, ColumnElement, literal_column

# Every access to a session sets used_at. ALIVE compares it with the start time of the statement.
# The start time of a long transaction would let a session that has expired since then look alive. A
# session with a running turn is alive, however long the model takes.
ALIVE = (
    "(idle_ttl_ms IS NULL OR used_at + idle_ttl_ms * interval '1 millisecond'"
    " > statement_timestamp() OR running_turn IS NOT NULL)"
)

# Selects the caller's session by key, if it belongs to the project and has not expired.
LIVE_SESSION = f"sessions.key = %(key)s AND sessions.project_id = %(project_id)s AND {ALIVE}"

# Whether an access that changes nothing else should update used_at. Small differences are ignored,
# so that most reads write nothing.
TOUCH_DUE = """(idle_ttl_ms IS NOT NULL AND statement_timestamp() - used_at
    > LEAST(idle_ttl_ms * 0.05, 60000) * interval '1 millisecond')"""

# Updates used_at after an access that changes nothing else. Parameters: key, project_id.
TOUCH = (
    "UPDATE sessions SET used_at = clock_timestamp()"
    f" WHERE key = %s AND project_id = %s AND {ALIVE}"
)


def alive() -> ColumnElement[bool]:
    """Return ALIVE for a Core statement."""
    return literal_column(ALIVE, Boolean)
