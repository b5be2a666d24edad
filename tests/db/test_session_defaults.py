"""Defaults of the database or the role that differ from PostgreSQL's own change nothing."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import sql

from sessiond.v1.bookmark_pb2 import Bookmark
from sessiond.v1.bookmark_service_pb2 import CreateBookmarkRequest
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import (
    UpdateSessionRequest,
)
from sessiond.v1.task_pb2 import Task
from sessiond.v1.task_service_pb2 import CreateTaskRequest
from sessiond_server.server import Running, serving
from sessiond_server.settings import Settings

from ..assets.helpers import upload
from ..support.turns import send
from ..support.wire import Wire, pictures

DEFAULTS = {
    "datestyle": "German, DMY",
    "intervalstyle": "sql_standard",
    "timezone": "Pacific/Kiritimati",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
    "client_encoding": "LATIN1",
    "default_transaction_isolation": "serializable",
    "extra_float_digits": "-15",
}


@pytest.fixture(params=DEFAULTS)
async def server(
    request: pytest.FixtureRequest, settings: Settings, database_url: str
) -> AsyncIterator[Running]:
    """A server on a database with another default."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET {} TO {}").format(
                sql.Identifier(connection.info.dbname),
                sql.Identifier(request.param),
                sql.Literal(DEFAULTS[request.param])
                if request.param != "datestyle"
                else sql.SQL(DEFAULTS[request.param]),
            )
        )
    async with serving(settings, database_url) as running:
        yield running


async def test_every_kind_of_call_works(wire: Wire) -> None:
    text = "é ☕ \\ ' \\' 😀"
    created = await wire.create("one", title=text, metadata={"text": text}, model="echo")
    assert abs((datetime.now(UTC) - created.create_time.ToDatetime(UTC)).total_seconds()) < 600
    asset = await upload(wire, b"\\x00\\\x00'")
    await wire.store("one", text, pictures(asset.asset_id), request_id="r\\'")
    await wire.store("one", text, pictures(asset.asset_id), request_id="r\\'")
    await wire.sessions.UpdateSession(
        UpdateSessionRequest(session=Session(session_id="one", user=text))
    )
    await wire.tasks.CreateTask(
        CreateTaskRequest(session_id="one", task=Task(task_id=text, message_seqs=[1, 2]))
    )
    await wire.bookmarks.CreateBookmark(
        CreateBookmarkRequest(session_id="one", bookmark=Bookmark(name=text, seq=1))
    )
    await wire.copy("one", "two")
    assert (await send(wire, "one", text)).last_seq == 4
    [session] = [one for one in await wire.list(user=text) if one.session_id == "one"]
    assert (session.title, session.user, session.metadata["text"]) == (text, text, text)
    assert (session.create_time, session.last_seq) == (created.create_time, 4)
    assert [text_ == text for text_ in await wire.texts("two")] == [True, False]


async def test_appends_at_once_do_not_disturb_each_other(wire: Wire) -> None:
    await wire.create("one")
    await asyncio.gather(*(wire.store("one", f"{i}") for i in range(16)))
    assert (await wire.get("one")).last_seq == 16
