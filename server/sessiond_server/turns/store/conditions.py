"""Conditions on turns and their sessions.

The conditions in the second half are those of the single statements that start and end turns. Such
a statement stores either everything or nothing, and never waits for the session's row. If a
condition does not hold, it stores nothing, and a transaction of changes/transitions.py does the
work.

Every change of a session's turns also sets active_at. If active_at of the locked row still has the
value that it has in the statement's snapshot, the snapshot also shows the current open turns. This
check is necessary, because the session's row may have changed since the snapshot. PostgreSQL then
rereads only that row, and not the turns.
"""

from sessiond_server.core.states import TurnState
from sessiond_server.db.message_log import MESSAGE_LOG

OF_SESSION = "key = %(key)s AND log = %(log)s"
OF_TURN = f"{OF_SESSION} AND turn_id = %(turn_id)s"

# The partial index turns_open_idx serves only statements that repeat its condition, state <= 2.
QUEUED = f"turns.state = {TurnState.QUEUED} AND turns.state <= 2"
RUNNING = f"turns.state = {TurnState.RUNNING} AND turns.state <= 2"

HELD = "COALESCE(turns.held_until > clock_timestamp(), false)"
"""A queued turn waits for the results of tool calls, for a limited time.

The messages of the queued turn were sent to steer another turn. The answer of that turn called the
tools.
"""

OPEN = "turns.key = %(key)s AND turns.log = %(log)s AND turns.state <= 2"
"""A turn of the session is queued or running."""

IS_FREE = "key = (SELECT key FROM sessions WHERE key = %(key)s FOR NO KEY UPDATE SKIP LOCKED)"
"""No other transaction has locked the session."""

IS_CURRENT = "active_at = (SELECT active_at FROM sessions WHERE key = %(key)s)"
"""The snapshot shows the current open turns of the session."""

ALONE = f"""
        AND {IS_FREE} AND {IS_CURRENT}
        AND {MESSAGE_LOG} = (SELECT {MESSAGE_LOG} FROM sessions WHERE key = %(key)s)
        AND NOT EXISTS (
            SELECT FROM turns WHERE turns.key = %(key)s AND turns.log = sessions.log
                AND turns.state <= 2 AND turns.turn_id <> %(turn)s)"""
"""The session is free and has no other open turn."""

IS_RUNNING = f"""
        AND log = %(log)s AND running_turn = %(turn)s
        AND EXISTS (
            SELECT FROM turns WHERE turns.key = %(key)s AND turns.log = %(log)s
                AND turns.turn_id = %(turn)s AND turns.state = {TurnState.RUNNING}
                AND turns.end_seq <= %(end_seq)s)"""
"""The turn is running, and has appended no message that the caller does not know."""

# The answer continues the last message of the model's input.
IS_ANSWERED = f"{IS_RUNNING} AND last_seq = %(answered_seq)s"
"""The turn is running, and the message that the model has answered is still the newest one."""
