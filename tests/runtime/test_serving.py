"""A server closes everything that it opened, even if its start or one of the closes fails."""

import asyncio

import pytest

from sessiond_server.assets.service import Assets
from sessiond_server.db.pool import Database
from sessiond_server.providers.routing import Models
from sessiond_server.server import serving
from sessiond_server.settings import Settings
from sessiond_server.turns.runner import TurnRunner
from sessiond_server.turns.streams import TurnStreams


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the classes whose close() has been called, in order."""
    names: list[str] = []
    for cls in (TurnStreams, TurnRunner, Assets, Database):
        original = cls.close

        async def close(self: object, original=original, name=cls.__name__) -> None:  # type: ignore[no-untyped-def]
            names.append(name)
            await original(self)

        monkeypatch.setattr(cls, "close", close)
    return names


async def test_streams_are_closed_before_what_they_use(
    settings: Settings, database_url: str, closed: list[str]
) -> None:
    async with serving(settings, database_url):
        pass
    assert closed == ["TurnStreams", "TurnRunner", "Assets", "Database"]


async def test_a_start_that_fails_leaves_nothing_open(
    settings: Settings, database_url: str, closed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(self: object) -> None:
        raise RuntimeError("gRPC does not start")

    before = asyncio.all_tasks()
    monkeypatch.setattr("grpc.aio._server.Server.start", failing)
    with pytest.raises(RuntimeError, match="gRPC does not start"):
        async with serving(settings, database_url):
            pass
    assert closed[-1] == "Database"
    left = [task.get_coro() for task in asyncio.all_tasks() - before]
    assert not [coro for coro in left if "sessiond_server" in coro.cr_code.co_filename]  # type: ignore[union-attr]


async def test_a_part_that_cannot_be_made_closes_those_before_it(
    settings: Settings, database_url: str, closed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: object) -> None:
        raise RuntimeError("no providers")

    monkeypatch.setattr(Models, "prepare", failing)
    with pytest.raises(RuntimeError, match="no providers"):
        async with serving(settings, database_url):
            pass
    assert closed == ["Assets", "Database"]


async def test_a_close_that_fails_does_not_skip_the_others(
    settings: Settings, database_url: str, closed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(self: object) -> None:
        raise RuntimeError("does not close")

    monkeypatch.setattr(TurnRunner, "close", failing)
    with pytest.raises(RuntimeError, match="does not close"):
        async with serving(settings, database_url):
            pass
    assert closed == ["TurnStreams", "Assets", "Database"]
