"""Tables for sessions, for everything that belongs to them, and for recorded requests."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from sessiond_server.db.schema.base import ID_TEXT, TIME, metadata

# A generated column must not depend on the connection's time zone; UTC is constant.
ACTIVE_MINUTE = "floor(extract(epoch FROM active_at AT TIME ZONE 'UTC') / 60)::integer"

sessions = Table(
    "sessions",
    metadata,
    Column("key", Uuid, primary_key=True, comment="uuid5(project_id, session_id)"),
    Column("project_id", Uuid, nullable=False),
    Column("session_id", ID_TEXT, nullable=False),
    Column(
        "log",
        Uuid,
        nullable=False,
        comment="identity of the session: a re-created session has another log. Holds the new "
        "messages too, until the session is rewound",
    ),
    Column(
        "state", SmallInteger, nullable=False, comment="1 active, 2 destroyed, as in the protos"
    ),
    Column(
        "revision",
        Integer,
        nullable=False,
        server_default="1",
        comment="number of changes to settings and state",
    ),
    Column("model", Text, nullable=False, server_default=""),
    Column("user_name", Text, nullable=False, server_default=""),
    Column("title", Text, nullable=False, server_default=""),
    Column("first_words", Text, comment="beginning of the first user message, for listings"),
    Column("config", JSONB, nullable=False, server_default=text("'{}'")),
    Column("metadata", JSONB, nullable=False, server_default=text("'{}'")),
    Column("last_seq", BigInteger, nullable=False, server_default="0"),
    Column("content_bytes", BigInteger, nullable=False, server_default="0"),
    Column(
        "largest_bytes",
        Integer,
        nullable=False,
        server_default="0",
        comment="size of the largest message; bounds the size of a page",
    ),
    Column("created_at", TIME, nullable=False),
    Column("active_at", TIME, nullable=False),
    # Listings by activity are ordered by (active_minute, active_at). Only active_minute is indexed.
    # It changes at most once a minute, so that most appends stay heap-only (HOT). It never
    # decreases as active_at grows, so sorting the sessions of each minute gives the whole order.
    Column("active_minute", Integer, Computed(ACTIVE_MINUTE, persisted=True), nullable=False),
    Column("idle_ttl_ms", BigInteger, comment="null: never expires"),
    Column(
        "used_at", TIME, nullable=False, comment="expired when used_at + idle_ttl_ms has passed"
    ),
    # Time when the purger next checks whether the session has expired. It may be earlier than the
    # expiry, but not later. An access only postpones the expiry, so it need not update this column
    # and its index.
    Column("expiry_check_at", TIME),
    Column(
        "base_seq",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="messages up to this seq are in the logs listed in segments",
    ),
    Column(
        "short_segments",
        Integer,
        nullable=False,
        server_default="0",
        comment="number of segments that are worth flattening",
    ),
    Column("first_words_seq", BigInteger, comment="seq of the message that first_words is from"),
    Column("token_count", BigInteger, nullable=False, server_default="0"),
    Column(
        "estimated_tokens",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="the part of token_count that is estimated",
    ),
    Column("origin_key", Uuid, comment="key of the session that this one was copied from"),
    Column("origin_log", Uuid),
    Column("origin_session_id", Text),
    Column("origin_seq", BigInteger),
    # An append sets this flag and the distribution to the queues clears it. The index therefore
    # changes once per distribution, not once per append.
    Column(
        "has_news",
        Boolean,
        nullable=False,
        server_default=text("true"),
        comment="new messages have to be distributed to the queues",
    ),
    Column(
        "running_turn",
        Uuid,
        comment="the fence: a turn's appends have it as a condition in their WHERE",
    ),
    Column(
        "is_branched",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="whether parent_links has rows of its messages",
    ),
    Column(
        "message_log",
        Uuid,
        comment="log of the session's new messages since it was rewound; null: never rewound",
    ),
    Column(
        "written_seq",
        BigInteger,
        comment="last_seq, as written by a server that knows message_log; null: never rewound",
    ),
    Column("epoch", BigInteger, nullable=False, server_default="0", comment="number of rewinds"),
    CheckConstraint(
        "message_log IS NULL OR written_seq = last_seq", name="sessions_message_log_check"
    ),
    UniqueConstraint("project_id", "session_id"),
    Index("sessions_activity_idx", "project_id", "active_minute", "key"),
    Index("sessions_created_idx", "project_id", "created_at", "key"),
    Index("sessions_user_idx", "project_id", "user_name", "active_minute", "key"),
    Index("sessions_model_idx", "project_id", "model"),
    Index("sessions_status_idx", "project_id", postgresql_where=text("state <> 1")),
    Index(
        "sessions_expiry_idx",
        "expiry_check_at",
        postgresql_where=text("expiry_check_at IS NOT NULL"),
    ),
    Index(
        "sessions_origin_idx",
        "origin_key",
        "origin_log",
        text("created_at DESC"),
        text("key DESC"),
        postgresql_where=text("origin_key IS NOT NULL"),
    ),
    Index("sessions_chain_idx", "short_segments", postgresql_where=text("short_segments > 16")),
    Index("sessions_news_idx", "project_id", postgresql_where=text("has_news")),
    Index(
        "sessions_metadata_idx",
        "metadata",
        postgresql_using="gin",
        postgresql_ops={"metadata": "jsonb_path_ops"},
    ),
    Index(
        "sessions_config_idx",
        "config",
        postgresql_using="gin",
        postgresql_ops={"config": "jsonb_path_ops"},
    ),
    # Every append updates the row. Free space in each page keeps the update heap-only (HOT), and
    # vacuum runs early.
    postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"},
)

messages = Table(
    "messages",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("log", Uuid, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("role", SmallInteger, nullable=False),
    Column("format", SmallInteger, nullable=False),
    Column("content_bytes", Integer, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column(
        "body",
        LargeBinary,
        nullable=False,
        comment="the encoded Message without the fields that the server assigns",
    ),
    Column(
        "tokens", Integer, nullable=False, server_default="0", comment="negative for an estimate"
    ),
    # Running totals. A copy that ends in the middle of a session reads its counters from one row.
    Column(
        "total_bytes",
        BigInteger,
        comment="running total of content_bytes, including this message",
    ),
    Column("total_tokens", BigInteger, comment="running total of tokens, including estimates"),
    # Rows are inserted and deleted but never updated. Vacuum is needed for the visibility map and
    # for freezing.
    postgresql_with={
        "autovacuum_vacuum_insert_scale_factor": "0.1",
        "autovacuum_analyze_scale_factor": "0.1",
    },
)

# The messages whose parent is not the previous message. For the messages that a copy shares with
# its source, the copy reads the source's rows.
parent_links = Table(
    "parent_links",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("log", Uuid, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("parent_seq", BigInteger, nullable=False, comment="less than seq - 1"),
)

# The message_ids of the messages that have one. For the messages that a copy shares with its
# source, the copy reads the source's rows.
message_ids = Table(
    "message_ids",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("log", Uuid, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("message_id", ID_TEXT, nullable=False),
    UniqueConstraint("key", "log", "message_id"),
)

# A session's message log holds the messages above base_seq. The messages from 1 to base_seq are in
# other logs. Each segment of the session is a range of such a log, and the segments leave no gap.
# In this way, a copy shares messages with its source. From each log, the purger removes the
# messages that are neither in the log's own session nor in any segment.
segments = Table(
    "segments",
    metadata,
    Column("key", Uuid, primary_key=True, comment="key of the session that reads this segment"),
    Column("first_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("src_key", Uuid, nullable=False),
    Column("src_log", Uuid, nullable=False),
    Index("segments_source_idx", "src_key", "src_log", "last_seq"),
)

# The newest rewinds of a session, for watchers that reconnect.
rewinds = Table(
    "rewinds",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("log", Uuid, primary_key=True),
    Column(
        "epoch",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="the epoch that the rewind began",
    ),
    Column("last_seq", BigInteger, nullable=False, comment="seq of the last message kept"),
    Column("removed_count", BigInteger, nullable=False),
    Column("created_at", TIME, nullable=False),
)

tasks = Table(
    "tasks",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("log", Uuid, primary_key=True),
    Column("task_id", ID_TEXT, primary_key=True),
    Column(
        "position",
        Integer,
        nullable=False,
        comment="1, 2, 3, ... without a gap; not unique while tasks are being reordered",
    ),
    Column("status", SmallInteger, nullable=False, comment="as in the protos"),
    Column("data", JSONB, nullable=False, server_default=text("'{}'")),
    Column(
        "message_seqs",
        ARRAY(BigInteger),
        nullable=False,
        server_default=text("'{}'"),
        comment="ascending, without duplicates",
    ),
    Column("revision", Integer, nullable=False, server_default="1"),
    Column("created_at", TIME, nullable=False),
    Column("updated_at", TIME, nullable=False),
)

# A row for each top-level key of a session's state. Appends do not touch the table.
session_state = Table(
    "session_state",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("log", Uuid, primary_key=True),
    Column("name", ID_TEXT, primary_key=True, comment="top-level key"),
    Column("value", Text, nullable=False, comment="JSON text, as it was sent"),
)

bookmarks = Table(
    "bookmarks",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("log", Uuid, primary_key=True),
    Column("name", ID_TEXT, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("created_at", TIME, nullable=False),
    Column("updated_at", TIME, nullable=False),
)

requests = Table(
    "requests",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column(
        "log",
        Uuid,
        primary_key=True,
        comment="the session's log, or the nil UUID for changes to the session itself",
    ),
    Column("request_id", ID_TEXT, primary_key=True),
    Column("content_hash", LargeBinary, nullable=False),
    Column("first_seq", BigInteger, nullable=False, server_default="0"),
    Column("last_seq", BigInteger, nullable=False, server_default="0"),
    Column(
        "session_id",
        Text,
        nullable=False,
        server_default="",
        comment="id of the object that the request created or changed",
    ),
    Column("created_at", TIME, nullable=False, comment="for an append, created_at of its messages"),
    Column(
        "epoch",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="epoch of first_seq and last_seq",
    ),
    # Rows are inserted and deleted in the order of created_at, for which BRIN is the smallest
    # index.
    Index("requests_created_at_idx", "created_at", postgresql_using="brin"),
)

dead_logs = Table(
    "dead_logs",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("log", Uuid, primary_key=True),
    Column("queued_at", TIME, nullable=False, server_default=func.now()),
    Index("dead_logs_queued_at_idx", "queued_at"),
)
