"""The processing queues: their names, their workers' leases, and the progress in each session.

A row of `processing` is for one session and one queue. All messages up to its `done_seq` are
processed, except those with a row in `processing_exceptions` (status 1 = pending again, 4 =
failed). Nothing else is stored per message.

No message is missed, for these reasons:

- An append sets the mark `has_news` on the session's row, which it has to lock anyway. A
  distribution selects the sessions with the mark, clears it, and makes their rows ready in all
  queues of the project, all in one statement. A session with new messages therefore either has
  the mark, or its rows are ready.
- A lease that finds no messages makes a row not ready. An acknowledgement may do this, too. Both
  lock the row first, and read `last_seq` in a later statement, which has a new snapshot. If a
  distribution made the row ready before the lock, the snapshot contains the append. If the
  distribution has to wait for the lock, it sets `is_ready` afterwards.
- Distributions, registrations and deletions of queues hold the project's advisory lock from
  before their first read until their commit. If a distribution does not know a new queue, it
  has committed before the registration reads. The registration then sees which sessions have
  lost the mark, and creates their rows in the new queue. The lock is taken in a statement of
  its own, because a statement takes its snapshot when it begins, before it waits for a lock.
  In a process, calls wait for the lock in memory (`turns.py`), and one at a time in the database.
  The lock also makes concurrent leases wait: a later lease finds the rows that the first one
  makes ready, instead of returning nothing.

Locks are always taken in the same order, so there is no deadlock. The project's advisory lock
comes first. Then come sessions, with SKIP LOCKED: a session that is being appended to or deleted
keeps the mark. Rows of `processing` come last. A transaction that has locked one of them waits for
no other lock.
"""
