"""Statements that find contradictory rows of sessions, one for each kind of fault."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from sessiond_server.db.message_log import MESSAGE_LOG

IN_BATCH = "key = ANY(%(keys)s::uuid[])"
"""Selects the rows of a batch of sessions."""

# Rows with a seq are checked in every range of a log that the session reads. The range in the
# message log has no end, so that rows beyond the session's last message are found, too.
_READ = f"""
WITH read AS (
    SELECT key, first_seq, last_seq, src_key, src_log FROM segments WHERE {IN_BATCH}
    UNION ALL
    SELECT key, base_seq + 1, {2**63 - 1}, key, {MESSAGE_LOG} FROM sessions WHERE {IN_BATCH}
)"""


def _of_seqs(table: str, alias: str) -> str:
    return f"""read JOIN {table} AS {alias} ON {alias}.key = read.src_key
    AND {alias}.log = read.src_log AND {alias}.seq BETWEEN read.first_seq AND read.last_seq"""


def _is_stored(alias: str) -> str:
    return f"""EXISTS (
    SELECT FROM messages AS m
    WHERE m.key = {alias}.key AND m.log = {alias}.log AND m.seq = {alias}.seq)"""


class FaultKind(StrEnum):
    """The kind of a contradiction."""

    MESSAGE_BEYOND = "message_beyond"
    BOOKMARK_ASTRAY = "bookmark_astray"
    TURN_MISSING = "turn_missing"
    TASK_ASTRAY = "task_astray"
    TASKS_UNORDERED = "tasks_unordered"
    ID_ASTRAY = "id_astray"
    ID_WRONG = "id_wrong"
    ID_REPEATED = "id_repeated"
    PARENT_ASTRAY = "parent_astray"
    PARENT_LATER = "parent_later"
    BRANCHES_HIDDEN = "branches_hidden"
    QUEUE_AHEAD = "queue_ahead"


@dataclass(frozen=True, slots=True)
class Fault:
    """A contradiction.

    Attributes:
        kind: the kind of the contradiction.
        key: key of the session.
        values: the values that locate the contradiction, by column.
    """

    kind: FaultKind
    key: UUID
    values: Mapping[str, Any]


FAULTS: Mapping[FaultKind, str] = {
    # Every append raises last_seq in the commit that stores its messages.
    FaultKind.MESSAGE_BEYOND: f"""
SELECT s.key, min(m.seq) AS seq FROM sessions AS s
JOIN messages AS m ON m.key = s.key AND m.log = COALESCE(s.message_log, s.log)
    AND m.seq > s.last_seq
WHERE s.{IN_BATCH} GROUP BY s.key""",
    FaultKind.BOOKMARK_ASTRAY: f"""
SELECT b.key, b.name, b.seq FROM bookmarks AS b JOIN sessions AS s USING (key, log)
WHERE b.{IN_BATCH} AND (b.seq < 0 OR b.seq > s.last_seq)""",
    FaultKind.TURN_MISSING: f"""
SELECT s.key, s.running_turn FROM sessions AS s
WHERE s.{IN_BATCH} AND s.running_turn IS NOT NULL AND NOT EXISTS (
    SELECT FROM turns AS t
    WHERE t.key = s.key AND t.log = s.log AND t.turn_id = s.running_turn AND t.state = 2
)""",
    FaultKind.TASK_ASTRAY: f"""
SELECT t.key, t.task_id, linked.seq FROM tasks AS t JOIN sessions AS s USING (key, log),
    unnest(t.message_seqs) AS linked (seq)
WHERE t.{IN_BATCH} AND (linked.seq < 1 OR linked.seq > s.last_seq)""",
    FaultKind.TASKS_UNORDERED: f"""
SELECT t.key, count(*) AS tasks FROM tasks AS t JOIN sessions AS s USING (key, log)
WHERE t.{IN_BATCH} GROUP BY t.key
HAVING min(t.position) <> 1 OR max(t.position) <> count(*)
    OR count(DISTINCT t.position) <> count(*)""",
    FaultKind.ID_ASTRAY: f"""{_READ}
SELECT read.key, i.message_id, i.seq FROM {_of_seqs("message_ids", "i")}
WHERE NOT {_is_stored("i")}""",
    # The message_id is also a field of the encoded message.
    FaultKind.ID_WRONG: f"""{_READ}
SELECT read.key, i.message_id, i.seq FROM {_of_seqs("message_ids", "i")}
JOIN messages AS m ON m.key = i.key AND m.log = i.log AND m.seq = i.seq
WHERE position(convert_to(i.message_id, 'UTF8') IN m.body) = 0""",
    # The table's constraint prevents duplicates only within one log.
    FaultKind.ID_REPEATED: f"""{_READ}
SELECT read.key, i.message_id, min(i.seq) AS first, max(i.seq) AS last
FROM {_of_seqs("message_ids", "i")}
GROUP BY read.key, i.message_id HAVING count(*) > 1""",
    FaultKind.PARENT_ASTRAY: f"""{_READ}
SELECT read.key, p.seq FROM {_of_seqs("parent_links", "p")}
WHERE NOT {_is_stored("p")}""",
    FaultKind.PARENT_LATER: f"""{_READ}
SELECT read.key, p.seq, p.parent_seq FROM {_of_seqs("parent_links", "p")}
WHERE p.parent_seq < 0 OR p.parent_seq >= p.seq""",
    # A read looks up the links only if the session's row says that there are some.
    FaultKind.BRANCHES_HIDDEN: f"""{_READ}
SELECT read.key, min(p.seq) AS seq FROM {_of_seqs("parent_links", "p")}
JOIN sessions AS s ON s.key = read.key
WHERE NOT s.is_branched GROUP BY read.key""",
    FaultKind.QUEUE_AHEAD: f"""
SELECT p.key, p.queue, p.done_seq AS seq FROM processing AS p JOIN sessions AS s USING (key, log)
WHERE p.{IN_BATCH} AND p.done_seq > s.last_seq""",
}
"""A statement for each kind of fault. It returns the key of the session, and Fault.values."""
