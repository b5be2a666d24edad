"""Projects and their API keys."""

from sqlalchemy import Boolean, Column, LargeBinary, Table, Text, Uuid, func, text

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
