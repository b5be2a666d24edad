"""Limits of projects, and the tokens that they use.

Servers of the previous version may keep running: they apply no limits, and count no tokens.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

LIMITS = (
    "calls_per_second",
    "messages_per_second",
    "max_sessions",
    "max_bytes",
    "max_running_turns",
    "model_tokens_per_day",
)


def upgrade() -> None:
    op.create_table(
        "project_limits",
        sa.Column("project_id", sa.Uuid, primary_key=True),
        *(
            sa.Column(name, sa.BigInteger, comment="null: the server's default; 0: no limit")
            for name in LIMITS
        ),
        sa.Column("etag", sa.Uuid, nullable=False, server_default=sa.text("gen_random_uuid()")),
    )
    op.create_table(
        "project_tokens",
        sa.Column("project_id", sa.Uuid, primary_key=True),
        sa.Column("day", sa.Date, primary_key=True, comment="in UTC"),
        sa.Column("tokens", sa.BigInteger, nullable=False),
    )
