"""The states of sessions.

Servers of the previous version may keep running: they neither read nor write states. Copies that
they make have no state.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "session_state",
        sa.Column("key", sa.Uuid, nullable=False),
        sa.Column("log", sa.Uuid, nullable=False),
        sa.Column("name", sa.Text(collation="C"), nullable=False, comment="top-level key"),
        sa.Column("value", sa.Text, nullable=False, comment="JSON text, as it was sent"),
        sa.PrimaryKeyConstraint("key", "log", "name", name="session_state_pkey"),
    )
