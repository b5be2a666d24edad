"""The calls of client.admin."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from sessiond import LimitUsage, ProjectLimits
from sessiond.v1 import admin_service_pb2, limits_pb2


async def test_admin(colour, server, client) -> None:
    key = admin_service_pb2.ApiKey(
        key_id="k", project="p", label="l", is_admin=True, create_time=Timestamp(seconds=1)
    )
    project = admin_service_pb2.Project(name="p", create_time=Timestamp(seconds=1))
    server.on("CreateProject", project)
    page = admin_service_pb2.ListProjectsResponse
    server.on(
        "ListProjects", page(projects=[project], next_page_token="t"), page(projects=[project])
    )
    server.on("CreateApiKey", admin_service_pb2.CreateApiKeyResponse(key=key, secret="hush"))
    server.on("ListApiKeys", admin_service_pb2.ListApiKeysResponse(keys=[key]))
    revoked = admin_service_pb2.ApiKey(key_id="k", revoke_time=Timestamp(seconds=2))
    server.on("RevokeApiKey", revoked)
    assert (await colour.call(client.admin.create_project, "p")).name == "p"
    again = await colour.call(client.admin.create_project, "p", get_or_create=True)
    assert again.name == "p"
    assert [r.get_or_create for r in server.of("CreateProject")][-1]
    assert [p.name for p in await colour.collect(client.admin.list_projects())] == ["p", "p"]
    assert [r.page_token for r in server.of("ListProjects")] == ["", "t"]
    made = await colour.call(client.admin.create_api_key, "p", label="l", is_admin=True)
    assert made.secret == "hush"
    assert "hush" not in repr(made)
    (listed,) = await colour.call(client.admin.list_api_keys, "p")
    assert (listed.key_id, listed.label, listed.is_admin, listed.secret, listed.revoked_at) == (
        "k",
        "l",
        True,
        None,
        None,
    )
    assert (await colour.call(client.admin.revoke_api_key, "k")).revoked_at == datetime(
        1970, 1, 1, 0, 0, 2, tzinfo=UTC
    )


async def test_limits_and_usage(colour, server, client) -> None:
    stored = limits_pb2.ProjectLimits(max_sessions=3, calls_per_second=0, etag="e")
    server.on("GetProjectLimits", stored)
    server.on("SetProjectLimits", stored)
    usage = limits_pb2.GetProjectUsageResponse(
        sessions=limits_pb2.LimitUsage(used=2, limit=3),
        bytes=limits_pb2.LimitUsage(used=5),
        message_count=7,
    )
    server.on("GetProjectUsage", usage)
    limits = await colour.call(client.admin.get_project_limits, "p")
    assert limits == ProjectLimits(max_sessions=3, calls_per_second=0, etag="e")
    await colour.call(client.admin.set_project_limits, "p", limits, etag=limits.etag)
    [request] = server.of("SetProjectLimits")
    assert (request.project, request.etag) == ("p", "e")
    assert request.limits == limits_pb2.ProjectLimits(max_sessions=3, calls_per_second=0)
    await colour.call(client.admin.set_project_limits, "p", ProjectLimits())
    assert server.of("SetProjectLimits")[-1].HasField("limits")
    used = await colour.call(client.admin.get_project_usage, "p")
    assert (used.sessions, used.bytes) == (LimitUsage(2, 3), LimitUsage(5, None))
    assert used.message_count == 7
