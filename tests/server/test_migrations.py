"""Migrations: the schema that they make is the one that tables.py describes; any number may run at once."""

import asyncio

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from sessiond_server.service.names import DEFAULT_PROJECT_ID
from sessiond_server.store import migrate, tables


def test_migrated_is_as_described(database_url: str) -> None:
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()


async def test_many_at_once_migrate_once(empty_database_url: str) -> None:
    assert migrate.current(empty_database_url) is None
    await asyncio.gather(*(asyncio.to_thread(migrate.upgrade, empty_database_url) for _ in range(4)))
    assert migrate.current(empty_database_url) == migrate.newest()


def test_the_default_project_is_there(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT project_id, name FROM projects").fetchall() == [(DEFAULT_PROJECT_ID, "default")]


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
def test_the_merge_patch_cases_of_rfc_7396(database_url: str, target: str, patch: str, result: str) -> None:
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT sessiond_merge_patch(%s::jsonb, %s::jsonb) = %s::jsonb", [target, patch, result]).fetchone()
    assert row == (True,)
