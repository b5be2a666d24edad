"""The message that a turn continues, if it is not the newest one.

Servers of the previous version may keep running. They ignore the column: if one of them starts a
queued turn that has a parent and no messages, the turn continues the newest message.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "turns",
        sa.Column(
            "parent_seq",
            sa.BigInteger,
            nullable=False,
            server_default="0",
            comment="seq of the message that the turn continues; 0: the newest one",
        ),
    )
