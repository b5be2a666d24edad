"""Migrations: they create the schema of db/schema/, also if several run at once."""

import asyncio
import subprocess
import sys
import uuid

import grpc
import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from sessiond.v1.message_pb2 import Message
from sessiond_server.core.ids import DEFAULT_PROJECT_ID, session_key
from sessiond_server.db import migrate
from sessiond_server.db import schema as tables
from sessiond_server.server import serving
from sessiond_server.settings import Settings

from ..support.wire import Wire


def test_the_migrations_create_the_schema(database_url: str) -> None:
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()


def test_the_files_of_the_migrations_are_named_after_their_revisions() -> None:
    script = ScriptDirectory.from_config(migrate._config())
    revisions = [revision.revision for revision in script.walk_revisions()]
    assert migrate.newest() == script.get_current_head() == revisions[0]
    assert {revision for revision in revisions if migrate.is_known(revision)} == set(revisions)
    assert not migrate.is_known(f"{int(migrate.newest()) + 1:04}")


def test_a_current_database_is_opened_without_alembic(database_url: str) -> None:
    program = (
        "import sys; from sessiond_server.db import migrate;"
        " migrate.upgrade(sys.argv[1]); assert migrate.current(sys.argv[1]) == migrate.newest();"
        " sys.exit('alembic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, database_url], check=True)


async def test_concurrent_migrations_run_once(empty_database_url: str) -> None:
    assert migrate.current(empty_database_url) is None
    await asyncio.gather(
        *(asyncio.to_thread(migrate.upgrade, empty_database_url) for _ in range(4))
    )
    assert migrate.current(empty_database_url) == migrate.newest()


def test_the_default_project_exists(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT project_id, name FROM projects").fetchall() == [
            (DEFAULT_PROJECT_ID, "default")
        ]


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
        ('{"a":"b"}', '{"a":null}', "{}"),
        ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
        ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
        ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
        ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
        ('["a","b"]', '["c","d"]', '["c","d"]'),
        ('{"a":"b"}', '["c"]', '["c"]'),
        ('{"a":"foo"}', "null", "null"),
        ('{"a":"foo"}', '"bar"', '"bar"'),
        ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
        ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
        ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
    ],
)
def test_the_merge_patch_cases_of_rfc_7396(
    database_url: str, target: str, patch: str, result: str
) -> None:
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT sessiond_merge_patch(%s::jsonb, %s::jsonb) = %s::jsonb", [target, patch, result]
        ).fetchone()
    assert row == (True,)


async def test_a_database_of_the_first_version_can_be_migrated(
    empty_database_url: str, settings: Settings
) -> None:
    """Unlike newer messages, those of the first version lack totals and token counts."""
    engine = create_engine(make_url(empty_database_url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.commit()
    engine.dispose()
    key, log = session_key(DEFAULT_PROJECT_ID, "one"), uuid.uuid4()
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(
            "INSERT INTO sessions (key, project_id, session_id, log, state, first_words, last_seq,"
            " content_bytes, largest_bytes, created_at, active_at, used_at)"
            " VALUES (%s, %s, 'one', %s, 1, 'hi', 3, 60, 20, now(), now(), now())",
            [key, DEFAULT_PROJECT_ID, log],
        )
        body = Message(
            role=3, format=1, json='{"role":"user","x":1}', content_bytes=20
        ).SerializeToString()
        for seq in (1, 2, 3):
            connection.execute(
                "INSERT INTO messages"
                " (key, log, seq, role, format, content_bytes, created_at, body)"
                " VALUES (%s, %s, %s, 3, 1, 20, now(), %s)",
                [key, log, seq, body],
            )
    migrate.upgrade(empty_database_url)
    async with (
        serving(settings, empty_database_url) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        wire = Wire(channel)
        await wire.store("one", "today")
        assert len(await wire.read("one")) == 4
        whole = (await wire.copy("one", "two")).session
        assert (whole.last_seq, whole.content_bytes, whole.summary) == (
            4,
            (await wire.get("one")).content_bytes,
            "hi",
        )
        part = (await wire.copy("one", "three", up_to_seq=2)).session
        assert (part.last_seq, part.content_bytes, part.token_count) == (2, 40, 0)
        assert await wire.read("three") == (await wire.read("one"))[:2]
        assert (
            await wire.copy("two", "four", up_to_seq=4)
        ).session.content_bytes == whole.content_bytes
