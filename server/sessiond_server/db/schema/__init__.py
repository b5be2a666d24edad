"""The schema in SQLAlchemy Core. The migrations create it; a test compares the two.

Every row of a session is found by `key`. There are no serial ids and no foreign keys between the
tables of sessions, so the schema can be sharded without changes. Times are `timestamptz`, taken
from the database's clock.
"""

from sessiond_server.db.schema.assets import asset_refs, assets, loose_objects
from sessiond_server.db.schema.base import metadata
from sessiond_server.db.schema.projects import (
    api_keys,
    project_limits,
    project_tokens,
    projects,
)
from sessiond_server.db.schema.servers import notice_readers, notices, schema_support
from sessiond_server.db.schema.sessions import (
    bookmarks,
    dead_logs,
    message_ids,
    messages,
    parent_links,
    requests,
    rewinds,
    segments,
    session_state,
    sessions,
    tasks,
)
from sessiond_server.db.schema.work import (
    context_marks,
    processing,
    processing_exceptions,
    queues,
    turn_texts,
    turns,
)

__all__ = [
    "api_keys",
    "asset_refs",
    "assets",
    "bookmarks",
    "context_marks",
    "dead_logs",
    "loose_objects",
    "message_ids",
    "messages",
    "metadata",
    "notice_readers",
    "notices",
    "parent_links",
    "processing",
    "processing_exceptions",
    "project_limits",
    "project_tokens",
    "projects",
    "queues",
    "requests",
    "rewinds",
    "schema_support",
    "segments",
    "session_state",
    "sessions",
    "tasks",
    "turn_texts",
    "turns",
]
