"""DeleteSessions: counts and deletes the sessions that match a filter."""

from collections.abc import Callable
from typing import Any

import pytest

from sessiond.v1.session_pb2 import SESSION_STATUS_DESTROYED
from sessiond.v1.session_service_pb2 import DeleteSessionsRequest, DeleteSessionsResponse
from sessiond_server.retention.purger import Purger
from sessiond_server.sessions import service as rules

from ..support.wire import Wire, error_of, session_filter

Query = Callable[..., list[tuple[Any, ...]]]


async def delete(wire: Wire, **fields: Any) -> tuple[int, int]:
    flags = {name: fields.pop(name) for name in ("all", "dry_run") if name in fields}
    request = DeleteSessionsRequest(filter=session_filter(**fields), **flags)
    answer: DeleteSessionsResponse = await wire.sessions.DeleteSessions(request)
    return answer.session_count, answer.message_count


@pytest.fixture
async def filled(wire: Wire) -> Wire:
    for i in range(6):
        await wire.create(
            f"{'ab'[i % 2]}{i}",
            user=f"user-{i % 3}",
            model=f"model-{i}",
            metadata={"n": i},
            config={"c": i},
        )
        await wire.store(f"{'ab'[i % 2]}{i}", *["x"] * i) if i else None
    await wire.destroy("b1")
    return wire


@pytest.mark.parametrize(
    ("fields", "left", "messages"),
    [
        ({"user": "user-1"}, ["a0", "a2", "b3", "b5"], 5),
        ({"session_id_prefix": "a"}, ["b1", "b3", "b5"], 6),
        ({"status": SESSION_STATUS_DESTROYED}, ["a0", "a2", "a4", "b3", "b5"], 1),
        ({"model": "model-5"}, ["a0", "a2", "a4", "b1", "b3"], 5),
        ({"metadata_contains": {"n": 2}}, ["a0", "a4", "b1", "b3", "b5"], 2),
        ({"config_contains": {"c": 3}}, ["a0", "a2", "a4", "b1", "b5"], 3),
        ({"user": "user-1", "session_id_prefix": "a"}, ["a0", "a2", "b1", "b3", "b5"], 4),
        ({"user": "nobody"}, ["a0", "a2", "a4", "b1", "b3", "b5"], 0),
        ({"all": True}, [], 15),
    ],
)
async def test_a_dry_run_counts_what_the_deletion_removes(
    filled: Wire, fields: dict[str, Any], left: list[str], messages: int
) -> None:
    counted = await delete(filled, dry_run=True, **fields)
    assert counted == (6 - len(left), messages)
    assert len(await filled.list()) == 6
    assert await delete(filled, **fields) == counted
    assert sorted(s.session_id for s in await filled.list()) == left
    assert await delete(filled, **fields) == (0, 0)


async def test_all_is_required_without_a_filter(filled: Wire) -> None:
    for fields in ({}, {"all": True, "filter": {"user": "user-1"}}):
        error = await error_of(filled.sessions.DeleteSessions(DeleteSessionsRequest(**fields)))
        assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["all"])
    error = await error_of(
        filled.sessions.DeleteSessions(DeleteSessionsRequest(filter={"user": "a\0"}))
    )
    assert list(error.fields) == ["filter.user"]
    assert len(await filled.list()) == 6


async def test_many_sessions_are_deleted_in_batches_and_purged(
    wire: Wire, query: Query, purger: Purger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "DELETED_A_BATCH", 7)
    for i in range(20):
        await wire.create(f"s{i}", user="ada")
        await wire.store(f"s{i}", "x", "y")
    await wire.create("other")
    assert await delete(wire, user="ada") == (20, 40)
    assert query("SELECT count(*) FROM dead_logs") == [(20,)]
    await purger.round()
    assert query("SELECT (SELECT count(*) FROM dead_logs), (SELECT count(*) FROM messages)") == [
        (0, 0)
    ]
    assert [s.session_id for s in await wire.list()] == ["other"]
