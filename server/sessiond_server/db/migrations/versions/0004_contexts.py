"""Branches, the marks of windows, and the reports of turns' requests.

Servers of the previous version may keep running: they neither read nor write the new columns and
tables. A parent_seq that was stored before has no row in parent_links: reads ignore it, as before.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "sessions",
        sa.Column(
            "is_branched",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("false"),
            comment="whether parent_links has rows of its messages",
        ),
    )
    op.create_table(
        "parent_links",
        sa.Column("key", sa.Uuid, nullable=False),
        sa.Column("log", sa.Uuid, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("parent_seq", sa.BigInteger, nullable=False, comment="less than seq - 1"),
        sa.PrimaryKeyConstraint("key", "log", "seq", name="parent_links_pkey"),
    )
    op.create_table(
        "context_marks",
        sa.Column("key", sa.Uuid, nullable=False),
        sa.Column("log", sa.Uuid, nullable=False),
        sa.Column("max_messages", sa.BigInteger, nullable=False, comment="of the config then"),
        sa.Column("max_tokens", sa.BigInteger, nullable=False),
        sa.Column("keep_fraction", sa.Double, nullable=False),
        sa.Column("first_seq", sa.BigInteger, nullable=False, comment="where the window begins"),
        sa.Column(
            "kept_seqs",
            ARRAY(sa.BigInteger),
            nullable=False,
            comment="of the instructions before the window, ascending",
        ),
        sa.Column(
            "task_seq",
            sa.BigInteger,
            nullable=False,
            comment="of the user's message before the window that a tool loop works on; 0: none",
        ),
        sa.PrimaryKeyConstraint("key", "log", name="context_marks_pkey"),
    )
    op.add_column(
        "turns",
        sa.Column(
            "held_until",
            TIMESTAMP(timezone=True),
            comment="until then, a steering turn waits for results of open calls",
        ),
    )
    op.add_column(
        "turns",
        sa.Column("changes", JSONB, comment="the first changes of its last request"),
    )
    op.add_column(
        "turns",
        sa.Column(
            "change_count",
            sa.Integer,
            nullable=False,
            server_default="0",
            comment="of all changes",
        ),
    )
