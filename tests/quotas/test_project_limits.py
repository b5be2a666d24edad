"""SetProjectLimits, GetProjectLimits and GetProjectUsage."""

import pytest

from sessiond.v1 import admin_service_pb2 as admin
from sessiond.v1.limits_pb2 import (
    GetProjectLimitsRequest,
    GetProjectUsageRequest,
    GetProjectUsageResponse,
    LimitUsage,
    ProjectLimits,
    SetProjectLimitsRequest,
)
from sessiond_server.retention import projects
from sessiond_server.retention.projects import ProjectPurger
from sessiond_server.retention.store.projects import ProjectPurgeStore
from sessiond_server.server import Running
from sessiond_server.settings import Settings

from ..support.wire import Wire, error_of
from .conftest import SetLimits

ALL = {
    "calls_per_second": 1000,
    "messages_per_second": 2000,
    "max_sessions": 3,
    "max_bytes": 4,
    "max_running_turns": 5,
    "model_tokens_per_day": 6,
}


async def limits_of(wire: Wire) -> ProjectLimits:
    return await wire.admin.GetProjectLimits(GetProjectLimitsRequest(project="p"))


async def usage_of(wire: Wire) -> GetProjectUsageResponse:
    return await wire.admin.GetProjectUsage(GetProjectUsageRequest(project="p"))


@pytest.mark.usefixtures("key")
async def test_limits_are_stored_and_replaced_as_a_whole(wire: Wire, set_limits: SetLimits) -> None:
    before = await limits_of(wire)
    assert before == ProjectLimits(etag=before.etag)
    assert before.etag
    made = await set_limits(**ALL)
    assert made == ProjectLimits(**ALL, etag=made.etag) == await limits_of(wire)
    replaced = await set_limits(max_sessions=0)
    assert replaced == ProjectLimits(max_sessions=0, etag=replaced.etag)
    assert replaced.HasField("max_sessions")
    assert len({before.etag, made.etag, replaced.etag}) == 3


@pytest.mark.usefixtures("key")
async def test_an_etag_detects_another_change(wire: Wire) -> None:
    def change(limit: int, etag: str) -> SetProjectLimitsRequest:
        return SetProjectLimitsRequest(
            project="p", limits=ProjectLimits(max_sessions=limit), etag=etag
        )

    before = await limits_of(wire)
    first = await wire.admin.SetProjectLimits(change(1, before.etag))
    error = await error_of(wire.admin.SetProjectLimits(change(2, before.etag)))
    assert error.reason == "ETAG_MISMATCH"
    assert error.metadata["etag"] == first.etag
    assert error.metadata["project"] == "p"
    assert await limits_of(wire) == first
    second = await wire.admin.SetProjectLimits(change(2, first.etag))
    assert second.max_sessions == 2


@pytest.mark.usefixtures("key")
async def test_invalid_limits_are_refused(wire: Wire, set_limits: SetLimits) -> None:
    error = await error_of(set_limits(max_bytes=-1))
    assert error.reason == "INVALID_FIELD"
    assert "limits.max_bytes" in error.fields
    error = await error_of(set_limits(max_bytes=2**53 + 1))
    assert "limits.max_bytes" in error.fields
    error = await error_of(wire.admin.SetProjectLimits(SetProjectLimitsRequest(project="p")))
    assert "limits" in error.fields
    unknown = SetProjectLimitsRequest(project="q", limits=ProjectLimits())
    assert (await error_of(wire.admin.SetProjectLimits(unknown))).reason == "PROJECT_NOT_FOUND"
    assert (await limits_of(wire)).etag == "0"


async def test_usage_shows_what_is_used_beside_each_limit(
    wire: Wire, tenant: Wire, set_limits: SetLimits
) -> None:
    await set_limits(**(ALL | {"max_bytes": 10**6}))
    await tenant.create("a")
    stored = await tenant.store("a", "x", "y")
    size = (await tenant.get("a")).content_bytes
    await tenant.copy("a", "b")
    await wire.create("of another project")
    usage = await usage_of(wire)
    assert usage == GetProjectUsageResponse(
        calls_per_second=LimitUsage(used=4, limit=1000),
        messages_per_second=LimitUsage(used=stored.last_seq, limit=2000),
        sessions=LimitUsage(used=2, limit=3),
        bytes=LimitUsage(used=2 * size, limit=10**6),
        running_turns=LimitUsage(used=0, limit=5),
        model_tokens=LimitUsage(used=0, limit=6),
        message_count=4,
    )


class TestDefaults:
    """The server's settings apply to projects without own limits."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(
            update={"default_limit_max_sessions": 7, "default_limit_calls_per_second": 100}
        )

    @pytest.mark.usefixtures("key")
    async def test_an_unset_limit_is_the_default_and_zero_is_none(
        self, wire: Wire, set_limits: SetLimits
    ) -> None:
        usage = await usage_of(wire)
        assert (usage.sessions.limit, usage.calls_per_second.limit) == (7, 100)
        await set_limits(max_sessions=0, calls_per_second=5)
        usage = await usage_of(wire)
        assert not usage.sessions.HasField("limit")
        assert usage.calls_per_second.limit == 5


@pytest.mark.usefixtures("key")
async def test_a_new_project_does_not_have_the_limits_of_a_deleted_one(
    wire: Wire, server: Running, set_limits: SetLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    await set_limits(max_sessions=1)
    await wire.admin.DeleteProject(admin.DeleteProjectRequest(project="p"))
    assert (await error_of(limits_of(wire))).reason == "PROJECT_NOT_FOUND"
    monkeypatch.setattr(projects, "GRACE_S", 0.0)
    await ProjectPurger(ProjectPurgeStore(server.database), server.watching).purge(500)
    await wire.admin.CreateProject(admin.CreateProjectRequest(project=admin.Project(name="p")))
    assert await limits_of(wire) == ProjectLimits(etag="0")
