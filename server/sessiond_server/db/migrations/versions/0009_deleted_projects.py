"""Deleted projects.

Servers of the previous version may keep running: their purgers ignore deleted projects.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "projects",
        sa.Column(
            "deleted_at",
            TIMESTAMP(timezone=True),
            comment="the purger removes what it has; null: it is in use",
        ),
    )
