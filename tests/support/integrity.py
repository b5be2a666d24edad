"""`sessiond verify` as a step of other tests."""

from sessiond_server.assets.store.objects import Objects
from sessiond_server.db.pool import Database
from sessiond_server.integrity.store.checks import IntegrityStore
from sessiond_server.integrity.verification import Seen, problems


async def assert_whole(database: Database) -> None:
    """Assert that `sessiond verify` finds no fault in a database. Do not read assets' content."""
    looked = problems(IntegrityStore(database), Objects("/"), Seen(), reads_assets=False)
    assert [problem async for problem in looked] == []


async def assert_url_whole(database_url: str) -> None:
    """Do what assert_whole() does, for the database of a URL and over new connections."""
    database = Database(database_url, size=2, timeout_s=30.0)
    await database.open()
    try:
        await assert_whole(database)
    finally:
        await database.close()
