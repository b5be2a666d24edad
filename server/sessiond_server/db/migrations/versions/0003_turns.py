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
            comment="the fence: what a turn appends carries it into the WHERE of the append",
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
            comment="UUIDv7: in the order in which they were sent, as far as clocks agree",
        ),
        sa.Column(
            "place", sa.BigInteger, nullable=False, comment="the order among those that wait"
        ),
        sa.Column(
            "state",
            sa.SmallInteger,
            nullable=False,
            comment="as in the protos; 6: what was sent became a part of the turn `joined`",
        ),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column(
            "prompt",
            sa.LargeBinary,
            comment="a SendRequest with the messages; null once they are appended",
        ),
        sa.Column(
            "message_id", sa.Uuid, comment="of the last of the messages; null where there is none"
        ),
        sa.Column("options", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("timeout_ms", sa.BigInteger, nullable=False),
        sa.Column(
            "steers", sa.Uuid, comment="the turn that was running when it was sent to steer it"
        ),
        sa.Column("joined", sa.Uuid),
        sa.Column("holder", sa.Uuid, comment="the server process that runs it"),
        sa.Column("lease_until", TIME),
        sa.Column("first_seq", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column(
            "end_seq",
            sa.BigInteger,
            nullable=False,
            server_default="0",
            comment="the last that it appended",
        ),
        sa.Column(
            "last_seq",
            sa.BigInteger,
            nullable=False,
            server_default="0",
            comment="of its final answer",
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
