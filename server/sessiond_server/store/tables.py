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
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

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
    Column("secret_hash", LargeBinary, nullable=False, comment="SHA-256; the secret has 256 random bits, so no salt"),
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
    Column("log", Uuid, nullable=False, comment="where its messages lie; tells it from a predecessor of the same id"),
    Column("state", SmallInteger, nullable=False, comment="1 active, 2 destroyed, as in the protos"),
    Column("revision", Integer, nullable=False, server_default="1", comment="counts changes of settings and state"),
    Column("model", Text, nullable=False, server_default=""),
    Column("user_name", Text, nullable=False, server_default=""),
    Column("title", Text, nullable=False, server_default=""),
    Column("first_words", Text, comment="of the first user message, for listings"),
    Column("config", JSONB, nullable=False, server_default=text("'{}'")),
    Column("metadata", JSONB, nullable=False, server_default=text("'{}'")),
    Column("last_seq", BigInteger, nullable=False, server_default="0"),
    Column("content_bytes", BigInteger, nullable=False, server_default="0"),
    Column("largest_bytes", Integer, nullable=False, server_default="0", comment="of one message; bounds a page's size"),
    Column("created_at", TIME, nullable=False),
    Column("active_at", TIME, nullable=False),
    # The order by activity is (active_minute, active_at): the first is indexed and changes once a minute, so that appends stay
    # HOT; the second is exact. The one is a monotonic function of the other, so the order is exact.
    Column("active_minute", Integer, Computed(ACTIVE_MINUTE, persisted=True), nullable=False),
    Column("idle_ttl_ms", BigInteger, comment="null: never expires"),
    Column("used_at", TIME, nullable=False, comment="expired when used_at + idle_ttl_ms has passed"),
    # When the purger looks next. It may lie before the real expiry, never after it, so that use need not touch the index.
    Column("expiry_check_at", TIME),
    UniqueConstraint("project_id", "session_id"),
    Index("sessions_activity_idx", "project_id", text("active_minute DESC")),
    Index("sessions_created_idx", "project_id", "created_at", "key"),
    Index("sessions_user_idx", "project_id", "user_name", text("active_minute DESC")),
    Index("sessions_expiry_idx", "expiry_check_at", postgresql_where=text("expiry_check_at IS NOT NULL")),
    Index("sessions_metadata_idx", "metadata", postgresql_using="gin", postgresql_ops={"metadata": "jsonb_path_ops"}),
    Index("sessions_config_idx", "config", postgresql_using="gin", postgresql_ops={"config": "jsonb_path_ops"}),
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
    Column("body", LargeBinary, nullable=False, comment="the encoded Message less what the server assigns"),
    # Rows are inserted and later deleted, never updated: vacuum serves the visibility map and freezing only.
    postgresql_with={"autovacuum_vacuum_insert_scale_factor": "0.1", "autovacuum_analyze_scale_factor": "0.1"},
)

requests = Table(
    "requests",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("log", Uuid, primary_key=True, comment="the session's log for an append, the nil UUID for the rest"),
    Column("request_id", ID_TEXT, primary_key=True),
    Column("content_hash", LargeBinary, nullable=False),
    Column("first_seq", BigInteger, nullable=False, server_default="0"),
    Column("last_seq", BigInteger, nullable=False, server_default="0"),
    Column("session_id", Text, nullable=False, server_default="", comment="of the session that a create made"),
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
)

__all__ = ["api_keys", "dead_logs", "messages", "metadata", "projects", "requests", "sessions"]
