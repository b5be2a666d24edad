"""Notifications for servers that cannot listen; which servers run on the schema.

Servers of the previous version may keep running: they do not write notices. Servers behind a pooler
therefore see their changes at the next poll, as before.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    now = sa.text("clock_timestamp()")
    time = TIMESTAMP(timezone=True)
    op.create_table(
        "notices",
        sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.text("gen_random_uuid()")),
        sa.Column("sent_at", time, nullable=False, server_default=now),
        sa.Column("payload", sa.Text, nullable=False),
        prefixes=["UNLOGGED"],
    )
    op.create_index("notices_sent_idx", "notices", ["sent_at"])
    op.create_table(
        "notice_readers",
        sa.Column("reader", sa.Uuid, primary_key=True),
        sa.Column("seen_at", time, nullable=False),
        prefixes=["UNLOGGED"],
    )
    op.create_table(
        "schema_support",
        sa.Column("is_only", sa.Boolean, primary_key=True, comment="true: there is one row"),
        sa.Column(
            "oldest_server",
            sa.Text,
            nullable=False,
            comment="the oldest revision whose servers run on this schema",
        ),
    )
