"""Turns.

Servers of the previous version may keep running: they neither read nor write the new columns.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIME = TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.add_column(
        "sessions",
        sa.Column(
            "running_turn",
            sa.Uuid,
            comment="the fence: a turn's appends have it as a condition in their WHERE",
        ),
    )
    op.create_table(
        "turns",
        sa.Column("key", sa.Uuid, nullable=False),
        sa.Column("log", sa.Uuid, nullable=False),
        sa.Column(
            "turn_id",
            sa.Uuid,
            nullable=False,
            comment="UUIDv7, which orders turns by the time of sending, as far as clocks agree",
        ),
        sa.Column(
            "place", sa.BigInteger, nullable=False, comment="position in the order of queued turns"
        ),
        sa.Column(
            "state",
            sa.SmallInteger,
            nullable=False,
            comment="as in the protos; 6: the messages were added to the turn `joined`",
        ),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column(
            "prompt",
            sa.LargeBinary,
            comment="a SendRequest with the messages; null once they are appended",
        ),
        sa.Column(
            "message_id", sa.Uuid, comment="message_id of the last message; null if it has none"
        ),
        sa.Column("options", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("timeout_ms", sa.BigInteger, nullable=False),
        sa.Column("steers", sa.Uuid, comment="the running turn that this one was sent to steer"),
        sa.Column("joined", sa.Uuid),
        sa.Column("holder", sa.Uuid, comment="the server process that runs the turn"),
        sa.Column("lease_until", TIME),
        sa.Column("first_seq", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column(
            "end_seq",
            sa.BigInteger,
            nullable=False,
            server_default="0",
            comment="seq of the last message that the turn appended",
        ),
        sa.Column(
            "last_seq",
            sa.BigInteger,
            nullable=False,
            server_default="0",
            comment="seq of the final answer",
        ),
        sa.Column("stop_reason", sa.Text, nullable=False, server_default=""),
        sa.Column(
            "usage", ARRAY(sa.BigInteger), comment="input, output, cached input, reasoning tokens"
        ),
        sa.Column("error", JSONB, comment="reason, message, metadata"),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("started_at", TIME),
        sa.Column("ended_at", TIME),
        sa.PrimaryKeyConstraint("key", "log", "turn_id", name="turns_pkey"),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index(
        "turns_open_idx", "turns", ["key", "log", "place"], postgresql_where=sa.text("state <= 2")
    )
