"""DeleteProject: keys are deleted at once, everything else in the background."""

from collections.abc import Callable
from typing import Any

import grpc
import psycopg
import pytest

from sessiond.v1 import admin_service_pb2 as admin
from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1.session_pb2 import Session
from sessiond_server.retention import projects
from sessiond_server.retention.projects import ProjectPurger
from sessiond_server.retention.store.projects import ProjectPurgeStore
from sessiond_server.server import Running

from ..support.queues import asking
from ..support.wire import Wire, error_of, openai

Query = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def project_purger(server: Running) -> ProjectPurger:
    return ProjectPurger(ProjectPurgeStore(server.database), server.watching)


@pytest.fixture
async def key(wire: Wire) -> dict[str, Any]:
    """The options of calls with a key of the project "p", which has three sessions and a queue."""
    await wire.admin.CreateProject(admin.CreateProjectRequest(project=admin.Project(name="p")))
    made = await wire.admin.CreateApiKey(admin.CreateApiKeyRequest(project="p"))
    options = {"metadata": (("authorization", f"Bearer {made.secret}"),)}
    for name in "abc":
        await wire.sessions.CreateSession(
            ss.CreateSessionRequest(session=Session(session_id=name)), **options
        )
        await wire.sessions.StoreMessages(
            ss.StoreMessagesRequest(session_id=name, messages=[openai("x")]), **options
        )
    await wire.processing.LeaseMessages(asking(), **options)
    return options


def deletion(**fields: Any) -> admin.DeleteProjectRequest:
    return admin.DeleteProjectRequest(**{"project": "p", **fields})


def creation(**fields: Any) -> admin.CreateProjectRequest:
    return admin.CreateProjectRequest(project=admin.Project(name="p"), **fields)


async def test_a_deleted_project_is_gone_and_its_keys_are_revoked(
    wire: Wire, key: dict[str, Any], query: Query
) -> None:
    await wire.admin.DeleteProject(deletion())
    listed = await wire.admin.ListProjects(admin.ListProjectsRequest())
    assert "p" not in {project.name for project in listed.projects}
    asked = admin.ListApiKeysRequest(project="p")
    assert (await error_of(wire.admin.ListApiKeys(asked))).reason == "PROJECT_NOT_FOUND"
    [[revoked]] = query(
        "SELECT revoked_at IS NOT NULL FROM api_keys JOIN projects USING (project_id)"
        " WHERE name = 'p'"
    )
    assert revoked


async def test_its_data_is_removed_in_batches(
    wire: Wire,
    key: dict[str, Any],
    query: Query,
    project_purger: ProjectPurger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await wire.create("other")
    await wire.admin.DeleteProject(deletion())
    assert [await project_purger.purge(2) for _ in range(3)] == [2, 1, 0]
    assert query("SELECT session_id FROM sessions") == [("other",)]
    # Servers that have the key in a cache still accept calls, so the project is kept for a while.
    assert query("SELECT count(*) FROM queues") == [(1,)]
    monkeypatch.setattr(projects, "GRACE_S", 0)
    await project_purger.purge(500)
    assert query("SELECT count(*) FROM queues") == [(0,)]
    assert query("SELECT count(*) FROM api_keys") == [(0,)]
    assert query("SELECT count(*) FROM projects WHERE name = 'p'") == [(0,)]


async def test_a_locked_session_delays_no_other(
    wire: Wire,
    key: dict[str, Any],
    query: Query,
    database_url: str,
    project_purger: ProjectPurger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(projects, "GRACE_S", 0)
    await wire.admin.DeleteProject(deletion())
    with psycopg.connect(database_url) as blocker:
        blocker.execute("SELECT FROM sessions WHERE session_id = 'a' FOR UPDATE")
        assert [await project_purger.purge(500) for _ in range(2)] == [2, 0]
        assert query("SELECT session_id FROM sessions") == [("a",)]
        assert query("SELECT count(*) FROM projects WHERE name = 'p'") == [(1,)]
    assert [await project_purger.purge(500) for _ in range(2)] == [1, 0]
    assert query("SELECT count(*) FROM projects WHERE name = 'p'") == [(0,)]


async def test_the_name_is_free_again_once_all_is_removed(
    wire: Wire,
    key: dict[str, Any],
    project_purger: ProjectPurger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await wire.admin.DeleteProject(deletion())
    for get_or_create in (False, True):
        made = wire.admin.CreateProject(creation(get_or_create=get_or_create))
        error = await error_of(made)
        assert (error.code, error.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "PROJECT_BEING_DELETED",
        )
        assert (error.metadata["project"], error.retry_s) == ("p", 60)
    monkeypatch.setattr(projects, "GRACE_S", 0)
    while await project_purger.purge(500):
        pass
    await wire.admin.CreateProject(creation())
    made = await wire.admin.CreateApiKey(admin.CreateApiKeyRequest(project="p"))
    listed = await wire.sessions.ListSessions(
        ss.ListSessionsRequest(), metadata=(("authorization", f"Bearer {made.secret}"),)
    )
    assert not listed.sessions


async def test_deleting_again_changes_nothing(wire: Wire, key: dict[str, Any]) -> None:
    await wire.admin.DeleteProject(deletion())
    await wire.admin.DeleteProject(deletion(allow_missing=True))
    error = await error_of(wire.admin.DeleteProject(deletion()))
    assert (error.reason, error.metadata["project"]) == ("PROJECT_NOT_FOUND", "p")


async def test_the_default_project_is_kept(wire: Wire) -> None:
    error = await error_of(wire.admin.DeleteProject(deletion(project="default")))
    assert (error.reason, list(error.fields)) == ("INVALID_FIELD", ["project"])
    assert "DeleteSessions" in error.text
