"""The two logs of a session.

`sessions.log` identifies the session: a re-created session with the same id has another log. All
rows that belong to a session contain it. New messages are stored in the message log. Both logs are
the same until the session is rewound, which gives it a new message log.
"""

MESSAGE_LOG = "COALESCE(sessions.message_log, sessions.log)"
"""The session's message log, in a statement about the table sessions."""
