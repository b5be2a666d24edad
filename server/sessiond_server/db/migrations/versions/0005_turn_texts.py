"""The texts of answers that models are writing, and incomplete messages that keep such texts.

Servers of the previous version may keep running: they neither read nor write the new columns and
the new table. The text of a turn that they end is not kept, and its rows stay until the session is
purged.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "turns",
        sa.Column(
            "keep_partial",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("true"),
            comment="whether the text of an answer that is cut off is kept as a message",
        ),
    )
    op.add_column(
        "turns",
        sa.Column(
            "partial_seq",
            sa.BigInteger,
            nullable=False,
            server_default="0",
            comment="seq of the message with that text; 0: none",
        ),
    )
    op.create_table(
        "turn_texts",
        sa.Column("key", sa.Uuid, nullable=False),
        sa.Column("log", sa.Uuid, nullable=False),
        sa.Column("turn_id", sa.Uuid, nullable=False),
        sa.Column(
            "answered_seq",
            sa.BigInteger,
            nullable=False,
            autoincrement=False,
            comment="the message that the model answers: a turn that is steered has several "
            "answers",
        ),
        sa.Column(
            "start",
            sa.BigInteger,
            nullable=False,
            autoincrement=False,
            comment="number of characters before this piece",
        ),
        sa.Column(
            "content", sa.LargeBinary, nullable=False, comment="UTF-8; text cannot contain NUL"
        ),
        sa.PrimaryKeyConstraint(
            "key", "log", "turn_id", "answered_seq", "start", name="turn_texts_pkey"
        ),
    )
