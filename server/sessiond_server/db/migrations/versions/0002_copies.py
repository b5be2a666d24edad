"""Copies, tasks, bookmarks, processing queues, token counts, assets.

Servers of the previous version may keep running. Rows that they write get the default values, so
their messages have no token counts.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = TIMESTAMP(timezone=True)
ID_TEXT = sa.Text(collation="C")
NOW = sa.func.now()


def upgrade() -> None:
    for column in (
        sa.Column(
            "base_seq",
            sa.BigInteger,
            nullable=False,
            server_default="0",
            comment="messages up to this seq are in the logs listed in segments",
        ),
        sa.Column(
            "short_segments",
            sa.Integer,
            nullable=False,
            server_default="0",
            comment="number of segments that are worth flattening",
        ),
        sa.Column(
            "first_words_seq", sa.BigInteger, comment="seq of the message that first_words is from"
        ),
        sa.Column("token_count", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column(
            "estimated_tokens",
            sa.BigInteger,
            nullable=False,
            server_default="0",
            comment="the part of token_count that is estimated",
        ),
        sa.Column(
            "origin_key", sa.Uuid, comment="key of the session that this one was copied from"
        ),
        sa.Column("origin_log", sa.Uuid),
        sa.Column("origin_session_id", sa.Text),
        sa.Column("origin_seq", sa.BigInteger),
        # Existing sessions have not been distributed to any queue yet, so they start out like new
        # ones.
        sa.Column(
            "has_news",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("true"),
            comment="new messages have to be distributed to the queues",
        ),
    ):
        op.add_column("sessions", column)
    op.create_index(
        "sessions_origin_idx",
        "sessions",
        ["origin_key", "origin_log", sa.text("created_at DESC"), sa.text("key DESC")],
        postgresql_where=sa.text("origin_key IS NOT NULL"),
    )
    op.create_index(
        "sessions_chain_idx",
        "sessions",
        ["short_segments"],
        postgresql_where=sa.text("short_segments > 16"),
    )
    op.create_index(
        "sessions_news_idx", "sessions", ["project_id"], postgresql_where=sa.text("has_news")
    )
    for column in (
        sa.Column(
            "tokens",
            sa.Integer,
            nullable=False,
            server_default="0",
            comment="negative for an estimate",
        ),
        sa.Column(
            "total_bytes",
            sa.BigInteger,
            comment="running total of content_bytes, including this message",
        ),
        sa.Column(
            "total_tokens", sa.BigInteger, comment="running total of tokens, including estimates"
        ),
    ):
        op.add_column("messages", column)

    op.create_table(
        "segments",
        sa.Column(
            "key", sa.Uuid, nullable=False, comment="key of the session that reads this segment"
        ),
        sa.Column("first_seq", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("src_key", sa.Uuid, nullable=False),
        sa.Column("src_log", sa.Uuid, nullable=False),
        sa.PrimaryKeyConstraint("key", "first_seq", name="segments_pkey"),
    )
    op.create_index("segments_source_idx", "segments", ["src_key", "src_log", "last_seq"])

    op.create_index("dead_logs_queued_at_idx", "dead_logs", ["queued_at"])

    op.create_table(
        "tasks",
        sa.Column("key", sa.Uuid, nullable=False),
        sa.Column("log", sa.Uuid, nullable=False),
        sa.Column("task_id", ID_TEXT, nullable=False),
        sa.Column(
            "position",
            sa.Integer,
            nullable=False,
            comment="1, 2, 3, ... without a gap; not unique while tasks are being reordered",
        ),
        sa.Column("status", sa.SmallInteger, nullable=False, comment="as in the protos"),
        sa.Column("data", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column(
            "message_seqs",
            ARRAY(sa.BigInteger),
            nullable=False,
            server_default=sa.text("'{}'"),
            comment="ascending, without duplicates",
        ),
        sa.Column("revision", sa.Integer, nullable=False, server_default="1"),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("key", "log", "task_id", name="tasks_pkey"),
    )
    op.create_table(
        "bookmarks",
        sa.Column("key", sa.Uuid, nullable=False),
        sa.Column("log", sa.Uuid, nullable=False),
        sa.Column("name", ID_TEXT, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("description", sa.Text, nullable=False, server_default=""),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("key", "log", "name", name="bookmarks_pkey"),
    )

    op.create_table(
        "queues",
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.Column("queue", ID_TEXT, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
        sa.PrimaryKeyConstraint("project_id", "queue", name="queues_pkey"),
    )
    op.create_table(
        "processing",
        sa.Column("key", sa.Uuid, nullable=False),
        sa.Column("log", sa.Uuid, nullable=False),
        sa.Column("queue", ID_TEXT, nullable=False),
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.Column(
            "done_seq",
            sa.BigInteger,
            nullable=False,
            server_default="0",
            comment="messages up to this seq are processed, except those in processing_exceptions",
        ),
        sa.Column("is_ready", sa.Boolean, nullable=False, comment="there may be pending messages"),
        sa.Column(
            "ready_at",
            TIME,
            nullable=False,
            comment="time of becoming ready; the earliest comes first",
        ),
        sa.Column("lease_id", sa.Uuid),
        sa.Column("lease_until", TIME),
        sa.Column("lease_firsts", ARRAY(sa.BigInteger), comment="first seqs of the leased ranges"),
        sa.Column("lease_lasts", ARRAY(sa.BigInteger)),
        sa.Column("worker", sa.Text, nullable=False, server_default=""),
        sa.Column(
            "attempt",
            sa.Integer,
            nullable=False,
            server_default="0",
            comment="number of consecutive leases without progress, including the current one",
        ),
        sa.PrimaryKeyConstraint("key", "log", "queue", name="processing_pkey"),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index(
        "processing_ready_idx",
        "processing",
        ["project_id", "queue", "ready_at"],
        postgresql_where=sa.text("is_ready"),
    )
    op.create_table(
        "processing_exceptions",
        sa.Column("key", sa.Uuid, nullable=False),
        sa.Column("log", sa.Uuid, nullable=False),
        sa.Column("queue", ID_TEXT, nullable=False),
        sa.Column(
            "seq", sa.BigInteger, autoincrement=False, nullable=False, comment="at most done_seq"
        ),
        sa.Column("status", sa.SmallInteger, nullable=False, comment="1 pending again, 4 failed"),
        sa.Column("error", sa.Text, nullable=False, server_default=""),
        sa.Column("updated_at", TIME, nullable=False, server_default=NOW),
        sa.PrimaryKeyConstraint("key", "log", "queue", "seq", name="processing_exceptions_pkey"),
    )

    op.create_table(
        "assets",
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column(
            "object_key",
            sa.Text,
            nullable=False,
            comment="location of the content; every upload has a key of its own",
        ),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False, server_default=""),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW),
        sa.Column(
            "touched_at",
            TIME,
            nullable=False,
            server_default=NOW,
            comment="time of the last upload",
        ),
        sa.PrimaryKeyConstraint("project_id", "sha256", name="assets_pkey"),
    )
    op.create_index("assets_touched_at_idx", "assets", ["touched_at"])
    op.create_table(
        "asset_refs",
        sa.Column("key", sa.Uuid, nullable=False),
        sa.Column("log", sa.Uuid, nullable=False),
        sa.Column(
            "seq",
            sa.BigInteger,
            autoincrement=False,
            nullable=False,
            comment="seq of the referring message; deleted together with it",
        ),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.PrimaryKeyConstraint("key", "log", "seq", "sha256", name="asset_refs_pkey"),
    )
    op.create_index("asset_refs_asset_idx", "asset_refs", ["project_id", "sha256"])
    op.create_table(
        "loose_objects",
        sa.Column(
            "object_key",
            sa.Text,
            comment="an object that belongs to no asset; every object is either here or in assets",
        ),
        sa.Column(
            "due_at", TIME, nullable=False, comment="time from which the object may be removed"
        ),
        sa.PrimaryKeyConstraint("object_key", name="loose_objects_pkey"),
    )
    op.create_index("loose_objects_due_at_idx", "loose_objects", ["due_at"])


def downgrade() -> None:
    raise NotImplementedError("migrations run forward only")
