"""The schema, as SQLAlchemy Core sees it. The migrations make it; a test compares the two.

Every row of a session is found by `key`, so the schema spreads over shards as it is: no serial ids, no foreign keys between
sessions' tables. Times are `timestamptz` of the database's clock.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)

TIME = TIMESTAMP(timezone=True)
# Byte order: prefixes and order by id then run on the plain unique index, the same under every locale.
ID_TEXT = Text(collation="C")
# Through UTC, because what depends on the time zone cannot be a generated column.
ACTIVE_MINUTE = "floor(extract(epoch FROM active_at AT TIME ZONE 'UTC') / 60)::integer"

projects = Table(
    "projects",
    metadata,
    Column("project_id", Uuid, primary_key=True, comment="uuid5 of the name"),
    Column("name", ID_TEXT, nullable=False, unique=True),
    Column("created_at", TIME, nullable=False, server_default=func.now()),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", ID_TEXT, primary_key=True),
    Column("project_id", Uuid, nullable=False, index=True),
    Column(
        "secret_hash",
        LargeBinary,
        nullable=False,
        comment="SHA-256; the secret has 256 random bits, so no salt",
    ),
    Column("label", Text, nullable=False, server_default=""),
    Column("is_admin", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", TIME, nullable=False, server_default=func.now()),
    Column("revoked_at", TIME),
)

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
        comment="where its messages lie; tells it from a predecessor of the same id",
    ),
    Column(
        "state", SmallInteger, nullable=False, comment="1 active, 2 destroyed, as in the protos"
    ),
    Column(
        "revision",
        Integer,
        nullable=False,
        server_default="1",
        comment="counts changes of settings and state",
    ),
    Column("model", Text, nullable=False, server_default=""),
    Column("user_name", Text, nullable=False, server_default=""),
    Column("title", Text, nullable=False, server_default=""),
    Column("first_words", Text, comment="of the first user message, for listings"),
    Column("config", JSONB, nullable=False, server_default=text("'{}'")),
    Column("metadata", JSONB, nullable=False, server_default=text("'{}'")),
    Column("last_seq", BigInteger, nullable=False, server_default="0"),
    Column("content_bytes", BigInteger, nullable=False, server_default="0"),
    Column(
        "largest_bytes",
        Integer,
        nullable=False,
        server_default="0",
        comment="of one message; bounds a page's size",
    ),
    Column("created_at", TIME, nullable=False),
    Column("active_at", TIME, nullable=False),
    # The order by activity is (active_minute, active_at): the first is indexed and changes once a minute, so that appends stay
    # HOT; the second is exact. The one is a monotonic function of the other, so the order is exact.
    Column("active_minute", Integer, Computed(ACTIVE_MINUTE, persisted=True), nullable=False),
    Column("idle_ttl_ms", BigInteger, comment="null: never expires"),
    Column(
        "used_at", TIME, nullable=False, comment="expired when used_at + idle_ttl_ms has passed"
    ),
    # When the purger looks next. It may lie before the real expiry, never after it, so that use need not touch the index.
    Column("expiry_check_at", TIME),
    Column(
        "base_seq",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="up to it, segments says where the messages lie",
    ),
    Column(
        "short_segments",
        Integer,
        nullable=False,
        server_default="0",
        comment="those of its segments that are worth flattening",
    ),
    Column("first_words_seq", BigInteger, comment="of the message that first_words is from"),
    Column("token_count", BigInteger, nullable=False, server_default="0"),
    Column(
        "estimated_tokens",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="the part of token_count that is estimated",
    ),
    Column("origin_key", Uuid, comment="of the session that it was copied from"),
    Column("origin_log", Uuid),
    Column("origin_session_id", Text),
    Column("origin_seq", BigInteger),
    # An append sets it, and the queues' distributor clears it: the index changes once a distribution, not once an append.
    Column(
        "has_news",
        Boolean,
        nullable=False,
        server_default=text("true"),
        comment="its queues are to be told of messages",
    ),
    Column(
        "running_turn",
        Uuid,
        comment="the fence: what a turn appends carries it into the WHERE of the append",
    ),
    UniqueConstraint("project_id", "session_id"),
    Index("sessions_activity_idx", "project_id", text("active_minute DESC")),
    Index("sessions_created_idx", "project_id", "created_at", "key"),
    Index("sessions_user_idx", "project_id", "user_name", text("active_minute DESC")),
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
    # Room on each page for the row's next version: every append updates it (HOT), and vacuum should come by early.
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
        comment="the encoded Message less what the server assigns",
    ),
    Column("tokens", Integer, nullable=False, server_default="0", comment="negative: an estimate"),
    # Running sums, so that a copy that ends in the middle has its counters from one row.
    Column(
        "total_bytes",
        BigInteger,
        comment="content_bytes of the session up to and with this message",
    ),
    Column("total_tokens", BigInteger, comment="tokens likewise, estimates included"),
    # Rows are inserted and later deleted, never updated: vacuum serves the visibility map and freezing only.
    postgresql_with={
        "autovacuum_vacuum_insert_scale_factor": "0.1",
        "autovacuum_analyze_scale_factor": "0.1",
    },
)

# A session's messages above base_seq lie in its own log. Those up to it, which a copy shares with its source, lie where these rows
# say: ranges without a gap, from 1 to base_seq. A log's messages are removed when neither its session nor any segment reaches them.
segments = Table(
    "segments",
    metadata,
    Column("key", Uuid, primary_key=True, comment="of the session that reads here"),
    Column("first_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("src_key", Uuid, nullable=False),
    Column("src_log", Uuid, nullable=False),
    Index("segments_source_idx", "src_key", "src_log", "last_seq"),
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
        comment="1, 2, 3, ... without a gap; unique, but not while tasks are reordered",
    ),
    Column("status", SmallInteger, nullable=False, comment="as in the protos"),
    Column("data", JSONB, nullable=False, server_default=text("'{}'")),
    Column(
        "message_seqs",
        ARRAY(BigInteger),
        nullable=False,
        server_default=text("'{}'"),
        comment="ascending, each once",
    ),
    Column("revision", Integer, nullable=False, server_default="1"),
    Column("created_at", TIME, nullable=False),
    Column("updated_at", TIME, nullable=False),
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
        comment="up to it all is dealt with, exceptions apart",
    ),
    Column("is_ready", Boolean, nullable=False, comment="there may be pending messages"),
    Column("ready_at", TIME, nullable=False, comment="since when; who waits longest comes first"),
    Column("lease_id", Uuid),
    Column("lease_until", TIME),
    Column("lease_firsts", ARRAY(BigInteger), comment="of the ranges that are leased"),
    Column("lease_lasts", ARRAY(BigInteger)),
    Column("worker", Text, nullable=False, server_default=""),
    Column(
        "attempt",
        Integer,
        nullable=False,
        server_default="0",
        comment="leases in a row that ended without progress, and the present one",
    ),
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

# A turn that runs has a lease, which its server renews. Of a session at most one runs: the one that the session's row names.
turns = Table(
    "turns",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("log", Uuid, primary_key=True),
    Column(
        "turn_id",
        Uuid,
        primary_key=True,
        comment="UUIDv7: in the order in which they were sent, as far as clocks agree",
    ),
    Column("place", BigInteger, nullable=False, comment="the order among those that wait"),
    Column(
        "state",
        SmallInteger,
        nullable=False,
        comment="as in the protos; 6: what was sent became a part of the turn `joined`",
    ),
    Column("model", Text, nullable=False),
    Column(
        "prompt",
        LargeBinary,
        comment="a SendRequest with the messages; null once they are appended",
    ),
    Column("message_id", Uuid, comment="of the last of the messages; null where there is none"),
    Column("options", JSONB, nullable=False, server_default=text("'{}'")),
    Column("timeout_ms", BigInteger, nullable=False),
    Column("steers", Uuid, comment="the turn that was running when it was sent to steer it"),
    Column("joined", Uuid),
    Column("holder", Uuid, comment="the server process that runs it"),
    Column("lease_until", TIME),
    Column("first_seq", BigInteger, nullable=False, server_default="0"),
    Column(
        "end_seq",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="the last that it appended",
    ),
    Column(
        "last_seq", BigInteger, nullable=False, server_default="0", comment="of its final answer"
    ),
    Column("stop_reason", Text, nullable=False, server_default=""),
    Column("usage", ARRAY(BigInteger), comment="input, output, cached input, reasoning tokens"),
    Column("error", JSONB, comment="reason, message, metadata"),
    Column("created_at", TIME, nullable=False),
    Column("started_at", TIME),
    Column("ended_at", TIME),
    # Small, and all that is ever looked through: what waits and what runs. lease_until is not in it, so that renewing stays HOT.
    Index("turns_open_idx", "key", "log", "place", postgresql_where=text("state <= 2")),
    postgresql_with={"fillfactor": "80"},
)

assets = Table(
    "assets",
    metadata,
    Column("project_id", Uuid, primary_key=True),
    Column("sha256", LargeBinary, primary_key=True),
    Column(
        "object_key",
        Text,
        nullable=False,
        comment="where its content lies; another one for each upload",
    ),
    Column("size", BigInteger, nullable=False),
    Column("media_type", Text, nullable=False, server_default=""),
    Column("created_at", TIME, nullable=False, server_default=func.now()),
    Column(
        "touched_at", TIME, nullable=False, server_default=func.now(), comment="of the last upload"
    ),
    Index("assets_touched_at_idx", "touched_at"),
)

asset_refs = Table(
    "asset_refs",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("log", Uuid, primary_key=True),
    Column(
        "seq",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="of the message that refers to it; goes with that",
    ),
    Column("sha256", LargeBinary, primary_key=True),
    Column("project_id", Uuid, nullable=False),
    Index("asset_refs_asset_idx", "project_id", "sha256"),
)

loose_objects = Table(
    "loose_objects",
    metadata,
    Column(
        "object_key",
        Text,
        primary_key=True,
        comment="an object that no asset has, or not yet: every object is here or there",
    ),
    Column("due_at", TIME, nullable=False, comment="when it may be removed"),
    Index("loose_objects_due_at_idx", "due_at"),
)

requests = Table(
    "requests",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column(
        "log",
        Uuid,
        primary_key=True,
        comment="the session's log for an append, the nil UUID for the rest",
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
        comment="of the session that a create made",
    ),
    Column("created_at", TIME, nullable=False, comment="an append's: the messages' created_at"),
    # Rows go by age, and come in the order of age: the smallest index there is.
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

__all__ = [
    "api_keys",
    "asset_refs",
    "assets",
    "bookmarks",
    "dead_logs",
    "loose_objects",
    "messages",
    "metadata",
    "processing",
    "processing_exceptions",
    "projects",
    "queues",
    "requests",
    "segments",
    "sessions",
    "tasks",
    "turns",
]
