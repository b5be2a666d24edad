"""The message_ids of messages.

Servers of the previous version may keep running, but they store no message_ids. When they flatten a
copy, they do not copy the message_ids of its source. The copy would then accept messages with these
message_ids a second time. Finish the upgrade before clients send message_ids.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "message_ids",
        sa.Column("key", sa.Uuid, nullable=False),
        sa.Column("log", sa.Uuid, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("message_id", sa.Text(collation="C"), nullable=False),
        sa.PrimaryKeyConstraint("key", "log", "seq", name="message_ids_pkey"),
        sa.UniqueConstraint("key", "log", "message_id", name="message_ids_key_log_message_id_key"),
    )
