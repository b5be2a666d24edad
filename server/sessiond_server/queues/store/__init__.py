"""The processing queues: which there are, who works on what, and how far each one is.

A row of `processing` stands for a session and a queue. All messages up to its `done_seq` are
processed, except those with a row in `processing_exceptions` (1 pending again, 4 failed). Nothing
else is stored for a message.

No message is missed, because:

- An append sets `has_news` on the session's row, which it has locked anyway. A distribution takes
  such sessions, clears the mark and makes their rows of all queues of the project ready, in one
  statement. So either the session has the mark, or its rows know of its messages.
- A lease that finds nothing and an acknowledgement may end a row's readiness. Both lock the row
  first and read `last_seq` in a later statement, with a new snapshot. A distribution that made the
  row ready before that lock has its append in the snapshot; one that waits for the lock sets
  `is_ready` afterwards.
- Distributing, registering and deleting hold the project's advisory lock, from before they read
  anything until their commit. So either a distribution knows a new queue, or the marks that it
  cleared are committed and the registration, which makes a row for every session without the mark,
  sees them. The lock has a statement of its own, because a snapshot is as old as its statement. It
  also makes a second lease wait for the rows that the first one is about to make ready, instead of
  returning nothing.

Locks are taken in one direction, so there is no deadlock: the project's advisory lock; then
sessions, with SKIP LOCKED (a session that is being appended to or deleted keeps the mark); then
rows of `processing`. A transaction that has locked a row of `processing` waits for no other lock.
"""
