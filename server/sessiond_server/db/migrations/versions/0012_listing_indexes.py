"""Indexes by (active_minute, key), for listings of minutes with many active sessions.

Servers of the previous version may keep running: their listings also use the new indexes.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("sessions_activity_idx", "sessions")
    op.create_index("sessions_activity_idx", "sessions", ["project_id", "active_minute", "key"])
    op.drop_index("sessions_user_idx", "sessions")
    op.create_index(
        "sessions_user_idx", "sessions", ["project_id", "user_name", "active_minute", "key"]
    )
    op.create_index("sessions_model_idx", "sessions", ["project_id", "model"])
    op.create_index(
        "sessions_status_idx", "sessions", ["project_id"], postgresql_where=sa.text("state <> 1")
    )
