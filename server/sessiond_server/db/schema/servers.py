"""Tables of the servers themselves: notifications, and which servers run on the schema.

`notices` and `notice_readers` are for processes that cannot listen, because a pooler stands before
PostgreSQL. They are unlogged, and therefore empty after a crash. This loses notifications, but no
messages.
"""

from sqlalchemy import Boolean, Column, Index, Table, Text, Uuid, text

from sessiond_server.db.schema.base import TIME, metadata

notices = Table(
    "notices",
    metadata,
    Column("id", Uuid, primary_key=True, server_default=text("gen_random_uuid()")),
    Column("sent_at", TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("payload", Text, nullable=False),
    Index("notices_sent_idx", "sent_at"),
    prefixes=["UNLOGGED"],
)

# Notices are written only while this table has a process that was seen lately.
notice_readers = Table(
    "notice_readers",
    metadata,
    Column("reader", Uuid, primary_key=True),
    Column("seen_at", TIME, nullable=False),
    prefixes=["UNLOGGED"],
)

# Each migration writes this table. A server reads the table if it does not know the revision of the
# schema.
schema_support = Table(
    "schema_support",
    metadata,
    Column("is_only", Boolean, primary_key=True, comment="true: there is one row"),
    Column(
        "oldest_server",
        Text,
        nullable=False,
        comment="the oldest revision whose servers run on this schema",
    ),
)
