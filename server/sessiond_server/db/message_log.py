"""The two logs of a session.

`sessions.log` identifies the session: a re-created session with the same id has another log, and
all that hangs on a session hangs on it. New messages are stored in the message log. Both are the
same until the session is rewound, which gives it a new message log.
"""

MESSAGE_LOG = "COALESCE(sessions.message_log, sessions.log)"
"""The session's message log, in a statement about the table sessions."""
