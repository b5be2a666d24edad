"""Tables for work on sessions: model turns, and queues of workers."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from sessiond_server.db.schema.base import ID_TEXT, TIME, metadata

# A running turn has a lease, which its server renews. A session has at most one running turn, which
# sessions.running_turn names.
turns = Table(
    "turns",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("log", Uuid, primary_key=True),
    Column(
        "turn_id",
        Uuid,
        primary_key=True,
        comment="UUIDv7, which orders turns by the time of sending, as far as clocks agree",
    ),
    Column("place", BigInteger, nullable=False, comment="position in the order of queued turns"),
    Column(
        "state",
        SmallInteger,
        nullable=False,
        comment="as in the protos; 6: the messages were added to the turn `joined`",
    ),
    Column("model", Text, nullable=False),
    Column(
        "prompt",
        LargeBinary,
        comment="a SendRequest with the messages; null once they are appended",
    ),
    Column("message_id", Uuid, comment="message_id of the last message; null if it has none"),
    # A JSON string that holds an object as JSON text: jsonb does not keep the order of keys.
    Column("options", JSONB, nullable=False, server_default=text("'{}'")),
    Column("timeout_ms", BigInteger, nullable=False),
    Column("steers", Uuid, comment="the running turn that this one was sent to steer"),
    Column("joined", Uuid),
    Column("holder", Uuid, comment="the server process that runs the turn"),
    Column("lease_until", TIME),
    Column("first_seq", BigInteger, nullable=False, server_default="0"),
    Column(
        "end_seq",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="seq of the last message that the turn appended",
    ),
    Column(
        "last_seq",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="seq of the final answer",
    ),
    Column("stop_reason", Text, nullable=False, server_default=""),
    Column("usage", ARRAY(BigInteger), comment="input, output, cached input, reasoning tokens"),
    Column("error", JSONB, comment="reason, message, metadata"),
    Column("created_at", TIME, nullable=False),
    Column("started_at", TIME),
    Column("ended_at", TIME),
    Column(
        "held_until", TIME, comment="until then, a steering turn waits for results of open calls"
    ),
    Column("changes", JSONB, comment="the first changes of its last request"),
    Column(
        "change_count",
        Integer,
        nullable=False,
        server_default="0",
        comment="of all changes",
    ),
    Column(
        "keep_partial",
        Boolean,
        nullable=False,
        server_default=text("true"),
        comment="whether the text of an answer that is cut off is kept as a message",
    ),
    Column(
        "partial_seq",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="seq of the message with that text; 0: none",
    ),
    Column(
        "parent_seq",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="seq of the message that the turn continues; 0: the newest one",
    ),
    # Only queued and running turns are ever searched. lease_until is not in the index, so that
    # renewals stay heap-only (HOT).
    Index("turns_open_idx", "key", "log", "place", postgresql_where=text("state <= 2")),
    postgresql_with={"fillfactor": "80"},
)

# The texts that the models of running turns have written so far, in pieces. The process that runs a
# turn adds pieces about twice a second. The end of the turn deletes them.
turn_texts = Table(
    "turn_texts",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("log", Uuid, primary_key=True),
    Column("turn_id", Uuid, primary_key=True),
    Column(
        "answered_seq",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="the message that the model answers: a turn that is steered has several answers",
    ),
    Column(
        "start",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="number of characters before this piece",
    ),
    Column("content", LargeBinary, nullable=False, comment="UTF-8; text cannot contain NUL"),
)

# Where the window of a session's turns begins. A row is valid while the session's config has the
# limits in the row.
context_marks = Table(
    "context_marks",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("log", Uuid, primary_key=True),
    Column("max_messages", BigInteger, nullable=False, comment="of the config then"),
    Column("max_tokens", BigInteger, nullable=False),
    Column("keep_fraction", Double, nullable=False),
    Column("first_seq", BigInteger, nullable=False, comment="where the window begins"),
    Column(
        "kept_seqs",
        ARRAY(BigInteger),
        nullable=False,
        comment="of the instructions before the window, ascending",
    ),
    Column(
        "task_seq",
        BigInteger,
        nullable=False,
        comment="of the user's message before the window that a tool loop works on; 0: none",
    ),
    Column("epoch", BigInteger, nullable=False, server_default="0", comment="epoch of the seqs"),
)

queues = Table(
    "queues",
    metadata,
    Column("project_id", Uuid, primary_key=True),
    Column("queue", ID_TEXT, primary_key=True),
    Column("created_at", TIME, nullable=False, server_default=func.now()),
)

processing = Table(
    "processing",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("log", Uuid, primary_key=True),
    Column("queue", ID_TEXT, primary_key=True),
    Column("project_id", Uuid, nullable=False),
    Column(
        "done_seq",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="messages up to this seq are processed, except those in processing_exceptions",
    ),
    Column("is_ready", Boolean, nullable=False, comment="there may be pending messages"),
    Column(
        "ready_at", TIME, nullable=False, comment="time of becoming ready; the earliest comes first"
    ),
    Column("lease_id", Uuid),
    Column("lease_until", TIME),
    Column("lease_firsts", ARRAY(BigInteger), comment="first seqs of the leased ranges"),
    Column("lease_lasts", ARRAY(BigInteger)),
    Column("worker", Text, nullable=False, server_default=""),
    Column(
        "attempt",
        Integer,
        nullable=False,
        server_default="0",
        comment="number of consecutive leases without progress, including the current one",
    ),
    Column("cut_lease_id", Uuid, comment="the lease that lost messages when they were removed"),
    Index(
        "processing_ready_idx", "project_id", "queue", "ready_at", postgresql_where=text("is_ready")
    ),
    postgresql_with={"fillfactor": "80"},
)

processing_exceptions = Table(
    "processing_exceptions",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("log", Uuid, primary_key=True),
    Column("queue", ID_TEXT, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False, comment="at most done_seq"),
    Column("status", SmallInteger, nullable=False, comment="1 pending again, 4 failed"),
    Column("error", Text, nullable=False, server_default=""),
    Column("updated_at", TIME, nullable=False, server_default=func.now()),
)
