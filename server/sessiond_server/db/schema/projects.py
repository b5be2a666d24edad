"""Projects, their API keys and their limits."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    LargeBinary,
    Table,
    Text,
    Uuid,
    func,
    text,
)

from sessiond_server.db.schema.base import ID_TEXT, TIME, metadata

projects = Table(
    "projects",
    metadata,
    Column("project_id", Uuid, primary_key=True, comment="uuid5 of the name"),
    Column("name", ID_TEXT, nullable=False, unique=True),
    Column("created_at", TIME, nullable=False, server_default=func.now()),
    Column("deleted_at", TIME, comment="the purger removes what it has; null: it is in use"),
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

# A project without a row has the server's defaults.
project_limits = Table(
    "project_limits",
    metadata,
    Column("project_id", Uuid, primary_key=True),
    *(
        Column(name, BigInteger, comment="null: the server's default; 0: no limit")
        for name in (
            "calls_per_second",
            "messages_per_second",
            "max_sessions",
            "max_bytes",
            "max_running_turns",
            "model_tokens_per_day",
        )
    ),
    Column("etag", Uuid, nullable=False, server_default=text("gen_random_uuid()")),
)

# Tokens of turns. The counts outlive the turns and their sessions. Each server adds its counts
# every few seconds, so the end of a turn does not lock the row.
project_tokens = Table(
    "project_tokens",
    metadata,
    Column("project_id", Uuid, primary_key=True),
    Column("day", Date, primary_key=True, comment="in UTC"),
    Column("tokens", BigInteger, nullable=False),
)
