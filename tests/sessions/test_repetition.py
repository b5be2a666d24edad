"""Repeated requests that resume, destroy and delete sessions."""

import asyncio
from typing import Any

import psycopg
import pytest

from sessiond.v1.session_pb2 import SESSION_STATUS_ACTIVE, SESSION_STATUS_DESTROYED, Session
from sessiond.v1.session_service_pb2 import (
    DeleteSessionsRequest,
    DestroySessionRequest,
    ResumeSessionRequest,
)

from ..support.locks import LOCKS_LAST
from ..support.waiting import until_waiting
from ..support.wire import Wire, error_of


async def destroy(wire: Wire, request_id: str) -> Session:
    request = DestroySessionRequest(session_id="one", request_id=request_id)
    return await wire.sessions.DestroySession(request)


async def resume(wire: Wire, request_id: str) -> Session:
    request = ResumeSessionRequest(session_id="one", request_id=request_id)
    return await wire.sessions.ResumeSession(request)


@pytest.fixture
async def one(wire: Wire) -> Wire:
    await wire.create("one")
    return wire


async def test_a_repeated_destroy_leaves_a_resumed_session_active(one: Wire) -> None:
    assert (await destroy(one, "a")).status == SESSION_STATUS_DESTROYED
    await resume(one, "b")
    assert (await destroy(one, "a")).status == SESSION_STATUS_ACTIVE
    assert (await one.get("one")).status == SESSION_STATUS_ACTIVE
    assert (await destroy(one, "c")).status == SESSION_STATUS_DESTROYED


async def test_a_repeated_resume_leaves_a_destroyed_session_destroyed(one: Wire) -> None:
    await destroy(one, "a")
    await resume(one, "b")
    await destroy(one, "c")
    assert (await resume(one, "b")).status == SESSION_STATUS_DESTROYED


async def test_a_repeated_destroy_leaves_a_recreated_session_active(one: Wire) -> None:
    await destroy(one, "a")
    await one.delete("one")
    await one.create("one")
    assert (await destroy(one, "a")).status == SESSION_STATUS_ACTIVE


async def test_a_request_id_of_a_resume_cannot_destroy(one: Wire) -> None:
    await resume(one, "a")
    error = await error_of(destroy(one, "a"))
    assert (error.reason, list(error.fields)) == ("REQUEST_ID_REUSED", ["request_id"])
    assert (await one.get("one")).status == SESSION_STATUS_ACTIVE


async def test_a_refused_destroy_is_not_recorded(wire: Wire) -> None:
    assert (await error_of(destroy(wire, "a"))).reason == "SESSION_NOT_FOUND"
    await wire.create("one")
    assert (await destroy(wire, "a")).status == SESSION_STATUS_DESTROYED


@LOCKS_LAST
async def test_a_deletion_under_way_does_not_delay_a_creation_with_its_request_id(
    one: Wire, database_url: str
) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("SELECT FROM sessions FOR UPDATE")
        deletion = asyncio.create_task(one.delete("one", request_id="a"))
        await until_waiting(database_url)
        error = await error_of(one.create("one", request_id="a"))
        assert error.reason == "SESSION_ALREADY_EXISTS"
        assert not deletion.done()
    await deletion
    await one.create("one", request_id="a")


class TestDeleteSessions:
    async def delete(self, wire: Wire, user: str, **fields: Any) -> int:
        request = DeleteSessionsRequest(filter={"user": user}, **fields)
        return int((await wire.sessions.DeleteSessions(request)).session_count)

    async def test_a_repetition_leaves_sessions_that_were_created_since(self, wire: Wire) -> None:
        await wire.create("one", user="ada")
        assert await self.delete(wire, "ada", request_id="a") == 1
        await wire.create("two", user="ada")
        assert await self.delete(wire, "ada", request_id="a") == 0
        assert [session.session_id for session in await wire.list()] == ["two"]
        assert await self.delete(wire, "ada", request_id="b") == 1

    async def test_a_request_id_belongs_to_one_filter(self, wire: Wire) -> None:
        await wire.create("one", user="ada")
        await self.delete(wire, "nobody", request_id="a")
        error = await error_of(self.delete(wire, "ada", request_id="a"))
        assert error.reason == "REQUEST_ID_REUSED"
        assert len(await wire.list()) == 1

    async def test_a_dry_run_does_not_use_the_request_id_up(self, wire: Wire) -> None:
        await self.delete(wire, "ada", request_id="a", dry_run=True)
        await wire.create("one", user="ada")
        assert await self.delete(wire, "ada", request_id="a") == 1
