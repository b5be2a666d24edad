"""Rewinds.

Servers of the previous version may keep running as long as no session is rewound. They would look
for the messages of a rewound session in the wrong log. If one of them appends to such a session,
the append fails on the constraint and stores nothing.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column(
        "sessions",
        "log",
        existing_type=sa.Uuid,
        existing_nullable=False,
        comment="identity of the session: a re-created session has another log. Holds the new "
        "messages too, until the session is rewound",
    )
    op.add_column(
        "sessions",
        sa.Column(
            "message_log",
            sa.Uuid,
            comment="log of the session's new messages since it was rewound; null: never rewound",
        ),
    )
    op.add_column(
        "sessions",
        sa.Column(
            "written_seq",
            sa.BigInteger,
            comment="last_seq, as written by a server that knows message_log; null: never rewound",
        ),
    )
    op.add_column(
        "sessions",
        sa.Column(
            "epoch",
            sa.BigInteger,
            nullable=False,
            server_default="0",
            comment="number of rewinds",
        ),
    )
    op.create_check_constraint(
        "sessions_message_log_check", "sessions", "message_log IS NULL OR written_seq = last_seq"
    )
    op.create_table(
        "rewinds",
        sa.Column("key", sa.Uuid, nullable=False),
        sa.Column("log", sa.Uuid, nullable=False),
        sa.Column(
            "epoch",
            sa.BigInteger,
            nullable=False,
            autoincrement=False,
            comment="the epoch that the rewind began",
        ),
        sa.Column(
            "last_seq", sa.BigInteger, nullable=False, comment="seq of the last message kept"
        ),
        sa.Column("removed_count", sa.BigInteger, nullable=False),
        sa.Column("created_at", TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", "log", "epoch", name="rewinds_pkey"),
    )
    op.add_column(
        "requests",
        sa.Column(
            "epoch",
            sa.BigInteger,
            nullable=False,
            server_default="0",
            comment="epoch of first_seq and last_seq",
        ),
    )
    op.add_column(
        "context_marks",
        sa.Column(
            "epoch",
            sa.BigInteger,
            nullable=False,
            server_default="0",
            comment="epoch of the seqs",
        ),
    )
    op.add_column(
        "processing",
        sa.Column(
            "cut_lease_id", sa.Uuid, comment="the lease that lost messages when they were removed"
        ),
    )
