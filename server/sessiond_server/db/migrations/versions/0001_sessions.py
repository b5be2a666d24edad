"""Projects, API keys, sessions, messages.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIME = TIMESTAMP(timezone=True)
ID_TEXT = sa.Text(collation="C")


def upgrade() -> None:
    op.create_table(
        "projects",
        sa.Column("project_id", sa.Uuid, comment="uuid5 of the name"),
        sa.Column("name", ID_TEXT, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("project_id", name="projects_pkey"),
        sa.UniqueConstraint("name", name="projects_name_key"),
    )
    # The project of servers without keys. Like every project id, its id is derived from the name.
    op.execute(
        "INSERT INTO projects (project_id, name)"
        " VALUES ('1a3c88bb-a02a-5ae3-ae1b-c4646af33f8c', 'default')"
    )
    op.create_table(
        "api_keys",
        sa.Column("key_id", ID_TEXT),
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.Column(
            "secret_hash",
            sa.LargeBinary,
            nullable=False,
            comment="SHA-256; the secret has 256 random bits, so no salt",
        ),
        sa.Column("label", sa.Text, nullable=False, server_default=""),
        sa.Column("is_admin", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("revoked_at", TIME),
        sa.PrimaryKeyConstraint("key_id", name="api_keys_pkey"),
    )
    op.create_index("api_keys_project_id_idx", "api_keys", ["project_id"])

    op.create_table(
        "sessions",
        sa.Column("key", sa.Uuid, comment="uuid5(project_id, session_id)"),
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.Column("session_id", ID_TEXT, nullable=False),
        sa.Column(
            "log",
            sa.Uuid,
            nullable=False,
            comment="log of the session's new messages; a re-created session has another log",
        ),
        sa.Column(
            "state",
            sa.SmallInteger,
            nullable=False,
            comment="1 active, 2 destroyed, as in the protos",
        ),
        sa.Column(
            "revision",
            sa.Integer,
            nullable=False,
            server_default="1",
            comment="number of changes to settings and state",
        ),
        sa.Column("model", sa.Text, nullable=False, server_default=""),
        sa.Column("user_name", sa.Text, nullable=False, server_default=""),
        sa.Column("title", sa.Text, nullable=False, server_default=""),
        sa.Column(
            "first_words", sa.Text, comment="beginning of the first user message, for listings"
        ),
        sa.Column("config", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("metadata", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("last_seq", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("content_bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column(
            "largest_bytes",
            sa.Integer,
            nullable=False,
            server_default="0",
            comment="size of the largest message; bounds the size of a page",
        ),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("active_at", TIME, nullable=False),
        sa.Column(
            "active_minute",
            sa.Integer,
            # A generated column must not depend on the connection's time zone; UTC is constant.
            sa.Computed(
                "floor(extract(epoch FROM active_at AT TIME ZONE 'UTC') / 60)::integer",
                persisted=True,
            ),
            nullable=False,
        ),
        sa.Column("idle_ttl_ms", sa.BigInteger, comment="null: never expires"),
        sa.Column(
            "used_at", TIME, nullable=False, comment="expired when used_at + idle_ttl_ms has passed"
        ),
        sa.Column("expiry_check_at", TIME),
        sa.PrimaryKeyConstraint("key", name="sessions_pkey"),
        sa.UniqueConstraint("project_id", "session_id", name="sessions_project_id_session_id_key"),
        postgresql_with={"fillfactor": "70", "autovacuum_vacuum_scale_factor": "0.02"},
    )
    op.create_index(
        "sessions_activity_idx", "sessions", ["project_id", sa.text("active_minute DESC")]
    )
    op.create_index("sessions_created_idx", "sessions", ["project_id", "created_at", "key"])
    op.create_index(
        "sessions_user_idx", "sessions", ["project_id", "user_name", sa.text("active_minute DESC")]
    )
    op.create_index(
        "sessions_expiry_idx",
        "sessions",
        ["expiry_check_at"],
        postgresql_where=sa.text("expiry_check_at IS NOT NULL"),
    )
    for column in ("metadata", "config"):
        op.create_index(
            f"sessions_{column}_idx",
            "sessions",
            [column],
            postgresql_using="gin",
            postgresql_ops={column: "jsonb_path_ops"},
        )

    op.create_table(
        "messages",
        sa.Column("key", sa.Uuid, nullable=False),
        sa.Column("log", sa.Uuid, nullable=False),
        sa.Column("seq", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("role", sa.SmallInteger, nullable=False),
        sa.Column("format", sa.SmallInteger, nullable=False),
        sa.Column("content_bytes", sa.Integer, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column(
            "body",
            sa.LargeBinary,
            nullable=False,
            comment="the encoded Message without the fields that the server assigns",
        ),
        sa.PrimaryKeyConstraint("key", "log", "seq", name="messages_pkey"),
        postgresql_with={
            "autovacuum_vacuum_insert_scale_factor": "0.1",
            "autovacuum_analyze_scale_factor": "0.1",
        },
    )
    # lz4 decompresses several times faster than pglz, at a cost of a few percent more space. Some
    # builds of PostgreSQL lack it.
    op.execute("""
        DO $$ BEGIN
            ALTER TABLE messages ALTER COLUMN body SET COMPRESSION lz4;
        EXCEPTION WHEN feature_not_supported THEN
            NULL;
        END $$
    """)

    op.create_table(
        "requests",
        sa.Column("key", sa.Uuid, nullable=False),
        sa.Column(
            "log",
            sa.Uuid,
            nullable=False,
            comment="the session's log, or the nil UUID for changes to the session itself",
        ),
        sa.Column("request_id", ID_TEXT, nullable=False),
        sa.Column("content_hash", sa.LargeBinary, nullable=False),
        sa.Column("first_seq", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("last_seq", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column(
            "session_id",
            sa.Text,
            nullable=False,
            server_default="",
            comment="id of the object that the request created or changed",
        ),
        sa.Column(
            "created_at", TIME, nullable=False, comment="for an append, created_at of its messages"
        ),
        sa.PrimaryKeyConstraint("key", "log", "request_id", name="requests_pkey"),
    )
    op.create_index("requests_created_at_idx", "requests", ["created_at"], postgresql_using="brin")

    op.create_table(
        "dead_logs",
        sa.Column("key", sa.Uuid, nullable=False),
        sa.Column("log", sa.Uuid, nullable=False),
        sa.Column("queued_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("key", "log", name="dead_logs_pkey"),
    )

    # RFC 7396 in SQL, so that one UPDATE can apply a patch atomically.
    op.execute("""
        CREATE FUNCTION sessiond_merge_patch(target jsonb, patch jsonb) RETURNS jsonb
        LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
        DECLARE
            result jsonb := CASE WHEN jsonb_typeof(target) = 'object' THEN target ELSE '{}' END;
            field text;
            value jsonb;
        BEGIN
            IF patch IS NULL THEN
                RETURN target;
            END IF;
            IF jsonb_typeof(patch) <> 'object' THEN
                RETURN patch;
            END IF;
            FOR field, value IN SELECT * FROM jsonb_each(patch) LOOP
                IF value = 'null'::jsonb THEN
                    result := result - field;
                ELSIF jsonb_typeof(value) = 'object' THEN
                    value := sessiond_merge_patch(result -> field, value);
                    result := jsonb_set(result, ARRAY[field], value, true);
                ELSE
                    result := jsonb_set(result, ARRAY[field], value, true);
                END IF;
            END LOOP;
            RETURN result;
        END $$
    """)


def downgrade() -> None:
    raise NotImplementedError("migrations run forward only")
