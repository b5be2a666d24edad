"""Deleted projects.

Servers of the previous version may go on serving: their purgers leave deleted projects to others.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0008"
down_revision = "0007"
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
